"""The gradient that the forward pass computes for the backward pass, for a grad_output of 1.

On the CPU the backward pass looks at grad_output. On a device it would have to wait for that, so a kernel
looks at it: it leaves the stored gradient where grad_output is 1 and else computes it again.
"""

from __future__ import annotations

from mseloss import _device
from mseloss.torch.operators import promoted
from mseloss.torch.readable import is_on_device


def _is_exact(dtype, of_grad_output, weight):
    """Whether a stored gradient can be multiplied by grad_output.

    In a half type it has been rounded, possibly to zero. With a weight the formula first rounds
    weight * grad_output.
    """
    return weight is None and dtype == of_grad_output and dtype.itemsize >= 4


def is_usable(input, target, weight, reduction, dtype, slices):
    """Whether to store the gradient of a loss in `dtype`, or in the promoted dtype for None.

    `slices` is the number of elements of the loss. Several grad_outputs are rarely all 1, and the scale of a
    mean with weights takes a sweep of its own.
    """
    if not is_on_device(input):
        return True
    if slices != 1:
        return _is_exact(input.dtype, dtype or promoted(input, target), weight)
    one_dtype = input.dtype == target.dtype == (dtype or input.dtype)
    return one_dtype and (weight is None or reduction == "sum")


def finished(gradient, grad_output, input, target, weight, reduction):
    """The stored gradient for `grad_output`, in place; None to compute it anew."""
    if not is_on_device(gradient):
        return _scaled(gradient, grad_output, weight)
    if grad_output.dtype != gradient.dtype:
        return None
    if grad_output.numel() != 1:
        return gradient.mul_(grad_output)
    count = input.numel() if reduction == "mean" else 0
    return _device.grad_part(
        grad_output.reshape(()), input, target, count, gradient, weight, held=True
    )


def _scaled(gradient, grad_output, weight):
    if grad_output.numel() == 1:
        if grad_output.item() == 1:
            return gradient
    elif bool((grad_output == 1).all()):
        return gradient
    exact = _is_exact(gradient.dtype, grad_output.dtype, weight)
    return gradient.mul_(grad_output) if exact else None
