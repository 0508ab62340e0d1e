"""Calls on PyTorch's tensors run on PyTorch's threads."""

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
import mseloss.torch as face  # noqa: E402
from mseloss import info  # noqa: E402

needs_interface = pytest.mark.skipif(
    not info()["torch_threads"], reason="this PyTorch's C interface has no threads"
)


@pytest.fixture(autouse=True)
def restored():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    face.use_torch_threads(True)


def step(x, y, how):
    x.grad = None
    loss = face.mse_loss(x, y, reduction=how)
    loss.backward(torch.ones_like(loss))
    return loss.detach(), x.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("how", ["mean", "sum", "none"])
@pytest.mark.parametrize("transposed", [False, True])
def test_bits_do_not_depend_on_whose_threads_run(dtype, how, transposed):
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.randn(700, 900, generator=generator).to(dtype) for _ in range(2))
    if transposed:
        y = y.t().contiguous().t()
    x.requires_grad_()
    results = []
    for threads, use in ((1, True), (2, True), (2, False), (5, True)):
        torch.set_num_threads(threads)
        face.use_torch_threads(use)
        results.append(step(x, y, how))
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(gradient, results[0][1])


def threads_started(program):
    """How many threads `program` adds to a process that has imported mseloss.torch."""
    program = f"""
import os, numpy as np, torch, mseloss, mseloss.torch as face
x, y = torch.zeros(1 << 20, requires_grad=True), torch.zeros(1 << 20)
before = set(os.listdir("/proc/self/task"))
{program}
print(len(set(os.listdir("/proc/self/task")) - before))
"""
    environment = {**os.environ, "MSELOSS_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


CALLS = {
    "step": "face.mse_loss(x, y).backward()",
    "loss": "mseloss.loss(x.detach(), y)",
    "loss_and_grad": "mseloss.loss_and_grad(x.detach(), y)",
    "grad": "mseloss.grad(1.0, x.detach(), y)",
    "operator": "torch.ops.mseloss.mse_loss_backward(torch.ones(()), x.detach(), y, 1)",
}


@needs_interface
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_set_num_threads_holds(call):
    assert threads_started(f"torch.set_num_threads(1); {call}") == 0


@needs_interface
def test_pytorchs_own_threads_are_used():
    # The operator has started PyTorch's only helper thread; our call starts no further one.
    operator = "torch.set_num_threads(2); torch.ones(1 << 20) + 1"
    assert threads_started(f"{operator}; {CALLS['step']}") == threads_started(operator)


def test_switched_off_and_for_other_arrays_the_own_threads_are_used():
    one = "torch.set_num_threads(1); "
    assert threads_started(f"{one}face.use_torch_threads(False); {CALLS['step']}") > 0
    assert threads_started(f"{one}a = np.zeros(1 << 20); mseloss.loss(a, a)") > 0


def test_without_pytorch_there_are_none():
    program = "import sys, mseloss; print(mseloss.info()['torch_threads'], 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100
    )
    assert done.stdout.split() == ["False", "False"], done.stderr


@needs_interface
def test_a_forked_child_works_alone():
    # It has none of its parent's threads, and OpenMP would wait for them. The test runs in a process of its
    # own, because JAX warns of every fork once it is imported.
    program = """
import os, torch, mseloss.torch as face
x, y = torch.arange(1 << 20, dtype=torch.float64), torch.zeros(1 << 20, dtype=torch.float64)
assert (torch.ones(1 << 20) + 1).sum() == 1 << 21  # starts PyTorch's threads
expected = face.mse_loss(x, y, reduction="sum")
read, write = os.pipe()
child = os.fork()
if child == 0:
    same = torch.equal(face.mse_loss(x, y, reduction="sum"), expected)
    os.write(write, b"same" if same else b"other")
    os._exit(0)
os.close(write)
with os.fdopen(read, "rb") as result:
    assert result.read() == b"same"
assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
