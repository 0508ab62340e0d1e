"""Calls on arrays in the memory of a CUDA device: PyTorch, CuPy, Numba, and any other with DLPack.

`mseloss.grad`, `loss` and `loss_and_grad` come here when an operand is in device memory. All operands and
`out` must be on one device; a Python number is the exception. Nothing is copied, and no call waits for the
device but in one case: if an array interface names a stream other than that of the call, the host waits until
that stream has finished its work.

A library that creates arrays (PyTorch, CuPy, or what `__array_namespace__` returns) makes the results and
turns a number into an array. Arrays without one, such as Numba's, work in `grad` with an array as
`grad_output` and with `out`, and in `loss` with `out`; `loss_and_grad` has no argument for its loss and needs
a library. JAX arrays on a device are rejected: they are immutable, and results would be JAX arrays too.

Streams: a call runs on the current stream of the library of `input` (PyTorch, CuPy), otherwise on the stream
that `input.__cuda_array_interface__` names, otherwise on the legacy default stream. Arrays that are ready
only on another stream are handled as their protocol says: a DLPack producer is told the stream of the call,
and for an array interface the host waits as above. Results are ready on the stream of the call.
"""

from __future__ import annotations

import sys

from mseloss import _core
from mseloss._axes import check_elementwise, reduced_axes

LEGACY_STREAM = 1  # as both protocols and the runtime number it
_TYPESTR = {"<f4": "float32", "<f2": "float16", "<f8": "float64", "|b1": "bool"}
_SIZE = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8, "bool": 1}


class Operand:
    """A view of device memory: address, dtype name, shape, strides in elements, and what keeps it alive."""

    __slots__ = ("address", "array", "device", "dtype", "owner", "shape", "strides")

    def __init__(self, array, address, dtype, shape, strides, device, owner=None):
        self.array, self.owner = array, owner
        self.address, self.dtype, self.device = address, dtype, device
        self.shape, self.strides = tuple(shape), tuple(strides)

    def fields(self):
        return self.address, self.dtype, self.shape, self.strides


def _dense_strides(shape):
    strides, step = [], 1
    for extent in reversed(shape):
        strides.insert(0, step)
        step *= extent
    return tuple(strides)


def _torch_tensor(array):
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def _cupy_array(array):
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(array, cupy.ndarray)


def stream_of(array):
    """The stream on which a call with this `input` runs, as the protocols number it."""
    if _torch_tensor(array):
        if array.device.type != "cuda":
            return LEGACY_STREAM
        stream = sys.modules["torch"].cuda.current_stream(array.device).cuda_stream
    elif _cupy_array(array):
        stream = sys.modules["cupy"].cuda.get_current_stream().ptr
    else:
        interface = getattr(array, "__cuda_array_interface__", None)
        stream = interface.get("stream") if interface is not None else None
    return stream or LEGACY_STREAM


def read(array, name, stream, writable=False):
    """The operand; TypeError if it is not in device memory or has another dtype."""
    if type(array).__module__.partition(".")[0] in ("jax", "jaxlib"):
        raise TypeError(
            f"{name}: expected an array of another library than JAX, whose arrays in device memory are not "
            f"supported, got {type(array).__name__}"
        )
    if _torch_tensor(array):
        if array.is_neg() or array.is_conj():
            raise TypeError(
                f"{name}: expected a materialised tensor, got a lazily negated one: call resolve_neg()"
            )
        dtype = str(array.dtype).removeprefix("torch.")
        operand = Operand(
            array, array.data_ptr(), dtype, array.shape, array.stride(), array.device.index or 0
        )
        on_device = array.device.type in DEVICE_TYPES
    elif getattr(array, "__cuda_array_interface__", None) is not None:
        operand, on_device = _read_interface(array, name, stream, writable), True
    elif hasattr(array, "__dlpack__") and array.__dlpack_device__()[0] in (2, 13):
        operand, on_device = _read_dlpack(array, name, stream, writable), True
    else:
        on_device, operand = False, None
    if not on_device:
        raise TypeError(
            f"{name}: expected memory of a CUDA device, as other operands of this call have, "
            f"got {type(array).__name__}"
        )
    if operand.dtype not in _SIZE or (operand.dtype == "bool" and name != "weight"):
        raise TypeError(
            f"{name}: expected float32, float16, bfloat16 or float64, got {operand.dtype}"
        )
    return operand


