"""Faults of files and memory while the command runs: one line, exit status 2, and no half-written result."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("typer")

COUNT = 1 << 18  # float32 elements: 256 pages of a file

# Runs the command in a process of its own, with a change before the operands' first part is read.
SCRIPT = """
import os, sys
from mseloss.cli import app, chunked
before = chunked._at
def at(array, index):
    if {condition}:
        {change}
    return before(array, index)
chunked._at = at
sys.exit(app.run(sys.argv[1:]))
"""


def run(*arguments, change="pass", condition="True", **options):
    script = SCRIPT.format(change=change, condition=condition)
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.arange(COUNT, dtype=np.float32)
    np.save("x.npy", x)
    np.save("y.npy", x + 1)
    return ["x.npy", "y.npy"]


@pytest.mark.parametrize(
    "command",
    [
        ("loss", "x.npy", "y.npy"),
        ("loss", "x.npy", "y.npy", "-r", "none", "-o", "out.npy"),
        ("grad", "x.npy", "y.npy", "-o", "out.npy"),
        ("grad", "x.npy", "y.npy", "-o", "out.safetensors"),
        ("check", "x.npy", "y.npy"),
        ("check", "x.npy", "-x", "x.npy", "-y", "y.npy"),
    ],
    ids=" ".join,
)
def test_file_shortened_while_it_is_read(arrays, command):
    status, out, err = run(*command, change="os.truncate('y.npy', 5000)")
    assert (status, out) == (2, "")
    assert err == "mseloss: y.npy: another program shortened the file while it was read\n"
    assert sorted(os.listdir()) == arrays


def test_file_shortened_within_its_last_page_is_found_by_its_content(arrays):
    # No fault: the rest of the last page reads as zeros, which no program can tell from data.
    status, _, err = run(
        "loss", *arrays, change="os.truncate('y.npy', os.path.getsize('y.npy') - 4)"
    )
    assert (status, err) == (0, "")


def test_signal_of_another_cause_still_ends_the_process(arrays):
    status, _, _ = run("loss", *arrays, change="os.kill(os.getpid(), 7)")
    assert status == -7


@pytest.mark.parametrize("out", ["out.npy", "out.npz", "out.safetensors"])
def test_largest_file_size_of_the_process(arrays, out):
    limit = (1 << 16, 1 << 16)
    status, printed, err = run(
        "grad",
        *arrays,
        "-o",
        out,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert (status, printed) == (2, "")
    assert err.startswith(f"mseloss: {out}: ")
    assert err.count("\n") == 1
    assert sorted(os.listdir()) == arrays


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount program")
    if done.returncode != 0:
        pytest.skip("this process may not mount a file system of a limited size")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("out", ["out.npy", "out.npz", "out.safetensors"])
def test_full_disk(arrays, small_disk, out):
    status, printed, err = run("grad", *arrays, "-o", small_disk / out)
    assert (status, printed) == (2, "")
    assert err == f"mseloss: {small_disk / out}: No space left on device\n"
    assert os.listdir(small_disk) == []


def test_full_disk_under_a_mapped_result(arrays, small_disk):
    pytest.importorskip("zarr")
    pytest.importorskip("dask")
    import zarr

    zarr.save("z.zarr", np.load("x.npy"))
    status, printed, err = run("grad", "z.zarr", "y.npy", "-o", small_disk / "out.npy")
    assert (status, printed) == (2, "")
    assert err.startswith("mseloss: a mapped file cannot be read or written: no space left")
    assert err.count("\n") == 1
    assert os.listdir(small_disk) == []


def test_little_address_space(arrays):
    """From too little for an interpreter to enough: a result, one line, or the interpreter's own failure."""
    expected = run("loss", *arrays)
    good = 0
    for megabytes in (200, 400, 700, 1000, 1500, 2500, 6000):
        limit = (megabytes << 20, megabytes << 20)
        status, out, err = run(
            "loss",
            *arrays,
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_AS, limit),
        )
        assert status >= 0, f"{megabytes} MB: signal {-status}: {err}"
        good += (status, out) == expected[:2]
    assert good > 0
