"""The loss of data that the processes of a group hold, as custom operators.

    group_loss(Tensor input, Tensor target, Tensor? weight, str reduction, str[] groups, float factor)
        -> (Tensor loss, Tensor scale, Tensor wide_loss)
    part_backward(Tensor grad_output, Tensor input, Tensor target, Tensor? weight, Tensor scale) -> Tensor

`groups` names process groups whose product is the set of processes, one for each dimension of a mesh. They
add the digits of all processes' partial sums, int32, so that every process finishes the same sum. `scale` is
the factor of the gradient, 2 / sum(w) or 2; `factor` multiplies gradients only. `wide_loss` is the loss for
the gradient with respect to a weight, float32 instead of a half type. The kernels run on the CPU, so tensors
on other devices are copied; the digits are added on the device of `input`, as its process groups require.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist

from mseloss import _core
from mseloss._dtypes import EXPECTED
from mseloss._parts import Exchange
from mseloss.torch.derivatives import reduce_to
from mseloss.torch.dispatch import autocast
from mseloss.torch.operators import LIBRARY, folded, promoted
from mseloss.torch.private import resolve_process_group
from mseloss.torch.readable import DTYPES
from mseloss.torch.slices.derivatives import of_operands
from mseloss.torch.slices.formula import shape_of, wide
from mseloss.torch.slices.step import promoted_operands

LIBRARY.define(
    "group_loss(Tensor input, Tensor target, Tensor? weight, str reduction, str[] groups, float factor)"
    " -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
LIBRARY.define(
    "part_backward(Tensor grad_output, Tensor input, Tensor target, Tensor? weight, Tensor scale) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_group_loss = torch.ops.mseloss.group_loss.default
_part_backward = torch.ops.mseloss.part_backward.default


def group_loss(input, target, weight, reduction, group, averaged):
    """The loss of all processes' data. `group` is a ProcessGroup or a DeviceMesh."""
    names, factor = names_and_factor(reduction, group, averaged)
    return loss_of_groups(input, target, weight, reduction, names, factor)


