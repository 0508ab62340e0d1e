"""The training step in graphs that torch.compile makes: one sweep, with the bits of the eager step."""

import itertools
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
import mseloss  # noqa: E402
import mseloss.torch as face  # noqa: E402
from mseloss.torch import step_operators  # noqa: E402
from torch._dynamo.backends.common import aot_autograd  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:Your compiler for AOTAutograd"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MIXED = (torch.bfloat16, torch.float32)
DTYPES = [(d, d) for d in (torch.float32, torch.bfloat16, torch.float16, torch.float64)]
NAMES = {dtypes: "-".join(str(d)[6:] for d in dtypes) for dtypes in [*DTYPES, MIXED]}


def pair(dtypes, shape=(30,), needs=(True, True)):
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randn(shape, generator=generator).to(dtype).requires_grad_(need)
        for dtype, need in zip(dtypes, needs, strict=True)
    ]


def names_in_graphs(call):
    """`call` compiled, and a list to which each graph appends the names of our operators in it."""
    torch._dynamo.reset()
    graphs = []

    def compiler(graph, _):
        ours = [node.target for node in graph.graph.nodes if "mseloss" in str(node.target)]
        graphs.append([str(target).split(".")[1] for target in ours])
        return graph

    return torch.compile(call, fullgraph=True, backend=aot_autograd(fw_compiler=compiler)), graphs


def test_loss_and_gradient_are_one_sweep():
    compiled, graphs = names_in_graphs(face.mse_loss)
    x, y = pair(DTYPES[0], needs=(True, False))
    compiled(x, y).backward()
    assert graphs == [["mse_loss_step"], ["mse_loss_step_backward"]]


def test_a_loss_alone_computes_no_gradient():
    compiled, graphs = names_in_graphs(face.mse_loss)
    x, y = pair(DTYPES[0])
    with torch.no_grad():
        assert torch.equal(compiled(x, y), face.mse_loss(x, y))
    compiled(x.detach(), y.detach())
    assert graphs == [["mse_loss_value"]] * len(graphs)


def test_loss_and_gradient_of_torch_func_are_one_sweep():
    function = torch.func.grad_and_value(face.mse_loss)
    compiled, graphs = names_in_graphs(function)
    x, y = (t.detach() for t in pair(DTYPES[0]))
    assert all(map(torch.equal, compiled(x, y), function(x, y)))
    assert graphs == [["mse_loss_step", "mse_loss_step_backward"]]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtypes", [*DTYPES, MIXED], ids=NAMES.get)
def test_bits_of_the_eager_step(dtypes, autocast):
    torch._dynamo.reset()

    def compute(x, y, how):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return face.mse_loss(x, y, reduction=how)

    compiled = torch.compile(compute, fullgraph=True, backend="aot_eager", dynamic=True)
    # 3.7 is not a number of the half types, so under autocast the gradient is computed in float32.
    for how, shape, factor in itertools.product(
        ("mean", "sum"), ((30,), (3, 200001), (0,), ()), (1, 0.25, 3.7)
    ):
        x, y = pair(dtypes, shape)
        expected, got = compute(x, y, how), compiled(x, y, how)
        assert got.dtype == expected.dtype
        torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)
        want = torch.autograd.grad(expected * factor, (x, y))
        have = torch.autograd.grad(got * factor, (x, y))
        assert all(map(torch.equal, have, want)), (how, shape, factor)


def test_compiled_by_inductor():
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, y: face.mse_loss(x * 2, y) * 3, fullgraph=True)
    for dtypes in (DTYPES[0], MIXED):
        x, y = pair(dtypes, (300001,), (True, False))
        compiled(x, y).backward()
        (want,) = torch.autograd.grad(face.mse_loss(x * 2, y) * 3, x)
        torch.testing.assert_close(x.grad, want)


