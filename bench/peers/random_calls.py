"""Times random calls as people make them, in turns with PyTorch's own loss, with NumPy's expressions, or with
JAX's under jit.

random_calls.py [COUNT] [--against torch|weights|numpy|jax] [--seed N] [--turns N] [--worst N]

A call has 16 to 2 M elements in 1 to 4 dimensions; each operand is dense, transposed, channels last, every
second element, expanded or begins at an offset (for JAX all are dense). Each is timed N times, short calls as
often as 2 ms allow. The worst cases are printed with what explains them. "weights": losses with a weight, a
mask or over one dimension, against PyTorch's expressions.
"""

import argparse
import dataclasses
import math
import random
import statistics
import sys
import time

import mseloss
import mseloss.torch as ours
import torch
import torch.nn.functional as F  # noqa: N812

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
# Spent on a call at least. In 9 turns, a call of 4 us seems more than 3 % slower than itself in one of three
# cases, in 100 turns in one of a hundred.
SECONDS = 0.002
LAYOUTS = ("dense", "transposed", "channels_last", "every second", "expanded", "offset")


def operand(layout: str, shape: list[int], dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)

    def values(*shape):
        return torch.rand(shape, generator=generator).mul_(4).sub_(2).to(dtype)

    if layout == "transposed" and len(shape) > 1:
        return values(*shape[:-2], shape[-1], shape[-2]).transpose(-1, -2)
    if layout == "channels_last" and len(shape) == 4:
        return values(*shape).to(memory_format=torch.channels_last)
    if layout == "every second":
        return values(*shape[:-1], 2 * shape[-1])[..., ::2]
    if layout == "expanded":
        return values(*shape[:-1], 1).expand(shape)
    if layout == "offset":
        return values(math.prod(shape) + 1)[1:].view(shape)
    return values(*shape)


@dataclasses.dataclass
class Call:
    """A forward pass or a training step of PyTorch."""

    seed: int
    dtypes = DTYPES

    def __post_init__(self):
        choose = random.Random(self.seed)
        numel, rank = 2 ** choose.uniform(4, 21), choose.randint(1, 4)
        cuts = sorted(choose.random() for _ in range(rank - 1))
        parts = [b - a for a, b in zip([0, *cuts], [*cuts, 1], strict=True)]
        shape = [max(1, round(numel**part)) for part in parts]
        self.dtype, self.how = choose.choice([*self.dtypes]), choose.choice(["mean", "sum", "none"])
        self.step = choose.random() < 0.5
        # Expanded memory cannot be a leaf that collects a gradient of its own.
        self.layouts = choose.choice(LAYOUTS[:4] + LAYOUTS[5:]), choose.choice(LAYOUTS)
        self.x, self.y = (
            operand(layout, shape, self.dtypes[self.dtype], self.seed + i)
            for i, layout in enumerate(self.layouts)
        )
        self.upstream = torch.ones(shape, dtype=self.x.dtype) if self.how == "none" else None
        self.prepare()

    def prepare(self):
        self.x.requires_grad_(self.step)
        self.contenders = (F.mse_loss, ours.mse_loss)

    def run(self, loss):
        """The loss and, for a step, the gradient."""
        value = loss(self.x, self.y, reduction=self.how)
        if not self.step:
            return value, None
        self.x.grad = None
        value.backward(self.upstream)
        return value.detach(), self.x.grad

    as_tensor = staticmethod(torch.as_tensor)

    def is_right(self) -> bool:
        value, slope = (
            None if v is None else self.as_tensor(v).double() for v in self.run(self.contenders[1])
        )
        d = self.x.detach().double() - self.y.double()
        exact = {"none": d * d, "sum": (d * d).sum(), "mean": (d * d).mean()}[self.how]
        expected = exact.to(self.dtypes[self.dtype]).double()
        tolerance = 1e-6 if self.dtype in ("f32", "f64") else 2e-2
        right = torch.allclose(value, expected, rtol=tolerance, atol=1e-6)
        if self.step:
            gradient = d * 2 / (d.numel() if self.how == "mean" else 1)
            right &= torch.allclose(slope, gradient, rtol=tolerance, atol=2e-7 + tolerance * 1e-2)
        return right

    def measure(self, turns: int):
        """At least so many turns, and as many as SECONDS allow."""
        # In random order: alternating, one function of 4 us was 2 % slower than itself in the second place.
        order = random.Random(self.seed)
        self.run(self.contenders[0])  # is_right() has run ours: JAX compiles in the first run
        times: tuple[list[float], list[float]] = ([], [])
        while len(times[0]) < turns or sum(map(sum, times)) < SECONDS:
            for i in order.sample((0, 1), 2):
                begin = time.perf_counter()
                self.run(self.contenders[i])
                times[i].append(time.perf_counter() - begin)
        self.theirs, self.ours = map(statistics.median, times)
        self.ratio = self.theirs / self.ours

    def __str__(self):
        kind = "step" if self.step else "forward"
        return (
            f"{self.ratio:5.2f}  {self.theirs * 1e6:9.1f} us, ours {self.ours * 1e6:9.1f}  {kind} "
            f"{self.how} {self.dtype} {tuple(self.x.shape)} {' - '.join(self.layouts)} (seed {self.seed})"
        )

    def explanation(self) -> str:
        return mseloss.explain(1.0, self.x.detach(), self.y, "sum")


