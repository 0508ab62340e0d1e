"""Draws a result: plot.py RESULT FOLDER. Colours are Okabe and Ito's, readable without colour vision."""

import pathlib
import sys

import matplotlib as mpl
import result as results

mpl.use("Agg")
import matplotlib.pyplot as plt

BLUE, ORANGE, GREEN, RED, SKY, PURPLE, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#888888",
)
STYLE = {
    "mseloss": (BLUE, "o", "-"),
    "mseloss, 1 thread": (SKY, "v", ":"),
    "ceiling": ("black", "", "--"),
    "OpenMP loop": (ORANGE, "s", "-"),
    "PyTorch out=": (RED, "D", "-"),
    "PyTorch": (ORANGE, "s", "-"),
    "torch.compile": (PURPLE, "^", "-"),
    "JAX value_and_grad": (GREEN, "D", "-"),
    "JAX jit": (GREEN, "D", "-"),
    "NumPy out=": (PURPLE, "^", "-"),
    "NumPy": (GREY, "x", "-"),
}
NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64"}


def setup() -> None:
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    mpl.rcParams.update({"axes.grid": True, "grid.color": "#dddddd", "axes.axisbelow": True})
    mpl.rcParams.update({"legend.frameon": False, "savefig.dpi": 130, "lines.markersize": 4})


def finish(figure, result: dict, path: pathlib.Path) -> None:
    machine = result["machine"]
    note = f"{machine['cpu']}, {machine['threads']} threads; median of interleaved repetitions"
    figure.supxlabel(note, x=0.01, ha="left", color=GREY, fontsize=7)
    figure.savefig(path)
    plt.close(figure)


def of(result: dict, group: str) -> list[dict]:
    return [c for c in result["cases"] if c["group"] == group and "seconds" in c]


def memory_bound(case: dict) -> bool:
    """Sums in the caches are bound by arithmetic, and exact sums by more of it."""
    return "exact" not in case["id"] and (
        case["id"].startswith("grad/") or case["id"].endswith("/mem")
    )


def line(axis, x: list[float], rows: list[dict], name: str, scale) -> None:
    points = [
        (a, r["seconds"][name], r) for a, r in zip(x, rows, strict=True) if name in r["seconds"]
    ]
    if not points:
        return
    colour, marker, dash = STYLE[name]
    x = [a for a, _, _ in points]
    axis.plot(
        x,
        [scale(r, t["median"]) for _, t, r in points],
        dash,
        color=colour,
        marker=marker,
        label=name,
    )
    ends = [[scale(r, t[q]) for _, t, r in points] for q in ("q1", "q3")]
    axis.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)


def speed(result: dict, path: pathlib.Path) -> None:
    rows = of(result, "curve")
    if not rows:
        return
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.3), sharey=True, layout="constrained")
    for axis, dtype in zip(axes, NAMES, strict=True):
        own = sorted((r for r in rows if r["dtype"] == dtype), key=lambda r: r["n"])
        size = [r["bytes"] / 4 for r in own]

        def gigabytes(row, seconds):
            return row["bytes"] / seconds * 1e-9

        ceilings = [(s, gigabytes(r, results.ceiling(r))) for s, r in zip(size, own, strict=True)]
        axis.plot(
            *zip(*ceilings, strict=True), "--", color="black", label="ceiling: plain streaming loop"
        )
        for name in ("mseloss", "mseloss, 1 thread", "OpenMP loop"):
            line(axis, size, own, name, gigabytes)
        axis.set(xscale="log", yscale="log", title=NAMES[dtype], xlabel="bytes a tensor")
        axis.set_xticks([2**10, 2**14, 2**18, 2**22, 2**26], ["1K", "16K", "256K", "4M", "64M"])
        axis.minorticks_off()
    axes[0].set_ylabel("GB/s moved, gradient of dense tensors")
    axes[0].legend(loc="lower right")
    finish(figure, result, path)


def ratios(result: dict, path: pathlib.Path) -> None:
    """One row a group and dtype, one dot a case."""
    groups = ["dense", "misaligned", "broadcast", "transposed", "permuted", "strided", "random"]
    groups = [g for g in groups if of(result, g)]
    figure, axis = plt.subplots(figsize=(8, 0.75 * len(groups) + 1), layout="constrained")
    colours = dict(zip(NAMES, (BLUE, ORANGE, GREEN, PURPLE), strict=True))
    markers = dict(zip(NAMES, "osD^", strict=True))
    for i, group in enumerate(groups):
        for k, dtype in enumerate(NAMES):
            values = [
                results.ratio(c)
                for c in of(result, group)
                if c["dtype"] == dtype and memory_bound(c) and results.ratio(c) is not None
            ]
            y = [i + 0.17 * (k - 1.5)] * len(values)
            label = NAMES[dtype] if i == 0 else None
            axis.plot(
                values,
                y,
                markers[dtype],
                color=colours[dtype],
                alpha=0.6,
                label=label,
                markersize=3.5,
            )
    axis.axvline(1, color="black", linestyle="--", linewidth=1)
    axis.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
    axis.set_yticks(range(len(groups)), groups)
    axis.invert_yaxis()
    axis.set(
        xlim=(0, 1.6),
        xlabel="speed against the ceiling (dashed) of a plain streaming loop over the same bytes",
    )
    axis.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
    finish(figure, result, path)


