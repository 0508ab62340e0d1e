"""CUDA arrays: on the model, in a process of its own, and what a machine without a device says."""

import os
import pathlib
import subprocess
import sys

import mseloss
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parent


def run_on_model(*arguments, timeout=300):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    path = os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        command,
        cwd=FOLDER,
        env={**os.environ, "MSELOSS_DEVICE": "cuda-model", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert run.returncode == 0, run.stdout[-4000:]


def test_device_arrays_on_the_model():
    run_on_model("on_cuda_model.py")


# What is of the CPU alone: its memory pool, its C++ step (compiled autograd needs it) and its backward pass
# under autocast; what cannot be scripted because the stand-in replaces it; and what takes long on the model.
LEFT_OUT = (
    "handed_over",
    "requested_step",
    "compiled_autograd",
    "no_copy",
    "scripted",
    "long_loop",
)


@pytest.mark.parametrize(
    "file",
    [
        "torch_on_cuda_model.py",
        "test_torch_weights.py",
        "test_torch_ops.py",
        "test_torch_autocast.py",
        "test_torch.py",
    ],
)
def test_tensors_on_the_model(file):
    pytest.importorskip("torch")
    run_on_model("-p", "cuda_stand_in", "-k", f"not ({' or '.join(LEFT_OUT)})", file, timeout=600)


def test_jax_on_the_model():
    pytest.importorskip("jax")
    run_on_model("-p", "jax_stand_in", "jax_on_cuda_model.py")


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
