"""A pytest plugin: PyTorch tensors in host memory stand for tensors of a CUDA device.

The model's device memory is that of the host. With MSELOSS_DEVICE=cuda-model a test of tensors takes every
step of a call on a device: the choice of the implementation, mseloss._device and the kernels on the model.
Functions of mseloss that would wait for a device, such as Tensor.item(), are errors.
"""

import functools
import sys

import pytest
import torch
from mseloss import _core, _device
from mseloss.torch import readable, step_operators

NAMES = ("loss", "grad", "loss_and_grad", "grad_part")
WAITING = (
    "item",
    "tolist",
    "cpu",
    "numpy",
    "nonzero",
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
)


def on_device(name):
    """The function of _core for tensors, by way of _device."""
    own, device = getattr(_core, name), getattr(_device, name)
    defaults = {
        "loss": (None, None, False, None, None),
        "grad": ("mean", None),
        "loss_and_grad": ("mean", None, None, 1.0, None, None),
        "grad_part": (None,),
    }[name]
    names = {
        "loss": "input target reduction weight axis keepdims out dtype",
        "grad": "grad_output input target reduction out",
        "loss_and_grad": "input target reduction weight axis grad_output out dtype",
        "grad_part": "grad_output input target count out weight",
    }[name].split()
    values = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))

    @functools.wraps(own)
    def call(*arguments, **keywords):
        given = {**values, **dict(zip(names, arguments, strict=False)), **keywords}
        if isinstance(given["input"], torch.Tensor):
            CALLS.append(name)
            return device(*(given[name] for name in names))
        return own(*arguments, **keywords)

    return call


CALLS = []  # the functions that ran on the device


def recorded(grad_part):
    def call(*arguments, held=False):
        if held:
            CALLS.append("held gradient")
        return grad_part(*arguments, held=held)

    return call


def refuse_to_wait(name):
    own = getattr(torch.Tensor, name)

    def method(tensor, *arguments, **keywords):
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith("mseloss"):
            raise AssertionError(f"{caller} waits for a device in Tensor.{name}()")
        return own(tensor, *arguments, **keywords)

    return method


def enter(monkeypatch):
    import mseloss.torch

    monkeypatch.setattr(_device, "DEVICE_TYPES", ("cpu",))
    monkeypatch.setattr(readable, "_has_device", lambda: True)
    for name in NAMES:
        monkeypatch.setattr(_core, name, on_device(name))
    monkeypatch.setattr(_device, "grad_part", recorded(_device.grad_part))
    for name in WAITING:
        monkeypatch.setattr(torch.Tensor, name, refuse_to_wait(name))
    # In C++, of the CPU alone.
    monkeypatch.setattr(mseloss.torch, "_compiled_loss", lambda *arguments: None)
    monkeypatch.setattr(step_operators, "_accepts", lambda *arguments: False)
    CALLS.clear()


@pytest.fixture(autouse=True)
def device_tensors(monkeypatch):
    enter(monkeypatch)
