"""mseloss.compare: ULP distances, verdicts, and the pattern of wrong elements."""

import math

import ml_dtypes
import mseloss
import numpy as np
import pytest
from conftest import DTYPES, normal
from hypothesis import given
from hypothesis import strategies as st
from mseloss.report import Report, chunks, ulp_distance


def test_equal_is_ok(dtype):
    x = normal(1, (50, 60), dtype)
    report = mseloss.compare(x, x.copy(), tolerance=0)
    assert report.ok
    assert report.max_ulp == 0
    assert report.summary().startswith("ok: 0 of 3,000 elements")
    assert repr(report)


def test_the_default_tolerance_is_one_ulp(dtype):
    x = np.abs(normal(1, 100, dtype)) + dtype.type(1)
    up = np.nextafter(x, dtype.type(np.inf))
    assert mseloss.compare(up, x).ok
    assert mseloss.compare(up, x).different == 100
    assert not mseloss.compare(up, x, tolerance=0).ok
    two = mseloss.compare(np.nextafter(up, dtype.type(np.inf)), x)
    assert not two.ok
    assert two.max_ulp == 2
    assert two.wrong == 100


def test_special_values(dtype):
    nan, inf = dtype.type(np.nan), dtype.type(np.inf)
    x = np.asarray([nan, inf, -inf, 0, 1], dtype)
    assert mseloss.compare(x, x, tolerance=0).ok
    assert mseloss.compare(np.asarray([-0.0], dtype), np.asarray([0.0], dtype), tolerance=0).ok
    for a, e in (
        (nan, 1),
        (1, nan),
        (inf, 1),
        (inf, -inf),
        (nan, inf),
        (inf, ml_dtypes.finfo(dtype).max),
    ):
        report = mseloss.compare(np.asarray([a], dtype), np.asarray([e], dtype), tolerance=10**9)
        assert not report.ok
        assert report.not_finite == 1
        assert "not finite" in report.summary()
        assert report.to_dict()["worst"][0]["ulp"] == "inf"


def test_a_wider_expectation_is_rounded_first():
    exact = normal(1, 1000, np.float64)
    for narrow in DTYPES[:3]:
        assert mseloss.compare(exact.astype(np.float32).astype(narrow), exact, tolerance=1).ok
    assert mseloss.compare(exact.astype(np.float32), exact, tolerance=0).ok


def test_shapes_that_differ_are_not_ok(tmp_path):
    report = mseloss.compare(np.ones((2, 3)), np.ones((3, 2)))
    assert not report.ok
    assert report.summary() == "NOT OK: shapes differ: actual (2, 3), expected (3, 2)"
    report.plot(tmp_path / "shapes.png")
    assert not mseloss.compare(np.ones(3), np.ones(())).ok


def test_refusals():
    with pytest.raises(TypeError, match="actual: expected float32"):
        mseloss.compare(np.ones(3, int), np.ones(3))
    one, many = np.ones(3), 2**64 - 2
    assert mseloss.compare(one, -one, tolerance=many, worst=np.int64(0)).ok
    for wrong in (-1, 10**20, 2**64 - 1, 1.5, math.nan, "1", None):
        with pytest.raises(
            ValueError, match=f"^tolerance: expected a whole number of ULP from 0 to {many}"
        ):
            mseloss.compare(one, one, tolerance=wrong)
    for wrong in (-1, 1.5, math.nan, "1", None):
        with pytest.raises(ValueError, match="worst: expected a whole number of elements from 0"):
            mseloss.compare(one, one + 1, worst=wrong)
    with pytest.raises(TypeError, match="inputs: expected a dict of name to array, got list"):
        mseloss.compare(one, one, inputs=[one])
    with pytest.raises(
        ValueError, match=r"^x: expected a shape that broadcasts to \(3,\), got \(2,\)$"
    ):
        mseloss.compare(one, one, inputs={"x": np.ones(2)})


