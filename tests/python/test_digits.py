"""PartialSum.digits: int32 arrays whose sum, in any order, is an array of the merged sum."""

import functools
import operator

import mseloss
import numpy as np
import pytest
from conftest import normal, same_bits
from hypothesis import given
from hypothesis import strategies as st
from mseloss import reference
from strategies import operands

NARROW, WIDE = 117, 572  # elements


def part_of(x, y, weight=None, exact=False):
    part = mseloss.PartialSum()
    part.add(x, y, weight=weight, exact=exact)
    return part


def sums(arrays):
    """The sum of int32 arrays as several libraries compute it."""
    return [functools.reduce(operator.add, arrays), np.sum(arrays, axis=0)]


@given(
    operands(3),
    st.sampled_from(["no weight", "weight", "mask"]),
    st.lists(st.booleans(), min_size=1, max_size=8),
    st.randoms(),
)
def test_added_digits_have_the_bits_of_one_call(arrays, kind, exact, random):
    x, y, w = (a.reshape(-1) for a in np.broadcast_arrays(*arrays))
    with np.errstate(invalid="ignore"):  # NaN > 0
        w = {"no weight": None, "weight": w, "mask": w > 0}[kind]
    cuts = sorted(random.randint(0, x.size) for _ in exact[1:])
    digits = []
    for low, high, e in zip([0, *cuts], [*cuts, x.size], exact, strict=True):
        part = part_of(x[low:high], y[low:high], None if w is None else w[low:high], e)
        digits.append(part.digits(x.dtype))
    random.shuffle(digits)
    for words in sums(digits):
        total = mseloss.PartialSum.from_digits(words)
        assert total.count == (x.size if kind != "mask" else w.sum())
        assert total.exact or not all(exact)
        for reduction in ("mean", "sum"):
            value = total.finish(reduction, "float32")
            assert value is not None or not total.exact
            if value is not None:
                expected = reference.loss(x, y, reduction, weight=w, dtype=np.float32)
                assert same_bits(value, expected)


def test_digits_are_int32_and_few_for_narrow_inputs(dtype):
    part = part_of(normal(1, 50, dtype), normal(2, 50, dtype))
    digits = part.digits(dtype)
    assert isinstance(digits, np.ndarray)
    assert digits.dtype == np.int32
    assert digits.shape == (WIDE if dtype == np.float64 else NARROW,)
    assert part.digits().shape == (WIDE,)
    digits[:] = 0  # a new array every time
    assert part.digits(dtype).any()


def test_from_digits_reads_strided_and_foreign_arrays():
    part = part_of(normal(1, 50), normal(2, 50), exact=True)
    digits = part.digits("float32")
    expected = part.finish("mean", "float32")
    spread = np.zeros((NARROW, 3), np.int32)
    spread[:, 1] = digits
    read_only = digits.copy()
    read_only.flags.writeable = False
    torch = pytest.importorskip("torch")
    for given_digits in (spread[:, 1], digits[::-1].copy()[::-1], read_only, torch.tensor(digits)):
        total = mseloss.PartialSum.from_digits(given_digits)
        assert same_bits(total.finish("mean", "float32"), expected)


def test_the_most_arrays_fit():
    part = part_of(normal(1, 3), normal(2, 3), exact=True)
    total = mseloss.PartialSum.from_digits(part.digits() * 32767)
    assert total.count == 3 * 32767
    assert same_bits(total.finish("mean", "float64"), part.finish("mean", "float64"))
    with pytest.raises(
        ValueError, match=r"^digits: expected the sum of 1 to 32767 arrays, got that of 32768$"
    ):
        mseloss.PartialSum.from_digits(part.digits().astype(np.int64) * 32768)


