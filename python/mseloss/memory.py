"""The memory behind fresh results: backed by huge pages, recycled, within a bound.

Most of what a fresh large array costs is page faults. Results from 1 MiB on therefore come from a pool: when
the last reference to such an array dies, its memory is kept for the next result, at most `limit()` bytes of
it. Memory in use is never handed out, and is not bounded.

>>> mseloss.memory.set_limit(256 << 20)
>>> mseloss.memory.usage()["idle"]
0
"""

from mseloss._core import memory_limit as limit
from mseloss._core import memory_set_limit as set_limit
from mseloss._core import memory_trim as trim
from mseloss._core import memory_usage as usage

__all__ = ["limit", "set_limit", "trim", "usage"]
