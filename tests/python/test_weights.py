"""weight, axis and keepdims of mseloss.loss and loss_and_grad against exact integers."""

import math

import mseloss
import numpy as np
import pytest
from conftest import DTYPES, REDUCTIONS, normal, same_bits
from hypothesis import given
from hypothesis import strategies as st
from mseloss import reference
from strategies import broadcast_shapes, layouts


def _fits(dtype, promoted):
    return reference.promote(promoted, dtype) == promoted


@st.composite
def weighted(draw):
    """input, target, weight (or None), axis, keepdims."""
    shapes = draw(broadcast_shapes(3))
    x_dtype = draw(st.sampled_from(DTYPES))
    y_dtype = draw(st.sampled_from([x_dtype, x_dtype, *DTYPES]))
    promoted = reference.promote(x_dtype, y_dtype)
    x, y = draw(layouts(shapes[0], x_dtype)), draw(layouts(shapes[1], y_dtype))
    kind = draw(st.sampled_from(["none", "bool", "float", "float"]))
    weight = None
    if kind == "bool":
        seed = draw(st.integers(0, 2**32 - 1))
        weight = np.random.default_rng(seed).random(shapes[2]) < 0.6
    elif kind == "float":
        weight = draw(
            layouts(shapes[2], draw(st.sampled_from([d for d in DTYPES if _fits(d, promoted)])))
        )
    used = [x.shape, y.shape] + ([] if weight is None else [weight.shape])
    rank = len(np.broadcast_shapes(*used))
    axes = draw(st.sets(st.integers(0, rank - 1))) if rank else set()
    axis = tuple(a - rank if draw(st.booleans()) else a for a in axes)
    if len(axis) == 1 and draw(st.booleans()):
        axis = axis[0]
    return x, y, weight, draw(st.sampled_from([None, axis])), draw(st.booleans())


@given(weighted(), st.sampled_from(["mean", "sum"]), st.sampled_from([None, *DTYPES]))
def test_sums_have_the_bits_of_the_reference(case, reduction, dtype):
    x, y, w, axis, keepdims = case
    options = dict(weight=w, axis=axis, keepdims=keepdims, dtype=dtype)
    expected = reference.loss(x, y, reduction, **options)
    actual = mseloss.loss(x, y, reduction, **options)
    assert same_bits(actual, expected), (actual, expected)


@given(weighted(), st.sampled_from(DTYPES))
def test_elementwise_losses_have_the_bits_of_the_reference(case, dtype):
    x, y, w, _, _ = case
    expected = reference.loss(x, y, "none", weight=w, dtype=dtype)
    assert same_bits(mseloss.loss(x, y, "none", weight=w, dtype=dtype), expected)


@given(weighted(), st.sampled_from(REDUCTIONS), st.integers(0, 2**32 - 1))
def test_gradients_have_the_bits_of_the_reference(case, reduction, seed):
    x, y, w, axis, _ = case
    axis = None if reduction == "none" else axis
    g = np.float64(1.5).astype(x.dtype)
    if axis is not None:
        shape = np.shape(mseloss.loss(x, y, reduction, weight=w, axis=axis))
        g = np.random.default_rng(seed).standard_normal(shape).astype(x.dtype)
    options = dict(weight=w, axis=axis, grad_output=g)
    expected = reference.loss_and_grad(x, y, reduction, **options)
    actual = mseloss.loss_and_grad(x, y, reduction, **options)
    assert same_bits(actual[0], expected[0]), (actual[0], expected[0])
    assert same_bits(actual[1], expected[1]), (actual[1], expected[1])


# The reference against textbook formulas


def test_reference_agrees_with_numpy():
    x, y = normal(1, (5, 6, 7), np.float64), normal(2, (5, 6, 7), np.float64)
    w = np.abs(normal(3, (5, 1, 7), np.float64))
    used = np.broadcast_to(w, x.shape)
    for axis in [None, 0, (0, 2), -1]:
        expected = np.average((x - y) ** 2, axis=axis, weights=used)
        np.testing.assert_allclose(reference.loss(x, y, weight=w, axis=axis), expected, rtol=1e-13)
    mask = w < 0.7
    expected = ((x - y) ** 2)[np.broadcast_to(mask, x.shape)].mean()
    np.testing.assert_allclose(reference.loss(x, y, weight=mask), expected, rtol=1e-13)
    value, gradient = reference.loss_and_grad(x, y, weight=w, axis=1)
    expected = 2 * (x - y) * w / used.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, expected, rtol=1e-13)
    assert value.shape == (5, 7)


