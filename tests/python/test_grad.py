"""mseloss.grad against the NumPy reference: values, layouts, kinds of arrays, outputs and errors."""

import array
import math

import ml_dtypes
import mseloss
import numpy as np
import pytest
from conftest import DTYPES, REDUCTIONS, normal, same_bits
from hypothesis import given
from hypothesis import strategies as st
from mseloss import reference
from strategies import operands


@given(operands(3), st.sampled_from(REDUCTIONS))
def test_any_layout_has_the_bits_of_the_reference(arrays, reduction):
    g, x, y = arrays
    expected = reference.grad(g, x, y, reduction)
    actual = mseloss.grad(g, x, y, reduction)
    assert same_bits(actual, expected), (actual, expected)


@given(operands(3), st.sampled_from(REDUCTIONS), st.sampled_from(DTYPES), st.randoms())
def test_out_of_any_dtype_and_layout(arrays, reduction, dtype, random):
    g, x, y = arrays
    shape = np.broadcast_shapes(g.shape, x.shape, y.shape)
    order = list(range(len(shape)))
    random.shuffle(order)
    out = np.full([shape[i] for i in order], 7, dtype).transpose(np.argsort(order))
    if random.random() < 0.3 and shape:
        out = out[::-1]
    assert mseloss.grad(g, x, y, reduction, out=out) is out
    assert same_bits(out, reference.grad(g, x, y, reduction, dtype=dtype))


@pytest.mark.parametrize("shape", [(1 << 20,), (1500, 1001), (64, 33, 1000)], ids=str)
def test_large_has_the_bits_of_the_reference(shape, dtype, reduction):
    x, y, g = normal(1, shape, dtype), normal(2, shape, dtype), normal(3, shape[-1], dtype)
    assert same_bits(mseloss.grad(g, x, y, reduction), reference.grad(g, x, y, reduction))
    transposed = mseloss.grad(g[0], x.T, y.T, reduction)
    assert same_bits(transposed, reference.grad(g[0], x.T, y.T, reduction))


def test_readme_sample():
    x, y = np.float32([1, 2, 3, 4]), np.float32([1, 1, 1, 1])
    assert mseloss.loss(x, y) == 3.5
    assert mseloss.grad(1.0, x, y).tolist() == [0, 0.5, 1, 1.5]
    loss, gradient = mseloss.loss_and_grad(x, y)
    assert loss == 3.5
    assert gradient.tolist() == [0, 0.5, 1, 1.5]


def test_mean_divides_by_the_count_of_input_before_broadcasting():
    x, y = np.float32([[1.0, 3.0]]), np.zeros((5, 2), np.float32)
    assert mseloss.grad(1.0, x, y).tolist() == [[1.0, 3.0]] * 5


def test_laws(dtype):
    x, y = normal(4, 1000, dtype), normal(5, 1000, dtype)
    assert (mseloss.grad(1.0, x, x) == 0).all()
    assert (mseloss.grad(1.0, x, y) == -mseloss.grad(1.0, y, x)).all()
    assert same_bits(mseloss.grad(2.0, x, y), mseloss.grad(1.0, x, y) * dtype.type(2)) or (
        dtype.itemsize == 2  # subnormal halves round
    )


def test_float16_mean_survives_two_to_the_26_elements():
    n = 1 << 26
    x, y = np.full(n, 100, np.float16), np.zeros(n, np.float16)
    mseloss.grad(1024.0, x, y, out=x)
    assert x[0] == x[-1] == np.float16(100 * 2 / n * 1024)
    assert (x == x[0]).all()


# Kinds of arrays


