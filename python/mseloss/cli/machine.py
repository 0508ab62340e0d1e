"""What `mseloss info` shows about the machine and the installation."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import mseloss


def facts():
    """A dict from a label to a string, a number or a list of strings."""
    result = dict(mseloss.info())
    result["memory_limit_bytes"] = result.pop("memory_limit")
    if not result["environment"]:
        del result["environment"]
    result["processor"] = processor()
    result["python"] = platform.python_version()
    for name in ("numpy", "ml_dtypes", "torch", "jax", "dask", "zarr"):
        try:
            result[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            result[name] = "not installed"
    return result


def processor():
    """The processor's model and the number of processors."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return f"{line.split(':', 1)[1].strip()}, {os.cpu_count()} processors"
    except OSError:
        pass
    return f"{platform.machine()}, {os.cpu_count()} processors"
