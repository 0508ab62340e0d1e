"""The tables of the documentation. All numbers come from a result file or the instruction budget."""

import json
import pathlib
from collections.abc import Callable, Iterable

import goals
from result_file import NAMES, cases, ceiling, find, median, ratio, slowdown

BUDGET = pathlib.Path(__file__).resolve().parents[1] / "instructions" / "budget.json"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def time_text(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def ratio_text(case: dict | None, spread: bool = False) -> str:
    """Fraction of the ceiling, optionally with quartiles."""
    if ratio(case) is None:
        return ""
    text = f"{ratio(case):.2f}"
    if spread:
        best, ours = ceiling(case), case["seconds"]["mseloss"]
        text += f" ({best / ours['q3']:.2f} to {best / ours['q1']:.2f})"
    return text


def slowdown_text(case: dict | None, name: str) -> str:
    value = slowdown(case, name)
    return "" if value is None else f"{value:.1f}x"


def machine(result: dict) -> str:
    m, v = result["machine"], result["versions"]
    versions = ", ".join(f"{name} {version}" for name, version in v.items())
    return (
        f"{m['cpu']}, {m['threads']} threads, not pinned; L1d {m['l1d']}, L2 {m['l2']}, L3 {m['l3']};"
        f" Linux {m['kernel']}.\nVersions: {versions}; commit {result['commit'][:10]}.\n"
        f"Run: {result['start']}, to {result['end']} (one-minute load averages)."
    )


def dense(result: dict) -> str:
    rows = []
    kinds = {
        "grad/{}/dense/{}": "gradient",
        "grad/{}/dense_scalar_grad/{}": "gradient, scalar grad_output",
        "loss/{}/mean/{}": "mean loss",
        "fused/{}/mean/{}": "loss and gradient",
        "loss/{}/mean_exact/{}": "mean loss, exact sweep forced",
    }
    for pattern, label in kinds.items():
        for dtype, name in NAMES.items():
            sizes = [find(result, "dense", pattern.format(dtype, s)) for s in ("L2", "L3", "mem")]
            if any(sizes):
                speed = f"{sizes[2]['bytes'] / median(sizes[2]) * 1e-9:.1f}" if sizes[2] else ""
                cells = (ratio_text(case, spread=True) for case in sizes)
                rows.append([f"{label}, {name}", *cells, speed])
    return table(["fraction of the ceiling", "L2", "L3", "memory", "memory, GB/s"], rows)


def scaling(result: dict) -> str:
    rows = []
    for dtype, name in NAMES.items():
        sizes = [find(result, "dense", f"grad/{dtype}/dense/{s}") for s in ("L2", "L3", "mem")]
        values = [slowdown(case, "mseloss, 1 thread") for case in sizes]
        rows.append([name, *("" if value is None else f"{value:.2f}" for value in values)])
    return table(["gradient, speed-up over one thread", "L2", "L3", "memory"], rows)


def group_table(group: str, *, loop: bool = True) -> Callable[[dict], str]:
    def make(result: dict) -> str:
        rows = [
            [
                f"`{case['id']}`",
                time_text(median(case)),
                ratio_text(case, spread=True),
                *([slowdown_text(case, "OpenMP loop")] if loop else []),
            ]
            for case in cases(result, group)
        ]
        head = ["case", "median", "fraction of the ceiling", *(["OpenMP loop"] if loop else [])]
        return table(head, rows)

    return make


def misaligned(result: dict) -> str:
    rows = []
    kinds = ("input_off_by_one", "out_off_by_one", "all_off_by_one", "odd_size")
    for dtype, name in NAMES.items():
        for size in ("L2", "64MiB"):
            aligned, *others = (
                median(find(result, "misaligned", f"grad/{dtype}/{kind}/{size}"))
                for kind in ("aligned", *kinds)
            )
            if aligned is not None:
                cells = ("" if t is None else f"{aligned / t:.2f}" for t in others)
                rows.append([f"{name}, {size}", *cells])
    return table(["speed relative to aligned", "input", "output", "all", "odd size"], rows)


def random(result: dict) -> str:
    layouts = sorted(cases(result, "random"), key=ratio)
    if not layouts:
        return ""
    ratios = [ratio(case) for case in layouts]
    text = (
        f"{len(ratios)} layouts: median {ratios[len(ratios) // 2]:.2f} of the ceiling, 10th percentile "
        f"{ratios[len(ratios) // 10]:.2f}; {sum(r < 0.5 for r in ratios)} are below 0.5. The ten lowest:\n\n"
    )
    operands = {"g": "grad_output", "x": "input", "y": "target", "out": "grad_input"}
    rows = []
    for case in layouts[:10]:
        views = "; ".join(f"{short} {case[name]}" for short, name in operands.items())
        rows.append([f"`{case['id']}`", ratio_text(case), views])
    head = ["case", "fraction of the ceiling"]
    return text + table([*head, "shape by strides of grad_output, input, target, output"], rows)


def tiny(result: dict) -> str:
    rows = []
    for case in cases(result, "tiny"):
        times = case["seconds"]["mseloss"]
        rows.append([f"`{case['id']}`", time_text(times["median"]), time_text(times["q3"])])
    return table(["case", "median", "upper quartile"], rows)


def stores(result: dict) -> str:
    rows = []
    for mib in (1 << k for k in range(9)):
        kinds = [
            find(result, "store", f"grad/f32/store_{kind}/{mib}MiB")
            for kind in ("cached", "non_temporal")
        ]
        contenders = ("mseloss", "mseloss, then read")
        cells = (time_text(median(case, name)) for name in contenders for case in kinds)
        rows.append([f"{mib} MiB", *cells])
    head = ["output", "cached", "non-temporal", "cached, then read", "non-temporal, then read"]
    return table(head, rows)


def targets(result: dict) -> str:
    by_kind: dict[str, dict[str, str]] = {}
    for case in cases(result, "targets"):
        kind, target = case["id"].rsplit("/", 1)
        by_kind.setdefault(kind, {})[target] = ratio_text(case)
    names = list(dict.fromkeys(target for row in by_kind.values() for target in row))
    rows = [[f"`{kind}`", *(row.get(name, "") for name in names)] for kind, row in by_kind.items()]
    return table(["fraction of the target's own ceiling", *names], rows)


def peers(result: dict) -> str:
    names = ["PyTorch out=", "PyTorch", "torch.compile"]
    names += ["NumPy out=", "NumPy", "JAX jit", "JAX value_and_grad"]
    rows = [
        [f"`{c['id']}`", time_text(median(c)), *(slowdown_text(c, name) for name in names)]
        for c in cases(result, "peers")
    ]
    return table(["case", "mseloss", *names], rows)


def fork_join(result: dict) -> str:
    pools = result.get("fork_join_us", {})
    if not pools:
        return ""
    jobs = list(dict.fromkeys(job for pool in pools.values() for job in pool))
    rows = [
        [job, *(f"{pools[p][job]:g}" if job in pools[p] else "" for p in ("tbb", "openmp"))]
        for job in jobs
    ]
    return table(["median, microseconds", "oneTBB", "OpenMP"], rows)


def instructions(_: dict) -> str:
    budget = json.loads(BUDGET.read_text())
    return table(["call", "instructions"], [[k, str(v)] for k, v in budget["instructions"].items()])


TABLES = {
    "instructions": instructions,
    "goals": lambda result: table(goals.HEAD, goals.rows(result)),
    "machine": machine,
    "dense": dense,
    "scaling": scaling,
    "broadcast": group_table("broadcast"),
    "transposed": group_table("transposed"),
    "permuted": group_table("permuted"),
    "strided": group_table("strided"),
    "weighted": group_table("weighted", loop=False),
    "axis": group_table("axis", loop=False),
    "misaligned": misaligned,
    "random": random,
    "tiny": tiny,
    "stores": stores,
    "targets": targets,
    "peers": peers,
    "fork_join": fork_join,
}
