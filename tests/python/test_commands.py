"""Every command that a document prints is run in a clean shell, or listed with the reason why not."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import normal
from document_commands import (
    FILES,
    PACKAGE,
    ROOT,
    SOURCE,
    TREE,
    WITHOUT,
    commands,
    pages,
    place_of,
    scripts,
)

if not (ROOT / "dev").exists() or shutil.which("git") is None or not (ROOT / ".git").exists():
    pytest.skip("needs a git checkout", allow_module_level=True)

BIN = Path(sys.executable).parent


def shell(script, folder, path="/usr/local/bin:/usr/bin:/bin", **variables):
    """Runs the commands in a shell without the caller's environment, except proxies and pip's index."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if re.match(r"(?i)(.*_proxy|PIP_.*|SSL_.*|CCACHE_.*|CI)$", k)
    }
    environment = {**kept, "HOME": str(folder), "PATH": path, "LANG": "C.UTF-8", **variables}
    done = subprocess.run(
        ["bash", "-uo", "pipefail", "-c", " &&\n".join(script)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-4000:]}"
    return done.stdout


def cases(place):
    return [pytest.param(script, id=page) for page, script in scripts(place)]


def union(place):
    """The commands of all pages for a place, each once."""
    return list(dict.fromkeys(command for _, script in scripts(place) for command in script))


@pytest.fixture
def source(tmp_path):
    """A copy of the files that git knows or would add."""
    listing = ["git", "ls-files", "-coz", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, names)):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_every_command_is_run_or_has_a_reason():
    known = [command for page in pages() for command in commands(page)]
    assert len(known) > 40
    for command in known:
        assert any(place_of(command))
    unused = [b for b in WITHOUT if not any(command.startswith(b) for command in known)]
    assert unused == []


@pytest.mark.skipif(shutil.which("ninja") is None, reason="needs ninja")
def test_building_and_installing(source):
    """The union of the pages' commands: configure, build, install; then a user's program."""
    others = "HWY_SSSE3|HWY_SSE4|HWY_AVX2|HWY_AVX3|HWY_AVX3_DL"
    quick = f"'-DMSELOSS_DISABLED_TARGETS=({others})'"
    shell(union(SOURCE), source, CXXFLAGS=quick, CMAKE_BUILD_PARALLEL_LEVEL="1")
    assert (source / "PREFIX/include/mseloss/mseloss.h").exists()
    assert (source / "PREFIX/cann/set_env.sh").exists()
    assert not list((source / "build").rglob("*_test"))
    flags = "$(pkg-config --cflags --libs mseloss)"
    program = f"c++ -std=c++20 examples/grad_minimal.cpp {flags} -o grad && ./grad"
    libraries = next((source / "PREFIX").rglob("libmseloss.*")).parent
    shell(
        [program], source, PKG_CONFIG_PATH=f"{libraries}/pkgconfig", LD_LIBRARY_PATH=str(libraries)
    )


def test_installing_the_package(source):
    """The union of the pages' commands; pip makes the metadata in an isolated build environment."""
    script = [c.replace("pip install", "pip install --dry-run --no-deps") for c in union(PACKAGE)]
    assert sum("--dry-run" in command for command in script) > 3
    probe = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "-d",
        str(source),
        "scikit-build-core",
    ]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("needs a package index")
    out = shell(script, source)
    assert "Would install mseloss-" in out
    assert "does not provide the extra" not in out


@pytest.mark.parametrize("script", cases(TREE))
def test_dev_commands(script):
    if not (ROOT / "build/release/examples/regression").exists():
        pytest.skip("build/release is not built: run ./dev test release first")
    path = os.environ["PATH"]
    shell(
        script,
        ROOT,
        path,
        HOME=os.environ.get("HOME", "/"),
        MSELOSS_WERROR=os.environ.get("MSELOSS_WERROR", "OFF"),
    )


@pytest.mark.parametrize("script", cases(FILES))
def test_shell_commands(script, tmp_path):
    for module in ("typer", "safetensors", "matplotlib"):
        pytest.importorskip(module)
    text = "\n".join(script)
    x, y, mask = normal(1, (64, 48)), normal(2, (64, 48)), normal(3, 48) > 0
    import mseloss
    from safetensors.numpy import save_file

    arrays = {
        "pred": x,
        "x": x,
        "label": y,
        "y": y,
        "target": y,
        "g": normal(4, 48),
        "mask": mask,
        "w": x * x,
    }
    for name, array in {**arrays, "device": mseloss.grad(arrays["g"], x, y)}.items():
        np.save(tmp_path / f"{name}.npy", array)
    save_file({"logits": x}, tmp_path / "pred.safetensors")
    if ".zarr" in text:
        zarr = pytest.importorskip("zarr")
        pytest.importorskip("dask")
        for name, array in (("prediction", x), ("target", y)):
            zarr.create_array(
                tmp_path / f"{name}.zarr", shape=x.shape, chunks=(16, 48), dtype="f4"
            )[...] = array
    (tmp_path / "mseloss").write_text(f'#!/bin/sh\nexec {sys.executable} -m mseloss "$@"\n')
    (tmp_path / "mseloss").chmod(0o755)
    shell(script, tmp_path, f"{tmp_path}:/usr/bin:/bin")


def test_the_debian_packages_exist():
    """Every package that a page installs is one that Debian has; the lists contain what the build needs."""
    if shutil.which("apt-cache") is None:
        pytest.skip("needs apt-cache")
    lists = [
        c.split()[3:]
        for page in pages()
        for c in commands(page)
        if c.startswith("sudo apt-get install")
    ]
    assert lists
    needed = {"g++", "cmake", "pkg-config", "libhwy-dev", "libtbb-dev"}
    for packages in lists:
        assert needed <= set(packages)
        known = subprocess.run(
            ["apt-cache", "policy", *packages], capture_output=True, text=True, check=True
        )
        if "Candidate:" not in known.stdout:
            pytest.skip("apt has no package lists")
        for package in packages:
            assert re.search(rf"^{re.escape(package)}:$", known.stdout, re.M), package


INLINE = re.compile(r"(?<!`)`((?:\./dev|\.ci/run|mseloss|python -m|bench/|examples/)[^`]*)`")


def inline():
    found = {}
    for page in pages():
        text = re.sub(
            r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S
        )
        for command in INLINE.findall(text.replace("\n", " ")):
            found.setdefault(" ".join(command.split()), page)
    return found


def test_commands_within_sentences_exist():
    """Subcommands, modules and programs that the text names are there."""
    dev = subprocess.run(
        ["./dev", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    found = inline()
    assert len(found) > 20
    for command, page in found.items():
        word, _, rest = command.partition(" ")
        if word == "./dev" and rest:
            assert re.search(rf"^\./dev {re.escape(rest.split()[0])}\b", dev, re.M), (page, command)
        elif word == "mseloss" and rest and not rest.startswith("-"):
            app = pytest.importorskip("mseloss.cli.app").app
            known = {c.callback.__name__ for c in app.registered_commands}
            assert rest.split()[0] in known, (page, command)
        elif command.startswith("python -m "):
            assert importlib.util.find_spec(command.split()[2]), (page, command)
        elif word.startswith(("bench/", "examples/", ".ci/")) and "*" not in word:
            name = word.split("::")[0].rstrip("/:")
            built = re.match(r"(bench|examples)/\w+$", name)
            assert (ROOT / name).exists() or built or "RESULT" in name, (page, command)
