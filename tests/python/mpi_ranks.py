"""Run by test_mpi.py under mpirun: each rank passes its part of the data and compares with the reference.

All ranks make the same random data and cuts.
"""

import mseloss.mpi
import numpy as np
from conftest import DTYPES, same_bits
from mpi4py import MPI
from mseloss import reference

comm = MPI.COMM_WORLD
random = np.random.default_rng(7)
checks = 0


def random_values(shape, dtype):
    kind = random.choice(["normal", "integers", "special", "wide"])
    if kind == "integers":
        return random.integers(-4, 5, shape).astype(dtype)
    values = random.standard_normal(shape)
    if kind == "special":
        values = random.choice([0.0, -0.0, 1.0, np.inf, np.nan, 6e-8, 3e4], shape)
    elif kind == "wide":
        values *= 2.0 ** random.integers(-14, 14, shape)
    return values.astype(dtype)


for case in range(160):
    dtype = DTYPES[case % len(DTYPES)]
    reduction = str(random.choice(["mean", "sum"]))
    shape = (int(random.integers(0, 30)), int(random.integers(1, 6)))
    x, y = random_values(shape, dtype), random_values(shape, dtype)
    w = [None, random_values(shape, dtype), random.random(shape) < 0.7][random.integers(3)]
    g = float(random.choice([1.0, 0.5, -3.0]))
    result = [None, "float64", "float16"][random.integers(3)]
    in_place = random.random() < 0.3
    cuts = np.sort([0, *random.integers(0, shape[0] + 1, comm.size - 1), shape[0]])
    own = slice(*cuts[comm.rank : comm.rank + 2])
    expected = reference.loss(x, y, reduction, weight=w, dtype=result)
    _, gradient = reference.loss_and_grad(x, y, reduction, weight=w, grad_output=g)
    a, b, c = x[own], y[own], None if w is None else w[own]
    value = mseloss.mpi.loss(a, b, reduction, weight=c, dtype=result, comm=comm)
    assert same_bits(value, expected), (case, value, expected)
    value, part = mseloss.mpi.loss_and_grad(
        a, b, reduction, weight=c, grad_output=g, out=a if in_place else None, dtype=result
    )
    assert same_bits(value, expected), (case, value, expected)
    assert same_bits(part, gradient[own]), case
    assert (part is a) == in_place
    checks += 1

half = comm.Split(comm.rank % 2)
total = mseloss.mpi.loss(np.float64([comm.rank]), np.zeros(1), "sum", comm=half)
assert total == sum(i * i for i in range(comm.rank % 2, comm.size, 2))


def fails(exception, message, function, *arguments, others="mean", **options):
    """The last rank passes the arguments, the others valid ones: it raises `exception`, they RuntimeError."""
    global checks
    last = comm.rank == comm.size - 1
    expected, start = (exception, message) if last else (RuntimeError, "group: ")
    raised = "no error"
    try:
        if last:
            function(*arguments, **options)
        else:
            function(np.ones(3), np.zeros(3), others)
    except expected as error:
        raised = str(error)
    assert raised.startswith(start), raised
    checks += 1


three, zeros = np.ones(3), np.zeros(3)
for function in (mseloss.mpi.loss, mseloss.mpi.loss_and_grad):
    fails(ValueError, "target: ", function, three, np.zeros(2))
    fails(ValueError, "reduction: ", function, three, zeros, "none")
    fails(ValueError, "reduction: ", function, three, zeros, "average")
    fails(ValueError, "weight: ", function, three, zeros, weight=np.ones(2))
    fails(TypeError, "dtype: ", function, three, zeros, dtype="int32")
    # The other operand tells how many digits the other ranks send.
    fails(TypeError, "target: ", function, three, np.arange(3))
    fails(TypeError, "input: ", function, np.arange(3), zeros)

frozen, buffer = np.ones(3), np.ones(6)
frozen.flags.writeable = False
for reduction in ("mean", "sum"):
    for exception, message, x, options in (
        # Errors of an output that is no operand, and of arguments that cannot be read.
        (TypeError, "out: ", three, {"out": object()}),
        (TypeError, "out: ", three, {"out": np.empty(3, complex)}),
        (TypeError, "weight: ", three, {"out": np.empty(3), "weight": np.ones(3, complex)}),
        (ValueError, "grad_input: ", three, {"out": np.empty(2)}),
        (ValueError, "grad_output: ", three, {"grad_output": np.ones(2)}),
        # The same in place, where the gradient follows the last exchange.
        (ValueError, "grad_output: ", three, {"grad_output": np.ones(2), "out": three}),
        (TypeError, "grad_output: ", three, {"grad_output": "1", "out": three}),
        (ValueError, "grad_input: ", three, {"out": three[:2]}),
        (ValueError, "out: ", frozen, {"out": frozen}),
        (ValueError, "grad_input: ", buffer[:3], {"out": buffer[::2]}),
        (ValueError, "grad_input: ", buffer[:3], {"out": buffer[1:4]}),
    ):
        fails(
            exception,
            message,
            mseloss.mpi.loss_and_grad,
            x,
            zeros,
            reduction,
            others=reduction,
            **options,
        )
assert (three == 1).all()
assert (buffer == 1).all()

# In place with views whose strides differ where the extent is 1, and a tie, which needs an exact sum.
row = np.float64([[1, 2.0**-8, 0]]) * (comm.rank == 0)
value, part = mseloss.mpi.loss_and_grad(row, zeros, "sum", weight=row[0], out=row, dtype="float32")
assert value == 1
assert part is row
assert (row == np.float64([[2, 2.0**-15, 0]]) * (comm.rank == 0)).all()

# Memory between the elements of an operand.
interleaved = np.arange(6.0)
_, part = mseloss.mpi.loss_and_grad(interleaved[::2], zeros, "sum", out=interleaved[1::2])
assert (interleaved == [0, 0, 2, 4, 4, 8]).all()

checks = comm.allreduce(checks)
if comm.rank == 0:
    print("ranks", comm.size, "checks", checks)
