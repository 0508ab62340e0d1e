"""What `mseloss info` shows about the machine and the installation."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import mseloss


def facts():
    """A dict of strings, numbers, booleans, lists of strings, and None for what is not installed.

    The unit of a number is in its key, unless it is a count.
    """
    result = dict(mseloss.info())
    result["memory_limit_bytes"] = result.pop("memory_limit")
    result["processor"] = _processor()
    result["processor_count"] = os.cpu_count()
    result["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    result["python"] = platform.python_version()
    for name in ("numpy", "ml_dtypes", "torch", "jax", "dask", "zarr"):
        try:
            result[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            result[name] = None
    return result


def shown(value):
    """A value of `facts` as text."""
    if isinstance(value, list):
        return " ".join(value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def processor():
    """The processor's model and the number of processors."""
    return f"{_processor()}, {os.cpu_count()} processors"


def _processor():
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()
