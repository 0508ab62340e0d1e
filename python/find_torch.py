"""Prints the folders of the installed PyTorch packages, one a line, each as NAME;FOLDER for CMake.

find_torch.py [FOLDER ...]

NAME is the module of the training step for that PyTorch. Without arguments: PyTorch where this interpreter
finds it, or in the environment into which pip installs, which pip hides from the interpreter that builds the
package. PyTorch itself is not imported.
"""

import importlib.util
import os
import pathlib
import re
import sys
import sysconfig

HERE = pathlib.Path(__file__).resolve().parent


def candidates():
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.submodule_search_locations:
        yield from map(pathlib.Path, spec.submodule_search_locations)
    for kind in ("platlib", "purelib"):
        yield pathlib.Path(sysconfig.get_path(kind)) / "torch"
    if environment := os.environ.get("VIRTUAL_ENV"):  # uv builds in an environment of its own
        paths = sysconfig.get_paths(vars={"base": environment, "platbase": environment})
        yield pathlib.Path(paths["platlib"]) / "torch"


def version_of(folder):
    try:
        text = (folder / "version.py").read_text()
    except OSError:
        return None
    found = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    return found and (folder / "include" / "ATen" / "ATen.h").exists() and found[1]


def main():
    spec = importlib.util.spec_from_file_location(
        "step_name", HERE / "mseloss" / "torch" / "step_name.py"
    )
    step_name = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(step_name)
    given = [pathlib.Path(folder) for folder in sys.argv[1:]]
    found = {}
    for folder in given or candidates():
        if version := version_of(folder):
            found.setdefault(step_name.module_name(version), folder)
            if not given:
                break
        elif given:
            sys.exit(f"{folder}: expected PyTorch's package with its headers")
    for name, folder in found.items():
        print(f"{name};{folder}")


if __name__ == "__main__":
    main()
