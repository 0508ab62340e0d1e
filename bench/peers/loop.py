"""Times the training step where people call it: alone or right after a PyTorch operator, under autocast, on a
quiet or on a busy machine. PyTorch's loss and ours take turns in short blocks.

loop.py [--seconds S] [--filter TEXT] [--busy N] [--sizes K,K] [--out FILE] [--write PAGE]

A block counts as busy if other processes used more than 5 % of one processor meanwhile; --busy N starts N
such processes. Quiet and busy blocks are reported apart. A case is named step/DTYPES/NUMEL/BEFORE. --write
measures the cases of docs/pytorch.md and replaces its table.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

import mseloss
import mseloss.torch as ours
import torch
import torch.nn.functional as F  # noqa: N812
from tensors import tensor

BLOCK = 0.15  # seconds
TICK = 1 / os.sysconf("SC_CLK_TCK")
# Of input and target, and whether autocast is on.
DTYPES = {
    "f32": ("f32", "f32", False),
    "bf16": ("bf16", "bf16", False),
    "autocast bf16": ("bf16", "bf16", True),
    "autocast bf16, target f32": ("bf16", "f32", True),
}
_A, _OUT = torch.randn(1 << 20), torch.empty(1 << 20)
_M, _PRODUCT = torch.randn(512, 512), torch.empty(512, 512)
BEFORE = {
    "alone": lambda: None,
    "pointwise": lambda: torch.add(_A, 1, out=_OUT),
    "matmul": lambda: torch.mm(_M, _M, out=_PRODUCT),
}
# The table of docs/pytorch.md: steps right after a pointwise operator.
DOCUMENTED = [
    *(("f32", k) for k in (10, 16, 18, 20, 22)),
    *(("bf16", k) for k in (20, 22)),
    *(("autocast bf16", k) for k in (11, 17, 20)),
]
TABLE = re.compile(r"(<!-- loop table -->\n).*?(<!-- end of loop table -->)", re.DOTALL)
# The loss, and whether it uses PyTorch's threads.
CONTENDERS = {
    "PyTorch": (F.mse_loss, True),
    "mseloss": (ours.mse_loss, True),
    "mseloss, own threads": (ours.mse_loss, False),
}


class Case:
    def __init__(self, dtypes: str, k: int, before: str):
        self.id = f"step/{dtypes}/2^{k}/{before}"
        first, second, autocast = DTYPES[dtypes]
        self.x = tensor((1 << k,), first, 1).requires_grad_()
        self.y = tensor((1 << k,), second, 2)
        self.before = BEFORE[before]
        self.context = (
            (lambda: torch.autocast("cpu", torch.bfloat16)) if autocast else contextlib.nullcontext
        )
        self.seconds: dict[str, dict[str, list[float]]] = {"quiet": {}, "busy": {}}

    def step(self, loss):
        self.x.grad = None
        with self.context():
            value = loss(self.x, self.y)
        value.backward()
        return value

    def is_right(self) -> bool:
        """Whether loss and gradient are the definition's, computed in float32 and rounded once."""
        value = self.step(ours.mse_loss)
        d = self.x.detach().float() - self.y.float()
        right = torch.equal(self.x.grad, (d * (2 / d.numel())).to(self.x.dtype))
        mean = d.double().square().mean()
        return right and bool(abs(value.detach().double() / mean - 1) < 1e-2)

    def block(self, name: str):
        loss, torch_threads = CONTENDERS[name]
        ours.use_torch_threads(torch_threads)
        times = []
        others, start = time_of_others(), time.perf_counter()
        while time.perf_counter() - start < BLOCK:
            self.before()
            begin = time.perf_counter()
            self.step(loss)
            times.append(time.perf_counter() - begin)
        # The clocks tick in hundredths of a second.
        state = "quiet" if time_of_others() - others < max(1.5 * TICK, BLOCK / 20) else "busy"
        self.seconds[state].setdefault(name, []).extend(times)

    def results(self):
        for state, contenders in self.seconds.items():
            numbers = {}
            for name, times in contenders.items():
                if len(times) < 4:
                    continue
                q1, median, q3 = statistics.quantiles(times, n=4, method="inclusive")
                mean = statistics.fmean(times)
                numbers[name] = {"median": median, "q1": q1, "q3": q3, "mean": mean}
                numbers[name]["calls"] = len(times)
            if numbers:
                yield {"id": self.id, "machine": state, "seconds": numbers}


