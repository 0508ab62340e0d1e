"""Losses with weights or over dimensions in compiled graphs: one sweep, and the bits of the eager step."""

import itertools

import pytest

torch = pytest.importorskip("torch")
import mseloss  # noqa: E402
import mseloss.torch as face  # noqa: E402
from mseloss.torch.slices import step_operators  # noqa: E402
from test_torch_compile import DTYPES, MIXED, NAMES, names_in_graphs, pair  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:Your compiler for AOTAutograd"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SHAPE = (4, 6, 5)
# Each dtype, each kind of weight and each choice of dimensions, in fewer combinations than there are: every
# one compiles.
CASES = [
    (DTYPES[0], "full", (("mean", None), ("sum", 1), ("mean", (0, 2)))),
    (DTYPES[0], "none", (("mean", 1), ("sum", (0, 2)), ("mean", ()))),
    (DTYPES[1], "sample", (("mean", None), ("mean", 1))),
    (DTYPES[1], "none", (("mean", 1),)),
    (DTYPES[2], "mask", (("mean", None), ("sum", (0, 2)))),
    (DTYPES[3], "signed", (("mean", 1), ("sum", None))),
    (MIXED, "mask", (("mean", 1),)),
    (MIXED, "full", (("mean", None),)),
]


def weight_of(kind, shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(9)
    if kind == "none":
        return None
    if kind == "mask":
        return torch.rand(shape, generator=generator) < 0.7
    if kind == "sample":
        shape = (*shape[:1], *(1 for _ in shape[1:]))
    values = torch.rand(shape, generator=generator) + (-0.5 if kind == "signed" else 0.1)
    return values.to(dtype)


def equal(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    return True


@pytest.mark.parametrize("options", [{"weight": "full"}, {"weight": "mask"}, {"dim": 1}], ids=str)
def test_loss_and_gradient_are_one_sweep(options):
    x, y = pair(DTYPES[0], SHAPE, (True, False))
    options = {"weight": weight_of(options.get("weight", "none"), SHAPE), "dim": options.get("dim")}
    compiled, graphs = names_in_graphs(lambda x, y: face.mse_loss(x, y, **options).sum())
    compiled(x, y).backward()
    assert graphs == [["slices_step"], ["slices_step_backward"]]


def test_a_loss_alone_computes_no_gradient():
    x, y = (t.detach() for t in pair(DTYPES[0], SHAPE))
    w = weight_of("full", SHAPE)
    compiled, graphs = names_in_graphs(lambda x, y: face.mse_loss(x, y, weight=w, dim=1))
    assert equal(compiled(x, y), face.mse_loss(x, y, weight=w, dim=1))
    assert graphs == [["slices_value"]]


def test_loss_and_gradient_of_torch_func_are_one_sweep():
    x, y = (t.detach() for t in pair(DTYPES[0], SHAPE))
    w = weight_of("full", SHAPE)
    function = torch.func.grad_and_value(lambda x, y, w: face.mse_loss(x, y, weight=w))
    compiled, graphs = names_in_graphs(function)
    assert all(map(equal, compiled(x, y, w), function(x, y, w)))
    assert graphs == [["slices_step", "slices_step_backward"]]


@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
@pytest.mark.parametrize(
    ("dtypes", "kind", "calls"), CASES, ids=[f"{NAMES[c[0]]}-{c[1]}" for c in CASES]
)
def test_bits_of_the_eager_step(dtypes, kind, calls, autocast):
    torch._dynamo.reset()
    w = weight_of(kind, SHAPE, dtypes[0])

    def compute(x, y, how, dim):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return face.mse_loss(x, y, reduction=how, weight=w, dim=dim)

    compiled = torch.compile(compute, fullgraph=True, backend="aot_eager")
    for how, dim in calls:
        x, y = pair(dtypes, SHAPE)
        expected, got = compute(x, y, how, dim), compiled(x, y, how, dim)
        assert got.dtype == expected.dtype
        assert equal(got, expected)
        for factor in (1, 0.25, 3.7):
            # The same upstream gradient everywhere, and different ones.
            for upstream in (
                torch.full_like(expected, factor),
                torch.linspace(-1, factor, expected.numel()).reshape(expected.shape).to(expected),
            ):
                options = dict(retain_graph=True)
                want = torch.autograd.grad(expected, (x, y), upstream, **options)
                have = torch.autograd.grad(got, (x, y), upstream, **options)
                assert all(map(equal, have, want)), (how, dim, factor)


@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
@pytest.mark.parametrize("kind", ["full", "mask"])
def test_compiled_by_inductor(kind, autocast):
    torch._dynamo.reset()
    for dtypes, dim in ((DTYPES[0], None), (DTYPES[1], 1)):
        x, y = pair(dtypes, (300, 1001), (True, False))
        w = weight_of(kind, x.shape, dtypes[0])

        def compute(x, y, w, dim=dim):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                return face.mse_loss(x * 2, y, weight=w, dim=dim).mean() * 3

        compiled = torch.compile(compute, fullgraph=True)
        (want,) = torch.autograd.grad(compute(x, y, w), x)
        (have,) = torch.autograd.grad(compiled(x, y, w), x)
        torch.testing.assert_close(have, want)


def test_gradients_of_target_and_weight():
    torch._dynamo.reset()
    operands = [*pair(DTYPES[0], SHAPE), weight_of("sample", SHAPE).requires_grad_()]

    def compute(x, y, w):
        return face.mse_loss(x, y, weight=w, dim=(0, 1))

    compiled = torch.compile(compute, fullgraph=True, backend="aot_eager")
    want = torch.autograd.grad(compute(*operands).sum(), operands)
    have = torch.autograd.grad(compiled(*operands).sum(), operands)
    assert equal(have[0], want[0])
    assert equal(have[1], want[1])
    torch.testing.assert_close(have[2], want[2])


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_broadcast_targets_and_inputs():
    torch._dynamo.reset()
    compiled = torch.compile(face.mse_loss, fullgraph=True, backend="aot_eager")
    for shapes in ((SHAPE, (1, 6, 1)), ((1, 6, 1), SHAPE)):
        x, y = (pair(DTYPES[0], shape)[0] for shape in shapes)
        w = weight_of("full", SHAPE)
        want = torch.autograd.grad(face.mse_loss(x, y, weight=w), (x, y))
        have = torch.autograd.grad(compiled(x, y, weight=w), (x, y))
        assert all(map(equal, have, want))


def test_the_order_of_dimensions_in_memory():
    torch._dynamo.reset()
    x, y = pair(DTYPES[0], (2, 3, 50, 60), (True, False))
    x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    w = weight_of("sample", x.shape)
    compiled = torch.compile(face.mse_loss, fullgraph=True)
    (gradient,) = torch.autograd.grad(compiled(x, y, weight=w), x)
    assert gradient.stride() == x.stride()
    assert equal(gradient, torch.autograd.grad(face.mse_loss(x, y, weight=w), x)[0])


def test_second_derivatives():
    torch._dynamo.reset()
    x, y = (t.detach() for t in pair(DTYPES[-1], (5,)))
    w = torch.arange(1.0, 6, dtype=torch.float64)

    def function(x):
        return face.mse_loss(x, y, weight=w)

    for transform in (torch.func.hessian, lambda f: torch.func.jacfwd(torch.func.grad(f))):
        compiled = torch.compile(transform(function), fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), torch.diag(w) * 2 / 15)


ARGUMENTS = [
    (kind, dims) for kind, dims in itertools.product(("none", "full", "mask"), (0b111, 0b010, 0))
]


@pytest.mark.parametrize(("kind", "dims"), ARGUMENTS)
@pytest.mark.parametrize("dtypes", [*DTYPES, MIXED], ids=NAMES.get)
def test_kernels_in_python_have_the_bits_of_those_in_cpp(dtypes, kind, dims):
    """Those in Python run where PyTorch's C interface is too old."""
    x, y = (t.detach() for t in pair(dtypes, SHAPE))
    w = weight_of(kind, SHAPE, dtypes[0])
    operands = (x, y, y if w is None else w, w is not None)
    ops = torch.ops.mseloss
    for mean, wide in itertools.product((False, True), repeat=2):
        arguments = (*operands, mean, dims)
        assert equal(
            ops.slices_value(*arguments, wide), step_operators._value_kernel(*arguments, wide)
        )
        loss, token = ops.slices_step(*arguments, wide, False)
        in_python, no_token = step_operators._step_kernel(*arguments, wide, False)
        assert equal(loss, in_python)
        assert loss.dtype == in_python.dtype
        upstream = torch.full_like(loss, 0.3)
        assert equal(
            ops.slices_step_backward(upstream, *arguments, token, False),
            step_operators._step_backward_kernel(upstream, *arguments, no_token, False),
        )


def test_a_token_names_its_gradient_once():
    x, y = (t.detach() for t in pair(DTYPES[0], (40, 10000)))
    w = weight_of("full", x.shape)
    arguments = (x, y, w, True, True, 0b11)
    before = mseloss.memory.usage()["live"]
    loss, token = torch.ops.mseloss.slices_step(*arguments, False, False)
    assert mseloss.memory.usage()["live"] > before
    one = torch.ones_like(loss)
    want = mseloss.loss_and_grad(x, y, weight=w)[1]
    for number in (token.clone(), token, token):
        got = torch.ops.mseloss.slices_step_backward(one, *arguments, number, False)
        assert torch.equal(got, want)
    del got, want
    assert mseloss.memory.usage()["live"] == before


@pytest.mark.parametrize("kind", ["none", "full", "mask"])
def test_opcheck(kind):
    x, y = (t.detach() for t in pair(DTYPES[0], SHAPE))
    w = weight_of(kind, SHAPE)
    arguments = (x, y, y if w is None else w, w is not None, True, 0b110)
    ops = torch.ops.mseloss
    torch.library.opcheck(ops.slices_value, (*arguments, True))
    torch.library.opcheck(ops.slices_step, (*arguments, False, False))
    loss, token = ops.slices_step(*arguments, False, False)
    torch.library.opcheck(
        ops.slices_step_backward, (torch.ones_like(loss), *arguments, token, False)
    )


def test_an_operand_that_the_kernels_do_not_read_is_an_error():
    numbers, x = torch.ones(3, dtype=torch.int64), torch.ones(3)
    for operands in ((numbers, x, x), (x, x, numbers)):
        with pytest.raises(RuntimeError, match="expected tensors of the CPU"):
            torch.ops.mseloss.slices_value(*operands, True, True, 1, False)
