"""Draws the plots of a result: plots.py RESULT FOLDER. Colours: Okabe and Ito's colour-blind safe palette."""

import pathlib
import sys
from collections.abc import Callable

import matplotlib as mpl
from result_file import NAMES, cases, ceiling, load, median, ratio

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#888888"
STYLE = {
    "mseloss": (BLUE, "o", "-"),
    "mseloss, 1 thread": (SKY, "v", ":"),
    "OpenMP loop": (ORANGE, "s", "-"),
    "PyTorch out=": (RED, "D", "-"),
    "PyTorch": (ORANGE, "s", "-"),
    "torch.compile": (PURPLE, "^", "-"),
    "JAX value_and_grad": (GREEN, "D", "-"),
    "NumPy out=": (PURPLE, "^", "-"),
}
CEILING = {"color": "black", "linestyle": "--", "linewidth": 1, "label": "bandwidth ceiling"}
FRACTION = "speed as a fraction of the bandwidth ceiling"


def setup() -> None:
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    mpl.rcParams.update({"axes.grid": True, "grid.color": "#dddddd", "axes.axisbelow": True})
    mpl.rcParams.update({"legend.frameon": False, "savefig.dpi": 130, "lines.markersize": 4})


def line(axis, x: list[float], rows: list[dict], name: str, scale: Callable) -> None:
    """Medians of a contender as a line, its quartiles as a band; scale(case, seconds) gives the value."""
    timed = [
        (a, r, r["seconds"][name]) for a, r in zip(x, rows, strict=True) if name in r["seconds"]
    ]
    colour, marker, dash = STYLE[name]
    own_x = [a for a, _, _ in timed]
    middle, low, high = ([scale(r, t[q]) for _, r, t in timed] for q in ("median", "q1", "q3"))
    axis.plot(own_x, middle, dash, color=colour, marker=marker, label=name)
    axis.fill_between(own_x, low, high, color=colour, alpha=0.15, linewidth=0)


def speed(result: dict) -> Figure:
    def gigabytes(case: dict, seconds: float) -> float:
        return case["bytes"] / seconds * 1e-9

    figure, axes = plt.subplots(1, 4, figsize=(12, 3.3), sharey=True, layout="constrained")
    for axis, (dtype, name) in zip(axes, NAMES.items(), strict=True):
        rows = sorted(cases(result, "curve", f"/{dtype}/"), key=lambda r: r["n"])
        size = [r["bytes"] / 4 for r in rows]
        axis.plot(size, [gigabytes(r, ceiling(r)) for r in rows], **CEILING)
        for contender in ("mseloss", "mseloss, 1 thread", "OpenMP loop"):
            line(axis, size, rows, contender, gigabytes)
        axis.set(xscale="log", yscale="log", title=name, xlabel="bytes per tensor")
        axis.set_xticks(
            [2**10, 2**14, 2**18, 2**22, 2**26], ["1 K", "16 K", "256 K", "4 M", "64 M"]
        )
        axis.set_yticks([1, 10, 100], ["1", "10", "100"])
        axis.minorticks_off()
    axes[0].set_ylabel("gradient of dense tensors, GB/s")
    axes[0].legend(loc="lower right")
    return figure


def ratios(result: dict) -> Figure:
    """One row per group and dtype, one dot per case."""
    labels = {"misaligned": "misaligned,\nodd sizes", "random": "random\nlayouts"}
    groups = ["dense", "misaligned", "broadcast", "transposed", "permuted", "strided", "random"]

    def memory_bound(
        case: dict,
    ) -> bool:  # sums in the caches and exact sums are bound by arithmetic
        case_id = case["id"]
        return "exact" not in case_id and (case_id.startswith("grad/") or case_id.endswith("/mem"))

    figure, axis = plt.subplots(figsize=(8, 6.2), layout="constrained")
    styles = zip(NAMES.items(), (BLUE, ORANGE, GREEN, PURPLE), "osD^", strict=True)
    for k, ((dtype, name), colour, marker) in enumerate(styles):
        points = [
            (ratio(case), i + 0.17 * (k - 1.5))
            for i, group in enumerate(groups)
            for case in cases(result, group, f"/{dtype}/")
            if memory_bound(case)
        ]
        style = {"color": colour, "alpha": 0.6, "markersize": 3.5}
        axis.plot(*zip(*points, strict=True), marker, label=name, **style)
    axis.axvline(1, **CEILING)
    axis.set_yticks(range(len(groups)), [labels.get(group, group) for group in groups])
    axis.invert_yaxis()
    axis.set(xlim=(0, None), xlabel=f"{FRACTION}, one marker per case")
    axis.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def bars(axis, labels: list[str], rows: list[dict], names: list[str]) -> None:
    names = [n for n in names if any(n in r["seconds"] for r in rows)]
    width = 0.8 / len(names)
    for k, name in enumerate(names):
        timed = [(i, r["seconds"][name]) for i, r in enumerate(rows) if name in r["seconds"]]
        at = [i + (k - (len(names) - 1) / 2) * width for i, _ in timed]
        height, low, high = ([t[q] * 1e3 for _, t in timed] for q in ("median", "q1", "q3"))
        spread = [
            [h - a for h, a in zip(height, low, strict=True)],
            [b - h for h, b in zip(height, high, strict=True)],
        ]
        style = {"color": STYLE[name][0], "ecolor": "#444444", "label": name}
        axis.bar(at, height, width * 0.92, yerr=spread, **style)
    axis.set_xticks(range(len(rows)), labels)
    axis.grid(visible=False, axis="x")