@given(st.sampled_from(DTYPES), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_ulp_distance_counts_neighbours(dtype, i, j):
    bits = 8 * dtype.itemsize
    a, b = (np.array([v % 2**bits], f"u{dtype.itemsize}").view(dtype) for v in (i, j))
    wide = [float(v[0]) for v in (a, b)]
    distance, mixed = ulp_distance(a, b)
    assert bool(mixed[0]) == (
        not (math.isfinite(wide[0]) and math.isfinite(wide[1]))
        and wide[0] != wide[1]
        and not (math.isnan(wide[0]) and math.isnan(wide[1]))
    )
    if math.isfinite(wide[0]) and math.isfinite(wide[1]):

        def place(v):
            v %= 2**bits
            return v if v < 2 ** (bits - 1) else 2 ** (bits - 1) - v

        assert int(distance[0]) == abs(place(i) - place(j))


def test_the_worst_elements_come_with_their_inputs():
    x, y = normal(1, (40, 50)), normal(2, (50,))
    expected = mseloss.reference.grad(1.0, x, y)
    actual = expected.copy()
    actual[7, 9] = 5
    actual[3, 4] *= np.float32(1.01)
    report = mseloss.compare(actual, expected, inputs={"input": x, "target": y}, worst=5)
    assert [w["index"] for w in report.worst] == [(7, 9), (3, 4)]
    assert report.worst[0]["inputs"] == {"input": float(x[7, 9]), "target": float(y[9])}
    assert report.worst[0]["actual"] == 5
    assert "(7, 9): 5, expected" in report.summary()
    assert report.wrong == report.different == 2
    assert report.max_absolute == pytest.approx(abs(5 - float(expected[7, 9])))


def defect(name, array):
    if name == "every 16th row":
        array[3::16] += 1
    elif name == "the last 5 columns":
        array[:, -5:] += 1
    elif name == "row 77":
        array[77] += 1
    elif name == "rows 20 to 29":
        array[20:30] += 1
    elif name == "the last 777 elements":
        array.reshape(-1)[-777:] += 1
    elif name == "everywhere":
        array += 1
    elif name == "one element, (5, 6)":
        array[5, 6] += 1
    elif name == "every 8th column from 2":
        array[:, 2::8] += 1
        array[1, 1] += 1
    elif name == "scattered":
        array.reshape(-1)[np.random.default_rng(0).integers(0, array.size, 3000)] += 1


@pytest.mark.parametrize(
    "name",
    [
        "every 16th row",
        "the last 5 columns",
        "row 77",
        "rows 20 to 29",
        "the last 777 elements",
        "everywhere",
        "one element, (5, 6)",
        "every 8th column from 2",
        "scattered",
    ],
)
def test_names_the_pattern_and_draws_it(name, tmp_path):
    expected = normal(1, (600, 300))
    actual = expected.copy()
    defect(name, actual)
    report = mseloss.compare(actual, expected)
    assert name in report.pattern()
    assert name in report.summary()
    report.plot(tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_vectors_speak_of_elements():
    expected = normal(1, 1_000_003)
    for change, words in (
        (slice(-5, None), "the last 5 elements"),
        (slice(11, None, 16), "every 16th element: 11, 27, ..."),
        (slice(0, 100), "the first 100 elements"),
        (slice(500, 600), "elements 500 to 599"),
    ):
        actual = expected.copy()
        actual[change] += 1
        assert mseloss.compare(actual, expected).pattern() == words


def test_the_picture_shows_periodic_rows():
    """Every 16th of 8192 rows is wrong: the stored indices resolve single rows."""
    expected = np.zeros((8192, 40), np.float32)
    actual = expected.copy()
    actual[5::16] = 1
    where = mseloss.compare(actual, expected).error_map
    flat = where.stored()
    assert set(flat[: 64 * 40] // 40) >= {5, 21, 37}
    assert where.residues[0].reshape(-1, 16).sum(0).argmax() == 5


def test_in_chunks_is_the_same_as_at_once():
    expected = normal(1, (7, 11, 13))
    actual = expected.copy()
    actual[2:4] += 1
    whole = mseloss.compare(actual, expected)
    for limit in (1, 5, 13, 100, 143, 1000, 10**6):
        report = Report(actual.shape, actual.dtype)
        for index in chunks(actual.shape, limit):
            report.add(index, actual[index], expected[index])
        assert report.to_dict() == whole.to_dict()


@given(st.lists(st.integers(0, 6), max_size=4), st.integers(1, 50))
def test_chunks_cover_in_order(shape, limit):
    shape = tuple(shape)
    numbers = np.arange(math.prod(shape)).reshape(shape)
    parts = [numbers[index] for index in chunks(shape, limit)]
    assert all(part.size <= max(limit, 1) for part in parts)
    seen = np.concatenate([p.reshape(-1) for p in parts]) if parts else np.zeros(0, int)
    assert (seen == numbers.reshape(-1)).all()


def test_empty_and_zero_dimensional(tmp_path):
    assert mseloss.compare(np.ones((0, 3)), np.ones((0, 3))).ok
    assert mseloss.compare(np.float32(1), np.float32(1)).ok
    report = mseloss.compare(np.asarray(1.0), np.asarray(2.0))
    assert report.pattern() in ("everywhere", "one element, ()")
    report.plot(tmp_path / "zero.svg")
    mseloss.compare(np.ones((0, 3)), np.ones((0, 3))).plot(tmp_path / "empty.png")
