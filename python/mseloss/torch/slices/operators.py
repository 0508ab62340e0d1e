"""The custom operators for weights and sums over some dimensions.

    slices_loss(Tensor input, Tensor target, Tensor? weight, str reduction, int[] dim, bool wide=False)
        -> Tensor
    slices_loss_backward(Tensor grad_output, Tensor input, Tensor target, Tensor? weight, str reduction,
                         int[] dim) -> Tensor

`dim` lists dimensions of the broadcast shape, all at least 0. Reduced dimensions stay with extent 1; for
"none" there are none. `wide`: the loss of half types is float32, as under autocast.
`slices_loss_backward` returns `((input - target) * scale) * (weight * grad_output)`, the gradient with
respect to the broadcast input, where grad_output has the shape of the loss. Results are dense and row-major.
"""

from __future__ import annotations

import torch

from mseloss import _core
from mseloss.torch import operators
from mseloss.torch.operators import LIBRARY
from mseloss.torch.readable import MAX_RANK, operator_accepts
from mseloss.torch.slices.formula import (
    divisor,
    formula,
    gradient_formula,
    is_mask,
    kept_shape,
    shape_of,
)

LIBRARY.define(
    "slices_loss(Tensor input, Tensor target, Tensor? weight, str reduction, int[] dim, bool wide=False)"
    " -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
LIBRARY.define(
    "slices_loss_backward(Tensor grad_output, Tensor input, Tensor target, Tensor? weight,"
    " str reduction, int[] dim) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
loss = torch.ops.mseloss.slices_loss.default
loss_backward = torch.ops.mseloss.slices_loss_backward.default


def accepted(*tensors):
    """Whether the kernels can process the tensors, of which the last is a weight, a mask or None."""
    *operands, weight = tensors
    if is_mask(weight):
        return operator_accepts(*operands, mask=weight)
    return operator_accepts(*operands, *(() if weight is None else (weight,)))


def _folded(tensors, dim):
    """(tensors, dim, order): the tensors with at most MAX_RANK dimensions and the reduced ones among these.

    `order` is the order in which the dimensions were merged, for _unfolded(); None if they are as they were.
    """
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    rank = len(shape)
    if rank <= MAX_RANK:
        return tensors, dim, None
    kept = [i for i in range(rank) if i not in dim]
    order = (*kept, *dim)
    # One dimension each for the kept and the reduced ones. A copy is made where strides do not allow a view.
    split = len(kept)
    return (
        [
            tensor.expand(shape).permute(order).flatten(split).flatten(0, split - 1)
            if 0 < split < rank
            else tensor.expand(shape).reshape(-1)
            for tensor in tensors
        ],
        ((1,) if split else (0,)) if dim else (),
        order,
    )


def _unfolded(result, shape, order):
    """A result of folded tensors in the broadcast `shape`."""
    if order is None:
        return result
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return result.reshape([shape[i] for i in order]).permute(inverse).contiguous()


def _dense(tensor):
    return tensor.contiguous() if not tensor.is_contiguous() else tensor


def _loss_kernel(input, target, weight, reduction, dim, wide=False):
    dtype = operators.loss_dtype(input, target, wide)
    if not accepted(input, target, weight):
        return _dense(formula(input.to(dtype), target.to(dtype), weight, reduction, dim))
    shape = shape_of(input, target, weight)
    given = [input, target] if weight is None else [input, target, weight]
    (x, y, *w), axis, order = _folded(given, dim)
    w = w[0] if w else None
    if reduction == "none":
        folded = shape_of(x, y, w)
        out = operators._empty(folded, dtype, input)
        return _unfolded(_core.loss(x, y, "none", weight=w, out=out), shape, order)
    result = _core.loss(x, y, reduction, weight=w, axis=tuple(axis), keepdims=True, dtype=dtype)
    return _dense(result.reshape(kept_shape(shape, dim)))


def _loss_backward_kernel(grad_output, input, target, weight, reduction, dim):
    dtype = operators.promoted(input, target)
    g, x, y = (tensor.to(dtype) for tensor in (grad_output, input, target))
    shape = shape_of(g, x, y, weight)
    if not accepted(g, x, y, weight):
        gradient = gradient_formula(g, x, y, weight, reduction, dim).to(dtype)
        return _dense(gradient.expand(shape))
    if shape != shape_of(x, y, weight):  # only grad_output has a batch dimension
        x = x.expand(shape)
    given = [g, x, y] if weight is None else [g, x, y, weight]
    (g, x, y, *w), axis, order = _folded(given, dim)
    w = w[0] if w else None
    out = operators._empty(shape_of(g, x, y, w), dtype, x)
    if out.numel() == 0:
        return _unfolded(out, shape, order)
    if order is not None and dim:
        g = g.select(axis[0], 0).unsqueeze(axis[0])
    if reduction == "mean" and w is not None:
        kept = torch.broadcast_to(g, kept_shape(out.shape, axis))
        kept = kept.reshape([n for i, n in enumerate(out.shape) if i not in axis])
        _core.loss_and_grad(x, y, "mean", weight=w, axis=tuple(axis), grad_output=kept, out=out)
    else:
        mean = reduction == "mean"
        count = divisor(None, out.shape, axis, None) if mean else 0
        _core.grad_part(g, x, y, count, out, w)
    return _unfolded(out, shape, order)


LIBRARY.impl("slices_loss", _loss_kernel, "CompositeExplicitAutograd")
LIBRARY.impl("slices_loss_backward", _loss_backward_kernel, "CompositeExplicitAutograd")


@torch.library.register_fake("mseloss::slices_loss", lib=LIBRARY)
def _(input, target, weight, reduction, dim, wide=False):
    shape = kept_shape(shape_of(input, target, weight), dim)
    return input.new_empty(shape, dtype=operators.loss_dtype(input, target, wide))


@torch.library.register_fake("mseloss::slices_loss_backward", lib=LIBRARY)
def _(grad_output, input, target, weight, reduction, dim):
    shape = shape_of(grad_output, input, target, weight)
    return input.new_empty(shape, dtype=operators.promoted(input, target))


# vmap: one call for all samples, in which the batch dimension is kept


def batch_first(tensors, dims):
    used = [(t, d) for t, d in zip(tensors, dims, strict=True) if t is not None]
    moved = iter(operators.batch_first([t for t, _ in used], [d for _, d in used]))
    return [None if tensor is None else next(moved) for tensor in tensors]


@torch.library.register_vmap("mseloss::slices_loss", lib=LIBRARY)
def _(info, in_dims, input, target, weight, reduction, dim, wide=False):
    tensors = batch_first((input, target, weight), in_dims[:3])
    return loss(*tensors, reduction, [i + 1 for i in dim], wide), 0


@torch.library.register_vmap("mseloss::slices_loss_backward", lib=LIBRARY)
def _(info, in_dims, grad_output, input, target, weight, reduction, dim):
    tensors = batch_first((grad_output, input, target, weight), in_dims[:4])
    return loss_backward(*tensors, reduction, [i + 1 for i in dim]), 0
