"""The name of the module that contains the training step in C++. Imports nothing of the package."""

from __future__ import annotations

import re

_RELEASE = re.compile(r"\d+\.\d+\.\d+")


def module_name(version):
    """The module for this `torch.__version__`, below `mseloss`.

    The builds of one release ("+cpu", "+cu130") have the same interface; a development version has its own.
    """
    release = version.partition("+")[0]
    return "_torch_step_" + re.sub(r"\W", "_", release if _RELEASE.fullmatch(release) else version)
