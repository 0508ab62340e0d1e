"""mseloss.torch against PyTorch's operator, PyTorch's checkers and the exact reference."""

import copy
import gc
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
from conftest import same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from mseloss import memory, reference
from strategies import broadcast_shapes, layouts

torch = pytest.importorskip("torch")
import mseloss.torch as face  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812
from torch_tensors import DTYPES, SUMS, leaves, to_numpy, to_torch  # noqa: E402

# Deprecation warnings that PyTorch's compiler and forward-mode rules cause themselves.
pytestmark = [
    pytest.mark.usefixtures("torch_step"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Using a target size"),
]


# --- the reference's bits ---


@given(st.data())
@settings(max_examples=40)
def test_step_has_the_bits_of_the_reference(data):
    dtype = data.draw(st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16, np.float64]))
    (shape,) = data.draw(broadcast_shapes(1))
    x, y = (data.draw(layouts(shape, np.dtype(dtype))) for _ in range(2))
    g = data.draw(st.sampled_from([1.0, 0.5, -3.0, 65536.0]))
    how = data.draw(st.sampled_from(SUMS))
    a, b = to_torch(x).requires_grad_(), to_torch(y)
    loss = face.mse_loss(a, b, reduction=how)
    loss.backward(torch.tensor(g, dtype=a.dtype))
    value, gradient = reference.loss_and_grad(
        x, y, how, grad_output=np.asarray(to_numpy(torch.tensor(g, dtype=a.dtype)))
    )
    assert same_bits(to_numpy(loss), np.asarray(value))
    assert same_bits(to_numpy(a.grad), gradient)
    with torch.no_grad():
        assert same_bits(to_numpy(face.mse_loss(a, b, reduction=how)), np.asarray(value))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("how", ["none", "mean", "sum"])
def test_strided_operands_have_the_bits_of_dense_ones(dtype, how):
    x, y = leaves((12, 10), (6, 5, 4), dtype=dtype)
    a, b = x[::2, 1::2].t(), y[:, :, 0].t()
    dense = [
        t.detach().clone(memory_format=torch.contiguous_format).requires_grad_() for t in (a, b)
    ]
    g = torch.full((5, 6) if how == "none" else (), 3.0, dtype=dtype)
    loss, expected = face.mse_loss(a, b, reduction=how), face.mse_loss(*dense, reduction=how)
    assert torch.equal(loss, expected)
    got = torch.autograd.grad(loss, (a, b), g)
    want = torch.autograd.grad(expected, dense, g)
    assert all(torch.equal(p, q) for p, q in zip(got, want, strict=True))


def test_float32_gradient_has_pytorchs_bits():
    x, y = leaves((1000,), (1000,), dtype=torch.float32)
    for how in SUMS:
        ours = torch.autograd.grad(face.mse_loss(x, y, reduction=how) * 3, (x, y))
        theirs = torch.autograd.grad(F.mse_loss(x, y, reduction=how) * 3, (x, y))
        assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


def test_float16_mean_gradient_survives_where_pytorchs_is_zero():
    n = 1 << 26
    x = torch.full((1,), 256.0, dtype=torch.float16).expand(n).clone().requires_grad_()
    y = torch.zeros(1, dtype=torch.float16).expand(n)
    face.mse_loss(x, y).backward()
    assert x.grad[0].item() == x.grad[-1].item() == 2.0**-17


def test_loss_scaling_of_half_gradients_is_exact():
    x = torch.full((1 << 12,), 2.0**-14, dtype=torch.float16, requires_grad=True)
    (face.mse_loss(x, torch.zeros_like(x)) * 2.0**15).backward()  # unscaled: 2^-25, rounds to 0
    assert (x.grad == 2.0**-10).all()


# --- autograd ---

SHAPES = [((3, 4), (3, 4)), ((3, 1, 2), (4, 1)), ((), (3,)), ((0, 2), (0, 2)), ((2, 3), (1, 1, 1))]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("how", ["none", "mean", "sum"])
def test_gradcheck_and_gradgradcheck(shapes, how):
    if 0 in shapes[0] and how == "mean":
        pytest.skip("the mean of nothing is NaN")
    operands = leaves(*shapes)

    def call(x, y):
        return face.mse_loss(x, y, reduction=how)

    assert torch.autograd.gradcheck(call, operands, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, operands)
    for position in (0, 1):
        operands[position].requires_grad_(False)
        assert torch.autograd.gradcheck(call, operands)
        assert torch.autograd.gradgradcheck(call, operands)
        operands[position].requires_grad_(True)


