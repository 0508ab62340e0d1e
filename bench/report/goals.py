"""What the project set out to reach, against a result: goals.py RESULT."""

import statistics
import sys
from collections.abc import Callable, Iterator

import result as results

Value = tuple[str, float]  # case, number
HALVES = ("f16", "bf16")
ALL = ("f32", "f16", "bf16", "f64")


class Cases:
    """A result's cases by group and identifier."""

    def __init__(self, result: dict):
        self.by_key = {(c["group"], c["id"]): c for c in result["cases"] if "seconds" in c}

    def group(self, group: str, *parts: str) -> Iterator[dict]:
        for (own, case_id), case in self.by_key.items():
            if own == group and all(p in case_id for p in parts):
                yield case

    def get(self, group: str, *ids: str) -> Iterator[dict]:
        return (self.by_key[group, i] for i in ids if (group, i) in self.by_key)


def seconds(case: dict, name: str = "mseloss") -> float:
    return case["seconds"][name]["median"]


def over(cases: Iterator[dict], name: str) -> list[Value]:
    """How many times longer `name` takes."""
    return [(c["id"], seconds(c, name) / seconds(c)) for c in cases if name in c["seconds"]]


def ceiling(cases: Iterator[dict]) -> list[Value]:
    return [(c["id"], results.ratio(c)) for c in cases]


def dense(cases: Cases, op: str, size: str, dtypes: tuple = ALL) -> Iterator[dict]:
    kinds = {"grad": ("dense", "dense_scalar_grad"), "loss": ("mean",), "fused": ("mean",)}[op]
    return cases.get("dense", *(f"{op}/{d}/{k}/{size}" for d in dtypes for k in kinds))


def against(
    cases: Cases, group: str, dtypes: tuple, kinds: tuple, base: str, size: str
) -> list[Value]:
    """Speed against the same operator on the `base` layout: each as a ratio to the ceiling that took turns
    with it, since cases are seconds apart and memory changes its speed meanwhile."""
    values = []
    for dtype in dtypes:
        for plain in cases.get(group, f"grad/{dtype}/{base}/{size}"):
            for case in cases.get(group, *(f"grad/{dtype}/{kind}/{size}" for kind in kinds)):
                ratios = results.ratio(case), results.ratio(plain)
                if None not in ratios:
                    values.append((case["id"], ratios[0] / ratios[1]))
    return values


def misaligned(cases: Cases) -> list[Value]:
    kinds = ("input_off_by_one", "out_off_by_one", "all_off_by_one", "odd_size")
    return [
        v
        for size in ("L2", "64MiB")
        for v in against(cases, "misaligned", ALL, kinds, "aligned", size)
    ]


def plain_sum(cases: Cases) -> list[Value]:
    values = []
    for case in dense(cases, "loss", "L2", ("f32", *HALVES)):
        times = [t["median"] for name, t in case["seconds"].items() if name.startswith("plain sum")]
        if times:
            values.append((case["id"], min(times) / seconds(case)))
    return values


def exact(cases: Cases) -> list[Value]:
    values = []
    for dtype in ALL:
        for fast in cases.get("dense", f"loss/{dtype}/mean/mem"):
            for slow in cases.get("dense", f"loss/{dtype}/mean_exact/mem"):
                values.append((slow["id"], seconds(fast) / seconds(slow)))
    return values


def steps(cases: Cases, least: int, most: int) -> Iterator[dict]:
    return (c for c in cases.group("peers", "step/") if least <= c["n"] <= most)


def call_overhead(cases: Cases) -> list[Value]:
    core = list(cases.get("tiny", "grad/f32/tiny/16"))
    python = cases.get("peers", "grad/f32/tiny/16")
    name = "mseloss, NumPy arrays, out="
    return [(c["id"], (seconds(c, name) - seconds(core[0])) * 1e6) for c in python if core]


ONE_TRANSPOSED = ("target_transposed", "input_transposed", "out_transposed")
MEM = tuple(f"grad/{d}/dense/mem" for d in ALL)
LAYOUTS = tuple(
    f"grad/{d}/target_{k}/4096x4096" for d in ("f32", "f16") for k in ("row", "transposed")
)

