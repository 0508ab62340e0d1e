#!/usr/bin/env python3
"""Checks what nvcc made of the CUDA kernels: rounding in PTX, loads and local memory in SASS, registers.

usage: lint.py LIBRARY BUDGET [--update]   (exit 0: fine, 1: findings, 77: skipped, without cuobjdump)

- PTX: no flush to zero; every addition, subtraction, multiplication and division names its rounding; fused
  multiply-adds only in the sums. (rcp.approx is part of the division of integers, HFMA2 sets constants.)
- SASS: dense kernels load and store 16 bytes; no local memory; no 64-bit atomic operation on shared memory.
- Registers and shared memory of each kernel and architecture stay within the budget.
"""

import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys

SKIPPED = 77


def find_cuobjdump():
    """The program on PATH, of a toolkit, or of the package nvidia-cuda-cuobjdump."""
    environment = pathlib.Path(__file__).parents[2] / ".venv"
    places = [pathlib.Path("/usr/local/cuda/bin")]
    places += environment.glob("lib/python3*/site-packages/nvidia/*/bin")
    if (spec := importlib.util.find_spec("nvidia")) and spec.submodule_search_locations:
        places += [
            path / "bin"
            for root in spec.submodule_search_locations
            for path in pathlib.Path(root).iterdir()
        ]
    found = shutil.which("cuobjdump")
    return found or next(
        (str(p / "cuobjdump") for p in places if (p / "cuobjdump").is_file()), None
    )


def kernel_name(symbol):
    """`dense_sum<Float32, false>` of a mangled name, without its arguments."""
    text = subprocess.run(
        ["c++filt", symbol], capture_output=True, text=True, check=True
    ).stdout.strip()
    text = text.replace("mseloss::cuda::", "").replace("(mseloss::Op)", "")
    return re.sub(r"^void |\([A-Z].*$", "", text)


class Dump:
    def __init__(self, program, library):
        self.program, self.library, self.names = program, library, {}

    def run(self, *options):
        command = [self.program, *options, self.library]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def name(self, symbol):
        if symbol not in self.names:
            self.names[symbol] = kernel_name(symbol)
        return self.names[symbol]


def check_ptx(dump):
    kernel, findings, kernels = None, [], set()
    for line in dump.run("-ptx").splitlines():
        if match := re.search(r"\.entry (\w+)", line):
            kernel = dump.name(match[1])
            kernels.add(kernel)
        operation = re.match(
            r"\s*(?:@%?!?\w+ )?((?:add|sub|mul|div|fma|mad|sqrt)\.\S*f(?:16|32|64))", line
        )
        if ".ftz" in line:
            findings.append(f"{kernel}: PTX flushes to zero: {line.strip()}")
        if operation and ".rn." not in operation[1]:
            findings.append(f"{kernel}: PTX without a rounding: {operation[1]}")
        if operation and operation[1].startswith(("fma", "mad")) and "sum" not in kernel:
            findings.append(f"{kernel}: PTX fuses: {operation[1]}")
    return findings, kernels


def check_sass(dump):
    architecture, kernel, counts = None, None, {}
    for line in dump.run("-sass").splitlines():
        if match := re.match(r"arch = (\w+)", line):
            architecture = match[1]
        elif match := re.search(r"Function : (\w+)", line):
            kernel = (architecture, dump.name(match[1]))
            counts[kernel] = {}
        elif match := re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)", line):
            counts[kernel][match[1]] = counts[kernel].get(match[1], 0) + 1
    findings = []
    for (architecture, kernel), operations in counts.items():
        where = f"{architecture} {kernel}"
        for operation in operations:
            if operation.startswith(("LDL", "STL")):
                findings.append(f"{where}: local memory: {operation}")
            if operation.startswith("ATOMS") and "64" in operation:
                findings.append(f"{where}: 64-bit atomic operation on shared memory: {operation}")
            if operation.startswith(("FFMA", "DFMA")) and "sum" not in kernel:
                findings.append(f"{where}: fused operation: {operation}")
        if kernel.startswith("dense"):
            wide = {o[:3] for o in operations if o.startswith(("LDG", "STG")) and ".128" in o}
            if "LDG" not in wide:
                findings.append(f"{where}: no 128-bit loads")
            if "STG" not in wide and not kernel.endswith("false>"):
                findings.append(f"{where}: no 128-bit stores")
    return findings, sorted({architecture for architecture, _ in counts})


def usage(dump):
    result, architecture, kernel = {}, None, None
    for line in dump.run("-res-usage").splitlines():
        if match := re.match(r"arch = (\w+)", line):
            architecture = match[1]
        elif match := re.search(r"Function (\w+):", line):
            kernel = dump.name(match[1])
        elif match := re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)", line):
            numbers = dict(
                zip(("registers", "stack", "shared"), map(int, match.groups()), strict=True)
            )
            result.setdefault(architecture, {})[kernel] = numbers
    return result


def check_budget(used, file):
    budget, findings = json.loads(file.read_text()), []
    for architecture, kernels in used.items():
        for kernel, numbers in kernels.items():
            allowed = budget.get(architecture, {}).get(kernel)
            if allowed is None:
                findings.append(f"{architecture} {kernel}: not in {file.name}")
                continue
            findings += [
                f"{architecture} {kernel}: {numbers[key]} {key}, budget {allowed[key]}"
                for key in allowed
                if numbers[key] > allowed[key]
            ]
    return findings


def main():
    library, file = sys.argv[1], pathlib.Path(sys.argv[2])
    if (program := find_cuobjdump()) is None:
        print("skipped: cuobjdump was not found (it is in the package nvidia-cuda-cuobjdump)")
        return SKIPPED
    dump = Dump(program, library)
    used = usage(dump)
    if "--update" in sys.argv:
        budget = json.loads(file.read_text()) if file.exists() else {}
        budget.update(used)
        file.write_text(json.dumps(budget, indent=1, sort_keys=True) + "\n")
    ptx, kernels = check_ptx(dump)
    sass, architectures = check_sass(dump)
    findings = ptx + sass + check_budget(used, file)
    if not kernels and not architectures:
        findings.append("no kernels found")
    print(*findings, sep="\n")
    print(f"PTX of {len(kernels)} kernels; SASS and registers for {', '.join(architectures)}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
