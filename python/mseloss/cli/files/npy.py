"""The .npy format: a header, then the data. Shape and dtype must match the number of data bytes exactly."""

from __future__ import annotations

import io
import math
import struct

import numpy as np

from mseloss._dtypes import EXPECTED, NAMES, numpy_dtype
from mseloss.cli.files import faults
from mseloss.cli.files.errors import ContentError

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000  # bytes; NumPy's own limit for headers from untrusted files


def read(file, size):
    """The array in the open file, mapped."""
    shape, order, dtype, begin = read_header(file, size)
    return mapped(file, dtype, begin, shape, order)


def read_header(file, size):
    """(shape, order, dtype, offset of the data) of .npy content of `size` bytes, read from its start.

    Raises ContentError unless the data reach exactly to the end of the content.
    """
    start = file.read(8)
    if not start.startswith(_MAGIC):
        raise ContentError(_other_content(start))
    version = tuple(start[6:8])
    if version not in ((1, 0), (2, 0), (3, 0)):
        text = ".".join(map(str, version))
        raise ContentError(f".npy format {text}, expected 1.0, 2.0 or 3.0")
    field = struct.Struct("<H" if version == (1, 0) else "<I")
    prefix = file.read(field.size)
    if len(prefix) < field.size:
        raise ContentError("the .npy header is cut short")
    (length,) = field.unpack(prefix)
    if length > _MAX_HEADER:
        raise ContentError(f"a .npy header of {length:,} bytes, expected at most {_MAX_HEADER:,}")
    text = file.read(length)
    begin = len(start) + len(prefix) + length
    if len(text) < length or begin > size:
        raise ContentError("the .npy header is cut short")
    parse = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        parse = np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = parse(io.BytesIO(prefix + text))
    except Exception:  # the parser of Python literals raises many types
        raise ContentError("the .npy header cannot be parsed") from None
    dtype = supported(dtype)
    check_size(shape, dtype, size - begin)
    return shape, "F" if fortran else "C", dtype, begin


def write_header(file, shape, dtype):
    # .npy has no type for bfloat16; two raw bytes are what NumPy writes for ml_dtypes.bfloat16.
    descr = "<V2" if dtype.name == "bfloat16" else np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, header)


def supported(dtype):
    """`dtype`, or bfloat16 for two raw bytes. Raises ContentError unless it is supported or bool."""
    if dtype == np.dtype("V2"):
        return numpy_dtype("bfloat16")
    if dtype.name not in (*NAMES, "bool"):
        name = str(dtype)
        name = name if len(name) <= 60 else name[:57] + "..."
        raise ContentError(f"expected {EXPECTED}, got {name}")
    return dtype


def check_size(shape, dtype, available):
    """Raises ContentError unless `shape` is valid and an array of `dtype` has exactly `available` bytes."""
    if not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise ContentError(f"{shape} is not a shape")
    needed = math.prod(shape) * dtype.itemsize
    if needed != available:
        raise ContentError(
            f"shape {shape} of {dtype.name} takes {needed:,} bytes, but there are {available:,}"
        )


def mapped(file, dtype, begin, shape, order):
    """The array at byte `begin` of the open file, mapped. The caller has checked that it is in the file."""
    if math.prod(shape) == 0:  # nothing to map
        return np.zeros(shape, dtype)
    faults.mapped(file.name, begin + math.prod(shape) * dtype.itemsize)
    return np.memmap(file, dtype, "r", begin, shape, order)


def _other_content(start):
    if not start:
        return "empty, not .npy data"
    if start.startswith(b"PK\x03\x04"):
        return "a zip archive, not .npy data; name it .npz"
    return "not .npy data"
