"""mseloss._core.SliceSums, the sums of slices over several chunks, against exact integers."""

import pickle
from contextlib import suppress

import numpy as np
import pytest
from conftest import DTYPES, normal, same_bits
from mseloss import reference
from mseloss._core import SliceSums


def values(rng, shape, dtype):
    """Ordinary numbers, integers, or the whole range of the dtype; sometimes with NaN and infinities."""
    kind = rng.integers(4)
    array = rng.standard_normal(shape)
    if kind == 1:
        array = np.round(4 * array)
    elif kind == 2:
        exponent = 1020 if dtype == np.float64 else 15 if dtype == np.float16 else 126
        array = array * np.exp2(rng.integers(-exponent, exponent, shape).astype(float))
    with np.errstate(all="ignore"):
        array = np.asarray(array.astype(dtype))
    if rng.random() < 0.2:
        special = np.array([np.nan, np.inf, -np.inf], dtype)
        array = np.where(rng.random(shape) < 0.1, rng.choice(special, shape), array)
    return array


@pytest.mark.parametrize("seed", range(150))
def test_slices_have_the_bits_of_the_reference(seed):
    rng = np.random.default_rng(seed)
    small = rng.integers(0 if seed % 15 == 0 else 1, 8, rng.integers(0, 4)).tolist()
    shape = tuple({20: [3, 600], 40: [600, 3], 60: [2, 300, 2]}.get(seed % 80, small))

    def operand_shape():
        ones = tuple(1 if rng.random() < 0.15 else n for n in shape)
        return ones[rng.integers(0, len(shape) + 1) if rng.random() < 0.15 else 0 :]

    dtypes = [DTYPES[i] for i in rng.integers(0, 4, 2)]
    x, y = (values(rng, operand_shape(), d) for d in dtypes)
    promoted = reference.promote(*dtypes)
    w = [None, rng.random(operand_shape()) < 0.6, values(rng, operand_shape(), promoted)][seed % 3]
    if rng.random() < 0.3:
        x, y = np.asfortranarray(x), y[::-1] if y.ndim else y
    rank = len(np.broadcast_shapes(x.shape, y.shape, *([] if w is None else [w.shape])))
    axis = tuple(np.flatnonzero(rng.random(rank) < 0.5).tolist())
    sums = pickle.loads(pickle.dumps(SliceSums(x, y, axis, w)))
    for reduction in ("mean", "sum"):
        dtype = DTYPES[rng.integers(4)]
        expected = reference.loss(x, y, reduction, weight=w, axis=axis, dtype=dtype)
        assert same_bits(sums.finish(reduction, dtype), expected)


@pytest.mark.parametrize("seed", range(20))
def test_parts_merge_in_any_order(seed):
    rng = np.random.default_rng(seed)
    dtype = DTYPES[seed % 4]
    x, y = values(rng, (40, 6), dtype), values(rng, (40, 6), dtype)
    w = [None, rng.random((40, 6)) < 0.6, values(rng, (40, 6), dtype)][seed % 3]
    parts = np.array_split(rng.permutation(40), rng.integers(1, 9))
    sums = [SliceSums(x[p], y[p], (0,), None if w is None else w[p]) for p in parts]
    total = sums[0].copy()
    for part in sums[1:]:
        total.merge(part)
    expected = reference.loss(x, y, weight=w, axis=0)
    assert same_bits(total.finish("mean", dtype), expected)
    assert same_bits(
        sums[0].finish("sum", dtype),
        SliceSums(x[parts[0]], y[parts[0]], (0,), None if w is None else w[parts[0]]).finish(
            "sum", dtype
        ),
    )


def test_a_sum_of_itself_many_times_over():
    x, y = np.float64([[1e300, 3, 0]]), np.float64([[-1e300, 1e-300, 0]])
    total = SliceSums(x, y, (0,))
    for _ in range(60):  # 2^60 times the first
        total.merge(total)
    assert same_bits(total.finish("sum", "float64"), np.float64([np.inf, 9 * 2.0**60, 0]))
    weights = np.float64([[1, -2, 4]])
    total = SliceSums(x, y, (0,), weights)
    for _ in range(60):
        total.merge(total)
    assert same_bits(total.finish("mean", "float64"), np.float64([np.inf, 9, 0]))


def restored(state):
    sums = SliceSums.__new__(SliceSums)
    sums.__setstate__(state)
    return sums


@pytest.mark.parametrize("weight", [None, True])
def test_damaged_states_are_errors(weight):
    x = normal(1, (5, 3))
    good = SliceSums(x, 2 * x, (0,), x if weight else None).__getstate__()
    rng = np.random.default_rng(1)
    for length in [0, 8, 24, len(good) - 8, len(good) - 1]:
        with pytest.raises(ValueError, match="state: expected SliceSums"):
            restored(good[:length])
    for _ in range(300):  # neither a crash nor another exception
        bad = bytearray(good)
        for place in rng.integers(0, min(len(bad), 80), 2):
            bad[place] = rng.integers(256)
        with suppress(ValueError):
            restored(bytes(bad)).finish("mean", "float32")


def test_errors():
    x = normal(1, (5, 3))
    with pytest.raises(ValueError, match="axis: expected dimensions from 0 to 2, got"):
        SliceSums(x, x, (2,))
    with pytest.raises(ValueError, match="target: expected shapes"):
        SliceSums(x, x[:, :2], (0,))
    sums = SliceSums(x, x, (0,))
    for other in (SliceSums(x, x, (1,)), SliceSums(x, x, (0,), x)):
        with pytest.raises(ValueError, match="other: expected sums of slices of the same shape"):
            sums.merge(other)
    with pytest.raises(ValueError, match="reduction: expected 'mean' or 'sum', got 'none'"):
        sums.finish("none", "float32")
