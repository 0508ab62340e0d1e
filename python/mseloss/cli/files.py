"""Arrays in .npy, .npz and .safetensors files: memory-mapped for reading, written in chunks."""

from __future__ import annotations

import json
import math
import os
import struct
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mseloss._dtypes import numpy_dtype

# safetensors' names for the dtypes that mseloss computes in
_SAFETENSORS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
_SUFFIXES = (".npy", ".npz", ".safetensors")


class FileError(ValueError):
    """Invalid input from the command line. The message names the file or the option."""


def read(spec):
    """The memory-mapped array that `spec` names: PATH, or PATH:NAME for .npz and .safetensors.

    Compressed .npz arrays are loaded instead. Raises FileError.
    """
    path, name = _split(spec)
    if not path.is_file():
        raise FileError(f"{path}: no such file")
    try:
        if path.suffix == ".npy":
            return _as_bfloat16(np.load(path, mmap_mode="r", allow_pickle=False))
        if path.suffix == ".npz":
            return _read_npz(path, name)
        if path.suffix == ".safetensors":
            return _read_safetensors(path, name)
    except FileError:
        raise
    except (OSError, ValueError, KeyError, EOFError, struct.error, zipfile.BadZipFile) as error:
        raise FileError(f"{path}: not a readable {path.suffix} file: {error}") from None
    raise FileError(f"{path}: expected a file named {', '.join(_SUFFIXES)}")


@contextmanager
def write(spec, shape, dtype, name):
    """Yields a function that takes the array's chunks in C order and writes them to the file that `spec`
    names.

    The data go to a temporary file next to the destination, which is renamed once all data are on disk, and
    removed
    if an error occurs: a partial result never appears. `name` is the array's name in the file unless `spec`
        has one.
    """
    path, given = _split(spec)
    if path.suffix not in _SUFFIXES:
        raise FileError(f"{path}: expected a file named {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise FileError(f"{path}: no such folder")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "xb") as file:
            with _member(file, path.suffix, shape, np.dtype(dtype), given or name) as member:

                def put(array):
                    member.write(memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8)))

                yield put
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _member(file, suffix, shape, dtype, name):
    if suffix == ".npz":
        with (
            zipfile.ZipFile(file, "w", allowZip64=True) as archive,
            archive.open(f"{name}.npy", "w", force_zip64=True) as member,
        ):
            _write_npy_header(member, shape, dtype)
            yield member
        return
    if suffix == ".npy":
        _write_npy_header(file, shape, dtype)
    else:
        code = next(code for code, known in _SAFETENSORS.items() if known == dtype.name)
        size = math.prod(shape) * dtype.itemsize
        header = {name: {"dtype": code, "shape": list(shape), "data_offsets": [0, size]}}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file.write(struct.pack("<Q", len(text)) + text)
    yield file


def _write_npy_header(file, shape, dtype):
    # .npy has no type for bfloat16; two raw bytes are what NumPy writes for ml_dtypes.bfloat16.
    descr = "<V2" if dtype.name == "bfloat16" else np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, header)


def _split(spec):
    spec = str(spec)
    for suffix in (".npz", ".safetensors"):
        at = spec.find(suffix + ":")
        if at >= 0:
            end = at + len(suffix)
            return Path(spec[:end]), spec[end + 1 :]
    return Path(spec), None


def _choose(path, names, name):
    if name is None and len(names) == 1:
        return names[0]
    if name in names:
        return name
    known = ", ".join(names) or "none"
    if name is None:
        raise FileError(f"{path}: name one of its arrays as {path}:NAME; it has {known}")
    raise FileError(f"{path}: no array {name!r}; it has {known}")


def _read_npz(path, name):
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        info = members[_choose(path, list(members), name)]
        if info.compress_type != zipfile.ZIP_STORED:  # compressed: cannot be mapped
            with archive.open(info) as member:
                return _as_bfloat16(np.lib.format.read_array(member, allow_pickle=False))
    with open(path, "rb") as file:
        file.seek(info.header_offset + 26)
        name_size, extra_size = struct.unpack("<HH", file.read(4))
        file.seek(name_size + extra_size, os.SEEK_CUR)
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            header = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file)
        if dtype.hasobject:
            raise FileError(f"{path}: {info.filename} holds Python objects")
        order = "F" if fortran else "C"
        return _as_bfloat16(_map(path, dtype, file.tell(), shape, order))


def _read_safetensors(path, name):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        if size > 100_000_000:
            raise FileError(f"{path}: not a safetensors file: a header of {size} bytes")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    name = _choose(path, list(header), name)
    entry = header[name]
    if entry["dtype"] not in _SAFETENSORS:
        raise FileError(f"{path}: {name} is {entry['dtype']}, expected one of {list(_SAFETENSORS)}")
    dtype = numpy_dtype(_SAFETENSORS[entry["dtype"]])
    begin, end = entry["data_offsets"]
    if end - begin != math.prod(entry["shape"]) * dtype.itemsize:
        raise FileError(f"{path}: {name} has a shape that does not fit its bytes")
    return _map(path, dtype, 8 + size + begin, tuple(entry["shape"]), "C")


def _map(path, dtype, offset, shape, order):
    if math.prod(shape) == 0:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape, order)


def _as_bfloat16(array):
    if array.dtype == np.dtype("V2"):
        return array.view(numpy_dtype("bfloat16"))
    return array
