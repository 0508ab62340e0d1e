"""mseloss.mpi: the same bits for any number of ranks and any distribution of the data."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own, because importing MPI initialises it.
imported = subprocess.run(
    [sys.executable, "-c", "from mpi4py import MPI"], capture_output=True, text=True, check=False
)
if imported.returncode != 0:
    pytest.skip(f"mpi4py: {imported.stderr.splitlines()[-1]}", allow_module_level=True)
mpirun = shutil.which("mpirun") or pytest.skip("mpirun was not found", allow_module_level=True)


def with_ranks(ranks, program):
    """The lines that a program prints on this many ranks."""
    environment = {
        **os.environ,
        "MSELOSS_NUM_THREADS": "1",
        # Open MPI, as root and on fewer processors than ranks.
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMPI_MCA_mpi_yield_when_idle": "1",
    }
    path = Path(__file__).with_name(program)
    command = [mpirun, "-n", str(ranks), "timeout", "200", sys.executable, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_every_number_of_ranks_has_the_bits_of_one(ranks):
    assert with_ranks(ranks, "mpi_ranks.py") == [f"ranks {ranks} checks {168 * ranks}"]
