"""PyTorch's own samples for mse_loss and MSELoss, which ship with it, through mseloss.torch.

PyTorch's entries for the two have no error inputs; test_torch_foreign.py compares errors.
"""

import copy
import functools
import pickle
import warnings

import pytest

torch = pytest.importorskip("torch")
import mseloss.torch as face  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    internal = "torch.testing._internal."
    methods = pytest.importorskip(internal + "common_methods_invocations")
    modules = pytest.importorskip(internal + "common_modules")
    common = pytest.importorskip(internal + "common_utils")

pytestmark = [pytest.mark.usefixtures("torch_step"), pytest.mark.filterwarnings("ignore")]

(OPERATOR,) = (op for op in methods.op_db if op.name == "nn.functional.mse_loss")
(MODULE,) = (m for m in modules.module_db if m.module_cls is torch.nn.MSELoss)
DTYPES = sorted(OPERATOR.dtypes, key=str)


def samples(dtype, requires_grad=True):
    found = list(OPERATOR.sample_inputs("cpu", dtype, requires_grad=requires_grad))
    found += OPERATOR.reference_inputs("cpu", dtype, requires_grad=requires_grad)
    assert len(found) >= 6
    for sample in found:
        assert set(sample.kwargs) <= {"reduction"}
        yield [sample.input, *sample.args], sample.kwargs


def tolerance(dtype):  # PyTorch rounds a half type at each step
    return {"rtol": 4 * torch.finfo(dtype).eps, "atol": 1e-5} if dtype.itemsize == 2 else {}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_samples(dtype):
    for operands, keywords in samples(dtype):
        results = []
        for mse in (face.mse_loss, F.mse_loss):
            loss = mse(*operands, **keywords)
            wanted = [t for t in operands if t.requires_grad]
            gradients = torch.autograd.grad(loss.sum(), wanted) if loss.requires_grad else ()
            results.append((loss, gradients))
        torch.testing.assert_close(*results, **tolerance(dtype))
        assert results[0][0].requires_grad == results[1][0].requires_grad


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_samples_that_are_not_contiguous(dtype):
    for operands, keywords in samples(dtype):
        strided = [common.noncontiguous_like(t) for t in operands]
        losses = [face.mse_loss(*pair, **keywords) for pair in (operands, strided)]
        assert torch.equal(*losses)
        gradients = [
            torch.autograd.grad(loss.sum(), pair)
            for loss, pair in zip(losses, (operands, strided), strict=True)
        ]
        assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_samples_as_negated_views(dtype):
    for operands, keywords in samples(dtype, requires_grad=False):
        negated = [t.neg()._neg_view() for t in operands]
        assert torch.equal(*(face.mse_loss(*pair, **keywords) for pair in (operands, negated)))


def test_derivatives_of_samples():
    for operands, keywords in samples(torch.float64):

        def call(*given, keywords=keywords):
            return face.mse_loss(*given, **keywords)

        fast = {"fast_mode": True, "check_batched_grad": True}
        assert gradcheck(call, operands, check_forward_ad=True, **fast)
        assert gradcheck(
            call,
            operands,
            check_forward_ad=True,
            check_batched_forward_grad=True,
            check_backward_ad=False,
        )
        assert gradgradcheck(
            call, operands, check_fwd_over_rev=True, check_rev_over_rev=True, **fast
        )


def test_samples_under_vmap():
    for operands, keywords in samples(torch.float64, requires_grad=False):
        batch = [torch.stack([t, 2 * t, t - 1]) for t in operands]
        for dims in ((0, 0), (0, None), (None, 0)):
            given = [operands[i] if dims[i] is None else batch[i] for i in (0, 1)]
            torch.testing.assert_close(
                *(
                    torch.vmap(functools.partial(mse, **keywords), dims)(*given)
                    for mse in (face.mse_loss, F.mse_loss)
                )
            )


def test_samples_compiled_and_functionalized():
    for operands, keywords in samples(torch.float32, requires_grad=False):
        want = face.mse_loss(*operands, **keywords)

        def call(*given, keywords=keywords):
            return face.mse_loss(*given, **keywords)

        torch._dynamo.reset()
        assert torch.equal(torch.compile(call, fullgraph=True, backend="eager")(*operands), want)
        assert torch.equal(torch.func.functionalize(call)(*operands), want)


def module_samples(dtype=torch.float64):
    inputs = MODULE.module_inputs_func(
        MODULE, device="cpu", dtype=dtype, requires_grad=True, training=True
    )
    assert len(inputs) >= 8
    return [(m.constructor_input.kwargs, m.forward_input.args) for m in inputs]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_module_samples(dtype):
    for keywords, operands in module_samples(dtype):
        module = face.MSELoss(**keywords)
        for copied in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            results = []
            for criterion in (copied, torch.nn.MSELoss(**keywords)):
                loss = criterion(*operands)
                results.append((loss, torch.autograd.grad(loss.sum(), operands[0])))
            torch.testing.assert_close(*results, **tolerance(dtype))
        assert repr(module) == repr(torch.nn.MSELoss(**keywords))
        assert module.state_dict() == {}


def test_derivatives_of_module_samples():
    for keywords, operands in module_samples():
        assert gradcheck(face.MSELoss(**keywords), operands, check_forward_ad=True, fast_mode=True)
        assert gradgradcheck(face.MSELoss(**keywords), operands, fast_mode=True)


def test_scripted_module_samples():
    for keywords, operands in module_samples():
        scripted = torch.jit.script(face.MSELoss(**keywords))
        torch.testing.assert_close(scripted(*operands), torch.nn.MSELoss(**keywords)(*operands))
