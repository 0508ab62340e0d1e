"""`python -m mseloss`: the shell command."""

from mseloss.cli import main

if __name__ == "__main__":  # documentation tools import every module
    main()