DEVICE_TYPES = ("cuda",)  # of PyTorch


def _read_dlpack(array, name, stream, writable):
    try:
        capsule = array.__dlpack__(stream=stream, max_version=(1, 0))
    except TypeError:  # a producer that does not know versions
        capsule = array.__dlpack__(stream=stream)
    *fields, read_only, copied = _core._device_capsule(capsule)
    if writable and copied:
        raise TypeError(f"{name}: expected an array to write to, got one that exports a copy")
    if writable and read_only:
        raise ValueError(f"{name}: expected memory to write to, got read-only memory")
    return Operand(array, *fields, owner=capsule)


def _read_interface(array, name, stream, writable):
    interface = array.__cuda_array_interface__
    typestr, shape = interface["typestr"], tuple(interface["shape"])
    dtype = _TYPESTR.get(typestr) or str(getattr(array, "dtype", typestr))
    address, read_only = interface["data"]
    if writable and read_only:
        raise ValueError(f"{name}: expected memory to write to, got read-only memory")
    if interface.get("mask") is not None:
        raise TypeError(f"{name}: expected an array without a mask, got one with a mask")
    strides = _dense_strides(shape)
    if (given := interface.get("strides")) is not None:
        size = _SIZE.get(dtype, 1)
        if any(stride % size for stride in given):
            raise ValueError(
                f"{name}: expected strides that are multiples of {size} bytes, got {given}"
            )
        strides = tuple(stride // size for stride in given)
    other = interface.get("stream")
    if other is not None and other != stream:
        _core._device_wait(other)
    device = getattr(getattr(array, "device", None), "id", -1)
    return Operand(array, address, dtype, shape, strides, device if isinstance(device, int) else -1)


def promote(a, b):
    """The name of the dtype that holds every value of both."""
    if a == b:
        return a
    return "float64" if "float64" in (a, b) else "float32"


def empty(shape, dtype, like, name):
    """A new array of the library of `like`, on its device, for the parameter `name`."""
    array = like.array
    if _torch_tensor(array):
        torch = sys.modules["torch"]
        kind = getattr(torch, dtype)
        if tuple(shape) == array.shape:  # in the same order in memory
            return torch.empty_like(array, dtype=kind)
        return torch.empty(shape, dtype=kind, device=array.device)
    namespace = getattr(array, "__array_namespace__", None)
    library = sys.modules["cupy"] if _cupy_array(array) else namespace and namespace()
    if library is None:
        raise TypeError(
            f"{name}: expected an array, as {type(array).__name__} has no library that creates one"
        )
    kind = getattr(library, dtype, None)
    if kind is None:  # bfloat16 is a dtype of ml_dtypes
        kind = array.dtype if str(array.dtype) == dtype else __import__("ml_dtypes").bfloat16
    return library.empty(shape, dtype=kind)


def _number(value, dtype, like):
    array = empty((), dtype, like, "grad_output")
    array.fill_(value) if _torch_tensor(array) else array.fill(value)
    return array


def _broadcast(*shapes):
    rank = max(map(len, shapes))
    result = [1] * rank
    for shape in shapes:
        for d, extent in enumerate(shape, rank - len(shape)):
            if extent != 1:
                result[d] = extent  # the core reports shapes that do not broadcast
    return tuple(result)


class _Axes:
    """The result of a reduction: the caller's shape, and the core's with extents of 1 where it reduces."""

    def __init__(self, axis, keepdims, shape):
        rank = len(shape)
        reduced = reduced_axes(axis, rank)
        self.whole = len(reduced) == rank
        self.kept = tuple(1 if d in reduced else extent for d, extent in enumerate(shape))
        self.shape = (
            self.kept if keepdims else tuple(e for d, e in enumerate(shape) if d not in reduced)
        )
        self.dims = [d for d in range(len(shape)) if keepdims or d not in reduced]

    def expand(self, operand):
        """Fields of an operand of `self.shape` (or one element) in the core's shape."""
        address, dtype, shape, strides = operand.fields()
        if self.whole:
            return address, dtype, (), ()
        if len(shape) != len(self.dims):  # broadcasts; the core checks it
            lead = len(self.dims) - len(shape)
            shape, strides = (1,) * lead + shape, (0,) * lead + strides
        steps, extents = [0] * len(self.kept), [1] * len(self.kept)
        for d, extent, stride in zip(self.dims, shape, strides, strict=True):
            steps[d], extents[d] = stride, extent
        return address, dtype, tuple(extents), tuple(steps)


class Call:
    def __init__(self, input, target, weight=None):
        self.stream = stream_of(input)
        self.x = read(input, "input", self.stream)
        self.y = read(target, "target", self.stream)
        self.w = None if weight is None else read(weight, "weight", self.stream)
        self.promoted = promote(self.x.dtype, self.y.dtype)
        self.shape = _broadcast(
            self.x.shape, self.y.shape, *([] if self.w is None else [self.w.shape])
        )

    def upstream(self, grad_output, dtype):
        if isinstance(grad_output, int | float):
            grad_output = _number(grad_output, dtype, self.x)
        return read(grad_output, "grad_output", self.stream)

    def output(self, out, shape, dtype, name="out"):
        if out is None:
            out = empty(shape, dtype, self.x, name)
        return read(out, name, self.stream, True)

    def run(self, reduction, grad_output=None, loss=None, out=None):
        operands = (grad_output, self.x, self.y, self.w, loss, out)
        self.run_with(_core._device_run, reduction, *operands)

    def run_with(self, function, first, *operands):
        """Calls function(first, fields of each operand, device, stream)."""
        for operand in operands:
            device = getattr(operand, "device", -1)
            if device >= 0 and self.x.device >= 0 and device != self.x.device:
                raise ValueError(
                    f"expected all arrays on CUDA device {self.x.device}, got one on {device}"
                )
        fields = [o.fields() if isinstance(o, Operand) else o for o in operands]
        function(first, *fields, self.x.device, self.stream)


def grad(grad_output, input, target, reduction, out):
    call = Call(input, target)
    g = call.upstream(grad_output, call.x.dtype)
    result = call.output(out, _broadcast(call.shape, g.shape), call.x.dtype)
    call.run(reduction, g, None, result)
    return result.array


def grad_part(grad_output, input, target, count, out, weight, held=False):
    """As _core.grad_part. `held`: `out` has the gradient for a grad_output of 1 already."""
    call = Call(input, target, weight)
    g, result = call.upstream(grad_output, call.x.dtype), call.output(out, (), call.x.dtype)
    call.run_with(_core._device_grad_part, (count, held), g, call.x, call.y, call.w, result)
    return result.array


def _loss_dtype(call, dtype, out=None):
    """The name of the loss's dtype."""
    if dtype is None:
        return call.promoted
    if dtype is float:
        dtype = "float64"
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)
    name = name.removeprefix("torch.")
    if name == "bool" or name not in _SIZE:
        raise TypeError(f"dtype: expected float32, float16, bfloat16 or float64, got {dtype!r}")
    if out is not None and (given := read(out, "out", call.stream, True).dtype) != name:
        raise TypeError(f"dtype: expected the dtype of out, {given}, got {name}")
    return name


