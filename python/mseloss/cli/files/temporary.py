"""Temporary files and folders next to a destination; only what this process created is removed."""

from __future__ import annotations

import os
import secrets
import shutil

from mseloss.cli import signals

_created = set()


def create(destination, make):
    """(path, make(path)) for a new name in the folder of `destination`.

    128 random bits, without the process id: two containers that share a volume may have equal ids. make
    raises FileExistsError if the name is taken.
    """
    while True:
        path = destination.with_name(f".mseloss-{secrets.token_hex(16)}.part")
        with signals.deferred():
            try:
                made = make(path)
            except FileExistsError:
                continue
            _created.add(path)
        return path, made


def move(path, destination):
    """Renames `path`, which create() made, to `destination`, a file or nothing."""
    with signals.deferred():
        os.replace(path, destination)
        _created.discard(path)


def exchange(path, destination):
    """Renames the folder `path`, which create() made, to `destination`, whose folder becomes temporary."""
    old = path.with_suffix(".old")
    with signals.deferred():
        os.rename(destination, old)
        try:
            os.rename(path, destination)
        except OSError:
            os.rename(old, destination)
            raise
        _created.discard(path)
        _created.add(old)
    remove(old)


def remove(path):
    """Removes `path` if create() made it and it was not moved."""
    if path not in _created:
        return
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    _created.discard(path)


def remove_all():
    """Removes what a second signal has kept from being removed."""
    for path in list(_created):
        remove(path)
