"""The project's performance goals, and how a result meets them: goals.py RESULT."""

import statistics
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

from result_file import cases, find, load, median, ratio

Values = list[tuple[str, float]]  # identifier of a case, value
HALVES = ("f16", "bf16")
ALL = ("f32", "f16", "bf16", "f64")
ONE_TRANSPOSED = ("target_transposed", "input_transposed", "out_transposed")


class Goal(NamedTuple):
    what: str
    goal: float
    unit: str
    values: Callable[[dict], Values]
    at_most: bool = False  # otherwise at least


def values(group: Iterable[dict], number: Callable[[dict], float | None]) -> Values:
    pairs = ((c["id"], number(c)) for c in group)
    return [(case_id, value) for case_id, value in pairs if value is not None]


def speedups(group: Iterable[dict], name: str, ours: str = "mseloss") -> Values:
    """Time of a contender as a multiple of `ours`."""
    both = (c for c in group if name in c["seconds"] and ours in c["seconds"])
    return [(c["id"], median(c, name) / median(c, ours)) for c in both]


def listed(result: dict, group: str, case_ids: Iterable[str]) -> list[dict]:
    found = (find(result, group, case_id) for case_id in case_ids)
    return [case for case in found if case is not None]


def dense(result: dict, op: str, size: str, dtypes: Iterable[str] = ALL) -> list[dict]:
    kinds = {"grad": ("dense", "dense_scalar_grad"), "loss": ("mean",), "fused": ("mean",)}[op]
    return listed(result, "dense", (f"{op}/{d}/{k}/{size}" for d in dtypes for k in kinds))


def relative(
    result: dict, group: str, dtypes: Iterable[str], kinds: Iterable[str], base: str, size: str
) -> Values:
    """Speed relative to the layout `base`. Both are ratios to their own ceilings: the cases are measured
    seconds apart, and memory speed changes meanwhile."""
    found = []
    for dtype in dtypes:
        unit = ratio(find(result, group, f"grad/{dtype}/{base}/{size}"))
        if unit is not None:
            own = listed(result, group, (f"grad/{dtype}/{kind}/{size}" for kind in kinds))
            found += [(case_id, value / unit) for case_id, value in values(own, ratio)]
    return found


def transposed(result: dict, dtypes: Iterable[str], kinds: Iterable[str]) -> Values:
    return relative(result, "transposed", dtypes, kinds, "square", "4096x4096")


def misaligned(result: dict) -> Values:
    kinds = ("input_off_by_one", "out_off_by_one", "all_off_by_one", "odd_size")
    sizes = [relative(result, "misaligned", ALL, kinds, "aligned", s) for s in ("L2", "64MiB")]
    return sizes[0] + sizes[1]


def plain_sum(case: dict) -> float | None:
    times = [t["median"] for name, t in case["seconds"].items() if name.startswith("plain sum")]
    return min(times) / median(case) if times else None


def exact_sweep(result: dict) -> Values:
    def speed(case: dict) -> float:
        return median(find(result, "dense", case["id"].replace("_exact", ""))) / median(case)

    return values(cases(result, "dense", "/mean_exact/mem"), speed)


def steps(result: dict, least: int = 1, most: int = 1 << 26) -> list[dict]:
    return [c for c in cases(result, "peers", "step/") if least <= c["n"] <= most]


def memory(result: dict, dtypes: Iterable[str] = ALL) -> list[dict]:
    return listed(result, "peers", (f"grad/{d}/dense/mem" for d in dtypes))


def layouts(result: dict) -> list[dict]:
    kinds = [f"{d}/target_{k}" for d in ("f32", "f16") for k in ("row", "transposed")]
    return listed(result, "peers", (f"grad/{kind}/4096x4096" for kind in kinds))


def named(result: dict, group: str, *parts: str) -> Values:
    """Fractions of the ceiling of the cases whose identifiers contain one of `parts`."""
    chosen = [c for c in cases(result, group) if any(part in c["id"] for part in parts)]
    return values(chosen, ratio)


def python_overhead(result: dict) -> Values:
    core = median(find(result, "tiny", "grad/f32/tiny/16"))
    python = find(result, "peers", "grad/f32/tiny/16")
    if core is None or python is None:
        return []
    return [(python["id"], (median(python, "mseloss, NumPy arrays, out=") - core) * 1e6)]


def nanoseconds(case: dict) -> float:
    return median(case) * 1e9


CEILING = "of the ceiling"
ONE = "mseloss, 1 thread"
JAX = ("JAX value_and_grad", "mseloss, JAX")
NUMPY = ("NumPy out=", "mseloss, NumPy arrays, out=")

