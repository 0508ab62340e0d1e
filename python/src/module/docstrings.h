// The docstrings of mseloss._core. docs/operator.md defines the operators.
#pragma once

namespace mseloss::python {

inline constexpr const char* kGradSignature =
    "def grad(grad_output, input, target, reduction='mean', *, out=None)";
inline constexpr const char* kGradDoc =
    R"(The gradient of the mean-squared-error loss with respect to `input`.

Computes ``((input - target) * scale) * grad_output``: each of the three operations is rounded to nearest
even in float32 (float64 for float64 inputs), and the result is rounded once to its dtype. ``scale`` is 2
for ``"none"`` and ``"sum"``; for ``"mean"`` it is ``2 / input.size`` (before broadcasting), correctly rounded.

Args:
    grad_output, input, target: arrays of the same dtype (float32, float16, bfloat16 or float64) with any
        strides and at most 8 dimensions, whose shapes broadcast together. NumPy arrays
        (``ml_dtypes.bfloat16`` included), PyTorch and JAX arrays in CPU memory, and any object with DLPack,
        the buffer protocol or ``__array_interface__`` are read without a copy; NumPy copies lists and
        objects with ``__array__``. A Python number or NumPy integer as ``grad_output`` is rounded to the
        dtype of ``input``.
    reduction: ``"none"``, ``"mean"`` or ``"sum"``.
    out: a writable array of the broadcast shape and any of the four dtypes. It may be one of the inputs
        (same memory and strides); any other overlap is an error.

Returns:
    ``out``, or a new array of the broadcast shape, of the same kind and dtype as ``input``. An empty shape
    gives an empty array.

Raises:
    TypeError: unsupported dtypes, an object that is not an array, or operands on different devices.
    ValueError: invalid shapes, strides or reduction, or a read-only or overlapping ``out``.
    RuntimeError: ``out`` is a PyTorch tensor that requires grad while grad mode is enabled.
    MemoryError: not enough memory for the result.

Example:
    >>> x, y = np.float32([1, 2, 3, 4]), np.float32([1, 1, 1, 1])
    >>> mseloss.grad(1.0, x, y)
    array([0. , 0.5, 1. , 1.5], dtype=float32)
)";

inline constexpr const char* kLossSignature =
    "def loss(input, target, reduction='mean', *, weight=None, axis=None, keepdims=False, out=None, "
    "dtype=None)";
inline constexpr const char* kLossDoc = R"(The mean-squared-error loss, correctly rounded.

``"none"`` gives ``(input - target) ** 2`` elementwise in the broadcast shape; ``"sum"`` the exact sum of
those squares, rounded once; ``"mean"`` the exact sum divided by the element count of the broadcast shape,
rounded once. The result has the same bits for any layout, thread count and processor.

With ``weight`` each square is multiplied by its weight: ``"mean"`` is ``sum(w * d ** 2) / sum(w)``, both sums
exact, the quotient rounded once. A bool weight is a mask: elements where it is False are left out, even if
they are NaN.

Args:
    input, target: arrays of float32, float16, bfloat16 or float64 with any strides and at most 8
        dimensions, whose shapes broadcast together; the same kinds as for ``grad``. Different dtypes are
        promoted (float16 and bfloat16 to float32).
    reduction: ``"none"``, ``"mean"`` or ``"sum"``.
    weight: an array that broadcasts with both, of bool or of a dtype that the promoted dtype represents.
        Weights may be negative. A mean whose weights add up to 0 is NaN or infinite.
    axis: the dimension, or a tuple of dimensions, of the broadcast shape to sum over; by default all. Each
        result is the sum or mean of its own slice.
    keepdims: whether the dimensions of ``axis`` stay in the result, with extent 1.
    out: a writable array: for ``"mean"`` and ``"sum"`` of the result's shape and outside the inputs' memory;
        for ``"none"`` of the broadcast shape, possibly one of the inputs (same memory and strides).
    dtype: the result's dtype; by default the promoted dtype. If ``out`` is given, it must have this dtype.

Returns:
    ``out``, or a new array of the same kind as ``input``; for a NumPy ``input``, ``"mean"`` and ``"sum"``
    return a NumPy scalar. For empty input the sum is 0 and the mean is NaN.

