"""The derivatives of the operators. First derivatives in input and target run the operators themselves; the
derivative in the weight and all higher ones are computed by PyTorch's operators."""

from __future__ import annotations

import torch

from mseloss.torch import private
from mseloss.torch.derivatives import forward_mode, keep_step, reduce_to, register
from mseloss.torch.operators import loss_dtype, promoted
from mseloss.torch.slices import step_operators
from mseloss.torch.slices.formula import (
    difference,
    divisor,
    gradient_scale,
    is_mask,
    shape_of,
    sums,
    tangent_of_difference,
    times,
    wide,
)
from mseloss.torch.slices.operators import loss, loss_backward


def _exact_mean(input, target, weight, dim):
    """The mean with weights, not rounded to a half type."""
    return loss(wide(input), wide(target), weight, "mean", dim)


def of_operands(gradient, input, target, weight, needs):
    """The gradients of input and target from that of the broadcast input, each None unless needed."""
    of_input = reduce_to(gradient, input) if needs[0] else None
    if not needs[1]:
        return of_input, None
    negated = 0 - gradient if is_mask(weight) else -gradient  # a mask's gradients are +0
    return of_input, reduce_to(negated, target)


def gradients(grad_output, input, target, weight, reduction, dim, needs):
    """The gradients with respect to the three operands, each None unless needed."""
    of_input = of_target = of_weight = None
    shape = shape_of(input, target, weight)
    if needs[0] or needs[1]:
        x, y, g = input, target, grad_output
        reduces = any(need and t.shape != shape for need, t in zip(needs, (x, y), strict=False))
        half = promoted(x, y).itemsize == 2
        if half and (reduces or g.dtype.itemsize > 2):  # round once, after the sum
            x, y, g = wide(x), wide(y), wide(g)
        gradient = loss_backward(g, x, y, weight, reduction, dim)
        of_input, of_target = of_operands(gradient, input, target, weight, needs)
    if needs[2]:
        d = difference(input, target, weight)
        g = wide(grad_output)
        of_weight = d * d
        if reduction == "mean":
            of_weight = of_weight - _exact_mean(input, target, weight, dim)
            g = g / divisor(weight, shape, dim, d)
        of_weight = reduce_to((of_weight * g).expand(shape), weight)
    return of_input, of_target, of_weight


def _tangent(input, target, weight, tangents, reduction, dim, wide_loss):
    tx, ty, tw = tangents
    d = difference(input, target, weight)
    shape = shape_of(input, target, weight)
    terms = d.new_zeros(())
    if tx is not None or ty is not None:
        td = tangent_of_difference(input, target, weight, tx, ty)
        terms = times(2 * d * td, weight)
    if tw is not None:
        terms = terms + d * d * wide(tw)
    value = sums(terms.expand(shape), dim)
    if reduction == "mean":
        if tw is not None:
            of_total = sums(wide(tw).expand(shape), dim)
            value = value - _exact_mean(input, target, weight, dim) * of_total
        value = value / divisor(weight, shape, dim, d)
    return value.to(loss_dtype(input, target, wide_loss)).clone()


class Loss(private.SingleLevelFunction):
    """(run, input, target, weight, reduction, dim, wide) -> the loss, from run() of the same arguments."""

    @staticmethod
    def forward(ctx, run, input, target, weight, reduction, dim, wide=False):
        ctx.save_for_backward(input, target, weight)
        ctx.save_for_forward(input, target, weight)
        ctx.options = reduction, dim, wide
        ctx.set_materialize_grads(False)
        return run(input, target, weight, reduction, dim, wide)

    @staticmethod
    def backward(ctx, grad_output):
        if grad_output is None:
            return (None,) * 7
        needs = ctx.needs_input_grad[1:4]
        found = gradients(grad_output, *ctx.saved_tensors, *ctx.options[:2], needs)
        return None, *found, None, None, None

    @staticmethod
    @forward_mode
    def jvp(ctx, primals, tangents):
        return _tangent(*primals, tangents[1:4], *ctx.options)


