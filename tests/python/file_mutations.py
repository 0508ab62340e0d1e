"""Valid .npy, .npz and .safetensors files and seeded mutations of them."""

from __future__ import annotations

import io
import random
import re
import struct
import zipfile
from typing import ClassVar

import ml_dtypes
import numpy as np
from array_files import Unseekable, npy, safetensors

SUFFIXES = (".npy", ".npz", ".safetensors")

# Replacements for sizes, offsets and counts
_INTEGERS = [0, 1, 2, 7, 8, 64, 127, 255, 256, 4095, 2**15, 2**16 - 1, 2**31 - 1, 2**31]
_INTEGERS += [2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]
# fmt: off
_NPY_TOKENS = [
    "-1", "0", "1", "30", "12", "120", "True", "False", "None", "()", "(30,)", "(4, 30)", "(4L, 30L)",
    "(2**3,)", "[30, 4]", "1.0", "1e3", "0x0c", "99999999999999999999", str(2**63), str(2**62), "'<f4'",
    "'>f4'", "'<f2'", "'<f8'", "'|V2'", "'<V2'", "'|O'", "'<i4'", "'<M8[s]'", "'S0'", "'V0'", "('<f4', (3,))",
    "[('a', '<f4')]", "'f4,f4'", "'='", "'descr'", "'shape'", "'extra'", "''", "{}", "(" * 300,
    "-" * 9000 + "1", "{" * 99, '"', "#", "\\", "\n", "\0", ",", "}", "a.b", "f()",
]
_JSON_TOKENS = [
    "-1", "0", "1", "4", "12", "120", "480", "1.0", "1e2", "-0", "NaN", "Infinity", "true", "false", "null",
    "99999999999999999999", str(2**63), str(2**64), '"F32"', '"BF16"', '"F64"', '"I64"', '"F4"', '"X"', '""',
    '"x"', '"a"', '"\\ud800"', '"__metadata__"', '"dtype"', '"shape"', '"data_offsets"', "[]", "{}", "[0,0]",
    "[480,0]", "[-8,0]", "[0,480,480]", "[" * 5000, "{", "}", "]", ",", ":", " ", "\t",
]
# fmt: on


