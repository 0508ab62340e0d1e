"""The shell command `mseloss`."""
