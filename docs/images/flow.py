"""Draws flow.svg: how a call travels from an entry to a kernel. python docs/images/flow.py"""

import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

ENTRIES = ["C++", "aclnn", "Python", "PyTorch", "JAX", "shell"]
STAGES = [
    ("api", "one function\nper operator", "src/api.cpp"),
    ("plan", "checks, broadcasts,\nmerges dimensions,\nrounds the scale", "src/plan/"),
    ("backend", "splits the work,\nowns the threads", "src/cpu/"),
    ("kernel", "a loop and\nthe formula", "src/cpu/*-inl.h"),
]
INK, LINE, FILL = "#1b1f24", "#57606a", {"entry": "#ddf4ff", "stage": "#fff8c5", "end": "#dafbe1"}


def box(axes, x, y, width, height, fill):
    style = "round,pad=0,rounding_size=0.12"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=fill, edgecolor=LINE)
    )


def arrow(axes, x0, y0, x1, y1):
    style = {"arrowstyle": "-|>", "color": LINE, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (x1, y1), (x0, y0), arrowprops=style)


def main():
    plt.rcParams |= {"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "flow"}
    figure, axes = plt.subplots(figsize=(10, 3.1))
    axes.set(xlim=(0, 20), ylim=(0, 6.2))
    axes.axis("off")
    for i, name in enumerate(ENTRIES):
        y = 5.1 - i
        box(axes, 0.1, y, 1.9, 0.76, FILL["entry"])
        axes.text(1.05, y + 0.38, name, ha="center", va="center", color=INK, fontsize=10)
        arrow(axes, 2.05, y + 0.38, 2.95, 3.1 + (y - 2.6) * 0.18 + 0.07)
    x, width = 3.0, [3.1, 4.0, 3.5, 3.0]
    for i, (name, what, where) in enumerate(STAGES):
        box(axes, x, 1.9, width[i], 2.5, FILL["end" if i == 3 else "stage"])
        middle = x + width[i] / 2
        axes.text(
            middle, 3.95, name, ha="center", va="center", color=INK, fontsize=12, weight="bold"
        )
        axes.text(middle, 2.8, what, ha="center", va="center", color=INK, fontsize=9)
        axes.text(
            middle,
            1.55,
            where,
            ha="center",
            va="center",
            color=LINE,
            fontsize=8,
            family="monospace",
        )
        if i < 3:
            arrow(axes, x + width[i] + 0.05, 3.1, x + width[i] + 0.95, 3.1)
        x += width[i] + 1.0
    axes.text(
        11.4,
        0.6,
        "Nothing after the plan checks an argument or looks at a shape; nothing before it "
        "touches an element.",
        color=LINE,
        fontsize=9,
    )
    axes.texts[-1].set_ha("center")
    target = pathlib.Path(__file__).with_suffix(".svg")
    figure.savefig(
        target, bbox_inches="tight", pad_inches=0.05, facecolor="white", metadata={"Date": None}
    )


if __name__ == "__main__":
    main()
