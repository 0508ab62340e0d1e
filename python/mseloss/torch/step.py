"""The eager training step: the forward pass computes the gradient as well, the backward pass returns it."""

from __future__ import annotations

import importlib
import re

import torch

from mseloss import _core
from mseloss.torch import operators
from mseloss.torch.transforms import DifferentiableBackward

_keep_graph = torch._C._autograd._get_current_graph_task_keep_graph
_is_batched = torch._C._functorch.is_legacy_batchedtensor

try:  # the common step in C++, if it was built for this very version of PyTorch
    compiled_loss = importlib.import_module(
        "mseloss._torch_step_" + re.sub(r"\W", "_", torch.__version__)
    ).mse_loss
except ImportError:

    def compiled_loss(input, target, reduction):
        return None

    STEP_IS_COMPILED = False
else:
    STEP_IS_COMPILED = True


class EagerStep(torch.autograd.Function):
    """Eager mode: the forward pass makes the gradient as well, where one sweep can."""

    @staticmethod
    def forward(ctx, input, target, reduction):
        ctx.save_for_backward(input, target)
        ctx.reduction = reduction
        if reduction == "none" or input.shape != target.shape or not input.requires_grad:
            ctx.gradient = None
            return _core.loss(input, target, reduction)
        loss, ctx.gradient = _core.loss_and_grad(input, target, reduction)
        return loss

    @staticmethod
    def backward(ctx, grad_output):
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is not None and not (_transformed_gradient(grad_output) or _keep_graph()):
            gradient = _scaled(gradient, grad_output)
            if gradient is not None and not ctx.needs_input_grad[1]:
                return gradient, None, None
        else:
            gradient = None  # it cannot be given away, or has no history
        operands = ctx.saved_tensors
        needs = ctx.needs_input_grad
        return *gradients(grad_output, *operands, ctx.reduction, needs, gradient), None


step = super(torch.autograd.Function, EagerStep).apply  # Function.apply, less a look for transforms


def _transformed_gradient(grad_output):
    """Whether the backward pass is itself differentiated, or vectorised (is_grads_batched)."""
    return torch.is_grad_enabled() or _is_batched(grad_output)


def _scaled(gradient, grad_output):
    """The forward pass's gradient times `grad_output`, or None where that would not be the exact result."""
    if grad_output.item() == 1:
        return gradient
    # A gradient in a half type has been rounded, perhaps to zero: it cannot be scaled any more.
    exact = gradient.dtype == grad_output.dtype and gradient.dtype.itemsize >= 4
    return gradient.mul_(grad_output) if exact else None


def gradients(grad_output, input, target, reduction, needs, of_input):
    """Both gradients, None where not needed. `of_input`: the forward pass's, where that is the answer."""
    transformed = _transformed_gradient(grad_output)
    if transformed or input.shape != target.shape:  # then it is to be reduced
        count = operators.loss_count(input, target, reduction)
        plain = torch.ops.mseloss.mse_loss_backward
        backward = DifferentiableBackward.apply if transformed else plain
        return operators.input_and_target_gradients(
            backward, grad_output, input, target, count, needs
        )
    if needs[0] and of_input is None:
        of_input = _gradient(grad_output, input, target, reduction)
    of_target = _gradient(grad_output, target, input, reduction) if needs[1] else None
    return of_input, of_target


def _gradient(grad_output, input, target, reduction):
    """The gradient in `input`, of the shape of both operands."""
    if grad_output.dtype == input.dtype == target.dtype:
        return _core.grad(grad_output, input, target, reduction)
    dtype = torch.promote_types(input.dtype, target.dtype)
    operands = (tensor.to(dtype) for tensor in (grad_output, input, target))
    return _core.grad(*operands, reduction, out=_core.empty(input.shape, input.dtype, like=input))