def test_a_mask_hides_nan(dtype):
    x, y = normal(4, (4, 50), dtype), normal(5, (4, 50), dtype)
    mask = np.random.default_rng(6).random((4, 50)) < 0.5
    mask[0] = mask[:, 0] = True  # no slice is empty
    hidden = np.where(mask, x, np.nan).astype(dtype)
    for axis in [None, 0, 1]:
        expected = mseloss.loss_and_grad(x, y, weight=mask, axis=axis)
        actual = mseloss.loss_and_grad(hidden, y, weight=mask, axis=axis)
        assert same_bits(actual[0], expected[0])
        assert np.isfinite(actual[0]).all()
        assert same_bits(actual[1], expected[1])
        assert not actual[1][~mask].any()
        assert not np.signbit(actual[1][~mask]).any()


def test_weights_that_add_up_to_zero():
    x, y = np.float32([1, 2]), np.float32([0, 0])
    assert mseloss.loss(x, y, weight=np.float32([1, -1])) == -math.inf
    assert math.isnan(mseloss.loss(x, x, weight=np.float32([1, -1])))
    assert math.isnan(mseloss.loss(x, y, weight=np.zeros(2, bool)))
    assert mseloss.loss(x, y, "sum", weight=np.zeros(2, bool)) == 0


def test_out_and_keepdims():
    x, y = normal(7, (6, 5)), normal(8, (6, 5))
    out = np.empty(12, np.float32)[::2]
    assert mseloss.loss(x, y, axis=1, out=out) is out
    assert same_bits(out, reference.loss(x, y, axis=1))
    kept = np.empty((1, 5), np.float32)
    assert mseloss.loss(x, y, axis=0, keepdims=True, out=kept) is kept
    assert same_bits(kept, reference.loss(x, y, axis=0, keepdims=True))
    assert mseloss.loss(x, y, keepdims=True).shape == (1, 1)
    assert mseloss.loss(x, y, axis=()).shape == (6, 5)


def test_lists_and_frameworks_are_weights():
    x, y = [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]
    assert mseloss.loss(x, y, weight=[True, True, False]) == 0.5
    assert mseloss.loss(x, y, weight=[1, 0, 3]) == 3
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    value = mseloss.loss(tensor, torch.zeros(2, 2), "sum", weight=tensor > 1.5, axis=1)
    assert isinstance(value, torch.Tensor)
    assert value.tolist() == [4.0, 25.0]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (dict(weight=np.ones((2, 3))), TypeError, "weight: expected bool or a dtype that converts"),
        (
            dict(weight=np.ones((2, 3), np.int64)),
            TypeError,
            "weight: expected float32.*or bool, got int64",
        ),
        (
            dict(weight=np.ones(2, np.float32)),
            ValueError,
            "weight: expected a shape that broadcasts",
        ),
        (dict(weight=2.0), TypeError, "weight: expected an array"),
        (dict(axis=2), ValueError, "axis: expected dimensions of an array of rank 2, got 2"),
        (dict(axis=(0, -2)), ValueError, "axis: expected each dimension at most once"),
        (dict(axis=1.5), TypeError, "axis: expected None, an integer or a tuple"),
        (dict(axis=0, reduction="none"), ValueError, "axis: expected None for reduction 'none'"),
        (dict(keepdims=True, reduction="none"), ValueError, "keepdims: expected False"),
    ],
    ids=str,
)
def test_errors_name_the_argument(options, error, words):
    x = np.ones((2, 3), np.float32)
    for module in (mseloss, reference):
        if module is reference and ("int64" in words or "shape that broadcasts" in words):
            continue
        with pytest.raises(error, match=words):
            module.loss(x, x, **options)
    with pytest.raises(ValueError, match=r"out: expected shape \(3,\), got \(2,\)"):
        mseloss.loss(x, x, axis=0, out=np.empty(2, np.float32))


def test_bool_is_no_operand():
    mask = np.ones(3, bool)
    with pytest.raises(
        TypeError, match="input: expected float32, float16, bfloat16 or float64, got bool"
    ):
        mseloss.loss(mask, np.ones(3, np.float32))


def test_partial_sums_with_weights():
    x, y, w = normal(9, 1000), normal(10, 1000), normal(11, 1000)
    total = mseloss.PartialSum()
    for start in range(0, 1000, 130):
        part = slice(start, start + 130)
        total.add(x[part], y[part], weight=w[part], exact=start % 260 == 0)
    assert same_bits(total.finish("mean", "float32"), reference.loss(x, y, weight=w))
    assert total.count == 1000
    masked = mseloss.PartialSum()
    masked.add(x, y, weight=w > 0)
    assert masked.count == (w > 0).sum()
    assert same_bits(masked.finish("mean", "float32"), reference.loss(x, y, weight=w > 0))
