"""mseloss.torch with weights, masks and dimensions: the reference's bits, and derivatives of every order."""

import itertools

import conftest
import numpy as np
import pytest
from mseloss import reference
from mseloss._core import asnumpy

torch = pytest.importorskip("torch")
import mseloss.torch as face  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812
from torch.library import opcheck  # noqa: E402

SHAPE = (4, 3, 2)
pytestmark = [
    pytest.mark.usefixtures("torch_step"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),
]
KINDS = ("none", "full", "sample", "inner", "mask")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
OPTIONS = [{}, {"dim": 0}, {"dim": (-1, 1)}, {"dim": 2, "keepdim": True}]
CASES = [("none", {})] + [(how, options) for how in ("mean", "sum") for options in OPTIONS]


def same_bits(actual, expected):
    return conftest.same_bits(asnumpy(actual.detach()), expected)


def normal(seed, shape=SHAPE, dtype=torch.float64, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return value.requires_grad_(requires_grad)


def weight_of(kind, dtype=torch.float64, shape=SHAPE, requires_grad=False):
    if kind == "none":
        return None
    generator = torch.Generator().manual_seed(7)
    if kind == "mask":
        return torch.rand(shape, generator=generator) < 0.7
    extents = {"full": shape, "sample": (shape[0],) + (1,) * (len(shape) - 1), "inner": shape[-2:]}
    value = torch.rand(extents[kind], generator=generator, dtype=torch.float64) + 0.5
    return value.to(dtype).requires_grad_(requires_grad)


def formula(x, y, reduction, weight=None, dim=None, keepdim=False):
    d = x - y
    w = torch.ones((), dtype=d.dtype) if weight is None else weight
    if w.dtype == torch.bool:
        d, w = torch.where(w, d, 0), w.to(d.dtype)
    terms = w * d**2
    if reduction == "none":
        return terms
    dims = tuple(range(terms.dim())) if dim is None else dim
    value = terms.sum(dims, keepdim=keepdim)
    if reduction == "sum":
        return value
    return value / w.expand(terms.shape).sum(dims, keepdim=keepdim)


def expected(x, y, how, weight, options, g=None):
    named = {"axis" if k == "dim" else k: v for k, v in options.items()}
    value = np.asarray(reference.loss(x, y, how, weight=weight, **named))
    if g is None:
        return value
    if named.pop("keepdims", named.pop("keepdim", False)):
        g = g.squeeze(options["dim"])
    gradient = reference.loss_and_grad(x, y, how, weight=weight, grad_output=g, **named)[1]
    return value, gradient


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("how", "options"), CASES, ids=str)
def test_bits_of_the_reference(how, options, kind, dtype):
    x, y, w = normal(1, SHAPE, dtype, True), normal(2, SHAPE, dtype, True), weight_of(kind, dtype)
    plain = {("keepdims" if k == "keepdim" else k): v for k, v in options.items()}
    for upstream in ("one", "any"):
        value = face.mse_loss(x, y, reduction=how, weight=w, **options)
        g = torch.ones_like(value) if upstream == "one" else normal(3, value.shape, dtype)
        loss, gradient = expected(x.detach(), y.detach(), how, w, plain, g)
        assert same_bits(value.detach(), loss)
        gx, gy = torch.autograd.grad(value, (x, y), g)
        assert same_bits(gx, gradient)
        assert same_bits(gy, 0 - gradient if kind == "mask" else -gradient)
        value = face.mse_loss(x, y.detach(), reduction=how, weight=w, **options)
        assert same_bits(torch.autograd.grad(value, x, g)[0], gradient)
    with torch.no_grad():
        assert same_bits(face.mse_loss(x, y, reduction=how, weight=w, **options), loss)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("how", "options"), CASES, ids=str)
