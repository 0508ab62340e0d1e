"""mseloss.dask against exact integers, for any chunks and every scheduler."""

import math
import os
import signal
import time

import mseloss
import numpy as np
import pytest
from conftest import DTYPES, normal, same_bits
from mseloss import reference

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
from mseloss import dask as lazy  # noqa: E402


def chunks_of(rng, shape):
    """Up to 4 chunks along each dimension, usually unequal."""
    chunks = []
    for n in shape:
        inner = np.arange(1, n)
        cuts = rng.choice(inner, rng.integers(min(len(inner), 3) + 1), replace=False)
        chunks.append(tuple(np.diff([0, *sorted(cuts), n]).tolist()))
    return tuple(chunks)


def chunked(rng, array):
    return None if array is None else da.from_array(array, chunks=chunks_of(rng, array.shape))


def spread(rng, shape, dtype):
    """Values of many magnitudes."""
    return (rng.standard_normal(shape) * np.exp2(rng.integers(-6, 7, shape))).astype(dtype)


def compute(*arrays, scheduler="sync"):
    return dask.compute(*arrays, scheduler=scheduler)


def test_twenty_chunkings_give_the_bits_of_one_array(dtype):
    rng = np.random.default_rng(1)
    x, y = spread(rng, (61, 47), dtype), spread(rng, (61, 47), dtype)
    expected = reference.loss(x, y), reference.loss(x, y, "sum"), reference.grad(1.5, x, y)
    columns = reference.loss(x, y, axis=0)
    for _ in range(20):
        a, b = chunked(rng, x), chunked(rng, y)
        value, gradient = lazy.loss_and_grad(a, b, grad_output=1.5)
        results = value, lazy.loss(a, b, "sum"), lazy.grad(1.5, a, b), gradient
        mean, total, alone, together = compute(*results, scheduler="threads")
        assert same_bits(mean, expected[0])
        assert same_bits(total, expected[1])
        assert same_bits(alone, expected[2])
        assert same_bits(together, expected[2])
        assert same_bits(compute(lazy.loss(a, b, axis=0))[0], columns)


@pytest.mark.parametrize("seed", range(60))
def test_broadcasts_weights_and_axes(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(0 if seed % 10 == 0 else 1, 7, rng.integers(0, 4)).tolist())

    def operand_shape():
        ones = tuple(1 if rng.random() < 0.2 else n for n in shape)
        return ones[rng.integers(0, len(shape) + 1) if rng.random() < 0.2 else 0 :]

    dtypes = [DTYPES[rng.integers(4)], DTYPES[rng.integers(4)]]
    x, y = (spread(rng, operand_shape(), d) for d in dtypes)
    promoted = reference.promote(*dtypes)
    w = [None, rng.random(operand_shape()) < 0.6, spread(rng, operand_shape(), promoted)][seed % 3]
    rank = len(np.broadcast_shapes(x.shape, y.shape, *([] if w is None else [w.shape])))
    a, b, c = chunked(rng, x), chunked(rng, y), chunked(rng, w)
    axis = tuple(np.flatnonzero(rng.random(rank) < 0.5).tolist())
    for reduction in ("none", "mean", "sum"):
        for axes in [None] if reduction == "none" else [None, axis]:
            options = dict(axis=axes, keepdims=bool(rng.random() < 0.5 and reduction != "none"))
            value, again = lazy.loss(a, b, reduction, weight=c, **options), None
            assert same_bits(*compute(value), reference.loss(x, y, reduction, weight=w, **options))
            value, again = lazy.loss_and_grad(a, b, reduction, weight=c, axis=axes, grad_output=-3)
            expected = reference.loss_and_grad(
                x, y, reduction, weight=w, axis=axes, grad_output=np.float64(-3).astype(x.dtype)
            )
            value, again = compute(value, again)
            assert same_bits(value, expected[0])
            assert same_bits(again, expected[1])


def test_a_numpy_array_is_an_operand_too():
    x, y, g = normal(1, (20, 30)), normal(2, 30), normal(3, (20, 1))
    assert same_bits(*compute(lazy.loss(x, da.from_array(y, chunks=7))), reference.loss(x, y))
    assert same_bits(*compute(lazy.grad(g, da.from_array(x), y)), reference.grad(g, x, y))
    assert same_bits(*compute(lazy.loss(x, y)), reference.loss(x, y))


