"""Arrays from files, memory-mapped where the format allows it."""

from __future__ import annotations

import os
import stat

from mseloss._dtypes import EXPECTED
from mseloss.cli.files import npy, npz, safetensors
from mseloss.cli.files.errors import ContentError, naming
from mseloss.cli.files.names import is_zarr, split, suffix_of


def read(spec, weight=False):
    """The array that `spec` names: PATH, or PATH:NAME for .npz, .safetensors and .zarr.

    float32, float16, bfloat16 or float64, for a weight also bool, in the file's own byte order and memory
    order. Mapped and not loaded, except for compressed .npz members; a ZarrArray for .zarr. Raises FileError
    for everything that can be wrong with a file.
    """
    path, name = split(spec)
    with naming(path, "cannot be read"):
        if is_zarr(spec):
            return _no_bool(_read_zarr(path, name), weight)
        _check_regular(path)
        suffix = suffix_of(path)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise ContentError("the file is empty")
            if suffix == ".npy":
                array = npy.read(file, size)
            elif suffix == ".npz":
                array = npz.read(file, path, name)
            else:
                array = safetensors.read(file, size, path, name)
        return _no_bool(array, weight)


def _no_bool(array, weight):
    if array.dtype == bool and not weight:
        raise ContentError(f"expected {EXPECTED}, got bool, which only a weight may be")
    return array


def _read_zarr(path, name):
    if not os.path.lexists(path):
        raise ContentError("no such folder")
    from mseloss.cli.files import zarr

    return zarr.read(path, name)


def _check_regular(path):
    """Raises ContentError unless `path` is a regular file. Opening a pipe or a device could block."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ContentError("no such file") from None
    if stat.S_ISDIR(mode):
        raise ContentError("a folder, expected a file")
    if not stat.S_ISREG(mode):
        raise ContentError("not a regular file; pipes and devices cannot be mapped")
