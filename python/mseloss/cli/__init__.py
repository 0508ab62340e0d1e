"""The shell command `mseloss`."""

import sys


def main():
    """Runs the command and exits: 0 done or equal, 1 not equal, 2 bad usage or input. One line per error."""
    try:
        from mseloss.cli import app
    except ModuleNotFoundError as error:
        print(
            f"mseloss: the command needs {error.name}: pip install 'mseloss[cli]'", file=sys.stderr
        )
        sys.exit(2)
    sys.exit(app.run())
