"""Counts the instructions of small calls with callgrind and compares them with a budget.

    budget.py MSELOSS_TINY [--write]

The counts depend only on compiler and instruction set, not on the load of the machine. valgrind emulates at
most AVX2, so all x86-64 machines with AVX2 count the same kernels.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

BUDGET = pathlib.Path(__file__).with_name("budget.json")
SKIP = 77  # SKIP_RETURN_CODE of the test
UNKNOWN_CASE = 3  # exit status of a program without this case, for example one built without acl


def per_call(program: str, name: str) -> int | None:
    calls = 16
    with tempfile.NamedTemporaryFile() as out:
        options = ["--collect-atstart=no", "--toggle-collect=counted_calls"]
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", *options]
        run = subprocess.run(
            [*command, program, name, str(calls)],
            capture_output=True,
            text=True,
            env={"MSELOSS_NUM_THREADS": "1"},
        )
    if run.returncode == UNKNOWN_CASE:
        return None
    found = re.search(r"Collected\s*:\s*(\d+)", run.stderr)
    if run.returncode != 0 or found is None:
        raise SystemExit(f"{name}: callgrind failed\n{run.stderr}")
    return int(found.group(1)) // calls


def main() -> int:
    program, write = sys.argv[1], "--write" in sys.argv[2:]
    try:
        subprocess.run(["valgrind", "--version"], check=True, capture_output=True)
    except FileNotFoundError:
        print("skipped: valgrind is not installed")
        return SKIP
    budget = json.loads(BUDGET.read_text())
    over = False
    for name, limit in budget["instructions"].items():
        count = per_call(program, name)
        if count is None:
            print(f"{name:14} skipped: not in this build")
        elif write:
            budget["instructions"][name] = count
        else:
            worst = round(limit * budget["tolerance"])
            over |= count > worst
            verdict = "over budget" if count > worst else "ok"
            print(f"{name:14} {count:8} instructions per call, at most {worst}: {verdict}")
    if write:
        BUDGET.write_text(json.dumps(budget, indent=2) + "\n")
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
