"""Standard input and output as arrays, signals, inputs that would be replaced, and temporary files."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from array_files import X, safetensors
from conftest import normal, same_bits
from mseloss import reference
from mseloss.cli import files
from mseloss.cli.files import temporary

pytest.importorskip("typer")

MAIN = [sys.executable, "-c", "from mseloss.cli import main; main()"]


def run(*arguments, stdin=b""):
    """(status, standard output, standard error), all of a pipe."""
    done = subprocess.run(
        [*MAIN, *map(str, arguments)], input=stdin, capture_output=True, timeout=100
    )
    return done.returncode, done.stdout, done.stderr.decode()


def content(save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


@pytest.mark.parametrize("form", ["npy", "npz", "compressed", "safetensors"])
def test_an_operand_from_a_pipe(here, form):
    x, y = normal(1, (30, 40)), normal(2, 40)
    np.save("y.npy", y)
    given = {
        "npy": lambda: content(np.save, x),
        "npz": lambda: content(np.savez, x=x),
        "compressed": lambda: content(np.savez_compressed, x=x),
        "safetensors": lambda: safetensors({"x": ("F32", [30, 40], x)}),
    }[form]()
    assert run("grad", "-", "y.npy", "-o", "g.npy", stdin=given) == (
        0,
        b"g.npy: 30 x 40 float32\n",
        "",
    )
    assert same_bits(np.load("g.npy"), reference.grad(1.0, x, y))
    assert run("check", "g.npy", "-x", "-", "-y", "y.npy", stdin=given)[0] == 0
    assert sorted(os.listdir()) == ["g.npy", "y.npy"]


def test_a_file_as_standard_input_is_mapped(here):
    x = np.lib.format.open_memmap("x.npy", "w+", np.float16, (1 << 28,))  # sparse, 512 MiB
    x[-1] = 3
    del x
    code = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20)); "
    with open("x.npy", "rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", code + MAIN[2], "check", "x.npy", "-"],
            stdin=file,
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_results_on_standard_output(here):
    x, y = normal(1, (30, 40)), normal(2, 40)
    np.save("x.npy", x)
    np.save("y.npy", y)
    for arguments, expected in (
        (("grad", "x.npy", "y.npy"), reference.grad(1.0, x, y)),
        (("grad", "-", "y.npy", "-w", "y.npy"), None),
        (("loss", "x.npy", "y.npy", "-r", "none"), reference.loss(x, y, "none")),
        (("loss", "x.npy", "y.npy"), reference.loss(x, y)),
        (("loss", "x.npy", "y.npy", "-a", "0"), None),
    ):
        status, out, err = run(*arguments, "-o", "-", stdin=content(np.save, x))
        assert (status, err) == (0, "")
        run(*arguments, "-o", "o.npy", stdin=content(np.save, x))
        if expected is not None:
            assert same_bits(np.load("o.npy"), expected)
        assert out == Path("o.npy").read_bytes()


def test_a_pipeline(here):
    x, y = normal(1, 5000), normal(2, 5000)
    np.save("x.npy", x)
    np.save("y.npy", y)
    mseloss = f'{sys.executable} -c "{MAIN[2]}"'
    command = f"{mseloss} grad x.npy y.npy -o - | {mseloss} check - -x x.npy -y y.npy -t 0 --json"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["ok"] is True


def test_zarr_on_standard_output(here):
    zarr = pytest.importorskip("zarr")
    pytest.importorskip("dask")
    zarr.create_array("x.zarr", shape=X.shape, chunks=(2, 2), dtype="f4")[...] = X
    np.save("y.npy", X + 1)
    status, out, err = run("grad", "x.zarr", "y.npy", "-o", "-")
    assert (status, err) == (0, "")
    assert same_bits(np.load(io.BytesIO(out)), reference.grad(1.0, X, X + 1))


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (("loss", "-", "-"), b"", "-: standard input has one array; give the others as files"),
        (("loss", "-", "x.npy"), b"", "standard input: the file is empty"),
        (("loss", "-", "x.npy"), b"PK", "standard input: shorter than a .safetensors header"),
        (("loss", "-", "x.npy"), content(np.save, X)[:-1], "standard input: shape (3, 4) of"),
        (
            ("loss", "-", "x.npy"),
            content(np.savez, a=X, b=X),
            "standard input: expected one array, it has a, b; select one with FILE:NAME",
        ),
        (
            ("grad", "x.npy", "x.npy", "-o", "-", "--json"),
            b"",
            "--json: standard output has the array",
        ),
    ],
)
def test_what_standard_input_and_output_cannot_be(here, arguments, stdin, words):
    np.save("x.npy", X)
    status, out, err = run(*arguments, stdin=stdin)
    assert (status, out, err.count("\n")) == (2, b"", 1)
    assert err.startswith(f"mseloss: {words}")


def test_no_array_goes_to_or_comes_from_a_terminal(here):
    np.save("x.npy", X)
    controller, terminal = os.openpty()
    for arguments, ends, words in (
        (
            ("grad", "x.npy", "x.npy", "-o", "-"),
            {"stdout": terminal},
            "standard output: a terminal",
        ),
        (("loss", "-", "x.npy"), {"stdin": terminal}, "standard input: a terminal"),
    ):
        done = subprocess.run(
            [*MAIN, *arguments], stderr=subprocess.PIPE, timeout=100, text=True, **ends
        )
        assert done.returncode == 2
        assert done.stderr.startswith(f"mseloss: {words}")
    os.close(terminal)
    os.close(controller)


# Inputs that would be replaced -------------------------------------------------------------------


def test_an_input_is_replaced_with_force_only(command):
    np.save("x.npy", X)
    np.save("y.npy", X + 1)
    np.save("g.npy", X)
    os.symlink("x.npy", "link.npy")
    os.link("y.npy", "hard.npy")
    text = "mseloss: {}: is also an input; choose another name, or replace it with --force\n"
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    for out in ("x.npy", "./y.npy", "link.npy", "hard.npy", "g.npy"):
        arguments = ("grad", "x.npy", "y.npy", "-g", "g.npy", "-o", out)
        assert command(*arguments) == (2, "", text.format(out))
    assert command("loss", "x.npy", "y.npy", "-w", "g.npy", "-o", "g.npy")[0] == 2
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before
    assert command("grad", "x.npy", "y.npy", "-o", "link.npy", "--force")[0] == 0
    assert same_bits(np.load("x.npy"), reference.grad(1.0, X, X + 1))
    assert os.path.islink("link.npy")


def test_an_array_store_that_is_an_input(command):
    zarr = pytest.importorskip("zarr")
    pytest.importorskip("dask")
    zarr.create_array("x.zarr", shape=X.shape, chunks=(2, 2), dtype="f4")[...] = X
    os.chmod("x.zarr", 0o750)
    assert command("grad", "x.zarr", "x.zarr", "-o", "x.zarr")[0] == 2
    assert (zarr.open_array("x.zarr")[...] == X).all()
    assert command("grad", "x.zarr", "x.zarr", "-o", "x.zarr", "--force")[0] == 0
    assert (zarr.open_array("x.zarr")[...] == 0).all()
    assert os.stat("x.zarr").st_mode & 0o777 == 0o750
    assert os.listdir() == ["x.zarr"]


def test_another_array_of_an_input_s_file_needs_no_force(command):
    np.savez("d.npz", x=X, y=X + 1)
    assert command("grad", "d.npz:x", "d.npz:y", "-o", "d.npz")[0] == 0
    assert command("loss", "d.npz:x", "d.npz:grad_input", "-r", "none", "-o", "d.npz")[0] == 0
    assert command("grad", "d.npz:grad_input", "d.npz:y", "-o", "d.npz")[0] == 2
    np.savez("one.npz", grad_input=X)
    assert command("grad", "one.npz", "d.npz:y", "-o", "one.npz")[0] == 2


# Temporary files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["o.npy", "o.zarr"])
def test_a_temporary_name_that_another_writer_has_is_not_touched(here, monkeypatch, name):
    if name == "o.zarr":
        pytest.importorskip("zarr")
    tokens = iter(["taken", "free"])
    monkeypatch.setattr(temporary.secrets, "token_hex", lambda count: next(tokens))
    if name == "o.npy":
        Path(".mseloss-taken.part").write_text("of another")
    else:
        os.mkdir(".mseloss-taken.part")

    with files.region(name, X.shape, X.dtype, "x", X.shape) as array:
        assert sorted(os.listdir()) == [".mseloss-free.part", ".mseloss-taken.part"]
        array[...] = X
    assert sorted(os.listdir()) == [".mseloss-taken.part", name]


def test_a_store_survives_a_failure_to_replace_it(here, monkeypatch):
    zarr = pytest.importorskip("zarr")
    zarr.create_array("o.zarr", shape=X.shape, chunks=(2, 2), dtype="f4")[...] = X
    rename = os.rename

    def fail(source, destination):
        if str(source).endswith(".part"):
            raise OSError(5, "Input/output error")
        rename(source, destination)

    monkeypatch.setattr(temporary.os, "rename", fail)
    with (
        pytest.raises(files.FileError, match=r"^o.zarr: Input/output error$"),
        files.region("o.zarr", X.shape, X.dtype, "x", X.shape) as array,
    ):
        array[...] = X + 1
    assert (zarr.open_array("o.zarr")[...] == X).all()
    assert os.listdir() == ["o.zarr"]


def test_a_picture_that_cannot_be_written_leaves_the_old_one(command):
    pytest.importorskip("matplotlib")
    np.save("x.npy", X)
    Path("p.png").write_text("old")
    os.chmod("p.png", 0o640)
    assert command("check", "x.npy", "x.npy", "--plot", "p.png")[0] == 0
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")
    assert os.stat("p.png").st_mode & 0o777 == 0o640
    os.mkdir("folder.png")
    status, _, err = command("check", "x.npy", "x.npy", "--plot", "folder.png")
    assert (status, err) == (2, "mseloss: folder.png: exists and is not a regular file\n")
    status, _, err = command("check", "x.npy", "x.npy", "--plot", "p.npy")
    assert (status, err.startswith("mseloss: p.npy: expected a name that ends in .png")) == (
        2,
        True,
    )
    assert sorted(os.listdir()) == ["folder.png", "p.png", "x.npy"]


# Signals -----------------------------------------------------------------------------------------


# Shells start background jobs with some signals ignored, and pytest-xdist its workers.
DEFAULT_SIGNALS = """
import signal
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
"""


def start(*arguments, before=DEFAULT_SIGNALS, **options):
    code = f"from mseloss.cli import chunked, main\n{before}\nmain()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True, **options
    )


def wait_for_a_part(here):
    for _ in range(1000):
        if any(name.endswith(".part") for name in os.listdir(here)):
            return
        time.sleep(0.01)
    raise AssertionError("no temporary file was created")


def sparse(name, elements):
    del_me = np.lib.format.open_memmap(name, "w+", np.float32, (elements,))  # uses no disk
    del del_me


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGTERM"])
def test_stopped_midway_leaves_nothing(here, name):
    """Stopped while it writes, the command leaves neither the result nor a temporary file."""
    sparse("x.npy", 1 << 27)
    process = start(
        "grad", "x.npy", "x.npy", "-o", "o.npy", before=DEFAULT_SIGNALS + "chunked._CHUNK = 1 << 12"
    )
    wait_for_a_part(here)
    number = getattr(signal, name)
    sent = time.perf_counter()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert time.perf_counter() - sent < 1  # 7 to 35 ms on two busy processors
    assert (process.returncode, err) == (128 + number, f"mseloss: stopped by {name}\n")
    assert os.listdir(here) == ["x.npy"]


def test_many_signals_at_once(here):
    sparse("x.npy", 1 << 27)
    process = start(
        "grad", "x.npy", "x.npy", "-o", "o.npy", before=DEFAULT_SIGNALS + "chunked._CHUNK = 1 << 12"
    )
    wait_for_a_part(here)
    while process.poll() is None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode in (128 + n for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    assert os.listdir(here) == ["x.npy"]


def test_an_ignored_signal_stays_ignored(here):
    """As by nohup."""
    np.save("x.npy", X)
    before = """
import os, signal
original = chunked.check
def check(*arguments):
    os.kill(os.getpid(), signal.SIGHUP)
    return original(*arguments)
chunked.check = check
"""
    process = start(
        "check",
        "x.npy",
        "x.npy",
        stdout=subprocess.DEVNULL,
        before=before,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert (process.wait(timeout=60), process.stderr.read()) == (0, "")
    process.stderr.close()
