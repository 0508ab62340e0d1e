"""The loss for PyTorch: a drop-in for `torch.nn.functional.mse_loss` and `torch.nn.MSELoss`.

>>> import torch, mseloss.torch
>>> x, y = torch.randn(1000, requires_grad=True), torch.randn(1000)
>>> mseloss.torch.mse_loss(x, y).backward()

A training step reads its operands once: the forward pass computes the loss and the gradient, and the backward
pass returns the gradient, scaled if necessary. Sums are exact and rounded once; they have the same bits for
any layout and thread count.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from mseloss._core import use_torch_threads
from mseloss.torch.arguments import checked_reduction as _checked_reduction
from mseloss.torch.dispatch import implementation as _implementation
from mseloss.torch.dispatch import operator_loss as _operator_loss
from mseloss.torch.readable import is_known_type as _is_known_type
from mseloss.torch.slices import slices_loss as _slices_loss
from mseloss.torch.step import STEP_IS_COMPILED
from mseloss.torch.step import compiled_loss as _compiled_loss

__all__ = ["MSELoss", "STEP_IS_COMPILED", "mse_loss", "use_torch_threads"]

_is_scripting = torch.jit.is_scripting
_is_compiling = torch.compiler.is_compiling


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
    dim: list[int] | None = None,
    keepdim: bool = False,
    group: Any = None,
    averaged: bool = False,
) -> Tensor:
    """The squared differences, their sum or their mean, differentiable with respect to every operand.

    Args:
        input, target: tensors of float32, float16, bfloat16 or float64 with any strides and at most 8
            dimensions, whose shapes broadcast together. Different dtypes are promoted; each gradient has
            its operand's dtype and shape.
        size_average, reduce: deprecated; they have the same effect as in PyTorch.
        reduction: "none", "mean" or "sum"; "elementwise_mean" is deprecated as in PyTorch.
        weight: a tensor that broadcasts with `input` and `target`; each squared difference is multiplied by
            its weight, and "mean" divides by the sum of the weights, each counted as often as it is used. A
            bool tensor is a mask: elements where it is false are left out, whatever their values.
        dim: for "mean" and "sum" an int or several, the dimensions of the broadcast shape to reduce; None for
            all.
        keepdim: whether reduced dimensions remain with extent 1.
        group: for "mean" and "sum" a ProcessGroup or a DeviceMesh whose processes hold parts of the data, of
            any shapes, also empty. All call the function, with the same dtypes and arguments. The loss is
            that of all parts together, with the same bits on every process, for any number of processes and
            any parts. The gradient is this process's part of the derivative of that loss.
        averaged: whether the gradients are averaged over the group later, as DistributedDataParallel and
            FSDP do. Then they are multiplied by its size, so that the average is the derivative of the loss.

    DTensors need no group: the loss is that of the whole tensors, whatever their placements, and replicated
    (for "none" placed like them); every gradient is placed like its operand. With a group of processes
    outside of their mesh, it is that of all tensors, as in tensor parallelism combined with data
    parallelism. With a group and for DTensors the derivatives are of first order, and there is no `dim` or
    `keepdim`.

    Returns a tensor of the promoted dtype: of the broadcast shape for "none", 0-dimensional if all dimensions
    are reduced. For an empty slice the sum is 0 and the mean is NaN. Other dtypes, layouts and subclasses,
    more than 8 dimensions and TorchScript are left to PyTorch's own operators, as are devices other than the
    CPU and, if their kernels were built, those of CUDA.

    Raises ValueError for an unknown reduction, a weight that does not broadcast, or `averaged` without a
    group, RuntimeError for operands that do not broadcast, IndexError for a dimension out of range. Warns as
    PyTorch does if the sizes differ.

    >>> mse_loss(torch.tensor([1.0, 2, 3]), torch.tensor([1.0, 1, 1]))
    tensor(1.6667)
    """
    if _is_scripting():
        return F.mse_loss(input, target, size_average, reduce, reduction, weight)
    if group is not None:
        arguments = (size_average, reduce, reduction, weight)
        return _distributed_loss(input, target, arguments, group, averaged, dim, keepdim)
    if averaged:
        raise ValueError(f"averaged: expected False without a group, got {averaged}")
    sliced = weight is not None or dim is not None or keepdim
    if size_average is reduce is None and not _is_compiling():
        options = (weight, dim, keepdim) if sliced else ()
        loss = _compiled_loss(input, target, reduction, *options)
        if loss is not None:
            return loss
    arguments = (size_average, reduce, reduction, weight)
    if sliced:
        return _sliced_loss(input, target, arguments, dim, keepdim)
    if has_torch_function_variadic(input, target):
        tensors = (input, target)
        if not _is_known_type(*tensors):
            return F.mse_loss(input, target, *arguments)
        # A torch function mode.
        return handle_torch_function(mse_loss, tensors, input, target, *arguments)
    compute = _implementation(input, target)
    if compute is None:
        if _is_dtensor(input, target):
            return _distributed_loss(input, target, arguments, None, False)
        return F.mse_loss(input, target, *arguments)
    if (
        input.shape != target.shape
        or not (size_average is reduce is None)
        or reduction not in ("none", "mean", "sum")
    ):
        reduction = _checked_reduction(input, target, *arguments)
    return compute(input, target, reduction)


class MSELoss(torch.nn.MSELoss):
    """`mse_loss` as a module, with the arguments of `torch.nn.MSELoss`, and others of `mse_loss`.

    >>> loss = mseloss.torch.MSELoss()
    >>> loss(torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)).backward()
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        dim: list[int] | None = None,
        keepdim: bool = False,
        group: Any = None,
        averaged: bool = False,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.dim = dim
        self.keepdim = keepdim
        self.group = group
        self.averaged = averaged

    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return mse_loss(
            input,
            target,
            reduction=self.reduction,
            weight=weight,
            dim=self.dim,
            keepdim=self.keepdim,
            group=self.group,
            averaged=self.averaged,
        )