def layouts(result: dict) -> Figure:
    wanted = {
        "square": "dense",
        "target_row": "target (1, n)",
        "target_column": "target (n, 1)",
        "target_transposed": "target transposed",
        "target_nhwc": "target NHWC",
    }
    figure, axes = plt.subplots(1, 2, figsize=(12, 3.5), layout="constrained")
    for axis, dtype in zip(axes, ("f32", "f16"), strict=True):
        rows = [c for kind in wanted for c in cases(result, "peers", f"grad/{dtype}/{kind}/")]
        labels = [wanted[r["id"].split("/")[2]] for r in rows]
        bars(axis, labels, rows, ["mseloss", "PyTorch out=", "PyTorch", "NumPy out="])
        title = f"gradient, {NAMES[dtype]}, 4096 x 4096 (NHWC: 32 x 64 x 56 x 56)"
        axis.set(title=title, ylabel="milliseconds")
        axis.legend()
    return figure


def steps(result: dict) -> Figure:
    rows = sorted(cases(result, "peers", "step/f32/"), key=lambda r: r["n"])
    figure, axis = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
    for name in ("mseloss", "PyTorch", "torch.compile", "JAX value_and_grad"):
        line(axis, [r["n"] for r in rows], rows, name, lambda _, seconds: seconds * 1e6)
    axis.set(xscale="log", yscale="log", xlabel="elements, float32")
    axis.set_ylabel("time of a training step, microseconds")
    axis.legend()
    return figure


def stores(result: dict) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    titles = {
        "mseloss": "gradient written",
        "mseloss, then read": "gradient written, then read once",
    }
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        for kind, colour, marker in (("cached", BLUE, "o"), ("non_temporal", RED, "D")):
            rows = sorted(cases(result, "store", f"store_{kind}/"), key=lambda r: r["n"])
            mib = [r["n"] * 4 / 2**20 for r in rows]
            times = [median(r, name) / r["n"] * 1e9 for r in rows]
            label = f"{kind.replace('_', '-')} stores"
            axis.plot(mib, times, marker=marker, color=colour, label=label)
        axis.set(xscale="log", title=title, xlabel="output, MiB")
        axis.set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
        axis.minorticks_off()
    axes[0].set(ylabel="time per element, nanoseconds", ylim=(0, None))
    axes[0].legend()
    return figure


def random(result: dict) -> Figure:
    rows = cases(result, "random")
    figure, axis = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
    for name, dash in (("mseloss", "-"), ("OpenMP loop", "-.")):
        values = sorted(ceiling(r) / median(r, name) for r in rows if name in r["seconds"])
        axis.plot(values, dash, color=STYLE[name][0], label=name)
    axis.axhline(1, **CEILING)
    axis.set(xlabel=f"{len(rows)} random layouts, sorted for each curve", ylabel=FRACTION)
    axis.set_yscale("log")
    axis.set_yticks([0.01, 0.03, 0.1, 0.3, 1], ["0.01", "0.03", "0.1", "0.3", "1"])
    axis.legend()
    return figure


# Each plot and the group of cases without which it is left out.
PLOTS = {
    speed: "curve",
    ratios: "random",
    layouts: "peers",
    steps: "peers",
    stores: "store",
    random: "random",
}


def main() -> None:
    result, folder = load(sys.argv[1]), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    setup()
    machine = result["machine"]
    note = f"{machine['cpu']}, {machine['threads']} threads; medians of interleaved repetitions"
    for draw, group in PLOTS.items():
        if cases(result, group):
            figure = draw(result)
            quartiles = (
                "; bands and error bars: quartiles" if draw in (speed, layouts, steps) else ""
            )
            figure.supxlabel(note + quartiles, x=0.01, ha="left", color=GREY, fontsize=7)
            figure.savefig(folder / f"perf_{draw.__name__}.png")
            plt.close(figure)


if __name__ == "__main__":
    main()
