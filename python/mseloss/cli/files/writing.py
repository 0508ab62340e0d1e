"""Writes results: to a temporary file, which replaces the destination once all data is on disk."""

from __future__ import annotations

import io
import math
import os
import stat
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from mseloss.cli.files import faults, npy, npz, safetensors, temporary
from mseloss.cli.files.errors import ContentError, FileError, naming
from mseloss.cli.files.names import STANDARD, is_same_file, is_zarr, split, suffix_of

_FAILURE = "cannot be written"


@contextmanager
def write(spec, shape, dtype, name):
    """Yields a function that writes the array's chunks, given in C order, to the file that `spec` names.

    An existing .npz or .safetensors file keeps its other arrays; an array of the same name is replaced.
    `name` is the array's name unless `spec` has one. The data go to a temporary file next to the destination,
    which is renamed once all data is on disk. After an exception the destination is unchanged.
    """
    if spec == STANDARD:
        _write_header(shape, np.dtype(dtype))
        yield lambda array: _write_out(_raw(array))
        _flush_out()
        return
    path, given = split(spec)
    suffix = suffix_of(path)
    name = name if given is None else given
    if suffix == ".npz" and name == ".npy":
        name = ""
    replacing = _replacing(path, suffix, name, shape, np.dtype(dtype))
    with _named(path, replacing) as member:

        def put(array):
            with naming(path, _FAILURE):
                member.write(_raw(array))

        yield put


@contextmanager
def region(spec, shape, dtype, name, chunks):
    """Yields an array in the .npy file or the .zarr store that `spec` names, to be written in any order.

    `chunks` is the shape of the store's chunks, which must not be written by two threads at once. As with
    `write`, the destination is replaced after the block, and unchanged after an exception.
    """
    path, given = split(spec)
    dtype = np.dtype(dtype)
    if spec == STANDARD:
        with _spooled(shape, dtype) as array:
            yield array
        return
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


def check_inputs(spec, name, operands, force):
    """Raises FileError if writing the array `name` to `spec` replaces an operand, unless `force`.

    `operands` are names that `read` has accepted.
    """
    if force or spec == STANDARD:
        return
    for operand in operands:
        if is_same_file(spec, operand) and _replaces(spec, name, operand):
            raise FileError(
                f"{spec}: is also an input; choose another name, or replace it with --force"
            )


def _replaces(spec, name, operand):
    path, given = split(spec)
    name = name if given is None else given
    suffix = suffix_of(path)
    if suffix not in (".npz", ".safetensors"):
        return True
    source, selected = split(operand)
    with naming(source, "cannot be read"), open(source, "rb") as file:
        if suffix == ".npz":
            return npz.replaces(file, source, name, selected)
        return safetensors.replaces(file, os.fstat(file.fileno()).st_size, source, name, selected)


def write_bytes(path, content):
    """Writes a file as `write` does."""
    path = Path(path)
    with _named(path, _new_file(path, keeps=False)) as (file, _), naming(path, _FAILURE):
        file.write(content)


def _raw(array):
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _write_header(shape, dtype):
    if sys.stdout.isatty():
        raise FileError(
            "standard output: a terminal, expected a file or a pipe; redirect it: > out.npy"
        )
    header = io.BytesIO()
    npy.write_header(header, shape, dtype)
    _write_out(header.getvalue())


def _write_out(content):
    with naming("standard output", _FAILURE):
        sys.stdout.buffer.write(content)


def _flush_out():
    with naming("standard output", _FAILURE):
        sys.stdout.buffer.flush()


@contextmanager
def _spooled(shape, dtype):
    """Yields an array to be written in any order, which goes to standard output after the block."""
    if math.prod(shape) == 0:
        array = np.empty(shape, dtype)
    else:
        with naming(tempfile.gettempdir(), _FAILURE):
            array = np.memmap(tempfile.TemporaryFile(), dtype, "w+", shape=shape)  # noqa: SIM115
    yield array
    _write_header(shape, dtype)
    for row in array.reshape(-1, max(1, shape[-1] if shape else 1)):
        _write_out(_raw(row))
    _flush_out()


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
    keeps = suffix != ".npy"
    with (
        _new_file(path, keeps) as (file, old),
        _member(file, old, suffix, name, shape, dtype) as member,
    ):
        yield member


@contextmanager
def _new_file(path, keeps):
    """Yields (new, old): an open file that after the block takes the place, the owner and the mode of the
    regular file at `path`. `old` is that file if there is one whose contents the new one `keeps`, or None."""
    real = Path(os.path.realpath(path))  # replaces the target of a symbolic link
    before = _state(real)
    part, file = temporary.create(real, lambda new: open(new, "x+b"))  # noqa: SIM115
    try:
        with file, ExitStack() as stack:
            old = None
            if before is not None:
                with suppress(PermissionError):  # only root may give files away
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
                if keeps and before.st_size > 0:
                    old = stack.enter_context(open(real, "rb"))
            yield file, old
            file.flush()
            os.fsync(file.fileno())
        if keeps and not _same(before, _state(real)):
            raise ContentError(
                "another program changed the file; it was not overwritten, try again"
            )
        temporary.move(part, real)
        _sync_folder(real.parent)
    finally:
        temporary.remove(part)


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
