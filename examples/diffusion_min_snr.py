"""Trains a small diffusion model with min-SNR weights: the usual PyTorch code, and one call of mseloss.torch.

The model learns to predict the noise in the four measurements of penguins. Min-SNR weights multiply the
squared error of each sample by min(SNR, 5) / SNR, where SNR is the signal-to-noise ratio of the sample's time
step. From the repository, with PyTorch installed:

    python examples/diffusion_min_snr.py
"""

import csv
import statistics
import time
from pathlib import Path

import mseloss.torch
import torch
import torch.nn.functional as F  # noqa: N812

ROOT = Path(__file__).resolve().parent.parent
STEPS = 200  # of the diffusion


def penguins():
    names = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
    with open(ROOT / "examples/data/penguins.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if "NA" not in (row[name] for name in names)]
    data = torch.tensor([[float(row[name]) for name in names] for row in rows])
    return (data - data.mean(0)) / data.std(0)


def usual(predicted, noise, weight):
    loss = F.mse_loss(predicted, noise, reduction="none")
    return (loss.mean(dim=list(range(1, loss.dim()))) * weight).mean()


def ours(predicted, noise, weight):
    # sum(w * d^2) / numel. The division of the weights is cheaper than one of the loss, whose backward pass
    # would scale the whole gradient.
    weight = (weight / predicted.numel()).reshape(-1, *(1,) * (predicted.dim() - 1))
    return mseloss.torch.mse_loss(predicted, noise, reduction="sum", weight=weight)


def train(loss_function, data, iterations=600):
    torch.manual_seed(0)
    signal = torch.cos(torch.linspace(0.01, 1, STEPS) * torch.pi / 2 * 0.99) ** 2
    ratio = signal / (1 - signal)
    weights = ratio.clamp(max=5) / ratio
    model = torch.nn.Sequential(
        torch.nn.Linear(5, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU()
    ).append(torch.nn.Linear(64, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    curve = []
    for _ in range(iterations):
        t = torch.randint(STEPS, (len(data),))
        noise = torch.randn_like(data)
        noisy = signal[t, None].sqrt() * data + (1 - signal[t, None]).sqrt() * noise
        predicted = model(torch.cat([noisy, t[:, None] / STEPS], 1))
        loss = loss_function(predicted, noise, weights[t])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return curve


def step_time(loss_function, shape, repeats=9):
    """Median time in milliseconds of loss and gradient for a batch of images."""
    torch.manual_seed(0)
    predicted = torch.randn(shape, requires_grad=True)
    noise, weight = torch.randn(shape), torch.rand(shape[0])
    times = []
    for _ in range(repeats):
        predicted.grad = None
        start = time.perf_counter()
        loss_function(predicted, noise, weight).backward()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main():
    data = penguins()
    curves = {f.__name__: train(f, data) for f in (usual, ours)}
    for name, curve in curves.items():
        last = statistics.mean(curve[-50:])
        print(f"{name:6} loss {curve[0]:.4f} -> {last:.4f} (mean of the last 50 iterations)")
    difference = abs(curves["usual"][0] - curves["ours"][0]) / curves["usual"][0]
    print(f"relative difference of the first losses: {difference:.1e}")
    assert difference < 1e-6
    shape = (64, 4, 64, 64)
    times = {f.__name__: step_time(f, shape) for f in (usual, ours)}
    print(
        f"loss and gradient of {shape}: " + ", ".join(f"{n} {t:.2f} ms" for n, t in times.items())
    )


if __name__ == "__main__":
    main()