def names_and_factor(reduction, group, averaged):
    """The names of the process groups, and the factor of gradients that are averaged over them."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: expected 'mean' or 'sum' with a group, got {reduction!r}")
    if isinstance(group, dist.ProcessGroup):
        groups = [group]
    elif isinstance(group, dist.DeviceMesh):
        groups = [group.get_group(i) for i in range(group.ndim)]
    else:
        raise TypeError(f"group: expected a ProcessGroup or a DeviceMesh, got {group!r}")
    factor = math.prod(map(dist.get_world_size, groups)) if averaged else 1
    return [group.group_name for group in groups], float(factor)


def loss_of_groups(input, target, weight, reduction, groups, factor):
    for name, tensor in (("input", input), ("target", target)):
        if tensor.dtype not in DTYPES:
            raise TypeError(f"{name}: expected {EXPECTED}, got {tensor.dtype}")
    input, target, weight = promoted_operands(input, target, weight)
    x, y = autocast(input, target)
    loss, *_ = _group_loss(x, y, weight, reduction, groups, factor)
    return loss


class _Groups(Exchange):
    def __init__(self, names, device, dtype):
        groups = [resolve_process_group(name) for name in names]

        def all_reduce(digits):
            tensor = torch.from_numpy(digits).to(device)
            for group in groups:
                dist.all_reduce(tensor, group=group)
            return tensor.cpu().numpy()

        super().__init__(all_reduce, math.prod(g.size() for g in groups), dtype)


def _on_cpu(*tensors):
    present = [t.detach().cpu() for t in tensors if t is not None]
    present = iter(folded(*present))
    return [None if t is None else next(present) for t in tensors]


def _group_loss_kernel(input, target, weight, reduction, groups, factor):
    dtype = promoted(input, target)
    x, y, w = _on_cpu(input, target, weight)
    wide_dtype = torch.promote_types(dtype, torch.float32)

    def finish(total):
        values = [total.finish(reduction, dtype), total.scale(reduction, dtype)]
        values.append(total.finish(reduction, wide_dtype) if wide_dtype != dtype else values[0])
        return None if any(value is None for value in values) else values

    value, scale, wide_value = _Groups(groups, input.device, dtype).until_decided(
        lambda part, exact: part.add(x, y, weight=w, exact=exact), finish
    )
    # A float64 holds every value of a narrower dtype.
    loss = torch.tensor(float(value), dtype=torch.float64).to(input.device, dtype)
    return loss, *(torch.tensor(float(v), dtype=torch.float64) for v in (scale, wide_value))


def _part_backward_kernel(grad_output, input, target, weight, scale):
    shape = shape_of(input, target, weight)
    x, y, w = _on_cpu(input, target, weight)
    dtype = promoted(input, target)
    flat = shape_of(x, y, w)
    out = _core.empty(tuple(flat), dtype, like=x.new_empty(0))
    _core.PartialSum().add_with_grad(
        x,
        y,
        scale.item(),
        weight=w,
        grad_output=grad_output.detach().cpu().to(dtype),
        grad_input=out,
    )
    return out.view(shape).to(input.device)


LIBRARY.impl("group_loss", _group_loss_kernel, "CompositeExplicitAutograd")
LIBRARY.impl("part_backward", _part_backward_kernel, "CompositeExplicitAutograd")


@torch.library.register_fake("mseloss::group_loss", lib=LIBRARY)
def _(input, target, weight, reduction, groups, factor):
    dtype = promoted(input, target)
    scale, wide_loss = (torch.empty((), dtype=torch.float64) for _ in range(2))
    return input.new_empty((), dtype=dtype), scale, wide_loss


@torch.library.register_fake("mseloss::part_backward", lib=LIBRARY)
def _(grad_output, input, target, weight, scale):
    shape = shape_of(input, target, weight)
    return input.new_empty(shape, dtype=promoted(input, target))


def _save(ctx, inputs, output):
    input, target, weight, reduction, _, factor = inputs
    ctx.save_for_backward(input, target, weight, *output[1:])
    ctx.set_materialize_grads(False)
    ctx.reduction, ctx.factor = reduction, factor


def _backward(ctx, grad_output, of_scale, of_wide_loss):
    if of_scale is not None or of_wide_loss is not None:  # they are used by first derivatives only
        _no_second_derivative(ctx, grad_output)
    if grad_output is None:
        return (None,) * 6
    input, target, weight, scale, wide_loss = ctx.saved_tensors
    needs = ctx.needs_input_grad
    shape = shape_of(input, target, weight)
    of_input = of_target = of_weight = None
    if needs[0] or needs[1]:
        x, y, g = input, target, grad_output
        reduces = any(need and t.shape != shape for need, t in zip(needs, (x, y), strict=False))
        if promoted(x, y).itemsize == 2 and (reduces or ctx.factor != 1):
            x, y, g = wide(x), wide(y), wide(g)  # round once, after the product and the sum
        gradient = _part_backward(g * ctx.factor, x, y, weight, scale)
        of_input, of_target = of_operands(gradient, input, target, weight, needs)
    if needs[2]:
        dtype = torch.promote_types(promoted(input, target), torch.float32)
        of_weight = (input.to(dtype) - target.to(dtype)).square()
        if ctx.reduction == "mean":
            of_weight = of_weight - wide_loss.to(of_weight)
        of_weight = of_weight * (0.5 * scale.to(of_weight)) * (wide(grad_output) * ctx.factor)
        of_weight = reduce_to(of_weight.expand(shape), weight)
    return of_input, of_target, of_weight, None, None, None


def _no_second_derivative(ctx, gradient):
    raise NotImplementedError("mse_loss: expected first derivatives with a group, got a second one")


torch.library.register_autograd("mseloss::group_loss", _backward, setup_context=_save, lib=LIBRARY)
torch.library.register_autograd("mseloss::part_backward", _no_second_derivative, lib=LIBRARY)
