"""Random files and foreign arrays through the Python package, for a number of minutes.

The cases and their checks are those of tests/python, with a new seed each round: mutated files against NumPy,
zipfile and safetensors; random DLPack, buffer and array-interface producers against the arrays they describe.
"""

import os
import re
import secrets
import subprocess
import sys
import time

TESTS = ("test_cli_mutations.py", "test_foreign_random.py")
EXAMPLES = 700  # of the three tests in test_foreign_random.py
FILES = 3000


def main(minutes):
    folder = os.path.join(os.path.dirname(__file__), "..", "python")
    end, rounds, written = time.monotonic() + 60 * minutes, 0, 0
    while rounds == 0 or time.monotonic() < end:
        seed = secrets.randbits(32)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rP",
            "-p",
            "no:cacheprovider",
            f"--hypothesis-seed={seed}",
        ]
        environment = {**os.environ, "MSELOSS_SEED": str(seed), "MSELOSS_MUTATIONS": str(FILES)}
        done = subprocess.run(
            [*command, *(os.path.join(folder, test) for test in TESTS)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            sys.exit(f"{done.stdout}{done.stderr}\nMSELOSS_SEED={seed} --hypothesis-seed={seed}")
        counts = re.findall(r"\('\.\w+', '(?:added|refused|read)'\): (\d+)", done.stdout)
        written += sum(map(int, counts))
        rounds += 1
    print(f"TALLY python rounds={rounds} files={written} arrays={rounds * EXAMPLES}")


main(float(sys.argv[1]))
