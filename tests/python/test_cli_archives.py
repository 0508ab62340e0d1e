"""Results written to existing files: other arrays are kept, and a failure leaves the file unchanged."""

import io
import json
import os
import stat
import struct
import zipfile

import ml_dtypes
import mseloss
import numpy as np
import pytest
from array_files import Unseekable, X, add, at, npy, put, safetensors, zipped
from conftest import normal, same_bits
from damaged_files import BOTH_ENCRYPTED, CENTRAL, DEFLATED, LOCAL
from mseloss import reference
from mseloss.cli import files
from mseloss.cli.files import writing


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
    refused = "mseloss: {}: is also an input; choose another name, or replace it with --force\n"
    arguments = ("grad", "d.npz:x", "d.npz:y", "-o", "d.npz:x")
    assert command(*arguments) == (2, "", refused.format("d.npz:x"))
    assert command(*arguments, "--force")[0] == 0
    assert same_bits(files.read("d.npz:x"), reference.grad(1.0, X, X + 1))
    assert same_bits(files.read("d.npz:y"), X + 1)
    put("t.safetensors", safetensors({"x": ("F32", [3, 4], X), "y": ("F32", [3, 4], X + 1)}))
    arguments = ("grad", "t.safetensors:x", "t.safetensors:y", "-o", "t.safetensors:x")
    assert command(*arguments) == (2, "", refused.format("t.safetensors:x"))
    assert command(*arguments, "--force")[0] == 0
    assert same_bits(files.read("t.safetensors:x"), reference.grad(1.0, X, X + 1))
    assert same_bits(files.read("t.safetensors:y"), X + 1)


@pytest.mark.parametrize("given", [["x.npy"], ["x", "x.npy"], ["x"], ["x.npy", "y"], ["x.npy.npy"]])
def test_a_name_that_ends_in_npy_replaces_what_it_reads(command, given):
    """numpy.savez stores the array "x.npy" as the member "x.npy.npy"."""
    x, y = normal(1, (3, 4)), normal(2, (3, 4))
    np.save("x.npy", x)
    np.save("y.npy", y)
    np.savez("a.npz", **{name: np.full(2, i, np.float32) for i, name in enumerate(given)})
    with np.load("a.npz") as before:
        replaced = "x.npy" in before  # by the name of an array or of its member
    assert command("grad", "x.npy", "y.npy", "-o", "a.npz:x.npy")[0] == 0
    assert same_bits(files.read("a.npz:x.npy"), reference.grad(1.0, x, y))
    with np.load("a.npz") as after:
        assert same_bits(after["x.npy"], reference.grad(1.0, x, y))
        assert len(set(after.files)) == len(after.files) == len(given) + (not replaced)


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

    stream = Unseekable()
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

    with pytest.raises(files.FileError, match=rf"^a{suffix}: another program changed the file"):
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
        "o.npz:.npy": "o.npz: the name after the colon is empty",
        "o.safetensors:": "o.safetensors: the name after the colon is empty",
        "o.safetensors:__metadata__": "o.safetensors: __metadata__ cannot be the name of a tensor",
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


def test_an_error_of_the_operator_does_not_blame_the_file(command, monkeypatch):
    def broken(*arguments):
        raise ValueError("input: expected something else")

    np.save("x.npy", X)
    monkeypatch.setattr(mseloss._core, "grad_part", broken)
    expected = "mseloss: input: expected something else\n"
    assert command("grad", "x.npy", "x.npy", "-o", "o.npy") == (2, "", expected)
    assert os.listdir() == ["x.npy"]
