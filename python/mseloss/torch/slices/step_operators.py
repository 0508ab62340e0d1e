"""The operators of the training step with weights and dimensions in compiled graphs, below autograd.

    slices_value(Tensor input, Tensor target, Tensor weight, bool weighted, bool mean, int dims, bool wide)
        -> Tensor
    slices_step(Tensor input, Tensor target, Tensor weight, bool weighted, bool mean, int dims, bool wide,
        bool channels_last) -> (Tensor loss, Tensor token)
    slices_step_backward(Tensor grad_output, Tensor input, Tensor target, Tensor weight, bool weighted,
        bool mean, int dims, Tensor token, bool channels_last) -> Tensor

As in torch/step_operators.py one sweep computes the loss and the gradient with respect to `input`, which
`token` names until the backward pass. `input` has the broadcast shape. Bit i of `dims` is set if dimension i
is reduced; reduced dimensions remain with extent 1. Without a weight `weighted` is false and `weight` any
tensor: the C interface has no optional tensors. slices_gradient computes the gradient if the token's is not
usable.
"""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

from mseloss import _core
from mseloss.torch import operators
from mseloss.torch.operators import LIBRARY, loss_dtype
from mseloss.torch.readable import MAX_RANK
from mseloss.torch.slices.formula import kept_shape, shape_of, wide
from mseloss.torch.slices.operators import accepted, batch_first, loss_backward
from mseloss.torch.step_operators import (
    empty_gradient,
    is_channels_last,
    is_last_level,
    is_traced,
)

_TAGS = (torch.Tag.pt2_compliant_tag,)
_OPERANDS = "Tensor input, Tensor target, Tensor weight, bool weighted, bool mean, int dims"
LIBRARY.define(f"slices_value({_OPERANDS}, bool wide) -> Tensor", tags=_TAGS)
LIBRARY.define(
    f"slices_step({_OPERANDS}, bool wide, bool channels_last) -> (Tensor loss, Tensor token)",
    tags=_TAGS,
)
LIBRARY.define(
    f"slices_step_backward(Tensor grad_output, {_OPERANDS}, Tensor token, bool channels_last) -> Tensor",
    tags=_TAGS,
)
LIBRARY.define(f"slices_gradient(Tensor grad_output, {_OPERANDS}, bool channels_last) -> Tensor")
# Differentiable forms of these, with the arguments of slices_loss, only while a graph is traced: see
# torch/step_operators.py.
_GIVEN = "Tensor input, Tensor target, Tensor? weight, str reduction, int[] dim"
LIBRARY.define(
    f"differentiable_slices_step({_GIVEN}, bool wide, bool channels_last) -> (Tensor loss, Tensor token)"
)
LIBRARY.define(
    f"differentiable_slices_step_backward(Tensor grad_output, {_GIVEN}, Tensor token, bool channels_last)"
    " -> Tensor"
)
value = torch.ops.mseloss.slices_value.default
differentiable_step = torch.ops.mseloss.differentiable_slices_step.default
differentiable_step_backward = torch.ops.mseloss.differentiable_slices_step_backward.default


def _packed(input, target, weight, reduction, dim):
    """The arguments of slices_loss as these operators take them."""
    weighted = weight is not None
    dims = sum(1 << i for i in dim)
    return input, target, weight if weighted else target, weighted, reduction == "mean", dims


class _Step:
    """slices_step with the arguments of differentiable_slices_step."""

    @staticmethod
    def redispatch(keyset, input, target, weight, reduction, dim, *rest):
        arguments = _packed(input, target, weight, reduction, dim)
        return torch.ops.mseloss.slices_step.default.redispatch(keyset, *arguments, *rest)


class _StepBackward:
    """slices_step_backward with the arguments of differentiable_slices_step_backward."""

    @staticmethod
    def redispatch(keyset, grad_output, input, target, weight, reduction, dim, *rest):
        arguments = grad_output, *_packed(input, target, weight, reduction, dim), *rest
        return torch.ops.mseloss.slices_step_backward.default.redispatch(keyset, *arguments)


step, step_backward = _Step, _StepBackward


