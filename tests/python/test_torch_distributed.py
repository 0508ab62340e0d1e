"""The loss over process groups and of DTensors: the bits of one process, whatever their number and parts."""

import os
import re
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
        (1, ["group", "dtensor"], 242 + 32),
        (2, ["group", "dtensor", "compiled", "refused"], 242 + 32 + 6 + 9),
        (4, ["group", "dtensor", "wrappers"], 242 + 232 + 3),
    ],
)
def test_every_number_of_processes_has_the_bits_of_one(processes, names, checks):
    program = Path(__file__).with_name("torch_processes.py")
    lines = with_processes(processes, program, *names)
    assert lines[-1] == f"processes {processes} checks {checks * processes}"


def test_the_example_has_one_loss_for_every_number_of_processes():
    program = Path(__file__).parents[2] / "examples" / "distributed_training.py"
    command = ["timeout", "200", sys.executable, str(program), "1", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pattern = r"(\d) processes, (\w+) *, step (\d): (\S+)  PyTorch (\S+)"
    lines = [re.fullmatch(pattern, line).groups() for line in done.stdout.splitlines()]
    assert len(lines) == 2 * 3 * 5
    for step in range(5):
        ours = {loss for _, _, own, loss, _ in lines if int(own) == step}
        assert len(ours) == 1
    usual = {loss for _, mode, _, _, loss in lines if mode == "DDP"}
    assert len(usual) == 2 * 5