@torch.jit.ignore
def _sliced_loss(
    input: Tensor,
    target: Tensor,
    arguments: tuple[bool | None, bool | None, str, Tensor | None],
    dim: list[int] | None,
    keepdim: bool,
) -> Tensor:
    weight = arguments[3]
    if _is_dtensor(input, target, weight):
        return _distributed_loss(input, target, arguments, None, False, dim, keepdim)
    tensors = (input, target) if weight is None else (input, target, weight)
    known = _is_known_type(*tensors)
    if known and has_torch_function_variadic(*tensors):  # a torch function mode
        return handle_torch_function(
            mse_loss, tensors, input, target, *arguments, dim=dim, keepdim=keepdim
        )
    if (
        dim is None
        and not keepdim
        and weight is not None
        and _is_pytorchs(input, target, weight, known)
    ):
        return F.mse_loss(input, target, *arguments)
    reduction = _checked_reduction(input, target, *arguments)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(
            f"Invalid reduction mode: {reduction}. Expected one of 'none', 'mean', 'sum'."
        )
    return _slices_loss(input, target, weight, reduction, dim, keepdim)


def _is_dtensor(*tensors):
    """Whether one is a DTensor; does not import torch.distributed.tensor."""
    return any(type(tensor).__name__ == "DTensor" for tensor in tensors)


@torch.jit.ignore
def _distributed_loss(
    input: Tensor,
    target: Tensor,
    arguments: tuple[bool | None, bool | None, str, Tensor | None],
    group: Any,
    averaged: bool,
    dim: list[int] | None = None,
    keepdim: bool = False,
) -> Tensor:
    weight = arguments[3]
    reduction = _checked_reduction(input, target, *arguments)
    if dim is not None:
        raise ValueError(f"dim: expected None with a group or for a DTensor, got {dim!r}")
    if keepdim:
        raise ValueError(f"keepdim: expected False with a group or for a DTensor, got {keepdim!r}")
    if _is_dtensor(input, target, weight):
        from mseloss.torch.dtensor import dtensor_loss

        def elementwise(x, y, w):
            if w is None:
                return _operator_loss(x, y, "none")
            return _slices_loss(x, y, w, "none", None, False)

        return dtensor_loss(input, target, weight, reduction, group, averaged, elementwise)
    from mseloss.torch.group import group_loss

    return group_loss(input, target, weight, reduction, group, averaged)


def _is_pytorchs(input, target, weight, known):
    """Whether a weighted loss over all dimensions is left to PyTorch's own operators."""
    if not known or not isinstance(weight, Tensor):
        return True
    if weight.dtype == torch.bool:  # a mask, which PyTorch does not have
        return False
    if _implementation(input, target) is None:
        return True
    if weight.is_floating_point() and _implementation(input, weight) is None:
        return True
    # If input is broadcast, PyTorch divides by the sum of the weights as they are.
    same_size = weight.size() == input.size()
    return same_size and torch.broadcast_shapes(input.shape, target.shape) != input.shape
