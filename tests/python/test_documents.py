"""The documents' examples run, and the stubs match the package."""

import ast
import doctest
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import mseloss
import numpy as np
import pytest
from conftest import normal

ROOT = Path(__file__).resolve().parents[2]


def blocks(name):
    path = ROOT / name
    if not path.exists():
        return []
    found = re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
    return [pytest.param(text, id=f"{name}-{i}") for i, text in enumerate(found)]


@pytest.mark.parametrize("code", blocks("docs/python.md"))
def test_the_page_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y, g = normal(1, (64, 64)), normal(2, (64, 64)), normal(3, 64)
    names = {"np": np, "mseloss": mseloss, "x": x, "y": y, "g": g, "batches": [(x, y), (y, x)]}
    names |= {"w": x * x, "mask": x > 0}
    names["result"] = mseloss.grad(g, x, y)
    before = mseloss.memory.limit()
    target = mseloss.info()["target"]
    if "set_target" in code and "AVX2" not in mseloss.info()["supported_targets"]:
        pytest.skip("this processor has no AVX2")
    try:
        exec(code, names)
    finally:
        mseloss.memory.set_limit(before)
        mseloss.set_target(target)


@pytest.fixture
def process_group():
    """PyTorch's default group, of this process alone."""
    dist = pytest.importorskip("torch.distributed")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("code", blocks("docs/distributed.md"))
def test_the_page_on_several_processes_runs(code, request):
    if "jax.distributed" in code:
        pytest.skip("jax_processes.py is this sample as a program")
    if "mpi4py" in code:
        pytest.skip("test_mpi.py runs this sample under mpirun")
    x, y = normal(1, (64, 64)), normal(2, (64, 64))
    names = {"mseloss": mseloss, "x": x, "y": y}
    if "torch" in code:
        mesh = request.getfixturevalue("process_group")
        import torch
        from torch.distributed.tensor import Shard, distribute_tensor

        names["output"], names["target"] = (
            distribute_tensor(t, mesh, [Shard(0)]) if "DTensor" in code else t
            for t in map(torch.from_numpy, (x, y))
        )
    exec(code, names)
    loss = names["loss"].full_tensor() if "DTensor" in code else names["loss"]
    assert float(loss) == mseloss.loss(x, y)


@pytest.mark.parametrize("code", blocks("docs/dask.md"))
def test_the_page_on_dask_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dask, zarr, xr = map(pytest.importorskip, ("dask.array", "zarr", "xarray"))
    x, y = normal(1, (6, 3, 4)), normal(2, (6, 3, 4))
    for name, array in [("prediction", x), ("target", y)]:
        zarr.create_array(f"{name}.zarr", shape=array.shape, chunks=(2, 3, 4), dtype="f4")[...] = (
            array
        )
    dims = ("time", "lat", "lon")
    names = {"forecast": xr.DataArray(dask.from_array(x), dims=dims)}
    names |= {
        "observation": xr.DataArray(y, dims=dims),
        "area": xr.DataArray(x[0] ** 2, dims=dims[1:]),
    }
    exec(code, names)
    if "gradient" in names:
        assert names["value"] == mseloss.loss(x, y)
        assert (zarr.open_array("gradient.zarr")[...] == mseloss.grad(1.0, x, y)).all()
    else:
        assert (names["error"].values == mseloss.loss(x, y, weight=x[0] ** 2, axis=(1, 2))).all()


def test_the_page_on_jax_runs():
    """Its blocks as one program on two devices, which are chosen when the process starts."""
    pytest.importorskip("jax")
    code = [block.values[0] for block in blocks("docs/jax.md")]
    if importlib.util.find_spec("flatbuffers") is None:
        code = [
            re.sub(r"^(data = |export.deserialize).*$", "", block, flags=re.M) for block in code
        ]
    check = (
        "\nassert float(value) == float(mseloss.jax.mse_loss(x, y)) and exported.mlir_module()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(code) + check],
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]


