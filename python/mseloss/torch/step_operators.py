"""The operators of the training step in graphs that torch.compile makes, below autograd.

    mse_loss_value(Tensor input, Tensor target, bool mean, bool wide) -> Tensor
    mse_loss_step(Tensor input, Tensor target, bool mean, bool wide, bool channels_last)
        -> (Tensor loss, Tensor token)
    mse_loss_step_backward(Tensor grad_output, Tensor input, Tensor target, SymInt count, Tensor token,
        bool channels_last) -> Tensor

For "mean" and "sum" over two tensors of the same shape. `wide`: the loss of half types is float32, as under
autocast. One sweep of mse_loss_step computes the loss and the gradient with respect to `input`. The gradient
stays in the library until `token`, which is saved for the backward pass, is freed. mse_loss_step_backward
returns it, scaled in place if that is exact. If it has been returned already, as with a retained graph, or if
`token` is a copy, the gradient is computed again. So results depend on input, target and grad_output only,
and a graph may hold the operators in any number and order. `count` is the number of elements for "mean",
else 0.

The kernels are in C++ (python/src/torch/kernels.cpp) where PyTorch's stable C interface allows it. PyTorch's
cache on disk holds compiled graphs that call these operators, so a changed schema needs a new name.
"""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

from mseloss import _core
from mseloss.torch import operators, private
from mseloss.torch.operators import LIBRARY, loss_dtype
from mseloss.torch.readable import DTYPES, MAX_RANK

_TAGS = (torch.Tag.pt2_compliant_tag,)

_STEP = (
    "(Tensor input, Tensor target, bool mean, bool wide, bool channels_last)"
    " -> (Tensor loss, Tensor token)"
)
_BACKWARD = (
    "(Tensor grad_output, Tensor input, Tensor target, SymInt count, Tensor token, bool channels_last)"
    " -> Tensor"
)
LIBRARY.define(
    "mse_loss_value(Tensor input, Tensor target, bool mean, bool wide) -> Tensor", tags=_TAGS
)
LIBRARY.define(f"mse_loss_step{_STEP}", tags=_TAGS)
LIBRARY.define(f"mse_loss_step_backward{_BACKWARD}", tags=_TAGS)
LIBRARY.define(
    "mse_loss_wide_gradient(Tensor grad_output, Tensor input, Tensor target, SymInt count,"
    " bool channels_last) -> Tensor"
)
# Differentiable forms of these (derivatives.py), only while a graph is traced: below the last level of
# torch.func they become the operators above, which the graph then calls without a detour through autograd.
LIBRARY.define(f"differentiable_step{_STEP}")
LIBRARY.define(f"differentiable_step_backward{_BACKWARD}")
value = torch.ops.mseloss.mse_loss_value.default
step = torch.ops.mseloss.mse_loss_step.default
step_backward = torch.ops.mseloss.mse_loss_step_backward.default
differentiable_step = torch.ops.mseloss.differentiable_step.default
differentiable_step_backward = torch.ops.mseloss.differentiable_step_backward.default


def loss(input, target, reduction, wide=False):
    """The loss by these operators, while torch.compile traces operands that they accept; else None.

    Called for each level of torch.func.
    """
    if reduction == "none" or torch.compiler.is_exporting() or not _accepts(input, target):
        return None
    arguments = (input, target, reduction == "mean", wide)
    last_level = is_last_level(input, target)
    if torch.is_grad_enabled() and (input.requires_grad or target.requires_grad):
        # Otherwise the backward pass would compute the gradient again (Step in derivatives.py).
        one_dtype = input.dtype == target.dtype == loss_dtype(input, target, wide)
        if input.requires_grad and (one_dtype or (last_level and not target.requires_grad)):
            return differentiable_step(*arguments, is_channels_last(input))[0]
        return None
    # `value` has no derivatives: no level of torch.func and no tangent may ask for them.
    return value(*arguments) if last_level and forward_ad._current_level < 0 else None


def is_last_level(*arguments):
    """Whether no level of torch.func is left to process an operator with these arguments."""
    tensors = (argument for argument in arguments if isinstance(argument, torch.Tensor))
    return not any(map(private.is_functorch_wrapped_tensor, tensors))


def _accepts(input, target):
    return (
        is_traced(input)
        and is_traced(target)
        and input.shape == target.shape
        and input.dim() <= MAX_RANK
        and all(
            t.dtype in DTYPES and t.device.type == "cpu" and t.layout is torch.strided
            for t in (input, target)
        )
    )


def is_traced(tensor):
    """Whether a compiler traces it, possibly wrapped by levels of torch.func other than vmap."""
    while private.is_functorch_wrapped_tensor(tensor):
        if private.is_batched_tensor(tensor):
            return False
        tensor = private.get_unwrapped(tensor)
    return type(tensor) is private.FunctionalTensor


def is_channels_last(tensor):
    """Whether the gradient lies in memory like a 4-dimensional `tensor` in that order."""
    return (
        tensor.dim() == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous()
    )


def empty_gradient(input, channels_last):
    order = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(input.shape, dtype=input.dtype, device=input.device, memory_format=order)


def _value_kernel(input, target, mean, wide):
    reduction = "mean" if mean else "sum"
    return _core.loss(input, target, reduction, dtype=loss_dtype(input, target, wide))


def _step_kernel(input, target, mean, wide, channels_last):
    token = torch.zeros((), dtype=torch.int64)
    return _value_kernel(input, target, mean, wide), token


def _wide_gradient(grad_output, input, target, count, channels_last):
    dtype = torch.promote_types(grad_output.dtype, operators.promoted(input, target))
    gradient = operators.loss_backward(grad_output, input.to(dtype), target.to(dtype), count)
    order = torch.channels_last if channels_last else torch.contiguous_format
    return gradient.to(input.dtype, memory_format=order)


def _step_backward_kernel(grad_output, input, target, count, token, channels_last):
    return _wide_gradient(grad_output, input, target, count, channels_last)


LIBRARY.impl("mse_loss_wide_gradient", _wide_gradient, "CompositeExplicitAutograd")
if not _core.register_torch_kernels():
    LIBRARY.impl("mse_loss_value", _value_kernel, "CPU")
    LIBRARY.impl("mse_loss_step", _step_kernel, "CPU")
    LIBRARY.impl("mse_loss_step_backward", _step_backward_kernel, "CPU")


@torch.library.register_fake("mseloss::mse_loss_value", lib=LIBRARY)
def _(input, target, mean, wide):
    return input.new_empty((), dtype=loss_dtype(input, target, wide))


@torch.library.register_fake("mseloss::mse_loss_step", lib=LIBRARY)
def _(input, target, mean, wide, channels_last):
    loss = input.new_empty((), dtype=loss_dtype(input, target, wide))
    return loss, input.new_empty((), dtype=torch.int64)


@torch.library.register_fake("mseloss::mse_loss_step_backward", lib=LIBRARY)
def _(grad_output, input, target, count, token, channels_last):
    return empty_gradient(input, channels_last)


@torch.library.register_vmap("mseloss::differentiable_step_backward", lib=LIBRARY)
def _(info, in_dims, grad_output, input, target, count, token, channels_last):
    operands = operators.batch_first((grad_output, input, target), in_dims[:3])
    return operators.loss_backward(*operands, count), 0
