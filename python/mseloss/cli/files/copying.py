"""Copies byte ranges between open files in blocks."""

from __future__ import annotations

from mseloss.cli.files.errors import ContentError

BLOCK = 1 << 20  # bytes


def blocks(file, begin, size):
    """The bytes from `begin` on, `size` in all, block by block."""
    file.seek(begin)
    while size > 0:
        block = file.read(min(BLOCK, size))
        if not block:
            raise ContentError("the file ends early")
        size -= len(block)
        yield block


def copy_bytes(source, begin, size, destination):
    for block in blocks(source, begin, size):
        destination.write(block)
