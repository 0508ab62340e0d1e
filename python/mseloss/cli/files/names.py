"""Names of arrays on the command line: PATH, or PATH:NAME for one of several arrays in a file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mseloss.cli.files.errors import ContentError, FileError

SUFFIXES = (".npy", ".npz", ".safetensors", ".zarr")
STANDARD = "-"  # standard input, or standard output
_NAMED = re.compile(r"\.(?:npz|safetensors|zarr):", re.IGNORECASE | re.ASCII)


def split(spec):
    """(path, name) of PATH or PATH:NAME; name is None for PATH. An existing array file named `spec` wins."""
    spec = str(spec)
    if not spec:
        raise FileError("'': no file name; give the name of an array file, or - for standard input")
    match = _NAMED.search(spec)
    if match is None or (spec.lower().endswith(SUFFIXES) and os.path.exists(spec)):
        return Path(spec), None
    return Path(spec[: match.end() - 1]), spec[match.end() :]


def suffix_of(path):
    """The file's suffix in lower case, one of SUFFIXES. Raises FileError for others."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise FileError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}; rename it")


def is_zarr(spec):
    """Whether `spec` names a Zarr store or an array in one."""
    return split(spec)[0].name.lower().endswith(".zarr")


def choose(path, names, name):
    """`name` if it is one of `names`; their only element if `name` is None. Raises ContentError."""
    if name is None and len(names) == 1:
        return names[0]
    if name in names:
        return name
    known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") or "none"
    if name is None:
        raise ContentError(f"expected one array, it has {known}; select one with {path}:NAME")
    raise ContentError(f"no array {name!r}; select one of {known}")


def is_same_file(spec, other):
    """Whether two names stand for the same existing file or store, whatever arrays of it they select."""
    if STANDARD in (spec, other):
        return False
    paths = split(spec)[0], split(other)[0]
    return all(map(os.path.exists, paths)) and os.path.samefile(*paths)
