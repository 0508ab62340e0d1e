"""The shell command `mseloss`."""

import os
import sys
import warnings


def main():
    """Runs the command and exits; docs/cli.md lists the statuses."""
    from mseloss.cli import signals
    from mseloss.cli.exit import guarded

    signals.install()
    warnings.simplefilter("ignore")  # an error is one line on standard error
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # a file name may not be valid Unicode
            stream.reconfigure(errors="backslashreplace")
    status = guarded(_start)
    if status > 128:  # a signal: output is flushed and temporary files are removed
        os._exit(status)  # without the interpreter's shutdown, which takes longer than the rest
    sys.exit(status)


def _start():
    from mseloss.cli import app

    return app.invoke()