Raises:
    TypeError: unsupported dtypes, an object that is not an array, or operands on different devices.
    ValueError: invalid shapes, strides or reduction, or a read-only or overlapping ``out``.
    RuntimeError: ``out`` is a PyTorch tensor that requires grad while grad mode is enabled.
    MemoryError: not enough memory for the result.

Example:
    >>> mseloss.loss(np.float32([1, 2, 3, 4]), np.float32([1, 1, 1, 1]))
    np.float32(3.5)
)";

inline constexpr const char* kLossAndGradSignature =
    "def loss_and_grad(input, target, reduction='mean', *, weight=None, axis=None, grad_output=1.0, "
    "out=None, dtype=None)";
inline constexpr const char* kLossAndGradDoc = R"(The loss and its gradient in one sweep over the inputs.

The loss equals that of ``loss``. The gradient is its derivative with respect to ``input``, in the broadcast
shape, times ``grad_output``. For ``"mean"`` it divides by the element count of the broadcast shape, whereas
``grad`` divides by that of ``input``.

Args:
    input, target, reduction, weight, axis: as for ``loss``. With a mask the gradient is 0 where it is False.
    grad_output: a Python number or an array that broadcasts to the loss; for ``"none"`` one that broadcasts
        with the others.
    out: the gradient's array: writable, of the broadcast shape. Unless reduction is ``"none"`` it may be
        one of the inputs (same memory and strides).
    dtype: the loss's dtype. Default: the promoted dtype.

Returns:
    ``(loss, gradient)``, of the same kind as ``input``. The gradient has the dtype of ``input``.

Raises:
    TypeError: unsupported dtypes, an object that is not an array, or operands on different devices.
    ValueError: invalid shapes, strides or reduction, or a read-only or overlapping ``out``.
    RuntimeError: ``out`` is a PyTorch tensor that requires grad while grad mode is enabled.
    MemoryError: not enough memory for the results.

Example:
    >>> mseloss.loss_and_grad(np.float32([1, 2, 3, 4]), np.float32([1, 1, 1, 1]))
    (np.float32(3.5), array([0. , 0.5, 1. , 1.5], dtype=float32))
)";

inline constexpr const char* kEmptyDoc =
    R"(An uninitialised dense array of the same kind as ``like``, or a NumPy array.

Memory of 1 MiB or more comes from the pool of ``mseloss.memory`` and returns to it with the last reference.
The array shares memory with nothing.

Args:
    shape: an int or ints, at least 0, at most 8.
    dtype: float32, float16, bfloat16 or float64.

Raises:
    TypeError, ValueError: another dtype or shape.
    MemoryError: not enough memory.
)";

inline constexpr const char* kExplainDoc =
    R"(One sentence on how ``grad`` would process these operands: target, threads, layout, kind of stores.

The arguments and errors are those of ``grad``; nothing is computed or written.

Example:
    >>> mseloss.explain(1.0, x.T, y)
)";

inline constexpr const char* kGradPartDoc = R"(``grad`` of a part of a larger tensor, into ``out``.

``count`` is the element count of the whole ``input`` for reduction "mean", and 0 for "none" and "sum". The
parts together have the same bits as one call on the whole tensor. ``weight`` is possible for the latter two
only. Returns ``out``.
)";

inline constexpr const char* kAsNumpyDoc =
    R"(A read-only NumPy array on the memory of any array that ``grad`` accepts, which it keeps alive.

A NumPy array is returned as it is.
)";

inline constexpr const char* kPartialSumDoc =
    R"(A partial sum of squared differences over a chunk of the data.

Partial sums merge in any order; ``finish`` gives the correctly rounded loss, with the same bits for any
chunks and any order. A partial sum can be pickled and sent to processes and machines of the same byte
order.

Example:
    >>> total = mseloss.PartialSum()
    >>> for x, y in chunks: total.add(x, y)
    >>> total.finish("mean", "float32")  # None if undecided: start again with add(..., exact=True)
    np.float32(3.5)
)";

inline constexpr const char* kAddDoc = R"(Adds the squared differences of a chunk of the data.

Args:
    input, target, weight: arrays, as for ``loss``; they are only read.
    exact: sum as integers, which ``finish`` needs after it returned None.

Raises:
    TypeError, ValueError, MemoryError: as ``loss``. Nothing has been added then.
)";