@pytest.mark.parametrize("n", [30, 600001])
def test_a_retained_graph_has_its_gradient_twice(n):
    torch._dynamo.reset()
    x, y = pair(DTYPES[0], (n,), (True, False))
    compiled = torch.compile(face.mse_loss, fullgraph=True, backend="aot_eager")
    (want,) = torch.autograd.grad(face.mse_loss(x, y), x)
    loss = compiled(x, y)
    first = torch.autograd.grad(loss, x, retain_graph=True)[0]
    kept = first.clone()
    second = torch.autograd.grad(loss, x, torch.tensor(2.0))[0]
    assert torch.equal(first, kept)
    assert torch.equal(first, want)
    assert torch.equal(second, want * 2)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bfloat16], ids=str)
def test_copies_that_hooks_make_of_saved_tensors(dtype):
    """Also copies that lose digits: no graph may get the gradient of another."""
    torch._dynamo.reset()
    compiled = torch.compile(face.mse_loss, fullgraph=True, backend="aot_eager")
    kept = []  # the originals, so that all gradients are alive

    def pack(tensor):
        if tensor.dtype != torch.int64:
            return tensor
        kept.append(tensor)
        return tensor.to(dtype, copy=True)

    def unpack(packed):
        return packed if packed.shape else packed.to(torch.int64)

    pairs = [pair(DTYPES[0], (4,), (True, False)) for _ in range(300)]
    for i, (x, _) in enumerate(pairs):
        x.data += i
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        losses = [compiled(x, y) for x, y in pairs]
    for loss, (x, y) in zip(losses, pairs, strict=True):
        (want,) = torch.autograd.grad(face.mse_loss(x, y), x)
        assert torch.equal(torch.autograd.grad(loss, x)[0], want)


def step(x, y):
    return torch.ops.mseloss.mse_loss_step(x, y, True, False, False)


def test_a_token_names_its_gradient_once():
    x, y = (t.detach() for t in pair(DTYPES[0], (400000,)))
    one = torch.tensor(1.0)
    want = mseloss.grad(one, x, y, "mean")
    before = mseloss.memory.usage()["live"]
    _, token = step(x, y)
    assert mseloss.memory.usage()["live"] > before
    others = (token.clone(), torch.tensor(-1), torch.empty(0, dtype=torch.int64), torch.ones(1))
    for number in (*others, token, token, *others):
        got = torch.ops.mseloss.mse_loss_step_backward(one, x, y, x.numel(), number, False)
        assert torch.equal(got, want)
    del got
    assert mseloss.memory.usage()["live"] == before


def test_a_step_without_a_backward_pass_frees_the_gradient():
    x, y = (t.detach() for t in pair(DTYPES[0], (400000,)))
    before = mseloss.memory.usage()["live"]
    results = [step(x, y) for _ in range(3)]
    assert mseloss.memory.usage()["live"] >= before + 3 * x.nbytes
    del results
    assert mseloss.memory.usage()["live"] == before


def test_the_order_of_dimensions_in_memory():
    torch._dynamo.reset()
    x, y = pair(DTYPES[0], (2, 3, 50, 60), (True, False))
    x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    compiled = torch.compile(face.mse_loss, fullgraph=True)
    (gradient,) = torch.autograd.grad(compiled(x, y), x)
    assert gradient.stride() == x.stride()
    assert torch.equal(gradient, torch.autograd.grad(face.mse_loss(x, y), x)[0])


def test_second_derivatives_through_the_compiled_step():
    torch._dynamo.reset()
    x, y = (t.detach() for t in pair(DTYPES[-1], (5,)))
    for transform in (torch.func.hessian, lambda f: torch.func.jacfwd(torch.func.grad(f))):
        compiled = torch.compile(transform(face.mse_loss), fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x, y), torch.eye(5, dtype=torch.float64) * 2 / 5)


