"""Calls with a weight or dimensions: prepares the operands and chooses the implementation.

The eager step is that of step.py: the forward pass computes the gradient as well, the backward pass returns
it.
"""

from __future__ import annotations

import math
import operator

import torch

from mseloss import _core
from mseloss.torch import operators
from mseloss.torch.dispatch import autocast_dtype
from mseloss.torch.private import (
    DisableTorchFunction,
    SingleLevelFunction,
    keeps_graph,
    saved_tensors_hooks,
)
from mseloss.torch.readable import MAX_RANK, kernel_reads
from mseloss.torch.slices.derivatives import gradients
from mseloss.torch.slices.formula import formula, is_mask, kept_shape, shape_of
from mseloss.torch.slices.operators import accepted
from mseloss.torch.slices.operators import loss as loss_operator
from mseloss.torch.stored import finished, is_usable


class EagerSlices(SingleLevelFunction):
    """The loss of tensors that the kernels read, in `dtype`, or in the promoted dtype for None.

    It has the shape of the operator `slices_loss`: reduced dimensions remain with extent 1.
    """

    @staticmethod
    def forward(ctx, input, target, weight, reduction, dim, dtype):
        ctx.save_for_backward(input, target, weight)
        ctx.options = reduction, dim
        ctx.gradient = None
        shape = shape_of(input, target, weight)
        if (
            reduction == "none"
            or input.shape != shape
            or not input.requires_grad
            or saved_tensors_hooks(True)
            or not is_usable(
                input, target, weight, reduction, dtype, math.prod(kept_shape(shape, dim))
            )
        ):
            return _loss(input, target, weight, reduction, dim, dtype)
        loss, ctx.gradient = _core.loss_and_grad(
            input, target, reduction, weight=weight, axis=dim, dtype=dtype
        )
        return loss.view(kept_shape(shape, dim))

    @staticmethod
    def backward(ctx, grad_output):
        gradient, ctx.gradient = ctx.gradient, None
        needs = ctx.needs_input_grad
        rest = (None, None, None)
        with DisableTorchFunction():
            operands = ctx.saved_tensors
            # Only in the last backward pass, of first order: the stored gradient has no history for a second
            # derivative, and a retained graph needs it again.
            if gradient is not None:
                last = kernel_reads(grad_output) and not (torch.is_grad_enabled() or keeps_graph())
                gradient = (
                    finished(gradient, grad_output, *operands, ctx.options[0]) if last else None
                )
                if gradient is not None:
                    others = (False, *needs[1:3])
                    if not any(others):
                        return gradient, None, None, *rest
                    found = gradients(grad_output, *operands, *ctx.options, others)
                    return gradient, *found[1:], *rest
            return *gradients(grad_output, *operands, *ctx.options, needs[:3]), *rest


def _loss(input, target, weight, reduction, dim, dtype):
    if reduction == "none":
        return _core.loss(input, target, "none", weight=weight, dtype=dtype)
    return _core.loss(input, target, reduction, weight=weight, axis=dim, keepdims=True, dtype=dtype)


def slices_loss(input, target, weight, reduction, dim, keepdim):
    """The loss with a weight, or over the dimensions `dim`."""
    input, target, weight = promoted_operands(input, target, weight)
    shape = _broadcast(input, target, weight)
    dims = _dims(dim, keepdim, len(shape), reduction)
    value = _keeping_dims(input, target, weight, reduction, dims)
    if not dims or keepdim:
        return value
    if dim is None:
        return value.reshape(())
    return value.reshape([n for i, n in enumerate(value.shape) if i not in dims])


def _keeping_dims(input, target, weight, reduction, dims):
    mask = is_mask(weight)
    read = (input, target) if weight is None or mask else (input, target, weight)
    if kernel_reads(*read, mask=weight if mask else None):
        dtype = autocast_dtype(input, target)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in read):
            return EagerSlices.apply(input, target, weight, reduction, dims, dtype)
        return _loss(input, target, weight, reduction, dims, dtype)
    if accepted(input, target, weight) and max(t.dim() for t in read) <= MAX_RANK:
        wide = autocast_dtype(input, target) is not None
        return loss_operator(input, target, weight, reduction, list(dims), wide)
    return formula(input, target, weight, reduction, dims)


def promoted_operands(input, target, weight):
    """The operands, widened where the weight's dtype is wider, and a weight of a dtype that they hold."""
    if weight is None or weight.dtype == torch.bool:
        return input, target, weight
    dtype = operators.promoted(input, target)
    common = torch.promote_types(dtype, weight.dtype)
    if not weight.dtype.is_floating_point or (weight.dim() == 0 and common != dtype):
        return input, target, weight.to(dtype)
    if common != dtype:
        input, target = input.to(common), target.to(common)
    return input, target, weight


def _broadcast(input, target, weight):
    shape = torch.broadcast_shapes(input.shape, target.shape)
    if weight is None:
        return shape
    try:
        return torch.broadcast_shapes(shape, weight.shape)
    except RuntimeError:
        raise ValueError(
            f"weight: expected a shape that broadcasts with {tuple(shape)}, got {tuple(weight.shape)}"
        ) from None


def _dims(dim, keepdim, rank, reduction):
    """`dim` as a tuple of dimensions from 0 on; empty for reduction "none"."""
    if reduction == "none":
        if dim is not None:
            raise ValueError(f"dim: expected None for reduction 'none', got {dim!r}")
        if keepdim:
            raise ValueError("keepdim: expected False for reduction 'none', got True")
        return ()
    if dim is None:
        return tuple(range(rank))
    given = dim if isinstance(dim, (tuple, list)) else (dim,)
    try:
        found = tuple(operator.index(one) for one in given)
    except TypeError:
        raise TypeError(f"dim: expected None, an int or a tuple of ints, got {dim!r}") from None
    if any(not -rank <= one < rank for one in found):
        raise IndexError(f"dim: expected dimensions of a tensor of rank {rank}, got {dim!r}")
    found = tuple(one % rank for one in found)
    if len(set(found)) != len(found):
        raise ValueError(f"dim: expected each dimension at most once, got {dim!r}")
    return found