def time_of_others() -> float:
    """The processor time that other processes have used so far, in seconds."""
    fields = pathlib.Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    user, nice, system, _, _, irq, softirq, steal = map(int, fields)
    used = (user + nice + system + irq + softirq + steal) * TICK
    times = os.times()
    return used - times.user - times.system


def text(times: dict | None) -> str:
    """A contender's median and quartiles in microseconds."""
    if times is None:
        return ""
    return f"{times['median'] * 1e6:.0f} ({times['q1'] * 1e6:.0f} to {times['q3'] * 1e6:.0f})"


def processor() -> str:
    found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return found.group(1) if found else platform.processor() or platform.machine()


def write_page(page: pathlib.Path, cases: list[Case], heading: str):
    names = list(CONTENDERS)
    lines = [f"{processor()}, {heading}, {time.strftime('%Y-%m-%d')}:", ""]
    lines += ["| step | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for case in cases:
        # Blocks beside other processes count only where there are no others.
        seconds = max(case.results(), key=lambda result: result["machine"] == "quiet")["seconds"]
        step = case.id.removeprefix("step/").removesuffix("/pointwise").replace("/", ", ")
        lines.append(f"| {step} | " + " | ".join(text(seconds.get(name)) for name in names) + " |")
    filled, count = TABLE.subn(
        lambda match: match.group(1) + "\n".join(lines) + "\n" + match.group(2), page.read_text()
    )
    if count != 1:
        raise SystemExit(f"{page}: expected one <!-- loop table -->, found {count}")
    page.write_text(filled)


def report(cases: list[Case]):
    names = list(CONTENDERS)
    print("| case | machine | " + " | ".join(f"{n}, us" for n in names) + " | PyTorch / mseloss |")
    print("|---|---|" + "---|" * (len(names) + 1))
    for case in cases:
        for result in case.results():
            seconds = result["seconds"]
            cells = [text(seconds.get(name)) for name in names]
            both = "PyTorch" in seconds and "mseloss" in seconds
            ratio = seconds["PyTorch"]["median"] / seconds["mseloss"]["median"] if both else 0
            cells.append(f"{ratio:.2f}" if both else "")
            print(f"| {result['id']} | {result['machine']} | " + " | ".join(cells) + " |")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--filter", default="")
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--sizes", default="10,14,16,18,20,22", help="exponents of 2")
    parser.add_argument("--out")
    parser.add_argument("--write", type=pathlib.Path, metavar="PAGE")
    arguments = parser.parse_args()
    torch.set_num_threads(mseloss.info()["threads"])
    if arguments.write:
        cases = [Case(dtypes, k, "pointwise") for dtypes, k in DOCUMENTED]
    else:
        cases = [
            Case(dtypes, int(k), before)
            for dtypes in DTYPES
            for k in arguments.sizes.split(",")
            for before in BEFORE
            if arguments.filter in f"step/{dtypes}/2^{k}/{before}"
        ]
    wrong = [case.id for case in cases if not case.is_right()]
    if wrong:
        print(f"wrong results, not timed: {', '.join(wrong)}", file=sys.stderr)
    cases = [case for case in cases if case.id not in wrong]
    spin = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(spin) for _ in range(arguments.busy)]
    try:
        end = time.perf_counter() + arguments.seconds
        while time.perf_counter() < end:
            for case in cases:
                for name in CONTENDERS:
                    case.block(name)
    finally:
        ours.use_torch_threads(True)
        for process in processes:
            process.kill()
            process.wait()
    info = mseloss.info()
    heading = f"{info['threads']} threads, {info['target']}, PyTorch {torch.__version__}"
    print(f"{heading}, step: {info['torch_step']}; medians and quartiles\n")
    report(cases)
    if arguments.write:
        write_page(arguments.write, cases, heading)
    if arguments.out:
        results = [result for case in cases for result in case.results()]
        pathlib.Path(arguments.out).write_text(json.dumps({"info": info, "cases": results}))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