@pytest.mark.parametrize("value", [0.5, 3, True, np.float64(0.1), 1e-45, math.inf, 70000.0])
def test_a_python_number_takes_the_dtype_of_input(value, dtype):
    x, y = normal(6, 9, dtype), normal(7, 9, dtype)
    with np.errstate(over="ignore"):
        g = np.asarray(float(value)).astype(dtype)
    if (
        dtype == DTYPES[2]
    ):  # through float32: only values that it holds exactly, so that nothing rounds twice
        g = reference._array_or_number(value, "g", dtype)
    assert same_bits(mseloss.grad(value, x, y), mseloss.grad(g, x, y))


@pytest.mark.parametrize(
    "value",
    [
        2**60 + 2**36 + 1,  # float64 drops the 1 that breaks float32's tie
        2**60 + 2**36,
        -(2**60 + 2**36 + 1),
        2**53 + 1,
        2**63 - 1,
        2**63,
        -(2**63),
        -(2**63) - 1,
        2**64 + 2**40 + 1,
        2**100 + 2**76 + 1,
        2**100 + 2**47 + 1,
        65519,
        65520,
        2**128 - 2**103,
        2**128 - 2**103 - 1,
        10**400,
        -(10**400),
    ],
    ids=lambda v: f"{v:.3g}" if abs(v) < 1e300 else "10^400",
)
def test_an_int_is_rounded_once(value, dtype):
    x, y = np.ones(1, dtype), np.zeros(1, dtype)
    g = np.asarray(reference.round_number(value, dtype), dtype)
    assert same_bits(mseloss.grad(value, x, y), mseloss.grad(g, x, y))
    assert same_bits(mseloss.grad(value, x, y), reference.grad(value, x, y))


@given(st.integers(-(2**130), 2**130), st.integers(0, 1100), st.sampled_from(DTYPES))
def test_any_int_is_rounded_once(value, shift, dtype):
    x, y = np.ones(1, dtype), np.zeros(1, dtype)
    for number in (value, value << shift):
        g = np.asarray(reference.round_number(number, dtype), dtype)
        assert same_bits(mseloss.grad(number, x, y), mseloss.grad(g, x, y))


@pytest.mark.parametrize(
    "value",
    [np.int64(-3), np.int8(7), np.uint64(2**64 - 1), np.int64(2**60 + 2**36 + 1), np.True_],
    ids=repr,
)
def test_numpy_integers_are_numbers(value, dtype):
    x, y = normal(6, 9, dtype), normal(7, 9, dtype)
    assert same_bits(mseloss.grad(value, x, y), mseloss.grad(int(value), x, y))
    assert same_bits(reference.grad(value, x, y), mseloss.grad(int(value), x, y))
    for _, gradient in (
        mseloss.loss_and_grad(x, y, grad_output=value),
        reference.loss_and_grad(x, y, grad_output=value),
    ):
        assert same_bits(gradient, mseloss.loss_and_grad(x, y, grad_output=int(value))[1])


def test_numbers_of_subclasses_have_their_own_value():
    class Odd(int):
        def bit_length(self):
            return 3

        def __rshift__(self, other):
            raise AssertionError

        __index__ = __float__ = __rshift__

    x, y = np.ones(1, np.float32), np.zeros(1, np.float32)
    assert mseloss.grad(Odd(2**100), x, y) == 2.0**101


def test_numpy_scalars_are_zero_dimensional_arrays(dtype):
    x, y = normal(6, 9, dtype), normal(7, 9, dtype)
    assert same_bits(mseloss.grad(dtype.type(0.5), x, y), mseloss.grad(0.5, x, y))
    zero_dimensional = mseloss.grad(1.0, x[0], y[0])
    assert zero_dimensional.shape == ()
    assert zero_dimensional.dtype == dtype


def test_buffers_without_numpy_arrays():
    x, y = array.array("f", [1, 2, 3, 4]), memoryview(array.array("f", [1, 1, 1, 1]))
    result = mseloss.grad(1.0, x, y)
    assert isinstance(result, np.ndarray)
    assert result.tolist() == [0, 0.5, 1, 1.5]
    assert mseloss.grad(1.0, x, y, out=x) is x
    assert x.tolist() == [0, 0.5, 1, 1.5]
    with pytest.raises(ValueError, match="out: expected writable memory"):
        mseloss.grad(1.0, x, y, out=memoryview(bytes(16)).cast("f"))


