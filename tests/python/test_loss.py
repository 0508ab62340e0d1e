"""mseloss.loss and loss_and_grad against exact integers; sums in chunks."""

import contextlib
import math
import pickle
import struct

import ml_dtypes
import mseloss
import numpy as np
import pytest
from conftest import DTYPES, REDUCTIONS, normal, same_bits
from hypothesis import given
from hypothesis import strategies as st
from mseloss import reference
from strategies import operands


@given(operands(2, same_dtype=False), st.sampled_from(REDUCTIONS), st.sampled_from([None, *DTYPES]))
def test_any_layout_and_dtypes_have_the_bits_of_the_reference(arrays, reduction, dtype):
    x, y = arrays
    expected = reference.loss(x, y, reduction, dtype=dtype)
    actual = mseloss.loss(x, y, reduction, dtype=dtype)
    assert same_bits(actual, expected), (actual, expected)


@pytest.mark.parametrize("n", [1 << 20, 1_234_567], ids=str)
def test_large_is_correctly_rounded(n, dtype, reduction):
    x, y = normal(1, n, dtype), normal(2, n, dtype)
    expected = reference.loss(x, y, reduction)
    assert same_bits(mseloss.loss(x, y, reduction), expected)
    assert same_bits(
        mseloss.loss(x[::-1], y[::-1], reduction), expected[::-1] if expected.ndim else expected
    )


def test_the_sum_is_not_lost_to_overflow_on_the_way():
    x = np.float32([3e38, 3e38]) / np.float32(2)
    assert mseloss.loss(x, -x, "sum") == np.inf
    x = np.full(1000, 1e19, np.float32)
    exact = 1000 * int(np.float32(1e19)) ** 2
    assert mseloss.loss(x, np.zeros_like(x), "sum", dtype=np.float64) == float(exact)
    assert mseloss.loss(np.full(4, 300.0, np.float16), np.zeros(4, np.float16)) == np.inf
    half = mseloss.loss(np.full(4, 300.0, np.float16), np.zeros(4, np.float16), dtype=np.float32)
    assert half == 90000


def test_values_that_are_not_finite(dtype):
    zero = np.zeros(3, dtype)
    assert mseloss.loss(np.asarray([1, np.inf, 2], dtype), zero) == np.inf
    assert math.isnan(mseloss.loss(np.asarray([np.nan, np.inf, 2], dtype), zero))


def test_empty(dtype):
    nothing = np.zeros((0, 3), dtype)
    assert mseloss.loss(nothing, nothing, "sum") == 0
    assert math.isnan(mseloss.loss(nothing, nothing, "mean"))
    assert mseloss.loss(nothing, nothing, "none").shape == (0, 3)
    value, gradient = mseloss.loss_and_grad(nothing, nothing)
    assert math.isnan(value)
    assert gradient.shape == (0, 3)


def test_kinds_of_results(dtype):
    x = normal(1, (3, 4), dtype)
    assert isinstance(mseloss.loss(x, x), dtype.type)
    out = np.empty((), np.float64)
    assert mseloss.loss(x, x - x, "sum", out=out) is out
    assert out == reference.loss(x, x - x, "sum", dtype=np.float64)


@pytest.mark.parametrize(
    ("spelling", "dtype"),
    [
        ("float16", np.float16),
        (np.float16, np.float16),
        (np.dtype(np.float16), np.float16),
        ("f2", np.float16),
        ("f4", np.float32),
        ("<f4", np.float32),
        ("single", np.float32),
        ("d", np.float64),
        (float, np.float64),
        ("bfloat16", ml_dtypes.bfloat16),
        (ml_dtypes.bfloat16, ml_dtypes.bfloat16),
        (np.dtype(ml_dtypes.bfloat16), ml_dtypes.bfloat16),
    ],
    ids=str,
)
def test_dtype_spellings(spelling, dtype):
    x, y = np.ones(3, np.float32), np.zeros(3, np.float32)
    assert mseloss.loss(x, y, dtype=spelling).dtype == dtype
    assert mseloss.loss(x, y, "none", dtype=spelling).dtype == dtype
    assert mseloss.empty(3, spelling).dtype == dtype
    assert mseloss.PartialSum().finish("sum", spelling).dtype == dtype


@pytest.mark.parametrize(
    "spelling", ["int8", "i4", ">f4", int, bool, "c8", "", "f4,f4", "no", object()]
)
def test_other_dtypes_are_refused(spelling):
    x = np.ones(3, np.float32)
    with pytest.raises(TypeError, match="dtype: expected float32"):
        mseloss.loss(x, x, dtype=spelling)


