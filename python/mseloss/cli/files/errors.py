"""Errors about files: one sentence that names the file and what is wrong with it."""

from __future__ import annotations

import warnings
from contextlib import contextmanager


class FileError(ValueError):
    """Invalid input from the command line. The message names the file or the option."""


class ContentError(ValueError):
    """Invalid content of a file. `naming` converts it to a `FileError` that names the file."""


@contextmanager
def naming(path, failure):
    """Converts every exception from the block to a `FileError` that begins with `path`.

    The readers run zipfile, json, NumPy's header parser and the decompressors on untrusted bytes; together
    these raise nearly every exception type. `failure` precedes the text of exceptions other than
    ContentError and OSError. Warnings are ignored: an error is one line on standard error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (FileError, ModuleNotFoundError):
        raise
    except ContentError as error:
        raise FileError(f"{path}: {reason(error)}") from None
    except OSError as error:
        raise FileError(f"{path}: {reason(error)}") from None
    except Exception as error:
        raise FileError(f"{path}: {failure}: {reason(error)}") from None


def reason(error):
    """The text of any exception: one line of at most 300 characters, never empty."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(text.split())
    if isinstance(error, MemoryError):
        return f"not enough memory{': ' if text else ''}{text}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if not text or isinstance(error, (KeyError, IndexError, AttributeError)):
        text = f"{type(error).__name__} {text}".rstrip()
    return text if len(text) <= 300 else text[:297] + "..."
