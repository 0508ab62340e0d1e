"""Trains a small network on real data with torch.nn.MSELoss and with mseloss.torch.MSELoss.

Prints and draws three results: training is identical, the time of a step, and the error of the float16 mean
gradient for large batches. From the repository, with PyTorch and Matplotlib installed:

    python examples/train_real_data.py            # about a minute; pictures go to docs/images/
    python examples/train_real_data.py --largest 22 --pictures somewhere
"""

import argparse
import csv
import statistics
import sys
import time
from pathlib import Path

import matplotlib as mpl
import mseloss
import mseloss.torch
import torch

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
LOSSES = {"torch.nn.MSELoss": torch.nn.MSELoss(), "mseloss.torch.MSELoss": mseloss.torch.MSELoss()}
# The colours of Okabe and Ito, which colour-blind readers can distinguish; the markers serve in greyscale.
STYLE = {
    "torch.nn.MSELoss": {"color": "#E69F00", "marker": "o"},
    "mseloss.torch.MSELoss": {"color": "#0072B2", "marker": "s"},
}


def penguins():
    """(features, body mass in grams) of the 333 penguins without missing values."""
    with open(ROOT / "examples/data/penguins.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if "NA" not in row.values()]
    sizes = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm")
    measured = torch.tensor([[float(row[name]) for name in sizes] for row in rows])
    measured = (measured - measured.mean(0)) / measured.std(0)
    kinds = [
        [float(row["species"] == name) for name in ("Adelie", "Gentoo", "Chinstrap")]
        + [float(row["sex"] == "male")]
        for row in rows
    ]
    mass = torch.tensor([[float(row["body_mass_g"])] for row in rows])
    return torch.cat([measured, torch.tensor(kinds)], 1), mass


def train(loss_function, features, mass, steps=400):
    """The loss after each step, the seconds per step, and the trained parameters."""
    torch.manual_seed(1)
    target = (mass - mass.mean()) / mass.std()
    model = torch.nn.Sequential(
        torch.nn.Linear(features.shape[1], 32), torch.nn.Tanh(), torch.nn.Linear(32, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    curve, seconds = [], []
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = loss_function(model(features), target)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        curve.append(loss.item())
    return curve, seconds, [p.detach().clone() for p in model.parameters()]


def same_training(pictures):
    features, mass = penguins()
    timed = {name: [] for name in LOSSES}
    for _ in range(4):  # alternating, so that other load on the machine affects both alike
        results = {name: train(loss, features, mass) for name, loss in LOSSES.items()}
        for name, (_, seconds, _) in results.items():
            timed[name] += seconds
    (curve, _, weights), (ours, _, our_weights) = results.values()
    same = all(torch.equal(a, b) for a, b in zip(weights, our_weights, strict=True))
    print(f"{len(mass)} penguins, {len(curve)} steps: loss {ours[0]:.4f} -> {ours[-1]:.4f}")
    print(f"  trained weights have the same bits: {same}")
    print(
        f"  largest difference of the two loss curves: "
        f"{max(abs(a - b) / b for a, b in zip(curve, ours, strict=True)):.1e} of the loss"
    )
    for name, seconds in timed.items():
        print(f"  whole step, median: {1e6 * statistics.median(seconds):7.1f} us with {name}")
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for (name, (values, _, _)), width in zip(results.items(), (5, 1.6), strict=True):
        axes.plot(values, color=STYLE[name]["color"], linewidth=width, label=name)
    axes.set(
        xlabel="step",
        ylabel="mean squared error (standardised)",
        yscale="log",
        title=f"Body mass of {len(mass)} penguins: the same training",
    )
    axes.legend()
    save(figure, pictures / "torch_training.png")
    return same


def step_seconds(loss_function, x, y, calls):
    start = time.perf_counter()
    for _ in range(calls):
        x.grad = None
        loss_function(x, y).backward()
    return (time.perf_counter() - start) / calls


def step_costs(pictures, largest):
    """Times one step of each loss, alternating; prints and draws the median for each size."""
    sizes = [2**k for k in range(10, largest + 1, 2)]
    medians = {name: [] for name in LOSSES}
    print(
        f"time of x.grad = None; loss(x, y).backward(), float32, {torch.get_num_threads()} threads"
    )
    for size in sizes:
        x, y = torch.randn(size, requires_grad=True), torch.randn(size)
        calls = max(1, min(200, 2**21 // size))
        times = {name: [] for name in LOSSES}
        for _ in range(9):
            for name, loss in LOSSES.items():
                times[name].append(step_seconds(loss, x, y, calls))
        for name in LOSSES:
            medians[name].append(statistics.median(times[name]))
        theirs, ours = (medians[name][-1] for name in LOSSES)
        print(
            f"  {size:10,} elements: {1e6 * theirs:10.1f} us, ours {1e6 * ours:10.1f} us, "
            f"{theirs / ours:5.2f} x"
        )
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for name, values in medians.items():
        axes.loglog(sizes, [1e6 * v for v in values], label=name, **STYLE[name])
    axes.set(xlabel="elements", ylabel="microseconds", title="One step of the loss, float32")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, pictures / "torch_step_time.png")


def half_errors(pictures, largest):
    """Error of the float16 mean gradient by batch size, for repeated body masses in grams against their
    mean."""
    _, mass = penguins()
    target = mass.flatten()
    error = {name: [] for name in LOSSES}
    sizes = [10**4, 10**5, 10**6, 10**7, 2 * 10**7, 4 * 10**7, 7 * 10**7]
    sizes = [n for n in sizes if n <= 1.1 * 2**largest]
    print("float16, mean: error of the gradient, relative to the exact one (median over penguins)")
    for size in sizes:
        y = target.repeat(-(-size // len(target)))[:size].half()
        x = torch.full_like(y, float(mass.mean())).requires_grad_()
        head = slice(0, min(size, len(target)))
        exact = 2 / size * (x.detach()[head].double() - y[head].double())
        for name, loss in LOSSES.items():
            x.grad = None
            # The loss overflows float16; the gradient does not depend on it.
            loss(x, y).backward()
            relative = (x.grad[head].double() - exact).abs() / exact.abs().clamp(min=1e-300)
            error[name].append(relative[exact != 0].median().item())
        theirs, ours = (error[name][-1] for name in LOSSES)
        print(f"  {size:10,} elements: {100 * theirs:8.3f} %, ours {100 * ours:8.3f} %")
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for name, values in error.items():
        axes.loglog(sizes, [100 * v for v in values], label=name, **STYLE[name])
    axes.axhline(100, color="grey", linewidth=0.8, linestyle=":")
    axes.text(sizes[0], 115, "100 %: the gradient is zero", color="grey", fontsize=8)
    axes.set(
        xlabel="elements",
        ylabel="error of the gradient (%)",
        ylim=(None, 300),
        title="float16 mean gradient: PyTorch rounds 2/n to float16",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, pictures / "torch_float16.png")
    return error


def save(figure, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs/images")
    parser.add_argument("--largest", type=int, default=26, help="log2 of the most elements")
    arguments = parser.parse_args()
    same = same_training(arguments.pictures)
    step_costs(arguments.pictures, min(arguments.largest, 24))
    error = half_errors(arguments.pictures, arguments.largest)
    return 0 if same and max(error["mseloss.torch.MSELoss"]) < 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
