"""The shell command on real files."""

import json
import os
import subprocess
import sys

import ml_dtypes
import mseloss
import numpy as np
import pytest
from conftest import DTYPES, normal, same_bits
from mseloss import reference
from mseloss.cli import files

pytest.importorskip("typer")


def save(name, array):
    with files.write(name, array.shape, array.dtype, "x") as put:
        put(array)
    return name


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("shape", [(37, 113), (), (0, 3), (5000,), (1, 2, 3000)], ids=str)
def test_files_hold_arrays(here, suffix, shape, dtype):
    array = normal(1, shape, dtype) if shape else np.asarray(2.5, dtype)
    with files.write(f"a{suffix}", shape, dtype, "x") as put:
        put(array)
    assert same_bits(files.read(f"a{suffix}"), array)
    assert os.listdir(here) == [f"a{suffix}"]


def test_files_of_others(here):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    x, y = normal(1, (30, 40)), normal(2, (30, 40), np.float16)
    np.savez("n.npz", x=x, y=y.T)
    np.savez_compressed("c.npz", x=x)
    save_file({"x": x, "y": y}, "s.safetensors")
    np.save("fortran.npy", x.T)
    np.save("bf16.npy", x.astype(ml_dtypes.bfloat16))
    assert same_bits(files.read("n.npz:x"), x)
    assert same_bits(files.read("n.npz:y"), y.T)
    assert isinstance(files.read("n.npz:y"), np.memmap)
    assert same_bits(files.read("c.npz"), x)
    assert same_bits(files.read("s.safetensors:y"), y)
    assert same_bits(files.read("fortran.npy"), x.T)
    assert same_bits(files.read("bf16.npy"), x.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_others_read_our_files(here, suffix):
    x = normal(1, (30, 40))
    save(f"x{suffix}", x)
    if suffix == ".safetensors":
        load_file = pytest.importorskip("safetensors.numpy").load_file
        assert same_bits(load_file("x.safetensors")["x"], x)
    else:
        loaded = np.load(f"x{suffix}")
        assert same_bits(loaded if suffix == ".npy" else loaded["x"], x)


def test_grad(command, dtype, reduction):
    x, y, g = normal(1, (70, 90), dtype), normal(2, (70, 1), dtype), normal(3, 90, dtype)
    for name, array in (("x.npy", x), ("y.npz", y), ("g.safetensors", g)):
        save(name, array)
    options = ("--grad-output", "g.safetensors", "-r", reduction)
    status, out, err = command("grad", "x.npy", "y.npz", "-o", "out.npy", *options)
    assert (status, err) == (0, "")
    assert out == f"out.npy: 70 x 90 {dtype.name}\n"
    assert same_bits(files.read("out.npy"), reference.grad(g, x, y, reduction))
    status, out, _ = command(
        "check", "out.npy", "-x", "x.npy", "-y", "y.npz", "-t", 0, *options, "--json"
    )
    assert status == 0
    assert json.loads(out)["ok"] is True


def test_grad_converts_and_takes_numbers(command):
    x, y = normal(1, 5000), normal(2, 5000)
    save("x.npy", x)
    save("y.npy", y)
    assert (
        command("grad", "x.npy", "y.npy", "-o", "g.npy", "-g", "0.1", "--dtype", "bfloat16")[0] == 0
    )
    expected = reference.grad(0.1, x, y, dtype=ml_dtypes.bfloat16)
    assert same_bits(files.read("g.npy"), expected)
    status, out, _ = command("grad", "x.npy", "y.npy", "-o", "g.safetensors", "--json")
    assert status == 0
    assert json.loads(out) == {"out": "g.safetensors", "shape": [5000], "dtype": "float32"}


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_loss(command, dtype, how):
    x, y = normal(1, (70, 90), dtype), normal(2, 90, dtype)
    save("x.npy", x)
    save("y.npy", y)
    expected = reference.loss(x, y, how)
    status, out, _ = command("loss", "x.npy", "y.npy", "-r", how, "-o", "l.npy")
    assert status == 0
    assert same_bits(dtype.type(float(out)), expected)
    assert same_bits(files.read("l.npy"), expected)
    assert (
        command("check", "l.npy", "-x", "x.npy", "-y", "y.npy", "-r", how, "--operator", "loss")[0]
        == 0
    )
    _, out, _ = command("loss", "x.npy", "y.npy", "-r", how, "--json", "--dtype", "float64")
    assert json.loads(out)["loss"] == reference.loss(x, y, how, dtype=np.float64)


def test_loss_elementwise(command):
    x, y = normal(1, (70, 90)), normal(2, 90)
    save("x.npy", x)
    save("y.npy", y)
    assert command("loss", "x.npy", "y.npy", "-r", "none", "-o", "l.npy")[0] == 0
    assert same_bits(files.read("l.npy"), reference.loss(x, y, "none"))
    options = ("-x", "x.npy", "-y", "y.npy", "-r", "none", "--operator", "loss")
    assert command("check", "l.npy", *options)[0] == 0


def test_check_finds_and_draws_a_defect(command, here):
    x, y = normal(1, (640, 100), np.float16), normal(2, (640, 100), np.float16)
    wrong = reference.grad(1.0, x, y)
    wrong[3::16] *= np.float16(1.5)
    for name, array in (("x.npy", x), ("y.npy", y), ("device.npy", wrong)):
        save(name, array)
    arguments = ("device.npy", "--input", "x.npy", "--target", "y.npy")
    status, out, _ = command("check", *arguments, "--plot", "errors.png")
    assert status == 1
    assert "NOT OK" in out
    assert "every 16th row: 3, 19, ..." in out
    assert "from grad_output 1, input " in out
    assert (here / "errors.png").stat().st_size > 10_000
    status, out, _ = command("check", *arguments, "--json", "--worst", 3)
    report = json.loads(out)
    assert status == 1
    assert len(report["worst"]) == 3
    assert report["worst"][0]["index"][0] % 16 == 3
    assert set(report["worst"][0]["inputs"]) == {"grad_output", "input", "target"}
    assert command("check", *arguments, "-t", 10_000)[0] == 0


def test_check_two_arrays(command):
    x = normal(1, (50, 50))
    save("a.npy", x)
    save("b.npy", np.nextafter(x, np.float32(np.inf)))
    save("c.npy", x.T[:10])
    assert command("check", "a.npy", "a.npy", "--tolerance", "0")[0] == 0
    assert command("check", "a.npy", "b.npy")[0] == 0
    assert command("check", "a.npy", "b.npy", "--tolerance", "0")[0] == 1
    status, out, _ = command("check", "a.npy", "c.npy")
    assert status == 1
    assert "shapes differ" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["grad", "x.npy", "x.npy"], "--out: missing; see mseloss grad --help"),
        (["grad", "x.npy", "none.npy", "-o", "o.npy"], "none.npy: no such file"),
        (["grad", "x.npy", "x.npy", "-o", "o.txt"], "o.txt: expected a name that ends in .npy"),
        (["grad", "x.npy", "x.npy", "-o", "no/folder/o.npy"], "no such folder"),
        (["grad", "x.npy", "int.npy", "-o", "o.npy"], "int.npy: expected float32"),
        (
            ["grad", "x.npy", "half.npy", "-o", "o.npy"],
            "half.npy: expected the dtype of x.npy, float32",
        ),
        (
            ["grad", "x.npy", "x.npy", "-o", "o.npy", "-g", "half.npy"],
            "half.npy: expected the dtype of x.npy, float32, got float16",
        ),
        (
            ["grad", "x.npy", "other.npy", "-o", "o.npy"],
            "x.npy, other.npy: expected shapes that broadcast together, got (20, 30), (7, 30)",
        ),
        (["loss", "x.npy", "other.npy"], "x.npy, other.npy: expected shapes that broadcast"),
        (
            ["check", "x.npy", "-x", "x.npy", "-y", "x.npy", "-g", "other.npy"],
            "other.npy, x.npy, x.npy: expected shapes that broadcast together",
        ),
        (["loss", "x.npy", "deep.npy"], "deep.npy: expected at most 8 dimensions, got 9"),
        (
            ["grad", "x.npy", "x.npy", "-o", "o.npy", "-g", "deep.npy"],
            "deep.npy: expected at most 8 dimensions, got 9",
        ),
        (["grad", "x.npy", "x.npy", "-o", "o.npy", "-g", ""], "--grad-output: expected a number"),
        (["loss", "x.npy", ""], "'': no file name; give"),
        (["grad", "x.npy", "x.npy", "-o", ""], "'': no file name; give"),
        (["grad", "x.npy", "text.npy", "-o", "o.npy"], "text.npy: not .npy data"),
        (["grad", "x.npy", "text.npz", "-o", "o.npy"], "text.npz: not a readable .npz file"),
        (["grad", "x.npy", "text.safetensors", "-o", "o.npy"], "text.safetensors: not a"),
        (["grad", "x.npy", "two.npz", "-o", "o.npy"], "it has a, b"),
        (["grad", "x.npy", "two.npz:c", "-o", "o.npy"], "no array 'c'; select one of a, b"),
        (["grad", "x.npy", "x.npy", "-o", "o.npy", "-r", "max"], "'max' is not one of"),
        (["loss", "x.npy", "x.npy", "-r", "none"], "--out: missing"),
        (["loss", "x.npy", "int.npy"], "int.npy: expected float32"),
        (["check", "x.npy"], "EXPECTED: missing; give it"),
        (["check", "x.npy", "--input", "x.npy"], "--target: missing; give both"),
        (["check", "x.npy", "x.npy", "--tolerance", "-1"], "tolerance"),
        (
            ["check", "x.npy", "-x", "x.npy", "-y", "x.npy", "--operator", "loss", "-g", "2"],
            "--grad-output: not used by --operator loss",
        ),
        (["check", "x.npy", "x.npy", "--plot", "p.nonsense"], "p.nonsense"),
        (["frobnicate"], "No such command"),
        (["info", "--frobnicate"], "--frobnicate: no such option; see mseloss info --help"),
    ],
    ids=lambda v: "" if isinstance(v, str) else " ".join(v),
)
def test_bad_usage_is_one_line_and_status_2(command, here, arguments, words):
    x = normal(1, (20, 30))
    np.save("x.npy", x)
    np.save("int.npy", np.ones((20, 30), int))
    np.save("half.npy", x.astype(np.float16))
    np.save("other.npy", x[:7])
    np.save("deep.npy", np.ones((1,) * 9, np.float32))
    np.savez("two.npz", a=x, b=x)
    for suffix in ("npy", "npz", "safetensors"):
        (here / f"text.{suffix}").write_text("this is no array")
    before = sorted(os.listdir(here))
    status, out, err = command(*arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("mseloss: ")
    assert err.count("\n") == 1
    assert words in err
    assert sorted(os.listdir(here)) == before


def test_a_failed_write_leaves_the_old_file(here):
    save("o.npy", np.ones(3, np.float32))

    def fail():
        with files.write("o.npy", (5,), np.float32, "x") as put:
            put(np.ones(2, np.float32))
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail()
    assert np.load("o.npy").tolist() == [1, 1, 1]
    assert os.listdir(here) == ["o.npy"]


def test_info_and_version(command):
    status, out, _ = command("info")
    assert status == 0
    assert mseloss.info()["target"] in out
    facts = json.loads(command("info", "--json")[1])
    assert facts["version"] == mseloss.__version__
    for key in ("memory_limit_bytes", "memory_bytes", "processor_count", "threads"):
        assert type(facts[key]) is int
    for value in facts.values():
        assert value is None or isinstance(value, (str, bool, int, list))
        assert value != "not installed"
    for option in ("--version", "-V"):
        assert command(option) == (0, mseloss.__version__ + "\n", "")
    run = subprocess.run([sys.executable, "-m", "mseloss", "-V"], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, mseloss.__version__ + "\n", "")


def test_bench(command):
    status, out, _ = command("bench", "-n", 20000, "--repeat", 3)
    assert status == 0
    assert "grad, out=: NumPy" in out
    for dtype in DTYPES:
        status, out, _ = command(
            "bench", "-n", 2000, "--repeat", 3, "--dtype", dtype.name, "--json"
        )
        assert status == 0
        assert len(json.loads(out)["cases"]) == 8
    for size, count in (("2k", 2000), ("1Ki", 1024), ("0.5k", None), ("1Q", None), ("0", None)):
        status, out, err = command("bench", "-n", size, "--repeat", 3, "--json")
        if count is None:
            assert (status, err.count("\n")) == (2, 1)
            assert err.startswith("mseloss: --size: ")
        else:
            assert json.loads(out)["size"] == count


@pytest.mark.parametrize("name", ["", "grad", "loss", "check", "info", "bench"])
def test_help(command, name):
    status, out, err = command(*([name] if name else []), "--help")
    assert (status, err) == (0, "")
    assert "Usage:" in out


# As a separate process --------------------------------------------------------------------------


def run(*arguments, **options):
    command = [sys.executable, "-c", "from mseloss.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, **options)


def test_as_a_process(here):
    save("x.npy", normal(1, 1000))
    save("y.npy", normal(2, 1000))
    assert run("check", "x.npy", "x.npy").returncode == 0
    assert run("check", "x.npy", "y.npy").returncode == 1
    done = run("check", "x.npy")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert run().returncode in (0, 2)


def test_completion_for_shells(here):
    environment = {**os.environ, "_MSELOSS_COMPLETE": "complete_bash"}
    environment |= {"COMP_WORDS": "mseloss ch", "COMP_CWORD": "1"}
    assert run(env=environment).stdout.split() == ["check"]


def test_larger_than_the_memory_it_may_use(here):
    """A sparse file of 512 MiB under a limit of 400 MiB of private memory."""
    x = np.lib.format.open_memmap("x.npy", "w+", np.float16, (1 << 28,))
    x[-1] = 3
    del x
    code = """
import resource
resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))
from mseloss.cli import main
main()
"""
    arguments = ["check", "x.npy", "x.npy"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-c", code, "loss", "x.npy", "y.npy"], capture_output=True, text=True
    )
    assert done.returncode == 2
