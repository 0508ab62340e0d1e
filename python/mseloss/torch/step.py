"""The eager training step: the forward pass computes the gradient as well, the backward pass returns it."""

from __future__ import annotations

import importlib
import re

import torch

from mseloss import _core
from mseloss.torch import derivatives
from mseloss.torch.readable import kernel_reads

_keep_graph = torch._C._autograd._get_current_graph_task_keep_graph
_saved_tensors_hooks = torch._C._autograd._top_saved_tensors_default_hooks

try:  # the C++ step, if it was built for this version of PyTorch
    compiled_loss = importlib.import_module(
        "mseloss._torch_step_" + re.sub(r"\W", "_", torch.__version__)
    ).mse_loss
except ImportError:

    def compiled_loss(input, target, reduction):
        """The loss, or None to leave the call to Python."""
        return None

    STEP_IS_COMPILED = False
else:
    STEP_IS_COMPILED = True


class EagerStep(torch.autograd.Function):
    """The loss of tensors that the kernels read.

    For a sum over operands of the same shape, one sweep computes the loss and the gradient with respect to
    `input`, which is kept for the backward pass. Hooks for saved tensors, checkpointing among them, decide
    themselves what is kept: with them the backward pass computes the gradient from what they return.
    """

    @staticmethod
    def forward(ctx, input, target, reduction):
        ctx.save_for_backward(input, target)
        ctx.reduction = reduction
        ctx.gradient = None
        if (
            reduction == "none"
            or input.shape != target.shape
            or not input.requires_grad
            or _saved_tensors_hooks(True)
        ):
            return _core.loss(input, target, reduction)
        loss, ctx.gradient = _core.loss_and_grad(input, target, reduction)
        return loss

    @staticmethod
    def backward(ctx, grad_output):
        gradient, ctx.gradient = ctx.gradient, None
        needs = ctx.needs_input_grad
        with torch._C.DisableTorchFunction():  # as in PyTorch's backward passes
            # The stored gradient has no history, and a retained graph needs it again.
            if gradient is not None:
                last = kernel_reads(grad_output) and not (torch.is_grad_enabled() or _keep_graph())
                gradient = _scaled(gradient, grad_output) if last else None
                if gradient is not None and not needs[1]:
                    return gradient, None, None
            operands = ctx.saved_tensors
            return *gradients(grad_output, *operands, ctx.reduction, needs, gradient), None


step = super(
    torch.autograd.Function, EagerStep
).apply  # without Function.apply's test for transforms


def _scaled(gradient, grad_output):
    """The stored gradient times `grad_output`, in place; None if that is not the correctly rounded result."""
    if grad_output.item() == 1:
        return gradient
    # A gradient in a half type has been rounded, possibly to zero, so scaling it is not exact.
    exact = gradient.dtype == grad_output.dtype and gradient.dtype.itemsize >= 4
    return gradient.mul_(grad_output) if exact else None


def gradients(grad_output, input, target, reduction, needs, of_input):
    """The gradients with respect to `input` and `target`, each None unless needed.

    `of_input`: the gradient with respect to `input` if the forward pass has computed it, else None. The
    compiled step calls this function too.
    """
    with torch._C.DisableTorchFunction():
        if (
            torch.is_grad_enabled()
            or input.shape != target.shape
            or not kernel_reads(grad_output, input, target)
        ):
            return derivatives.loss_gradients(grad_output, input, target, reduction, needs)
        if needs[0] and of_input is None:
            of_input = _gradient(grad_output, input, target, reduction)
        of_target = _gradient(grad_output, target, input, reduction) if needs[1] else None
        return of_input, of_target


def _gradient(grad_output, input, target, reduction):
    """The gradient with respect to `input`; both operands have the same shape."""
    if grad_output.dtype == input.dtype == target.dtype:
        return _core.grad(grad_output, input, target, reduction)
    dtype = torch.promote_types(input.dtype, target.dtype)
    operands = (tensor.to(dtype) for tensor in (grad_output, input, target))
    return _core.grad(*operands, reduction, out=_core.empty(input.shape, input.dtype, like=input))
