"""Times PyTorch, JAX and NumPy beside mseloss in one interleaved run.

peers.py [--quick] [--filter TEXT] --out FILE
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable

import errors
import jax
import mseloss
import numpy as np
import timing
import torch
import torch.nn.functional as F  # noqa: N812
from tensors import MEAN, MIB, SIZE, tensor, to_jax

try:
    import mseloss.torch as ours_torch
except ImportError:
    ours_torch = None
try:
    import mseloss.jax as ours_jax
except ImportError:
    ours_jax = None

jax.config.update("jax_enable_x64", True)

SQUARE = (4096, 4096)
NCHW = (32, 64, 56, 56)


def same(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.equal(actual.detach().contiguous(), expected.contiguous())


def gradient(g: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The definition: three operations in float32 or float64, then one rounding."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    scale = torch.tensor(2.0, dtype=torch.float64).div(x.numel()).to(wide)
    return (x.to(wide) - y.to(wide)).mul_(scale).mul_(g.to(wide)).to(x.dtype)


class Suite:
    """Checks and times the cases whose identifiers contain `wanted`."""

    def __init__(self, quick: bool, wanted: str):
        self.quick, self.wanted, self.cases = quick, wanted, []

    def wants(self, case_id: str) -> bool:
        return self.wanted in case_id

    def add(self, case_id: str, group: str, dtype: str, n: int, right: bool, contenders: dict):
        case = {"id": case_id, "group": group, "dtype": dtype, "n": n}
        if not right:
            print(f"{case_id}: wrong result, not timed", file=sys.stderr)
            self.cases.append(case | {"error": "wrong result"})
            return
        seconds = timing.measure(contenders, 0.05 if self.quick else 0.6)
        self.cases.append(case | {"seconds": seconds})
        ours = seconds["mseloss"]["median"]
        others = ", ".join(
            f"{name} {t['median'] / ours:.2f}x" for name, t in seconds.items() if name != "mseloss"
        )
        print(f"{case_id:36} {ours * 1e6:12.2f} us; {others}", flush=True)


def add_grad(
    suite: Suite,
    layout: str,
    dtype: str,
    shape: tuple[int, ...],
    target: Callable[[str], torch.Tensor] | None = None,
    *,
    jit: bool = False,
    numpy: bool = False,
):
    """The gradient of dense operands, or with the tensor that `target` makes for the dtype."""
    case_id = f"grad/{dtype}/{layout}"
    if not suite.wants(case_id):
        return
    g, x = tensor(shape, dtype, 0), tensor(shape, dtype, 1)
    y = tensor(shape, dtype, 2) if target is None else target(dtype)
    out = torch.empty(x.shape, dtype=x.dtype)
    scale = 2.0 / x.numel()
    backward = torch.ops.aten.mse_loss_backward
    contenders = {
        "mseloss": lambda: mseloss.grad(g, x, y, out=out),
        "mseloss, fresh output": lambda: mseloss.grad(g, x, y),
        "PyTorch out=": lambda: backward.grad_input(g, x, y, MEAN, grad_input=out),
        "PyTorch": lambda: backward(g, x, y, MEAN),
    }
    if numpy:
        ng, nx, ny, nout = (t.numpy() for t in (g, x, y, out))
        s = nx.dtype.type(scale)

        def in_place():
            np.subtract(nx, ny, out=nout)
            np.multiply(nout, s, out=nout)
            np.multiply(nout, ng, out=nout)

        contenders["NumPy out="] = in_place
        contenders["NumPy"] = lambda: ng * (nx - ny) * s
        contenders["mseloss, NumPy arrays, out="] = lambda: mseloss.grad(ng, nx, ny, out=nout)
    if jit:
        jg, jx, jy = (to_jax(t, dtype) for t in (g, x, y))
        f = jax.jit(lambda g, x, y: (x - y) * scale * g)
        contenders["JAX jit"] = lambda: f(jg, jx, jy).block_until_ready()
    mseloss.grad(g, x, y, out=out)
    suite.add(case_id, "grad", dtype, x.numel(), same(out, gradient(g, x, y)), contenders)


def add_dense_grads(suite: Suite):
    large = (64 if suite.quick else 256) * MIB
    for dtype in ("f32", "f16") if suite.quick else ("f32", "f16", "bf16", "f64"):
        for size, each in (("L2", MIB // 4), ("L3", 8 * MIB), ("mem", large)):
            half = dtype in ("f16", "bf16")  # NumPy has no vector code for them
            jit = dtype == "f32" or (size == "mem" and half)
            n = each // SIZE[dtype]
            add_grad(suite, f"dense/{size}", dtype, (n,), jit=jit, numpy=not half)
    add_grad(suite, "tiny/16", "f32", (16,), numpy=True)


def add_layout_grads(suite: Suite):
    for dtype in ("f32",) if suite.quick else ("f32", "f16"):
        add_grad(suite, "square/4096x4096", dtype, SQUARE)
        for kind, target in (
            ("transposed", lambda d: tensor(SQUARE, d, 2).t()),
            ("row", lambda d: tensor((1, 4096), d, 2)),
            ("column", lambda d: tensor((4096, 1), d, 2)),
        ):
            layout = f"target_{kind}/4096x4096"
            add_grad(suite, layout, dtype, SQUARE, target, numpy=dtype == "f32")
        add_grad(
            suite,
            "target_nhwc/32x64x56x56",
            dtype,
            NCHW,
            lambda d: tensor(NCHW, d, 2).to(memory_format=torch.channels_last),
        )


def add_losses(suite: Suite):
    for dtype in ("f32", "f16", "bf16", "f64"):
        case_id = f"loss/{dtype}/mean/mem"
        if not suite.wants(case_id):
            continue
        n = 256 * MIB // SIZE[dtype]
        x, y = tensor((n,), dtype, 1), tensor((n,), dtype, 2)
        value = mseloss.loss(x, y)
        naive = (x.double() - y.double()).square_().mean()
        right = bool(abs(value.double() / naive - 1) < (1e-9 if dtype == "f64" else 1e-2))
        contenders = {
            "mseloss": lambda x=x, y=y: mseloss.loss(x, y),
            "PyTorch": lambda x=x, y=y: F.mse_loss(x, y),
        }
        if dtype in ("f32", "f64"):
            nx, ny = x.numpy(), y.numpy()
            contenders["NumPy"] = lambda nx=nx, ny=ny: np.mean((nx - ny) ** 2)
        suite.add(case_id, "loss", dtype, n, right, contenders)


def add_step(suite: Suite, dtype: str, n: int, *, compiled: bool, jit: bool):
    """A training step as users write it, with newly allocated results."""
    case_id = f"step/{dtype}/{n}"
    if not suite.wants(case_id) or ours_torch is None:
        return
    x, y = tensor((n,), dtype, 1).requires_grad_(), tensor((n,), dtype, 2)

    def step(loss):
        x.grad = None
        loss(x, y).backward()

    contenders = {
        "mseloss": lambda: step(ours_torch.mse_loss),
        "PyTorch": lambda: step(F.mse_loss),
    }
    if compiled:
        f = torch.compile(F.mse_loss, dynamic=False)
        contenders["torch.compile"] = lambda: step(f)
    if jit:
        jx, jy = to_jax(x, dtype), to_jax(y, dtype)
        value_and_grad = jax.jit(jax.value_and_grad(lambda x, y: jax.numpy.mean((x - y) ** 2)))
        contenders["JAX value_and_grad"] = lambda: jax.block_until_ready(value_and_grad(jx, jy))
        if ours_jax is not None:
            fused = jax.jit(jax.value_and_grad(ours_jax.mse_loss))
            try:
                jax.block_until_ready(fused(jx, jy))
                contenders["mseloss, JAX"] = lambda: jax.block_until_ready(fused(jx, jy))
            except Exception as error:
                print(f"{case_id}: mseloss.jax fails and is left out: {error}", file=sys.stderr)
    step(ours_torch.mse_loss)
    one = torch.ones((), dtype=x.dtype)
    right = same(x.grad, gradient(one, x.detach(), y))
    suite.add(case_id, "step", dtype, n, right, contenders)
    x.grad = None


def add_steps(suite: Suite):
    sizes = [1 << 10, 1 << 16, 1 << 22] if suite.quick else [1 << k for k in range(10, 27, 2)]
    for n in sizes:
        add_step(
            suite,
            "f32",
            n,
            compiled=not suite.quick and n in (1 << 22, 1 << 26),
            jit=n >= 1 << 16,
        )
    if not suite.quick:
        for dtype in ("f16", "bf16"):
            add_step(suite, dtype, 1 << 22, compiled=False, jit=False)
            add_step(suite, dtype, 1 << 26, compiled=True, jit=True)


def add_weighted_steps(suite: Suite):
    """Steps with one weight an element, one a sample, or a mask, in PyTorch as its users write them."""
    for dtype in ("f32", "bf16"):
        rows = 64 * MIB // SIZE[dtype] // 1024
        x = tensor((rows, 1024), dtype, 1).requires_grad_()
        y, w = tensor((rows, 1024), dtype, 2), tensor((rows, 1024), dtype, 3).abs()
        for kind, weight in (("full", w), ("sample", w[:, :1].contiguous()), ("mask", w > 1)):
            case_id = f"weighted/{dtype}/{kind}"
            if not suite.wants(case_id) or ours_torch is None:
                continue

            def ours(weight=weight, x=x, y=y):
                x.grad = None
                ours_torch.mse_loss(x, y, weight=weight).backward()

            def theirs(weight=weight, x=x, y=y):
                x.grad = None
                terms = F.mse_loss(x, y, reduction="none") * weight
                (terms.sum() / weight.expand(x.shape).sum()).backward()

            ours()
            d, wide = x.detach().double() - y.double(), weight.double()
            expected = 2 * d * wide / wide.expand(x.shape).sum()
            right = torch.allclose(
                x.grad.double(), expected, rtol=2e-2 if dtype == "bf16" else 1e-5
            )
            del d, wide, expected
            suite.add(
                case_id, "peers", dtype, x.numel(), right, {"mseloss": ours, "PyTorch": theirs}
            )


def add_vmap(suite: Suite):
    """Gradients per sample."""
    x, y = tensor((4096, 256), "f32", 1), tensor((4096, 256), "f32", 2)
    if not suite.wants("vmap_grad/f32/4096x256") or ours_torch is None:
        return
    ours, theirs = (
        torch.func.vmap(torch.func.grad(loss)) for loss in (ours_torch.mse_loss, F.mse_loss)
    )
    right = torch.allclose(ours(x, y), theirs(x, y))
    contenders = {"mseloss": lambda: ours(x, y), "PyTorch": lambda: theirs(x, y)}
    suite.add("vmap_grad/f32/4096x256", "peers", "f32", x.numel(), right, contenders)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--filter", default="")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(mseloss.info()["threads"])
    suite = Suite(arguments.quick, arguments.filter)
    versions = {"torch": torch.__version__, "jax": jax.__version__, "numpy": np.__version__}
    peers = {"start": timing.stamp(), "end": "", "versions": versions}
    peers |= {"errors": errors.measure(arguments.quick), "cases": suite.cases}
    parts = [add_steps, add_weighted_steps, add_vmap, add_layout_grads, add_dense_grads]
    for part in parts if arguments.quick else [*parts, add_losses]:
        part(suite)
        peers["end"] = timing.stamp()
        # After each part, so that an interrupted run leaves its results.
        pathlib.Path(arguments.out).write_text(json.dumps(peers))
    return int(any("error" in case for case in suite.cases))


if __name__ == "__main__":
    sys.exit(main())
