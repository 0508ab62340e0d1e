"""Errors about files: one sentence that names the file and what is wrong with it."""

from __future__ import annotations

import warnings
from contextlib import contextmanager


class FileError(ValueError):
    """Something is wrong with a file or an argument; the message says which and what."""


class ContentError(ValueError):
    """What is wrong with a file's content. `naming` turns it into a `FileError` that names the file."""


@contextmanager
def naming(path, failure):
    """Turns every exception from the block into a `FileError` that begins with `path`.

    The readers run zipfile, json, NumPy's header parser and the decompressors on untrusted bytes. Between
    them these raise nearly every exception type, so the block may raise any. `failure` precedes the text of
    exceptions that are neither FileError, ContentError nor the operating system's. Warnings are dropped:
    they would be more lines on standard error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FileError:
        raise
    except ContentError as error:
        raise FileError(f"{path}: {reason(error)}") from None
    except OSError as error:
        raise FileError(f"{path}: {reason(error)}") from None
    except Exception as error:
        raise FileError(f"{path}: {failure}: {reason(error)}") from None


def reason(error):
    """The text of any exception in one line of limited length; never empty."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(text.split())
    if isinstance(error, MemoryError):
        return f"not enough memory{': ' if text else ''}{text}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if not text or isinstance(error, (KeyError, IndexError, AttributeError)):
        text = f"{type(error).__name__} {text}".rstrip()
    return text if len(text) <= 300 else text[:297] + "..."
