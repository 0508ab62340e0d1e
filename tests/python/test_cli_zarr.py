"""The shell command on Zarr arrays: chunk by chunk, with the results of .npy files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import normal, same_bits
from mseloss import reference

zarr = pytest.importorskip("zarr")
pytest.importorskip("dask")


@pytest.fixture
def stores(here, monkeypatch):
    """x and y as .npy and as .zarr (formats 3 and 2) of different chunks; many blocks."""
    from mseloss.cli import lazy

    monkeypatch.setattr(lazy, "_BLOCK", 20_000)
    x, y = normal(1, (90, 70)), normal(2, (90, 70))
    for name, array, chunks, form in (("x", x, (20, 30), 3), ("y", y, (33, 70), 2)):
        np.save(f"{name}.npy", array)
        put(f"{name}.zarr", array, chunks, zarr_format=form)
    return x, y


def put(path, array, chunks, **options):
    store = zarr.create_array(path, shape=array.shape, chunks=chunks, dtype=array.dtype, **options)
    store[...] = array


def line(value):
    return f"{value!s}\n"


def content(path):
    return zarr.open_array(path, mode="r")[...]


@pytest.mark.parametrize("left", ["x.npy", "x.zarr"])
@pytest.mark.parametrize("right", ["y.npy", "y.zarr"])
def test_any_combination_of_files(stores, command, left, right):
    x, y = stores
    assert command("loss", left, right)[:2] == (0, line(reference.loss(x, y)))
    assert command("loss", left, right, "-r", "sum")[1] == line(reference.loss(x, y, "sum"))
    assert command("grad", left, right, "-o", "g.zarr", "-g", "3")[0] == 0
    assert same_bits(content("g.zarr"), reference.grad(3.0, x, y))
    assert command("check", "g.zarr", "-x", left, "-y", right, "-g", "3", "-t", "0")[0] == 0
    assert command("grad", left, right, "-o", "g.npy", "-r", "none", "--dtype", "float16")[0] == 0
    assert same_bits(np.load("g.npy"), reference.grad(1.0, x, y, "none", dtype="float16"))


def test_weights_axes_and_elementwise_losses(stores, command):
    x, y = stores
    w, mask = np.abs(normal(3, (90, 1))), normal(4, (90, 70)) > 0
    np.save("w.npy", w)
    put("mask.zarr", mask, (40, 70))
    assert command("loss", "x.zarr", "y.zarr", "-w", "w.npy")[1] == line(
        reference.loss(x, y, weight=w)
    )
    assert command("grad", "x.zarr", "y.npy", "-w", "mask.zarr", "-o", "m.zarr")[0] == 0
    assert same_bits(content("m.zarr"), reference.loss_and_grad(x, y, weight=mask)[1])
    assert command("loss", "x.zarr", "y.zarr", "-a", "0", "-o", "a.zarr")[0] == 0
    assert same_bits(content("a.zarr"), reference.loss(x, y, axis=0))
    assert command("loss", "x.zarr", "y.zarr", "-a", "1", "-o", "a.npz:rows")[0] == 0
    assert same_bits(np.load("a.npz")["rows"], reference.loss(x, y, axis=1))
    assert command("loss", "x.zarr", "y.zarr", "-r", "none", "-o", "n.zarr")[0] == 0
    assert same_bits(content("n.zarr"), reference.loss(x, y, "none"))
    assert command("loss", "x.npy", "y.npy", "-o", "v.zarr")[0] == 0
    assert same_bits(content("v.zarr"), reference.loss(x, y))


def test_groups(stores, command):
    x, y = stores
    group = zarr.open_group("g.zarr", mode="w")
    group.create_array("x", data=x)
    group.create_group("deep").create_array("y", data=y)
    assert command("loss", "g.zarr:x", "g.zarr:deep/y")[1] == line(reference.loss(x, y))
    assert command("loss", "g.zarr", "g.zarr:deep/y")[1] == line(reference.loss(x, y))


def test_negative_zeros_and_replaced_stores(stores, command):
    zeros = np.zeros((90, 70), np.float32)
    put("zero.zarr", zeros, (20, 30))
    for number in ("-1", "1"):
        status, _, err = command("grad", "zero.zarr", "zero.zarr", "-g", number, "-o", "o.zarr")
        assert (status, err) == (0, "")
        assert same_bits(content("o.zarr"), np.copysign(zeros, float(number)))
    assert not [name for name in os.listdir() if name.startswith(".mseloss")]


def test_a_missing_chunk_has_the_fill_value(stores, command):
    x, y = stores
    os.remove("y.zarr/1.0")
    y[33:66] = 0
    assert command("loss", "x.zarr", "y.zarr")[1] == line(reference.loss(x, y))
    partly = zarr.create_array(
        "f.zarr", shape=(90, 70), chunks=(45, 70), dtype="f4", fill_value=2.5
    )
    partly[:45] = x[:45]
    x[45:] = 2.5
    assert command("loss", "f.zarr", "y.zarr")[1] == line(reference.loss(x, y))
    store = zarr.create_array(
        "n.zarr", shape=(9,), chunks=(3,), dtype="f4", zarr_format=2, fill_value=None
    )
    store[:3] = 1
    status, _, err = command("loss", "n.zarr", "n.zarr")
    assert status == 2
    assert err == "mseloss: n.zarr: 2 of 3 chunks are missing, and the array has no fill value\n"


def test_larger_than_the_memory_that_is_used(here):
    """Two sparse arrays of 1 GiB each, with default blocks."""
    for name in ("x", "y"):
        store = zarr.create_array(f"{name}.zarr", shape=(1 << 28,), chunks=(1 << 22,), dtype="f4")
        store[-2:] = 3 if name == "x" else 1
    code = """
