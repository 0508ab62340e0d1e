"""Run by test_torch_distributed.py in every process of a gloo group; the argument names the group of checks.

All processes make the same random data, take their own parts, and compare with the reference of the whole.
"""

import itertools
import sys

import mseloss
import mseloss.torch as face
import numpy as np
import torch
import torch.distributed as dist
from conftest import same_bits
from mseloss import reference
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, processes = dist.get_rank(), dist.get_world_size()
WORLD = dist.group.WORLD
random = np.random.default_rng(3)
checks = 0
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def values(shape, dtype, kind="normal"):
    if kind == "tie":  # halfway between two values of the dtype: only an exact sum rounds correctly
        array = np.zeros(shape)
        half_ulp = {torch.bfloat16: 2.0**-4, torch.float16: 2.0**-5.5, torch.float32: 2.0**-12}
        array.flat[0] = 1
        array.flat[-1] = half_ulp.get(dtype, 2.0**-26.5)
    elif kind == "special":
        array = random.choice([0.0, 1.0, np.inf, np.nan], shape, p=[0.5, 0.3, 0.1, 0.1])
    else:
        array = random.standard_normal(shape)
    return torch.tensor(array).to(dtype)


def array_of(tensor):
    return None if tensor is None else mseloss._core.asnumpy(tensor.detach(), weight=True)


def expect(actual, expected):
    global checks
    checks += 1
    assert same_bits(array_of(actual), expected), (actual, expected)


def group():
    """20 random splits for each dtype, with empty parts, weights and masks."""
    for dtype, case in itertools.product(DTYPES, range(20)):
        rows, reduction = int(random.integers(0, 12)), ("mean", "sum")[case % 2]
        kind = ("normal", "tie", "special")[case % 3] if rows else "normal"
        x, y = values((rows, 3), dtype, kind), values((rows, 3), dtype)
        if kind != "normal":
            y.zero_()
        w = [None, values((rows, 3), dtype).abs(), torch.tensor(random.random((rows, 3)) < 0.6)]
        w = w[case % 5 % 3]
        cuts = np.sort([0, *random.integers(0, rows + 1, processes - 1), rows])
        own = slice(*cuts[rank : rank + 2])
        a, b = (t[own].clone().requires_grad_() for t in (x, y))
        c = None if w is None else w[own].clone().requires_grad_(w.dtype != torch.bool)
        averaged = case % 4 == 0
        loss = face.mse_loss(a, b, reduction=reduction, weight=c, group=WORLD, averaged=averaged)
        loss.backward()
        g = float(processes if averaged else 1)
        arrays = (array_of(x), array_of(y), reduction)
        expected = reference.loss(*arrays, weight=array_of(w))
        _, gradient = reference.loss_and_grad(*arrays, weight=array_of(w), grad_output=g)
        expect(loss, expected)
        expect(a.grad, gradient[own])
        masked = c is not None and c.dtype == torch.bool  # then gradients are +0
        expect(b.grad, 0 - gradient[own] if masked else -gradient[own])
        if c is not None and c.requires_grad and kind == "normal":
            square = (x[own].double() - y[own].double()).square()
            if reduction == "mean":
                square = (square - float(expected)) / w.double().sum()
            tolerance = {2: 0.05, 4: 1e-4, 8: 1e-8}[dtype.itemsize]
            torch.testing.assert_close(c.grad.double(), g * square, rtol=tolerance, atol=tolerance)
    # Weights of other dtypes.
    half = torch.ones(3, dtype=torch.bfloat16)
    third = torch.full((3,), 0.25)
    expect(face.mse_loss(half, 0 * half, weight=third, group=WORLD), np.float32(1))
    expect(
        face.mse_loss(third, 0 * third, weight=torch.tensor([0, 2, 0]), group=WORLD),
        np.float32(1 / 16),
    )
    mesh = dist.init_device_mesh("cpu", (1, processes))
    x = torch.ones(rank + 1, 3)
    expect(face.mse_loss(x, x, group=mesh), np.float32(0))
    expect(face.MSELoss(group=mesh, reduction="sum")(x, x), np.float32(0))
    with torch.autocast("cpu"):
        half = torch.ones(2, dtype=torch.bfloat16) / 3
        assert face.mse_loss(half, half, group=WORLD).dtype == torch.float32


def expect_rounded_once(actual, exact):
    """Within half an ulp of float16 and the error of a sum in float32 of the exact float64 gradient."""
    global checks
    checks += 1
    assert actual.dtype == torch.float16, actual
    exponent = torch.frexp(exact).exponent.clamp(min=-13)
    error = (actual.double() - exact).abs()
    excess = error - torch.ldexp(torch.ones_like(exact), exponent - 12) - 1e-5 * exact.abs()
    assert (excess <= 0).all(), (actual, exact)