def test_unaligned_and_structured_memory():
    raw = np.zeros(4 * 10 + 1, np.uint8)
    x = raw[1:].view(np.float32)
    x[:] = normal(1, 10)
    y = normal(2, 10)
    assert same_bits(mseloss.grad(1.0, x, y), reference.grad(1.0, x.copy(), y))
    fields = np.zeros(10, [("x", np.float32), ("y", np.float32)])
    fields["x"], fields["y"] = x, y
    assert same_bits(mseloss.grad(1.0, fields["x"], fields["y"]), reference.grad(1.0, x.copy(), y))


def test_results_lie_in_memory_like_the_input():
    x, y = normal(1, (40, 30, 20)), normal(2, (40, 30, 20))
    assert mseloss.grad(1.0, x.T, y.T).flags.f_contiguous
    turned = mseloss.grad(1.0, x.transpose(1, 0, 2), y.transpose(1, 0, 2))
    assert turned.transpose(1, 0, 2).flags.c_contiguous
    assert mseloss.grad(1.0, np.broadcast_to(x[0], x.shape), y).flags.c_contiguous
    assert mseloss.grad(1.0, x[::-1, ::-1], y).flags.c_contiguous


def test_empty_and_zero_dimensional(dtype, reduction):
    assert mseloss.grad(1.0, np.zeros((3, 0, 2), dtype), np.zeros(2, dtype)).shape == (3, 0, 2)
    one = mseloss.grad(1.0, np.asarray(3, dtype), np.asarray(1, dtype), reduction)
    assert one.shape == ()
    assert one == 4


def test_eight_dimensions():
    x = normal(1, (2,) * 8)
    assert same_bits(mseloss.grad(1.0, x, x[0] + 1), reference.grad(1.0, x, x[0] + 1))


def test_in_place_is_exactly_one_of_the_inputs(dtype, reduction):
    x, y = normal(1, (30, 40), dtype), normal(2, (30, 40), dtype)
    g = normal(3, (30, 40), dtype)
    expected = reference.grad(g, x, y, reduction)
    for which in range(3):
        arrays = [g.copy(), x.copy(), y.copy()]
        assert mseloss.grad(*arrays, reduction, out=arrays[which]) is arrays[which]
        assert same_bits(arrays[which], expected)


def test_interleaved_operands_do_not_overlap():
    both = normal(1, 20)
    x, out = both[::2], both[1::2]
    expected = reference.grad(1.0, x.copy(), np.zeros(10, np.float32))
    mseloss.grad(1.0, x, np.zeros(10, np.float32), out=out)
    assert same_bits(out, expected)


# Errors

X = np.arange(12, dtype=np.float32).reshape(3, 4)
READ_ONLY = X.copy()
READ_ONLY.setflags(write=False)
MEMORY = np.zeros(100, np.float32)


