"""Arrays from files, memory-mapped where the format allows it."""

from __future__ import annotations

import os
import stat

from mseloss.cli.files import npy, npz, safetensors
from mseloss.cli.files.errors import ContentError, naming
from mseloss.cli.files.names import split, suffix_of


def read(spec):
    """The array that `spec` names: PATH, or PATH:NAME for .npz and .safetensors.

    float32, float16, bfloat16 or float64, in the file's own byte order and memory order. Mapped and not
    loaded, except for compressed .npz members. Raises FileError for everything that can be wrong with a file.
    """
    path, name = split(spec)
    with naming(path, "cannot be read"):
        _check_regular(path)
        suffix = suffix_of(path)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise ContentError("the file is empty")
            if suffix == ".npy":
                return npy.read(file, size)
            if suffix == ".npz":
                return npz.read(file, path, name)
            return safetensors.read(file, size, path, name)


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
