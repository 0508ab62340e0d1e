"""Trains a model with DDP, FSDP2 and tensor parallelism on 1, 2 and 4 processes: the losses are identical.

The model predicts measurements of penguins from their species, island and sex (examples/data/penguins.csv).
mseloss.torch computes the loss of all rows, wherever they are. It is printed in hexadecimal, beside PyTorch's
own: the average of the processes' means for DDP and FSDP2, and torch.nn.functional.mse_loss for DTensors.
The 333 rows do not divide evenly, so these differ from the mean of all rows. The model computes in float64
and the loss in float32, so that the rounding of PyTorch's own sums over the processes does not show.
With PyTorch installed:

    python examples/distributed_training.py
"""

import csv
import os
import socket
import sys
from pathlib import Path

import mseloss.torch
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

DATA = Path(__file__).parent / "data" / "penguins.csv"
STEPS = 5


def penguins():
    """One-hot species, island and sex; normalised measurements."""
    with DATA.open(newline="") as file:
        rows = [row for row in csv.reader(file) if "NA" not in row and "" not in row]
    header, *rows = rows
    measured = [i for i, value in enumerate(rows[0]) if value.replace(".", "").isdigit()]
    named = [i for i in range(len(header)) if i not in measured and header[i] != "year"]
    values = torch.tensor(
        [[float(row[i]) for i in measured if header[i] != "year"] for row in rows]
    )
    inputs = []
    for i in named:
        names = sorted({row[i] for row in rows})
        inputs.append(torch.tensor([[row[i] == name for name in names] for row in rows]))
    values = (values - values.mean(0)) / values.std(0)
    return torch.cat(inputs, 1).double(), values.double()


def train(mode, mesh, x, y):
    """The losses of each step: ours and PyTorch's own."""
    rank, processes = mesh.get_local_rank(), mesh.size()
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], 16), torch.nn.Tanh(), torch.nn.Linear(16, y.shape[1])
    ).double()
    if mode == "tensor":
        rows = RowwiseParallel(output_layouts=Shard(0), use_local_output=False)
        model = parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": rows})
        y = distribute_tensor(y, mesh, [Shard(0)])
    else:
        model = DistributedDataParallel(model) if mode == "DDP" else fully_shard(model, mesh=mesh)
        x, y = (torch.tensor_split(t, processes)[rank] for t in (x, y))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(STEPS):
        output, target = model(x).float(), y.float()
        if mode == "tensor":
            loss = mseloss.torch.mse_loss(output, target)
            usual = F.mse_loss(output.detach(), target).full_tensor()
        else:
            # DDP and FSDP average the gradients of the processes.
            loss = mseloss.torch.mse_loss(output, target, group=mesh.get_group(), averaged=True)
            usual = F.mse_loss(output.detach(), target)
            dist.all_reduce(usual)
            usual /= processes
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append((float(loss.full_tensor() if mode == "tensor" else loss), float(usual)))
    return losses


def worker(rank, processes, port):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=processes)
    mesh = dist.init_device_mesh("cpu", (processes,))
    x, y = penguins()
    for mode in ("DDP", "FSDP2", "tensor"):
        for step, (ours, usual) in enumerate(train(mode, mesh, x, y)):
            if rank == 0:
                print(
                    f"{processes} processes, {mode:6}, step {step}: {ours.hex()}  PyTorch {usual.hex()}"
                )
    dist.barrier()  # no process ends while another still talks to it
    dist.destroy_process_group()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    for count in map(int, sys.argv[1:] or (1, 2, 4)):
        torch.multiprocessing.spawn(worker, (count, free_port()), nprocs=count)
