"""The rules in C++ for torch.func's levels of grad and vmap, against the eager step, sample by sample."""

import pytest

torch = pytest.importorskip("torch")
import mseloss.torch as face  # noqa: E402
from torch.func import grad, grad_and_value, jacrev, vjp, vmap  # noqa: E402

if not face.STEP_IS_COMPILED:
    pytest.skip(
        "the step in C++ was not built for this version of PyTorch", allow_module_level=True
    )

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@pytest.fixture(autouse=True)
def only_compiled(monkeypatch):
    """Fails calls that the rules leave to Python."""

    def refuse(*arguments):
        raise AssertionError("the call was left to Python")

    monkeypatch.setattr(face, "_implementation", refuse)


def operands(shape, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in "xy"]


def eager(x, y, how):
    """The loss and its gradients by the eager step; for "none" of the sum over the elements."""
    x, y = (t.detach().requires_grad_() for t in (x, y))
    loss = face.mse_loss(x, y, reduction=how)
    loss.sum().backward()
    return loss.detach(), x.grad, y.grad


def of_samples(x, y, how):
    return [
        torch.stack(parts) for parts in zip(*map(lambda a, b: eager(a, b, how), x, y), strict=True)
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [(5, 7), (3, 2, 300), (4,), (1, 1), (2, 3, 2, 2, 1, 2, 2, 3)])
def test_samples_have_the_bits_of_single_calls(shape, how, dtype):
    x, y = operands(shape, dtype)
    losses, of_input, of_target = of_samples(x, y, how)

    def total(a, b):
        return face.mse_loss(a, b, reduction=how).sum()

    assert torch.equal(vmap(lambda a, b: face.mse_loss(a, b, reduction=how))(x, y), losses)
    assert torch.equal(vmap(grad(total))(x, y), of_input)
    assert torch.equal(vmap(grad(total, argnums=1))(x, y), of_target)
    both, values = vmap(grad_and_value(total, argnums=(0, 1)))(x, y)
    assert torch.equal(both[0], of_input)
    assert torch.equal(both[1], of_target)
    assert how == "none" or torch.equal(values, losses)


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_a_batch_dimension_may_be_anywhere_or_missing(how):
    x, y = operands((6, 5, 4), torch.float32)

    def gradient(a, b):
        return grad(lambda c: face.mse_loss(c, b, reduction=how))(a)

    moved = y.permute(2, 0, 1)
    want = torch.stack([eager(x[..., i], moved[i], how)[1] for i in range(4)])
    assert torch.equal(vmap(gradient, in_dims=(2, 0))(x, moved), want)
    one = x[0]
    assert torch.equal(
        vmap(gradient, in_dims=(None, 0))(one, y), torch.stack([eager(one, t, how)[1] for t in y])
    )
    assert torch.equal(
        vmap(gradient, in_dims=(0, None))(x, one), torch.stack([eager(t, one, how)[1] for t in x])
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"dim": 0}, {"dim": -1, "keepdim": True}], ids=str)
@pytest.mark.parametrize("kind", ["none", "full", "row", "number", "mask", "one for all"])
def test_weights_and_dimensions(kind, options, dtype):
    x, y = operands((6, 5, 4), dtype)
    full = operands((6, 5, 4), dtype, seed=2)[0].abs()
    one = {"none": None, "one for all": full[0, 0]}
    w = {"full": full, "row": full[:, 0], "number": full[:, 0, 0], "mask": full > 0.5}.get(kind)
    if kind == "none" and not options:
        return

    def loss(a, b, c):
        return face.mse_loss(a, b, weight=one.get(kind, c), **options)

    def single(a, b, c):
        a = a.detach().requires_grad_()
        value = loss(a, b, c)
        value.sum().backward()
        return value.detach(), a.grad

    def total(a, b, c):
        return loss(a, b, c).sum()

    weights = [None] * 6 if w is None else w
    losses, gradients = map(torch.stack, zip(*map(single, x, y, weights), strict=True))
    dims = (0, 0, None if w is None else 0)
    assert torch.equal(vmap(loss, in_dims=dims)(x, y, w), losses)
    assert torch.equal(vmap(grad(total), in_dims=dims)(x, y, w), gradients)
    of_target = vmap(grad(total, argnums=1), in_dims=dims)(x, y, w)
    torch.testing.assert_close(of_target, -gradients, rtol=0, atol=0)
    both = vmap(grad(total, argnums=(0, 1)), in_dims=dims)(x, y, w)
    assert torch.equal(both[0], gradients)
    assert torch.equal(both[1], of_target)
    if kind == "mask":
        assert not torch.signbit(both[1][~w]).any()
    if dtype == torch.float64:
        hessian = vmap(jacrev(grad(total)), in_dims=dims)(
            x[:2], y[:2], None if w is None else w[:2]
        )
        want = vmap(
            jacrev(grad(lambda a, b, c: formula(a, b, one.get(kind, c), **options).sum())), dims
        )(x[:2], y[:2], None if w is None else w[:2])
        torch.testing.assert_close(hessian, want)


def formula(x, y, weight, dim=None, keepdim=False):
    w = torch.ones((), dtype=x.dtype) if weight is None else weight.to(x.dtype)
    dims = tuple(range(x.dim())) if dim is None else dim
    value = (w * (x - y) ** 2).sum(dims, keepdim=keepdim)
    return value / w.expand(x.shape).sum(dims, keepdim=keepdim)