def test_a_dtype_that_interrupts():
    class Interrupted:
        @property
        def dtype(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mseloss.empty(3, Interrupted())


def test_out_and_dtype_must_agree():
    x, out = np.ones(3, np.float32), np.empty((), np.float32)
    assert mseloss.loss(x, x, out=out, dtype="float32") is out
    with pytest.raises(TypeError, match="dtype: expected the dtype of out, float32, got float16"):
        mseloss.loss(x, x, out=out, dtype="float16")


def test_refusals():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="0-dimensional"):
        mseloss.loss(x, x, out=np.empty(1, np.float32))
    with pytest.raises(ValueError, match="memory that does not overlap"):
        mseloss.loss(x, x, out=x[0, 0:1].reshape(()))
    with pytest.raises(ValueError, match="broadcasts"):
        mseloss.loss(x, np.ones(2, np.float32))
    with pytest.raises(ValueError, match="grad_output: expected one element"):
        mseloss.loss_and_grad(x, x, grad_output=np.ones(2, np.float32))


@given(operands(3, same_dtype=False), st.sampled_from(REDUCTIONS))
def test_loss_and_grad_is_both(arrays, reduction):
    g, x, y = arrays
    if reduction != "none":
        g = g.reshape(-1)[:1].reshape(()) if g.size else np.ones((), g.dtype)
    promoted = reference.promote(x.dtype, y.dtype)
    if (
        reference.promote(promoted, g.dtype) != promoted
    ):  # grad_output must not be wider than the loss
        g = np.full(g.shape, 0.75, x.dtype)
    expected_loss, expected_grad = reference.loss_and_grad(x, y, reduction, grad_output=g)
    value, gradient = mseloss.loss_and_grad(x, y, reduction, grad_output=g)
    assert same_bits(value, expected_loss), (value, expected_loss)
    assert same_bits(gradient, expected_grad), (gradient, expected_grad)


def test_loss_and_grad_is_a_derivative():
    x, y = normal(1, (7, 1), np.float64), normal(2, (1, 9), np.float64)
    _, gradient = mseloss.loss_and_grad(x, y)
    step = 1e-6
    for i in range(7):
        moved = x.copy()
        moved[i] += step
        slope = (mseloss.loss(moved, y) - mseloss.loss(x, y)) / step
        assert slope == pytest.approx(gradient[i].sum(), rel=1e-4)


def test_loss_and_grad_large_and_in_place(dtype):
    x, y = normal(1, (1000, 1003), dtype), normal(2, (1000, 1003), dtype)
    expected_loss, expected_grad = reference.loss_and_grad(x, y, grad_output=0.5)
    value, gradient = mseloss.loss_and_grad(x, y, grad_output=0.5, out=x)
    assert gradient is x
    assert same_bits(value, expected_loss)
    assert same_bits(gradient, expected_grad)


@given(operands(2), st.integers(1, 5), st.booleans(), st.randoms())
def test_a_sum_in_pieces_has_the_bits_of_one_call(arrays, count, exact, random):
    x, y = (np.broadcast_to(a, np.broadcast_shapes(*(b.shape for b in arrays))) for a in arrays)
    x, y = x.reshape(-1), y.reshape(-1)
    cuts = sorted(random.randint(0, x.size) for _ in range(count - 1))
    parts = []
    for low, high in zip([0, *cuts], [*cuts, x.size], strict=True):
        part = mseloss.PartialSum()
        part.add(x[low:high], y[low:high], exact=exact)
        parts.append(pickle.loads(pickle.dumps(part)))
    random.shuffle(parts)
    total = mseloss.PartialSum()
    for part in parts:
        total.merge(part)
    assert total.count == x.size
    for reduction in ("mean", "sum"):
        value = total.finish(reduction, "float32")
        if exact:
            assert value is not None
        if value is not None:
            assert same_bits(value, reference.loss(x, y, reduction, dtype=np.float32))


def test_partial_sums_refuse():
    with pytest.raises(ValueError, match="reduction"):
        mseloss.PartialSum().finish("none", "float32")
    with pytest.raises(ValueError, match="broadcasts"):
        mseloss.PartialSum().add(np.ones(2, np.float32), np.ones(3, np.float32))


@pytest.mark.parametrize("other", [3, None, "sum"])
def test_merge_refuses_what_is_no_partial_sum(other):
    with pytest.raises(TypeError, match=f"^other: expected a PartialSum, got {other!r}$"):
        mseloss.PartialSum().merge(other)


# The state of a PartialSum


_LAYOUT = "QQQQ8d200Q"
_SUMS = ["high", "low", "error", "special"]  # of the squares, then of the weights
_NAMES = ["tag", "count", "weighted", "fast_terms", *_SUMS, *(f"weight_{name}" for name in _SUMS)]
_SIZE = struct.calcsize(_LAYOUT)


