"""The loss over process groups and of DTensors: the bits of one process, whatever their number and parts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("this PyTorch has no torch.distributed", allow_module_level=True)


def with_processes(count, program, *arguments):
    """The lines that a program prints in this many processes."""
    command = ["-m", "torch.distributed.run", "--nproc-per-node", str(count)]
    command += [
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "localhost:0",
        str(program),
        *arguments,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MSELOSS_NUM_THREADS": "1"}
    done = subprocess.run(
        ["timeout", "300", sys.executable, *command],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("processes", "names", "checks"),
    [
        (1, ["group", "dtensor", "refused"], 242 + 32 + 9),
        (2, ["group", "dtensor", "wrappers", "compiled", "refused"], 242 + 32 + 3 + 6 + 9),
        (4, ["group", "dtensor", "wrappers"], 242 + 232 + 3),
    ],
)
def test_every_number_of_processes_has_the_bits_of_one(processes, names, checks):
    program = Path(__file__).with_name("torch_processes.py")
    lines = with_processes(processes, program, *names)
    assert lines[-1] == f"processes {processes} checks {checks * processes}"