class Step(private.SingleLevelFunction):
    """(run, input, target, weight, reduction, dim, wide, channels_last) -> the results of run()."""

    @staticmethod
    def forward(ctx, run, input, target, weight, reduction, dim, wide, channels_last):
        loss, token = run(input, target, weight, reduction, dim, wide, channels_last)
        keep_step(ctx, (input, target, weight), token, (reduction, dim, wide), channels_last)
        return loss, token

    @staticmethod
    def backward(ctx, grad_output, _):
        if grad_output is None:
            return (None,) * 8
        *operands, token = ctx.saved_tensors
        input, target, weight = operands
        options, needs = ctx.options[:2], ctx.needs_input_grad[1:4]
        same_dtypes = input.dtype == target.dtype == grad_output.dtype
        # The operator returns input's dtype, but a second derivative and target's gradient may need a wider.
        if needs[0] and (same_dtypes or not (torch.is_grad_enabled() or needs[1])):
            arguments = (grad_output, *operands, *options, token, ctx.channels_last)
            of_input = step_operators.differentiable_step_backward(*arguments)
            of_target = of_weight = None
            if needs[1] and target.shape == input.shape:
                of_target = of_operands(of_input, input, target, weight, needs)[1]
            rest = (False, needs[1] and of_target is None, needs[2])
            if any(rest):
                _, other, of_weight = gradients(grad_output, *operands, *options, rest)
                of_target = other if of_target is None else of_target
            found = of_input, of_target, of_weight
        else:
            found = gradients(grad_output, *operands, *options, needs)
        return None, *found, None, None, None, None

    @staticmethod
    @forward_mode
    def jvp(ctx, primals, tangents):
        return _tangent(*primals[:3], tangents[1:4], *ctx.options), None


class LossBackward(private.SingleLevelFunction):
    """(run, grad_output, input, target, weight, reduction, dim, ...) -> the gradient, from run()

    `...` is token and channels_last for differentiable_slices_step_backward.
    """

    @staticmethod
    def forward(ctx, run, grad_output, input, target, weight, reduction, dim, *step):
        ctx.save_for_backward(grad_output, input, target, weight)
        ctx.save_for_forward(grad_output, input, target, weight)
        ctx.options = reduction, dim
        ctx.set_materialize_grads(False)
        return run(grad_output, input, target, weight, reduction, dim, *step)

    @staticmethod
    def backward(ctx, gradient_output):
        if gradient_output is None:
            return (None,) * 9
        g, x, y, w = ctx.saved_tensors
        reduction, dim = ctx.options
        needs = ctx.needs_input_grad[1:5]
        shape = shape_of(g, x, y, w)
        d = difference(x, y, w)
        v = wide(gradient_output)
        total = divisor(w, shape, dim, d) if reduction == "mean" else 1
        v = v * gradient_scale(w, total)
        of_g = of_x = of_y = of_w = None
        if needs[0]:
            of_g = reduce_to(times(v * d, w).expand(shape), g)
        if needs[1] or needs[2]:
            scaled = times(v * wide(g), w)
            scaled = torch.where(w, scaled, 0) if is_mask(w) else scaled
            scaled = scaled.expand(shape)
            of_x = reduce_to(scaled, x) if needs[1] else None
            of_y = reduce_to(-scaled, y) if needs[2] else None
        if needs[3]:
            product = v * d * wide(g)
            if reduction == "mean":  # the divisor depends on the weights
                product = product - sums(times(product, w).expand(shape), dim) / total
            of_w = reduce_to(product.expand(shape), w)
        return None, of_g, of_x, of_y, of_w, None, None, None, None

    @staticmethod
    @forward_mode
    def jvp(ctx, primals, tangents):
        g, x, y, w = primals
        tg, tx, ty, tw = tangents[1:5]
        reduction, dim = ctx.options
        dtype, shape = promoted(x, y), shape_of(g, x, y, w)
        d = difference(x, y, w)
        total = divisor(w, shape, dim, d) if reduction == "mean" else 1
        result = d.new_zeros(())
        if tg is not None:
            result = result + times(d * wide(tg), w)
        if tx is not None or ty is not None:
            result = result + times(tangent_of_difference(x, y, w, tx, ty) * wide(g), w)
        if tw is not None:
            result = result + d * wide(tw) * wide(g)
            if reduction == "mean":
                of_total = sums(wide(tw).expand(shape), dim)
                result = result - times(d * wide(g), w) * (of_total / total)
        return (result * gradient_scale(w, total)).expand(shape).to(dtype).clone()


register("slices_loss", loss, Loss, 3, step_operators.loss)
register("slices_loss_backward", loss_backward, LossBackward, 4)
register(
    "differentiable_slices_step",
    step_operators.differentiable_step,
    Step,
    3,
    last=step_operators.step,
)
register(
    "differentiable_slices_step_backward",
    step_operators.differentiable_step_backward,
    LossBackward,
    4,
    last=step_operators.step_backward,
)
