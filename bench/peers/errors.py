"""Relative errors of each library against the exact result."""

import math

import jax
import mseloss
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from tensors import MEAN, TORCH, tensor, to_jax


def relative_error(actual, exact) -> float:
    """Largest difference divided by the largest exact value."""
    actual, exact = (np.asarray(a, dtype=np.float64) for a in (actual, exact))
    return float(f"{np.abs(actual - exact).max() / np.abs(exact).max():.3g}")


def gradient_errors(dtype: str, n: int) -> dict:
    """Mean gradient of n elements with a loss scale of 2^15, typical of mixed-precision training."""
    x, y = tensor((n,), dtype, 1), tensor((n,), dtype, 2)
    g = torch.tensor(32768.0).to(TORCH[dtype])
    exact = (x.double() - y.double()).mul_(2.0 / n).mul_(32768.0).numpy()
    errors = {
        "mseloss": relative_error(mseloss.grad(g, x, y).double().numpy(), exact),
        "PyTorch": relative_error(
            torch.ops.aten.mse_loss_backward(g, x, y, MEAN).double().numpy(), exact
        ),
    }
    if dtype != "bf16":
        nx, ny, ng = x.numpy(), y.numpy(), g.numpy()
        errors["NumPy"] = relative_error(ng * ((nx - ny) * nx.dtype.type(2.0 / n)), exact)
    return {"what": "gradient", "dtype": dtype, "n": n, "relative": errors}


def losses(x: torch.Tensor, y: torch.Tensor, dtype: str) -> dict[str, float]:
    jx, jy = to_jax(x, dtype), to_jax(y, dtype)
    values = {
        "mseloss": mseloss.loss(x, y).double().item(),
        "PyTorch": F.mse_loss(x, y).double().item(),
        "JAX": float(jax.numpy.mean((jx - jy) ** 2)),
    }
    if dtype != "bf16":
        with np.errstate(over="ignore"):
            values["NumPy"] = float(np.mean((x.numpy() - y.numpy()) ** 2))
    return values


def loss_errors(dtype: str, n: int) -> dict:
    x, y = tensor((n,), dtype, 1), tensor((n,), dtype, 2)
    d = (x.float() - y.float()).double()  # squares of float32 are exact in float64
    exact = math.fsum(d.square_().tolist()) / n
    errors = {name: relative_error(v, exact) for name, v in losses(x, y, dtype).items()}
    return {"what": "loss", "dtype": dtype, "n": n, "relative": errors}


def outlier_errors(n: int) -> dict:
    """Every hundredth difference is 300: its square overflows float16, the mean does not."""
    x, y = torch.zeros(n, dtype=torch.float16), torch.zeros(n, dtype=torch.float16)
    x[::100] = 300
    exact = 90000 * len(x[::100]) / n
    errors = {
        name: None if math.isinf(v) else relative_error(v, exact)
        for name, v in losses(x, y, "f16").items()
    }
    return {"what": "outlier_loss", "dtype": "f16", "n": n, "relative": errors}


def measure(quick: bool) -> list[dict]:
    n = 1 << 20 if quick else 40_000_000
    errors = [gradient_errors(dtype, n) for dtype in ("f32", "f16", "bf16")]
    errors.append(outlier_errors(1 << 20))
    return errors + [loss_errors(dtype, 1 << 22) for dtype in ("f32", "f16", "bf16")]
