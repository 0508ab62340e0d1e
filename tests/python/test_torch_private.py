"""mseloss.torch with a PyTorch that lacks private names, and its step built for the PyTorch in use."""

import importlib.util
import re
import shutil
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
from mseloss.torch import build_step, private, step_name  # noqa: E402

NAMES = {
    "keys": "DispatchKey DispatchKeySet _dispatch_keys _dispatch_tls_local_include_set _current_level",
    "tracers": "FakeTensor FunctionalTensor",
    "levels": "is_functorch_wrapped_tensor get_unwrapped enable_single_level_autograd_function",
    "backward": "_get_current_graph_task_keep_graph _top_saved_tensors_default_hooks DisableTorchFunction",
    "autograd": "_is_fwd_grad_enabled _set_fwd_grad_enabled _AutoDispatchBelowAutograd"
    " _after_autograd_keyset",
    "functions": "_SingleLevelFunction",
}
PROGRAM = """
import builtins, sys
import torch
import torch.nn.functional as F

find = builtins.getattr

def hide(owner, name, *default):
    if name in hidden and sys._getframe(1).f_globals["__name__"] == "mseloss.torch.private":
        raise AttributeError(name)
    return find(owner, name, *default)

builtins.getattr = hide
import mseloss.torch as face
from mseloss.torch import private
builtins.getattr = find
assert {name.rpartition(".")[2] for name in private.MISSING} == set(hidden), private.MISSING
face._compiled_loss = lambda *arguments: None  # the step in Python

def check(x, y, how):
    results = []
    for call in (face.mse_loss, F.mse_loss):
        loss = call(x, y, reduction=how)
        (gradient,) = torch.autograd.grad(loss.sum(), x, create_graph=True)
        second = torch.autograd.grad(gradient.pow(2).sum(), (x, y))
        again = call(x, y, reduction=how).sum()
        again.backward(retain_graph=True)
        again.backward()
        results.append((loss, gradient, *second, x.grad, y.grad))
        x.grad = y.grad = None
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)

for how in ("none", "mean", "sum"):
    for shape in ((4, 5), (5,)):
        check(torch.randn(4, 5, requires_grad=True), torch.randn(shape, requires_grad=True), how)
with torch.autocast("cpu", torch.bfloat16):
    x, y = torch.randn(9).bfloat16().requires_grad_(), torch.randn(9).bfloat16()
    face.mse_loss(x, y).backward()
    torch.testing.assert_close(x.grad, 2 * (x.detach() - y) / 9)
print("right")
"""


def run(program):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_this_pytorch_has_all_names():
    assert private.MISSING == []


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("group", [*NAMES, "all"])
def test_missing_names_change_no_result(group):
    hidden = " ".join(NAMES.values()) if group == "all" else NAMES[group]
    assert run(f"hidden = {hidden.split()}\n{PROGRAM}") == ["right"]


def test_module_names_have_the_release_only():
    name = step_name.module_name
    assert name("2.13.0") == name("2.13.0+cpu") == name("2.13.0+cu130") == "_torch_step_2_13_0"
    assert name("2.14.0a0+git123") == "_torch_step_2_14_0a0_git123"
    assert name("2.14.0.dev20260101+cpu") != name("2.14.0.dev20260102+cpu")


def test_the_step_can_be_built_for_this_pytorch(tmp_path):
    path = build_step.build(torch.__path__[0], torch.__version__, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing else is left
    output = run(f"""
import importlib.util, torch, mseloss._core
spec = importlib.util.spec_from_file_location({path.name.partition(".")[0]!r}, {str(path)!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
x = torch.tensor([1.0, 2, 3], requires_grad=True)
loss = module.mse_loss(x, torch.ones(3), "sum")
loss.backward()
print(float(loss), x.grad.tolist())
""")
    assert " ".join(output) == "5.0 [0.0, 2.0, 4.0]"


def test_a_failing_compiler_is_reported_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", f"{sys.executable} -c 'import sys; sys.exit(\"no such thing\")'")
    with pytest.raises(RuntimeError, match="status 1\nno such thing"):
        build_step.build(torch.__path__[0], torch.__version__, tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("CXX", str(tmp_path / "missing"))
    with pytest.raises(OSError, match="missing"):
        build_step.build(torch.__path__[0], torch.__version__, tmp_path)


def test_the_source_is_part_of_the_package():
    assert (build_step.SOURCE / "step.cpp").exists()
    assert importlib.util.find_spec("mseloss.torch.build_step") is not None


def test_the_installed_step_takes_pytorch_from_the_process():
    """Its libraries by name, from no folder: one module serves every build of a release, wherever it is."""
    name = step_name.module_name(torch.__version__)
    spec = importlib.util.find_spec(f"mseloss.{name}")
    if spec is None:
        pytest.skip("the step in C++ was not built for this version of PyTorch")
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    command = ["readelf", "--wide", "--dynamic", "--dyn-syms", spec.origin]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", output))
    assert {"libtorch_python.so", "libtorch_cpu.so", "libc10.so"} <= needed
    assert not re.search(r"\((RPATH|RUNPATH)\)", output)
    defined = re.findall(r"(?:FUNC|OBJECT) +(?:GLOBAL|WEAK|UNIQUE) +DEFAULT +\d+ (\S+)", output)
    assert defined == [f"PyInit_{name}"]
