"""mseloss.torch on the device that cuda_stand_in.py describes; run by test_cuda.py."""

import ml_dtypes
import mseloss.torch as face
import numpy as np
import pytest
import torch
from cuda_stand_in import CALLS
from mseloss import _device, reference
from mseloss.torch import readable, stored

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def to_numpy(tensor):
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_a_training_step_has_the_bits_of_the_reference(dtype, reduction):
    torch.manual_seed(1)
    x, y = torch.randn(50, 20).to(dtype), torch.randn(50, 20).to(dtype)
    a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = face.mse_loss(a, b, reduction=reduction)
    upstream = torch.full_like(value, 3)
    value.backward(upstream)
    x, y, upstream = to_numpy(x), to_numpy(y), to_numpy(upstream)
    expected = reference.loss(x, y, reduction)
    assert to_numpy(value).tobytes() == np.asarray(expected).tobytes()
    assert to_numpy(a.grad).tobytes() == reference.grad(upstream, x, y, reduction).tobytes()
    assert to_numpy(b.grad).tobytes() == reference.grad(upstream, y, x, reduction).tobytes()


@pytest.mark.parametrize(
    ("dtype", "weighted", "options", "calls"),
    [
        (torch.float32, False, {}, ["loss_and_grad", "held gradient"]),
        (torch.bfloat16, False, {}, ["loss_and_grad", "held gradient"]),
        (
            torch.float32,
            False,
            {"dim": (0, 1), "keepdim": True},
            ["loss_and_grad", "held gradient"],
        ),
        (torch.float32, False, {"dim": 0}, ["loss_and_grad"]),
        (torch.bfloat16, False, {"dim": 0}, ["loss", "grad_part"]),
        (
            torch.bfloat16,
            True,
            {"reduction": "sum", "dim": (0, 1)},
            ["loss_and_grad", "held gradient"],
        ),
        (torch.float32, True, {}, ["loss", "loss_and_grad"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("factor", [1, 3])
def test_a_step_reads_its_operands_once_where_it_can(dtype, weighted, options, calls, factor):
    x, y, w = (torch.randn(6, 5).to(dtype) for _ in range(3))
    weight = w if weighted else None
    x.requires_grad_()
    CALLS.clear()
    loss = face.mse_loss(x, y, weight=weight, **options)
    loss.backward(torch.full_like(loss, factor))
    assert calls == CALLS
    named = {"reduction": "mean", **options}
    arguments = (x.detach(), y, named["reduction"])
    upstream = np.full(loss.shape if "keepdim" not in options else (), factor, np.float32)
    expected = reference.loss_and_grad(
        *arguments,
        weight=weight,
        axis=named.get("dim"),
        grad_output=upstream.astype(to_numpy(y).dtype),
    )
    assert to_numpy(x.grad).tobytes() == np.asarray(expected[1]).tobytes()


def test_a_wait_for_the_device_is_an_error(monkeypatch):
    x, y, one = torch.ones(3), torch.zeros(3), torch.ones(())
    gradient = torch.full((3,), 2.0)
    assert stored.finished(gradient, one, x, y, None, "sum") is gradient
    monkeypatch.setattr(_device, "DEVICE_TYPES", ())
    with pytest.raises(AssertionError, match="waits for a device"):
        stored.finished(gradient, one, x, y, None, "sum")


def test_the_second_backward_pass_and_second_derivatives():
    x = torch.randn(30, dtype=torch.float64, requires_grad=True)
    y = torch.randn(30, dtype=torch.float64)
    value = face.mse_loss(x, y)
    first = torch.autograd.grad(value, x, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(value, x)[0])
    assert torch.autograd.gradgradcheck(lambda a: face.mse_loss(a, y, reduction="sum"), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_second_derivatives_of_half_types_are_rounded_once(dtype):
    generator = torch.Generator().manual_seed(5)
    x, y, v = (torch.randn(301, generator=generator).to(dtype) for _ in range(3))
    x.requires_grad_()
    g = torch.tensor(2.71828, dtype=dtype, requires_grad=True)
    first = torch.autograd.grad(face.mse_loss(x, y), x, g, create_graph=True)[0]
    of_x = torch.autograd.grad(first, x, v)[0]
    scale = np.float32(2 / 301)
    expected = v.float().numpy() * scale * np.float32(g.item())
    assert torch.equal(of_x, torch.from_numpy(expected).to(dtype))
    stepwise = v * torch.tensor(scale).to(dtype) * g
    assert not torch.equal(of_x, stepwise.detach())  # the test can tell the difference


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_empty_tensors_have_empty_derivatives(reduction):
    x, y = (torch.empty(3, 0, requires_grad=True) for _ in range(2))
    value = face.mse_loss(x, y, reduction=reduction)
    first = torch.autograd.grad(value, (x, y), create_graph=True)
    second = torch.autograd.grad(first[0].sum(), (x, y))
    assert [tuple(g.shape) for g in (*first, *second)] == [(3, 0)] * 4


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_operands_that_broadcast_and_mixed_dtypes_run_on_the_device():
    x = torch.randn(6, 5, requires_grad=True)
    y = torch.randn(5, dtype=torch.float64, requires_grad=True)
    CALLS.clear()
    value = face.mse_loss(x, y)
    gradients = torch.autograd.grad(value, (x, y))
    assert CALLS == ["loss", "grad_part"]
    given = (x.detach().numpy(), y.detach().numpy())
    assert to_numpy(value).tobytes() == np.asarray(reference.loss(*given)).tobytes()
    expected = torch.autograd.grad(((x.double() - y) ** 2).mean(), (x, y))
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_results_keep_the_order_of_dimensions_in_memory():
    x, y = torch.randn(7, 5).t(), torch.randn(7, 5).t()
    assert face.mse_loss(x, y, reduction="none").stride() == x.stride()
    x.requires_grad_()
    assert torch.autograd.grad(face.mse_loss(x, y), x)[0].stride() == x.stride()


def test_tracers_see_operators_on_the_device(monkeypatch):
    from torch._subclasses import FakeTensorMode

    monkeypatch.setattr(_device, "DEVICE_TYPES", ("cuda",))
    with FakeTensorMode():
        x, y = (torch.empty(4, 3, device="cuda") for _ in range(2))
        mask = torch.empty(4, 3, dtype=torch.bool, device="cuda")
        assert readable.operator_accepts(x, y)
        assert readable.operator_accepts(x, y, mask=mask)
        assert not readable.operator_accepts(x, torch.empty(4, 3))
        assert not readable.operator_accepts(x, y, mask=torch.empty(4, 3, dtype=torch.bool))
        value = face.mse_loss(x, y, weight=mask, dim=0)
        assert (tuple(value.shape), value.device.type) == ((3,), "cuda")
    monkeypatch.setattr(readable, "_has_device", lambda: False)
    assert not readable.operator_accepts(x, y)
