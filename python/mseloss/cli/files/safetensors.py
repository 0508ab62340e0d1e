"""The .safetensors format: a JSON header with names, dtypes, shapes and offsets, then the data."""

from __future__ import annotations

import json
import math
import os
import struct
from contextlib import contextmanager

from mseloss._dtypes import numpy_dtype
from mseloss.cli.files.copying import copy_bytes
from mseloss.cli.files.errors import ContentError
from mseloss.cli.files.names import choose
from mseloss.cli.files.npy import mapped

# Names of the supported dtypes
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "BOOL": "bool"}
# Bits per element of every dtype of the format
_BITS = {
    code: bits
    for bits, codes in {
        4: "F4",
        6: "F6_E2M3 F6_E3M2",
        8: "BOOL U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ",
        16: "I16 U16 F16 BF16",
        32: "I32 U32 F32",
        64: "C64 F64 I64 U64",
    }.items()
    for code in codes.split()
}
_MAX_RANK = 64  # NumPy's limit
_MAX_HEADER = 100_000_000  # bytes; the format's own limit


def read(file, size, path, name):
    """The tensor `name` of the open file of `size` bytes, mapped."""
    entries, _, data = _read_header(file, size)
    name = choose(path, list(entries), name)
    entry = entries[name]
    if entry["dtype"] not in _DTYPES:
        raise ContentError(f"{name}: expected F32, F16, BF16 or F64, got {entry['dtype']}")
    dtype = numpy_dtype(_DTYPES[entry["dtype"]])
    return mapped(file, dtype, data + entry["data_offsets"][0], tuple(entry["shape"]), "C")


@contextmanager
def add(file, old, name, shape, dtype):
    """Writes to `file` the tensors of the open file `old` (or None) and the new tensor `name`.

    Yields the file object that takes the new tensor's data. The new tensor precedes all of narrower dtypes,
    which is the safetensors library's order: it keeps every tensor aligned.
    """
    kept, metadata, data = {}, None, 0
    if old is not None:
        kept, metadata, data = _read_header(old, os.fstat(old.fileno()).st_size)
    if name == "__metadata__":
        raise ContentError("__metadata__ cannot be the name of a tensor")
    kept.pop(name, None)
    code = next(code for code, known in _DTYPES.items() if known == dtype.name)
    size = math.prod(shape) * dtype.itemsize
    order = sorted(kept, key=lambda n: kept[n]["data_offsets"])
    narrower = (i for i, n in enumerate(order) if _BITS[kept[n]["dtype"]] < 8 * dtype.itemsize)
    at = next(narrower, len(order))
    header, end = ({} if metadata is None else {"__metadata__": metadata}), 0
    for n in [*order[:at], name, *order[at:]]:
        entry = {"dtype": code, "shape": list(shape)} if n == name else dict(kept[n])
        length = size if n == name else _length(kept[n])
        header[n] = {**entry, "data_offsets": [end, end + length]}
        end += length
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER:
        raise ContentError(f"a header of {len(text):,} bytes, expected at most {_MAX_HEADER:,}")
    file.write(struct.pack("<Q", len(text)) + text)
    for n in order[:at]:
        copy_bytes(old, data + kept[n]["data_offsets"][0], _length(kept[n]), file)
    yield file
    for n in order[at:]:
        copy_bytes(old, data + kept[n]["data_offsets"][0], _length(kept[n]), file)


def replaces(file, size, path, new, name):
    """Whether add() of a tensor `new` to the open file replaces the one that read() finds for `name`."""
    header, _, _ = _read_header(file, size)
    return choose(path, list(header), name) == new


def _read_header(file, size):
    """({name: entry}, metadata or None, offset of the data), with the checks of the safetensors library."""
    if size < 8:
        raise ContentError("shorter than a .safetensors header")
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(_MAX_HEADER, size - 8):
        raise ContentError(f"not a .safetensors file: a header of {length:,} bytes in {size:,}")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise ContentError("not a .safetensors file: its header is not a JSON object")
    header = json.loads(
        text.decode(), object_pairs_hook=_object, parse_int=_count, parse_constant=_no_constant
    )
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not _is_metadata(metadata):
        raise ContentError("__metadata__ does not map strings to strings")
    for name, entry in header.items():
        _check_entry(name, entry)
    end = 0
    for name in sorted(header, key=lambda n: header[n]["data_offsets"]):
        begin, stop = header[name]["data_offsets"]
        if begin != end:
            raise ContentError(f"{name}: its data begin at byte {begin:,}, expected {end:,}")
        end = stop
    if 8 + length + end != size:
        raise ContentError(f"its tensors end at byte {8 + length + end:,}, the file at {size:,}")
    return header, metadata, 8 + length


def _check_entry(name, entry):
    if not isinstance(entry, dict):
        raise ContentError(f"{name}: expected a JSON object with dtype, shape and data_offsets")
    code, shape, place = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(code, str) or code not in _BITS:
        raise ContentError(f"{name}: {code!r} is not a safetensors dtype")
    if not _is_counts(shape) or len(shape) > _MAX_RANK:
        raise ContentError(f"{name}: its shape is not a list of up to {_MAX_RANK} counts")
    if not (_is_counts(place) and len(place) == 2 and place[0] <= place[1]):
        raise ContentError(f"{name}: its data_offsets are not two ascending byte counts")
    bits = math.prod(shape) * _BITS[code]
    if bits != 8 * _length(entry):
        text = f"takes {-(-bits // 8):,} bytes, its data_offsets give {_length(entry):,}"
        raise ContentError(f"{name}: shape {shape} of {code} {text}")


def _is_counts(value):
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _is_metadata(value):
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _object(pairs):
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ContentError("its header has duplicate keys")
    for text in (*result.keys(), *result.values()):
        if isinstance(text, str):
            text.encode()  # raises for lone surrogates, which are not valid Unicode
    return result


def _count(text):
    return float(text) if text.startswith("-") else int(text)  # a count has no sign, even zero


def _no_constant(text):
    raise ContentError(f"its header has {text}, which is not valid JSON")


def _length(entry):
    begin, end = entry["data_offsets"]
    return end - begin