class WeightedCall(Call):
    """A mean or sum with a weight for each element or sample, with a mask, or over one dimension."""

    def prepare(self):
        super().prepare()
        choose = random.Random(-self.seed)
        self.how = choose.choice(["mean", "sum"])
        shape, dtype = self.x.shape, self.x.dtype
        self.kind = choose.choice(["weight", "sample", "mask", "dim"])
        if self.kind == "sample":
            shape = (shape[0], *(1,) * (len(shape) - 1))
        weight = operand("dense", list(shape), torch.float32, self.seed + 2).abs()
        self.dim = choose.randrange(len(shape)) if self.kind == "dim" else None
        self.weight = {"mask": weight < 1, "dim": None}.get(self.kind, weight.to(dtype))
        with torch.no_grad():
            self.upstream = torch.ones_like(self.ours_of(self.x, self.y))
        self.contenders = (self.theirs_of, self.ours_of)

    def run(self, contender):
        return super().run(lambda x, y, reduction: contender(x, y))

    def theirs_of(self, x, y):
        if self.kind == "weight":
            return F.mse_loss(x, y, weight=self.weight, reduction=self.how)
        squares = (x - y) ** 2
        if self.kind == "dim":
            return getattr(squares, self.how)(self.dim)
        total = (squares * self.weight).sum()
        return total if self.how == "sum" else total / self.weight.expand(x.shape).sum()

    def ours_of(self, x, y):
        return ours.mse_loss(x, y, reduction=self.how, weight=self.weight, dim=self.dim)

    def is_right(self) -> bool:
        value, slope = self.run(self.ours_of)
        x, y = self.x.detach().double(), self.y.double()
        dims = tuple(range(x.dim())) if self.dim is None else (self.dim,)
        w = (torch.ones(()) if self.weight is None else self.weight).double().expand(x.shape)
        divisor = w.sum(dims, keepdim=True) if self.how == "mean" else 1
        exact = (w * (x - y) ** 2 / divisor).sum(dims)
        tolerance = 1e-6 if self.dtype == "f32" else 2e-2
        exact = exact.to(value.dtype).double()
        right = torch.allclose(value.double(), exact, rtol=tolerance, atol=1e-6, equal_nan=True)
        if self.step:
            gradient = w * (x - y) * (2 / divisor)
            right &= torch.allclose(
                slope.double(), gradient, rtol=tolerance, atol=1e-6, equal_nan=True
            )
        return right

    def __str__(self):
        return (
            super()
            .__str__()
            .replace(
                self.how,
                f"{self.how} with {self.kind}{'' if self.dim is None else f' {self.dim}'}",
                1,
            )
        )


