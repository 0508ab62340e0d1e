"""The loss of arrays that are distributed over the ranks of an MPI communicator, by mpi4py.

>>> from mpi4py import MPI
>>> import mseloss.mpi
>>> loss = mseloss.mpi.loss(x, y)    # of the data of all ranks; x and y are those of this rank
>>> loss, dx = mseloss.mpi.loss_and_grad(x, y, comm=MPI.COMM_WORLD)

All ranks of the communicator call a function together, with the same reduction and dtypes, and all or none
with a weight. They may hold different shapes, also without elements. The result has the same bits on every
rank, for any number of ranks and any distribution.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from mseloss import _core
from mseloss._parts import Exchange
from mseloss.reference import promote

__all__ = ["loss", "loss_and_grad"]


def loss(input, target, reduction="mean", *, weight=None, dtype=None, comm=None):
    """The sum or mean of the squared differences of all ranks' data, exact and rounded once.

    Args:
        input, target, weight: the arrays of this rank, as for `mseloss.loss`.
        reduction: "mean" or "sum".
        dtype: that of the result; by default the promoted dtype.
        comm: an mpi4py communicator; None for `MPI.COMM_WORLD`.

    Returns a NumPy scalar. Raises what `mseloss.loss` raises, on every rank if on one: RuntimeError on the
    others.
    """
    exchange, promoted = _exchange(input, target, comm)
    return exchange.loss(input, target, weight, reduction, promoted if dtype is None else dtype)


def loss_and_grad(
    input,
    target,
    reduction="mean",
    *,
    weight=None,
    grad_output=1.0,
    out=None,
    dtype=None,
    comm=None,
):
    """The loss as above, and the gradient with respect to the input of this rank.

    The gradient is this rank's part of the derivative of the loss of all ranks' data, times `grad_output`,
    one element: it is complete and must not be averaged over the ranks. It has the broadcast shape of this
    rank's arrays and is written to `out`, if given, which may be `input` or `target`. Arguments, results and
    exceptions are otherwise those of `loss` and of `mseloss.loss_and_grad`.
    """
    exchange, promoted = _exchange(input, target, comm)
    scale = exchange.scale(input, target, weight, reduction)
    gradient = None

    def add_with_grad(part):
        nonlocal gradient
        gradient = part.add_with_grad(
            input, target, scale, weight=weight, grad_output=grad_output, grad_input=out
        )

    # An exact sum needs unmodified arrays.
    last = out is not None and any(_may_overlap(out, a) for a in (input, target, weight))

    def add(part, exact):
        if exact or last:
            part.add(input, target, weight=weight, exact=exact)
        else:
            add_with_grad(part)

    value = exchange.until_decided(
        add, lambda total: total.finish(reduction, promoted if dtype is None else dtype)
    )
    if last:
        add_with_grad(_core.PartialSum())
    return value, gradient


def _exchange(x, y, comm):
    comm = MPI.COMM_WORLD if comm is None else comm

    def all_reduce(digits):
        comm.Allreduce(MPI.IN_PLACE, digits, MPI.SUM)
        return digits

    try:
        dtype = promote(*(_core.asnumpy(a, n).dtype for a, n in ((x, "input"), (y, "target"))))
    except BaseException:
        Exchange(all_reduce, comm.size, "float32").fail()
        raise
    return Exchange(all_reduce, comm.size, dtype), dtype


def _may_overlap(a, b):
    return b is not None and np.may_share_memory(_core.asnumpy(a), _core.asnumpy(b, weight=True))
