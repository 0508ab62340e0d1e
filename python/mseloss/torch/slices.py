"""The custom operators for weights and sums over some dimensions, and their derivatives.

    slices_loss(Tensor input, Tensor target, Tensor? weight, str reduction, int[] dim) -> Tensor
    slices_loss_backward(Tensor grad_output, Tensor input, Tensor target, Tensor? weight, str reduction,
                         int[] dim) -> Tensor

`dim` lists dimensions of the broadcast shape, all at least 0. Reduced dimensions stay with extent 1; for
"none" there are none. `slices_loss_backward` returns `((input - target) * scale) * (weight * grad_output)`,
the gradient with respect to the broadcast input, where grad_output has the shape of the loss. Results are
dense and row-major.

First derivatives in input and target run these operators; the derivative in the weight and all higher ones
are computed by PyTorch's operators.
"""

from __future__ import annotations

import torch

from mseloss import _core
from mseloss.torch import operators, private
from mseloss.torch.derivatives import forward_mode, reduce_to, register
from mseloss.torch.operators import LIBRARY
from mseloss.torch.readable import MAX_RANK, operator_accepts

LIBRARY.define(
    "slices_loss(Tensor input, Tensor target, Tensor? weight, str reduction, int[] dim) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
LIBRARY.define(
    "slices_loss_backward(Tensor grad_output, Tensor input, Tensor target, Tensor? weight,"
    " str reduction, int[] dim) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
loss = torch.ops.mseloss.slices_loss.default
loss_backward = torch.ops.mseloss.slices_loss_backward.default


def shape_of(*tensors):
    """The broadcast shape of tensors, of which some may be None."""
    return torch.broadcast_shapes(*(tensor.shape for tensor in tensors if tensor is not None))


def kept_shape(shape, dim):
    return tuple(1 if i in dim else n for i, n in enumerate(shape))


def is_mask(weight):
    return weight is not None and weight.dtype == torch.bool


def accepted(*tensors):
    """Whether the kernels can process the tensors, of which the last is a weight, a mask or None."""
    *operands, weight = tensors
    if is_mask(weight):
        return operator_accepts(*operands, mask=weight)
    return operator_accepts(*operands, *(() if weight is None else (weight,)))


def _wide(tensor):
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def difference(input, target, weight):
    """input - target, not narrower than float32; 0 where a mask is false."""
    d = _wide(input) - _wide(target)
    return torch.where(weight, d, 0) if is_mask(weight) else d


def _tangent_of_difference(input, target, weight, tx, ty):
    """The tangent of difference(); that of an operand may be None."""
    tx = torch.zeros_like(input) if tx is None else tx
    ty = torch.zeros_like(target) if ty is None else ty
    return difference(tx, ty, weight)


def _times(value, weight):
    return value if weight is None or is_mask(weight) else value * _wide(weight)


def _sums(values, dim):
    return values.sum(dim, keepdim=True) if dim else values


def divisor(weight, shape, dim, like):
    """What a mean divides by: the sum of the weights of each slice, each as often as it is used."""
    if weight is None:
        count = 1
        for i in dim:
            count = count * shape[i]
        return count
    total = _wide(weight).expand(shape)
    return _sums(total.to(like.dtype), dim)


# In plain PyTorch, for tensors that the kernels do not process


def formula(input, target, weight, reduction, dim):
    dtype = operators.promoted(input, target)
    d = input.to(dtype) - target.to(dtype)
    if is_mask(weight):
        d = torch.where(weight, d, 0)
    terms = d * d if weight is None or is_mask(weight) else d * d * weight
    if reduction == "none":
        return terms
    value = _sums(terms, dim)
    return value if reduction == "sum" else value / divisor(weight, terms.shape, dim, terms)


def gradient_formula(grad_output, input, target, weight, reduction, dim):
    """The gradient with respect to the broadcast input, differentiable in every operand."""
    d = difference(input, target, weight)
    scale = 2
    if reduction == "mean":
        scale = 2 / divisor(weight, shape_of(input, target, weight), dim, d)
    gradient = (d * scale) * _times(_wide(grad_output), weight)
    if is_mask(weight):
        gradient = torch.where(weight, gradient, 0)
    return gradient


# Kernels


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


def _loss_kernel(input, target, weight, reduction, dim):
    if not accepted(input, target, weight):
        return _dense(formula(input, target, weight, reduction, dim))
    shape = shape_of(input, target, weight)
    given = [input, target] if weight is None else [input, target, weight]
    (x, y, *w), axis, order = _folded(given, dim)
    w = w[0] if w else None
    dtype = operators.promoted(input, target)
    if reduction == "none":
        folded = shape_of(x, y, w)
        out = operators._empty(folded, dtype, input)
        return _unfolded(_core.loss(x, y, "none", weight=w, out=out), shape, order)
    result = _core.loss(x, y, reduction, weight=w, axis=tuple(axis), keepdims=True)
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
def _(input, target, weight, reduction, dim):
    shape = kept_shape(shape_of(input, target, weight), dim)
    return input.new_empty(shape, dtype=operators.promoted(input, target))


@torch.library.register_fake("mseloss::slices_loss_backward", lib=LIBRARY)
def _(grad_output, input, target, weight, reduction, dim):
    shape = shape_of(grad_output, input, target, weight)
    return input.new_empty(shape, dtype=operators.promoted(input, target))


# vmap: one call for all samples, in which the batch dimension is kept


def _batch_first(tensors, dims):
    used = [(t, d) for t, d in zip(tensors, dims, strict=True) if t is not None]
    moved = iter(operators._batch_first([t for t, _ in used], [d for _, d in used]))
    return [None if tensor is None else next(moved) for tensor in tensors]


@torch.library.register_vmap("mseloss::slices_loss", lib=LIBRARY)
def _(info, in_dims, input, target, weight, reduction, dim):
    tensors = _batch_first((input, target, weight), in_dims[:3])
    return loss(*tensors, reduction, [i + 1 for i in dim]), 0


@torch.library.register_vmap("mseloss::slices_loss_backward", lib=LIBRARY)
def _(info, in_dims, grad_output, input, target, weight, reduction, dim):
    tensors = _batch_first((grad_output, input, target, weight), in_dims[:4])
    return loss_backward(*tensors, reduction, [i + 1 for i in dim]), 0


# Derivatives


def _exact_mean(input, target, weight, dim):
    """The mean with weights, not rounded to a half type."""
    return loss(_wide(input), _wide(target), weight, "mean", dim)


def gradients(grad_output, input, target, weight, reduction, dim, needs):
    """The gradients with respect to the three operands, each None unless needed."""
    of_input = of_target = of_weight = None
    shape = shape_of(input, target, weight)
    if needs[0] or needs[1]:
        x, y, g = input, target, grad_output
        reduces = any(need and t.shape != shape for need, t in zip(needs, (x, y), strict=False))
        half = operators.promoted(x, y).itemsize == 2
        if half and (reduces or g.dtype.itemsize > 2):  # round once, after the sum
            x, y, g = _wide(x), _wide(y), _wide(g)
        gradient = loss_backward(g, x, y, weight, reduction, dim)
        of_input = reduce_to(gradient, input) if needs[0] else None
        if needs[1]:
            negated = 0 - gradient if is_mask(weight) else -gradient  # a mask's gradients are +0
            of_target = reduce_to(negated, target)
    if needs[2]:
        d = difference(input, target, weight)
        g = _wide(grad_output)
        of_weight = d * d
        if reduction == "mean":
            of_weight = of_weight - _exact_mean(input, target, weight, dim)
            g = g / divisor(weight, shape, dim, d)
        of_weight = reduce_to((of_weight * g).expand(shape), weight)
    return of_input, of_target, of_weight


def _tangent(input, target, weight, tangents, reduction, dim):
    tx, ty, tw = tangents
    d = difference(input, target, weight)
    shape = shape_of(input, target, weight)
    terms = d.new_zeros(())
    if tx is not None or ty is not None:
        td = _tangent_of_difference(input, target, weight, tx, ty)
        terms = _times(2 * d * td, weight)
    if tw is not None:
        terms = terms + d * d * _wide(tw)
    value = _sums(terms.expand(shape), dim)
    if reduction == "mean":
        if tw is not None:
            of_total = _sums(_wide(tw).expand(shape), dim)
            value = value - _exact_mean(input, target, weight, dim) * of_total
        value = value / divisor(weight, shape, dim, d)
    return value.to(operators.promoted(input, target)).clone()


class Loss(private.SingleLevelFunction):
    """(run, input, target, weight, reduction, dim) -> the loss, from run() of the same arguments."""

    @staticmethod
    def forward(ctx, run, input, target, weight, reduction, dim):
        ctx.save_for_backward(input, target, weight)
        ctx.save_for_forward(input, target, weight)
        ctx.options = reduction, dim
        ctx.set_materialize_grads(False)
        return run(input, target, weight, reduction, dim)

    @staticmethod
    def backward(ctx, grad_output):
        if grad_output is None:
            return (None,) * 6
        needs = ctx.needs_input_grad[1:4]
        found = gradients(grad_output, *ctx.saved_tensors, *ctx.options, needs)
        return None, *found, None, None

    @staticmethod
    @forward_mode
    def jvp(ctx, primals, tangents):
        return _tangent(*primals, tangents[1:4], *ctx.options)


class LossBackward(private.SingleLevelFunction):
    """(run, grad_output, input, target, weight, reduction, dim) -> the gradient, from run()."""

    @staticmethod
    def forward(ctx, run, grad_output, input, target, weight, reduction, dim):
        ctx.save_for_backward(grad_output, input, target, weight)
        ctx.save_for_forward(grad_output, input, target, weight)
        ctx.options = reduction, dim
        ctx.set_materialize_grads(False)
        return run(grad_output, input, target, weight, reduction, dim)

    @staticmethod
    def backward(ctx, gradient_output):
        if gradient_output is None:
            return (None,) * 7
        g, x, y, w = ctx.saved_tensors
        reduction, dim = ctx.options
        needs = ctx.needs_input_grad[1:5]
        shape = shape_of(g, x, y, w)
        d = difference(x, y, w)
        v = _wide(gradient_output)
        total = divisor(w, shape, dim, d) if reduction == "mean" else 1
        v = v * (2 / total)
        of_g = of_x = of_y = of_w = None
        if needs[0]:
            of_g = reduce_to(_times(v * d, w).expand(shape), g)
        if needs[1] or needs[2]:
            scaled = _times(v * _wide(g), w)
            scaled = torch.where(w, scaled, 0) if is_mask(w) else scaled
            scaled = scaled.expand(shape)
            of_x = reduce_to(scaled, x) if needs[1] else None
            of_y = reduce_to(-scaled, y) if needs[2] else None
        if needs[3]:
            product = v * d * _wide(g)
            if reduction == "mean":  # the divisor depends on the weights
                product = product - _sums(_times(product, w).expand(shape), dim) / total
            of_w = reduce_to(product.expand(shape), w)
        return None, of_g, of_x, of_y, of_w, None, None

    @staticmethod
    @forward_mode
    def jvp(ctx, primals, tangents):
        g, x, y, w = primals
        tg, tx, ty, tw = tangents[1:5]
        reduction, dim = ctx.options
        dtype, shape = operators.promoted(x, y), shape_of(g, x, y, w)
        d = difference(x, y, w)
        total = divisor(w, shape, dim, d) if reduction == "mean" else 1
        result = d.new_zeros(())
        if tg is not None:
            result = result + _times(d * _wide(tg), w)
        if tx is not None or ty is not None:
            result = result + _times(_tangent_of_difference(x, y, w, tx, ty) * _wide(g), w)
        if tw is not None:
            result = result + d * _wide(tw) * _wide(g)
            if reduction == "mean":
                of_total = _sums(_wide(tw).expand(shape), dim)
                result = result - _times(d * _wide(g), w) * (of_total / total)
        return (result * (2 / total)).expand(shape).to(dtype).clone()


register("slices_loss", loss, Loss, 3)
register("slices_loss_backward", loss_backward, LossBackward, 4)
