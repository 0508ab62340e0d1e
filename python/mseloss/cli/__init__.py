"""The shell command `mseloss`."""

import sys
import warnings


def main():
    """Runs the command and exits; docs/cli.md lists the statuses."""
    from mseloss.cli.exit import guarded

    warnings.simplefilter("ignore")  # standard error is for the command's own line
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # a file name may be no text
            stream.reconfigure(errors="backslashreplace")
    sys.exit(guarded(_start))


def _start():
    from mseloss.cli import app

    return app.invoke()
