"""The command's only exit path: maps every exception to an exit status and one line on standard error."""

from __future__ import annotations

import os
import sys
import traceback

from mseloss.cli import signals
from mseloss.cli.files import temporary
from mseloss.cli.files.errors import FileError, reason

NOT_EQUAL, BAD_INPUT, INTERNAL = 1, 2, 70
_NO_OUTPUT = "standard output is closed, or the shell's completion failed"


def guarded(command):
    """Calls `command` and returns its exit status, or the status for the exception that it raised.

    No exception maps to NOT_EQUAL. A defect of mseloss itself maps to INTERNAL and shows its traceback.
    """
    try:
        if sys.stdout is None:  # print would drop the result without an error
            return _fail("standard output: closed", BAD_INPUT)
        status = command()
        _flush()
        return status
    except BaseException as error:
        signals.ignore()
        temporary.remove_all()
        try:
            sys.stdout.flush()
        except OSError:  # what could not be written is still in the buffer
            _abandon(sys.stdout)
        return _status_of(error)


def _status_of(error):
    # Click's exceptions are matched by name: typer bundles click, and this module must load without typer.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, KeyboardInterrupt) or "Abort" in kinds:
        number = signals.received()
        return _fail(f"stopped by {number.name}", 128 + number)
    if isinstance(error, SystemExit):  # click and rich exit with 1 on a closed pipe
        return _fail(_NO_OUTPUT, BAD_INPUT) if error.code else 0
    if "NoArgsIsHelpError" in kinds:  # the help was printed
        return 0
    if "ClickException" in kinds:
        return _fail(_usage(error, kinds), BAD_INPUT)
    if isinstance(error, ModuleNotFoundError):
        extra = "dask" if error.name in ("dask", "zarr") else "cli"
        return _fail(f"{error.name}: not installed; pip install 'mseloss[{extra}]'", BAD_INPUT)
    if isinstance(error, (ValueError, TypeError, MemoryError, OSError, ImportError)):
        name = getattr(error, "filename", None) or _failing_output(error)
        text = str(error) if isinstance(error, FileError) else reason(error)
        return _fail(f"{name}: {text}" if name else text, BAD_INPUT)
    _print("".join(traceback.format_exception(error)).rstrip())
    text = f"{type(error).__name__}: {reason(error)}"
    return _fail(f"internal error, please report it with the lines above: {text}", INTERNAL)


def _usage(error, kinds):
    """One of click's errors in the style of the others: the argument, what is wrong, what to do."""
    parameter, context = getattr(error, "param", None), getattr(error, "ctx", None)
    text = error.format_message()
    if parameter is not None:
        name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
        what = error.message.removeprefix("Value error, ").rstrip(".")
        text = f"{name}: {'missing' if 'MissingParameter' in kinds else what}"
    elif "NoSuchOption" in kinds:
        text = f"{error.option_name}: no such option"
    path = "mseloss" if context is None else context.command_path
    return text if "; " in text else f"{text.rstrip('.')}; see {path} --help"


def _fail(message, status):
    _print("mseloss: " + " ".join(str(message).split()))
    return status


def _print(text):
    if sys.stderr is None:  # closed; print would write to standard output
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _abandon(sys.stderr)


def _failing_output(error):
    """ "standard output" if rich raised the error, which names no file; it prints help and tables there."""
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_globals.get("__name__", "").startswith(
        "rich."
    ):
        trace = trace.tb_next
    if trace is None or not isinstance(error, OSError):
        return None
    return "standard output"


def _flush():
    try:
        sys.stdout.flush()
    except OSError as error:
        raise OSError(f"standard output: {error.strerror}") from None


def _abandon(stream):
    """Redirects the stream to nowhere: the interpreter flushes it at exit and fails with status 120."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except OSError:
        pass
