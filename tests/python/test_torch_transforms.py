"""mseloss.torch under compositions of transforms, up to three deep, against PyTorch's own mse_loss.

MSELOSS_TEST_CASES sets the number of compositions, MSELOSS_TEST_DERANDOMIZE=0 draws new ones.
"""

import contextlib
import os
import warnings

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
import mseloss.torch as face  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812
from torch import func  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

pytestmark = [pytest.mark.usefixtures("torch_step"), pytest.mark.filterwarnings("ignore")]

CASES = int(os.environ.get("MSELOSS_TEST_CASES", 60))
bounded = settings(
    max_examples=CASES,
    derandomize=os.environ.get("MSELOSS_TEST_DERANDOMIZE", "1") == "1",
    suppress_health_check=list(HealthCheck),
)

# Each transform makes a function (x, y) -> tensor of another one.


def weighted_sum(tensor):
    """A sum whose gradient differs from element to element."""
    return (
        tensor * torch.linspace(0.5, 2, tensor.numel(), dtype=tensor.dtype).view_as(tensor)
    ).sum()


def grad(f):
    return lambda x, y: func.grad(lambda a: weighted_sum(f(a, y)))(x)


def grad_of_target(f):
    return lambda x, y: func.grad(lambda a, b: weighted_sum(f(a, b)), argnums=1)(x, y)


def vmap(f):
    return func.vmap(f)


def vmap_input(f):
    return lambda x, y: func.vmap(lambda a: f(a, y))(x)


def vmap_last(f):
    return lambda x, y: func.vmap(f, in_dims=(-1, 0), out_dims=-1)(x, y.movedim(-1, 0))


def jvp(f):
    return lambda x, y: func.jvp(f, (x, y), (x.cos(), y.sin()))[1]


def jvp_of_target(f):
    return lambda x, y: func.jvp(lambda b: f(x, b), (y,), (y.sin(),))[1]


def jacfwd(f):
    return lambda x, y: func.jacfwd(f)(x, y)


def jacrev(f):
    return lambda x, y: func.jacrev(f)(x, y)


def dual(f):
    def tangent(x, y):
        with forward_ad.dual_level():
            result = f(forward_ad.make_dual(x, x.cos()), y)
            found = forward_ad.unpack_dual(result).tangent
            return torch.zeros_like(result) if found is None else found

    return tangent


def functionalize(f):
    return func.functionalize(f)


def compiled(f):
    return torch.compile(f, backend="eager", fullgraph=True)


def autocast(f):
    def call(x, y):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return f(x, y)

    return call


def checkpointed(f):
    return lambda x, y: checkpoint(f, x, y, use_reentrant=False)


def hooked(f):
    def call(x, y):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.neg(), lambda t: t.neg()):
            return f(x, y)

    return call


def no_grad(f):
    return torch.no_grad()(f)


def backward(f):
    def gradient(x, y):
        x = x if x.requires_grad else x.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(weighted_sum(f(x, y)), x, create_graph=True)[0]

    return gradient


def backward_once(f):
    def gradient(x, y):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(weighted_sum(f(x, y)), x)[0]

    return gradient


def over_backward(transform):
    """`transform` of grad_output -> gradient, for a graph that was built before."""

    def of(f):
        def call(x, y):
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                result = f(x, y)
            g = torch.linspace(0.5, 2, result.numel(), dtype=result.dtype).view_as(result)
            return transform(lambda v: torch.autograd.grad(result, x, v, retain_graph=True)[0], g)

        return call

    return of


def batched(pull, g):
    return func.vmap(pull)(torch.stack([g, 2 * g, g.square()]))


def batched_twice(pull, g):
    return func.vmap(func.vmap(pull))(torch.stack([g, 2 * g]).expand(3, 2, *g.shape))


def pushed(pull, g):
    return func.jvp(pull, (g,), (g.cos(),))[1]


def dual_output(pull, g):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(pull(forward_ad.make_dual(g, g.cos()))).tangent


def pushed_batch(pull, g):
    return func.vmap(lambda v: func.jvp(pull, (v,), (v.cos(),))[1])(torch.stack([g, 2 * g]))


