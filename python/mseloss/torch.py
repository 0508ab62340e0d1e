"""The loss for PyTorch: a drop-in for `torch.nn.functional.mse_loss` and `torch.nn.MSELoss`.

>>> import torch, mseloss.torch
>>> x, y = torch.randn(1000, requires_grad=True), torch.randn(1000)
>>> mseloss.torch.mse_loss(x, y).backward()

A training step sweeps its operands once: the forward pass makes the loss and the gradient, the backward pass
returns it, or scales it. Results are exact sums rounded once, the same bits for any layout and thread count.
"""

from __future__ import annotations

import importlib
import re
import warnings

import torch
from torch.autograd import forward_ad
from torch.nn import _reduction
from torch.overrides import handle_torch_function, has_torch_function_variadic

from mseloss import _core, torch_ops

__all__ = ["MSELoss", "STEP_IS_COMPILED", "mse_loss"]

_DTYPES = frozenset((torch.float32, torch.float16, torch.bfloat16, torch.float64))
_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter))
_MAX_RANK = 8
_keep_graph = torch._C._autograd._get_current_graph_task_keep_graph
_transforms_active = torch._C._are_functorch_transforms_active
_dispatch_modes = torch._C._len_torch_dispatch_stack
_tracing_state = torch._C._get_tracing_state
_is_batched = torch._C._functorch.is_legacy_batchedtensor
_any_autocast = torch._C._is_any_autocast_enabled

try:  # the common step in C++, if it was built for this very version of PyTorch
    _compiled_loss = importlib.import_module(
        "mseloss._torch_step_" + re.sub(r"\W", "_", torch.__version__)
    ).mse_loss
except ImportError:

    def _compiled_loss(input, target, reduction):
        return None

    STEP_IS_COMPILED = False
else:
    STEP_IS_COMPILED = True


def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """The mean (or the sum, or each) of the squared differences, differentiable in every operand.

    Args:
        input, target: tensors that broadcast together, up to 8 dimensions, any strides; float32, float16,
            bfloat16 or float64. Two dtypes promote, and each gradient has its operand's dtype and shape.
        size_average, reduce: deprecated, treated as PyTorch treats them.
        reduction: "none", "mean" or "sum".
        weight: a tensor of the size of `input`; each squared difference is multiplied by its weight, and
            "mean" divides by the sum of the weights.

    Returns a tensor: of the broadcast shape for "none", else 0-dimensional. Of nothing, the sum is 0 and the
    mean NaN. Other dtypes, devices other than the processor and more than 8 dimensions go to PyTorch's own
    operator.

    Raises ValueError for an unknown reduction or a weight of another size than `input`, RuntimeError or
    ValueError for shapes that do not broadcast; warns as PyTorch does where the sizes differ.

    >>> mse_loss(torch.tensor([1.0, 2, 3]), torch.tensor([1.0, 1, 1]))
    tensor(1.6667)
    """
    if size_average is reduce is weight is None and not torch.compiler.is_compiling():
        loss = _compiled_loss(input, target, reduction)
        if loss is not None:
            return loss
    if has_torch_function_variadic(input, target, weight):
        return handle_torch_function(
            mse_loss,
            (input, target, weight),
            input,
            target,
            size_average=size_average,
            reduce=reduce,
            reduction=reduction,
            weight=weight,
        )
    if input.shape != target.shape:
        warnings.warn(
            f"Using a target size ({target.size()}) that is different to the input size ({input.size()}). "
            "This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=2,
        )
    if size_average is not None or reduce is not None:
        reduction = _reduction.legacy_get_string(size_average, reduce)
    if weight is not None:
        return _weighted(input, target, reduction, weight)
    return _loss(input, target, reduction)


class MSELoss(torch.nn.modules.loss._Loss):
    """`mse_loss` as a module, with the arguments of `torch.nn.MSELoss`.

    >>> loss = mseloss.torch.MSELoss()
    >>> loss(torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)).backward()
    """

    __constants__ = ("reduction",)

    def forward(self, input, target):
        return mse_loss(input, target, reduction=self.reduction)


