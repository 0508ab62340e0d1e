"""Arrays in .npy, .npz and .safetensors files: memory-mapped for reading, written in chunks."""

from mseloss.cli.files.errors import FileError
from mseloss.cli.files.reading import read
from mseloss.cli.files.writing import write

__all__ = ["FileError", "read", "write"]
