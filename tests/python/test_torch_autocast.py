"""mseloss.torch under autocast: the bits of explicit casts, without the copies."""

import pytest
from conftest import same_bits

torch = pytest.importorskip("torch")
import mseloss.torch as face  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812
from torch_tensors import DTYPES, SUMS, leaves, to_numpy  # noqa: E402

# Deprecation warnings that PyTorch's compiler and forward-mode rules cause themselves.
pytestmark = [
    pytest.mark.usefixtures("torch_step"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Using a target size"),
]


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_computes_in_float32(half):
    x, y = leaves((40,), (40,), dtype=half)
    results = []
    for call in (face.mse_loss, F.mse_loss):
        x.grad = None
        with torch.autocast("cpu", dtype=half):
            loss = call(x, y)
        loss.backward()
        results.append((loss, x.grad))
    assert results[0][0].dtype == results[1][0].dtype == torch.float32
    torch.testing.assert_close(*(r[0] for r in results))
    assert torch.equal(*(r[1] for r in results))


HALVES = [torch.bfloat16, torch.float16]
PAIRS = [(a, b) for a in DTYPES for b in DTYPES if a in HALVES or b in HALVES]


@pytest.mark.parametrize("dtypes", PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
@pytest.mark.parametrize("shapes", [((6, 7), (6, 7)), ((6, 7), (7,))], ids=str)
@pytest.mark.parametrize("how", ["none", *SUMS])
@pytest.mark.parametrize("factor", [1.0, 0.25, 1 / 3, 65536.0, float("nan")])
def test_autocast_has_the_bits_of_explicit_casts(dtypes, shapes, how, factor):
    def cast(tensor):
        return tensor.float() if tensor.dtype in HALVES else tensor

    def result(of_target, explicit, inside):
        x, y = (
            leaf.detach().to(dtype).requires_grad_()
            for leaf, dtype in zip(leaves(*shapes), dtypes, strict=True)
        )
        y.requires_grad_(of_target)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not explicit):
            loss = face.mse_loss(*(map(cast, (x, y)) if explicit else (x, y)), reduction=how)
            if inside:
                loss.backward(torch.full_like(loss, factor))
        if not inside:
            loss.backward(torch.full_like(loss, factor))
        return loss.detach(), x.grad, y.grad

    for of_target in (False, True):
        expected = result(of_target, explicit=True, inside=False)
        for inside in (False, True):
            for a, b in zip(result(of_target, False, inside), expected, strict=True):
                assert (a is None) == (b is None)
                assert a is None or same_bits(to_numpy(a), to_numpy(b))


@pytest.mark.parametrize("how", ["none", *SUMS])
def test_autocast_has_higher_derivatives(how):
    derivatives = []
    for explicit in (False, True):
        x, y = leaves((5,), (5,), dtype=torch.bfloat16)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not explicit):
            loss = face.mse_loss(*((x.float(), y.float()) if explicit else (x, y)), reduction=how)
        (gradient,) = torch.autograd.grad(loss, x, torch.ones_like(loss), create_graph=True)
        derivatives.append(torch.autograd.grad(gradient.float().pow(2).sum(), (x, y)))
    for a, b in zip(*derivatives, strict=True):
        assert a.dtype == b.dtype == torch.bfloat16
        assert torch.equal(a, b)


@pytest.mark.parametrize("other", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_autocast_makes_no_copy_of_an_operand(other, factor):
    x, y = leaves((4096,), (4096,), dtype=torch.bfloat16)
    y = y.detach().to(other)
    with torch.profiler.profile(record_shapes=True, acc_events=True) as profile:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = face.mse_loss(x, y)
        loss.backward(torch.tensor(factor))
    shapes = [s for event in profile.events() for s in event.input_shapes if "copy" in event.name]
    assert [4096] not in shapes
    assert loss.dtype == torch.float32
    assert x.grad.dtype == torch.bfloat16
