"""Mapped files that another program shortens while they are read, and mapped results on a full disk.

Both raise SIGBUS. The command's handler puts zeros there and counts; `check` turns the count into an error
before a result is printed or takes its final name.
"""

from __future__ import annotations

import os

from mseloss import _core
from mseloss.cli.files.errors import FileError

_maps = []  # (path, the size that the file must have)
_seen = 0


def start():
    """Handles faults from now on, for the files that are mapped from now on."""
    global _seen
    _maps.clear()
    _core.catch_file_faults()
    _seen = _core.file_faults()


def mapped(path, size):
    _maps.append((path, size))


def check():
    """Raises FileError if a mapped file could not be read or written since `start`."""
    if _core.file_faults() == _seen:
        return
    for path, size in _maps:
        try:
            if os.stat(path).st_size >= size:
                continue
        except OSError:
            pass
        raise FileError(f"{path}: another program shortened the file while it was read")
    raise FileError(
        "a mapped file cannot be read or written: no space left, or an error of the device"
    )