@pytest.mark.parametrize("how", ["none", "mean", "sum"])
def test_weight_is_pytorchs(how):
    x, y, w = leaves((3, 4), (3, 4), (3, 4))
    ours = face.mse_loss(x, y, reduction=how, weight=w)
    theirs = F.mse_loss(x, y, reduction=how, weight=w)
    torch.testing.assert_close(ours, theirs)
    one = torch.ones_like(ours)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (x, y, w), one), torch.autograd.grad(theirs, (x, y, w), one)
    )
    with pytest.raises(ValueError, match=r"weight: expected a shape that broadcasts with \(3, 4\)"):
        face.mse_loss(x, y, weight=w[:, :2])


@pytest.mark.parametrize("a", DTYPES, ids=str)
@pytest.mark.parametrize("b", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shapes", [((4, 5), (4, 5)), ((4, 1), (5,)), ((), (5,)), ((5,), ())], ids=str
)
def test_mixed_dtypes_promote_and_gradients_are_cast_back(a, b, shapes):
    for how in ("none", "mean", "sum"):
        x, y = leaves(*shapes)
        x, y = x.detach().to(a).requires_grad_(), y.detach().to(b).requires_grad_()
        loss, theirs = face.mse_loss(x, y, reduction=how), F.mse_loss(x, y, reduction=how)
        assert loss.dtype == theirs.dtype
        assert loss.shape == theirs.shape
        coarse = max(torch.finfo(a).eps, torch.finfo(b).eps)
        torch.testing.assert_close(loss, theirs, rtol=8 * coarse, atol=8 * coarse)
        loss.sum().backward()
        assert (x.grad.dtype, y.grad.dtype) == (a, b)
        assert (x.grad.shape, y.grad.shape) == (x.shape, y.shape)
        expected = torch.autograd.grad(
            F.mse_loss(x.double(), y.double(), reduction=how).sum(), (x, y)
        )
        for got, want in zip((x.grad, y.grad), expected, strict=True):
            torch.testing.assert_close(got, want, rtol=8 * coarse, atol=8 * coarse)


def test_retained_graph_gives_the_same_again_and_a_freed_one_refuses():
    x, y = leaves((50,), (50,), dtype=torch.float32)
    loss = face.mse_loss(x, y.detach())
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    (second,) = torch.autograd.grad(loss, x)
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, x)


def test_create_graph_then_backward():
    x, y = leaves((50,), (50,))
    (gradient,) = torch.autograd.grad(face.mse_loss(x, y), x, create_graph=True)
    gradient.pow(2).sum().backward()
    torch.testing.assert_close(x.grad, 2 * gradient.detach() * 2 / 50)
    torch.testing.assert_close(y.grad, -x.grad)


def test_the_requested_step_runs(torch_step):
    x, y = leaves((8,), (8,))
    for how in ("none", *SUMS):
        loss = face.mse_loss(x, y, reduction=how)  # keeps the node
        assert (loss.grad_fn.name() == "MseLossBackward") == (torch_step == "compiled")
    loss = face.mse_loss(x[:, None], y)
    assert loss.grad_fn.name() != "MseLossBackward"


@pytest.mark.parametrize("how", ["none", "mean", "sum"])
def test_batched_gradients(how):
    x, y = leaves((5,), (5,))
    for operands in ((x, y), (x, y.detach()), (x[:, None], y)):
        loss, theirs = (f(*operands, reduction=how) for f in (face.mse_loss, F.mse_loss))
        g = torch.randn((3, *loss.shape), dtype=loss.dtype)
        wanted = [t for t in operands if t.requires_grad]
        ours = torch.autograd.grad(loss, wanted, g, is_grads_batched=True)
        expected = torch.autograd.grad(theirs, wanted, g, is_grads_batched=True)
        torch.testing.assert_close(ours, expected)


def test_operands_changed_before_they_are_read_again_are_refused():
    x, y = leaves((5,), (5,))
    target = y.detach().clone()
    loss = face.mse_loss(x, target)
    target.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward(retain_graph=True)


