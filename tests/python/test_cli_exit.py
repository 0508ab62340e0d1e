"""Exit statuses: 1 means "not equal" and nothing else."""

import os
import subprocess
import sys

import numpy as np
import pytest
from array_files import X, put
from damaged_files import DAMAGED
from mseloss.cli import chunked

pytest.importorskip("typer")


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
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_output_that_cannot_be_written_is_not_status_1(here, monkeypatch, unbuffered):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
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
            assert done.stderr == "mseloss: standard output: No space left on device\n"
        assert process("check", "a.npy", "none.npy", stderr=full).returncode == 2
    reader, writer = os.pipe()
    os.close(reader)
    for arguments in (("check", "a.npy", "b.npy"), ("check", "--help")):
        done = process(*arguments, stdout=writer)
        assert done.returncode == 2
        assert done.stderr.startswith("mseloss: standard output")
        assert done.stderr.count("\n") == 1
    os.close(writer)
    assert closed("2>&-", "check", "a.npy", "none.npy") == (2, "", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("loss", "a.npy", "a.npy"),
        ("grad", "a.npy", "a.npy", "-o", "o.npy"),
        ("check", "a.npy", "a.npy"),
        ("info",),
        ("--help",),
        ("--version",),
    ],
    ids=lambda v: v[0],
)
def test_a_closed_standard_output_is_status_2(here, arguments):
    np.save("a.npy", X)
    assert closed(">&-", *arguments) == (2, "", "mseloss: standard output: closed\n")
    assert os.listdir() == ["a.npy"]


def closed(redirection, *arguments):
    code = f'"$0" -c "from mseloss.cli import main; main()" "$@" {redirection}'
    shell = ["bash", "-c", code, sys.executable, *arguments]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=100)
    return done.returncode, done.stdout, done.stderr


def test_names_that_are_no_text(here):
    np.save("y.npy", X)
    done = process("loss", "y.npy", "y.npy", "-o", b"\xff.npy")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.0\n", "")
    done = process("grad", "y.npy", "y.npy", "-o", b"\xff.npy")
    assert (done.returncode, done.stdout) == (0, "\\udcff.npy: 3 x 4 float32\n")
    done = process("check", "y.npy", b"\xfe\n.npy")
    assert (done.returncode, done.stderr) == (2, "mseloss: \\udcfe .npy: no such file\n")
