"""Objects that only give copies (lists, __array__), and exceptions of producers."""

import mseloss
import numpy as np
import pytest
from conftest import DTYPES, normal, same_bits
from foreign import EXPECTED, X, Y, refusal
from mseloss import reference
from producers import (
    Interface,
    WithArray,
)


def test_lists_are_read_as_numpy_reads_them():
    assert mseloss.loss([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], "sum") == np.float64(5)
    assert mseloss.loss([1, 2, 3], (1, 1, 1), "sum") == 5
    assert mseloss.loss([[1, 2], [3, 4]], [1, 1], "none").tolist() == [[0, 1], [4, 9]]
    assert mseloss.loss([np.float32(3)], [np.float32(1)]).dtype == np.float32
    assert mseloss.loss(X, Y.tolist()).dtype == np.float64
    assert mseloss.grad(1.0, X.tolist(), Y.tolist()).shape == X.shape
    assert mseloss.grad([1.0, 2.0], [3.0, 3.0], [1.0, 1.0], "sum").tolist() == [4, 8]
    assert np.isnan(mseloss.loss([], []))
    assert mseloss.loss([2**70], [0.0]) == 2.0**140
    assert mseloss.loss([[2**70, -(2**64)], [1.5, True]], [0, 1], "none").tolist() == [
        [2.0**140, 2.0**128],
        [2.25, 0],
    ]
    total = mseloss.PartialSum()
    total.add([1, 2], [0, 0])
    assert total.finish("sum", "float64") == 5


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1, 2], [3]], "list: setting an array element with a sequence"),
        (["a"], "got <U1"),
        ([None], "got object"),
        ([1j], "got complex128"),
        ([10**400], "got list: int too large to convert to float"),
        ([2**70, "1"], "got object"),
        ([2**70, None], "got object"),
        (range(3), "got range"),
        ({1.0}, "got set"),
        (np.float32, "got type"),
        (np.arange(3), "got int64"),
        (WithArray(np.arange(3)), "got int64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_array(value, words):
    refusal(TypeError, f"^input: .*{words}", mseloss.loss, value, X)
    refusal(TypeError, f"^target: .*{words}", mseloss.loss, X, value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_objects_with_only_an_array_method(dtype):
    x, y = normal(1, (3, 4), dtype), normal(2, (3, 4), dtype)
    result = mseloss.grad(1.0, WithArray(x), WithArray(y))
    assert isinstance(result, np.ndarray)
    assert same_bits(result, reference.grad(1.0, x, y))
    assert same_bits(mseloss.grad(1.0, x, WithArray(y)), reference.grad(1.0, x, y))


@pytest.mark.parametrize("out", [[0.0], (0.0,), WithArray(np.zeros(1))], ids=["list", "tuple", ""])
def test_copies_are_no_outputs(out):
    x = np.ones(1)
    refusal(
        TypeError, "out: expected an array that can be written", mseloss.grad, 1.0, x, x, out=out
    )


def test_pandas():
    pandas = pytest.importorskip("pandas")
    x, y = pandas.Series(X[0]), pandas.Series(Y[0])
    assert same_bits(mseloss.grad(1.0, x, y), reference.grad(1.0, X[0], Y[0]))
    assert same_bits(mseloss.loss(x, Y[0]), reference.loss(X[0], Y[0]))
    frame = pandas.DataFrame(X)
    assert same_bits(mseloss.grad(1.0, frame, Y), EXPECTED)
    refusal(TypeError, "input: .* got int64", mseloss.loss, pandas.Series([1, 2]), y)


def test_masked_arrays_are_refused_where_they_hide_values():
    masked = np.ma.array(X, mask=False)
    assert same_bits(mseloss.grad(1.0, masked, Y), EXPECTED)
    masked[1, 2] = np.ma.masked
    refusal(TypeError, "input: expected values without a mask", mseloss.grad, 1.0, masked, Y)
    refusal(TypeError, "out: expected values without a mask", mseloss.grad, 1.0, X, Y, out=masked)
    subclass = type("Subclass", (np.ndarray,), {})
    assert same_bits(mseloss.grad(1.0, X.view(subclass), Y), EXPECTED)


METHODS = ["__dlpack__", "__array__", "__array_interface__", "is_neg"]


def raising(method, error):
    def fail(self, *arguments, **options):
        raise error

    members = {method: property(fail) if method == "__array_interface__" else fail}
    if method == "is_neg":
        members["__dlpack__"] = lambda self, **options: X.__dlpack__()
    return type("Producer", (), members)()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), MemoryError("full")], ids=repr
)
def test_interrupts_of_a_producer_pass_unchanged(method, error):
    for call in (
        lambda p: mseloss.loss(p, X),
        lambda p: mseloss.grad(1.0, X, p),
        lambda p: mseloss.grad(p, X, X),
        lambda p: mseloss.PartialSum().add(X, p),
    ):
        with pytest.raises(type(error)) as caught:
            call(raising(method, error))
        assert caught.value is error


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "error",
    [RuntimeError("out of order"), ValueError("out of order\nmore"), BufferError("out of order")],
    ids=lambda e: type(e).__name__,
)
def test_other_exceptions_of_a_producer_become_the_cause(method, error):
    words = "^target: .*Producer: out of order$"
    raised = refusal(TypeError, words, mseloss.loss, X, raising(method, error))
    assert raised.__cause__ is error


def test_an_exception_without_a_message_is_named_by_its_type():
    words = "^input: .*Producer: ZeroDivisionError$"
    refusal(TypeError, words, mseloss.loss, raising("__dlpack__", ZeroDivisionError()), X)


def test_a_producer_that_refuses_dlpack_may_have_another_protocol():
    class Both(Interface):
        def __dlpack__(self, **options):
            raise BufferError("this type is not part of DLPack")

    assert same_bits(mseloss.grad(1.0, Both(X), Y), EXPECTED)


def test_a_deleted_jax_array_is_named():
    jax = pytest.importorskip("jax")
    deleted = jax.numpy.ones(3)
    deleted.delete()
    refusal(TypeError, "^input: .*Array has been deleted", mseloss.loss, deleted, X[0, :3])
    refusal(TypeError, "^target: .*Array has been deleted", mseloss.loss, X[0, :3], deleted)