class NumPyCall(Call):
    """The loss, or the loss and its gradient, of NumPy arrays."""

    dtypes = {"f32": torch.float32, "f64": torch.float64}  # noqa: RUF012

    def prepare(self):
        self.a, self.b = self.x.numpy(), self.y.numpy()
        self.one = self.a.dtype.type(1).reshape(())
        self.contenders = (self.theirs_of, self.ours_of)

    def run(self, contender):
        return contender()

    def theirs_of(self):
        d = self.a - self.b
        squares = d * d
        loss = {"none": lambda: squares, "sum": squares.sum, "mean": squares.mean}[self.how]()
        scale = d.dtype.type(2 / d.size if self.how == "mean" else 2)
        return loss, d * scale if self.step else None

    def ours_of(self):
        if not self.step:
            return mseloss.loss(self.a, self.b, self.how), None
        if self.how == "none":
            return mseloss.loss_and_grad(self.a, self.b, "none", grad_output=self.one)
        return mseloss.loss_and_grad(self.a, self.b, self.how)


class JAXCall(Call):
    """The loss, or the loss and its gradient, of JAX arrays, as one compiled function."""

    def prepare(self):
        import jax
        import mseloss.jax
        from tensors import to_jax

        self.layouts = ("dense", "dense")
        self.a, self.b = (to_jax(t.contiguous(), self.dtype) for t in (self.x, self.y))
        self.x, self.y = self.x.contiguous(), self.y.contiguous()

        def theirs(a, b):
            squares = jax.numpy.square(a - b)
            return {"none": squares, "sum": squares.sum(), "mean": squares.mean()}[self.how]

        def own(a, b):
            return mseloss.jax.mse_loss(a, b, self.how)

        self.contenders = tuple(jax.jit(self.with_gradient(call)) for call in (theirs, own))

    def with_gradient(self, call):
        import jax

        def both(a, b):
            if not self.step:
                return call(a, b), None
            value, backward = jax.vjp(lambda a: call(a, b), a)
            return value, backward(jax.numpy.ones_like(value))[0]

        return both

    @staticmethod
    def as_tensor(array):
        return torch.from_numpy(array.astype("float32").__array__().copy())

    def run(self, contender):
        value, slope = contender(self.a, self.b)
        value.block_until_ready()
        return value, slope if slope is None else slope.block_until_ready()


CALLS = {"torch": Call, "weights": WeightedCall, "numpy": NumPyCall, "jax": JAXCall}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int, nargs="?", default=200)
    parser.add_argument("--against", choices=CALLS, default="torch")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--worst", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(mseloss.info()["threads"])
    calls, wrong = [], 0
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        call = CALLS[arguments.against](seed)
        if not call.is_right():
            print(f"wrong result, not timed: {call.layouts}, seed {seed}", file=sys.stderr)
            wrong += 1
            continue
        call.measure(arguments.turns)
        call.text, call.why = str(call), call.explanation()
        call.x = call.y = call.weight = call.upstream = call.a = call.b = call.contenders = None
        calls.append(call)
    calls.sort(key=lambda call: call.ratio)
    for call in calls[: arguments.worst]:
        print(f"{call.text}\n       {call.why}")
    ratios = [call.ratio for call in calls]
    print(
        f"seed {arguments.seed}, step {mseloss.info()['torch_step']}: of {len(calls)} calls "
        f"{sum(r < 1 / 1.03 for r in ratios)} are slower than {arguments.against} by more than 3 %, "
        f"{sum(r < 1 / 1.15 for r in ratios)} by more than 15 %; worst {ratios[0]:.2f}, "
        f"geometric mean {statistics.geometric_mean(ratios):.2f}"
    )
    for kind in (True, False):
        for how in ("mean", "sum", "none"):
            some = [c.ratio for c in calls if (c.step, c.how) == (kind, how)]
            if some:
                print(
                    f"  {'step' if kind else 'forward':7} {how:4}: {len(some):3} calls, "
                    f"{sum(r < 1 / 1.03 for r in some):3} slower, "
                    f"geometric mean {statistics.geometric_mean(some):.2f}"
                )
    return int(wrong != 0)


if __name__ == "__main__":
    sys.exit(main())
