"""The memory pool of new results: backed by huge pages and recycled up to a limit.

Page faults are most of the cost of a new large array. Results of 1 MiB or more therefore come from a pool:
when the last reference to such an array is gone, the pool keeps its memory for later results, at most
`limit()` bytes. The limit does not apply to memory in use.

`usage()` returns a dict of byte and block counts, `set_limit(bytes)` sets the limit and frees idle memory
beyond it, and `trim()` frees all idle memory and returns its bytes.

>>> mseloss.memory.set_limit(256 << 20)
>>> mseloss.memory.usage()["idle"]
0
"""

from mseloss._core import memory_limit as limit
from mseloss._core import memory_set_limit as set_limit
from mseloss._core import memory_trim as trim
from mseloss._core import memory_usage as usage

__all__ = ["limit", "set_limit", "trim", "usage"]
