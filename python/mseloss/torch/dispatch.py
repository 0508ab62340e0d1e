"""Chooses the implementation of a call: kernel, eager step, custom operator, or PyTorch's own operator."""

from __future__ import annotations

import torch

from mseloss import _core
from mseloss.torch import operators
from mseloss.torch.readable import MAX_RANK, is_known_type, kernel_reads, operator_accepts
from mseloss.torch.step import step


def implementation(input, target):
    """A function (input, target, reduction) -> loss for these operands; None for PyTorch's own."""
    if is_known_type(input, target) and kernel_reads(input, target):
        return _eager_loss
    if operator_accepts(input, target) and max(input.dim(), target.dim()) <= MAX_RANK:
        return operator_loss
    return None


def _is_autocast(tensor):
    """Whether autocast, which runs mse_loss in float32, is enabled for the tensor's device."""
    return torch.is_autocast_enabled("cuda" if tensor.is_cuda else "cpu")


def autocast_dtype(input, target):
    """The dtype of the kernels' loss under autocast, float32 for half types; else None, the promoted one.

    The kernels widen half types, so that under autocast only the loss's dtype changes.
    """
    return operators.loss_dtype(input, target, wide=True) if _is_autocast(input) else None


def autocast(*tensors):
    """The operands as autocast passes them to mse_loss."""
    return tuple(map(_widened, tensors)) if _is_autocast(tensors[0]) else tensors


def _widened(tensor):
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _eager_loss(input, target, reduction):
    dtype = autocast_dtype(input, target)
    if torch.is_grad_enabled() and (input.requires_grad or target.requires_grad):
        return step(input, target, reduction, dtype)
    return _core.loss(input, target, reduction, dtype=dtype)


def operator_loss(input, target, reduction):
    return operators.loss(input, target, reduction, _is_autocast(input))
