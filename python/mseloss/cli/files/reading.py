"""Arrays from files, memory-mapped where the format allows it."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from contextlib import ExitStack

from mseloss._dtypes import EXPECTED
from mseloss.cli.files import npy, npz, safetensors
from mseloss.cli.files.copying import BLOCK
from mseloss.cli.files.errors import ContentError, naming
from mseloss.cli.files.names import STANDARD, is_zarr, split, suffix_of


def read(spec, weight=False):
    """The array that `spec` names: PATH, or PATH:NAME for .npz, .safetensors and .zarr.

    float32, float16, bfloat16 or float64, for a weight also bool, in the file's own byte order and memory
    order. Mapped and not loaded, except for compressed .npz members; a ZarrArray for .zarr. Raises FileError
    for everything that can be wrong with a file.
    """
    if spec == STANDARD:
        with naming("standard input", "cannot be read"):
            return _no_bool(_read_standard_input(), weight)
    path, name = split(spec)
    with naming(path, "cannot be read"):
        if is_zarr(spec):
            return _no_bool(_read_zarr(path, name), weight)
        _check_regular(path)
        suffix = suffix_of(path)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return _no_bool(_read_open(file, size, suffix, path, name), weight)


def _read_open(file, size, suffix, path, name):
    if size == 0:
        raise ContentError("the file is empty")
    if suffix == ".npy":
        return npy.read(file, size)
    if suffix == ".npz":
        return npz.read(file, path, name)
    return safetensors.read(file, size, path, name)


def _read_standard_input():
    """The only array on standard input, which is mapped if it is a file and copied to one otherwise."""
    if sys.stdin is None:
        raise ContentError("closed; redirect a file or a pipe to it")
    source = sys.stdin.buffer
    if source.isatty():
        raise ContentError("a terminal; redirect a file or a pipe to it")
    with ExitStack() as stack:
        file = source
        if not (stat.S_ISREG(os.fstat(source.fileno()).st_mode) and source.tell() == 0):
            file = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(source, file, BLOCK)
            file.seek(0)
        start = file.read(4)
        file.seek(0)
        size = os.fstat(file.fileno()).st_size
        known = {b"\x93NUM": ".npy", b"PK\x03\x04": ".npz"}
        return _read_open(file, size, known.get(start, ".safetensors"), "FILE", None)


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
        raise ContentError("a folder, expected a file; give the name of an array file")
    if not stat.S_ISREG(mode):
        raise ContentError("not a regular file; redirect a pipe or a device to standard input, -")
