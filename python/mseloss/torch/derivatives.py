"""The derivatives of the custom operators, in reverse and in forward mode, of any order.

They are registered with PyTorch's dispatcher, so every transform of torch.func can process the operators, in
torch.compile too. torch.library.register_autograd has no forward mode and rejects these transforms.
"""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

from mseloss.torch import operators, private, step_operators
from mseloss.torch.operators import loss_backward, promoted
from mseloss.torch.readable import operator_accepts


def reduce_to(gradient, operand):
    """`gradient` summed over the dimensions in which `operand` was broadcast, in the operand's dtype."""
    if gradient.shape != operand.shape:
        gradient = gradient.sum_to_size(operand.shape)
    return gradient if gradient.dtype == operand.dtype else gradient.to(operand.dtype)


def loss_count(input, target, reduction):
    """The `count` of mse_loss_backward: the element count of the broadcast shape for "mean", else 0."""
    if reduction != "mean":
        return 0
    if input.shape == target.shape:
        return input.numel()
    count = 1
    for extent in torch.broadcast_shapes(input.shape, target.shape):
        count = count * extent
    return count


def loss_gradients(grad_output, input, target, reduction, needs):
    """The gradients of the loss with respect to `input` and `target`, each None unless needed.

    If a half type's gradient is summed over broadcast dimensions, it is computed in float32 and rounded once,
    after the sum. Under autocast the loss of half types is float32, and so is all up to the cast to the
    operand's dtype. Operands that mse_loss_backward does not accept go to PyTorch's own operator.
    """
    if not (needs[0] or needs[1]):
        return None, None
    x, y = input, target
    wide = grad_output.dtype.itemsize > 2
    if promoted(input, target).itemsize == 2 and (wide or input.shape != target.shape):
        x, y = input.float(), target.float()
    if not operator_accepts(grad_output, input, target):
        return _pytorch_gradients(grad_output, input, target, reduction, needs, wide)
    grad_output = grad_output.to(promoted(x, y))
    gradient = loss_backward(grad_output, x, y, loss_count(input, target, reduction))
    return (
        reduce_to(gradient, input) if needs[0] else None,
        reduce_to(-gradient, target) if needs[1] else None,
    )


def _pytorch_gradients(grad_output, input, target, reduction, needs, wide):
    backward = torch.ops.aten.mse_loss_backward.default
    x, y = torch.broadcast_tensors(input, target)
    if wide:
        x, y = x.to(grad_output.dtype), y.to(grad_output.dtype)
    enum = operators.REDUCTION[reduction]
    return (
        reduce_to(backward(grad_output, x, y, enum), input) if needs[0] else None,
        reduce_to(backward(grad_output, y, x, enum), target) if needs[1] else None,
    )


def _scaled_difference(grad_output, a, b, count):
    """((a - b) * scale) * grad_output, computed by mse_loss_backward and rounded once. None means zero.

    A Python number as factor would lose its weak type under nested transforms of 0-dimensional tensors.
    """
    if a is None:
        return -loss_backward(grad_output, b, b.new_zeros(()), count)
    return loss_backward(grad_output, a, a.new_zeros(()) if b is None else b, count)


def forward_mode(jvp):
    """A decorator for the jvp method of an autograd.Function.

    PyTorch disables forward mode while it runs one, which would lose the tangents of enclosing
    levels. With forward mode enabled again, the tangents of this level are removed from the
    operands (level 0, because PyTorch does not nest levels).
    """

    def enabled(ctx, *tangents):
        with private.set_forward_mode_enabled(True):
            primals = [
                None if saved is None else forward_ad.unpack_dual(saved, level=0).primal
                for saved in ctx.saved_tensors
            ]
            return jvp(ctx, primals, tangents)

    return enabled


