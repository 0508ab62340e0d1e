"""The methods of PartialSum on arrays in the memory of a CUDA device; see _device.py for arrays and streams.

The sum is in host memory, so every call waits until its stream has computed it.
"""

from __future__ import annotations

import functools

from mseloss import _core
from mseloss._device import Call


def _run(function, total, first, call, *operands):
    call.run_with(functools.partial(function, total), first, *operands)


def add(total, input, target, weight, exact):
    call = Call(input, target, weight)
    _run(_core._device_add, total, exact, call, call.x, call.y, call.w)


def add_divisor(total, input, target, weight, exact):
    call = Call(input, target, weight)
    _run(_core._device_add_divisor, total, exact, call, call.x, call.y, call.w)


def add_with_grad(total, input, target, scale, weight, grad_output, grad_input):
    call = Call(input, target, weight)
    g = call.upstream(grad_output, call.x.dtype)
    result = call.output(grad_input, call.shape, call.x.dtype, "grad_input")
    operands = (g, call.x, call.y, call.w, result)
    _run(_core._device_add_with_grad, total, scale, call, *operands)
    return result.array
