"""The loss and its gradient in PyTorch's own operators, for tensors that the kernels do not process, and what
the derivatives are made of."""

from __future__ import annotations

import torch

from mseloss.torch import operators
from mseloss.torch.operators import promoted


def shape_of(*tensors):
    """The broadcast shape of tensors, of which some may be None."""
    return torch.broadcast_shapes(*(tensor.shape for tensor in tensors if tensor is not None))


def kept_shape(shape, dim):
    return tuple(1 if i in dim else n for i, n in enumerate(shape))


def is_mask(weight):
    return weight is not None and weight.dtype == torch.bool


def wide(tensor):
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def difference(input, target, weight):
    """input - target, not narrower than float32; 0 where a mask is false."""
    d = wide(input) - wide(target)
    return torch.where(weight, d, 0) if is_mask(weight) else d


def tangent_of_difference(input, target, weight, tx, ty):
    """The tangent of difference(); that of an operand may be None."""
    tx = torch.zeros_like(input) if tx is None else tx
    ty = torch.zeros_like(target) if ty is None else ty
    return difference(tx, ty, weight)


def times(value, weight):
    return value if weight is None or is_mask(weight) else value * wide(weight)


def sums(values, dim):
    return values.sum(dim, keepdim=True) if dim else values


def divisor(weight, shape, dim, like):
    """What a mean divides by: the sum of the weights of each slice, each as often as it is used."""
    if weight is None:
        count = 1
        for i in dim:
            count = count * shape[i]
        return count
    total = wide(weight).expand(shape)
    return sums(total.to(like.dtype), dim)


def gradient_scale(weight, total):
    """2 / total, where `total` is the divisor of the mean. Slices without elements, whose count is 0, have no
    gradient to scale."""
    return operators.scale(total) if weight is None else 2 / total


def formula(input, target, weight, reduction, dim):
    dtype = promoted(input, target)
    d = input.to(dtype) - target.to(dtype)
    if is_mask(weight):
        d = torch.where(weight, d, 0)
    terms = d * d if weight is None or is_mask(weight) else d * d * weight
    if reduction == "none":
        return terms
    value = sums(terms, dim)
    return value if reduction == "sum" else value / divisor(weight, terms.shape, dim, terms)


def gradient_formula(grad_output, input, target, weight, reduction, dim):
    """The gradient with respect to the broadcast input, differentiable in every operand."""
    d = difference(input, target, weight)
    scale = 2
    if reduction == "mean":
        scale = gradient_scale(weight, divisor(weight, shape_of(input, target, weight), dim, d))
    gradient = (d * scale) * times(wide(grad_output), weight)
    if is_mask(weight):
        gradient = torch.where(weight, gradient, 0)
    return gradient
