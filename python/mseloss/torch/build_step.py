"""Builds the training step in C++ for the installed PyTorch.

    python -m mseloss.torch.build_step

PyTorch has no stable C++ interface for nodes of its graph, so the step needs one module for each release of
PyTorch. This program compiles the source that the package contains and writes the module into the package. It
needs a C++20 compiler (`CXX`, or `c++`) and Python's headers, and takes about a minute.
"""

from __future__ import annotations

import os
import pathlib
import shlex
import subprocess
import sys
import sysconfig
import tempfile

from mseloss.torch.step_name import module_name

PACKAGE = pathlib.Path(__file__).resolve().parent.parent
SOURCE = PACKAGE / "torch" / "step_source"


def command(torch_folder, version, output):
    """The compiler's command line, as a list."""
    torch_folder = pathlib.Path(torch_folder)
    includes = [SOURCE, SOURCE / "include"]
    system = [
        torch_folder / "include",
        torch_folder / "include/torch/csrc/api/include",
        SOURCE / "torch/stand_in",
        sysconfig.get_path("include"),
    ]
    # No rpath: importing torch has already loaded these libraries when the module is imported.
    libraries = [torch_folder / "lib" / f"lib{n}.so" for n in ("torch_python", "torch_cpu", "c10")]
    return [
        *shlex.split(os.environ.get("CXX", "c++")),
        *("-std=c++20", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off"),
        f"-DMSELOSS_TORCH_STEP_INIT=PyInit_{module_name(version)}",
        *(f"-I{folder}" for folder in includes),
        *(f"-isystem{folder}" for folder in system),
        *map(str, sorted(SOURCE.glob("*.cpp"))),
        *("-o", str(output)),
        *map(str, libraries),
    ]


def build(torch_folder, version, folder=PACKAGE):
    """Compiles the module into `folder` and returns its path. Raises OSError, or RuntimeError with the
    compiler's messages."""
    path = pathlib.Path(folder) / (module_name(version) + sysconfig.get_config_var("EXT_SUFFIX"))
    # Beside its final name, so that another process never finds half a module.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build_step_") as temporary:
        output = pathlib.Path(temporary) / path.name
        done = subprocess.run(
            command(torch_folder, version, output), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"the compiler failed with status {done.returncode}\n{done.stderr}")
        output.replace(path)
    return path


def main():
    import torch

    try:
        path = build(torch.__path__[0], torch.__version__)
    except (OSError, RuntimeError) as error:
        sys.exit(f"mseloss: the step for PyTorch {torch.__version__} was not built: {error}")
    print(f"{path}: the step for PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
