"""Tests for tensors that the kernels can read and that the custom operators accept; PyTorch handles others.

The forward pass asks about its operands, the backward pass about `grad_output` and the saved operands. The
compiled step has the same two tests as `kernel_reads`: is_plain and is_intercepted
(python/src/torch/plain_tensors.h).
"""

from __future__ import annotations

import functools

import torch
from torch.autograd import forward_ad

from mseloss import _core, _device
from mseloss.torch import private

MAX_RANK = 8  # of the kernels

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_PLAIN_TYPES = frozenset((torch.Tensor, torch.nn.Parameter))
# FakeTensor and FunctionalTensor trace any operator. Other subclasses may override operators or support only
# PyTorch's own.
_ACCEPTED_TYPES = _PLAIN_TYPES | private.TRACING_TYPES


def other_keys(*usual):
    """A mask of all dispatch keys but these, given by name."""
    keys = 0
    for name in usual if private.KEYS_ARE_KNOWN else ():
        keys |= private.DispatchKeySet(getattr(private.DispatchKey, name)).raw_repr()
    return ~keys


# Batched, lazily negated or conjugated, zero, sparse, quantised, nested, fake and foreign tensors each have a
# dispatch key other than these four.
_SPECIAL_TENSOR = other_keys("CPU", "AutogradCPU", "AutocastCPU", "ADInplaceOrView")
_SPECIAL_DEVICE_TENSOR = other_keys("CUDA", "AutogradCUDA", "AutocastCUDA", "ADInplaceOrView")
# Transforms, dispatch modes and tracers add other keys than these two to the thread's include set.
_INTERCEPTION = other_keys("BackendSelect", "ADInplaceOrView")
_keys_of, _included_keys = private.dispatch_keys, private.included_keys
_keys_are_known = private.KEYS_ARE_KNOWN


def is_known_type(*tensors):
    """Whether none is of a foreign subclass, which may define what operators do."""
    return _ACCEPTED_TYPES.issuperset(map(type, tensors))


def is_intercepted():
    """Whether transforms, dispatch modes or tracers intercept operators, or that cannot be known."""
    return not _keys_are_known or bool(_included_keys().raw_repr() & _INTERCEPTION)


def is_on_device(tensor):
    """Whether the memory is that of a CUDA device."""
    return tensor.device.type in _device.DEVICE_TYPES


@functools.cache
def _has_device():
    return not _core.info()["cuda"].startswith("device:")


@torch.compiler.assume_constant_result
def _device_is_available():
    return _has_device()  # the result of a cached function is not a constant for torch.compile


def _has_kernels(device):
    """Whether the kernels run on the device."""
    if device.type in _device.DEVICE_TYPES:
        return _device_is_available()
    return device.type == "cpu"


def kernel_reads(*tensors, mask=None):
    """Whether all tensors are strided memory of the CPU or of one CUDA device, and nothing intercepts the
    operators on them.

    `mask` is a further tensor, of dtype bool.
    """
    if torch.compiler.is_compiling() or not _keys_are_known:
        return False
    if _included_keys().raw_repr() & _INTERCEPTION or forward_ad._current_level >= 0:
        return False
    special = _SPECIAL_TENSOR
    if not tensors[0].is_cpu:
        device, special = tensors[0].device, _SPECIAL_DEVICE_TENSOR
        if not _has_kernels(device) or any(tensor.device != device for tensor in tensors):
            return False
        if mask is not None and mask.device != device:
            return False
    for tensor in tensors:
        if (
            _keys_of(tensor).raw_repr() & special
            or tensor.dtype not in DTYPES
            or tensor.dim() > MAX_RANK
        ):
            return False
    return mask is None or not (
        type(mask) not in _ACCEPTED_TYPES
        or _keys_of(mask).raw_repr() & special
        or mask.dim() > MAX_RANK
    )


def operator_accepts(*tensors, mask=None):
    """Whether all tensors are, below transforms and tracers, strided tensors of a supported dtype, on one
    device that has kernels.

    `mask` is a further tensor, of dtype bool.
    """
    if not is_known_type(*tensors):  # first: an operand may be no tensor at all
        return False
    device = tensors[0].device
    if not _has_kernels(device):
        return False
    if mask is not None and not (is_known_type(mask) and _is_strided(mask, device)):
        return False
    return all(tensor.dtype in DTYPES and _is_strided(tensor, device) for tensor in tensors)


def _is_strided(tensor, device):
    if not torch.compiler.is_compiling():
        while private.is_functorch_wrapped_tensor(tensor):
            tensor = private.get_unwrapped(tensor)
            if type(tensor) not in _ACCEPTED_TYPES:
                return False
    return tensor.layout is torch.strided and tensor.device == device and not tensor.is_nested