@pytest.mark.parametrize("dtypes", [*DTYPES, MIXED], ids=NAMES.get)
def test_kernels_in_python_have_the_bits_of_those_in_cpp(dtypes):
    """Those in Python run where PyTorch's C interface is too old."""
    x, y = (t.detach() for t in pair(dtypes))
    for wide in (False, True):
        loss, token = torch.ops.mseloss.mse_loss_step(x, y, True, wide, False)
        in_python, no_token = step_operators._step_kernel(x, y, True, wide, False)
        assert torch.equal(loss, in_python)
        assert loss.dtype == in_python.dtype
        arguments = (torch.tensor(0.3).to(loss.dtype), x, y, x.numel())
        assert torch.equal(
            torch.ops.mseloss.mse_loss_step_backward(*arguments, token, False),
            step_operators._step_backward_kernel(*arguments, no_token, False),
        )


@pytest.mark.parametrize("dtypes", [DTYPES[0], DTYPES[1], MIXED], ids=NAMES.get)
def test_opcheck(dtypes):
    x, y = (t.detach() for t in pair(dtypes))
    ops = torch.ops.mseloss
    torch.library.opcheck(ops.mse_loss_value, (x, y, True, True))
    torch.library.opcheck(ops.mse_loss_step, (x, y, True, False, False))
    loss, token = step(x, y)
    upstream = torch.ones_like(loss)
    torch.library.opcheck(ops.mse_loss_step_backward, (upstream, x, y, 30, token, False))


@pytest.mark.parametrize("factor", [0.3, -0.0, 1e-38, 3e38, float("inf"), float("nan")])
def test_a_kept_gradient_is_scaled_exactly(factor):
    for dtypes in (DTYPES[0], DTYPES[-1], tuple(reversed(MIXED))):
        x, y = (t.detach() for t in pair(dtypes, (70001,)))
        upstream = torch.tensor(factor, dtype=x.dtype)
        _, token = step(x, y)
        arguments = (upstream, x, y, x.numel())
        kept, again = (
            torch.ops.mseloss.mse_loss_step_backward(*arguments, t, False) for t in (token, token)
        )
        torch.testing.assert_close(kept, again, rtol=0, atol=0, equal_nan=True)


def test_gradients_that_the_step_would_compute_twice_are_not_kept():
    compiled, graphs = names_in_graphs(face.mse_loss)
    x, y = pair(MIXED)
    loss = compiled(x, y)
    torch.autograd.grad(loss, (x, y))
    assert not any("mse_loss_step" in graph for graph in graphs)


FORK = """
import os, signal, threading, torch, mseloss.torch

x = torch.ones(4)
step = lambda: torch.ops.mseloss.mse_loss_step(x, x, True, False, False)
done = threading.Event()

def work():
    while not done.is_set():
        step()

threading.Thread(target=work).start()
try:
    for _ in range(20):
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # ends a child that waits for a lock
            step()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
finally:
    done.set()
"""


def test_a_child_forked_while_another_thread_makes_steps():
    """In processes of their own, because JAX warns of forks in one that has imported it.

    In several, because the first step does more.
    """
    for _ in range(3):
        subprocess.run([sys.executable, "-c", FORK], check=True, timeout=120)


def test_an_operand_that_the_kernels_do_not_read_is_an_error():
    numbers = torch.ones(3, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="expected tensors of the CPU"):
        torch.ops.mseloss.mse_loss_value(numbers, numbers, True, False)
    x, y = (t.detach() for t in pair(DTYPES[0]))
    _, token = step(x, y)
    for upstream in (torch.ones(1), torch.empty(())):
        if upstream.dim() == 0:
            upstream.untyped_storage().resize_(0)
        with pytest.raises(RuntimeError, match="grad_output: expected a 0-dimensional"):
            torch.ops.mseloss.mse_loss_step_backward(upstream, x, y, 30, token, False)
    with pytest.raises(RuntimeError, match=r"target: expected .*\(2, 3\)"):
        torch.ops.mseloss.mse_loss_step(torch.ones(2, 3), torch.ones(4), True, False, False)