# What, the goal, its unit, whether less is better, the values.
Goal = tuple[str, float, str, bool, Callable[[Cases], list[Value]]]
GOALS: list[Goal] = [
    (
        "gradient, dense, memory",
        0.95,
        "of the ceiling",
        False,
        lambda c: ceiling(dense(c, "grad", "mem")),
    ),
    (
        "gradient, dense, L2",
        0.90,
        "of the ceiling",
        False,
        lambda c: ceiling(dense(c, "grad", "L2")),
    ),
    (
        "gradient, dense, L3",
        0.90,
        "of the ceiling",
        False,
        lambda c: ceiling(dense(c, "grad", "L3")),
    ),
    (
        "second thread, L3",
        1.8,
        "x one thread",
        False,
        lambda c: over(dense(c, "grad", "L3"), "mseloss, 1 thread"),
    ),
    (
        "second thread, every size",
        0.95,
        "x one thread",
        False,
        lambda c: over(c.group("curve"), "mseloss, 1 thread"),
    ),
    ("broadcast operands", 0.9, "of the ceiling", False, lambda c: ceiling(c.group("broadcast"))),
    (
        "one operand transposed, float32",
        0.65,
        "x dense",
        False,
        lambda c: against(
            c,
            "transposed",
            ("f32",),
            ONE_TRANSPOSED,
            "square",
            "4096x4096",
        ),
    ),
    (
        "one operand transposed, half types",
        0.5,
        "x dense",
        False,
        lambda c: against(
            c,
            "transposed",
            HALVES,
            ONE_TRANSPOSED,
            "square",
            "4096x4096",
        ),
    ),
    (
        "all transposed alike",
        0.95,
        "x dense",
        False,
        lambda c: against(c, "transposed", ALL, ("all_transposed",), "square", "4096x4096"),
    ),
    ("permuted", 0.5, "of the ceiling", False, lambda c: ceiling(c.group("permuted"))),
    ("strided", 0.5, "of the ceiling", False, lambda c: ceiling(c.group("strided"))),
    ("random layouts", 1 / 3, "of the ceiling", False, lambda c: ceiling(c.group("random"))),
    ("misaligned, odd sizes", 0.95, "x aligned", False, misaligned),
    (
        "gradient of 1 to 64 elements",
        150,
        "ns",
        True,
        lambda c: [(k["id"], seconds(k) * 1e9) for k in c.group("tiny", "grad/")],
    ),
    (
        "aclnn, both phases and synchronise, 16 elements",
        400,
        "ns",
        True,
        lambda c: [(k["id"], seconds(k) * 1e9) for k in c.group("tiny", "aclnn/")],
    ),
    (
        "PyTorch out=, memory",
        1.1,
        "x",
        False,
        lambda c: over(c.get("peers", *(i for i in MEM if "f64" not in i)), "PyTorch out="),
    ),
    ("PyTorch, memory", 3, "x", False, lambda c: over(c.get("peers", *MEM), "PyTorch")),
    (
        "PyTorch, transposed and row broadcast",
        8,
        "x",
        False,
        lambda c: over(c.get("peers", *LAYOUTS), "PyTorch"),
    ),
    (
        "mean loss, memory",
        0.95,
        "of the ceiling",
        False,
        lambda c: ceiling(dense(c, "loss", "mem", ("f32", *HALVES))),
    ),
    (
        "mean loss, float64",
        0.8,
        "of the ceiling",
        False,
        lambda c: ceiling(dense(c, "loss", "mem", ("f64",))),
    ),
    ("mean loss, L2", 0.8, "of a plain float64 sum", False, plain_sum),
    (
        "loss and gradient, memory",
        0.95,
        "of the ceiling",
        False,
        lambda c: ceiling(dense(c, "fused", "mem")),
    ),
    ("exact sweep", 0.25, "of the fast one", False, exact),
    (
        "step, PyTorch, 4 M to 67 M",
        5,
        "x",
        False,
        lambda c: over(steps(c, 1 << 22, 1 << 26), "PyTorch"),
    ),
    (
        "step, torch.compile, 4 M to 67 M",
        3,
        "x",
        False,
        lambda c: over(steps(c, 1 << 22, 1 << 26), "torch.compile"),
    ),
    ("step, PyTorch, 64 K", 1.5, "x", False, lambda c: over(steps(c, 1 << 16, 1 << 16), "PyTorch")),
    ("step, PyTorch, every size", 1, "x", False, lambda c: over(steps(c, 1, 1 << 26), "PyTorch")),
    (
        "JAX value_and_grad, 67 M",
        2,
        "x, `mseloss.jax`",
        False,
        lambda c: [
            (k["id"], seconds(k, "JAX value_and_grad") / seconds(k, "mseloss, JAX"))
            for k in steps(c, 1 << 26, 1 << 26)
            if "mseloss, JAX" in k["seconds"]
        ],
    ),
    (
        "NumPy out=, memory",
        1.5,
        "x",
        False,
        lambda c: [
            (k["id"], seconds(k, "NumPy out=") / seconds(k, "mseloss, NumPy arrays, out="))
            for k in c.get("peers", *MEM)
            if "NumPy out=" in k["seconds"]
        ],
    ),
    ("Python call above the C++ call, 16 elements", 1, "us", True, call_overhead),
]


def rows(result: dict) -> list[list[str]]:
    cases, lines = Cases(result), []
    for what, goal, unit, less, values_of in GOALS:
        values = values_of(cases)
        if not values:
            lines.append([what, f"{goal:.3g} {unit}", "not measured", "", "", ""])
            continue
        numbers = [v for _, v in values]
        worst = (max if less else min)(values, key=lambda v: v[1])
        met = sum(v <= goal if less else v >= goal for v in numbers)
        lines.append(
            [
                what,
                f"{'<=' if less else '>='} {goal:.3g} {unit}",
                f"{statistics.median(numbers):.3g}",
                f"{worst[1]:.3g}",
                f"`{worst[0]}`",
                f"{met} of {len(numbers)}",
            ]
        )
    return lines


HEAD = ["", "goal", "median", "worst", "which", "met"]


def main() -> None:
    for line in rows(results.load(sys.argv[1])):
        print("{:44} {:28} {:>12} {:>8} {:42} {}".format(*line))


if __name__ == "__main__":
    main()
