"""Builds array files byte by byte, with valid or arbitrary headers and fields."""

import io
import json
import struct
import zipfile

import numpy as np
from mseloss.cli import files

X = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)


def put(name, data):
    with open(name, "wb") as file:
        file.write(data)


def add(spec, array, name="default"):
    with files.write(spec, array.shape, array.dtype, name) as put:
        put(array)


def npy(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


class Unseekable(io.BytesIO):
    """Makes zipfile write sizes and checksums after the data."""

    def seekable(self):
        return False

    def tell(self):
        raise OSError("no place")


def safetensors(tensors, metadata=None):
    header = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (code, shape, array) in tensors.items():
        content = np.asarray(array).tobytes()
        header[name] = {
            "dtype": code,
            "shape": shape,
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def header(text, data=None, version=1):
    text = text.encode() + b"\n"
    field = struct.pack("<H" if version == 1 else "<I", len(text))
    return (
        b"\x93NUMPY" + bytes([version, 0]) + field + text + (X.tobytes() if data is None else data)
    )


def shaped(shape, data=None, descr="'<f4'"):
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}", data)


def zipped(*members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def at(data, signature, offset, code, value):
    """`data` with one field of one zip record changed."""
    place = data.find(signature) + offset
    return data[:place] + struct.pack(code, value) + data[place + struct.calcsize(code) :]


def inverted(data, begin, end):
    return data[:begin] + bytes(255 - b for b in data[begin:end]) + data[end:]


def tensors(text, data=None):
    return struct.pack("<Q", len(text)) + text.encode() + (X.tobytes() if data is None else data)


def tensor(offsets="[0, 48]", shape="[3, 4]", dtype='"F32"', data=None):
    text = f'{{"x": {{"dtype": {dtype}, "shape": {shape}, "data_offsets": {offsets}}}}}'
    return tensors(text, data)