@pytest.mark.parametrize(
    ("arguments", "exception", "words"),
    [
        ((1.0, X, np.zeros(3, np.float32)), ValueError, "target: expected a shape that broadcasts"),
        (
            (1.0, np.zeros((1,) * 9, np.float32), X),
            ValueError,
            "input: expected at most 8 dimensions",
        ),
        (
            (1.0, X, X.astype(np.float64)),
            TypeError,
            "target: expected float32, the dtype of input, got float64",
        ),
        (
            (np.float16(1), X, X),
            TypeError,
            "grad_output: expected float32, the dtype of input, got float16",
        ),
        ((1.0, X.astype(int), X), TypeError, "input: expected float32, .* got int64"),
        ((1.0, X.astype(">f4"), X), TypeError, "input: expected float32, .* got >f4"),
        ((1.0, X, X.astype(complex)), TypeError, "target: .* got complex128"),
        ((1.0, X, X.astype(object)), TypeError, "target: .* got object"),
        ((1.0, ["1"], X), TypeError, "input: expected float32, .* got <U1"),
        ((1.0, X, None), TypeError, "target: expected an array .* got NoneType"),
        ((1.0, X, 2.0), TypeError, "target: expected an array .* got float"),
        (("1", X, X), TypeError, "grad_output: expected an array .* got str"),
        (
            (1.0, X, X, "average"),
            ValueError,
            "reduction: expected 'none', 'mean' or 'sum', got 'avera",
        ),
        ((1.0, X, X, 1), ValueError, "reduction: expected"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_refuses(arguments, exception, words):
    with pytest.raises(exception, match=words) as caught:
        mseloss.grad(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "out", "exception", "words"),
    [
        (X, READ_ONLY, ValueError, "out: expected writable memory"),
        (
            X,
            np.zeros((4, 3), np.float32),
            ValueError,
            r"^out: expected the broadcast shape \(3, 4\)",
        ),
        (X, np.zeros((3, 4), np.int32), TypeError, "out: expected float32"),
        (
            MEMORY[:50],
            MEMORY[1:51],
            ValueError,
            "^out: expected memory that does not overlap input",
        ),
        (MEMORY[:50], MEMORY[:50][::-1], ValueError, "memory that does not overlap"),
        (
            MEMORY[:50],
            MEMORY[:50].view(np.float16)[::2],
            ValueError,
            "memory that does not overlap",
        ),
        (
            MEMORY[:10],
            np.lib.stride_tricks.as_strided(MEMORY[50:], (10,), (0,)),
            ValueError,
            "map every index to its own memory",
        ),
        (X, "text", TypeError, "out: expected an array"),
    ],
)
def test_refuses_outputs(x, out, exception, words):
    before = MEMORY.copy()
    with pytest.raises(exception, match=words):
        mseloss.grad(1.0, x, np.ones_like(x), out=out)
    assert (before == MEMORY).all()


def test_strides_that_are_no_whole_elements():
    packed = np.zeros(4, np.dtype([("x", np.float32), ("tag", np.uint8)]))
    with pytest.raises(ValueError, match="input: expected strides of whole elements"):
        mseloss.grad(1.0, packed["x"], np.zeros(4, np.float32))


def test_more_memory_than_there_is():
    x = np.broadcast_to(np.float32(1), (1 << 30, 1 << 14))
    with pytest.raises(MemoryError):
        mseloss.grad(1.0, x, x)
    x = np.broadcast_to(np.float32(1), (1 << 40, 1 << 40 >> 20))
    with pytest.raises((MemoryError, ValueError)):
        mseloss.grad(1.0, x, x)


def test_targets_have_the_same_bits():
    x, y = normal(1, (33, 65), ml_dtypes.bfloat16), normal(2, (33, 65), ml_dtypes.bfloat16)
    expected = reference.grad(0.7, x, y.copy())
    try:
        for target in mseloss.info()["supported_targets"]:
            mseloss.set_target(target)
            assert mseloss.info()["target"] == target
            assert same_bits(mseloss.grad(0.7, x, y), expected)
        with pytest.raises(ValueError, match="Z80"):
            mseloss.set_target("Z80")
    finally:
        mseloss.set_target(None)


def test_a_part_has_the_bits_of_the_whole(dtype):
    x, y = normal(1, (30, 7), dtype), normal(2, (30, 7), dtype)
    whole, out = mseloss.grad(0.3, x, y), np.empty_like(x)
    for part in (slice(0, 13), slice(13, 30)):
        mseloss._core.grad_part(0.3, x[part], y[part], x.size, out[part])
    assert same_bits(out, whole)


def test_explain_is_one_sentence():
    text = mseloss.explain(1.0, X.T, X.T)
    assert text
    assert "\n" not in text
