"""The gradient that the forward pass computes for the backward pass, for a grad_output of 1.

On the CPU the backward pass looks at grad_output. On a device it would have to wait for that, so it
multiplies by any value there, and a gradient is stored only if the product is the correctly rounded one.
"""

from __future__ import annotations

from mseloss.torch.operators import promoted
from mseloss.torch.readable import is_on_device


def _is_exact(dtype, of_grad_output, weight):
    """Whether a stored gradient can be multiplied by grad_output.

    In a half type it has been rounded, possibly to zero. With a weight the formula first rounds
    weight * grad_output.
    """
    return weight is None and dtype == of_grad_output and dtype.itemsize >= 4


def is_usable(input, target, weight, dtype):
    """Whether to store the gradient of a loss in `dtype`, or in the promoted dtype for None."""
    return not is_on_device(input) or _is_exact(
        input.dtype, dtype or promoted(input, target), weight
    )


def scaled(gradient, grad_output, weight=None):
    """The stored gradient times `grad_output`, in place; None if that is not the correctly rounded result."""
    exact = _is_exact(gradient.dtype, grad_output.dtype, weight)
    if not is_on_device(gradient):
        if grad_output.numel() == 1:
            if grad_output.item() == 1:
                return gradient
        elif bool((grad_output == 1).all()):
            return gradient
    return gradient.mul_(grad_output) if exact else None