def test_saved_tensor_hooks_see_the_operands():
    x, y = leaves((5,), (5,))
    packed = []

    def pack(tensor):
        packed.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = face.mse_loss(x, y)
    assert [t.data_ptr() for t in packed] == [x.data_ptr(), y.data_ptr()]
    loss.backward()
    torch.testing.assert_close(x.grad, -y.grad)


def test_inference_mode_and_function_modes():
    x, y = leaves((5,), (5,))
    with torch.inference_mode():
        assert face.mse_loss(x, y).is_inference()
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    with Mode():
        face.mse_loss(x, y)
    assert face.mse_loss in seen


def test_steps_from_many_threads():
    y = torch.randn(100_000)

    def train(seed):
        x = torch.full_like(y, seed).requires_grad_()
        for _ in range(20):
            x.grad = None
            face.mse_loss(x, y, reduction="sum").backward()
        return torch.equal(x.grad, 2 * (seed - y))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(train, range(8)))


def test_gradient_is_handed_over_without_a_copy_and_goes_back_to_the_pool():
    x, y = torch.randn(1 << 20, requires_grad=True), torch.randn(1 << 20)
    gc.collect()
    memory.trim()
    before = memory.usage()["live_blocks"]
    face.mse_loss(x, y).backward()
    # x.grad is the block that the forward pass filled.
    assert memory.usage()["live_blocks"] == before + 1
    x.grad = None
    assert memory.usage()["live_blocks"] == before


def test_no_gradient_is_computed_when_none_is_needed():
    x, y = torch.randn(1 << 20), torch.randn(1 << 20)
    gc.collect()
    memory.trim()
    mapped = memory.usage()["mapped"]
    face.mse_loss(x, y)
    with torch.no_grad():
        face.mse_loss(x.requires_grad_(), y)
    assert memory.usage()["mapped"] == mapped


def test_a_long_loop_keeps_nothing():
    x, y = torch.randn(300_000, requires_grad=True), torch.randn(300_000)
    for _ in range(3):
        face.mse_loss(x, y).backward()
    gc.collect()
    before = memory.usage()
    for _ in range(200):
        x.grad = None
        face.mse_loss(x, y).backward()
    after = memory.usage()
    assert after["mapped"] == before["mapped"]
    assert after["live"] == before["live"]


# --- signature, warnings, modules ---


@pytest.mark.filterwarnings("error:Using a target size")
def test_sizes_that_differ_are_warned_about_as_in_pytorch():
    x, y = torch.randn(4, 1), torch.randn(4)
    with pytest.warns(UserWarning, match="different to the input size") as ours:
        value = face.mse_loss(x, y)
    with pytest.warns(UserWarning, match="different to the input size") as theirs:
        expected = F.mse_loss(x, y)
    assert str(ours[0].message) == str(theirs[0].message)
    assert ours[0].filename == __file__
    torch.testing.assert_close(value, expected)


@pytest.mark.filterwarnings("ignore:size_average and reduce")
@pytest.mark.parametrize("size_average", [None, True, False])
@pytest.mark.parametrize("reduce", [None, True, False])
def test_deprecated_arguments(size_average, reduce):
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    arguments = {"size_average": size_average, "reduce": reduce}
    torch.testing.assert_close(face.mse_loss(x, y, **arguments), F.mse_loss(x, y, **arguments))
    module = face.MSELoss(size_average, reduce)
    assert module.reduction == torch.nn.MSELoss(size_average, reduce).reduction
    torch.testing.assert_close(module(x, y), F.mse_loss(x, y, **arguments))


def test_module_is_a_drop_in():
    module = face.MSELoss(reduction="sum")
    assert isinstance(module, torch.nn.MSELoss)
    assert repr(module) == repr(torch.nn.MSELoss(reduction="sum"))
    assert copy.deepcopy(module).reduction == "sum"
    x, y = torch.randn(3), torch.randn(3)
    torch.testing.assert_close(module(x, y), F.mse_loss(x, y, reduction="sum"))


def test_elementwise_mean_warns_and_is_the_mean():
    x, y = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4)
    for mse in (face.mse_loss, F.mse_loss):
        with pytest.warns(UserWarning, match="use reduction='mean' instead"):
            loss = mse(x, y, reduction="elementwise_mean")
        torch.testing.assert_close(loss, F.mse_loss(x, y))
        with pytest.raises(ValueError, match="Invalid reduction mode: elementwise_mean"):
            mse(x, y, reduction="elementwise_mean", weight=y)
    with pytest.warns(UserWarning, match="use reduction='mean' instead"):
        assert torch.equal(face.MSELoss(reduction="elementwise_mean")(x, y), face.mse_loss(x, y))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of the sizes, as in PyTorch
