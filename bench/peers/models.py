"""Times whole training steps of three models with PyTorch's loss and with ours, in turns, step by step.

models.py [--seconds S] [--filter TEXT] [--threads N] [--out FILE]

The models are a small MLP, an autoencoder with convolutions, and a denoiser as in diffusion models. Each is
trained in six ways: plain, under bfloat16 autocast, with gradients accumulated over 4 batches, compiled
(model and loss in one graph), with batches from the workers of a DataLoader, and by DistributedDataParallel
on 2 processes (gloo, one thread each). A case is named MODEL/WAY.

Two times are reported: of the whole step (forward, backward, optimizer), and of the loss alone, forward and
backward down to the prediction, right after the model's forward pass. Fetching a batch is not timed.
"""

import argparse
import contextlib
import copy
import json
import os
import pathlib
import socket
import statistics
import sys
import time

import mseloss
import mseloss.torch as ours
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F  # noqa: N812
from torch import nn

LOSSES = {"PyTorch": F.mse_loss, "mseloss": ours.mse_loss}
WARM_UP, MIN_TURNS = 5, 16
WAYS = ("plain", "autocast", "accumulate", "compile", "workers", "ddp")


class Denoiser(nn.Module):
    """Predicts the noise in an image from the image and its noise level."""

    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)
        self.norm = nn.GroupNorm(8, width)

    def forward(self, images):
        level = images.mean((1, 2, 3)).unsqueeze(1)
        hidden = F.silu(self.first(images)) + self.embed(level)[:, :, None, None]
        return self.last(hidden + F.silu(self.norm(self.middle(hidden))))


def mlp():
    return nn.Sequential(
        nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
    )


def autoencoder():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1),
    )


# The model, and the shapes of a batch and of its targets.
MODELS = {
    "mlp": (mlp, (256, 16), (256, 4)),
    "autoencoder": (autoencoder, (16, 3, 64, 64), (16, 3, 64, 64)),
    "denoiser": (Denoiser, (8, 3, 64, 64), (8, 3, 64, 64)),
}


class Batches(torch.utils.data.Dataset):
    def __init__(self, model):
        generator = torch.Generator().manual_seed(3)
        _, inputs, targets = MODELS[model]
        self.items = [
            (torch.randn(inputs, generator=generator), torch.randn(targets, generator=generator))
            for _ in range(16)
        ]

    def __len__(self):
        return 1 << 30

    def __getitem__(self, i):
        return self.items[i % 16]


class Trainer:
    """One model, trained with one loss."""

    def __init__(self, model, way, loss):
        self.model, self.way, self.loss = model, way, loss
        call = self.forward
        if way == "ddp":
            self.model = nn.parallel.DistributedDataParallel(model)
        if way == "compile":
            call = torch.compile(call, fullgraph=True)
        self.call = call
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        self.step_times, self.loss_times = [], []

    def cast(self):
        if self.way != "autocast":
            return contextlib.nullcontext()
        return torch.autocast("cpu", torch.bfloat16)

    def forward(self, x, y):
        return self.loss(self.model(x), y)

    def backward(self, x, y):
        with self.cast():
            loss = self.call(x, y)
            if self.way == "accumulate":
                loss = loss / 4
        loss.backward()

    def step(self, batches):
        for x, y in batches:
            self.backward(x, y)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def time_step(self, batches):
        start = time.perf_counter()
        self.step(batches)
        self.step_times.append(time.perf_counter() - start)

    def time_loss(self, x, y):
        with torch.no_grad(), self.cast():
            prediction = self.model(x)
        prediction.requires_grad_()
        start = time.perf_counter()
        with self.cast():
            loss = self.loss(prediction, y)
        loss.backward()
        self.loss_times.append(time.perf_counter() - start)

    def gradients(self, x, y):
        self.backward(x, y)
        result = [p.grad.clone() for p in self.model.parameters()]
        self.optimizer.zero_grad()
        return result


def measure(name, seconds):
    """The times of one case; raises if the gradients of the two trainers differ."""
    kind, way = name.split("/")
    torch.manual_seed(1)
    torch._dynamo.reset()
    model = MODELS[kind][0]()
    trainers = {n: Trainer(copy.deepcopy(model), way, loss) for n, loss in LOSSES.items()}
    data = Batches(kind)
    x, y = data[0]
    tolerance = 2e-2 if way == "autocast" else 1e-4
    for a, b in zip(*(t.gradients(x, y) for t in trainers.values()), strict=True):
        torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance * float(a.abs().max()))
    workers = 2 if way == "workers" else 0
    loader = iter(torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers))

    def turn(order):
        for trainer in order:
            batches = [next(loader) for _ in range(4 if way == "accumulate" else 1)]
            trainer.time_step(batches)
            if way not in ("compile", "ddp"):  # in these the loss is not a call of its own
                trainer.time_loss(*batches[0])

    order = list(trainers.values())
    for _ in range(WARM_UP):
        turn(order)
    for trainer in order:
        trainer.step_times.clear()
        trainer.loss_times.clear()
    # Both processes of "ddp" make the same number of steps.
    turns = int(20 * seconds) if way == "ddp" else MIN_TURNS
    end = time.perf_counter() + (0 if way == "ddp" else seconds)
    while turns > 0 or time.perf_counter() < end:
        order.reverse()
        turn(order)
        turns -= 1
    return {
        n: {"step": quartiles(t.step_times), "loss": quartiles(t.loss_times)}
        for n, t in trainers.items()
    }


def quartiles(times):
    return statistics.quantiles(times, n=4, method="inclusive") if len(times) > 3 else None


def _process(rank, name, seconds, port, results):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    times = measure(name, seconds)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    if rank == 0:
        results.put(times)


def measure_case(name, seconds):
    if not name.endswith("/ddp"):
        return measure(name, seconds)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = mp.get_context("spawn").SimpleQueue()
    context = mp.spawn(_process, (name, seconds, port, results), nprocs=2, join=False)
    while not context.join():  # raises if a process fails
        pass
    return results.get()


def text(times, unit):
    if times is None:
        return ""
    q1, median, q3 = (t / unit for t in times)
    return f"{median:.3g} ({q1:.3g} to {q3:.3g})"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=6, help="for each case")
    parser.add_argument("--filter", default="")
    parser.add_argument("--threads", type=int, default=mseloss.info()["threads"])
    parser.add_argument("--out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    info = mseloss.info()
    print(f"{arguments.threads} threads, {info['target']}, PyTorch {torch.__version__}, ", end="")
    print(f"step: {info['torch_step']}; medians and quartiles; load {os.getloadavg()[0]:.1f}\n")
    columns = ("step, ms: PyTorch", "mseloss", "ratio", "loss, us: PyTorch", "mseloss", "ratio")
    print("| case | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    cases = []
    for name in (f"{model}/{way}" for model in MODELS for way in WAYS):
        if arguments.filter not in name:
            continue
        times = measure_case(name, arguments.seconds)
        cells = [name]
        for what, unit in (("step", 1e-3), ("loss", 1e-6)):
            theirs, own = (times[n][what] for n in LOSSES)
            ratio = f"{theirs[1] / own[1]:.3f}" if theirs else ""
            cells += [text(theirs, unit), text(own, unit), ratio]
        print("| " + " | ".join(cells) + " |", flush=True)
        cases.append({"id": name, "seconds": times})
    if arguments.out:
        pathlib.Path(arguments.out).write_text(json.dumps({"info": info, "cases": cases}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
