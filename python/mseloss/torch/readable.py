"""Tests for tensors that the kernels can read and that the custom operators accept; PyTorch handles others.

The forward pass asks about its operands, the backward pass about `grad_output` and the saved operands. The
compiled step (python/src/torch/step.cpp) has the same two tests as `kernel_reads`: is_plain and
is_intercepted.
"""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import forward_ad

MAX_RANK = 8  # of the kernels

_Key, _KeySet = torch._C.DispatchKey, torch._C.DispatchKeySet
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_PLAIN_TYPES = frozenset((torch.Tensor, torch.nn.Parameter))
# FakeTensor and FunctionalTensor trace any operator. Other subclasses may override operators or support only
# PyTorch's own.
_ACCEPTED_TYPES = _PLAIN_TYPES | {FakeTensor, FunctionalTensor}


def _other_keys(*usual):
    """A mask of all dispatch keys but these."""
    keys = 0
    for key in usual:
        keys |= _KeySet(key).raw_repr()
    return ~keys


# Batched, lazily negated or conjugated, zero, sparse, quantised, nested, fake and foreign tensors each have a
# dispatch key other than these four.
_SPECIAL_TENSOR = _other_keys(_Key.CPU, _Key.AutogradCPU, _Key.AutocastCPU, _Key.ADInplaceOrView)
# Transforms, dispatch modes and tracers add other keys than these two to the thread's include set.
_INTERCEPTION = _other_keys(_Key.BackendSelect, _Key.ADInplaceOrView)
_keys_of = torch._C._dispatch_keys
_included_keys = torch._C._dispatch_tls_local_include_set
_functorch = torch._C._functorch


def is_known_type(*tensors):
    """Whether none is of a foreign subclass, which may define what operators do."""
    return _ACCEPTED_TYPES.issuperset(map(type, tensors))


def kernel_reads(*tensors):
    """Whether all tensors are strided memory of the CPU, and nothing intercepts the operators on them."""
    if torch.compiler.is_compiling():
        return False
    if _included_keys().raw_repr() & _INTERCEPTION or forward_ad._current_level >= 0:
        return False
    for tensor in tensors:
        if (
            _keys_of(tensor).raw_repr() & _SPECIAL_TENSOR
            or tensor.dtype not in _DTYPES
            or tensor.dim() > MAX_RANK
        ):
            return False
    return True


def operator_accepts(*tensors):
    """Whether all tensors are, below transforms and tracers, strided CPU tensors of a supported dtype."""
    return is_known_type(*tensors) and all(map(_is_supported, tensors))


def _is_supported(tensor):
    if not torch.compiler.is_compiling():
        while _functorch.is_functorch_wrapped_tensor(tensor):
            tensor = _functorch.get_unwrapped(tensor)
            if type(tensor) not in _ACCEPTED_TYPES:
                return False
    return (
        tensor.dtype in _DTYPES
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_nested
    )
