"""Chooses the implementation of a call: kernel, eager step, custom operator, or PyTorch's own operator."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad
from torch.nn import _reduction

from mseloss import _core
from mseloss.torch.step import step
from mseloss.torch.transforms import DifferentiableLoss

_DTYPES = frozenset((torch.float32, torch.float16, torch.bfloat16, torch.float64))
_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter))
_MAX_RANK = 8
_transforms_active = torch._C._are_functorch_transforms_active
_dispatch_modes = torch._C._len_torch_dispatch_stack
_tracing_state = torch._C._get_tracing_state
_any_autocast = torch._C._is_any_autocast_enabled


def loss(input, target, reduction):
    """The loss of `mseloss.torch.mse_loss`, after its deprecated and weighted cases."""
    if torch.compiler.is_compiling() or not _is_eager(input, target):
        return _general_loss(input, target, reduction)
    if torch.is_grad_enabled() and (input.requires_grad or target.requires_grad):
        return step(input, target, reduction)
    return _core.loss(input, target, reduction)


def _is_eager(x, y):
    """Whether both are CPU tensors that the kernels read, and nothing intercepts the operators on them."""
    return (
        type(x) in _PLAIN
        and type(y) in _PLAIN
        and x.dtype in _DTYPES
        and y.dtype in _DTYPES
        and x.is_cpu
        and y.is_cpu
        and x.dim() <= _MAX_RANK
        and y.dim() <= _MAX_RANK
        and not (x.is_neg() or y.is_neg() or _transforms_active() or _dispatch_modes())
        and not _any_autocast()
        and _tracing_state() is None
        and forward_ad._current_level < 0
    )


def _general_loss(input, target, reduction):
    """For compilation, transforms, modes, autocast, subclasses and what the kernels do not support."""
    device = input.device.type
    if device != "meta" and torch.is_autocast_enabled(device):  # autocast runs mse_loss in float32
        input, target = (_autocast(tensor) for tensor in (input, target))
    if not _has_kernel(input, target):
        operands = torch.broadcast_tensors(input, target)
        return torch._C._nn.mse_loss(*operands, _reduction.get_enum(reduction))
    if torch.compiler.is_compiling() or not (
        _transforms_active() or forward_ad._current_level >= 0
    ):
        return torch.ops.mseloss.mse_loss(input, target, reduction)
    return DifferentiableLoss.apply(input, target, reduction)


def _autocast(tensor):
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _has_kernel(x, y):
    return (
        x.dtype in _DTYPES
        and y.dtype in _DTYPES
        and x.device == y.device
        and x.device.type in ("cpu", "meta")
        and x.layout is torch.strided
        and y.layout is torch.strided
        and max(x.dim(), y.dim()) <= _MAX_RANK
    )
