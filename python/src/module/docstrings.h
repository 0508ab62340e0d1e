// What help() says; the definitions are docs/operator.md's.
#pragma once

namespace mseloss::python {

inline constexpr const char* kGradSignature =
    "def grad(grad_output, input, target, reduction='mean', *, out=None)";
inline constexpr const char* kGradDoc =
    R"(The gradient of the mean-squared-error loss with respect to `input`.

``((input - target) * scale) * grad_output``: three operations, each rounded to nearest even in float32
(float64 for float64 inputs), then once to the result's dtype. ``scale`` is 2 for ``"none"`` and ``"sum"``;
for ``"mean"`` it is ``2 / input.size``, the count before broadcasting, correctly rounded.

Args:
    grad_output, input, target: arrays of one dtype, float32, float16, bfloat16 or float64, any strides, of
        shapes that broadcast together, at most 8 dimensions. NumPy arrays (``ml_dtypes.bfloat16`` too),
        PyTorch and JAX arrays in the processor's memory, anything with DLPack or the buffer protocol; none is
        copied. A Python number as ``grad_output`` takes the dtype of ``input``.
    reduction: ``"none"``, ``"mean"`` or ``"sum"``.
    out: a writable array of the broadcast shape and any of the four dtypes. It may be exactly one of the
        inputs, and overlaps them in no other way.

Returns:
    ``out``, or a new array of the broadcast shape, the same kind of object and dtype as ``input``. Empty
    shapes give empty arrays.

Raises:
    TypeError: a dtype, or an object that is no array of this processor's memory.
    ValueError: shapes, strides, reduction, a read-only or overlapping ``out``.
    MemoryError: no memory for the result.

Example:
    >>> x, y = np.float32([1, 2, 3, 4]), np.float32([1, 1, 1, 1])
    >>> mseloss.grad(1.0, x, y)
    array([0. , 0.5, 1. , 1.5], dtype=float32)
)";

inline constexpr const char* kLossSignature =
    "def loss(input, target, reduction='mean', *, out=None, dtype=None)";
inline constexpr const char* kLossDoc = R"(The mean-squared-error loss, correctly rounded.

``"none"``: ``(input - target) ** 2`` elementwise in the broadcast shape. ``"sum"``: the exact sum of those
squares, rounded once. ``"mean"``: that sum divided by the count of the broadcast shape, rounded once. The
result has the same bits for any layout, thread count and processor.

Args:
    input, target: arrays of float32, float16, bfloat16 or float64, any strides, of shapes that broadcast
        together, at most 8 dimensions; kinds as for ``grad``. Two dtypes promote (float16 and bfloat16 to
        float32).
    reduction: ``"none"``, ``"mean"`` or ``"sum"``.
    out: a writable array, 0-dimensional for ``"mean"`` and ``"sum"``, else of the broadcast shape.
    dtype: the result's dtype, by default the promoted dtype. Must agree with ``out``.

Returns:
    ``out``, or a new object of the kind of ``input``; a NumPy scalar where NumPy's reductions return one.
    Of nothing, the sum is 0 and the mean NaN.

Raises:
    TypeError: a dtype, or an object that is no array of this processor's memory.
    ValueError: shapes, strides, reduction, a read-only or overlapping ``out``.
    MemoryError: no memory for the result.

Example:
    >>> mseloss.loss(np.float32([1, 2, 3, 4]), np.float32([1, 1, 1, 1]))
    np.float32(3.5)
)";

inline constexpr const char* kLossAndGradSignature =
    "def loss_and_grad(input, target, reduction='mean', *, grad_output=1.0, out=None)";
inline constexpr const char* kLossAndGradDoc = R"(The loss and its gradient in one sweep over the inputs.

The loss is that of ``loss``. The gradient is its true derivative with respect to ``input`` in the broadcast
shape, times ``grad_output``: for ``"mean"`` it divides by the count of the broadcast shape (``grad`` divides
by the count of ``input``).

Args:
    input, target, reduction: as for ``loss``.
    grad_output: a Python number, or an array of one element; for ``"none"`` an array that broadcasts with the
        others.
    out: where the gradient goes: a writable array of the broadcast shape; may be exactly one of the inputs
        unless reduction is ``"none"``.

Returns:
    ``(loss, gradient)``, of the kind of ``input``. The loss has the promoted dtype, the gradient that of
    ``input``.

Raises:
    TypeError: a dtype, or an object that is no array of this processor's memory.
    ValueError: shapes, strides, reduction, a read-only or overlapping ``out``.
    MemoryError: no memory for the results.

Example:
    >>> mseloss.loss_and_grad(np.float32([1, 2, 3, 4]), np.float32([1, 1, 1, 1]))
    (np.float32(3.5), array([0. , 0.5, 1. , 1.5], dtype=float32))
)";

inline constexpr const char* kEmptyDoc =
    R"(An uninitialised dense array, the same kind of object as `like` (NumPy without).

From 1 MiB on its memory comes from the pool behind ``mseloss.memory`` and goes back when the last reference
dies.
)";

inline constexpr const char* kExplainDoc = R"(One sentence: how ``grad`` would run with these operands.

Example:
    >>> mseloss.explain(1.0, x.T, y)
)";

inline constexpr const char* kGradPartDoc = R"(``grad`` of a part of a larger tensor, into ``out``.

``count`` is the number of elements of the whole ``input`` for reduction "mean", and 0 for "none" and "sum".
The parts of a tensor, put together, have the bits of one call on the whole.
)";

inline constexpr const char* kAsNumpyDoc =
    R"(A read-only NumPy array on the memory of any array that ``grad`` takes, which it keeps alive.)";

inline constexpr const char* kPartialSumDoc =
    R"(A sum of squared differences, unfinished: of a piece of the data, merged in any order, finished once.

The finished value is the correctly rounded loss, with the same bits for any pieces and any order. It pickles,
between processes and machines of one byte order.

Example:
    >>> total = mseloss.PartialSum()
    >>> for x, y in pieces: total.add(x, y)
    >>> total.finish("mean", "float32")  # None: undecided; start again with add(..., exact=True)
    np.float32(3.5)
)";

inline constexpr const char* kInfoDoc =
    R"(Version, device, instruction-set target, threads and memory limit, as a dict.)";

inline constexpr const char* kSetTargetDoc =
    R"(Chooses the instruction-set target, one of ``info()["supported_targets"]``; None: the best.

Results never depend on it. The environment variable MSELOSS_TARGET does the same.

Raises:
    ValueError: this processor cannot run it.
)";

}  // namespace mseloss::python