def loss(input, target, reduction, weight, axis, keepdims, out, dtype):
    call = Call(input, target, weight)
    if reduction == "none":
        check_elementwise(axis, keepdims)
        result = call.output(out, call.shape, _loss_dtype(call, dtype, out))
        call.run(reduction, None, result)
        return result.array
    axes = _Axes(axis, keepdims, call.shape)
    result = call.output(out, axes.shape, _loss_dtype(call, dtype, out))
    if result.shape != axes.shape:
        raise ValueError(f"out: expected shape {axes.shape}, got {result.shape}")
    call.run(reduction, None, axes.expand(result))
    return result.array


def loss_and_grad(input, target, reduction, weight, axis, grad_output, out, dtype):
    call = Call(input, target, weight)
    g = call.upstream(grad_output, call.promoted)
    if reduction == "none":
        check_elementwise(axis, False)
        shape = _broadcast(call.shape, g.shape)
        value = call.output(None, shape, _loss_dtype(call, dtype), "loss")
        result = call.output(out, shape, call.x.dtype)
        call.run(reduction, g, value, result)
        return value.array, result.array
    axes = _Axes(axis, False, call.shape)
    value = call.output(None, axes.shape, _loss_dtype(call, dtype), "loss")
    result = call.output(out, call.shape, call.x.dtype)
    # For a loss of one element grad_output may have any shape of one element.
    upstream = g.fields() if axes.whole else axes.expand(g)
    call.run(reduction, upstream, axes.expand(value), result)
    return value.array, result.array
