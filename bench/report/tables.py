"""The documentation's tables, as Markdown, from one result. Every number comes from the result file."""

import json
import pathlib
from collections.abc import Callable, Iterable

import goals
import result as results

NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64"}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def find(result: dict, case_id: str, group: str | None = None) -> dict | None:
    for case in result["cases"]:
        if case["id"] == case_id and "seconds" in case and group in (None, case["group"]):
            return case
    return None


def of(result: dict, group: str) -> list[dict]:
    return [c for c in result["cases"] if c["group"] == group and "seconds" in c]


def median(case: dict | None, name: str = "mseloss") -> float | None:
    return None if case is None or name not in case["seconds"] else case["seconds"][name]["median"]


def time_of(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def ratio_of(case: dict | None, spread: bool = False) -> str:
    """Speed against the ceiling; with its quartiles where asked."""
    if case is None or results.ratio(case) is None:
        return ""
    text = f"{results.ratio(case):.2f}"
    if spread:
        best, ours = results.ceiling(case), case["seconds"]["mseloss"]
        text += f" ({best / ours['q3']:.2f} to {best / ours['q1']:.2f})"
    return text


def times_faster(case: dict | None, peer: str) -> str:
    ours, theirs = median(case), median(case, peer)
    return "" if ours is None or theirs is None else f"{theirs / ours:.1f}x"


def machine(result: dict) -> str:
    m, v = result["machine"], result["versions"]
    versions = ", ".join(f"{name} {version}" for name, version in v.items())
    return (
        f"{m['cpu']}, {m['threads']} threads, not pinned; L1d {m['l1d']}, L2 {m['l2']}, L3 {m['l3']};"
        f" Linux {m['kernel']}.\nVersions: {versions}; commit {result['commit'][:10]}.\n"
        f"Run: {result['start']} to {result['end']} (load average of one minute)."
    )


def dense(result: dict) -> str:
    rows = []
    kinds = {
        "grad/{}/dense/{}": "gradient",
        "grad/{}/dense_scalar_grad/{}": "gradient, scalar grad",
        "loss/{}/mean/{}": "mean loss",
        "fused/{}/mean/{}": "loss and gradient",
        "loss/{}/mean_exact/{}": "mean loss, exact sweep forced",
    }
    for pattern, label in kinds.items():
        for dtype, name in NAMES.items():
            cases = [
                find(result, pattern.format(dtype, size), "dense") for size in ("L2", "L3", "mem")
            ]
            if any(cases):
                gbs = (
                    "" if cases[2] is None else f"{cases[2]['bytes'] / median(cases[2]) * 1e-9:.1f}"
                )
                rows.append([f"{label}, {name}", *(ratio_of(c, spread=True) for c in cases), gbs])
    return table(["", "L2", "L3", "memory", "GB/s there"], rows)


def scaling(result: dict) -> str:
    rows = []
    for dtype, name in NAMES.items():
        cells = []
        for size in ("L2", "L3", "mem"):
            case = find(result, f"grad/{dtype}/dense/{size}", "dense")
            one, two = median(case, "mseloss, 1 thread"), median(case)
            cells.append("" if one is None else f"{one / two:.2f}")
        rows.append([name, *cells])
    return table(["two threads against one, gradient", "L2", "L3", "memory"], rows)


def group_table(group: str) -> Callable[[dict], str]:
    def make(result: dict) -> str:
        rows = []
        for case in of(result, group):
            loop = times_faster(case, "OpenMP loop")
            ours = median(case)
            rows.append([f"`{case['id']}`", time_of(ours), ratio_of(case, spread=True), loop])
        return table(["case", "median", "of the ceiling", "OpenMP loop takes"], rows)

    return make


def misaligned(result: dict) -> str:
    rows = []
    kinds = ("input_off_by_one", "out_off_by_one", "all_off_by_one", "odd_size")
    for dtype, name in NAMES.items():
        for size in ("L2", "64MiB"):
            aligned = find(result, f"grad/{dtype}/aligned/{size}", "misaligned")
            if aligned is None:
                continue
            cells = []
            for kind in kinds:
                case = find(result, f"grad/{dtype}/{kind}/{size}", "misaligned")
                cells.append("" if case is None else f"{median(aligned) / median(case):.2f}")
            rows.append([f"{name}, {size}", *cells])
    return table(["speed against aligned", "input", "output", "all", "odd size"], rows)


def random(result: dict) -> str:
    cases = sorted(of(result, "random"), key=results.ratio)
    if not cases:
        return ""
    values = [results.ratio(c) for c in cases]
    tenth, middle = values[len(values) // 10], values[len(values) // 2]
    below = sum(v < 0.5 for v in values)
    text = (
        f"{len(cases)} layouts: median {middle:.2f} of the bytes' ceiling, a tenth below {tenth:.2f}, "
        f"{below} below 0.5. The worst ten:\n\n"
    )
    rows = []
    for case in cases[:10]:
        views = "; ".join(
            f"{name} {case[key]}"
            for key, name in (("grad_output", "g"), ("input", "x"), ("target", "y"))
        )
        rows.append([f"`{case['id']}`", ratio_of(case), f"{views}; out {case['grad_input']}"])
    return text + table(["case", "of the ceiling", "shapes and strides"], rows)


def tiny(result: dict) -> str:
    rows = []
    for case in of(result, "tiny"):
        rows.append(
            [f"`{case['id']}`", time_of(median(case)), time_of(case["seconds"]["mseloss"]["q3"])]
        )
    return table(["case", "median", "upper quartile"], rows)


def stores(result: dict) -> str:
    rows = []
    for mib in (1 << k for k in range(9)):
        cells = []
        for name in ("mseloss", "mseloss, then read"):
            for kind in ("cached", "non_temporal"):
                case = find(result, f"grad/f32/store_{kind}/{mib}MiB", "store")
                cells.append(time_of(median(case, name)))
        rows.append([f"{mib} MiB", *cells])
    head = ["output", "cached", "streaming", "cached, then read", "streaming, then read"]
    return table(head, rows)


def targets(result: dict) -> str:
    names = list(dict.fromkeys(c["target"] for c in of(result, "targets")))
    kinds = list(dict.fromkeys(c["id"].rsplit("/", 1)[0] for c in of(result, "targets")))
    rows = []
    for kind in kinds:
        rows.append(
            [f"`{kind}`", *(ratio_of(find(result, f"{kind}/{name}", "targets")) for name in names)]
        )
    return table(["of each target's own ceiling", *names], rows)


def peers(result: dict) -> str:
    names = [
        "PyTorch out=",
        "PyTorch",
        "torch.compile",
        "NumPy out=",
        "NumPy",
        "JAX jit",
        "JAX value_and_grad",
    ]
    rows = []
    for case in of(result, "peers"):
        rows.append(
            [
                f"`{case['id']}`",
                time_of(median(case)),
                *(times_faster(case, name) for name in names),
            ]
        )
    return table(["case", "mseloss", *names], rows)


def fork_join(result: dict) -> str:
    pools = result.get("fork_join_us", {})
    if not pools:
        return ""
    what = list(dict.fromkeys(key for pool in pools.values() for key in pool))
    rows = [
        [key, *(f"{pools[p][key]:g}" if key in pools[p] else "" for p in ("tbb", "openmp"))]
        for key in what
    ]
    return table(["microseconds, median", "oneTBB", "OpenMP"], rows)


def instructions(_: dict) -> str:
    path = pathlib.Path(__file__).resolve().parents[1] / "instructions" / "budget.json"
    budget = json.loads(path.read_text())
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
    "misaligned": misaligned,
    "random": random,
    "tiny": tiny,
    "stores": stores,
    "targets": targets,
    "peers": peers,
    "fork_join": fork_join,
}