class Loss(private.SingleLevelFunction):
    """(run, input, target, reduction, wide) -> run(input, target, reduction, wide), the loss."""

    @staticmethod
    def forward(ctx, run, input, target, reduction, wide=False):
        ctx.save_for_backward(input, target)
        ctx.save_for_forward(input, target)
        ctx.options = (reduction, wide)
        ctx.set_materialize_grads(False)  # absent tangents and gradients are None, not zeros
        return run(input, target, reduction, wide)

    @staticmethod
    def backward(ctx, grad_output):
        if grad_output is None:
            return None, None, None, None, None
        input, target = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:3]
        return None, *loss_gradients(grad_output, input, target, ctx.options[0], needs), None, None

    @staticmethod
    @forward_mode
    def jvp(ctx, primals, tangents):
        return _loss_tangent(*primals, *tangents[1:3], *ctx.options)


def _loss_tangent(input, target, of_input, of_target, reduction, wide):
    dtype = operators.loss_dtype(input, target, wide)
    # A sum is rounded once.
    if promoted(input, target).itemsize == 2 and (wide or reduction != "none"):
        input, target = input.float(), target.float()
    count = loss_count(input, target, reduction)
    difference = -of_target if of_input is None else of_input
    if of_input is not None and of_target is not None:
        difference = of_input.to(promoted(input, target)) - of_target
    result = loss_backward(difference, input, target, count)
    result = result.expand(torch.broadcast_shapes(input.shape, target.shape))
    if reduction == "none":
        return result.clone()
    empty_mean = reduction == "mean" and count == 0  # NaN
    return (result.mean() if empty_mean else result.sum()).to(dtype)


def keep_step(ctx, operands, token, options, channels_last):
    """What the derivatives of a step need of its forward pass."""
    ctx.save_for_backward(*operands, token)
    ctx.save_for_forward(*operands)
    ctx.mark_non_differentiable(token)
    ctx.options, ctx.channels_last = options, channels_last
    ctx.set_materialize_grads(False)


class Step(private.SingleLevelFunction):
    """(run, input, target, mean, wide, channels_last) -> the results of differentiable_step."""

    @staticmethod
    def forward(ctx, run, input, target, mean, wide, channels_last):
        loss, token = run(input, target, mean, wide, channels_last)
        options = ("mean" if mean else "sum", wide)
        keep_step(ctx, (input, target), token, options, channels_last)
        return loss, token

    @staticmethod
    def backward(ctx, grad_output, _):
        if grad_output is None:
            return (None,) * 6
        input, target, token = ctx.saved_tensors
        reduction, needs = ctx.options[0], ctx.needs_input_grad[1:3]
        same_dtypes = input.dtype == target.dtype == grad_output.dtype
        # The operator returns input's dtype, but a second derivative and target's gradient may need a wider.
        if needs[0] and (same_dtypes or not (torch.is_grad_enabled() or needs[1])):
            count = loss_count(input, target, reduction)
            arguments = (grad_output, input, target, count, token, ctx.channels_last)
            gradient = step_operators.differentiable_step_backward(*arguments)
            gradients = gradient, -gradient if needs[1] else None
        else:
            gradients = loss_gradients(grad_output, input, target, reduction, needs)
        return None, *gradients, None, None, None

    @staticmethod
    @forward_mode
    def jvp(ctx, primals, tangents):
        return _loss_tangent(*primals[:2], *tangents[1:3], *ctx.options), None