def _weighted(input, target, reduction, weight):
    if weight.size() != input.size():
        raise ValueError("Weights and input must have the same size.")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(
            f"Invalid reduction mode: {reduction}. Expected one of 'none', 'mean', 'sum'."
        )
    losses = _loss(input, target, "none") * weight
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / weight.sum()


def _loss(input, target, reduction):
    if torch.compiler.is_compiling() or not _eager(input, target):
        return _transformed(input, target, reduction)
    if torch.is_grad_enabled() and (input.requires_grad or target.requires_grad):
        return _step(input, target, reduction)
    return _core.loss(input, target, reduction)


def _eager(x, y):
    """Whether these are tensors in this processor's memory, and nobody watches what is done to them."""
    return (
        type(x) in _PLAIN
        and type(y) in _PLAIN
        and x.dtype in _DTYPES
        and y.dtype in _DTYPES
        and x.is_cpu
        and y.is_cpu
        and x.dim() <= _MAX_RANK
        and y.dim() <= _MAX_RANK
        and not (x.is_neg() or y.is_neg() or _transforms_active() or _dispatch_modes())
        and not _any_autocast()
        and _tracing_state() is None
        and forward_ad._current_level < 0
    )


def _transformed(input, target, reduction):
    device = input.device.type
    if device != "meta" and torch.is_autocast_enabled(device):  # its list for float32 has mse_loss
        input, target = (_autocast(tensor) for tensor in (input, target))
    if not _has_kernel(input, target):
        operands = torch.broadcast_tensors(input, target)
        return torch._C._nn.mse_loss(*operands, _reduction.get_enum(reduction))
    if torch.compiler.is_compiling():
        return torch.ops.mseloss.mse_loss(input, target, reduction)
    if _transforms_active() or forward_ad._current_level >= 0:
        return _Transformed.apply(input, target, reduction)
    return torch.ops.mseloss.mse_loss(input, target, reduction)


def _autocast(tensor):
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _has_kernel(x, y):
    return (
        x.dtype in _DTYPES
        and y.dtype in _DTYPES
        and x.device == y.device
        and x.device.type in ("cpu", "meta")
        and x.layout is torch.strided
        and y.layout is torch.strided
        and max(x.dim(), y.dim()) <= _MAX_RANK
    )


class _Step(torch.autograd.Function):
    """Eager mode: the forward pass makes the gradient as well, where one sweep can."""

    @staticmethod
    def forward(ctx, input, target, reduction):
        ctx.save_for_backward(input, target)
        ctx.reduction = reduction
        if reduction == "none" or input.shape != target.shape or not input.requires_grad:
            ctx.gradient = None
            return _core.loss(input, target, reduction)
        loss, ctx.gradient = _core.loss_and_grad(input, target, reduction)
        return loss

    @staticmethod
    def backward(ctx, grad_output):
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is not None and not (_transformed_gradient(grad_output) or _keep_graph()):
            gradient = _scaled(gradient, grad_output)
            if gradient is not None and not ctx.needs_input_grad[1]:
                return gradient, None, None
        else:
            gradient = None  # it cannot be given away, or has no history
        operands = ctx.saved_tensors
        needs = ctx.needs_input_grad
        return *_gradients(grad_output, *operands, ctx.reduction, needs, gradient), None


_step = super(torch.autograd.Function, _Step).apply  # Function.apply, less a look for transforms


def _transformed_gradient(grad_output):
    """Whether the backward pass is itself differentiated, or vectorised (is_grads_batched)."""
    return torch.is_grad_enabled() or _is_batched(grad_output)


def _scaled(gradient, grad_output):
    """The forward pass's gradient times `grad_output`, or None where that would not be the exact result."""
    if grad_output.item() == 1:
        return gradient
    # A gradient in a half type has been rounded, perhaps to zero: it cannot be scaled any more.
    exact = gradient.dtype == grad_output.dtype and gradient.dtype.itemsize >= 4
    return gradient.mul_(grad_output) if exact else None