def test_the_page_on_pytorch_runs():
    torch = pytest.importorskip("torch")
    names = {}
    predicted, target = torch.randn(4, 3, 5), torch.randn(4, 3, 5)
    names |= {
        "predicted": predicted,
        "target": target,
        "w": predicted**2,
        "mask": target[..., 0] > 0,
    }
    for block in blocks("docs/pytorch.md"):
        exec(block.values[0], names)
        names["mse_loss"] = names["mseloss"].torch.mse_loss
    assert names["x"].grad is not None


def test_the_sample_report_has_the_form_of_a_report():
    """Its words are those of summary(), whatever the numbers."""
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    sample = re.search(r"^    NOT OK: .*?(?=\n\n)", page, re.M | re.S).group()
    x, y = normal(1, (64, 64)), normal(2, (64, 64))
    result = mseloss.grad(1.0, x, y)
    result[3::16] *= 1.001
    report = mseloss.compare(result, mseloss.grad(1.0, x, y), inputs={"x": x, "y": y})

    def words(text):
        number = r"-?[\d,.]*\d(?:e[-+]\d+)?"
        return [re.sub(number, "N", line.strip()) for line in text.splitlines()]

    assert words(sample) == words(report.summary())[:5]


@pytest.mark.parametrize("code", blocks("README.md"))
def test_the_readme_runs(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for framework in ("torch", "jax"):
        if framework in code:
            pytest.importorskip(framework)
    names = {"__name__": "readme"}
    exec(code, names)
    printed = re.findall(r"^print\(.*# (.+)$", code, re.M)
    assert printed
    assert capsys.readouterr().out.splitlines() == printed
    assert f"# {names['loss']} and" in code


@pytest.mark.parametrize("name", ["grad", "loss", "loss_and_grad"])
def test_docstring_examples(name):
    function = getattr(mseloss, name)
    examples = doctest.DocTestParser().get_doctest(
        function.__doc__.split("Example:")[1], {"np": np, "mseloss": mseloss}, name, None, 0
    )
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0
    for word in ("Args:", "Returns:", "Raises:", "TypeError", "ValueError", "MemoryError"):
        assert word in function.__doc__


def test_everything_public_has_a_docstring():
    names = [n for n in vars(mseloss.PartialSum) if not n.startswith("_")]
    documented = [getattr(mseloss.PartialSum, n) for n in names]
    documented += [getattr(mseloss.memory, n) for n in mseloss.memory.__all__]
    modules = ("dask", "jax", "memory", "metrics", "mpi", "reference", "torch", "xarray")
    documented += [
        getattr(mseloss, n) for n in mseloss.__all__ if n not in modules and n != "__version__"
    ]
    for one in documented:
        # nanobind's functions begin with their signature.
        text = re.sub(r"^\w+\(.*\) -> .*$", "", one.__doc__ or "", flags=re.M)
        assert text.strip(), one


def test_the_package_sample():
    examples = doctest.DocTestFinder(recurse=False).find(mseloss, "mseloss")
    assert sum(doctest.DocTestRunner().run(e).failed for e in examples) == 0


def test_the_stub_names_everything():
    stub = Path(mseloss.__file__).with_name("_core.pyi").read_text(encoding="utf-8")
    tree = ast.parse(stub)
    functions = {n.name: n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    public = {n for n in dir(mseloss._core) if not n.startswith("_")}
    assert public - set(functions) == set()
    for name in ("grad", "loss", "loss_and_grad"):
        arguments = functions[name].args
        stated = [a.arg for a in arguments.args], [a.arg for a in arguments.kwonlyargs]
        sample = re.search(rf"^    {name}\((.*?)\)", (ROOT / "docs/python.md").read_text(), re.M)
        text = sample.group(1).split("*, ")
        positional = [p.split("=")[0].strip() for p in text[0].split(",") if p.strip()]
        keywords = [p.split("=")[0].strip() for p in text[1].split(",")]
        assert stated == (positional, keywords)


def test_everything_public_is_there():
    for name in mseloss.__all__:
        if name not in ("dask", "jax", "mpi", "torch", "xarray"):
            assert getattr(mseloss, name) is not None
    assert set(mseloss.__all__) <= set(dir(mseloss))
    with pytest.raises(AttributeError, match="no attribute 'lose'"):
        _ = mseloss.lose
    assert (Path(mseloss.__file__).with_name("py.typed")).exists()