# fmt: off
GOALS = [
    Goal("gradient, dense, memory", 0.95, CEILING, lambda r: values(dense(r, "grad", "mem"), ratio)),
    Goal("gradient, dense, L2", 0.9, CEILING, lambda r: values(dense(r, "grad", "L2"), ratio)),
    Goal("gradient, dense, L3", 0.9, CEILING, lambda r: values(dense(r, "grad", "L3"), ratio)),
    Goal("all threads, L3", 1.8, "x one thread", lambda r: speedups(dense(r, "grad", "L3"), ONE)),
    Goal("all threads, every size", 0.95, "x one thread", lambda r: speedups(cases(r, "curve"), ONE)),
    Goal("broadcast operands", 0.9, CEILING, lambda r: values(cases(r, "broadcast"), ratio)),
    Goal("one operand transposed, float32", 0.65, "x dense",
         lambda r: transposed(r, ("f32",), ONE_TRANSPOSED)),
    Goal("one operand transposed, half types", 0.5, "x dense",
         lambda r: transposed(r, HALVES, ONE_TRANSPOSED)),
    Goal("all operands transposed", 0.95, "x dense", lambda r: transposed(r, ALL, ("all_transposed",))),
    Goal("permuted", 0.5, CEILING, lambda r: values(cases(r, "permuted"), ratio)),
    Goal("strided", 0.5, CEILING, lambda r: values(cases(r, "strided"), ratio)),
    Goal("random layouts", 1 / 3, CEILING, lambda r: values(cases(r, "random"), ratio)),
    Goal("misaligned, odd sizes", 0.95, "x aligned", misaligned),
    Goal("gradient, 1 to 64 elements", 150, "ns",
         lambda r: values(cases(r, "tiny", "grad/"), nanoseconds), at_most=True),
    Goal("aclnn, both phases and synchronisation, 16 elements", 400, "ns",
         lambda r: values(cases(r, "tiny", "aclnn/"), nanoseconds), at_most=True),
    Goal("gradient, memory, speed-up over PyTorch `out=`", 1.1, "x",
         lambda r: speedups(memory(r, ("f32", *HALVES)), "PyTorch out=")),
    Goal("gradient, memory, speed-up over PyTorch", 3, "x", lambda r: speedups(memory(r), "PyTorch")),
    Goal("gradient, target transposed or (1, n), speed-up over PyTorch", 8, "x",
         lambda r: speedups(layouts(r), "PyTorch")),
    Goal("mean loss, memory", 0.95, CEILING,
         lambda r: values(dense(r, "loss", "mem", ("f32", *HALVES)), ratio)),
    Goal("mean loss, memory, float64", 0.8, CEILING,
         lambda r: values(dense(r, "loss", "mem", ("f64",)), ratio)),
    Goal("mean loss, L2", 0.8, "of a plain float64 sum",
         lambda r: values(dense(r, "loss", "L2", ("f32", *HALVES)), plain_sum)),
    Goal("loss and gradient, memory", 0.95, CEILING, lambda r: values(dense(r, "fused", "mem"), ratio)),
    Goal("weights, memory; a mean's gradient for one weight a sample, a sum's for all", 0.95, CEILING,
         lambda r: named(r, "weighted", "loss/f32/mean_weight/full", "loss/bf16/mean_weight/full",
                         "sum_weight/full", "weight/sample")),
    Goal("full weights, mean and gradient: the weights are read twice", 0.76, CEILING,
         lambda r: named(r, "weighted", "fused/f32/mean_weight/full", "fused/bf16/mean_weight/full")),
    Goal("mask, memory", 0.9, CEILING, lambda r: named(r, "weighted", "weight/mask")),
    Goal("last axis, rows of 1,024 and more", 0.95, CEILING,
         lambda r: named(r, "axis", "mean_last/16384x1024", "mean_last/32768x1024", "x65536")),
    Goal("last axis, rows of 8 to 256", 0.5, CEILING, lambda r: named(r, "axis", "x8", "x32", "x256")),
    Goal("first axis", 0.9, CEILING, lambda r: named(r, "axis", "mean_first")),
    Goal("training step with weights or a mask, 64 MiB per tensor, speed-up over PyTorch", 8, "x",
         lambda r: speedups(cases(r, "peers", "weighted/"), "PyTorch")),
    Goal("`vmap(grad)` of 4,096 samples of 256, speed-up over PyTorch", 3, "x",
         lambda r: speedups(cases(r, "peers", "vmap_grad/"), "PyTorch")),
    Goal("mean loss, exact sweep", 0.25, "of the fast sweep", exact_sweep),
    Goal("training step, 4 M to 67 M elements, speed-up over PyTorch", 5, "x",
         lambda r: speedups(steps(r, 1 << 22), "PyTorch")),
    Goal("training step, 4 M to 67 M elements, speed-up over torch.compile", 3, "x",
         lambda r: speedups(steps(r, 1 << 22), "torch.compile")),
    Goal("training step, 66 K elements, speed-up over PyTorch", 1.5, "x",
         lambda r: speedups(steps(r, 1 << 16, 1 << 16), "PyTorch")),
    Goal("training step, every size, speed-up over PyTorch", 1, "x",
         lambda r: speedups(steps(r), "PyTorch")),
    Goal("`mseloss.jax` step, 67 M elements, speed-up over JAX", 2, "x",
         lambda r: speedups(steps(r, 1 << 26), *JAX)),
    Goal("gradient, memory, speed-up over NumPy `out=`", 1.5, "x",
         lambda r: speedups(memory(r), *NUMPY)),
    Goal("Python overhead per call, 16 elements", 1, "us", python_overhead, at_most=True),
]
# fmt: on


HEAD = ["", "goal", "median", "worst", "worst case", "met"]


def rows(result: dict) -> list[list[str]]:
    lines = []
    for goal in GOALS:
        wanted = f"{'<=' if goal.at_most else '>='} {goal.goal:.3g} {goal.unit}"
        found = goal.values(result)
        if not found:
            lines.append([goal.what, wanted, "not measured", "", "", ""])
            continue
        numbers = [value for _, value in found]
        case_id, worst = (max if goal.at_most else min)(found, key=lambda pair: pair[1])
        met = sum(n <= goal.goal if goal.at_most else n >= goal.goal for n in numbers)
        median_text, worst_text = f"{statistics.median(numbers):.3g}", f"{worst:.3g}"
        lines.append(
            [goal.what, wanted, median_text, worst_text, f"`{case_id}`", f"{met} of {len(numbers)}"]
        )
    return lines


def main() -> None:
    for line in rows(load(sys.argv[1])):
        print("{:66} {:28} {:>12} {:>8} {:42} {}".format(*line))


if __name__ == "__main__":
    main()