inline constexpr const char* kMergeDoc =
    "Adds another partial sum, which does not change. Exact if both are; any order gives the same bits.";

inline constexpr const char* kFinishDoc =
    R"(The loss of all that was added, as a NumPy scalar of ``dtype``, rounded once.

Args:
    reduction: ``"mean"`` or ``"sum"``. If nothing was added, the sum is 0 and the mean NaN.
    dtype: float32, float16, bfloat16 or float64.

Returns:
    The loss; None if fast sums leave its rounding open, about once in a million: repeat the additions with
    ``exact=True`` then.

Raises:
    TypeError, ValueError: another dtype or reduction.
)";

inline constexpr const char* kAddDivisorDoc =
    R"(Adds the elements, or their weights, to the divisor of the mean, and nothing to the sum.

Without a weight nothing is read. Same errors as ``add``.
)";

inline constexpr const char* kScaleDoc =
    R"(The factor of the gradient: 2 for "sum", and for "mean" 2 / divisor, rounded once for inputs of ``dtype``.

None if the fast sum of the weights cannot decide the rounding.
)";

inline constexpr const char* kAddWithGradDoc =
    R"(Adds as ``add`` does and in the same sweep computes the gradient of this part of a larger loss.

The result is ((input - target) * scale) * (weight * grad_output) in the broadcast shape: in ``grad_input``, which
may be ``input`` or ``target``, or in a new array of the kind and dtype of ``input``. ``scale`` is that of the
whole, and ``grad_output`` has one element. Same errors as ``loss_and_grad`` with "sum".

Example:
    >>> divisor.add_divisor(x, y)     # all parts; without weights this reads nothing
    >>> gradient = part.add_with_grad(x, y, divisor.scale("mean", "float32"))
)";

inline constexpr const char* kDigitsDoc =
    R"(The sum as a new int32 array that any integer sum may add, in any order.

The elementwise sum of up to 32767 such arrays (NumPy's ``+``, ``MPI.SUM``, an all-reduce, Dask's ``sum``) is an
array of the merged sum, from which ``from_digits`` makes it. All processes that add the same arrays hold the
same sum, so they decide alike whether ``finish`` needs exact sums.

``dtype`` is the promoted dtype of input and target and must be the same for all arrays: float64, which every
sum fits (572 elements), or float32, float16 or bfloat16 (117 elements).

Raises:
    TypeError: another dtype, or one narrower than that of the inputs.
)";

inline constexpr const char* kFromDigitsDoc =
    R"(The PartialSum of a sum of arrays of ``digits``; also of int64, as NumPy sums int32.

Raises:
    TypeError: not a one-dimensional array of int32 or int64 in CPU memory.
    ValueError: another length, more than 32767 arrays, arrays of different dtypes or of another version, or
        values that no such sum has.
)";

inline constexpr const char* kSliceSumsDoc =
    R"(Exact sums of the slices of a chunk of the data, over the dimensions ``axis``.

They merge with those of other chunks of the same slices, in any order; ``finish`` gives an array with the
correctly rounded loss of each slice. The objects can be pickled for machines of the same byte order.
)";

inline constexpr const char* kInfoDoc =
    R"(A dict of version, device, instruction-set targets, thread count and memory limit (bytes).

``"device"`` is where calls on host memory run, ``"cpu"`` unless MSELOSS_DEVICE names another device.
``"cuda"`` is the name of the current CUDA device, or a sentence that says why there is none.
``"torch_step"`` is ``"compiled"`` if mseloss.torch runs its training step in C++, ``"python"`` if it does not,
and None until it is imported. ``"torch_threads"`` tells whether calls on PyTorch's tensors use PyTorch's
threads: PyTorch is loaded and its C interface has them.
``"environment"`` lists one sentence for each environment variable whose value cannot be used.
)";

inline constexpr const char* kUseTorchThreadsDoc =
    R"(Whether calls on PyTorch's tensors run on PyTorch's threads (the default) or on the library's own.

Results do not depend on it.
)";

inline constexpr const char* kSetTargetDoc =
    R"(Selects the instruction-set target: one of ``info()["supported_targets"]``, or None for the best.

Results do not depend on it. The environment variable MSELOSS_TARGET sets the initial target.

Raises:
    ValueError: unknown to this library or not supported by this processor.
)";

}  // namespace mseloss::python
