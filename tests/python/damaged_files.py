"""Damaged files and files with false records by name: their bytes, and a part of the expected message."""

import zipfile

import numpy as np
from array_files import X, at, header, inverted, npy, shaped, tensor, tensors, zipped

LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
STORED = zipped(("x.npy", npy(X)), ("y.npy", npy(X + 1)))
DEFLATED = zipped(("x.npy", npy(X)), method=zipfile.ZIP_DEFLATED)
BZIP2 = zipped(("x.npy", npy(X)), method=zipfile.ZIP_BZIP2)
LZMA = zipped(("x.npy", npy(X)), method=zipfile.ZIP_LZMA)
BOTH_ENCRYPTED = at(at(DEFLATED, LOCAL, 6, "<H", 1), CENTRAL, 8, "<H", 1)
BOTH_UNKNOWN = at(at(DEFLATED, LOCAL, 8, "<H", 97), CENTRAL, 10, "<H", 97)
SHORT = shaped("(40,)", np.ones(4, np.float32).tobytes())

DAMAGED = {
    # .npy
    "a zip archive.npy": (STORED, "a zip archive, not .npy data; name it .npz"),
    "empty.npy": (b"", "the file is empty"),
    "text.npy": (b"this is no array", "not .npy data"),
    "cut magic.npy": (npy(X)[:4], "not .npy data"),
    "cut length.npy": (npy(X)[:9], "the .npy header is cut short"),
    "cut header.npy": (npy(X)[:40], "the .npy header is cut short"),
    "cut data.npy": (npy(X)[:-1], "takes 48 bytes, but there are 47"),
    "more data.npy": (npy(X) + b"\0", "takes 48 bytes, but there are 49"),
    "format 9.npy": (b"\x93NUMPY\x09\x00" + npy(X)[8:], ".npy format 9.0, expected"),
    "open bracket.npy": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, "),
        "the .npy header cannot be parsed",
    ),
    "no shape.npy": (header("{'descr': '<f4', 'fortran_order': False}"), "cannot be parsed"),
    "a call.npy": (header("__import__('os').getcwd()"), "cannot be parsed"),
    "brackets.npy": (header("(" * 5000), "cannot be parsed"),
    "signs.npy": (header("-" * 9000 + "1"), "cannot be parsed"),
    "sums.npy": (header("1" + "+1" * 4900), "cannot be parsed"),
    "long header.npy": (header(" " * 60_000), "a .npy header of 60,001 bytes"),
    "huge header.npy": (
        b"\x93NUMPY\x02\x00" + b"\xff" * 4 + npy(X)[10:],
        "bytes, expected at most",
    ),
    "huge.npy": (shaped("(99999999999999999999,)"), "(99999999999999999999,) is not a shape"),
    "huge product.npy": (shaped(f"({2**40}, {2**40})"), "bytes, but there are 48"),
    "huge and empty.npy": (shaped(f"(0, {2**62}, {2**62})", b""), ""),
    "negative.npy": (shaped("(-3, -4)"), "(-3, -4) is not a shape"),
    "boolean.npy": (shaped("(True, 12)"), "(True, 12) is not a shape"),
    "rank 70.npy": (shaped(f"({'1, ' * 70})", b"\0" * 4), ""),
    "hexadecimal.npy": (shaped(f"(0x{'f' * 9000},)"), "cannot be read: Exceeds the limit"),
    "objects.npy": (shaped("(6,)", descr="'|O'"), "got object"),
    "integers.npy": (shaped("(12,)", descr="'<i4'"), "got int32"),
    "no bytes.npy": (shaped("(12,)", b"", descr="'V0'"), "expected float32"),
    "fields.npy": (shaped("(12,)", descr="[('a', '<f4')]"), "expected float32"),
    "subarray.npy": (shaped("(3,)", descr="('<f4', (4,))"), "expected float32"),
    "long double.npy": (shaped("(3,)", descr="'<f16'"), "got float128"),
    # .npz
    "an array.npz": (npy(X), "not a readable .npz file"),
    "empty.npz": (b"", "the file is empty"),
    "cut.npz": (STORED[:-30], "not a readable .npz file"),
    "no members.npz": (zipped(), "it has none"),
    "short member.npz": (
        zipped(("x.npy", SHORT), ("secret.npy", shaped("(40,)", bytes(160)))),
        "x.npy: shape (40,) of float32 takes 160 bytes, but there are 16",
    ),
    "short packed member.npz": (
        zipped(("x.npy", SHORT), method=zipfile.ZIP_DEFLATED),
        "x.npy: shape (40,) of float32 takes 160 bytes, but there are 16",
    ),
    "long member.npz": (
        zipped(("x.npy", npy(X) + b"more")),
        "x.npy: shape (3, 4) of float32 takes 48 bytes, but there are 52",
    ),
    "header beyond member.npz": (zipped(("x.npy", npy(X)[:60])), "x.npy: the .npy header is cut"),
    "flipped bit.npz": (
        STORED.replace(X.tobytes(), inverted(X.tobytes(), 7, 8)),
        "x.npy: its CRC-32 is wrong",
    ),
    "flipped bit in the header.npz": (
        STORED.replace(b"'descr'", b"'Descr'"),
        "x.npy: its CRC-32 is wrong",
    ),
    "CRC.npz": (at(at(DEFLATED, LOCAL, 14, "<I", 5), CENTRAL, 16, "<I", 5), "x.npy: Bad CRC-32"),
    "CRC of one header.npz": (
        at(STORED, LOCAL, 14, "<I", 5),
        "x.npy: its two headers give different",
    ),
    "local size.npz": (at(STORED, LOCAL, 22, "<I", 500), "x.npy: its two headers give different"),
    "central sizes.npz": (
        at(at(STORED, CENTRAL, 20, "<I", 500), CENTRAL, 24, "<I", 500),
        "x.npy: its two headers give different",
    ),
    "all sizes.npz": (
        at(
            at(
                at(at(STORED, CENTRAL, 20, "<I", 400), CENTRAL, 24, "<I", 400), LOCAL, 18, "<I", 400
            ),
            LOCAL,
            22,
            "<I",
            400,
        ),
        "x.npy: its data overlap the next member",
    ),
    "sizes of stored.npz": (
        at(at(STORED, CENTRAL, 20, "<I", 176 - 8), LOCAL, 18, "<I", 176 - 8),
        "x.npy: stored, but its two sizes differ",
    ),
    "claims gigabytes.npz": (
        at(at(DEFLATED, CENTRAL, 24, "<I", 2**32 - 2), LOCAL, 22, "<I", 2**32 - 2),
        "x.npy: shape (3, 4) of float32 takes 48 bytes",
    ),
    "stored, not deflated.npz": (
        at(STORED, LOCAL, 8, "<H", 8),
        "x.npy: its two headers name different",
    ),
    "offset.npz": (at(STORED, CENTRAL, 42, "<I", 10**6), "x.npy: "),
    "the other's offset.npz": (
        at(STORED, CENTRAL, 42, "<I", STORED.rfind(LOCAL)),
        "x.npy: File name in directory",
    ),
    "name.npz": (STORED.replace(b"x.npy", b"z.npy", 1), "x.npy: File name in directory"),
    "name length.npz": (at(STORED, LOCAL, 26, "<H", 65535), "x.npy: "),
    "extra length.npz": (at(STORED, LOCAL, 28, "<H", 65535), "x.npy: "),
    "password.npz": (BOTH_ENCRYPTED, "x.npy: protected by a password"),
    "password, says one header.npz": (
        at(DEFLATED, LOCAL, 6, "<H", 1),
        "x.npy: protected by a password",
    ),
    "method.npz": (BOTH_UNKNOWN, "x.npy: compression method 97, expected one of"),
    "patch.npz": (at(DEFLATED, CENTRAL, 8, "<H", 1 << 5), "x.npy: compressed patched data"),
    "deflate.npz": (inverted(DEFLATED, 50, 90), "x.npy: "),
    "bzip2.npz": (inverted(BZIP2, 50, 90), "x.npy: "),
    "LZMA.npz": (inverted(LZMA, 45, 60), "x.npy: "),
    "integers.npz": (zipped(("x.npy", npy(np.arange(3)))), "x.npy: expected float32"),
    # .safetensors
    "empty.safetensors": (b"", "the file is empty"),
    "7 bytes.safetensors": (b"\2\0\0\0\0\0\0", "shorter than a .safetensors header"),
    "text.safetensors": (b"this is no array", "not a .safetensors file"),
    "huge header.safetensors": (b"\xff" * 8 + bytes(48), "a header of 18,446,744,073,709,551,615"),
    "number.safetensors": (tensors("1"), "its header is not a JSON object"),
    "null.safetensors": (tensors("null"), "its header is not a JSON object"),
    "string.safetensors": (tensors('"x"'), "its header is not a JSON object"),
    "list.safetensors": (tensors("[1]"), "its header is not a JSON object"),
    "deep.safetensors": (tensors("[" * 100_000), "its header is not a JSON object"),
    "deep object.safetensors": (tensors('{"a":' * 100_000), "nested too deeply"),
    "cut JSON.safetensors": (tensors('{"x": '), "cannot be read: Expecting value"),
    "NaN.safetensors": (tensors('{"x": NaN}'), "NaN"),
    "Latin-1.safetensors": (tensors('{"x": 1}').replace(b"x", b"\xe9"), "utf-8"),
    "surrogate.safetensors": (tensor().replace(b'{"x"', b'{"\\ud800"'), ""),
    "twice.safetensors": (tensors('{"x": 1, "x": 2}'), "duplicate keys"),
    "no object.safetensors": (tensors('{"x": 1}'), "x: expected a JSON object"),
    "no keys.safetensors": (tensors('{"x": {}}'), "x: None is not a safetensors dtype"),
    "dtype list.safetensors": (tensor(dtype="[]"), "x: [] is not a safetensors dtype"),
    "unknown dtype.safetensors": (tensor(dtype='"F7"'), "x: 'F7' is not a safetensors dtype"),
    "integers.safetensors": (tensor(dtype='"I32"'), "x: expected F32, F16, BF16 or F64, got I32"),
    "metadata.safetensors": (tensors('{"__metadata__": {"a": 1}}', b""), "__metadata__"),
    "before.safetensors": (tensor("[-48, 0]"), "x: its data_offsets"),
    "descending.safetensors": (tensor("[48, 0]"), "x: its data_offsets"),
    "three offsets.safetensors": (tensor("[0, 48, 48]"), "x: its data_offsets"),
    "fraction.safetensors": (tensor("[0, 48.0]"), "x: its data_offsets"),
    "boolean.safetensors": (tensor(shape="[true, 12]"), "x: its shape"),
    "negative.safetensors": (tensor(shape="[-3, -4]"), "x: its shape"),
    "huge.safetensors": (tensor(shape="[99999999999999999999]"), "x: its shape"),
    "huge product.safetensors": (tensor(shape=f"[{2**60}, {2**60}]"), "x: shape"),
    "huge end.safetensors": (tensor(f"[0, {2**62}]", f"[{2**60}]"), "its tensors end at byte"),
    "many digits.safetensors": (tensor(shape=f"[{'9' * 5000}]"), "cannot be read"),
    "beyond the end.safetensors": (tensor("[0, 480]", "[120]"), "its tensors end at byte"),
    "other length.safetensors": (tensor("[0, 44]"), "x: shape [3, 4] of F32 takes 48 bytes"),
    "more data.safetensors": (tensor() + b"\0", "its tensors end at byte"),
    "gap.safetensors": (tensor("[4, 52]", data=bytes(52)), "x: its data begin at byte 4"),
    "overlap.safetensors": (
        tensors(
            '{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, '
            '"y": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}',
            bytes(12),
        ),
        "y: its data begin at byte 4, expected 8",
    ),
}
