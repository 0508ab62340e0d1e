"""The shell command reads any byte order, memory order and file name as NumPy does."""

import json
import subprocess
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
from array_files import X, add, npy
from conftest import normal, same_bits
from mseloss import reference
from mseloss.cli import chunked, files


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
    expected = "mseloss: y.npy: expected the dtype of x.npy, float32, got float64\n"
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
