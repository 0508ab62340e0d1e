"""The PyTorch example of the Ascend package, run on the functional model in place of an NPU.

The example's own source is compiled for the host. Only the launch syntax, which a host compiler
cannot parse, and the dispatch key are replaced; a header stands in for torch_npu.
"""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

ASCEND = pathlib.Path(__file__).parents[2] / "ascend"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C++ compiler on Linux")
    folder = tmp_path_factory.mktemp("example")
    source = (ASCEND / "pytorch/mse_loss_v2_grad.asc").read_text()
    source, launches = re.subn(
        r"(\w+)<T>\s*<<<(.*?)>>>\(", r"model_launch::Launch<T>(\1<T>, \2, ", source
    )
    source, keys = re.subn("PrivateUse1", "CPU", source)
    assert (launches, keys) == (1, 1)
    (folder / "example.cpp").write_text(source)

    torch_root = pathlib.Path(torch.__path__[0])
    model = sorted((ASCEND / "model").glob("*.cpp"))
    model = [file for file in model if file.name != "run.cpp"]  # it runs the operator package
    built = folder / "libexample.so"
    command = [compiler, "-std=c++20", "-O1", "-w", "-shared", "-fPIC", "-ffp-contract=off"]
    command += ["-I", ASCEND / "tests/pytorch", "-I", ASCEND, "-I", ASCEND / "model/include"]
    command += ["-isystem", torch_root / "include", folder / "example.cpp", *model, "-o", built]
    command += ["-L", torch_root / "lib", "-ltorch_cpu", "-ltorch", "-lc10"]
    command += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    subprocess.run(command, check=True)
    torch.ops.load_library(built)
    return built


def expected(predict, label, dout, reduction):
    n = predict.numel()
    scale = torch.tensor(2 / n if reduction == "mean" else 2.0, dtype=torch.float32)
    return ((predict.float() - label.float()) * scale * dout.float()).to(predict.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shapes", [((1000,), (1000,), ()), ((37, 75), (75,), (37, 1))])
def test_gradient_has_the_bits_of_three_operations(library, dtype, reduction, shapes):
    generator = torch.Generator().manual_seed(17)
    x, y, g = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    result = torch.ops.mse_loss_v2_grad.grad(x, y, g, reduction)
    assert result.dtype == dtype
    assert torch.equal(result, expected(x, y, g, reduction))


def test_non_contiguous_and_empty_tensors(library):
    x, y = torch.randn(60, 50).T, torch.randn(100, 60)[::2]
    one = torch.ones(())
    result = torch.ops.mse_loss_v2_grad.grad(x, y, one, "sum")
    assert torch.equal(result, (x - y) * 2)
    assert torch.ops.mse_loss_v2_grad.grad(x[:0], y[:0], one).shape == (0, 60)


def test_wrong_arguments_raise(library):
    x, one = torch.randn(4), torch.ones(())
    grad = torch.ops.mse_loss_v2_grad.grad
    with pytest.raises(RuntimeError, match="one dtype"):
        grad(x, x.half(), one)
    with pytest.raises(RuntimeError, match="reduction must be"):
        grad(x, x, one, "average")
    with pytest.raises(RuntimeError, match="float32, float16 or bfloat16"):
        grad(x.double(), x.double(), one.double())
    with pytest.raises(RuntimeError):
        grad(x, torch.randn(3), one)
    with pytest.raises(RuntimeError, match="at most 8 dimensions"):
        grad(x.reshape((1,) * 8 + (4,)), x, one)


def test_meta_tensors_have_shape_and_dtype(library):
    x = torch.empty(3, 1, dtype=torch.float16, device="meta")
    y = torch.empty(5, dtype=torch.float16, device="meta")
    result = torch.ops.mse_loss_v2_grad.grad(x, y, y)
    assert (result.shape, result.dtype) == ((3, 5), torch.float16)


def test_the_example_trains(library):
    command = [sys.executable, ASCEND / "pytorch/example.py", library, "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("loss ")
