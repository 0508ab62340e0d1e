"""Every private name of PyTorch that this package needs, with what stands in for it.

A minor release may rename any of them. Importing mseloss.torch then still works, and the results stay the
same: the package takes a slower way, for example the custom operators instead of the eager step.
"""

from __future__ import annotations

import contextlib
import importlib

import torch

MISSING = []  # the names that this PyTorch lacks


def _find(name, default):
    """The object of this dotted name, or `default`."""
    module, _, attribute = name.rpartition(".")
    try:
        # The owner may also be a class, a namespace, or a module that only exists as an attribute.
        try:
            owner = importlib.import_module(module)
        except ModuleNotFoundError:
            owner = torch
            for part in module.split(".")[1:]:
                owner = getattr(owner, part)
        return getattr(owner, attribute)
    except (ImportError, AttributeError):
        MISSING.append(name)
        return default


# Whether a tensor is an ordinary one. Without these the custom operators take all calls.
DispatchKey = _find("torch._C.DispatchKey", None)
DispatchKeySet = _find("torch._C.DispatchKeySet", None)
dispatch_keys = _find("torch._C._dispatch_keys", None)
included_keys = _find("torch._C._dispatch_tls_local_include_set", None)
_find("torch.autograd.forward_ad._current_level", None)  # changes, and is read as an attribute
KEYS_ARE_KNOWN = not MISSING

# Tensors that trace. Without them torch.compile leaves the loss to PyTorch.
FunctionalTensor = _find("torch._subclasses.functional_tensor.FunctionalTensor", None)
TRACING_TYPES = {_find("torch._subclasses.fake_tensor.FakeTensor", None), FunctionalTensor} - {None}

# Levels of torch.func.
is_functorch_wrapped_tensor = _find(
    "torch._C._functorch.is_functorch_wrapped_tensor", lambda tensor: False
)
is_batched_tensor = _find("torch._C._functorch.is_batchedtensor", lambda tensor: True)
get_unwrapped = _find("torch._C._functorch.get_unwrapped", lambda tensor: tensor)
enable_single_level_autograd_function = _find(
    "torch._functorch.utils.enable_single_level_autograd_function", contextlib.nullcontext
)

# Without these every backward pass computes the gradient anew.
keeps_graph = _find("torch._C._autograd._get_current_graph_task_keep_graph", lambda: True)
saved_tensors_hooks = _find(
    "torch._C._autograd._top_saved_tensors_default_hooks", lambda ignore_is_tracing: True
)

DisableTorchFunction = _find("torch._C.DisableTorchFunction", contextlib.nullcontext)

# Process groups by name. Without it the loss of a group is not available.
resolve_process_group = _find("torch.distributed.distributed_c10d._resolve_process_group", None)

# A Function for one level of torch.func. torch.autograd.Function.apply rejects calls under transforms, and
# tests for them, which takes a microsecond.
_before = len(MISSING)
SingleLevelFunction = _find("torch.autograd.function._SingleLevelFunction", torch.autograd.Function)

# Without these, or that, the operators' derivatives are registered with torch.library, which knows fewer
# transforms.
is_forward_mode_enabled = _find("torch._C._is_fwd_grad_enabled", None)
set_forward_mode_enabled = _find("torch.autograd.forward_ad._set_fwd_grad_enabled", None)
AutoDispatchBelowAutograd = _find("torch._C._AutoDispatchBelowAutograd", None)
after_autograd_keyset = _find("torch._C._after_autograd_keyset", None)
AUTOGRAD_KEYS_ARE_KNOWN = len(MISSING) == _before