def test_upstream_gradients_are_arrays():
    rng = np.random.default_rng(5)
    x, y = normal(1, (20, 30)), normal(2, (20, 30))
    for axis, shape in [(0, 30), (1, 20), (None, ()), (0, 1)]:
        g = normal(4, shape)
        gradient = lazy.loss_and_grad(
            chunked(rng, x), chunked(rng, y), axis=axis, grad_output=da.from_array(g)
        )[1]
        expected = reference.loss_and_grad(x, y, axis=axis, grad_output=g)[1]
        assert same_bits(*compute(gradient), expected)


def test_big_endian_arrays():
    x, y = normal(1, 300), normal(2, 300)
    a, b = (da.from_array(v.astype(">f4"), chunks=70) for v in (x, y))
    value, gradient = compute(*lazy.loss_and_grad(a, b, "sum"))
    assert same_bits(value, reference.loss(x, y, "sum"))
    assert same_bits(gradient, reference.grad(1.0, x, y, "sum"))


def test_no_elements():
    empty = da.zeros((0, 5), dtype=np.float32)
    assert math.isnan(*compute(lazy.loss(empty, empty)))
    assert compute(lazy.loss(empty, empty, "sum"))[0] == 0
    value, gradient = compute(*lazy.loss_and_grad(empty, empty, weight=empty < 1))
    assert math.isnan(value)
    assert gradient.shape == (0, 5)


def tie():
    """Operands whose sum lies exactly between two float32, which no error bound can decide."""
    x = np.zeros(500, np.float32)
    x[[3, 400]] = 4096, 1
    return x, np.zeros_like(x)


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_exact_sums_decide_what_fast_sums_leave_open(scheduler):
    x, y = tie()
    total = mseloss.PartialSum()
    total.add(x, y)
    assert total.finish("sum", "float32") is None
    a, b = da.from_array(x, chunks=90), da.from_array(y, chunks=70)
    w = da.ones(500, dtype=np.float32, chunks=33)
    results = compute(
        lazy.loss(a, b, "sum"),
        lazy.loss_and_grad(a, b, "sum")[0],
        lazy.loss_and_grad(a, b, "sum", weight=w)[0],
        lazy.loss_and_grad(a, b, weight=w)[1],
        scheduler=scheduler,
    )
    for value in results[:3]:
        assert same_bits(value, np.float32(16777216))
    assert same_bits(results[3], reference.grad(1.0, x, y))


class Source:
    """An array that counts how often each of its blocks is read, or fails."""

    def __init__(self, array, broken=None):
        self.array, self.broken, self.reads = array, broken, []
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, index):
        if index[0].stop > index[0].start:  # Dask looks at an empty block first
            self.reads.append(index[0].start)
        if index[0].start == self.broken:
            raise OSError("block 2 cannot be read")
        return self.array[index]


def test_each_chunk_is_read_once_and_only_when_computed():
    x, y, w = (normal(i, (90, 8)) for i in range(3))
    sources = [Source(v) for v in (x, y, w)]
    a, b, c = (da.from_array(s, chunks=(10, 8)) for s in sources)
    value = lazy.loss(a, b)
    pair = lazy.loss_and_grad(a, b)
    weighted = lazy.loss_and_grad(a, b, weight=c)
    assert [s.reads for s in sources] == [[], [], []]
    for results, reads in [([value], (1, 1, 0)), (pair, (1, 1, 0)), (weighted, (1, 1, 2))]:
        compute(*results)
        assert [sorted(s.reads) for s in sources] == [
            sorted([*range(0, 90, 10)] * n) for n in reads
        ]
        for source in sources:
            source.reads.clear()


def test_one_task_for_each_pair_of_chunks():
    a, b = da.zeros(160, chunks=10), da.zeros(160, chunks=10)
    (graph,) = dask.optimize(lazy.loss(a, b))
    assert len(graph.__dask_graph__()) <= 16 + 2