def test_scripted_functions_and_modules_are_pytorchs():
    x, y, w = torch.randn(3, 4), torch.randn(3, 4), torch.rand(3, 4)

    def criterion(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor):
        return face.mse_loss(x, y, reduction="sum") + face.mse_loss(x, y, weight=w)

    want = F.mse_loss(x, y, reduction="sum") + F.mse_loss(x, y, weight=w)
    assert torch.equal(torch.jit.script(criterion)(x, y, w), want)
    assert torch.equal(torch.jit.script(face.mse_loss)(x, y), F.mse_loss(x, y))
    assert torch.equal(torch.jit.script(face.MSELoss())(x, y), F.mse_loss(x, y))
    traced = torch.jit.trace(face.mse_loss, (x, y))
    assert torch.equal(traced(y, w), face.mse_loss(y, w))


def test_refusals():
    x = torch.zeros(3)
    for call in (face.mse_loss, F.mse_loss):
        with pytest.raises(ValueError, match="most"):
            call(x, x, reduction="most")
        with pytest.raises(ValueError, match="Invalid reduction mode: most"):
            call(x, x, reduction="most", weight=x)
        with pytest.raises(RuntimeError, match="size of tensor a"):
            call(x, torch.zeros(4))


def test_what_has_no_kernel_goes_to_pytorch():
    x = torch.randn(3, device="meta")
    assert face.mse_loss(x, x).device.type == "meta"
    deep = torch.randn((1,) * 9 + (4,), requires_grad=True)
    face.mse_loss(deep, torch.zeros_like(deep)).backward()
    torch.testing.assert_close(deep.grad, deep.detach() / 2)
    whole = torch.arange(4)
    ours = face.mse_loss(torch.ones(4, requires_grad=True), whole)
    torch.testing.assert_close(ours, F.mse_loss(torch.ones(4), whole))
    with pytest.raises(RuntimeError):
        face.mse_loss(whole, whole)


def test_negative_bit_views_and_subclasses():
    z = torch.randn(5, dtype=torch.complex64)
    lazy = z.conj().imag
    assert lazy.is_neg()
    zero = torch.zeros(5)
    assert torch.equal(face.mse_loss(lazy + 1, zero), face.mse_loss(lazy.resolve_neg() + 1, zero))
    assert torch.equal(face.mse_loss(lazy, zero + 1), face.mse_loss(lazy.resolve_neg(), zero + 1))

    class Tagged(torch.Tensor):
        pass

    tagged = torch.randn(5).as_subclass(Tagged)
    assert type(face.mse_loss(tagged, zero)) is Tagged
    parameter = torch.nn.Parameter(torch.randn(5))
    face.mse_loss(parameter, zero).backward()
    torch.testing.assert_close(parameter.grad, 2 * parameter.detach() / 5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_elementwise_step_has_the_bits_of_the_reference(dtype):
    x, y, g = leaves((31, 9), (31, 9), (31, 9), dtype=dtype)
    y.requires_grad_(False)
    loss = face.mse_loss(x.t(), y.t(), reduction="none")
    assert loss.stride() == x.t().stride()
    loss.backward(g.detach().t())
    arrays = [to_numpy(t) for t in (g, x, y)]
    assert same_bits(to_numpy(loss.t()), reference.loss(*arrays[1:], "none"))
    assert same_bits(to_numpy(x.grad), reference.grad(*arrays, "none"))
    x.grad = None
    loss = face.mse_loss(x, y, reduction="none")
    loss.sum().backward()  # an expanded upstream gradient
    one = to_numpy(torch.ones((), dtype=dtype))
    assert same_bits(to_numpy(x.grad), reference.grad(one, *arrays[1:], "none"))


def test_an_exception_in_the_backward_pass_reaches_the_caller(monkeypatch):
    def fail(*arguments):
        raise LookupError("no gradients today")

    monkeypatch.setattr("mseloss.torch.step.gradients", fail)
    x, y = leaves((5,), (5,))
    for _ in range(3):
        loss = face.mse_loss(x, y)
        with pytest.raises(LookupError, match="no gradients today"):
            torch.autograd.grad(loss, x, create_graph=True)
