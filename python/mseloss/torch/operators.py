"""The custom operators `torch.ops.mseloss`, for tracing, compilation and transforms.

    mse_loss(Tensor input, Tensor target, str reduction, bool wide=False) -> Tensor
    mse_loss_backward(Tensor grad_output, Tensor input, Tensor target, SymInt count) -> Tensor

Results are dense and row-major. `wide`: the loss of half types is float32, as under autocast; the operands
need no copies for that. `mse_loss_backward` returns `((input - target) * scale) * grad_output` in the shape
that the three operands broadcast to, where scale is 2 / count, or 2 for a count of 0. It is linear in each
operand, so its derivatives are expressed by itself (derivatives.py). For tensors that the kernels do not
support both run PyTorch's operators.
"""

from __future__ import annotations

import torch

from mseloss import _core
from mseloss.torch.readable import MAX_RANK, is_on_device, operator_accepts

LIBRARY = torch.library.Library("mseloss", "DEF")
LIBRARY.define(
    "mse_loss(Tensor input, Tensor target, str reduction, bool wide=False) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
LIBRARY.define(
    "mse_loss_backward(Tensor grad_output, Tensor input, Tensor target, SymInt count) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
loss = torch.ops.mseloss.mse_loss.default
loss_backward = torch.ops.mseloss.mse_loss_backward.default
REDUCTION = {"none": 0, "mean": 1, "sum": 2}  # PyTorch's numbers


def promoted(a, b):
    """The promoted dtype; as in PyTorch's mse_loss, 0-dimensional tensors promote like any other."""
    return a.dtype if a.dtype == b.dtype else torch.promote_types(a.dtype, b.dtype)


def loss_dtype(input, target, wide):
    """The dtype of the loss: the promoted one, or float32 instead of a half type if `wide`."""
    dtype = promoted(input, target)
    return torch.float32 if wide and dtype.itemsize == 2 else dtype


def scale(count):
    """The factor of the gradient, 2 / count for the mean; 2 for a count of 0."""
    return 2 / count if count else 2


def _empty(shape, dtype, like):
    if is_on_device(like):
        return torch.empty(shape, dtype=dtype, device=like.device)
    # A `like` without elements: the result is row-major whatever the operand's strides are.
    return _core.empty(tuple(shape), dtype, like=like.new_empty(0))


def folded(*tensors):
    """The tensors with at most MAX_RANK dimensions: adjacent dimensions are merged in all of them alike.

    A copy is made only where two dimensions of a tensor cannot be merged in place.
    """
    if max(tensor.dim() for tensor in tensors) <= MAX_RANK:
        return tensors
    tensors = torch.broadcast_tensors(*tensors)
    while (rank := tensors[0].dim()) > MAX_RANK:
        shape = tensors[0].shape
        mergeable = (
            i
            for i in range(rank - 1)
            if 1 in shape[i : i + 2]
            or all(t.stride(i) == t.stride(i + 1) * shape[i + 1] for t in tensors)
        )
        first = next(mergeable, 0)
        tensors = [tensor.flatten(first, first + 1) for tensor in tensors]
    return tensors


def _loss_kernel(input, target, reduction, wide=False):
    dtype = loss_dtype(input, target, wide)
    if not operator_accepts(input, target):
        operands = torch.broadcast_tensors(input.to(dtype), target.to(dtype))
        return torch.ops.aten.mse_loss.default(*operands, REDUCTION[reduction])
    shape = torch.broadcast_shapes(input.shape, target.shape)
    input, target = folded(input, target)
    if reduction != "none":
        return _core.loss(input, target, reduction, out=_empty((), dtype, input))
    out = _empty(torch.broadcast_shapes(input.shape, target.shape), dtype, input)
    return _core.loss(input, target, reduction, out=out).view(shape)


def _loss_backward_kernel(grad_output, input, target, count):
    dtype = promoted(input, target)
    g, x, y = (tensor.to(dtype) for tensor in (grad_output, input, target))
    if not operator_accepts(g, x, y):
        return ((x - y) * scale(count) * g).contiguous()
    shape = torch.broadcast_shapes(g.shape, x.shape, y.shape)
    g, x, y = folded(g, x, y)
    out = _empty(torch.broadcast_shapes(g.shape, x.shape, y.shape), dtype, x)
    _core.grad_part(g, x, y, count, out)
    return out.view(shape)


LIBRARY.impl("mse_loss", _loss_kernel, "CompositeExplicitAutograd")
LIBRARY.impl("mse_loss_backward", _loss_backward_kernel, "CompositeExplicitAutograd")


@torch.library.register_fake("mseloss::mse_loss", lib=LIBRARY)
def _(input, target, reduction, wide=False):
    if reduction not in REDUCTION:
        raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', got {reduction!r}")
    shape = torch.broadcast_shapes(input.shape, target.shape)
    return input.new_empty(
        shape if reduction == "none" else (), dtype=loss_dtype(input, target, wide)
    )


@torch.library.register_fake("mseloss::mse_loss_backward", lib=LIBRARY)
def _(grad_output, input, target, count):
    shape = torch.broadcast_shapes(grad_output.shape, input.shape, target.shape)
    return input.new_empty(shape, dtype=promoted(input, target))


def batch_first(tensors, dims):
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


@torch.library.register_vmap("mseloss::mse_loss", lib=LIBRARY)
def _(info, in_dims, input, target, reduction, wide=False):
    input, target = batch_first((input, target), in_dims[:2])
    if reduction == "none":
        return loss(input, target, "none", wide), 0
    if wide and promoted(input, target).itemsize == 2:
        input, target = input.float(), target.float()
    # One correctly rounded sum for each sample, all in one call.
    dim = list(range(1, max(input.dim(), target.dim())))
    losses = torch.ops.mseloss.slices_loss(input, target, None, reduction, dim)
    return losses.flatten(1).squeeze(1) if dim else losses, 0


@torch.library.register_vmap("mseloss::mse_loss_backward", lib=LIBRARY)
def _(info, in_dims, grad_output, input, target, count):
    return loss_backward(*batch_first((grad_output, input, target), in_dims[:3]), count), 0