def half_gradients():
    """Gradients in float16 that are not rounded or overflow on the way, beside float64 computations."""
    half = torch.float16
    # grad_output * processes overflows.
    x = torch.full((3,), 0.001, dtype=half, requires_grad=True)
    y = torch.zeros(3, dtype=half, requires_grad=True)
    w = torch.full((3,), 0.5, dtype=half, requires_grad=True)
    upstream = torch.tensor(2.0**15, dtype=half)
    loss = face.mse_loss(x, y, reduction="sum", weight=w, group=WORLD, averaged=True)
    of_x, of_y, of_w = torch.autograd.grad(loss, (x, y, w), upstream)
    exact = x.detach().double() * 2**15 * processes
    expect_rounded_once(of_x, exact)
    expect_rounded_once(of_y, -exact)
    expect_rounded_once(of_w, x.detach().double() * exact)
    # Only the weight is larger than the data.
    x, y = (values((1, 512), half).requires_grad_() for _ in range(2))
    w = values((64, 512), half).abs().requires_grad_()
    difference, weight = x.detach().double() - y.detach().double(), w.detach().double()
    square, total = difference.square(), processes * weight.sum()
    for reduction, scale, mean in (
        ("sum", 1, 0),
        ("mean", 1 / total, (square * weight).sum() * processes / total),
    ):
        loss = face.mse_loss(x, y, reduction=reduction, weight=w, group=WORLD)
        of_x, of_y, of_w = torch.autograd.grad(loss, (x, y, w))
        exact = (2 * scale * difference * weight).sum(0, keepdim=True)
        expect_rounded_once(of_x, exact)
        expect_rounded_once(of_y, -exact)
        far = ((square - mean).abs() > 0.1 * square).expand(64, 512)  # without cancellation
        expect_rounded_once(of_w[far], (scale * (square - mean)).expand(64, 512)[far])
    # The mean overflows.
    x = torch.tensor([300, 301, 302], dtype=half)
    w = torch.tensor([1, 2, 3], dtype=half, requires_grad=True)
    loss = face.mse_loss(x, 0 * x, weight=w, group=WORLD)
    assert loss.isinf()
    loss.backward()
    square, weight = x.double().square(), w.detach().double()
    mean = (square * weight).sum() / weight.sum()
    expect_rounded_once(w.grad, (square - mean) / (processes * weight.sum()))


def placed(tensor, mesh, placements):
    whole = [Replicate() if p.is_partial() else p for p in placements]
    result = distribute_tensor(tensor.clone(), mesh, whole)
    if tuple(whole) == tuple(placements):
        return result
    # The first process of a partial placement has the values, the others have zeros.
    first = all(mesh.get_local_rank(i) == 0 for i, p in enumerate(placements) if p.is_partial())
    local = result.to_local() * first
    return DTensor.from_local(local, mesh, placements, shape=tensor.shape, stride=tensor.stride())


def dtensor():
    """All pairs of placements; even, uneven, empty shards; broadcasting, weights; 1-D and 2-D meshes."""
    one = [Shard(0), Shard(1), Replicate(), Partial()]
    meshes = [(dist.init_device_mesh("cpu", (processes,)), [(p,) for p in one])]
    if processes == 4:
        pairs = [p for p in itertools.product(one[:3], repeat=2)] + [(Partial(), Shard(1))]
        meshes.append((dist.init_device_mesh("cpu", (2, 2)), pairs))
    cases = 0
    for mesh, placements in meshes:
        for px, py in itertools.product(placements, repeat=2):
            cases += 1
            shape = [(8, 4), (7, 3), (2, 1)][cases % 3]
            reduction = ("mean", "sum", "none")[cases % 4 % 3]
            x = values(shape, torch.float32)
            y = values(shape if cases % 5 else shape[1:], torch.float32)
            if y.dim() == 1:
                py = tuple(Shard(0) if p == Shard(1) else Replicate() for p in py)
            dx, dy = placed(x, mesh, px).requires_grad_(), placed(y, mesh, py).requires_grad_()
            w = dw = None
            if cases % 3 == 0:
                w = values(shape, torch.float32).abs()
                dw = placed(w, mesh, px).requires_grad_()
            target = y if cases % 7 == 0 else dy  # a tensor that all processes have
            loss = face.mse_loss(dx, target, reduction=reduction, weight=dw)
            (loss * 3).sum().backward()
            arrays = (x.numpy(), y.numpy(), reduction)
            expected = reference.loss(*arrays, weight=array_of(w))
            _, gradient = reference.loss_and_grad(*arrays, weight=array_of(w), grad_output=3.0)
            assert reduction == "none" or loss.placements == (Replicate(),) * mesh.ndim
            expect(loss.full_tensor(), expected)
            expect(dx.grad.full_tensor(), gradient)
            if not any(p.is_partial() for p in px):
                assert dx.grad.placements == dx.placements
                assert dw is None or dw.grad.placements == dw.placements
            if target is dy:
                assert any(p.is_partial() for p in py) or dy.grad.placements == dy.placements
                of_target = dy.grad.full_tensor().numpy()
                whole = -gradient if y.dim() == 2 else -gradient.astype(np.float64).sum(0)
                np.testing.assert_allclose(of_target, whole, rtol=1e-5, atol=1e-6)


