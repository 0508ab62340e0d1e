"""The compiled core of mseloss: see the same names in `mseloss` for shapes, dtypes and errors.

`Array` stands for any object with the DLPack or the buffer protocol whose memory this processor reads: a
NumPy array (`ml_dtypes.bfloat16` included), a PyTorch or JAX array on the CPU, a memoryview. A fresh result
is the same kind of object as `input`; from 1 MiB on its memory comes from the pool behind `mseloss.memory`.
A PyTorch tensor goes in and out through the C exchange API of DLPack: no Python code runs, and autograd is
not involved (a tensor that requires grad is read like any other; the result has no history).
"""

from collections.abc import Sequence
from typing import Any, Literal, TypedDict

Array = Any
Reduction = Literal["none", "mean", "sum"]

class Info(TypedDict):
    version: str
    device: str
    target: str
    supported_targets: list[str]
    threads: int
    memory_limit: int

class Usage(TypedDict):
    live: int  # bytes in arrays that are still referenced
    idle: int  # bytes kept for the next result
    limit: int  # most idle bytes that are kept
    live_blocks: int
    idle_blocks: int
    mapped: int  # requests that took fresh memory from the system
    reused: int  # requests that were served from idle blocks

def grad(
    grad_output: Array | float,
    input: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    out: Array | None = None,
) -> Array: ...
def loss(
    input: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    out: Array | None = None,
    dtype: Any = None,
) -> Array: ...
def loss_and_grad(
    input: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    grad_output: Array | float = 1.0,
    out: Array | None = None,
) -> tuple[Array, Array]: ...
def empty(shape: int | Sequence[int], dtype: Any, like: Array | None = None) -> Array:
    """An uninitialised dense array of `shape` and `dtype`, the same kind of object as `like` (NumPy without).

    From 1 MiB on it comes from the pool, and goes back to it when the last reference to it dies.
    """

def grad_part(
    grad_output: Array | float, input: Array, target: Array, count: int, out: Array
) -> Array:
    """`grad` of a part of a tensor whose `input` has `count` elements ("mean"); 0: "none" and "sum"."""

def asnumpy(array: Array, name: str = "array") -> Any:
    """A NumPy array on the memory of `array`, which it keeps alive; read-only unless it is one itself."""

class PartialSum:
    """A sum of squared differences, unfinished: of a piece of the data, merged in any order."""

    def __init__(self) -> None: ...
    def add(self, input: Array, target: Array, *, exact: bool = False) -> None: ...
    def merge(self, other: PartialSum) -> None: ...
    def finish(self, reduction: Literal["mean", "sum"], dtype: Any) -> Any | None: ...
    @property
    def count(self) -> int: ...
    @property
    def exact(self) -> bool: ...

def explain(
    grad_output: Array | float,
    input: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    out: Array | None = None,
) -> str: ...
def info() -> Info: ...
def set_target(name: str | None) -> None: ...
def memory_usage() -> Usage: ...
def memory_limit() -> int: ...
def memory_set_limit(bytes: int) -> None: ...
def memory_trim() -> int: ...

__version__: str
