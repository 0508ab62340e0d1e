"""Arrays in .npy, .npz and .safetensors files and .zarr stores: read and written in chunks."""

from mseloss.cli.files import faults
from mseloss.cli.files.errors import FileError
from mseloss.cli.files.names import STANDARD, is_zarr
from mseloss.cli.files.reading import read
from mseloss.cli.files.writing import check_inputs, region, write, write_bytes

__all__ = [
    "FileError",
    "STANDARD",
    "check_inputs",
    "faults",
    "is_zarr",
    "read",
    "region",
    "write",
    "write_bytes",
]