def test_a_chunk_that_cannot_be_read_is_an_error():
    x = normal(1, (40, 8))
    broken = da.from_array(Source(x, broken=20), chunks=(10, 8))
    for scheduler in ("sync", "threads"):
        for result in (
            lazy.loss(broken, x),
            lazy.grad(1.0, broken, x),
            lazy.loss(broken, x, axis=0),
        ):
            with pytest.raises(OSError, match="block 2 cannot be read"):
                compute(result, scheduler=scheduler)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda a: lazy.loss(a, a[:, :3]),
            ValueError,
            r"target: expected a shape that broadcasts with input",
        ),
        (lambda a: lazy.loss(a, a.astype(int)), TypeError, r"target: expected float32"),
        (lambda a: lazy.loss(a, a, "average"), ValueError, r"reduction"),
        (
            lambda a: lazy.loss(a, a, axis=2),
            ValueError,
            r"axis: expected dimensions of an array of rank 2",
        ),
        (lambda a: lazy.loss(a, a, "none", axis=0), ValueError, r"axis: expected None"),
        (lambda a: lazy.loss(a, a, "none", skipna=True), ValueError, r"skipna: expected False"),
        (
            lambda a: lazy.loss(a, a, weight=a.astype(np.float64)),
            TypeError,
            r"weight: expected bool or",
        ),
        (lambda a: lazy.loss(a, a[a[:, 0] > 0]), ValueError, r"target: expected known chunk sizes"),
        (lambda a: lazy.grad(1.0, a, a.astype(np.float16)), TypeError, r"target: expected"),
        (
            lambda a: lazy.loss_and_grad(a, a, axis=0, grad_output=a[:, 0]),
            ValueError,
            r"grad_output: expected",
        ),
        (
            lambda a: lazy.loss(da.zeros((1,) * 9), 0.0),
            ValueError,
            r"input: expected at most 8 dimensions",
        ),
    ],
)
def test_errors_before_anything_is_computed(call, error, words):
    with pytest.raises(error, match=words):
        call(da.ones((6, 4), dtype=np.float32, chunks=(2, 3)))


def test_shapes_that_differ_only_at_run_time():
    x = da.from_array(normal(1, 20), chunks=5)
    wrong = x.map_blocks(lambda block: block[:3], dtype=x.dtype)  # still claims 5 elements
    with pytest.raises(ValueError, match="target: expected a shape that broadcasts with"):
        compute(lazy.loss(x, wrong))


def test_processes_give_the_same_bits():
    rng = np.random.default_rng(9)
    x, y = spread(rng, (40, 30), np.float16), spread(rng, (40, 30), np.float16)
    a, b = da.from_array(x, chunks=(11, 30)), da.from_array(y, chunks=(40, 13))
    results = (*lazy.loss_and_grad(a, b), lazy.loss(a, b, axis=1))
    with dask.config.set(num_workers=2):
        value, gradient, rows = compute(*results, scheduler="processes")
    assert same_bits(value, reference.loss(x, y))
    assert same_bits(gradient, reference.grad(1.0, x, y))
    assert same_bits(rows, reference.loss(x, y, axis=1))


def _slowly(block):
    time.sleep(0.05)
    return block


@pytest.mark.filterwarnings("ignore")  # of the cluster, about the worker that dies
def test_a_cluster_gives_the_same_bits_though_a_worker_dies():
    distributed = pytest.importorskip("distributed")
    rng = np.random.default_rng(10)
    x, y = spread(rng, (60, 30), np.float32), spread(rng, (60, 30), np.float32)
    a, b = da.from_array(x, chunks=(2, 30)), da.from_array(y, chunks=(60, 7))
    s, t = (da.from_array(v, chunks=90) for v in tie())
    options = dict(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster, timeout=60) as client,
    ):
        results = (*lazy.loss_and_grad(a.map_blocks(_slowly), b), lazy.loss(a, b, axis=0))
        futures = client.compute(results)
        deadline = time.monotonic() + 30
        while sum(map(len, client.has_what().values())) < 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not all(f.done() for f in futures)  # it dies half-way
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        value, gradient, columns = (f.result(timeout=60) for f in futures)
        assert same_bits(value, reference.loss(x, y))
        assert same_bits(gradient, reference.grad(1.0, x, y))
        assert same_bits(columns, reference.loss(x, y, axis=0))
        total = client.compute(lazy.loss(s, t, "sum")).result(timeout=60)
        assert same_bits(total, np.float32(16777216))
