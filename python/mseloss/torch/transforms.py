"""Loss and gradient for torch.func's transforms and forward-mode differentiation.

Both reject custom operators with their own autograd formula, but accept functions with a setup_context.
"""

from __future__ import annotations

import torch

from mseloss.torch import operators


class DifferentiableLoss(torch.autograd.Function):
    """(input, target, reduction) -> loss, differentiable any number of times."""

    generate_vmap_rule = True

    @staticmethod
    def forward(input, target, reduction):
        return torch.ops.mseloss.mse_loss(input, target, reduction)

    @staticmethod
    def setup_context(ctx, inputs, output):
        input, target, ctx.reduction = inputs
        ctx.save_for_backward(input, target)
        ctx.save_for_forward(input, target)
        ctx.count = operators.loss_count(input, target, ctx.reduction)

    @staticmethod
    def backward(ctx, grad_output):
        return operators.loss_gradients(DifferentiableBackward.apply, ctx, grad_output)

    @staticmethod
    def jvp(ctx, input_tangent, target_tangent, _):
        input, target = ctx.saved_tensors
        dtype = operators.promoted(input, target)
        tangent = _difference(input_tangent, target_tangent, dtype)
        result = DifferentiableBackward.apply(tangent, input, target, ctx.count)
        result = result.expand(torch.broadcast_shapes(input.shape, target.shape))
        return result.clone() if ctx.reduction == "none" else result.sum()


def _difference(a, b, dtype):
    """a - b in `dtype`, where None stands for zero."""
    if a is None:
        return -b.to(dtype)
    return a.to(dtype) if b is None else a.to(dtype) - b.to(dtype)


class DifferentiableBackward(torch.autograd.Function):
    """(grad_output, input, target, count) -> gradient, differentiable any number of times."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad_output, input, target, count):
        return torch.ops.mseloss.mse_loss_backward(grad_output, input, target, count)

    @staticmethod
    def setup_context(ctx, inputs, output):
        operators.save_backward(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:3])

    @staticmethod
    def backward(ctx, gradient_output):
        return operators.second_gradients(DifferentiableBackward.apply, ctx, gradient_output)

    @staticmethod
    def jvp(ctx, grad_output_tangent, input_tangent, target_tangent, _):
        grad_output, input, target = ctx.saved_tensors
        count, result = ctx.count, None
        if grad_output_tangent is not None:
            result = DifferentiableBackward.apply(grad_output_tangent, input, target, count)
        if input_tangent is not None or target_tangent is not None:
            dtype = operators.promoted(input, target)
            scaled = _difference(input_tangent, target_tangent, dtype) * operators.scale(count)
            result = scaled * grad_output if result is None else result + scaled * grad_output
        shape = torch.broadcast_shapes(grad_output.shape, input.shape, target.shape)
        return result.expand(shape).to(operators.promoted(input, target))
