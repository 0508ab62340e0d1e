"""The reference against exact fractions, element by element."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from conftest import DTYPES, normal, same_bits
from hypothesis import given
from hypothesis import strategies as st
from mseloss import reference

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.fractions(min_value=0), st.sampled_from(DTYPES))
def test_round_fraction_is_nearest(value, dtype):
    with np.errstate(over="ignore"):
        rounded = reference.round_fraction(value, dtype)
        assert float(dtype.type(rounded)) == rounded  # representable in dtype
    if not math.isfinite(rounded):
        assert value >= Fraction(float(ml_dtypes.finfo(dtype).max))
        return
    near = dtype.type(rounded)
    for other in (np.nextafter(near, dtype.type(-np.inf)), np.nextafter(near, dtype.type(np.inf))):
        if np.isfinite(float(other)):
            distance = abs(Fraction(float(other)) - value)
            assert abs(Fraction(rounded) - value) <= distance


@given(FINITE)
def test_round_fraction_agrees_with_numpy(value):
    with np.errstate(all="ignore"):
        assert reference.round_fraction(Fraction(value), np.float64) == value
        assert reference.round_fraction(Fraction(value), np.float32) == float(np.float32(value))
        assert reference.round_fraction(Fraction(value), np.float16) == float(np.float16(value))


@pytest.mark.parametrize("count", [1, 3, 7, 846731599, 2**31 + 1, 2**40 + 3])
def test_mean_scale_is_rounded_once(count):
    for dtype in (np.float32, np.float64):
        scale = reference.mean_scale(count, dtype)
        gap = abs(Fraction(float(scale)) - Fraction(2, count))
        for other in (np.nextafter(scale, dtype(0)), np.nextafter(scale, dtype(1))):
            assert gap <= abs(Fraction(float(other)) - Fraction(2, count))
    assert reference.mean_scale(846731599, np.float32) != np.float32(2.0 / 846731599)


@given(st.lists(st.tuples(FINITE, FINITE), max_size=20))
def test_sums_are_exact(pairs):
    x = np.array([p[0] for p in pairs], np.float64)
    y = np.array([p[1] for p in pairs], np.float64)
    with np.errstate(over="ignore"):
        d = x - y
    total = reference.ExactSum()
    total.add(x, y)
    if np.isfinite(d).all():
        assert total.fraction() == sum((Fraction(float(v)) ** 2 for v in d), Fraction(0))
    else:
        assert total.finish("sum", np.float64) == np.inf


def test_subnormals_and_pieces():
    x = np.float32([1e-45, 3e-39, 1e38, -1e-20])
    whole, parts = reference.ExactSum(), reference.ExactSum()
    whole.add(x, np.zeros(4, np.float32))
    for value in x:
        parts.add(np.asarray([value]), np.zeros(1, np.float32))
    assert whole.fraction() == parts.fraction() == sum(Fraction(float(v)) ** 2 for v in x)


@given(st.integers(0, 2**64 - 1))
def test_float64_becomes_bfloat16_in_one_rounding(bits):
    value = np.array([bits], np.uint64).view(np.float64)
    if not np.isfinite(value[0]):
        return
    actual = reference.convert(value, np.dtype(ml_dtypes.bfloat16))
    expected = reference.round_fraction(Fraction(float(value[0])), np.dtype(ml_dtypes.bfloat16))
    assert float(actual[0]) == expected


def test_gradient_is_the_chain_of_three_roundings(dtype):
    x, y, g = (normal(seed, 50, dtype) for seed in range(3))
    scale = reference.mean_scale(50, np.float64 if dtype == np.float64 else np.float32)
    for i, value in enumerate(reference.grad(g, x, y)):
        compute = type(scale)
        difference = compute(x[i]) - compute(y[i])
        assert value == dtype.type((difference * scale) * compute(g[i]))


def test_takes_any_array():
    torch = pytest.importorskip("torch")
    x, y = torch.randn(10).bfloat16(), torch.randn(10).bfloat16()
    expected = reference.grad(1.0, x.float().numpy().astype(ml_dtypes.bfloat16), y)
    assert same_bits(reference.grad(1.0, x, y), expected)


def test_refusals():
    x = np.ones(3, np.float32)
    with pytest.raises(TypeError, match="target: expected the dtype of input"):
        reference.grad(1.0, x, x.astype(np.float64))
    with pytest.raises(TypeError, match="input: expected an array"):
        reference.loss([1.0], x)
    with pytest.raises(ValueError, match="reduction"):
        reference.loss(x, x, "max")
