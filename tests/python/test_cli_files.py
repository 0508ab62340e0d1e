"""The shell's files: what each holds is right, or one line says what is wrong and the status is 2."""

import io
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import zipfile

import ml_dtypes
import mseloss
import numpy as np
import pytest
from conftest import normal, same_bits
from file_mutations import npy, safetensors
from mseloss import reference
from mseloss.cli import chunked, files
from mseloss.cli.files import reading, writing

app = pytest.importorskip("mseloss.cli.app")

X = normal(1, (3, 4))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chunked, "_CHUNK", 1000)  # many blocks
    return tmp_path


@pytest.fixture
def command(here, capsys):
    def call(*arguments):
        previous = signal.getsignal(signal.SIGTERM)
        try:
            status = app.run([str(a) for a in arguments])
        finally:
            signal.signal(signal.SIGTERM, previous)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def add(spec, array, name="default"):
    with files.write(spec, array.shape, array.dtype, name) as put:
        put(array)


def put(name, data):
    with open(name, "wb") as file:
        file.write(data)


# Byte order, memory order, suffixes ---------------------------------------------------------------


def save(name, array):
    if name.lower().endswith(".npy"):
        with open(name, "wb") as file:
            np.save(file, array)
    else:
        with open(name, "wb") as file:
            (np.savez_compressed if "packed" in name else np.savez)(file, x=array)


