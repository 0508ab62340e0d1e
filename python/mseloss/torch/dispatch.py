"""Chooses the implementation of a call: kernel, eager step, custom operator, or PyTorch's own operator."""

from __future__ import annotations

import torch

from mseloss import _core
from mseloss.torch import operators
from mseloss.torch.readable import MAX_RANK, is_known_type, kernel_reads, operator_accepts
from mseloss.torch.step import step

_any_autocast = torch._C._is_any_autocast_enabled


def implementation(input, target):
    """A function (input, target, reduction) -> loss for these operands; None for PyTorch's own."""
    if is_known_type(input, target) and kernel_reads(input, target) and not _any_autocast():
        return _eager_loss
    if operator_accepts(input, target) and max(input.dim(), target.dim()) <= MAX_RANK:
        return _operator_loss
    return None


def _eager_loss(input, target, reduction):
    if torch.is_grad_enabled() and (input.requires_grad or target.requires_grad):
        return step(input, target, reduction)
    return _core.loss(input, target, reduction)


def _operator_loss(input, target, reduction):
    if torch.is_autocast_enabled("cpu"):  # autocast runs mse_loss in float32
        input, target = _autocast(input), _autocast(target)
    return operators.loss(input, target, reduction)


def _autocast(tensor):
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
