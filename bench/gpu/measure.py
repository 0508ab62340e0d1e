#!/usr/bin/env python3
"""Times the CUDA kernels beside the copy ceiling, PyTorch and a plain Triton kernel.

usage: measure.py BRIDGE RESULT_FOLDER [--quick]

Writes one dated result file. Every case is first checked: gradients bit by bit against the three rounded
operations in NumPy, sums against the correctly rounded sum of exact squares. Times are medians of replays of
a CUDA graph, which exclude the launch from Python. Not yet run on a card.
"""

from __future__ import annotations

import ctypes
import datetime
import json
import math
import pathlib
import statistics
import subprocess
import sys

import numpy as np
import torch

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.float64: 3}
REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}
REPLAYS = 20


class Array(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.c_int64 * 8),
        ("strides", ctypes.c_int64 * 8),
    ]

    @classmethod
    def of(cls, tensor):
        pad = (0,) * (8 - tensor.dim())
        return cls(
            tensor.data_ptr(),
            DTYPES[tensor.dtype],
            tensor.dim(),
            (ctypes.c_int64 * 8)(*tensor.shape, *pad),
            (ctypes.c_int64 * 8)(*tensor.stride(), *pad),
        )


class Library:
    def __init__(self, path):
        self.call = ctypes.CDLL(path).mseloss_bench_call

    def run(self, g, x, y, loss, out, reduction):
        message = ctypes.create_string_buffer(512)
        arrays = [None if t is None else ctypes.byref(Array.of(t)) for t in (g, x, y, loss, out)]
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        if self.call(*arrays, REDUCTIONS[reduction], stream, message):
            raise RuntimeError(message.value.decode())


def milliseconds(function):
    """Median and spread of the replays of a CUDA graph of the call."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            function()
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    times = []
    for _ in range(REPLAYS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times), (min(times), max(times))


def triton_loss_and_grad():
    """A plain fused kernel: gradient, and one atomic addition of a block's float32 sum."""
    import triton
    import triton.language as tl

    @triton.jit
    def kernel(x, y, out, loss, n, scale, BLOCK: tl.constexpr):  # noqa: N803
        offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        mask = offsets < n
        d = tl.load(x + offsets, mask, 0).to(tl.float32) - tl.load(y + offsets, mask, 0).to(
            tl.float32
        )
        tl.store(out + offsets, d * scale, mask)
        tl.atomic_add(loss, tl.sum(d * d))

    def call(x, y, out, loss, scale):
        loss.zero_()
        kernel[(triton.cdiv(x.numel(), 4096),)](x, y, out, loss, x.numel(), scale, BLOCK=4096)

    return call


def check_grad(out, x, y, scale):
    d = x.float().cpu().numpy() - y.float().cpu().numpy()
    expected = torch.from_numpy(d * np.float32(scale)).to(out.dtype)
    assert torch.equal(out.cpu(), expected), "the gradient has other bits"


def check_sum(loss, x, y):
    d = (x.float() - y.float()).double().cpu().numpy().ravel()
    exact = math.fsum((d * d).tolist())
    assert loss.item() == np.float32(exact / d.size), (
        f"the mean is {loss.item()}, not {exact / d.size}"
    )


def cases(quick):
    size = 1 << (20 if quick else 26)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        yield f"dense {dtype} {size}", dtype, (size,), lambda t: t
    side = 1 << (9 if quick else 13)
    yield (
        f"transposed target {side}x{side}",
        torch.float32,
        (side, side),
        lambda t: t.t().contiguous().t(),
    )
    yield f"row target {side}x{side}", torch.float32, (side, side), lambda t: t[:1].expand_as(t)
    yield "small 65536", torch.float32, (1 << 16,), lambda t: t


def calls(library, fused, x, y):
    """The calls of one case by name, each with the bytes that it must move, after the checks."""
    out, g = torch.empty_like(x), torch.ones((), device="cuda", dtype=x.dtype)
    loss = torch.empty((), device="cuda", dtype=torch.float32)
    scale = np.float32(2) / np.float32(x.numel())
    library.run(g, x, y, None, out, "mean")
    check_grad(out, x, y, scale)
    library.run(None, x, y, loss, None, "mean")
    check_sum(loss, x, y)
    step = torch.nn.functional.mse_loss
    compiled = torch.compile(lambda a, b: ((a - b) * float(scale), step(a, b)))
    compiled(x, y)
    read = x.numel() * x.element_size()
    result = {
        "copy of one tensor": (lambda: out.copy_(x), 2 * read),
        "mseloss grad": (lambda: library.run(g, x, y, None, out, "mean"), 3 * read),
        "mseloss loss": (lambda: library.run(None, x, y, loss, None, "mean"), 2 * read),
        "mseloss loss and grad": (lambda: library.run(g, x, y, loss, out, "mean"), 3 * read),
        "PyTorch loss": (lambda: step(x, y), 2 * read),
        "PyTorch loss, then grad": (
            lambda: (step(x, y), torch.ops.aten.mse_loss_backward(g, x, y, 1)),
            3 * read,
        ),
        "PyTorch compiled, loss and grad": (lambda: compiled(x, y), 3 * read),
    }
    if y.is_contiguous():
        result["Triton, loss and grad"] = (lambda: fused(x, y, out, loss, float(scale)), 3 * read)
    return result


def measure(library, quick):
    fused = triton_loss_and_grad()
    for name, dtype, shape, layout in cases(quick):
        torch.manual_seed(1)
        x = torch.randn(shape, device="cuda").to(dtype)
        y = layout(torch.randn(shape, device="cuda").to(dtype))
        for what, (function, useful) in calls(library, fused, x, y).items():
            row = {"case": name, "what": what}
            try:
                row["ms"], row["spread_ms"] = milliseconds(function)
                row["useful_gb_per_s"] = useful / row["ms"] / 1e6
            except Exception as error:  # a peer that cannot be captured
                row["error"] = str(error).splitlines()[0]
            yield row


def repeat_sums(library, count):
    """Races: every repetition of a sum has the same bits."""
    x, y = torch.randn(2, 1 << 20, device="cuda")
    loss = torch.empty(count, device="cuda")
    for i in range(count):
        library.run(None, x, y, loss[i], None, "sum")
    assert (loss == loss[0]).all(), "sums differ between repetitions"


def main():
    library, folder, quick = Library(sys.argv[1]), pathlib.Path(sys.argv[2]), "--quick" in sys.argv
    repeat_sums(library, 1000)
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    result = {
        "date": datetime.date.today().isoformat(),
        "card": subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "rows": [],
    }
    for row in measure(library, quick):
        result["rows"].append(row)
        print(row)
    file = folder / f"gpu-{result['date']}.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {file}")


if __name__ == "__main__":
    main()
