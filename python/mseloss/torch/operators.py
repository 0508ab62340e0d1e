"""The custom operators `torch.ops.mseloss`, for tracing, compilation and transforms.

    mse_loss(Tensor input, Tensor target, str reduction) -> Tensor
    mse_loss_backward(Tensor grad_output, Tensor input, Tensor target, SymInt count) -> Tensor

Results are dense and row-major. `mse_loss_backward` returns `((input - target) * scale) * grad_output` in the
shape that the three operands broadcast to, where scale is 2 / count, or 2 for a count of 0. It is linear in
each operand, so its derivatives are expressed by itself. On devices other than the CPU both run PyTorch's
operators.
"""

from __future__ import annotations

import torch

from mseloss import _core

_mse_loss_aten = torch.ops.aten.mse_loss.default
_REDUCTION = {"none": 0, "mean": 1, "sum": 2}


def promoted(a, b):
    """The promoted dtype; as in PyTorch's mse_loss, 0-dimensional tensors promote like any other."""
    return a.dtype if a.dtype == b.dtype else torch.promote_types(a.dtype, b.dtype)


def scale(count):
    """The factor of the gradient, 2 / count for the mean; 2 for a count of 0."""
    return 2 / count if count else 2


def reduce_to(gradient, operand):
    """`gradient` summed over the dimensions in which `operand` was broadcast, in the operand's dtype."""
    if gradient.shape != operand.shape:
        gradient = gradient.sum_to_size(operand.shape)
    return gradient if gradient.dtype == operand.dtype else gradient.to(operand.dtype)


def _empty(shape, dtype, like):
    # A `like` without elements: the result is row-major whatever the operand's strides are.
    return _core.empty(tuple(shape), dtype, like=like.new_empty(0))


@torch.library.custom_op("mseloss::mse_loss", mutates_args=())
def mse_loss(input: torch.Tensor, target: torch.Tensor, reduction: str) -> torch.Tensor:
    dtype = promoted(input, target)
    if not input.is_cpu:
        wide, other = torch.broadcast_tensors(input.to(dtype), target.to(dtype))
        return _mse_loss_aten(wide, other, _REDUCTION[reduction])
    shape = torch.broadcast_shapes(input.shape, target.shape) if reduction == "none" else ()
    return _core.loss(input, target, reduction, out=_empty(shape, dtype, input))


@mse_loss.register_fake
def _(input, target, reduction):
    if reduction not in _REDUCTION:
        raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', got {reduction!r}")
    shape = torch.broadcast_shapes(input.shape, target.shape)
    return input.new_empty(shape if reduction == "none" else (), dtype=promoted(input, target))


@torch.library.custom_op("mseloss::mse_loss_backward", mutates_args=())
def mse_loss_backward(
    grad_output: torch.Tensor, input: torch.Tensor, target: torch.Tensor, count: int
) -> torch.Tensor:
    dtype = promoted(input, target)
    g, x, y = (tensor.to(dtype) for tensor in (grad_output, input, target))
    if not x.is_cpu:
        return ((x - y) * scale(count) * g).contiguous()
    shape = torch.broadcast_shapes(g.shape, x.shape, y.shape)
    out = _empty(shape, dtype, x)
    _core.grad_part(g, x, y, count, out)
    return out


@mse_loss_backward.register_fake
def _(grad_output, input, target, count):
    shape = torch.broadcast_shapes(grad_output.shape, input.shape, target.shape)
    return input.new_empty(shape, dtype=promoted(input, target))


def input_and_target_gradients(backward, grad_output, input, target, count, needs):
    """The gradients with respect to `input` and `target`, each None unless needed.

    `backward` is mse_loss_backward or a differentiable function that calls it. If a half type's gradient is
    summed over broadcast dimensions, it is computed in float32 and rounded once, after the sum.
    """
    if not (needs[0] or needs[1]):
        return None, None
    if input.shape != target.shape and promoted(input, target).itemsize == 2:
        gradient = backward(grad_output.float(), input.float(), target.float(), count)
    else:
        gradient = backward(grad_output, input, target, count)
    return (
        reduce_to(gradient, input) if needs[0] else None,
        reduce_to(-gradient, target) if needs[1] else None,
    )


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


def _save_loss(ctx, inputs, output):
    input, target, reduction = inputs
    ctx.save_for_backward(input, target)
    ctx.count = loss_count(input, target, reduction)


def loss_gradients(backward, ctx, grad_output):
    """The gradients of mse_loss with respect to its two tensors, and None for reduction."""
    operands = (grad_output, *ctx.saved_tensors)
    return *input_and_target_gradients(backward, *operands, ctx.count, ctx.needs_input_grad), None


def save_backward(ctx, inputs, output):
    grad_output, input, target, count = inputs
    ctx.save_for_backward(grad_output, input, target)
    ctx.count = count


def second_gradients(backward, ctx, gradient_output):
    """The gradients of mse_loss_backward with respect to its three tensors, and None for count."""
    grad_output, input, target = ctx.saved_tensors
    count, needs = ctx.count, ctx.needs_input_grad
    of_grad_output = of_input = of_target = None
    if needs[0]:
        of_grad_output = reduce_to(backward(gradient_output, input, target, count), grad_output)
    if needs[1] or needs[2]:
        scaled = gradient_output * grad_output * scale(count)
        of_input = reduce_to(scaled, input) if needs[1] else None
        of_target = reduce_to(-scaled, target) if needs[2] else None
    return of_grad_output, of_input, of_target, None


mse_loss.register_autograd(
    lambda ctx, grad_output: loss_gradients(torch.ops.mseloss.mse_loss_backward, ctx, grad_output),
    setup_context=_save_loss,
)
mse_loss_backward.register_autograd(
    lambda ctx, gradient_output: second_gradients(
        torch.ops.mseloss.mse_loss_backward, ctx, gradient_output
    ),
    setup_context=save_backward,
)


def _batch_first(tensors, dims):
    """Moves batch dimensions to the front, followed by extents of 1 so that the tensors broadcast."""
    rank = max(t.dim() - (d is not None) for t, d in zip(tensors, dims, strict=True))
    result = []
    for tensor, dim in zip(tensors, dims, strict=True):
        if dim is not None:
            tensor = tensor.movedim(dim, 0)
            ones = (1,) * (rank - tensor.dim() + 1)
            tensor = tensor.reshape(tensor.shape[:1] + ones + tensor.shape[1:])
        result.append(tensor)
    return result


@mse_loss.register_vmap
def _(info, in_dims, input, target, reduction):
    if reduction == "none":
        input, target = _batch_first((input, target), in_dims[:2])
        return torch.ops.mseloss.mse_loss(input, target, reduction), 0
    # A separate correctly rounded sum for each sample.
    pairs = zip(
        *(
            [tensor] * info.batch_size if dim is None else tensor.unbind(dim)
            for tensor, dim in zip((input, target), in_dims[:2], strict=True)
        ),
        strict=True,
    )
    return torch.stack([torch.ops.mseloss.mse_loss(x, y, reduction) for x, y in pairs]), 0


@mse_loss_backward.register_vmap
def _(info, in_dims, grad_output, input, target, count):
    tensors = _batch_first((grad_output, input, target), in_dims[:3])
    return torch.ops.mseloss.mse_loss_backward(*tensors, count), 0
