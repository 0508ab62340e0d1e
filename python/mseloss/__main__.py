"""`python -m mseloss`: the shell command."""

from mseloss.cli import main

main()
