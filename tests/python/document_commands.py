"""The commands of the documents, and how test_commands.py runs each: in which place, or why not at all.

A page's ```sh blocks are scripts, one for each place. A command without an entry fails the test.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Places.
SOURCE = "in a copy of the source tree, with the kernels of one instruction set"
PACKAGE = "in a copy of the source tree, with --dry-run: pip makes the package's metadata, no build"
TREE = "in this tree, where the release tests have built the programs"
FILES = "in a folder with the arrays that the page names"

DEBIAN = "installs Debian packages, as root; test_commands.py compares the list with the machine's"
CANN = "needs an installation of CANN"
CI = "this test is part of it"

_CLI = "mseloss "
WITHOUT = {  # by the beginning of the command
    "sudo apt-get install": DEBIAN,
    "./dev test": CI,
    ".ci/run": CI,
    "./dev format": ".ci/run runs it with --check; it would edit the tree",
    "./dev lint": ".ci/run runs it; it takes minutes",
    "./dev wheel": "takes minutes, and packages for another processor; test_packaging.py tests its parts",
    "MSELOSS_WHEEL_PYTHONS=": "as ./dev wheel",
    "source <": CANN,
    "cmake -S . -B build_out --preset=default": CANN,
    "cmake --build build_out --target binary package": CANN,
    "./build_out/custom_opp_": CANN,
    "cmake -S sample -B sample_build": CANN,
    "cmake --build sample_build": CANN,
    "cmake -B build && cmake --build build": CANN,
    "python example.py build/": CANN,
    "cd ascend": CANN,
    "bash build.sh": "needs a checkout of ops-nn and an installation of CANN",
    "ascend/ops_nn/export.py OPS_NN_CHECKOUT": "export_test.cmake runs it on a folder like a checkout",
    "cmake -S ascend/tests -B build-ascend": "takes minutes; the release tests build and run the same tests",
    "gdb ": "interactive",
    "mseloss --install-completion": "edits the shell's startup file; test_cli.py tests the completion",
}
PLACES = {
    "cmake --preset library": SOURCE,
    "cmake --install build/library": SOURCE,
    "export ASCEND_CUSTOM_PATH=PREFIX/cann": SOURCE,
    "python3 -m venv .venv": PACKAGE,
    ".venv/bin/pip install": PACKAGE,
    "pip install": PACKAGE,
    "./dev run": TREE,
    _CLI: FILES,
}


def pages():
    """Every document, by its path from the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(listed.stdout.split())


def commands(page):
    """The commands of the page's ```sh blocks, without comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in re.findall(r"^```(?:sh|bash|shell|console)\n(.*?)^```", text, re.M | re.S):
        for line in block.splitlines():
            command = re.sub(r"(^|\s)#.*", "", line).strip()
            if command:
                yield command


def place_of(command):
    """(place, None) or (None, reason)."""
    for beginning, reason in WITHOUT.items():
        if command.startswith(beginning):
            return None, reason
    for beginning, place in PLACES.items():
        if command.startswith(beginning):
            return place, None
    raise AssertionError(f"document_commands.py does not say how to run: {command}")


def scripts(place):
    """(page, commands) of the pages that have commands for the place, each script once."""
    seen = set()
    for page in pages():
        found = tuple(c for c in commands(page) if place_of(c)[0] == place)
        if found and found not in seen:
            seen.add(found)
            yield page, list(found)