def fields_of(state):
    """The fields of _NAMES, then 100 limbs of the squares and 100 of the weights."""
    return list(struct.unpack(_LAYOUT, state))


def state_with(state, **changes):
    fields = fields_of(state)
    for name, value in changes.items():
        at = _NAMES.index(name) if name in _NAMES else len(_NAMES) + int(name.removeprefix("limb"))
        fields[at] = value
    return struct.pack(_LAYOUT, *fields)


def summed(exact, dtype=np.float32, seed=1):
    total = mseloss.PartialSum()
    total.add(normal(seed, 100, dtype), normal(seed + 1, 100, dtype), exact=exact)
    return total


def restored(state):
    total = mseloss.PartialSum.__new__(mseloss.PartialSum)
    total.__setstate__(state)
    return total


@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
def test_a_state_restores_the_sum(exact, dtype):
    for total in (summed(exact, dtype), mseloss.PartialSum()):
        again = restored(total.__getstate__())
        assert again.count == total.count
        assert again.exact == total.exact
        assert again.__getstate__() == total.__getstate__()
        for reduction in ("mean", "sum"):
            value, expected = (t.finish(reduction, dtype.name) for t in (again, total))
            assert (value is None) == (expected is None)
            assert value is None or same_bits(value, expected)


@pytest.mark.parametrize("values", [[np.inf], [np.nan], [1e200, -1e200], [1.7e308, 0.0]], ids=str)
@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
def test_a_state_of_extreme_values_is_accepted(values, exact):
    total = mseloss.PartialSum()
    for _ in range(3):
        total.add(np.asarray(values), np.zeros(len(values)), exact=exact)
        total.merge(restored(total.__getstate__()))
    assert restored(total.__getstate__()).count == total.count


@pytest.mark.parametrize(
    "change",
    [
        {"tag": 0},
        {"count": 99},  # fewer than the fast terms
        {"count": 2**64 - 1, "fast_terms": 2**64 - 1, "limb3": 1},
        {"fast_terms": 0},  # a fast sum of no terms
        {"high": math.nan},
        {"high": -1.0},
        {"high": math.inf},
        {"low": math.nan},
        {"low": math.inf},
        {"error": -1.0},
        {"special": 1.0},
        {"special": -math.inf},
        {"limb0": 1},  # exact terms without a count
        {"count": 101, "limb99": 1},  # too large for one term
        {"count": 101, "limb99": 2**63},  # negative
        {"count": 101, "limb83": 1 << 40},
        {"count": 101, "limb82": 1 << 22},
        {"weight_high": 1.0},  # weights without weighted elements
        {"limb100": 1},
        {"weighted": 2**64 - 1},
        {"weight_special": math.nan},
    ],
    ids=str,
)
def test_states_that_no_sum_has(change):
    state = state_with(summed(exact=False).__getstate__(), **change)
    with pytest.raises(ValueError, match=r"^state: expected"):
        restored(state)


def test_the_largest_exact_sum_is_accepted():
    total = mseloss.PartialSum()
    largest = np.full(4, np.finfo(np.float64).max)
    total.add(largest, np.zeros(4), exact=True)
    assert restored(total.__getstate__()).finish("mean", "float64") == np.inf


@pytest.mark.parametrize(
    "state",
    [b"", b"garbage", bytes(_SIZE), bytes(_SIZE - 8), [], None, 3, "text", ()],
    ids=lambda state: f"{type(state).__name__}{len(state) if hasattr(state, '__len__') else ''}",
)
def test_other_states_are_refused(state):
    with pytest.raises(ValueError, match=r"^state: expected"):
        restored(state)


def accepted(state):
    """The sum with this state, or None if it is refused as it should be."""
    with contextlib.suppress(ValueError):
        return restored(state)
    with pytest.raises(ValueError, match=r"^state: expected"):
        restored(state)
    return None


@given(st.binary(min_size=_SIZE, max_size=_SIZE), st.booleans())
def test_random_states_are_refused_or_harmless(noise, tagged):
    state = mseloss.PartialSum().__getstate__()
    assert len(state) == len(noise)
    total = accepted(state[:8] + noise[8:] if tagged else noise)
    if total is not None:
        total.merge(total)
        total.finish("mean", "float32")


@given(st.integers(8, _SIZE - 1), st.integers(1, 255), st.booleans())
def test_damaged_states_are_refused_or_harmless(at, flip, exact):
    state = bytearray(summed(exact).__getstate__())
    state[at] ^= flip
    total = accepted(bytes(state))
    if total is not None:
        total.merge(summed(exact))
        total.finish("sum", "float64")
