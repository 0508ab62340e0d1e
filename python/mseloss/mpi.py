"""The loss of arrays that are distributed over the ranks of an MPI communicator, by mpi4py.

>>> from mpi4py import MPI
>>> import mseloss.mpi
>>> loss = mseloss.mpi.loss(x, y)    # of the data of all ranks; x and y are those of this rank
>>> loss, dx = mseloss.mpi.loss_and_grad(x, y, comm=MPI.COMM_WORLD)

All ranks of the communicator call a function together, with the same reduction and dtypes, and all or none
with a weight. They may hold different shapes, also without elements. The result has the same bits on every
rank, for any number of ranks and any distribution.

The ranks exchange messages whose length depends on the dtypes. If these differ between ranks in whether they
promote to float64, or are not supported on one rank only, the lengths may too: MPI does not define what
happens then, and a call may fail inside MPI or hang.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI

from mseloss._core import PartialSum, asnumpy, explain
from mseloss._parts import Exchange
from mseloss._rounding import promote

__all__ = ["loss", "loss_and_grad"]


def loss(
    input: Any,
    target: Any,
    reduction: str = "mean",
    *,
    weight: Any = None,
    dtype: Any = None,
    comm: MPI.Intracomm | None = None,
) -> Any:
    """The sum or mean of the squared differences of all ranks' data, exact and rounded once.

    Args:
        input, target, weight: the arrays of this rank, as for `mseloss.loss`.
        reduction: "mean" or "sum".
        dtype: that of the result; by default the promoted dtype.
        comm: an mpi4py communicator; None for `MPI.COMM_WORLD`.

    Returns a NumPy scalar. Raises what `mseloss.loss` raises, on every rank if on one: RuntimeError on the
    others.
    """
    exchange, result = _exchange(input, target, dtype, comm)
    return exchange.loss(input, target, weight, reduction, result)


def loss_and_grad(
    input: Any,
    target: Any,
    reduction: str = "mean",
    *,
    weight: Any = None,
    grad_output: Any = 1.0,
    out: Any = None,
    dtype: Any = None,
    comm: MPI.Intracomm | None = None,
) -> tuple[Any, Any]:
    """The loss as above, and the gradient with respect to the input of this rank.

    The gradient is this rank's part of the derivative of the loss of all ranks' data, times `grad_output`,
    one element: it is complete and must not be averaged over the ranks. It has the broadcast shape of this
    rank's arrays and is written to `out`, if given, which may be `input` or `target`. Arguments, results and
    exceptions are otherwise those of `loss` and of `mseloss.loss_and_grad`.
    """
    exchange, result = _exchange(input, target, dtype, comm)
    scale = exchange.scale(input, target, weight, reduction)
    gradient = None
    in_place = False

    def add_with_grad(part):
        nonlocal gradient
        gradient = part.add_with_grad(
            input, target, scale, weight=weight, grad_output=grad_output, grad_input=out
        )

    def add(part, exact):
        nonlocal in_place
        if not exact:
            in_place = out is not None and _in_place(out, input, target, weight)
            if not in_place:
                return add_with_grad(part)
        part.add(input, target, weight=weight, exact=exact)
        # An exact sum needs unmodified arrays, so the gradient comes last; its errors come now.
        if in_place and not exact and not _accepts(out, input, target, weight, grad_output):
            add_with_grad(PartialSum())  # raises the error

    value = exchange.until_decided(add, lambda total: total.finish(reduction, result))
    if in_place:
        add_with_grad(PartialSum())
    return value, gradient


def _exchange(x, y, dtype, comm):
    """The exchange for these operands, and the dtype of the result."""
    comm = MPI.COMM_WORLD if comm is None else comm

    def all_reduce(digits):
        comm.Allreduce(MPI.IN_PLACE, digits, MPI.SUM)
        return digits

    promoted = None
    try:
        promoted = promote(*(asnumpy(a, n).dtype for a, n in ((x, "input"), (y, "target"))))
        result = promoted if dtype is None else dtype
        PartialSum().finish("sum", result)  # rejects what is not a dtype of a result
    except BaseException:
        if promoted is None:  # as many digits as the others send, if one operand tells
            wide = any("float64" in str(getattr(a, "dtype", "")) for a in (x, y))
            promoted = "float64" if wide else "float32"
        Exchange(all_reduce, comm.size, promoted).fail()
        raise
    return Exchange(all_reduce, comm.size, promoted), result


def _operands(x, y, w):
    arrays = [asnumpy(x, "input"), asnumpy(y, "target")]
    return arrays if w is None else [*arrays, asnumpy(w, "weight", weight=True)]


def _in_place(out, x, y, w):
    """Whether `out` is one of the operands. An output that overlaps one otherwise is an error of the core."""
    address = asnumpy(out, "out").ctypes.data
    return any(a.ctypes.data == address for a in _operands(x, y, w))


def _accepts(out, x, y, w, grad_output):
    """Whether the gradient can be written in place. Raises what concerns one argument alone."""
    operands = _operands(x, y, w)
    a, b, *weight = [np.empty(0, operand.dtype) for operand in operands]
    PartialSum().add_with_grad(
        a, b, 2.0, weight=weight[0] if weight else None, grad_output=grad_output
    )
    explain(1.0, out, out, "sum", out=out)  # rejects what cannot be written to
    result = asnumpy(out, "out")
    shape = np.broadcast_shapes(*(operand.shape for operand in operands))
    if result.shape != shape or result.dtype != operands[0].dtype or 0 in _steps(result):
        return False
    return all(
        operand.dtype == result.dtype and _steps(np.broadcast_to(operand, shape)) == _steps(result)
        for operand in operands
        if operand.ctypes.data == result.ctypes.data and result.size > 0
    )


def _steps(array):
    return [s for s, extent in zip(array.strides, array.shape, strict=True) if extent > 1]
