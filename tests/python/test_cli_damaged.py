"""Damaged files and files with false records: one line names the file and the fault, and the status is 2."""

import os
import zipfile

import numpy as np
import pytest
from array_files import X, put
from conftest import same_bits
from damaged_files import DAMAGED
from mseloss.cli import files
from mseloss.cli.files import reading


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
