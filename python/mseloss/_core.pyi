"""The compiled core of mseloss. The docstrings of the same names in `mseloss` give shapes, dtypes and errors.

`Array` is any object with DLPack, the buffer protocol or `__array_interface__` in CPU memory: a NumPy array
(including `ml_dtypes.bfloat16`), a PyTorch or JAX array, a memoryview. Lists, tuples and objects with
`__array__` are inputs too; NumPy copies them. A new result is the same kind of object as `input`, or a NumPy
array; if it has 1 MiB or more, its memory comes from the pool of `mseloss.memory`. PyTorch tensors are
exchanged through DLPack's C exchange API, without running Python code and without autograd: a tensor that
requires grad is read like any other, and results have no history.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any
Reduction: TypeAlias = Literal["none", "mean", "sum"]
_Sum: TypeAlias = Literal["mean", "sum"]
# Objects that NumPy reads; their results are NumPy arrays.
_Copied: TypeAlias = Sequence[Any] | memoryview
_Scalar = TypeVar("_Scalar", bound=np.generic)
_Kind = TypeVar("_Kind")  # a PyTorch tensor or a JAX array
_Out = TypeVar("_Out")

class Info(TypedDict):
    version: str
    device: str
    cuda: str  # the name of the current CUDA device, or why there is none
    target: str
    supported_targets: list[str]
    threads: int
    torch_step: Literal["compiled", "python"] | None  # None until mseloss.torch is imported
    torch_threads: bool  # whether calls on PyTorch's tensors use PyTorch's threads
    memory_limit: int
    environment: list[str]  # one sentence for each environment variable whose value cannot be used

class Usage(TypedDict):
    live: int  # bytes of arrays in use
    idle: int  # bytes kept for later results
    limit: int  # maximum of idle, in bytes
    live_blocks: int
    idle_blocks: int
    mapped: int  # requests served by new memory from the system
    reused: int  # requests served by idle blocks

@overload
def grad(
    grad_output: Array | float,
    input: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    out: _Out,
) -> _Out: ...
@overload
def grad(
    grad_output: Array | float,
    input: NDArray[_Scalar],
    target: Array,
    reduction: Reduction = "mean",
    *,
    out: None = None,
) -> NDArray[_Scalar]: ...
@overload
def grad(
    grad_output: Array | float,
    input: _Copied,
    target: Array,
    reduction: Reduction = "mean",
    *,
    out: None = None,
) -> NDArray[Any]: ...
@overload
def grad(
    grad_output: Array | float,
    input: _Kind,
    target: Array,
    reduction: Reduction = "mean",
    *,
    out: None = None,
) -> _Kind: ...
@overload
def loss(
    input: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    weight: Array | None = None,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
    out: _Out,
    dtype: Any = None,
) -> _Out: ...
@overload
def loss(
    input: NDArray[_Scalar],
    target: NDArray[_Scalar],
    reduction: _Sum = "mean",
    *,
    weight: Array | None = None,
    axis: None = None,
    keepdims: Literal[False] = False,
    out: None = None,
    dtype: None = None,
) -> _Scalar: ...
@overload
def loss(
    input: NDArray[_Scalar],
    target: NDArray[_Scalar],
    reduction: Literal["none"],
    *,
    weight: Array | None = None,
    axis: None = None,
    keepdims: Literal[False] = False,
    out: None = None,
    dtype: None = None,
) -> NDArray[_Scalar]: ...
@overload
def loss(  # an array or, if no dimension is left, a scalar
    input: NDArray[Any] | _Copied,
    target: Array,
    reduction: Reduction = "mean",
    *,
    weight: Array | None = None,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
    out: None = None,
    dtype: Any = None,
) -> Any: ...
@overload
def loss(
    input: _Kind,
    target: Array,
    reduction: Reduction = "mean",
    *,
    weight: Array | None = None,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
    out: None = None,
    dtype: Any = None,
) -> _Kind: ...
@overload
def loss_and_grad(
    input: NDArray[_Scalar],
    target: NDArray[_Scalar],
    reduction: _Sum = "mean",
    *,
    weight: Array | None = None,
    axis: None = None,
    grad_output: Array | float = 1.0,
    out: NDArray[_Scalar] | None = None,
    dtype: None = None,
) -> tuple[_Scalar, NDArray[_Scalar]]: ...
@overload
def loss_and_grad(
    input: NDArray[_Scalar],
    target: Array,
    reduction: Reduction = "mean",
    *,
    weight: Array | None = None,
    axis: int | Sequence[int] | None = None,
    grad_output: Array | float = 1.0,
    out: NDArray[_Scalar] | None = None,
    dtype: Any = None,
) -> tuple[Any, NDArray[_Scalar]]: ...
@overload
def loss_and_grad(
    input: _Copied,
    target: Array,
    reduction: Reduction = "mean",
    *,
    weight: Array | None = None,
    axis: int | Sequence[int] | None = None,
    grad_output: Array | float = 1.0,
    out: Array | None = None,
    dtype: Any = None,
) -> tuple[Any, Any]: ...
@overload
def loss_and_grad(
    input: _Kind,
    target: Array,
    reduction: Reduction = "mean",
    *,
    weight: Array | None = None,
    axis: int | Sequence[int] | None = None,
    grad_output: Array | float = 1.0,
    out: _Kind | None = None,
    dtype: Any = None,
) -> tuple[_Kind, _Kind]: ...
@overload
def empty(shape: int | Sequence[int], dtype: Any, like: _Kind) -> _Kind: ...
@overload
def empty(shape: int | Sequence[int], dtype: Any, like: None = None) -> NDArray[Any]:
    """An uninitialised dense array of the same kind as `like`, or a NumPy array.

    Memory of 1 MiB or more comes from the pool of `mseloss.memory` and returns to it with the last reference.
    """

def grad_part(
    grad_output: Array | float,
    input: Array,
    target: Array,
    count: int,
    out: Array,
    weight: Array | None = None,
) -> Array:
    """`grad` of a part of a larger tensor, into `out`, which is returned.

    `count` is the element count of the whole `input` for reduction "mean", and 0 for "none" and "sum",
    where `weight` is possible.
    """

def asnumpy(array: Array, name: str = "array", weight: bool = False) -> NDArray[Any]:
    """A read-only NumPy array on the memory of `array`, which it keeps alive.

    A NumPy array is returned as it is. `name` is the parameter's name in error messages. `weight` also
    accepts bool.
    """

class PartialSum:
    """A partial sum of squared differences over a chunk of the data; partial sums merge in any order."""

    def __init__(self) -> None: ...
    def add(
        self, input: Array, target: Array, *, weight: Array | None = None, exact: bool = False
    ) -> None: ...
    def add_divisor(
        self, input: Array, target: Array, *, weight: Array | None = None, exact: bool = False
    ) -> None: ...
    def scale(self, reduction: _Sum, dtype: Any) -> float | None: ...
    def add_with_grad(
        self,
        input: Array,
        target: Array,
        scale: float,
        *,
        weight: Array | None = None,
        grad_output: Array | float = 1.0,
        grad_input: Array | None = None,
    ) -> Array: ...
    def merge(self, other: PartialSum) -> None: ...
    def finish(self, reduction: _Sum, dtype: Any) -> Any | None: ...
    def digits(self, dtype: Any = "float64") -> NDArray[np.int32]: ...
    @staticmethod
    def from_digits(digits: Array) -> PartialSum: ...
    @property
    def count(self) -> int: ...
    @property
    def exact(self) -> bool: ...

class SliceSums:
    """Exact sums of the slices of a chunk, over the dimensions `axis`, which merge with others."""

    def __init__(
        self, input: Array, target: Array, axis: tuple[int, ...], weight: Array | None = None
    ) -> None: ...
    def copy(self) -> SliceSums: ...
    def merge(self, other: SliceSums) -> None: ...
    def finish(self, reduction: _Sum, dtype: Any) -> Any: ...

def explain(
    grad_output: Array | float,
    input: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    out: Array | None = None,
) -> str: ...
def info() -> Info: ...
def check_environment() -> list[str]: ...
def set_target(name: str | None) -> None: ...
def use_torch_threads(use: bool) -> None:
    """Whether calls on PyTorch's tensors run on PyTorch's threads (the default) or on the library's own.

    Results do not depend on it.
    """

def register_torch_kernels() -> bool:
    """Registers the C++ kernels of mseloss.torch.step_operators; False if PyTorch has no interface for it."""

def set_torch_step(compiled: bool) -> None:
    """What info() says about mseloss.torch."""

def catch_file_faults() -> None:
    """Replaces the process's handler of SIGBUS: faults on mapped files are counted and read as zeros."""

def file_faults() -> int: ...
def memory_usage() -> Usage: ...
def memory_limit() -> int: ...
def memory_set_limit(bytes: int) -> None: ...
def memory_trim() -> int: ...

__version__: str