def loss(input, target, weight, reduction, dim, wide=False):
    """The loss by these operators, while torch.compile traces operands that they accept; else None.

    Called for each level of torch.func.
    """
    tensors = [tensor for tensor in (input, target, weight) if tensor is not None]
    if (
        reduction == "none"
        or torch.compiler.is_exporting()
        or not all(map(is_traced, tensors))
        or not accepted(input, target, weight)
        or input.dim() > MAX_RANK
        or input.shape != shape_of(*tensors)
    ):
        return None
    last_level = is_last_level(*tensors)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        # Otherwise the backward pass would compute the gradient again (Step in derivatives.py).
        one_dtype = input.dtype == target.dtype == loss_dtype(input, target, wide)
        if input.requires_grad and (one_dtype or (last_level and not target.requires_grad)):
            arguments = (input, target, weight, reduction, dim, wide, is_channels_last(input))
            return differentiable_step(*arguments)[0]
        return None
    if not last_level or forward_ad._current_level >= 0:  # `value` has no derivatives
        return None
    return value(*_packed(input, target, weight, reduction, dim), wide)


# The kernels in Python


def _unpacked(input, weight, weighted, mean, dims):
    dim = tuple(i for i in range(input.dim()) if dims >> i & 1)
    return weight if weighted else None, "mean" if mean else "sum", dim


def _value_kernel(input, target, weight, weighted, mean, dims, wide):
    weight, reduction, dim = _unpacked(input, weight, weighted, mean, dims)
    dtype = loss_dtype(input, target, wide)
    value = _core.loss(
        input, target, reduction, weight=weight, axis=dim, keepdims=True, dtype=dtype
    )
    return value.contiguous()


def _step_kernel(input, target, weight, weighted, mean, dims, wide, channels_last):
    token = torch.zeros((), dtype=torch.int64)
    return _value_kernel(input, target, weight, weighted, mean, dims, wide), token


def _gradient(grad_output, input, target, weight, weighted, mean, dims, channels_last):
    weight, reduction, dim = _unpacked(input, weight, weighted, mean, dims)
    x, y = input, target
    if operators.promoted(x, y).itemsize == 2 and grad_output.dtype.itemsize > 2:
        x, y = wide(x), wide(y)
    gradient = loss_backward(grad_output, x, y, weight, reduction, dim)
    order = torch.channels_last if channels_last else torch.contiguous_format
    return gradient.to(input.dtype, memory_format=order)


def _step_backward_kernel(
    grad_output, input, target, weight, weighted, mean, dims, token, channels_last
):
    return _gradient(grad_output, input, target, weight, weighted, mean, dims, channels_last)


LIBRARY.impl("slices_gradient", _gradient, "CompositeExplicitAutograd")
if not _core.register_torch_kernels():
    LIBRARY.impl("slices_value", _value_kernel, "CPU")
    LIBRARY.impl("slices_step", _step_kernel, "CPU")
    LIBRARY.impl("slices_step_backward", _step_backward_kernel, "CPU")


@torch.library.register_fake("mseloss::slices_value", lib=LIBRARY)
def _fake_value(input, target, weight, weighted, mean, dims, wide):
    _, _, dim = _unpacked(input, weight, weighted, mean, dims)
    shape = kept_shape(input.shape, dim)
    return input.new_empty(shape, dtype=loss_dtype(input, target, wide))


@torch.library.register_fake("mseloss::slices_step", lib=LIBRARY)
def _(input, target, weight, weighted, mean, dims, wide, channels_last):
    loss = _fake_value(input, target, weight, weighted, mean, dims, wide)
    return loss, input.new_empty((), dtype=torch.int64)


@torch.library.register_fake("mseloss::slices_step_backward", lib=LIBRARY)
def _(grad_output, input, target, weight, weighted, mean, dims, token, channels_last):
    return empty_gradient(input, channels_last)


@torch.library.register_vmap("mseloss::differentiable_slices_step_backward", lib=LIBRARY)
def _(
    info,
    in_dims,
    grad_output,
    input,
    target,
    weight,
    reduction,
    dim,
    token,
    channels_last,
):
    tensors = batch_first((grad_output, input, target, weight), in_dims[:4])
    return loss_backward(*tensors, reduction, [i + 1 for i in dim]), 0
