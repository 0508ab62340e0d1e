"""How a command line names an array: PATH, or PATH:NAME where a file holds several."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mseloss.cli.files.errors import ContentError, FileError

SUFFIXES = (".npy", ".npz", ".safetensors")
_NAMED = re.compile(r"\.(?:npz|safetensors):", re.IGNORECASE | re.ASCII)


def split(spec):
    """(path, name) of PATH or PATH:NAME; name is None for PATH. A file that is named like `spec` wins."""
    spec = str(spec)
    match = _NAMED.search(spec)
    if match is None or os.path.exists(spec):
        return Path(spec), None
    return Path(spec[: match.end() - 1]), spec[match.end() :]


def suffix_of(path):
    """The file's suffix in lower case, one of SUFFIXES. Raises FileError for others."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise FileError(f"{path}: expected a file named {', '.join(SUFFIXES)}")


def choose(path, names, name):
    """The one of `names` that `name` asks for, or the only one where `name` is None."""
    if name is None and len(names) == 1:
        return names[0]
    if name in names:
        return name
    known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") or "none"
    if name is None:
        raise ContentError(f"name one of its arrays as {path}:NAME; it has {known}")
    raise ContentError(f"no array {name!r}; it has {known}")
