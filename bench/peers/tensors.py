"""Dtypes and random tensors for the measurements beside peers."""

import jax
import ml_dtypes
import numpy as np
import torch

TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}
NUMPY = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f64": np.float64}
SIZE = {"f32": 4, "f16": 2, "bf16": 2, "f64": 8}
MEAN = 1  # ATen's code for the reduction
MIB = 1 << 20


def tensor(shape: tuple[int, ...], dtype: str, seed: int) -> torch.Tensor:
    """Uniform in (-2, 2)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator).mul_(4).sub_(2).to(TORCH[dtype])


def to_jax(t: torch.Tensor, dtype: str) -> jax.Array:
    return jax.numpy.asarray(t.detach().float().numpy(), dtype=NUMPY[dtype])