@pytest.mark.parametrize("name", ["a.npy", "A.NPY", "a.npz", "A.NpZ", "packed.npz"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [">f4", ">f2", ">f8", "<f4", "bfloat16"], ids=str)
def test_byte_order_memory_order_and_suffix(here, name, order, dtype):
    dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    x = np.asarray(normal(1, (30, 40)), dtype, order=order)
    save(name, x)
    read = files.read(name)
    assert read.shape == x.shape
    assert same_bits(chunked._at(read, (slice(None),)), x.astype(dtype.newbyteorder("=")))
    assert isinstance(read, np.memmap) == ("packed" not in name)
    assert read.flags.f_contiguous == (order == "F")


@pytest.mark.parametrize("suffix", [".SAFETENSORS", ".Safetensors:grad"])
def test_safetensors_in_upper_case(here, suffix):
    add(f"X{suffix}", X)
    assert same_bits(files.read(f"X{suffix}"), X)


@pytest.mark.parametrize("kind", [">f4", ">f2", ">f8"])
@pytest.mark.parametrize("shape", [(), (70, 90), (2, 3000)], ids=str)
def test_operators_on_big_endian_files(command, kind, shape, reduction):
    native = np.dtype(kind).newbyteorder("=")
    x, y, g = (np.asarray(normal(i, shape)).astype(native) for i in range(3))
    np.save("x.npy", x.astype(kind))
    np.save("y.npy", y.T.copy().T.astype(kind))
    np.save("g.npy", g)
    options = ("-r", reduction, "-g", "g.npy")
    status, out, err = command("grad", "x.npy", "y.npy", "-o", "out.npy", *options)
    assert (status, err) == (0, "")
    assert out.endswith(f" {native.name}\n")
    expected = reference.grad(g, x, y, reduction)
    assert same_bits(np.load("out.npy"), expected)
    np.save("big.npy", expected.astype(kind))
    inputs = ("-x", "x.npy", "-y", "y.npy")
    assert command("check", "big.npy", *inputs, *options, "-t", 0)[0] == 0
    assert command("check", "big.npy", "out.npy", "-t", 0)[0] == 0
    assert command("loss", "x.npy", "y.npy", "-r", reduction, "-o", "l.npy")[0] == 0
    expected = np.asarray(reference.loss(x, y, reduction))
    assert same_bits(np.load("l.npy"), expected)
    np.save("big.npy", expected.astype(kind))
    options = ("-r", reduction, "--operator", "loss", "-t", 0)
    assert command("check", "big.npy", *inputs, *options)[0] == 0


def test_an_element_that_differs_in_a_big_endian_file(command):
    x = normal(1, (70, 90), np.float64)
    np.save("a.npy", x.astype(">f8"))
    x[3, 5] += 1
    np.save("b.npy", np.asfortranarray(x))
    status, out, _ = command("check", "a.npy", "b.npy", "--json")
    assert status == 1
    report = json.loads(out)
    assert (report["wrong"], report["worst"][0]["index"]) == (1, [3, 5])
    assert report["worst"][0]["expected"] == x[3, 5]
    np.save("c.npy", x.astype(">f8")[:5])
    status, out, _ = command("check", "a.npy", "c.npy")
    assert status == 1
    assert "shapes differ" in out


def test_dtypes_that_differ_name_the_operand(command):
    np.save("x.npy", X.astype(">f4"))
    np.save("y.npy", X.astype(">f8"))
    expected = "mseloss: target: expected the dtype of input, float32, got float64\n"
    assert command("grad", "x.npy", "y.npy", "-o", "o.npy") == (2, "", expected)


def test_a_big_endian_file_larger_than_the_memory_it_may_use(here):
    """A sparse file of 512 MiB under a limit of 400 MiB of private memory."""
    x = np.lib.format.open_memmap("x.npy", "w+", ">f8", (1 << 13, 1 << 13), fortran_order=True)
    x[-1, -1] = 3
    del x
    code = """
import resource
resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))
from mseloss.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "loss", "x.npy", "x.npy", "-r", "sum"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.0\n", "")


def test_a_file_named_like_an_array_in_another(here):
    np.save("a.npz:b.npy", X)
    assert same_bits(files.read("a.npz:b.npy"), X)


def test_numpy_s_rule_for_names_in_archives(here):
    with zipfile.ZipFile("a.npz", "w") as archive:
        archive.writestr("folder/", "")
        archive.writestr("x.npy", npy(X))
        archive.writestr("x", npy(X + 1))
        archive.writestr("folder/y.npy", npy(X + 2))
        archive.writestr("notes.txt", "no array")
    for name in ("x", "x.npy", "folder/y", "folder/y.npy"):
        assert same_bits(files.read(f"a.npz:{name}"), np.load("a.npz")[name])
    with pytest.raises(files.FileError, match=r"^a.npz: notes.txt: not .npy data$"):
        files.read("a.npz:notes.txt")
    with zipfile.ZipFile("b.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
        archive.writestr("x.npy", npy(X))
    assert same_bits(files.read("b.npz"), X)


# Files that lie, and files that are damaged -------------------------------------------------------


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


def at(data, signature, offset, code, value, *, last=False):
    """`data` with one field of one zip record changed."""
    place = (data.rfind if last else data.find)(signature) + offset
    return data[:place] + struct.pack(code, value) + data[place + struct.calcsize(code) :]


def inverted(data, begin, end):
    return data[:begin] + bytes(255 - b for b in data[begin:end]) + data[end:]


def tensors(text, data=None):
    return struct.pack("<Q", len(text)) + text.encode() + (X.tobytes() if data is None else data)


def tensor(offsets="[0, 48]", shape="[3, 4]", dtype='"F32"', data=None):
    text = f'{{"x": {{"dtype": {dtype}, "shape": {shape}, "data_offsets": {offsets}}}}}'
    return tensors(text, data)


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
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
        "x.npy: its data run into the next member",
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
    "number.safetensors": (tensors("1"), "its header is no JSON object"),
    "null.safetensors": (tensors("null"), "its header is no JSON object"),
    "string.safetensors": (tensors('"x"'), "its header is no JSON object"),
    "list.safetensors": (tensors("[1]"), "its header is no JSON object"),
    "deep.safetensors": (tensors("[" * 100_000), "its header is no JSON object"),
    "deep object.safetensors": (tensors('{"a":' * 100_000), "nested too deeply"),
    "cut JSON.safetensors": (tensors('{"x": '), "cannot be read: Expecting value"),
    "NaN.safetensors": (tensors('{"x": NaN}'), "NaN"),
    "Latin-1.safetensors": (tensors('{"x": 1}').replace(b"x", b"\xe9"), "utf-8"),
    "surrogate.safetensors": (tensor().replace(b'{"x"', b'{"\\ud800"'), ""),
    "twice.safetensors": (tensors('{"x": 1, "x": 2}'), "a key twice"),
    "no object.safetensors": (tensors('{"x": 1}'), "x: expected a JSON object"),
    "no keys.safetensors": (tensors('{"x": {}}'), "x: None is no dtype"),
    "dtype list.safetensors": (tensor(dtype="[]"), "x: [] is no dtype"),
    "unknown dtype.safetensors": (tensor(dtype='"F7"'), "x: 'F7' is no dtype"),
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


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_one_line_and_status_2(command, name):
    data, words = DAMAGED[name]
    put(name, data)
    np.save("y.npy", X)
    spec = f"{name}:x" if ".npz" in name and b"x.npy" in data else name
    for arguments in (
        ("check", spec, "y.npy"),
        ("check", "y.npy", spec),
        ("check", "y.npy", "-x", "y.npy", "-y", "y.npy", "-g", spec),
        ("loss", spec, "y.npy"),
        ("grad", "y.npy", spec, "-o", "o.npy"),
    ):
        status, out, err = command(*arguments)
        assert (status, out) == (2, "")
        assert err.startswith(f"mseloss: {name}: ")
        assert words in err
        assert err.count("\n") == 1
        assert len(err) < 400
    assert sorted(os.listdir()) == sorted([name, "y.npy"])


@pytest.mark.parametrize("name", DAMAGED)
def test_results_do_not_replace_what_cannot_be_read(command, name):
    data, _ = DAMAGED[name]
    suffix = name[name.rfind(".") :]
    put(name, data)
    np.save("y.npy", X)
    status, _, err = command("loss", "y.npy", "y.npy", "-r", "none", "-o", name)
    if suffix == ".npy" or not data:  # one array: replaced
        assert (status, err) == (0, "")
        assert same_bits(files.read(name), np.zeros_like(X))
        return
    try:
        known = zipfile.ZipFile(name).namelist()
    except Exception:
        known = None
    with open(name, "rb") as file:
        after = file.read()
    if status == 2:
        assert after == data
        assert err.startswith(f"mseloss: {name}: ")
        assert err.count("\n") == 1
    else:  # damage that the directory does not show; the member is kept as it is
        assert (status, err) == (0, "")
        assert suffix == ".safetensors" or "loss.npy" in known
        assert same_bits(files.read(f"{name}:loss"), np.zeros_like(X))
    assert sorted(os.listdir()) == sorted([name, "y.npy"])


def test_what_cannot_be_opened(command, here, monkeypatch):
    np.save("y.npy", X)
    os.mkfifo("pipe.npy")
    os.mkdir("folder.npy")
    os.symlink("loop.npy", "loop.npy")
    os.symlink("nothing.npy", "dangling.npy")
    expected = {
        "pipe.npy": "not a regular file",
        "folder.npy": "a folder, expected a file",
        "loop.npy": "Too many levels of symbolic links",
        "dangling.npy": "no such file",
        "y.npy/x.npy": "no such file",
        "x" * 300 + ".npy": "File name too long",
        "/dev/null": "not a regular file",
        "nul\0.npy": "cannot be read: embedded null byte",
    }
    for name, words in expected.items():
        status, out, err = command("check", name, "y.npy")
        assert (status, out) == (2, "")
        assert err.startswith(f"mseloss: {name}: {words}")
        assert err.count("\n") == 1

    def denied(*arguments):
        raise PermissionError(13, "Permission denied", "y.npy")

    monkeypatch.setattr(reading, "open", denied, raising=False)
    expected = "mseloss: y.npy: Permission denied\n"
    assert command("check", "y.npy", "y.npy") == (2, "", expected)


class Unheard(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (MemoryError(), "cannot be read: not enough memory"),
        (RecursionError("maximum recursion depth exceeded"), "cannot be read: nested too deeply"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (EOFError(), "cannot be read: EOFError"),
        (KeyError("x"), "cannot be read: KeyError 'x'"),
        (Unheard("two\nlines"), "cannot be read: two lines"),
        (ValueError("x" * 5000), "cannot be read: " + "x" * 297 + "..."),
    ],
    ids=lambda v: type(v).__name__,
)
def test_whatever_a_reader_raises_is_status_2(command, monkeypatch, raised, words):
    np.save("y.npy", X)

    def broken(*arguments):
        raise raised

    monkeypatch.setattr(reading.npy, "read", broken)
    assert command("check", "y.npy", "y.npy") == (2, "", f"mseloss: y.npy: {words}\n")


# One way out --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["99999999999999999999", str(2**64 - 1), "nan", "-1", "inf", "1e3", "0x10", "", "9" * 5000],
)
def test_absurd_tolerances(command, text):
    np.save("a.npy", X)
    np.save("b.npy", X + 1)
    status, out, err = command("check", "a.npy", "b.npy", f"--tolerance={text}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("mseloss: ")
    assert "--tolerance" in err


def test_the_largest_tolerance_still_tells_a_nan(command):
    a, b = np.float64([1, -np.finfo(float).max]), np.float64([1, np.finfo(float).max])
    np.save("a.npy", a)
    np.save("b.npy", b)
    assert command("check", "a.npy", "b.npy", "-t", 2**64 - 2)[0] == 0
    np.save("b.npy", np.float64([np.nan, 1]))
    assert command("check", "a.npy", "b.npy", "-t", 2**64 - 2)[0] == 1


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (RuntimeError("a\nfault"), 70),
        (AssertionError(), 70),
        (AttributeError("fault"), 70),
        (MemoryError(), 2),
        (OSError(5, "Input/output error", "a.npy"), 2),
        (ImportError("no plot"), 2),
        (SystemExit(1), 2),
        (SystemExit(0), 0),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else str(v),
)
def test_no_exception_is_status_1(command, monkeypatch, raised, status):
    np.save("a.npy", X)

    def broken(*arguments):
        raise raised

    monkeypatch.setattr(chunked, "check", broken)
    got, out, err = command("check", "a.npy", "a.npy")
    assert (got, out) == (status, "")
    lines = err.splitlines()
    assert not lines or lines[-1].startswith("mseloss: ")
    assert len(lines) == (status != 0) or status == 70
    if status == 70:
        assert lines[0] == "Traceback (most recent call last):"
        assert "internal error, please report it" in lines[-1]


REAL = {
    "equal": (("y.npy", "y.npy"), 0),
    "differs": (("y.npy", "other.npy"), 1),
    "missing": (("y.npy", "none.npy"), 2),
    "folder": (("folder.npy", "y.npy"), 2),
    "tolerance": (("y.npy", "other.npy", "-t", "99999999999999999999"), 2),
    **{
        name: ((name, "y.npy"), 2)
        for name in (
            "a zip archive.npy",
            "open bracket.npy",
            "signs.npy",
            "huge.npy",
            "flipped bit.npz",
            "password.npz",
            "method.npz",
            "deflate.npz",
            "LZMA.npz",
            "number.safetensors",
            "deep object.safetensors",
            "before.safetensors",
        )
    },
}


@pytest.mark.parametrize("case", REAL)
def test_the_real_command(here, case):
    np.save("y.npy", X)
    np.save("other.npy", X + 1)
    os.mkdir("folder.npy")
    if case in DAMAGED:
        put(case, DAMAGED[case][0])
    arguments, status = REAL[case]
    if case == "flipped bit.npz":
        arguments = (f"{case}:x", "y.npy")
    done = process("check", *arguments)
    assert done.returncode == status
    assert done.stderr.count("\n") == (status == 2)
    assert bool(done.stdout) == (status < 2)


def process(*arguments, **options):
    command = [sys.executable, "-c", "from mseloss.cli import main; main()", *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, text=True, timeout=100, **options)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_not_status_1(here):
    np.save("a.npy", X)
    np.save("b.npy", X + 1)
    with open("/dev/full", "w") as full:
        for arguments in (
            ("check", "a.npy", "b.npy"),
            ("info",),
            ("--version",),
            ("check", "--help"),
        ):
            done = process(*arguments, stdout=full)
            assert done.returncode == 2
            assert done.stderr.count("\n") == 1
            assert "No space left on device" in done.stderr
        assert process("check", "a.npy", "none.npy", stderr=full).returncode == 2
    reader, writer = os.pipe()
    os.close(reader)
    for arguments in (("check", "a.npy", "b.npy"), ("check", "--help")):
        done = process(*arguments, stdout=writer)
        assert done.returncode == 2
        assert done.stderr.startswith("mseloss: standard output")
        assert done.stderr.count("\n") == 1
    os.close(writer)
    shell = [
        "bash",
        "-c",
        '"$0" -c "from mseloss.cli import main; main()" check a.npy none.npy 2>&-',
    ]
    done = subprocess.run([*shell, sys.executable], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (2, "")


def test_names_that_are_no_text(here):
    np.save("y.npy", X)
    done = process("loss", "y.npy", "y.npy", "-o", b"\xff.npy")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.0\n", "")
    done = process("grad", "y.npy", "y.npy", "-o", b"\xff.npy")
    assert (done.returncode, done.stdout) == (0, "\\udcff.npy: 3 x 4 float32\n")
    done = process("check", "y.npy", b"\xfe\n.npy")
    assert (done.returncode, done.stderr) == (2, "mseloss: \\udcfe .npy: no such file\n")


# Results into existing files ----------------------------------------------------------------------


def members(name):
    """What an archive holds, by name: method, checksum, times, comment and the raw bytes of the data."""
    with zipfile.ZipFile(name) as archive, open(name, "rb") as file:
        result = {}
        for info in archive.infolist():
            file.seek(info.header_offset + 26)
            skip = sum(struct.unpack("<HH", file.read(4)))
            file.seek(skip, 1)
            raw = file.read(info.compress_size)
            facts = info.compress_type, info.CRC, info.date_time, info.comment, info.external_attr
            result[info.filename] = (*facts, info.flag_bits, raw)
        return result


@pytest.mark.parametrize("method", ["stored", "deflated", "bzip2", "lzma"])
def test_an_archive_keeps_its_other_arrays(command, method):
    with zipfile.ZipFile("d.npz", "w", getattr(zipfile, f"ZIP_{method.upper()}")) as archive:
        for i, name in enumerate(("x", "y", "größe", "folder/z")):
            archive.writestr(f"{name}.npy", npy(X + i))
        archive.writestr("notes.txt", "no array")
        archive.comment = b"of the archive"
    before = members("d.npz")
    status, out, err = command("grad", "d.npz:x", "d.npz:y", "-o", "d.npz:g")
    assert (status, out, err) == (0, "d.npz:g: 3 x 4 float32\n", "")
    after = members("d.npz")
    assert list(after) == [*before, "g.npy"]
    assert {name: after[name] for name in before} == before
    with np.load("d.npz") as loaded:
        assert same_bits(loaded["g"], reference.grad(1.0, X, X + 1))
        assert same_bits(loaded["größe"], X + 2)
        assert loaded.zip.comment == b"of the archive"
        assert loaded.zip.testzip() is None
    # The same name replaces its array only, and leaves no dead bytes.
    size = os.path.getsize("d.npz")
    assert command("grad", "d.npz:x", "d.npz:y", "-g", 2, "-o", "d.npz:g.npy")[0] == 0
    assert list(members("d.npz")) == list(after)
    assert os.path.getsize("d.npz") == size
    assert same_bits(files.read("d.npz:g"), reference.grad(2.0, X, X + 1))
    # Without a name: the operator's.
    assert command("loss", "d.npz:x", "d.npz:y", "-o", "d.npz")[0] == 0
    assert list(members("d.npz")) == [*after, "loss.npy"]
    assert sorted(os.listdir()) == ["d.npz"]


def test_the_result_replaces_its_own_input(command):
    np.savez("d.npz", x=X, y=X + 1)
    assert command("grad", "d.npz:x", "d.npz:y", "-o", "d.npz:x")[0] == 0
    assert same_bits(files.read("d.npz:x"), reference.grad(1.0, X, X + 1))
    assert same_bits(files.read("d.npz:y"), X + 1)
    put("t.safetensors", safetensors({"x": ("F32", [3, 4], X), "y": ("F32", [3, 4], X + 1)}))
    assert command("grad", "t.safetensors:x", "t.safetensors:y", "-o", "t.safetensors:x")[0] == 0
    assert same_bits(files.read("t.safetensors:x"), reference.grad(1.0, X, X + 1))
    assert same_bits(files.read("t.safetensors:y"), X + 1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_safetensors_keep_their_other_tensors(here, dtype):
    official = pytest.importorskip("safetensors")
    given = {
        "w": ("F64", [2], np.float64([1, 2])),
        "x": ("F32", [3, 4], X),
        "h": ("F16", [3], np.float16([1, 2, 3])),
        "i": ("U8", [3], np.uint8([7, 8, 9])),
        "nothing": ("I64", [0, 5], np.zeros(0, np.int64)),
        "größe": ("BOOL", [1], np.bool_([True])),
    }
    metadata = {"format": "pt", "größe": "ä"}
    put("t.safetensors", safetensors(given, metadata))
    new = normal(3, (5, 3), dtype)
    for array in (new, new[:2]):  # added, then replaced by a smaller one
        add("t.safetensors:new", array)
        assert same_bits(files.read("t.safetensors:new"), array)
        with open("t.safetensors", "rb") as file:
            data = file.read()
        tensors = dict(official.deserialize(data))
        assert tensors.keys() == {*given, "new"}
        for name, (code, shape, content) in given.items():
            found = tensors[name]
            assert (found["dtype"], found["shape"], found["data"]) == (
                code,
                shape,
                content.tobytes(),
            )
        with official.safe_open("t.safetensors", "np") as opened:
            assert opened.metadata() == metadata
        begin = 8 + struct.unpack("<Q", data[:8])[0]
        for entry in (
            e for n, e in json.loads(data[8:begin]).items() if n in ("w", "x", "h", "new")
        ):
            width = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}[entry["dtype"]]
            assert (begin + entry["data_offsets"][0]) % width == 0  # aligned
    assert os.listdir() == ["t.safetensors"]


def test_an_archive_that_others_wrote_keeps_what_is_special(here):
    """A program in front, checksums after the data, a password, zip64 fields."""

    class Stream(io.BytesIO):
        def seekable(self):
            return False

        def tell(self):
            raise OSError("no place")

    stream = Stream()
    np.savez_compressed(stream, x=X, y=X + 1)
    put("s.npz", stream.getvalue())
    before = members("s.npz")
    add("s.npz:z", X + 2)
    assert {n: m for n, m in members("s.npz").items() if n != "z.npy"} == before
    assert all(same_bits(np.load("s.npz")[n], X + i) for i, n in enumerate("xyz"))
    program = io.BytesIO(b"#!/bin/sh\n")
    with zipfile.ZipFile(program, "a") as archive:
        archive.writestr("x.npy", npy(X))
    put("p.npz", program.getvalue())
    add("p.npz:z", X + 2)
    with open("p.npz", "rb") as file:
        assert file.read(10) == b"#!/bin/sh\n"
    assert same_bits(files.read("p.npz:x"), X)
    assert same_bits(files.read("p.npz:z"), X + 2)
    put("e.npz", BOTH_ENCRYPTED)
    add("e.npz:z", X + 2)
    assert members("e.npz")["x.npy"][-2:] == (1, zipfile_raw(DEFLATED))
    assert same_bits(files.read("e.npz:z"), X + 2)


def zipfile_raw(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (info,) = archive.infolist()
    begin = info.header_offset + 30 + len(info.filename)
    return data[begin : begin + info.compress_size]


def test_names_that_cannot_be_kept_are_refused(here):
    data = zipped(("xä.npy", npy(X)))
    name = "xä.npy".encode()
    data = data.replace(name, b"x\x84y.npy"[: len(name)])  # a DOS name of the same length
    data = at(at(data, LOCAL, 6, "<H", 0), CENTRAL, 8, "<H", 0)
    put("dos.npz", data)
    with pytest.raises(files.FileError, match=r"^dos.npz: .*a name that cannot be kept$"):
        add("dos.npz:z", X)
    with open("dos.npz", "rb") as file:
        assert file.read() == data


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("raised", [RuntimeError, KeyboardInterrupt, ValueError])
def test_a_failure_leaves_the_old_file(here, suffix, raised):
    add(f"o{suffix}", X, "x")
    with open(f"o{suffix}", "rb") as file:
        before = file.read()

    def fail():
        with files.write(f"o{suffix}", (5,), np.float32, "y") as put:
            put(np.ones(2, np.float32))
            raise raised("midway")

    with pytest.raises(raised, match=r"^midway$"):
        fail()
    with open(f"o{suffix}", "rb") as file:
        assert file.read() == before
    assert os.listdir(here) == [f"o{suffix}"]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(command, monkeypatch, suffix, step):
    np.save("x.npy", X)
    add(f"o{suffix}", X, "x")
    with open(f"o{suffix}", "rb") as file:
        before = file.read()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, step, full)
    expected = (2, "", f"mseloss: o{suffix}: No space left on device\n")
    assert command("grad", "x.npy", "x.npy", "-o", f"o{suffix}") == expected
    with open(f"o{suffix}", "rb") as file:
        assert file.read() == before
    assert sorted(os.listdir()) == sorted([f"o{suffix}", "x.npy"])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("existed", [True, False])
def test_an_archive_that_changes_meanwhile_is_not_overwritten(here, suffix, existed):
    if existed:
        add(f"a{suffix}:x", X)

    def other():
        with files.write(f"a{suffix}:z", X.shape, X.dtype, "z") as put:
            add(f"a{suffix}:y", X + 1)
            put(X + 2)

    with pytest.raises(files.FileError, match=rf"^a{suffix}: changed by another program"):
        other()
    assert same_bits(files.read(f"a{suffix}:y"), X + 1)
    assert os.listdir() == [f"a{suffix}"]


def test_mode_and_link_of_the_destination(here):
    os.mkdir("folder")
    for suffix in (".npy", ".npz", ".safetensors"):
        add(f"folder/o{suffix}", X)
        os.chmod(f"folder/o{suffix}", 0o640)
        os.symlink(f"folder/o{suffix}", f"link{suffix}")
        add(f"link{suffix}", X + 1)
        assert os.path.islink(f"link{suffix}")
        assert same_bits(files.read(f"folder/o{suffix}"), X + 1)
        assert stat.S_IMODE(os.stat(f"folder/o{suffix}").st_mode) == 0o640
    mask = os.umask(0o022)
    os.umask(mask)
    add("new.npz", X)
    assert stat.S_IMODE(os.stat("new.npz").st_mode) == 0o666 & ~mask


def test_what_cannot_be_a_destination(command):
    np.save("x.npy", X)
    os.mkfifo("pipe.npy")
    os.mkdir("folder.npy")
    put("empty.npz", b"")
    expected = {
        "pipe.npy": "pipe.npy: exists and is not a regular file",
        "folder.npy": "folder.npy: exists and is not a regular file",
        "x.npy/o.npy": "x.npy/o.npy: no such folder",
        "o.npz:": "o.npz: the name after the colon is empty",
        "o.safetensors:": "o.safetensors: the name after the colon is empty",
        "o.npz:\udcff": "o.npz: cannot be written: 'utf-8' codec can't encode",
        "o.npz:" + "n" * 70_000: "o.npz: ",
        "o" * 300 + ".npy": "o" * 300 + ".npy: File name too long",
    }
    before = sorted(os.listdir())
    for name, words in expected.items():
        status, out, err = command("grad", "x.npy", "x.npy", "-o", name)
        assert (status, out) == (2, "")
        assert err.startswith(f"mseloss: {words}")
        assert err.count("\n") == 1
        assert sorted(os.listdir()) == before
    assert command("grad", "x.npy", "x.npy", "-o", "empty.npz:g")[0] == 0
    assert np.load("empty.npz").files == ["g"]


def test_an_error_of_the_operator_does_not_blame_the_file(command):
    np.save("x.npy", np.zeros((1,) * 9, np.float32))
    status, _, err = command("grad", "x.npy", "x.npy", "-o", "o.npy")
    assert status == 2
    assert "o.npy" not in err
    with pytest.raises(ValueError, match="at most 8") as raised:
        mseloss.grad(1.0, np.zeros((1,) * 9, np.float32), np.zeros((1,) * 9, np.float32))
    assert err == f"mseloss: {raised.value}\n"
    assert os.listdir() == ["x.npy"]