def bars(axis, labels: list[str], rows: list[dict], names: list[str], scale: float) -> None:
    names = [n for n in names if any(n in r["seconds"] for r in rows)]
    width = 0.8 / len(names)
    for k, name in enumerate(names):
        at = [i + (k - (len(names) - 1) / 2) * width for i in range(len(rows))]
        times = [r["seconds"].get(name, {}) for r in rows]
        low = [(t.get("median", 0) - t.get("q1", 0)) * scale for t in times]
        high = [(t.get("q3", 0) - t.get("median", 0)) * scale for t in times]
        heights = [t.get("median", 0) * scale for t in times]
        axis.bar(
            at,
            heights,
            width * 0.92,
            color=STYLE[name][0],
            label=name,
            yerr=[low, high],
            ecolor="#444444",
        )
    axis.set_xticks(range(len(rows)), labels)
    axis.grid(visible=False, axis="x")


def layouts(result: dict, path: pathlib.Path) -> None:
    wanted = {
        "square": "dense",
        "target_row": "target (1, n)",
        "target_column": "target (n, 1)",
        "target_transposed": "target transposed",
        "target_nhwc": "target NHWC",
    }
    figure, axes = plt.subplots(1, 2, figsize=(12, 3.5), layout="constrained")
    for axis, dtype in zip(axes, ("f32", "f16"), strict=True):
        rows = [
            c
            for w in wanted
            for c in of(result, "peers")
            if c["id"].startswith(f"grad/{dtype}/{w}/") and c["group"] == "peers"
        ]
        if not rows:
            continue
        labels = [wanted[r["id"].split("/")[2]] for r in rows]
        bars(axis, labels, rows, ["mseloss", "PyTorch out=", "PyTorch", "NumPy out="], 1e3)
        axis.set(
            title=f"gradient, {NAMES[dtype]}, 4096 x 4096 (NHWC: 32 x 64 x 56 x 56)",
            ylabel="milliseconds",
        )
        axis.legend()
    finish(figure, result, path)


def steps(result: dict, path: pathlib.Path) -> None:
    rows = [c for c in of(result, "peers") if c["id"].startswith("step/f32/")]
    rows.sort(key=lambda r: r["n"])
    if len(rows) < 4:
        return
    figure, axis = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
    for name in ("mseloss", "PyTorch", "torch.compile", "JAX value_and_grad"):
        line(axis, [r["n"] for r in rows], rows, name, lambda _, seconds: seconds * 1e6)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="elements, float32",
        ylabel="microseconds a training step",
    )
    axis.legend()
    finish(figure, result, path)


def stores(result: dict, path: pathlib.Path) -> None:
    rows = of(result, "store")
    if not rows:
        return
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for axis, name, title in zip(
        axes, ("mseloss", "mseloss, then read"), ("written", "written, then read once"), strict=True
    ):
        for kind, colour, marker in (("cached", BLUE, "o"), ("non_temporal", RED, "D")):
            own = sorted((r for r in rows if f"store_{kind}/" in r["id"]), key=lambda r: r["n"])
            mib = [r["n"] * 4 / 2**20 for r in own]
            per = [r["seconds"][name]["median"] / r["n"] * 1e9 for r in own]
            axis.plot(mib, per, marker=marker, color=colour, label=f"{kind} stores")
        axis.set(xscale="log", title=f"gradient {title}", xlabel="MiB of output")
        axis.set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
        axis.minorticks_off()
    axes[0].set_ylabel("nanoseconds an element")
    axes[0].set_ylim(bottom=0)
    axes[0].legend()
    finish(figure, result, path)


def random(result: dict, path: pathlib.Path) -> None:
    rows = of(result, "random")
    if not rows:
        return
    figure, axis = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
    ours = sorted(results.ratio(r) for r in rows)
    loop = sorted(
        results.ceiling(r) / r["seconds"]["OpenMP loop"]["median"]
        for r in rows
        if "OpenMP loop" in r["seconds"]
    )
    axis.plot(ours, color=BLUE, label="mseloss")
    if loop:
        axis.plot(loop, color=ORANGE, linestyle="-.", label="OpenMP loop")
    axis.axhline(1, color="black", linestyle="--", linewidth=1, label="the bytes' ceiling")
    axis.set(
        xlabel=f"{len(rows)} random layouts, each curve sorted", ylabel="speed against the ceiling"
    )
    axis.set_yscale("log")
    axis.set_yticks([0.01, 0.03, 0.1, 0.3, 1], ["0.01", "0.03", "0.1", "0.3", "1"])
    axis.legend()
    finish(figure, result, path)


def main() -> None:
    result, folder = results.load(sys.argv[1]), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    setup()
    for draw in (speed, ratios, layouts, steps, stores, random):
        draw(result, folder / f"perf_{draw.__name__}.png")


if __name__ == "__main__":
    main()
