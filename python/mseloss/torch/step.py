"""The eager training step: the forward pass computes the gradient as well, the backward pass returns it."""

from __future__ import annotations

import importlib

import torch

from mseloss import _core
from mseloss.torch import derivatives
from mseloss.torch.operators import LIBRARY
from mseloss.torch.private import (
    DisableTorchFunction,
    SingleLevelFunction,
    keeps_graph,
    saved_tensors_hooks,
)
from mseloss.torch.readable import is_on_device, kernel_reads
from mseloss.torch.step_name import module_name
from mseloss.torch.stored import finished, is_usable

try:  # the C++ step, if it was built for this version of PyTorch
    compiled_loss = importlib.import_module(f"mseloss.{module_name(torch.__version__)}").mse_loss
except ImportError:

    def compiled_loss(*arguments):
        """The loss, or None to leave the call to Python."""
        return None

    STEP_IS_COMPILED = False
else:
    STEP_IS_COMPILED = True

    # A graph that was built under vmap may be traced later.
    @torch.library.register_fake("mseloss::transformed_step_backward", lib=LIBRARY)
    def _(grad_output, input, target, weight, token, mean, summed):
        return input.new_empty(input.shape) if summed else torch.empty_like(input)


_core.set_torch_step(STEP_IS_COMPILED)


class EagerStep(SingleLevelFunction):
    """The loss of tensors that the kernels read, in `dtype`, or in the promoted dtype for None.

    For a sum over operands of the same shape, one sweep computes the loss and the gradient with respect to
    `input`, which is kept for the backward pass. Hooks for saved tensors, checkpointing among them, decide
    themselves what is kept: with them the backward pass computes the gradient from what they return.
    """

    @staticmethod
    def forward(ctx, input, target, reduction, dtype=None):
        ctx.save_for_backward(input, target)
        ctx.reduction = reduction
        ctx.gradient = None
        if (
            reduction == "none"
            or input.shape != target.shape
            or not input.requires_grad
            or saved_tensors_hooks(True)
            or not is_usable(input, target, None, reduction, dtype, 1)
        ):
            return _core.loss(input, target, reduction, dtype=dtype)
        loss, ctx.gradient = _core.loss_and_grad(input, target, reduction, dtype=dtype)
        return loss

    @staticmethod
    def backward(ctx, grad_output):
        gradient, ctx.gradient = ctx.gradient, None
        needs = ctx.needs_input_grad
        with DisableTorchFunction():  # as in PyTorch's backward passes
            # Only in the last backward pass, of first order: the stored gradient has no history for a second
            # derivative, and a retained graph needs it again.
            if gradient is not None:
                last = kernel_reads(grad_output) and not (torch.is_grad_enabled() or keeps_graph())
                read = ctx.saved_tensors if last and is_on_device(gradient) else (None, None)
                arguments = (gradient, grad_output, *read, None, ctx.reduction)
                gradient = finished(*arguments) if last else None
                if gradient is not None and not needs[1]:
                    return gradient, None, None, None
            operands = ctx.saved_tensors
            return *gradients(grad_output, *operands, ctx.reduction, needs, gradient), None, None


step = EagerStep.apply


def gradients(grad_output, input, target, reduction, needs, of_input):
    """The gradients with respect to `input` and `target`, each None unless needed.

    `of_input`: the gradient with respect to `input` if the forward pass has computed it, else None. The
    compiled step calls this function too.
    """
    with DisableTorchFunction():
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
    if input.dtype == target.dtype and reduction != "none":
        # The upstream gradient is wider under autocast; 1, for example, can be narrowed without loss. On a
        # device the comparison would wait.
        narrow = grad_output.to(input.dtype)
        if narrow is grad_output or (not is_on_device(input) and narrow == grad_output):
            return _core.grad(narrow, input, target, reduction)
    dtype = grad_output.dtype  # that of the loss
    if input.dtype == target.dtype == dtype:
        return _core.grad(grad_output, input, target, reduction)
    if reduction != "none" and torch.promote_types(input.dtype, target.dtype) == dtype:
        return _core.loss_and_grad(input, target, reduction, grad_output=grad_output)[1]
    if is_on_device(input):
        out = torch.empty_like(input)
    else:
        out = _core.empty(input.shape, input.dtype, like=input)
    return _core.grad(grad_output, input.to(dtype), target.to(dtype), reduction, out=out)
