"""CUDA arrays: on the model, in a process of its own, and what a machine without a device says."""

import os
import pathlib
import subprocess
import sys

import mseloss
import numpy as np
import pytest


def test_device_arrays_on_the_model():
    file = pathlib.Path(__file__).with_name("on_cuda_model.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    run = subprocess.run(
        command,
        env={**os.environ, "MSELOSS_DEVICE": "cuda-model"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-4000:]


class DeviceArray:
    def __init__(self, array):
        self.array = array
        self.__cuda_array_interface__ = {**array.__array_interface__, "stream": None}


def test_a_machine_without_a_device_says_so():
    cuda = mseloss.info()["cuda"]
    if not cuda.startswith("device:"):
        pytest.skip(f"this machine has a device: {cuda}")
    assert "expected" in cuda or "driver" in cuda
    x, out = DeviceArray(np.ones(4, np.float32)), DeviceArray(np.full(4, 5, np.float32))
    with pytest.raises(RuntimeError, match="device: expected"):
        mseloss.grad(x, x, x, out=out)
    assert (out.array == 5).all()