TRANSFORMS = {
    f.__name__: f
    for f in (
        *(grad, grad_of_target, vmap, vmap_input, vmap_last, jvp, jvp_of_target, jacfwd, jacrev),
        *(dual, functionalize, autocast, checkpointed, hooked, no_grad, backward, backward_once),
    )
}
TRANSFORMS |= {
    f.__name__: over_backward(f)
    for f in (batched, batched_twice, pushed, dual_output, pushed_batch)
}

SHAPES = [
    ((2, 3, 2), (2, 3, 2)),
    ((2, 2, 1, 2), (2, 2, 3, 1)),
    ((3,), (3,)),
    ((2, 2), (2, 1)),
    ((0, 2), (0, 2)),
]
TOLERANCES = {
    torch.float64: {},
    torch.float32: {"rtol": 1e-4, "atol": 1e-4},
    torch.bfloat16: {"rtol": 0.1, "atol": 0.2},
    torch.float16: {"rtol": 0.02, "atol": 0.05},
}


def formula(x, y, reduction):
    if torch.is_autocast_enabled("cpu"):
        x, y = (t.float() if t.dtype.itemsize == 2 else t for t in (x, y))
    squares = (x - y) ** 2
    return squares if reduction == "none" else getattr(squares, reduction)()


def outcome(loss, names, x, y, reduction):
    """The result of the composition, or the exception that it raised."""

    def f(a, b):
        return loss(a, b, reduction=reduction)

    for name in names:
        f = (TRANSFORMS | {"compiled": compiled})[name](f)
    torch._dynamo.reset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return f(x, y)
    except Exception as error:  # PyTorch's own limits; a limit of ours is a difference
        return error


def agree(got, want):
    if isinstance(got, Exception) or got.shape != want.shape or got.dtype != want.dtype:
        return False
    with contextlib.suppress(AssertionError):
        torch.testing.assert_close(got, want, equal_nan=True, **TOLERANCES[want.dtype])
        return True
    return False


def check(names, shapes, dtype, reduction):
    """Fails if ours is another result than PyTorch's. Whether there was one to compare with.

    PyTorch's operator has limits that its elementary operators do not have (the mean of a zero tensor, a
    nested vmap of the mean): there ours is PyTorch's error, or the result of the formula.
    """
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes)
    want, got, exact = (
        outcome(loss, names, x, y, reduction) for loss in (F.mse_loss, face.mse_loss, formula)
    )
    if isinstance(got, Exception) and not isinstance(want, Exception) and "compiled" in names:
        # A compilation that fails can make the next one fail, with PyTorch's operator too.
        got = outcome(face.mse_loss, names, x, y, reduction)
    results = {"ours": got, "PyTorch": want, "formula": exact}
    if isinstance(want, Exception):
        both = isinstance(got, Exception) or isinstance(exact, Exception)
        assert both or agree(got, exact), results
        return not both
    if isinstance(got, Exception) and "does not require grad" in str(got) and not want.any():
        return True  # a third derivative, which PyTorch computes although it is 0 everywhere
    if agree(got, want):
        assert got.requires_grad == want.requires_grad, results
    else:
        assert not isinstance(exact, Exception), results
        assert agree(got, exact), results
        assert not agree(want, exact), results
    return True


dtypes = st.sampled_from([torch.float64] * 3 + [torch.float32, torch.bfloat16, torch.float16])
reductions = st.sampled_from(["none", "mean", "sum"])


@given(
    st.lists(st.sampled_from(sorted(TRANSFORMS)), min_size=1, max_size=3),
    st.sampled_from(SHAPES),
    dtypes,
    reductions,
)
@bounded
def test_compositions_agree_with_pytorch(names, shapes, dtype, reduction):
    assume(names.count("functionalize") < 2)  # PyTorch's assertions fail for some operators
    assume(check(names, shapes, dtype, reduction))


@given(
    st.lists(st.sampled_from(sorted(TRANSFORMS)), max_size=2),
    st.integers(0, 2),
    st.sampled_from(SHAPES[:3]),
    reductions,
)
@settings(bounded, max_examples=max(CASES // 6, 1))
def test_compiled_compositions_agree_with_pytorch(names, position, shapes, reduction):
    names.insert(min(position, len(names)), "compiled")
    assume(check(names, shapes, torch.float64, reduction))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_single_transforms_agree_with_pytorch(name, reduction):
    assert check([name], SHAPES[0], torch.float64, reduction)
