"""Arrays in files: .npy, .npz and .safetensors, memory-mapped to read, streamed to write."""

from mseloss.cli.files.errors import FileError
from mseloss.cli.files.npy import numpy_dtype
from mseloss.cli.files.reading import read
from mseloss.cli.files.writing import write

__all__ = ["FileError", "numpy_dtype", "read", "write"]