def _gradients(grad_output, input, target, reduction, needs, of_input):
    """Both gradients, None where not needed. `of_input`: the forward pass's, where that is the answer."""
    transformed = _transformed_gradient(grad_output)
    if transformed or input.shape != target.shape:  # then it is to be reduced
        count = torch_ops.loss_count(input, target, reduction)
        plain = torch.ops.mseloss.mse_loss_backward
        backward = _TransformedBackward.apply if transformed else plain
        return torch_ops.input_and_target_gradients(
            backward, grad_output, input, target, count, needs
        )
    if needs[0] and of_input is None:
        of_input = _gradient(grad_output, input, target, reduction)
    of_target = _gradient(grad_output, target, input, reduction) if needs[1] else None
    return of_input, of_target


def _gradient(grad_output, input, target, reduction):
    """The gradient in `input`, of the shape of both operands."""
    if grad_output.dtype == input.dtype == target.dtype:
        return _core.grad(grad_output, input, target, reduction)
    dtype = torch.promote_types(input.dtype, target.dtype)
    operands = (tensor.to(dtype) for tensor in (grad_output, input, target))
    return _core.grad(*operands, reduction, out=_core.empty(input.shape, input.dtype, like=input))


class _Transformed(torch.autograd.Function):
    """Under torch.func's transforms and forward-mode differentiation, which refuse custom operators that
    bring their own autograd formula but know functions with a setup_context."""

    generate_vmap_rule = True

    @staticmethod
    def forward(input, target, reduction):
        return torch.ops.mseloss.mse_loss(input, target, reduction)

    @staticmethod
    def setup_context(ctx, inputs, output):
        input, target, ctx.reduction = inputs
        ctx.save_for_backward(input, target)
        ctx.save_for_forward(input, target)
        ctx.count = torch_ops.loss_count(input, target, ctx.reduction)

    @staticmethod
    def backward(ctx, grad_output):
        input, target = ctx.saved_tensors
        return *torch_ops.input_and_target_gradients(
            _TransformedBackward.apply,
            grad_output,
            input,
            target,
            ctx.count,
            ctx.needs_input_grad,
        ), None

    @staticmethod
    def jvp(ctx, input_tangent, target_tangent, _):
        input, target = ctx.saved_tensors
        dtype = torch_ops.promoted(input, target)
        tangent = _difference(input_tangent, target_tangent, dtype)
        result = _TransformedBackward.apply(tangent, input, target, ctx.count)
        if ctx.reduction == "none":
            return result.expand(torch.broadcast_shapes(input.shape, target.shape)).clone()
        shape = torch.broadcast_shapes(input.shape, target.shape)
        return result.expand(shape).sum()


def _difference(a, b, dtype):
    if a is None:
        return -b.to(dtype)
    return a.to(dtype) if b is None else a.to(dtype) - b.to(dtype)


class _TransformedBackward(torch.autograd.Function):
    """The gradient, differentiable again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad_output, input, target, count):
        return torch.ops.mseloss.mse_loss_backward(grad_output, input, target, count)

    @staticmethod
    def setup_context(ctx, inputs, output):
        torch_ops.save_backward(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:3])

    @staticmethod
    def backward(ctx, gradient_output):
        return torch_ops.second_gradients(_TransformedBackward.apply, ctx, gradient_output)

    @staticmethod
    def jvp(ctx, grad_output_tangent, input_tangent, target_tangent, _):
        grad_output, input, target = ctx.saved_tensors
        count, result = ctx.count, None
        if grad_output_tangent is not None:
            result = _TransformedBackward.apply(grad_output_tangent, input, target, count)
        if input_tangent is not None or target_tangent is not None:
            dtype = torch_ops.promoted(input, target)
            scaled = _difference(input_tangent, target_tangent, dtype) * (2 / count if count else 2)
            result = scaled * grad_output if result is None else result + scaled * grad_output
        shape = torch.broadcast_shapes(grad_output.shape, input.shape, target.shape)
        return result.expand(shape).to(torch_ops.promoted(input, target))
