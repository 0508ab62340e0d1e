"""Draws flow.svg: the stages that a call passes from an entry to a kernel. python docs/images/flow.py"""

import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

ENTRIES = ["C++", "aclnn", "Python", "PyTorch", "JAX", "shell"]
# name, what it does, where it lives, width
STAGES = [
    ("api", "one function\nper operator", "src/api.cpp", 2.9),
    (
        "plan",
        "checks arguments,\nbroadcasts,\nmerges dimensions,\nrounds the scale",
        "src/plan/",
        3.9,
    ),
    (
        "run",
        "chooses the backend:\nwhere the memory is",
        "src/run.cpp",
        4.2,
    ),
    (
        "backend",
        "chooses the sweeps; repeats\na sum exactly if its rounding\n"
        "is undecided; splits the work:\ntiles, threads, stores, packing",
        "src/cpu/",
        5.5,
    ),
    ("kernel", "vector loops\nand the formula", "src/cpu/kernels/", 3.2),
]
GAP = 0.9
INK, LINE, FILL = "#1b1f24", "#57606a", {"entry": "#ddf4ff", "stage": "#fff8c5", "end": "#dafbe1"}


def box(axes, x, y, width, height, fill):
    style = "round,pad=0,rounding_size=0.12"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=fill, edgecolor=LINE)
    )


def arrow(axes, x0, y0, x1, y1):
    style = {"arrowstyle": "-|>", "color": LINE, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (x1, y1), (x0, y0), arrowprops=style)


def label(axes, x, y, text, size, color=INK, **options):
    axes.text(x, y, text, ha="center", va="center", color=color, fontsize=size, **options)


def main():
    plt.rcParams |= {"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "flow"}
    figure, axes = plt.subplots(figsize=(12.4, 3.1))
    left = 3.0
    right = left + sum(width for *_, width in STAGES) + GAP * (len(STAGES) - 1)
    axes.set(xlim=(0, right + 0.1), ylim=(0, 6.2))
    axes.axis("off")
    for i, name in enumerate(ENTRIES):
        y = 5.1 - i
        box(axes, 0.1, y, 1.9, 0.76, FILL["entry"])
        label(axes, 1.05, y + 0.38, name, 10)
        arrow(axes, 2.05, y + 0.38, left - 0.05, 3.1 + (y - 2.6) * 0.3 + 0.1)
    x = left
    for name, what, where, width in STAGES:
        last = name == STAGES[-1][0]
        box(axes, x, 1.75, width, 2.75, FILL["end" if last else "stage"])
        middle = x + width / 2
        label(axes, middle, 4.1, name, 12, weight="bold")
        label(axes, middle, 2.75, what, 9)
        label(axes, middle, 1.4, where, 8, LINE, family="monospace")
        if not last:
            arrow(axes, x + width + 0.05, 3.1, x + width + GAP - 0.05, 3.1)
        x += width + GAP
    label(
        axes,
        (left + right) / 2,
        0.5,
        "Arguments are checked only up to the plan; elements are computed only in the kernel.",
        9,
        LINE,
    )
    target = pathlib.Path(__file__).with_suffix(".svg")
    figure.savefig(
        target, bbox_inches="tight", pad_inches=0.05, facecolor="white", metadata={"Date": None}
    )


if __name__ == "__main__":
    main()