def two_parallelisms():
    """Tensor in data parallelism: DTensors on one dimension of a mesh, a group along the other."""
    mesh = dist.init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    row = mesh.get_local_rank("data")
    for dtype, averaged, px in itertools.product(
        DTYPES, (False, True), (Shard(0), Shard(1), Replicate())
    ):
        x, y = values((7, 3), dtype), values((7, 3), dtype)
        own = slice(0, 2) if row == 0 else slice(2, 7)
        dx = placed(x[own], mesh["tensor"], [px]).requires_grad_()
        dy = placed(y[own], mesh["tensor"], [Shard(0)])
        loss = face.mse_loss(dx, dy, group=mesh.get_group("data"), averaged=averaged)
        loss.backward()
        g = 2.0 if averaged else 1.0
        expected, gradient = reference.loss_and_grad(array_of(x), array_of(y), grad_output=g)
        expect(loss.full_tensor(), expected)
        expect(dx.grad.full_tensor(), gradient[own])


def compiled():
    """torch.compile in one graph: the bits of the eager call, forward and backward."""
    mesh = dist.init_device_mesh("cpu", (processes,))
    x, y = values((7, 3), torch.float32), values((7, 3), torch.float32)
    expected, gradient = reference.loss_and_grad(x.numpy(), y.numpy())
    own = slice(7 * rank // processes, 7 * (rank + 1) // processes)
    ours = torch.compile(lambda a, b: face.mse_loss(a, b, group=WORLD), fullgraph=True)
    a = x[own].clone().requires_grad_()
    loss = ours(a, y[own])
    loss.backward()
    expect(loss, expected)
    expect(a.grad, gradient[own])
    w = values((7, 3), torch.float32).abs()
    weighted = torch.compile(
        lambda a, b, c: face.mse_loss(a, b, weight=c, group=WORLD), fullgraph=True
    )
    expect(weighted(x[own], y[own], w[own]), reference.loss(x.numpy(), y.numpy(), weight=w.numpy()))
    ours = torch.compile(lambda a, b: face.mse_loss(a, b), fullgraph=True)
    for px, py in (((Shard(0),), (Shard(0),)), ((Shard(1),), (Replicate(),))):
        dx, dy = placed(x, mesh, px).requires_grad_(), placed(y, mesh, py)
        loss = ours(dx, dy)
        loss.backward()
        expect(loss.full_tensor(), expected)
        expect(dx.grad.full_tensor(), gradient)
        assert dx.grad.placements == px


def refused():
    x, wide = torch.ones(3, requires_grad=True), torch.ones(3, dtype=torch.int32)
    mesh = dist.init_device_mesh("cpu", (processes,))
    dx = distribute_tensor(x.detach(), mesh, [Replicate()]).requires_grad_()
    other = distribute_tensor(
        x.detach(), dist.init_device_mesh("cpu", (processes, 1)), [Replicate()] * 2
    )
    none, false = (f"expected {v} with a group or for a DTensor" for v in (None, False))
    no_group = "expected False without a group"
    cases = [
        (
            ValueError,
            "reduction: expected 'mean' or 'sum'",
            (x, x),
            {"group": WORLD, "reduction": "none"},
        ),
        (TypeError, "group: expected a ProcessGroup", (x, x), {"group": "world"}),
        (TypeError, "target: expected float32", (x, wide), {"group": WORLD}),
        (ValueError, f"dim: {none}, got 0", (x, x), {"group": WORLD, "dim": 0}),
        (ValueError, f"dim: {none}, got 0", (dx, dx), {"dim": 0}),
        (ValueError, f"keepdim: {false}, got True", (x, x), {"group": WORLD, "keepdim": True}),
        (ValueError, f"keepdim: {false}, got True", (dx, dx), {"keepdim": True}),
        (ValueError, f"averaged: {no_group}, got True", (x, x), {"averaged": True}),
        (ValueError, f"averaged: {no_group}, got True", (dx, dx), {"averaged": True}),
        (ValueError, f"averaged: {no_group}", (x, x), {"averaged": True, "weight": x}),
        (ValueError, "target: expected the device mesh", (dx, other), {}),
    ]
    global checks
    for kind, message, arguments, options in cases:
        try:
            face.mse_loss(*arguments, **options)
        except kind as error:
            given = str(error)
        else:
            given = "no error"
        assert given.startswith(message), given
        checks += 1
    # An error in the last process is one in all.
    last = rank == processes - 1
    kind = ValueError if last else RuntimeError
    try:
        face.mse_loss(x, x, group=WORLD, weight=torch.ones(2 if last else 3))
    except kind as error:
        given = str(error)
    assert given.startswith("weight: " if last else "group: expected all"), given
    checks += 1
    for needed in (x, torch.ones(3, requires_grad=True)):  # the second is a weight
        w = None if needed is x else needed
        loss = face.mse_loss(x, torch.zeros(3), weight=w, group=WORLD)
        (first,) = torch.autograd.grad(loss, needed, create_graph=True)
        try:
            first.sum().backward()
        except NotImplementedError:
            checks += 1
        else:
            raise AssertionError("a second derivative")


for name in sys.argv[1:]:
    globals()[name]()
total = torch.tensor([checks])
dist.all_reduce(total)
if rank == 0:
    print("processes", processes, "checks", int(total), flush=True)
dist.destroy_process_group()