class Mutations:
    """A reproducible infinite sequence of (suffix, array name or None, bytes, names of the mutations)."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.corpus = {
            ".npy": _npy_files(),
            ".npz": _npz_files(),
            ".safetensors": _safetensors_files(),
        }

    def next(self):
        suffix = self.random.choice(SUFFIXES)
        data, done = self.random.choice(self.corpus[suffix]), []
        for _ in range(self.random.choice([1, 1, 1, 2, 3])):
            change = self.random.choice(
                [*self._BYTES, *[self._STRUCTURE[suffix]] * len(self._BYTES)]
            )
            data = change(self, data)
            done.append(change.__name__.strip("_"))
        name = self.random.choice([None, "x", "x", "y", "z"])
        return suffix, None if suffix == ".npy" else name, data, "+".join(done)

    # Mutations of any bytes -----------------------------------------------------------------------

    def _flip_bits(self, data):
        data = bytearray(data)
        for _ in range(self.random.randint(1, 8) if data else 0):
            data[self._at(data)] ^= 1 << self.random.randrange(8)
        return bytes(data)

    def _set_bytes(self, data):
        begin, end = self._range(data)
        value = self.random.choice([b"\0", b"\xff", b" ", b"0", b"9", self.random.randbytes(1)])
        return data[:begin] + value * (end - begin) + data[end:]

    def _set_integer(self, data):
        field = struct.Struct(self.random.choice(["<H", "<I", "<Q"]))
        if len(data) < field.size:
            return data
        at = self.random.randrange(len(data) - field.size + 1)
        return self._put(data, at, field)

    def _truncate(self, data):
        return data[: self._at(data)]

    def _cut_front(self, data):
        return data[self._at(data) :]

    def _append(self, data):
        return data + self.random.randbytes(self.random.choice([1, 2, 4, 8, 48, 100]))

    def _remove(self, data):
        begin, end = self._range(data)
        return data[:begin] + data[end:]

    def _repeat(self, data):
        begin, end = self._range(data)
        return data[:end] + data[begin:]

    def _insert(self, data):
        at = self._at(data)
        return data[:at] + self.random.randbytes(self.random.randint(1, 16)) + data[at:]

    def _splice(self, data):
        other = self.random.choice(self.corpus[self.random.choice(SUFFIXES)])
        return data[: self._at(data)] + other[self._at(other) :]

    _BYTES = (
        _flip_bits,
        _set_bytes,
        _set_integer,
        _truncate,
        _cut_front,
        _append,
        _remove,
        _repeat,
        _insert,
        _splice,
    )

    # Mutations of a format's records --------------------------------------------------------------

    def _npy_header(self, data):
        """Replaces a token of the header; usually updates the length field, sometimes changes the padding."""
        if not data.startswith(b"\x93NUMPY") or len(data) < 12:
            return self._flip_bits(data)
        field = struct.Struct("<H" if data[6] == 1 else "<I")
        begin = 8 + field.size
        (length,) = field.unpack_from(data, 8)
        text = self._token(data[begin : begin + length].decode("latin1"), _NPY_TOKENS)
        if self.random.random() < 0.5:
            text = text.rstrip() + " " * self.random.randrange(20) + "\n"
        head = text.encode("latin1", "replace")
        size = len(head) if self.random.random() < 0.9 else self.random.choice(_INTEGERS)
        limit = (1 << 8 * field.size) - 1
        return data[:8] + field.pack(size & limit) + head + data[begin + length :]

    def _npz_record(self, data):
        """Changes a field of a zip record, or a member's content with correct sizes and checksums."""
        if self.random.random() < 0.4:
            return self._npz_member(data)
        kinds = {b"PK\x03\x04": _LOCAL, b"PK\x01\x02": _CENTRAL, b"PK\x05\x06": _END}
        kinds |= {b"PK\x06\x06": _END64, b"PK\x06\x07": _LOCATOR64, b"PK\x07\x08": _DESCRIPTOR}
        places = [
            (match.start(), kind)
            for signature, kind in kinds.items()
            for match in re.finditer(re.escape(signature), data)
        ]
        if not places:
            return self._flip_bits(data)
        start, fields = self.random.choice(places)
        offset, code = self.random.choice(fields)
        field = struct.Struct(code)
        if start + offset + field.size > len(data):
            return data
        return self._put(data, start + offset, field)

    def _npz_member(self, data):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = [
                    (i.filename, i.compress_type, archive.read(i)) for i in archive.infolist()
                ]
        except Exception:
            members = []
        if not members:
            return self._flip_bits(data)
        chosen = self.random.randrange(len(members))
        changes = [*self._BYTES, *[Mutations._npy_header] * len(self._BYTES)]
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for i, (name, method, content) in enumerate(members):
                if i == chosen:
                    content = self.random.choice(changes)(self, content)
                archive.writestr(name, content, method)
        return file.getvalue()

    def _safetensors_header(self, data):
        """Replaces a token of the JSON header; usually updates the length field."""
        if len(data) < 8:
            return data
        (length,) = struct.unpack_from("<Q", data)
        text = self._token(data[8 : 8 + length].decode("latin1"), _JSON_TOKENS)
        head = text.encode("latin1", "replace")
        size = len(head) if self.random.random() < 0.9 else self.random.choice(_INTEGERS)
        return struct.pack("<Q", size) + head + data[8 + length :]

    _STRUCTURE: ClassVar = {
        ".npy": _npy_header,
        ".npz": _npz_record,
        ".safetensors": _safetensors_header,
    }

    # Helpers --------------------------------------------------------------------------------------

    def _at(self, data):
        return self.random.randrange(len(data)) if data else 0

    def _range(self, data):
        begin = self._at(data)
        return begin, min(len(data), begin + self.random.choice([1, 1, 2, 4, 8, 16, 64, len(data)]))

    def _put(self, data, at, field):
        (old,) = field.unpack_from(data, at)
        value = self.random.choice([*_INTEGERS, old + 1, old - 1, 2 * old, old ^ 1, len(data)])
        limit = (1 << 8 * field.size) - 1
        return data[:at] + field.pack(value & limit) + data[at + field.size :]

    def _token(self, text, tokens):
        found = list(re.finditer(r"""'[^']*'|"[^"]*"|\w+|[^\w\s]""", text))
        if not found:
            return text
        match = self.random.choice(found)
        return text[: match.start()] + self.random.choice(tokens) + text[match.end() :]


