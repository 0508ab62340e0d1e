"""mseloss.mpi: the same bits for any number of ranks and any distribution of the data."""

import os
import re
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
    command = [mpirun, "-n", str(ranks), "timeout", "200", sys.executable, str(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_every_number_of_ranks_has_the_bits_of_one(ranks):
    program = Path(__file__).with_name("mpi_ranks.py")
    assert with_ranks(ranks, program) == [f"ranks {ranks} checks {196 * ranks}"]


def test_the_page_runs(tmp_path):
    page = Path(__file__).parents[2] / "docs" / "distributed.md"
    (sample,) = re.findall(r"^```python\n([^`]*mpi4py.*?)^```", page.read_text(), re.M | re.S)
    program = tmp_path / "sample.py"
    data = "import numpy as np\nx, y, w = np.arange(3.0), np.ones(3), np.ones(3)\n"
    program.write_text(f"{data}{sample}\nif MPI.COMM_WORLD.rank == 0:\n    print(loss, dx)\n")
    assert with_ranks(2, program) == ["0.6666666666666666 [-0.33333333  0.          0.33333333]"]