class LossBackward(private.SingleLevelFunction):
    """(run, grad_output, input, target, count, ...) -> run(grad_output, input, target, count, ...)

    The gradient; `...` is token and channels_last for differentiable_step_backward.
    """

    @staticmethod
    def forward(ctx, run, grad_output, input, target, count, *step):
        ctx.save_for_backward(grad_output, input, target)
        ctx.save_for_forward(grad_output, input, target)
        ctx.options = (count,)
        ctx.set_materialize_grads(False)
        return run(grad_output, input, target, count, *step)

    @staticmethod
    def backward(ctx, gradient_output):
        if gradient_output is None:
            return (None,) * 7
        grad_output, input, target = ctx.saved_tensors
        (count,), needs = ctx.options, ctx.needs_input_grad[1:4]
        of_grad_output = of_input = of_target = None
        if needs[0]:
            product = loss_backward(gradient_output, input, target, count)
            of_grad_output = reduce_to(product, grad_output)
        if needs[1] or needs[2]:
            scaled = _scaled_difference(gradient_output, grad_output, None, count)
            of_input = reduce_to(scaled, input) if needs[1] else None
            of_target = reduce_to(-scaled, target) if needs[2] else None
        return None, of_grad_output, of_input, of_target, None, None, None

    @staticmethod
    @forward_mode
    def jvp(ctx, primals, tangents):
        grad_output, input, target = primals
        (count,) = ctx.options
        of_grad_output, of_input, of_target = tangents[1:4]
        dtype, result = promoted(input, target), None
        if of_grad_output is not None:
            result = loss_backward(of_grad_output, input, target, count)
        if of_input is not None or of_target is not None:
            scaled = _scaled_difference(grad_output, of_input, of_target, count)
            result = scaled if result is None else result + scaled
        shape = torch.broadcast_shapes(grad_output.shape, input.shape, target.shape)
        # Views of the gradient need a tangent with the gradient's strides.
        return result.expand(shape).to(dtype).contiguous()


def _register(name, operator, function, replacement, last):
    """Makes `function` the operator's implementation for the autograd keys of the dispatcher.

    torch.func's transforms run these implementations level by level. PyTorch's own operators keep the grad
    modes on the way to the next level; an autograd.Function changes them, so `run` restores them.
    """

    def differentiable(keyset, *arguments):
        grad_enabled, forward_enabled = torch.is_grad_enabled(), private.is_forward_mode_enabled()

        def run(*arguments):
            with (
                private.AutoDispatchBelowAutograd(),
                torch.set_grad_enabled(grad_enabled),
                private.set_forward_mode_enabled(forward_enabled),
            ):
                below = keyset & private.after_autograd_keyset
                if last is not None and step_operators.is_last_level(*arguments):
                    return last.redispatch(below, *arguments)
                return operator.redispatch(below, *arguments)

        step = replacement(*arguments)
        if step is not None:
            return step
        with private.enable_single_level_autograd_function():
            return function.apply(run, *arguments)

    operators.LIBRARY.impl(name, differentiable, "Autograd", with_keyset=True)


def _register_for_autograd_only(name, function, tensors):
    """As _register, with public functions only, which support neither forward mode nor torch.func."""

    def save(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:tensors])
        ctx.set_materialize_grads(False)
        ctx.options = inputs[tensors:]

    class Context:  # function.backward expects `run` as first argument
        def __init__(self, ctx):
            self.saved_tensors, self.options = ctx.saved_tensors, ctx.options
            self.needs_input_grad = (False, *ctx.needs_input_grad)

    def backward(ctx, gradient):
        return function.backward(Context(ctx), gradient)[1:]

    torch.library.register_autograd(
        f"mseloss::{name}", backward, setup_context=save, lib=operators.LIBRARY
    )


def _no_replacement(*arguments):
    return None


def register(name, operator, function, tensors, replacement=_no_replacement, last=None):
    """Registers `function`, whose first `tensors` arguments are tensors or None, as the derivative.

    `replacement`, with the same arguments, may return the result of another operator that takes the place of
    this one, or None. `last` is the operator to call below the last level of torch.func, by default the same.
    """
    if private.AUTOGRAD_KEYS_ARE_KNOWN:
        _register(name, operator, function, replacement, last)
    else:
        _register_for_autograd_only(name, function, tensors)


register("mse_loss", operators.loss, Loss, 2, step_operators.loss)
register("mse_loss_backward", loss_backward, LossBackward, 3)
register(
    "differentiable_step",
    step_operators.differentiable_step,
    Step,
    2,
    last=step_operators.step,
)
register(
    "differentiable_step_backward",
    step_operators.differentiable_step_backward,
    LossBackward,
    3,
    last=step_operators.step_backward,
)
