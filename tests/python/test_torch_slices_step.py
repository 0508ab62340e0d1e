"""The eager step with weights and dimensions in C++: the bits of the step in Python, in every situation."""

import itertools

import pytest

torch = pytest.importorskip("torch")
import mseloss.torch as face  # noqa: E402

if not face.STEP_IS_COMPILED:
    pytest.skip(
        "the step in C++ was not built for this version of PyTorch", allow_module_level=True
    )

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
DIMENSIONS = [{}, {"dim": 0}, {"dim": (-1, 0)}, {"dim": [1], "keepdim": True}, {"keepdim": True}]
SHAPE = (5, 3, 40)


def in_python(call):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(face, "_compiled_loss", lambda *arguments: None)
        return call()


def weights(dtype):
    generator = torch.Generator().manual_seed(3)
    full = torch.rand(SHAPE, generator=generator).to(dtype)
    return {
        "none": None,
        "full": full,
        "sample": full[:, :1, :1],
        "inner": full[0, 0],
        "negative": full - 0.5,
        "number": torch.tensor(0.75, dtype=dtype),
        "mask": full > 0.5,
        "sample mask": full[:, :1, :1] > 0.5,
    }


def operands(dtype, layout="dense"):
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(SHAPE, generator=generator, dtype=torch.float64).to(dtype) for _ in "xy")
    if layout == "transposed":
        x = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    elif layout == "every second":
        y = torch.stack((y, y), dim=-1)[..., 0]
    elif layout == "expanded":
        x = x[:1].expand(SHAPE)
    return x.requires_grad_(), y


def gradients(loss, x, upstream, **arguments):
    g = torch.linspace(0.5, 2, loss.numel()).to(loss.dtype).view_as(loss)
    g = {"ones": torch.ones_like(loss), "half": torch.full_like(loss, 0.5), "different": g}[
        upstream
    ]
    return torch.autograd.grad(loss, x, g, **arguments)[0]


def same(a, b):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    assert torch.equal(a.detach().contiguous().view(whole), b.detach().contiguous().view(whole))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", weights(torch.float32))
@pytest.mark.parametrize("options", DIMENSIONS, ids=str)
def test_the_step_in_python_has_the_same_bits(kind, options, dtype):
    weight = weights(dtype)[kind]
    if weight is None and not options:
        return
    for layout, how in itertools.product(
        ("dense", "transposed", "every second", "expanded"), ("mean", "sum")
    ):
        x, y = operands(dtype, layout)

        def call(x=x, y=y, how=how):
            return face.mse_loss(x, y, reduction=how, weight=weight, **options)

        loss, other = call(), in_python(call)
        assert loss.grad_fn.name() == "MseSlicesBackward"
        assert other.grad_fn.name() != "MseSlicesBackward"
        same(loss, other)
        with torch.no_grad():
            same(call(), other)
        for upstream in ("ones", "half", "different"):
            want = gradients(in_python(call), x, upstream)
            same(gradients(call(), x, upstream), want)
            kept = call()
            for _ in range(2):
                same(gradients(kept, x, upstream, retain_graph=True), want)


@pytest.mark.parametrize("kind", ["full", "mask", "none"])
def test_second_derivatives_and_compiled_autograd(kind):
    weight = weights(torch.float64)[kind]
    x, y = operands(torch.float64)

    def call(x):
        return face.mse_loss(x, y, weight=weight, dim=(0, 2))

    assert torch.autograd.gradcheck(call, x)
    assert torch.autograd.gradgradcheck(call, x)
    want = gradients(call(x), x, "different")
    torch._dynamo.reset()
    compiler = torch.compile(fullgraph=True, backend="eager")
    for _ in range(2):
        x.grad = None
        loss = call(x)
        with torch._dynamo.compiled_autograd._enable(compiler):
            loss.backward(torch.linspace(0.5, 2, 3, dtype=torch.float64))
        torch.testing.assert_close(x.grad, want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    x, y = operands(dtype)

    def call():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return face.mse_loss(x, y, weight=y.abs(), dim=1)

    loss, other = call(), in_python(call)
    assert loss.dtype == torch.float32
    same(loss, other)
    for upstream in ("ones", "different"):
        same(gradients(call(), x, upstream), gradients(in_python(call), x, upstream))


def test_a_gradient_that_is_returned_is_the_callers():
    x, y = operands(torch.float32)
    weight = weights(torch.float32)["full"]
    loss = face.mse_loss(x, y, weight=weight)
    first = gradients(loss, x, "ones")
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    first.fill_(7)
    second = gradients(face.mse_loss(x, y, weight=weight), x, "ones")
    assert not torch.equal(first, second)


def test_an_operand_that_changed_is_reported():
    x, y = operands(torch.float32)
    weight = weights(torch.float32)["full"].clone()
    loss = face.mse_loss(x, y, weight=weight)
    weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (loss * 3).backward()


def test_other_calls_are_left_to_python():
    """Errors among them, which name the parameter."""
    x, y = operands(torch.float32)
    weight = weights(torch.float32)["full"]
    for arguments in (
        {"weight": weight.clone().requires_grad_()},
        {"weight": weight.double()},
        {"weight": weight[None]},
        {"weight": weight, "reduction": "none"},
        {"dim": ()},
    ):
        assert face.mse_loss(x, y, **arguments).grad_fn.name() != "MseSlicesBackward"
    for arguments, error, name in (
        ({"weight": weight[:2]}, ValueError, "weight"),
        ({"dim": 3}, IndexError, "dim"),
        ({"dim": (0, 0)}, ValueError, "dim"),
        ({"dim": 1.5}, TypeError, "dim"),
        ({"dim": 2**70}, IndexError, "dim"),
    ):
        with pytest.raises(error, match=name):
            face.mse_loss(x, y, **arguments)
