"""Writes results: to a temporary file, which replaces the destination once all data is on disk."""

from __future__ import annotations

import math
import os
import secrets
import stat
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from mseloss.cli.files import faults, npy, npz, safetensors
from mseloss.cli.files.errors import ContentError, FileError, naming
from mseloss.cli.files.names import is_zarr, split, suffix_of

_FAILURE = "cannot be written"


@contextmanager
def write(spec, shape, dtype, name):
    """Yields a function that writes the array's chunks, given in C order, to the file that `spec` names.

    An existing .npz or .safetensors file keeps its other arrays; an array of the same name is replaced.
    `name` is the array's name unless `spec` has one. The data go to a temporary file next to the destination,
    which is renamed once all data is on disk. After an exception the destination is unchanged.
    """
    path, given = split(spec)
    suffix = suffix_of(path)
    name = name if given is None else given
    if suffix == ".npz" and name == ".npy":
        name = ""
    replacing = _replacing(path, suffix, name, shape, np.dtype(dtype))
    with _named(path, replacing) as member:

        def put(array):
            with naming(path, _FAILURE):
                member.write(memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8)))

        yield put


@contextmanager
def region(spec, shape, dtype, name, chunks):
    """Yields an array in the .npy file or the .zarr store that `spec` names, to be written in any order.

    `chunks` is the shape of the store's chunks, which must not be written by two threads at once. As with
    `write`, the destination is replaced after the block, and unchanged after an exception.
    """
    path, given = split(spec)
    dtype = np.dtype(dtype)
    if is_zarr(spec):
        from mseloss.cli.files import zarr

        target = zarr.writing(path, given, shape, dtype, chunks)
    elif suffix_of(path) == ".npy":
        target = _mapped(_replacing(path, ".npy", name, shape, dtype), shape, dtype)
    else:
        raise FileError(
            f"{path}: expected a .zarr store or a .npy file as an operand is a Zarr array"
        )
    with _named(path, target) as array:
        yield array


@contextmanager
def _mapped(replacing, shape, dtype):
    with replacing as file:
        begin, size = file.tell(), math.prod(shape) * dtype.itemsize
        if size == 0:
            yield np.empty(shape, dtype)
            return
        file.truncate(begin + size)
        array = np.memmap(file, dtype, "r+", begin, shape)
        yield array
        array.flush()


@contextmanager
def _named(path, context):
    """Like `with context`, but converts exceptions of the context itself (not of the block) to FileError."""
    with naming(path, _FAILURE):
        value = context.__enter__()
    try:
        yield value
        faults.check()
    except BaseException:
        with suppress(Exception):
            context.__exit__(*sys.exc_info())
        raise
    with naming(path, _FAILURE):
        context.__exit__(None, None, None)


@contextmanager
def _replacing(path, suffix, name, shape, dtype):
    """Yields the file object that takes the array's data; replaces the file at `path` after the block."""
    if not name:
        raise ContentError("the name after the colon is empty")
    real = Path(os.path.realpath(path))  # replaces the target of a symbolic link
    before = _state(real)
    part = real.with_name(f".mseloss-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with ExitStack() as stack:
            file = stack.enter_context(open(part, "x+b"))
            old = None
            if before is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
                if before.st_size > 0 and suffix != ".npy":
                    old = stack.enter_context(open(real, "rb"))
            with _member(file, old, suffix, name, shape, dtype) as member:
                yield member
            file.flush()
            os.fsync(file.fileno())
        if suffix != ".npy" and not _same(before, _state(real)):
            raise ContentError("another program changed the file; it was not overwritten")
        os.replace(part, real)
        _sync_folder(real.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _member(file, old, suffix, name, shape, dtype):
    if suffix == ".npy":
        npy.write_header(file, shape, dtype)
        yield file
    elif suffix == ".npz":
        with npz.add(file, old, name, shape, dtype) as member:
            yield member
    else:
        with safetensors.add(file, old, name, shape, dtype) as member:
            yield member


def _state(path):
    """The stat of an existing file, or None. Raises ContentError if no file can be written there."""
    if not path.parent.is_dir():
        raise ContentError("no such folder")
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(state.st_mode):
        raise ContentError("exists and is not a regular file")
    return state


def _same(before, after):
    if before is None or after is None:
        return before is after
    keys = ("st_dev", "st_ino", "st_size", "st_mtime_ns")
    return all(getattr(before, key) == getattr(after, key) for key in keys)


def _sync_folder(path):
    with suppress(OSError):  # not supported by every file system
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
