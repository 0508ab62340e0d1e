"""The loss for PyTorch: a drop-in for `torch.nn.functional.mse_loss` and `torch.nn.MSELoss`.

>>> import torch, mseloss.torch
>>> x, y = torch.randn(1000, requires_grad=True), torch.randn(1000)
>>> mseloss.torch.mse_loss(x, y).backward()

A training step reads its operands once: the forward pass computes the loss and the gradient, and the backward
pass returns the gradient, scaled if necessary. Sums are exact and rounded once; they have the same bits for
any layout and thread count.
"""

from __future__ import annotations

import warnings

import torch
from torch.nn import _reduction
from torch.overrides import handle_torch_function, has_torch_function_variadic

from mseloss.torch.dispatch import loss as _loss
from mseloss.torch.step import STEP_IS_COMPILED
from mseloss.torch.step import compiled_loss as _compiled_loss

__all__ = ["MSELoss", "STEP_IS_COMPILED", "mse_loss"]


def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """The squared differences, their sum or their mean, differentiable with respect to every operand.

    Args:
        input, target: tensors of float32, float16, bfloat16 or float64 with any strides and at most 8
            dimensions, whose shapes broadcast together. Different dtypes are promoted; each gradient has
            its operand's dtype and shape.
        size_average, reduce: deprecated; they have the same effect as in PyTorch.
        reduction: "none", "mean" or "sum".
        weight: a tensor of the size of `input`; each squared difference is multiplied by its weight, and
            "mean" divides by the sum of the weights.

    Returns a tensor of the promoted dtype: of the broadcast shape for "none", else 0-dimensional. For empty
    input the sum is 0 and the mean is NaN. Other dtypes, devices other than the CPU and more than 8
    dimensions are left to PyTorch's own operator.

    Raises ValueError for an unknown reduction or a weight of another size than `input`, RuntimeError or
    ValueError for shapes that do not broadcast. Warns as PyTorch does if the sizes differ.

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
