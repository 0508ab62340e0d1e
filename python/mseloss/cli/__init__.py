"""The shell command `mseloss`."""

import sys


def main():
    """Runs the command and exits with 0 (success, equal), 1 (not equal) or 2 (invalid usage or input).

    An error prints one line to stderr.
    """
    try:
        from mseloss.cli import app
    except ModuleNotFoundError as error:
        print(
            f"mseloss: the command needs {error.name}: pip install 'mseloss[cli]'", file=sys.stderr
        )
        sys.exit(2)
    sys.exit(app.run())
