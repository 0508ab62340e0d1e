"""Zarr arrays in folders, of format 2 or 3, read and written chunk by chunk."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import zarr

from mseloss.cli.files import npy, temporary
from mseloss.cli.files.errors import ContentError, FileError, reason
from mseloss.cli.files.names import choose

_ARRAY, _GROUP = "a Zarr array", "a Zarr group"


class ZarrArray:
    """An array in a Zarr store; indexing reads the chunks that it needs.

    A chunk that the store does not have has the fill value, by Zarr's definition. One that cannot be read or
    decoded raises FileError.
    """

    def __init__(self, path, array):
        self._path, self._array = path, array
        self.shape, self.ndim, self.chunks = array.shape, array.ndim, array.chunks
        self.dtype = npy.supported(array.dtype)

    def __getitem__(self, index):
        begin = ", ".join(str(i.start or 0) for i in index)
        try:
            return np.asarray(self._array[index])
        except Exception as error:  # the codecs raise many types
            place = f"the block that begins at ({begin}) cannot be read"
            raise FileError(f"{self._path}: {place}: {reason(error)}") from None


def read(path, name):
    """The array in the store at `path`; `name` selects one of a group."""
    if not os.path.isdir(path):
        raise ContentError("not a folder, as Zarr stores are")
    kind = _kind(path)
    if kind is None:
        raise ContentError(
            "no Zarr array or group: neither zarr.json nor .zarray nor .zgroup is there"
        )
    found = zarr.open(path, mode="r")
    if kind == _GROUP:
        names = sorted(found.array_keys())
        if name is None or "/" not in name:
            name = choose(path, names, name)
        found = found[name]
    elif name is not None:
        raise ContentError(f"{_ARRAY}, which has no names; leave out :{name}")
    if not isinstance(found, zarr.Array):
        raise ContentError(f"{name} is a group, expected an array")
    if found.metadata.fill_value is None and found.nchunks_initialized < found.nchunks:
        raise ContentError(
            f"{found.nchunks - found.nchunks_initialized} of {found.nchunks} chunks are missing, "
            "and the array has no fill value"
        )
    return ZarrArray(path, found)


@contextmanager
def writing(path, name, shape, dtype, chunks):
    """Yields a new Zarr array of these chunks, which replaces the array at `path` after the block."""
    if dtype.name == "bfloat16":
        raise ContentError("Zarr has no bfloat16; choose another dtype with --dtype")
    if name is not None:
        raise ContentError(f"results are written to a store of their own; leave out :{name}")
    real = Path(os.path.realpath(path))
    if not real.parent.is_dir():
        raise ContentError("no such folder")
    if real.exists() and _kind(real) != _ARRAY:
        raise ContentError("exists and is not a Zarr array; it was not overwritten")
    part, _ = temporary.create(real, os.mkdir)
    try:
        # A chunk of zeros is written too: one that is left out would lose the sign of -0.
        yield zarr.create_array(
            part,
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            config={"write_empty_chunks": True},
        )
        if real.exists():
            os.chmod(part, stat.S_IMODE(os.stat(real).st_mode))
            temporary.exchange(part, real)
        else:
            temporary.move(part, real)
    finally:
        temporary.remove(part)


def _kind(path):
    """_ARRAY, _GROUP or None, by the metadata files at `path`."""
    path = Path(path)
    if (path / "zarr.json").is_file():
        return _ARRAY if isinstance(zarr.open(path, mode="r"), zarr.Array) else _GROUP
    if (path / ".zarray").is_file():
        return _ARRAY
    return _GROUP if (path / ".zgroup").is_file() else None
