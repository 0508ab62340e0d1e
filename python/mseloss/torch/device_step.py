"""The loss of CUDA tensors: results from PyTorch's allocator, on its current stream, nothing waits.

Only operands of the same shape and dtype come here, and no weights or dimensions; PyTorch's own operators
compute the rest, derivatives of second order among them.
"""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

from mseloss import _core, _device
from mseloss.torch import operators, private
from mseloss.torch.derivatives import loss_count
from mseloss.torch.private import (
    DisableTorchFunction,
    SingleLevelFunction,
    keeps_graph,
    saved_tensors_hooks,
)
from mseloss.torch.readable import DTYPES, MAX_RANK, is_intercepted, other_keys

# Dispatch keys that no plain tensor of the device has.
_special_keys = other_keys("CUDA", "AutogradCUDA", "AutocastCUDA", "ADInplaceOrView")


def _is_available():
    return not _core.info()["cuda"].startswith("device:")


_available = None  # whether the kernels can run, known after the first call


def reads(*tensors):
    """Whether the CUDA kernels read all tensors, on one device, and nothing intercepts operators on them."""
    global _available
    first = tensors[0]
    if first.device.type not in _device.DEVICE_TYPES or torch.compiler.is_compiling():
        return False
    if is_intercepted() or forward_ad._current_level >= 0:
        return False
    if _available is None:
        _available = _is_available()
    return _available and all(
        t.device == first.device
        and t.dtype in DTYPES
        and t.dim() <= MAX_RANK
        and not private.dispatch_keys(t).raw_repr() & _special_keys
        for t in tensors
    )


def accepts(input, target):
    return (
        input.shape == target.shape
        and input.dtype == target.dtype
        and reads(input, target)
        and not torch.is_autocast_enabled(input.device.type)
    )


def loss(input, target, reduction):
    if torch.is_grad_enabled() and (input.requires_grad or target.requires_grad):
        return DeviceStep.apply(input, target, reduction)
    return _core.loss(input, target, reduction)


class DeviceStep(SingleLevelFunction):
    """As EagerStep, without reading grad_output, for which it would have to wait for the device."""

    @staticmethod
    def forward(ctx, input, target, reduction):
        ctx.save_for_backward(input, target)
        ctx.reduction, ctx.gradient = reduction, None
        # A gradient in a half type is rounded: a multiple of it would be rounded twice.
        exact = input.dtype.itemsize >= 4
        if reduction == "none" or not exact or not input.requires_grad or saved_tensors_hooks(True):
            return _core.loss(input, target, reduction)
        value, ctx.gradient = _core.loss_and_grad(input, target, reduction)
        return value

    @staticmethod
    def backward(ctx, grad_output):
        gradient, ctx.gradient = ctx.gradient, None
        input, target = ctx.saved_tensors
        needs = ctx.needs_input_grad
        with DisableTorchFunction():
            if torch.is_grad_enabled() or not reads(grad_output, input, target):
                return *_differentiable(grad_output, input, target, ctx.reduction, needs), None
            of_input = of_target = None
            if needs[0] and gradient is not None and not keeps_graph():
                # fl(fl(d * scale) * 1) * grad_output is the definition of the gradient.
                of_input = gradient.mul_(grad_output)
            elif needs[0]:
                of_input = _core.grad(grad_output, input, target, ctx.reduction)
            if needs[1]:
                of_target = _core.grad(grad_output, target, input, ctx.reduction)
            return of_input, of_target, None


def _differentiable(grad_output, input, target, reduction, needs):
    scale = operators.scale(loss_count(input, target, reduction))
    of_input = (input - target) * scale * grad_output
    return of_input if needs[0] else None, -of_input if needs[1] else None