def test_levels_nest():
    x, y = operands((3, 4, 5), torch.float32)
    want = torch.stack([of_samples(a, b, "mean")[1] for a, b in zip(x, y, strict=True)])
    assert torch.equal(vmap(vmap(grad(face.mse_loss)))(x, y), want)
    total = grad(lambda a: vmap(vmap(face.mse_loss))(a, y).sum())(x)
    assert torch.equal(total, want)
    assert torch.equal(vmap(grad(lambda a, b: vmap(face.mse_loss)(a, b).sum()))(x, y), want)


def test_a_graph_may_be_used_again():
    """The first backward pass takes the kept gradient away, and its owner may write into it."""
    x, y = operands((5, 7), torch.float32)
    want = eager(x, y, "mean")[1]
    _, pull = vjp(lambda a: face.mse_loss(a, y), x)
    one = torch.ones(())
    first = pull(one)[0]
    assert torch.equal(first, want)
    first.fill_(7)
    assert torch.equal(pull(one)[0], want)
    leaf = x.clone().requires_grad_()
    losses = vmap(face.mse_loss)(leaf, y)
    want = of_samples(x, y, "mean")[1]
    for scale in (1, 3, 1):
        leaf.grad = None
        losses.backward(torch.full((5,), float(scale)), retain_graph=True)
        torch.testing.assert_close(leaf.grad, scale * want)
        leaf.grad.fill_(7)


def test_a_level_around_the_backward_pass_alone():
    x, y = operands((4, 3), torch.float64)
    jacobian = jacrev(vmap(face.mse_loss))(x, y)
    want = torch.zeros(4, 4, 3, dtype=torch.float64)
    for i in range(4):
        want[i, i] = eager(x[i], y[i], "mean")[1]
    torch.testing.assert_close(jacobian, want)


@pytest.mark.parametrize("how", ["none", "mean", "sum"])
def test_second_derivatives(how):
    x, y = (t.requires_grad_() for t in operands((3, 4), torch.float64))

    def losses(a, b):
        return vmap(lambda c, d: face.mse_loss(c, d, reduction=how))(a, b)

    assert torch.autograd.gradcheck(losses, (x, y))
    assert torch.autograd.gradgradcheck(losses, (x, y))


def test_an_empty_batch_and_empty_samples():
    for shape in ((0, 3), (3, 0)):
        x, y = operands(shape, torch.float32)
        losses = vmap(face.mse_loss)(x, y)
        assert losses.shape == shape[:1]
        assert losses.isnan().all()
        assert vmap(grad(face.mse_loss))(x, y).shape == shape


@pytest.mark.parametrize("how", ["none", "mean", "sum"])
def test_a_backward_pass_may_be_traced(how):
    """Fake tensors run through a graph that was built before; the trace has the real pass's results."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    x, y = operands((3, 4, 2), torch.float32)
    x = x.movedim(-1, 1).requires_grad_()
    y = y.movedim(-1, 1)
    losses = vmap(lambda a, b: face.mse_loss(a, b, reduction=how))(x, y)
    one = torch.ones_like(losses)

    def backward(g):
        return torch.autograd.grad(losses, x, g, retain_graph=True)[0]

    want = backward(one)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = backward(torch.ones(losses.shape))
    assert (fake.shape, fake.dtype, fake.stride()) == (want.shape, want.dtype, want.stride())
    for mode in ("real", "fake", "symbolic"):
        traced = make_fx(backward, tracing_mode=mode, _allow_non_fake_inputs=True)(one)
        assert torch.equal(traced(one), want)


def test_fake_tensors_of_symbolic_shapes_are_left_to_python(monkeypatch):
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    monkeypatch.undo()
    x = FakeTensorMode(shape_env=ShapeEnv()).from_tensor(torch.ones(3, 4))
    assert vmap(face.mse_loss)(x, x).shape == x.shape[:1]
    assert vmap(grad(face.mse_loss))(x, x).shape == x.shape


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_upstream_gradients_may_be_lazily_negated_or_zero(how):
    x, y = operands((3, 4), torch.float32)
    x.requires_grad_()
    want = of_samples(x, y, how)[1]
    losses = vmap(lambda a, b: face.mse_loss(a, b, reduction=how))(x, y)
    ones, zeros = torch._neg_view(-torch.ones(3)), torch._efficientzerotensor((3,))
    assert torch.equal(torch.autograd.grad(losses, x, ones, retain_graph=True)[0], want)
    assert not torch.autograd.grad(losses, x, zeros)[0].any()


def test_operators_called_by_name_check_their_operands():
    step, backward = (
        getattr(torch.ops.mseloss, f"transformed_step{end}") for end in ("", "_backward")
    )
    x, token = torch.ones(2, 3), torch.zeros((), dtype=torch.int64)
    refused = [
        (x, other, None, how) for other in (x[:, :1], x.double(), x.int()) for how in (0, 2, 3)
    ]
    refused += [(x, x, None, 4), (x, x, x, 0), (x, x, x.int(), 3), (x, x, torch.ones(2), 3)]
    for input, target, weight, summed in (*refused, (x.int(), x.int(), None, 3)):
        for with_gradient in (False, True):
            with pytest.raises(RuntimeError, match="expected tensors of one shape"):
                step(input, target, weight, True, summed, with_gradient)
    # An upstream gradient of another dtype is converted.
    for summed, shape in ((0, (2, 3)), (2, (2,)), (3, ())):
        g = torch.ones(shape, dtype=torch.float64)
        assert torch.equal(backward(g, x, 0 * x, None, token, False, summed), 2 * x)