# Offsets and sizes of the fields of zip's records (APPNOTE.TXT 4.3).
# fmt: off
_LOCAL = [
    (4, "<H"), (6, "<H"), (8, "<H"), (14, "<I"), (18, "<I"), (22, "<I"), (26, "<H"), (28, "<H"), (37, "<Q"),
]
_CENTRAL = [
    (6, "<H"), (8, "<H"), (10, "<H"), (16, "<I"), (20, "<I"), (24, "<I"), (28, "<H"), (30, "<H"), (32, "<H"),
    (34, "<H"), (42, "<I"),
]
_END = [(4, "<H"), (6, "<H"), (8, "<H"), (10, "<H"), (12, "<I"), (16, "<I"), (20, "<H")]
_END64 = [(4, "<Q"), (16, "<I"), (24, "<Q"), (32, "<Q"), (40, "<Q"), (48, "<Q")]
_LOCATOR64 = [(4, "<I"), (8, "<Q"), (16, "<I")]
_DESCRIPTOR = [(4, "<I"), (8, "<I"), (12, "<I")]
# fmt: on


def _arrays():
    x = np.arange(120, dtype=np.float32).reshape(30, 4) - 5
    yield x
    yield x.astype(">f4")
    yield np.asfortranarray(x.astype(np.float16))
    yield x.astype(np.float64)
    yield x.astype(ml_dtypes.bfloat16)
    yield np.asarray(2.5, np.float32)
    yield np.zeros((0, 3), np.float32)
    yield np.asfortranarray(x.astype(">f8"))
    yield np.arange(3)


def _npy_files():
    x = next(_arrays())
    return [npy(array) for array in _arrays()] + [npy(x, (2, 0)), npy(x, (3, 0))]


def _npz_files():
    arrays, result = list(_arrays()), []
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    for i, method in enumerate((*methods, *methods[:2])):
        file = Unseekable() if i > 3 else io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, array in zip("xyz", arrays[i : i + 3], strict=True):
                archive.writestr(f"{name}.npy", npy(array))
            archive.comment = b"a comment" if i == 1 else b""
        result.append(file.getvalue())
    for save in (np.savez, np.savez_compressed):  # with zip64 fields
        for file in (io.BytesIO(), Unseekable()):
            save(file, x=arrays[0], y=arrays[3])
            result.append(file.getvalue())
    file = io.BytesIO(b"a program")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("x.npy", npy(arrays[0]))
        archive.writestr("notes.txt", "no array")
    result.append(file.getvalue())
    return result


def _safetensors_files():
    x = np.arange(120, dtype=np.float32)
    names = {"x": ("F32", [30, 4], x), "y": ("BF16", [120], x.astype(ml_dtypes.bfloat16))}
    more = {
        "z": ("F64", [], np.float64(2)),
        "i": ("I64", [3], np.arange(3)),
        "e": ("F16", [0, 2], x[:0]),
    }
    return [
        safetensors({"x": names["x"]}),
        safetensors(names),
        safetensors(more | names, {"format": "np"}),
        safetensors({"e": more["e"], "b": ("U8", [1], np.uint8([7])), **names}),
    ]
