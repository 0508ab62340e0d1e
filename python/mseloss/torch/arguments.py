"""Issues PyTorch's warnings and errors for deprecated arguments, unknown reductions and different sizes."""

from __future__ import annotations

import warnings

import torch
from torch.nn import _reduction

from mseloss.torch.operators import LIBRARY


def checked_reduction(input, target, size_average, reduce, reduction, weight):
    """The effective reduction, after PyTorch's warnings and errors."""
    unweighted = weight is None  # else PyTorch has another error for the reduction
    # torch.compile cannot trace a warning. It can call an operator, which warns while PyTorch traces.
    check = torch.ops.mseloss.check if torch.compiler.is_compiling() else _check
    sizes = input.size(), target.size()
    check(*sizes, size_average, reduce, reduction if unweighted else "mean")
    if size_average is None and reduce is None:
        return "mean" if unweighted and reduction == "elementwise_mean" else reduction
    if reduce is not None and not reduce:
        return "none"
    return "sum" if size_average is not None and not size_average else "mean"


def _check(input_size, target_size, size_average, reduce, reduction):
    if input_size != target_size:
        input_size, target_size = torch.Size(input_size), torch.Size(target_size)
        warnings.warn(
            f"Using a target size ({target_size}) that is different to the input size ({input_size}). "
            "This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=4,
        )
        # Raises PyTorch's error.
        torch.broadcast_tensors(*(torch.empty(s, device="meta") for s in (input_size, target_size)))
    if size_average is not None or reduce is not None:
        _reduction.legacy_get_string(size_average, reduce)  # warns
    else:
        _reduction.get_enum(reduction)  # warns of "elementwise_mean", raises PyTorch's error


LIBRARY.define(
    "check(SymInt[] input_size, SymInt[] target_size, bool? size_average, bool? reduce, str reduction)"
    " -> ()",
    tags=(torch.Tag.pt2_compliant_tag,),
)
LIBRARY.impl("check", _check, "CompositeImplicitAutograd")
