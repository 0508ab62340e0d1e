"""The loss over process groups and of DTensors: the bits of one process, whatever their number and parts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import free_port

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("this PyTorch has no torch.distributed", allow_module_level=True)


def ended_well(status, errors):
    """Whether a process had no error of its own; rarely, a thread of PyTorch aborts it at its end."""
    return status == 0 or "terminate called without an active exception" in errors


def with_processes(count, program, *arguments):
    """What the first of this many processes prints."""
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environment |= {"WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1", "MSELOSS_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            ["timeout", "200", sys.executable, str(program), *arguments],
            env=environment | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    outputs = [process.communicate() for process in running]
    for process, (_, errors) in zip(running, outputs, strict=True):
        assert ended_well(process.returncode, errors), outputs
    return outputs[0][0]


# With one process, test_documents.py.
@pytest.mark.parametrize(
    ("processes", "names", "checks"),
    [
        (
            2,
            ["group", "half_gradients", "dtensor", "compiled", "refused"],
            244 + 10 + 32 + 7 + 14,
        ),
        (4, ["group", "dtensor", "two_parallelisms"], 244 + 232 + 48),
    ],
)
def test_every_number_of_processes_has_the_bits_of_one(processes, names, checks):
    program = Path(__file__).with_name("torch_processes.py")
    output = with_processes(processes, program, *names)
    assert output == f"processes {processes} checks {checks * processes}\n"


def test_the_example_has_one_loss_for_every_number_of_processes():
    program = Path(__file__).parents[2] / "examples" / "distributed_training.py"
    command = ["timeout", "200", sys.executable, str(program), "1", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended_well(done.returncode, done.stderr), done.stdout + done.stderr
    pattern = r"(\d) processes, (\w+) *, step (\d): (\S+)  PyTorch (\S+)"
    lines = [re.fullmatch(pattern, line).groups() for line in done.stdout.splitlines()]
    assert len(lines) == 2 * 3 * 5
    for step in range(5):
        ours = {loss for _, _, own, loss, _ in lines if int(own) == step}
        assert len(ours) == 1
    usual = {loss for _, mode, _, _, loss in lines if mode == "DDP"}
    assert len(usual) == 2 * 5