def test_gradcheck_and_gradgradcheck_in_every_operand(how, options, kind):
    x, y = normal(1, requires_grad=True), normal(2, SHAPE[1:], requires_grad=True)
    w = weight_of(kind, requires_grad=True)
    operands = (x, y) if kind in ("none", "mask") else (x, y, w)

    def loss(x, y, w=w):
        return face.mse_loss(x, y, reduction=how, weight=w, **options)

    assert torch.autograd.gradcheck(loss, operands, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(
        loss, operands, check_fwd_over_rev=True, check_rev_over_rev=True, fast_mode=True
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["none", "mean", "sum"])
def test_functional_transforms(how, kind):
    x, y, w = normal(1), normal(2), weight_of(kind)
    options = {} if how == "none" else {"dim": (1, 2)}
    operands = (x, y) if kind in ("none", "mask") else (x, y, w)
    every = tuple(range(len(operands)))

    def of(function):
        def loss(x, y, w=w):
            return torch.sin(function(x, y, reduction=how, weight=w, **options)).sum()

        return loss

    for outer, inner in itertools.product((torch.func.jacfwd, torch.func.jacrev), repeat=2):
        actual, wanted = (
            outer(inner(of(f), every), every)(*operands) for f in (face.mse_loss, formula)
        )
        for ours, theirs in zip(
            *(torch.utils._pytree.tree_leaves(v) for v in (actual, wanted)), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    functional = torch.func.functionalize(torch.func.grad(of(face.mse_loss), every))
    for ours, theirs in zip(
        functional(*operands), torch.func.grad(of(formula), every)(*operands), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


class Calls(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the calls of the operators of mseloss."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "mseloss":
            self.names.append(function._opname)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["none", "full", "mask"])
@pytest.mark.parametrize("how", ["mean", "sum"])
def test_vmap_is_one_call(how, kind):
    shape = (6, 5, 4)
    x, y = normal(1, shape, torch.float32), normal(2, shape, torch.float32)
    w = weight_of(kind, torch.float32, shape)

    def loss(x, y, w):
        return face.mse_loss(x, y, reduction=how, weight=w)

    for in_dims in itertools.product((0, None), repeat=3):
        if in_dims == (None,) * 3 or (w is None and in_dims[:2] == (None, None)):
            continue
        a, b, c = (
            v if d == 0 or v is None else v[0] for v, d in zip((x, y, w), in_dims, strict=True)
        )
        dims = (*in_dims[:2], None) if w is None else in_dims
        with Calls() as calls:
            values = torch.vmap(loss, dims)(a, b, c)
        assert calls.names == ["slices_loss"]
        with Calls() as calls:
            gradients = torch.vmap(torch.func.grad(loss), dims)(a, b, c)
        assert len(calls.names) == 2
        for i in range(6):
            rows = [
                v if d is None or v is None else v[i] for v, d in zip((a, b, c), dims, strict=True)
            ]
            value, gradient = reference.loss_and_grad(*rows[:2], how, weight=rows[2])
            assert same_bits(values[i], np.asarray(value))
            assert same_bits(gradients[i], gradient)


@pytest.mark.parametrize("kind", ["none", "full", "sample", "mask"])
@pytest.mark.parametrize(("how", "options"), CASES, ids=str)
def test_compile_without_a_graph_break_has_eager_bits(how, options, kind):
    torch.compiler.reset()
    x, y = normal(1, SHAPE, torch.float32, True), normal(2, SHAPE, torch.float32, True)
    w = weight_of(kind, torch.float32)

    def step(x, y):
        return face.mse_loss(x, y, reduction=how, weight=w, **options).sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    results = []
    for function in (compiled, step):
        value = function(x, y)
        results.append((value, *torch.autograd.grad(value, (x, y))))
    for ours, eager in zip(*results, strict=True):
        assert torch.equal(ours, eager)


@pytest.mark.parametrize("kind", ["full", "mask"])
def test_autocast_gives_float32(kind):
    x, y = normal(1, SHAPE, torch.bfloat16, True), normal(2, SHAPE, torch.bfloat16)
    w = weight_of(kind, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        value = face.mse_loss(x, y, weight=w, dim=1)
    assert value.dtype == torch.float32
    wide = (t.detach().float() for t in (x, y))
    assert same_bits(value.detach(), reference.loss(*wide, weight=_wide(w), axis=1))
    value.sum().backward()
    assert same_bits(x.grad, reference.loss_and_grad(x.detach(), y, weight=w, axis=1)[1])


def _wide(weight):
    return weight if weight.dtype == torch.bool else weight.float()


@pytest.mark.parametrize("how", ["none", "mean", "sum"])
def test_nothing_behind_a_mask_matters(how):
    x, y, mask = normal(1), normal(2), weight_of("mask")
    bad = x.masked_fill(~mask, torch.nan).requires_grad_()
    clean = x.masked_fill(~mask, 0).requires_grad_()
    losses = [face.mse_loss(a, y, reduction=how, weight=mask).sum() for a in (bad, clean)]
    assert torch.equal(*losses)
    gradients = [
        torch.autograd.grad(value, a, create_graph=True)[0]
        for value, a in zip(losses, (bad, clean), strict=True)
    ]
    assert torch.equal(*gradients)
    assert (gradients[0][~mask] == 0).all()
    assert not torch.signbit(gradients[0][~mask]).any()
    seconds = [
        torch.autograd.grad(g.square().sum(), a)[0]
        for g, a in zip(gradients, (bad, clean), strict=True)
    ]
    assert torch.equal(*seconds)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("how", ["none", "mean", "sum"])
def test_weights_of_the_size_of_input_are_pytorchs(how):
    for shape in (SHAPE, SHAPE[1:]):  # PyTorch divides by the sum of the weights as they are
        x, y = normal(1, shape, requires_grad=True), normal(2)
        w = normal(3, shape).abs().requires_grad_()
        results = []
        for function in (face.mse_loss, F.mse_loss):
            value = function(x, y, reduction=how, weight=w)
            results.append((value, *torch.autograd.grad(value.sum(), (x, w))))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_weights_of_other_dtypes():
    x, y = normal(1, SHAPE, torch.bfloat16, True), normal(2, SHAPE, torch.bfloat16)
    w = weight_of("sample", torch.float32)
    value = face.mse_loss(x, y, weight=w)
    assert value.dtype == torch.float32
    wide = (t.detach().float() for t in (x, y))
    assert same_bits(value.detach(), np.asarray(reference.loss(*wide, weight=w)))
    value.backward()
    assert x.grad.dtype == torch.bfloat16
    assert face.mse_loss(x, y, weight=torch.tensor(2.0)).dtype == torch.bfloat16
    assert face.mse_loss(x, y, weight=torch.ones(2, dtype=torch.int64)).dtype == torch.bfloat16


def test_module_with_dimensions_and_weight():
    x, y, w = normal(1), normal(2), weight_of("sample")
    module = face.MSELoss(reduction="sum", dim=(1, 2), keepdim=True)
    assert torch.equal(
        module(x, y, w), face.mse_loss(x, y, reduction="sum", weight=w, dim=(1, 2), keepdim=True)
    )
    assert module(x, y).shape == (4, 1, 1)


def test_refusals():
    x = torch.ones(2, 3)
    for options, error, text in (
        ({"dim": 2}, IndexError, "dim: expected dimensions of a tensor of rank 2, got 2"),
        ({"dim": (0, -2)}, ValueError, "dim: expected each dimension at most once"),
        ({"dim": 0.5}, TypeError, "dim: expected None, an int or a tuple"),
        ({"reduction": "none", "dim": 0}, ValueError, "dim: expected None for reduction 'none'"),
        ({"reduction": "none", "keepdim": True}, ValueError, "keepdim: expected False"),
        ({"weight": torch.ones(4)}, ValueError, "weight: expected a shape that broadcasts"),
        ({"reduction": "most", "dim": 0}, ValueError, "most is not a valid value for reduction"),
    ):
        with pytest.raises(error, match=text):
            face.mse_loss(x, x, **options)


@pytest.mark.parametrize("kind", ["none", "full", "mask"])
@pytest.mark.parametrize("dim", [None, (0, 2, 4), (8,), (1, 3)], ids=str)
def test_vmap_over_operands_of_eight_dimensions(kind, dim):
    shape = (3, 2, 1, 2, 1, 2, 1, 2, 2)
    x, y = normal(1, shape), normal(2, shape).transpose(1, 8)
    y = y.contiguous().transpose(1, 8)
    w = weight_of(kind, torch.float64, shape)
    options = {} if dim is None else {"dim": tuple(d - 1 for d in dim if d > 0)}
    dims = (0, 0, None if w is None else 0)

    def of(function):
        return lambda a, b, c: function(a, b, reduction="mean", weight=c, **options)

    torch.testing.assert_close(
        torch.vmap(of(face.mse_loss), dims)(x, y, w),
        torch.vmap(of(formula), dims)(x, y, w),
        equal_nan=True,  # a mask may leave out a whole slice
    )
    total = [
        torch.func.grad(lambda a, f=f: torch.vmap(of(f), dims)(a, y, w).square().sum())(x)
        for f in (face.mse_loss, formula)
    ]
    torch.testing.assert_close(*total, equal_nan=True)


@pytest.mark.parametrize("kind", ["none", "sample", "mask"])
@pytest.mark.parametrize("how", ["none", "mean", "sum"])
def test_opcheck(how, kind):
    x, y = normal(1, requires_grad=True), normal(2, requires_grad=True)
    w = weight_of(kind, requires_grad=True)
    dim = [] if how == "none" else [0, 2]
    opcheck(torch.ops.mseloss.slices_loss.default, (x, y, w, how, dim))
    g = normal(3, SHAPE if how == "none" else (1, 3, 1), requires_grad=True)
    opcheck(torch.ops.mseloss.slices_loss_backward.default, (g, x, y, w, how, dim))