import sys
from mseloss.cli import app
status = app.run(sys.argv[1:])
with open("/proc/self/status") as file:
    peak = next(line.split()[1] for line in file if line.startswith("VmHWM"))
print(status, int(peak) >> 10)
"""
    arguments = ["loss", "x.zarr", "y.zarr", "-r", "sum"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=100
    )
    value, summary = done.stdout.splitlines()
    status, peak = map(int, summary.split())
    assert (value, status) == ("8.0", 0)
    assert peak < 1024  # MiB


@pytest.mark.parametrize("damage", [b"", b"no chunk", None], ids=["empty", "other", "cut"])
def test_a_chunk_that_cannot_be_decoded_is_one_sentence(stores, command, damage):
    file = Path("x.zarr/c/2/1")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] if damage is None else damage)
    for arguments in (["loss"], ["grad", "-o", "g.zarr"], ["grad", "-o", "g.npy"]):
        status, out, err = command(*arguments, "x.zarr", "y.zarr")
        assert (status, out) == (2, "")
        assert err.startswith("mseloss: x.zarr: the block that begins at (40, ")
        assert " cannot be read: " in err
        assert err.count("\n") == 1
    assert sorted(os.listdir()) == ["x.npy", "x.zarr", "y.npy", "y.zarr"]


def test_the_commands_of_the_page(here, command):
    x, y = normal(1, (9, 8)), normal(2, (9, 8))
    put("prediction.zarr", x, (3, 8))
    put("target.zarr", y, (4, 4))
    np.save("target.npy", y)
    page = (Path(__file__).parents[2] / "docs/dask.md").read_text(encoding="utf-8")
    lines = re.findall(r"^mseloss (.*)", page, re.M)
    assert len(lines) == 3
    results = [command(*arguments.split()) for arguments in lines]
    assert [(status, err) for status, _, err in results] == [(0, "")] * 3
    assert results[0][1] == line(reference.loss(x, y))
    assert same_bits(content("gradient.zarr"), reference.grad(1.0, x, y))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["loss", "none.zarr", "y.zarr"], "none.zarr: no such folder"),
        (["loss", "file.zarr", "y.zarr"], "file.zarr: not a folder"),
        (["loss", "folder.zarr", "y.zarr"], "folder.zarr: no Zarr array or group"),
        (["loss", "x.zarr:name", "y.zarr"], "x.zarr: a Zarr array, which has no names"),
        (
            ["loss", "int.zarr", "y.zarr"],
            "int.zarr: expected float32, float16, bfloat16 or float64, got int32",
        ),
        (
            ["loss", "x.zarr", "half.zarr"],
            "x.zarr, half.zarr: expected shapes that broadcast together",
        ),
        (
            ["grad", "x.zarr", "y.zarr", "-o", "o.npz"],
            "o.npz: expected a .zarr store or a .npy file",
        ),
        (
            ["grad", "x.npy", "y.npy", "-o", "folder.zarr"],
            "folder.zarr: exists and is not a Zarr array",
        ),
        (
            ["grad", "x.npy", "y.npy", "-o", "o.zarr:a"],
            "o.zarr: results are written to a store of their own",
        ),
        (["grad", "x.npy", "y.npy", "-o", "no/o.zarr"], "no/o.zarr: no such folder"),
        (
            ["grad", "x.npy", "y.npy", "-o", "o.zarr", "--dtype", "bfloat16"],
            "o.zarr: Zarr has no bfloat16",
        ),
        (
            ["loss", "x.zarr", "y.zarr", "-a", "2", "-o", "o.npy"],
            "axis: expected dimensions of an array",
        ),
    ],
)
def test_errors(stores, command, arguments, words):
    Path("file.zarr").touch()
    os.mkdir("folder.zarr")
    put("int.zarr", np.ones((90, 70), np.int32), (90, 70))
    put("half.zarr", normal(1, (45, 70)), (45, 70))
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"mseloss: {words}")
    assert err.count("\n") == 1
    assert not [name for name in os.listdir() if name.startswith(".mseloss")]
