"""Users' programs over every face are clean under mypy --strict and pyright, and run."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mseloss
import pytest

PROGRAMS = Path(__file__).resolve().parents[1] / "typing"
FACES = {"numpy": (), "torch": ("torch",), "jax": ("jax",)}


def needs(*modules):
    for module in modules:
        pytest.importorskip(module, reason=f"needs {module}")


def mypy(program, cache):
    needs("mypy")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        f"--cache-dir={cache}",
        "--no-error-summary",
    ]
    run = subprocess.run([*command, str(program)], capture_output=True, text=True, timeout=500)
    return {
        int(line) for line in re.findall(r"^.*?:(\d+): error", run.stdout, re.M)
    }, run.stdout + run.stderr


def pyright(program, cache):
    """Pyright itself is on npm; basedpyright, on PyPI, contains it and checks more unless told otherwise."""
    needs("basedpyright")
    project = cache / "pyrightconfig.json"
    project.write_text(json.dumps({"typeCheckingMode": "standard", "include": [str(program)]}))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--project", str(project)]
    run = subprocess.run(
        [*command, f"--pythonpath={sys.executable}"], capture_output=True, text=True, timeout=500
    )
    found = json.loads(run.stdout)
    assert found["summary"]["filesAnalyzed"] == 1
    errors = [d for d in found["generalDiagnostics"] if d["severity"] == "error"]
    return {d["range"]["start"]["line"] + 1 for d in errors}, run.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.parametrize("checker", [mypy, pyright], ids=lambda c: c.__name__)
@pytest.mark.parametrize("face", FACES)
def test_a_program_has_no_type_errors(face, checker, cache):
    needs(*FACES[face])
    lines, output = checker(PROGRAMS / f"{face}_program.py", cache)
    assert not lines, output


@pytest.mark.parametrize("checker", [mypy, pyright], ids=lambda c: c.__name__)
def test_mistakes_are_found(checker, cache):
    text = (PROGRAMS / "mistakes.py").read_text()
    marked = {i for i, line in enumerate(text.splitlines(), 1) if line.endswith("# mistake")}
    lines, output = checker(PROGRAMS / "mistakes.py", cache)
    assert lines == marked, output


@pytest.mark.parametrize("face", FACES)
def test_a_program_runs(face):
    needs(*FACES[face])
    run = subprocess.run(
        [sys.executable, str(PROGRAMS / f"{face}_program.py")],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert run.returncode == 0, run.stderr


def signature(node):
    given = node.args
    defaults = [ast.unparse(d) for d in given.defaults]
    return [a.arg for a in given.args], defaults, [a.arg for a in given.kwonlyargs]


def test_the_stub_of_the_torch_face_has_its_signatures():
    """Its source is TorchScript, whose annotations cannot say what the functions accept."""
    folder = Path(importlib.util.find_spec("mseloss.torch").origin).parent
    found = []
    for name in ("__init__.py", "__init__.pyi"):
        tree = ast.parse((folder / name).read_text(encoding="utf-8"))
        functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        found.append(
            {name: signature(functions[name]) for name in ("mse_loss", "__init__", "forward")}
        )
    assert found[0] == found[1]
    assert Path(mseloss.__file__).with_name("py.typed").exists()