@pytest.mark.parametrize(
    ("digits", "error", "message"),
    [
        (None, TypeError, "digits: expected a one-dimensional array of int32, got None"),
        ([0] * NARROW, TypeError, "digits: expected a one-dimensional array of int32"),
        (
            np.zeros(NARROW, np.float32),
            TypeError,
            "digits: expected a one-dimensional array of int32",
        ),
        (
            np.zeros(NARROW, np.uint32),
            TypeError,
            "digits: expected a one-dimensional array of int32",
        ),
        (
            np.zeros((1, NARROW), np.int32),
            TypeError,
            "digits: expected a one-dimensional array of int32",
        ),
        (np.zeros(7, np.int32), ValueError, "digits: expected 117 or 572 elements, got 7"),
        (
            np.zeros(NARROW, np.int32),
            ValueError,
            "digits: expected the sum of 1 to 32767 arrays, got that of 0",
        ),
        (np.ones(WIDE, np.int32), ValueError, "digits: expected a sum of arrays of this version"),
    ],
)
def test_from_digits_refuses(digits, error, message):
    with pytest.raises(error, match=f"^{message}"):
        mseloss.PartialSum.from_digits(digits)


def test_from_digits_refuses_a_mixture_and_damage():
    part = part_of(normal(1, 3), normal(2, 3))
    digits = part.digits("float32")
    for change in (-70000, 70000, 2**40):
        damaged = digits.astype(np.int64)
        damaged[-1] += change
        with pytest.raises(ValueError, match=r"^digits: expected"):
            mseloss.PartialSum.from_digits(damaged)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_digits_of_narrow_inputs_refuse_a_sum_of_float64(dtype):
    part = part_of(np.array([1e-200]), np.zeros(1), exact=True)
    message = f"^dtype: expected float64 for a sum with float64 inputs, got {dtype}$"
    with pytest.raises(TypeError, match=message):
        part.digits(dtype)
    with pytest.raises(TypeError, match=r"^dtype: expected"):
        part.digits("int32")


@pytest.mark.parametrize("kind", ["no weight", "weight", "mask"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_of_parts_have_the_bits_of_the_whole(kind, reduction, dtype):
    x, y = normal(1, (40, 3), dtype), normal(2, (40, 3), dtype)
    w = {"no weight": None, "weight": normal(3, (40, 3), dtype), "mask": x > 0}[kind]
    cuts = [slice(0, 7), slice(7, 7), slice(7, 40)]

    def part(a, i):
        return None if a is None else a[cuts[i]]

    divisors = []
    for i in range(3):
        divisor = mseloss.PartialSum()
        divisor.add_divisor(part(x, i), part(y, i), weight=part(w, i), exact=True)
        divisors.append(divisor.digits(dtype))
    scale = mseloss.PartialSum.from_digits(sum(divisors)).scale(reduction, dtype)
    expected, gradient = reference.loss_and_grad(x, y, reduction, weight=w, grad_output=0.5)
    sums = []
    for i in range(3):
        own = mseloss.PartialSum()
        out = np.empty_like(part(x, i)) if i else None
        result = own.add_with_grad(
            part(x, i), part(y, i), scale, weight=part(w, i), grad_output=0.5, grad_input=out
        )
        assert out is None or result is out
        assert same_bits(result, gradient[cuts[i]])
        sums.append(own.digits(dtype))
    value = mseloss.PartialSum.from_digits(sum(sums)).finish(reduction, dtype)
    assert value is None or same_bits(value, expected)


def test_parts_refuse():
    part = mseloss.PartialSum()
    x, short = np.ones(3), np.ones(2)
    for call in (
        lambda: part.add_divisor(x, short),
        lambda: part.add_divisor(x, x, weight=short),
        lambda: part.add_with_grad(x, short, 2.0),
        lambda: part.add_with_grad(x, x, 2.0, grad_output=short),
        lambda: part.add_with_grad(x, x, 2.0, grad_input=short),
        lambda: part.scale("none", "float32"),
    ):
        with pytest.raises(
            ValueError, match=r"^(target|weight|grad_output|grad_input|reduction): "
        ):
            call()
    assert part.count == 0
    assert mseloss.PartialSum().scale("sum", "float16") == 2
