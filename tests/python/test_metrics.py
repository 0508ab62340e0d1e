"""mseloss.metrics against exact fractions and, if it is installed, scikit-learn."""

import math
from fractions import Fraction

import numpy as np
import pytest
from mseloss.metrics import mean_squared_error, root_mean_squared_error

FUNCTIONS = [mean_squared_error, root_mean_squared_error]


def exact_error(true, pred, weights=None):
    weights = [1] * len(true) if weights is None else weights
    total = sum(
        Fraction(w) * Fraction(p - t) ** 2 for t, p, w in zip(true, pred, weights, strict=True)
    )
    return float(total / sum(map(Fraction, weights)))


def test_one_output_is_the_exact_mean():
    random = np.random.default_rng(1)
    true, pred = random.standard_normal(500), random.standard_normal(500)
    weights = random.random(500)
    assert mean_squared_error(true, pred) == exact_error(true, pred)
    assert mean_squared_error(true, pred, sample_weight=weights) == exact_error(true, pred, weights)
    root = root_mean_squared_error(true, pred, sample_weight=weights)
    assert root == math.sqrt(exact_error(true, pred, weights))
    assert type(root) is float


def test_outputs_and_their_averages():
    true, pred = [[0.5, 1], [-1, 1], [7, -6]], [[0, 2], [-1, 2], [8, -5]]
    raw = mean_squared_error(true, pred, multioutput="raw_values")
    assert raw.tolist() == [exact_error([0.5, -1, 7], [0, -1, 8]), 1.0]
    assert mean_squared_error(true, pred) == raw.mean()
    assert mean_squared_error(true, pred, multioutput=[0.3, 0.7]) == np.average(
        raw, weights=[0.3, 0.7]
    )
    roots = root_mean_squared_error(true, pred, multioutput="raw_values")
    assert (roots == np.sqrt(raw)).all()
    weighted = mean_squared_error(true, pred, sample_weight=[1, 2, 3], multioutput="raw_values")
    assert weighted.tolist() == [exact_error([0.5, -1, 7], [0, -1, 8], [1, 2, 3]), 1.0]


def test_kinds_of_input():
    assert mean_squared_error([3, 2, 7], [2, 2, 9]) == exact_error([3, 2, 7], [2, 2, 9])
    assert mean_squared_error(np.arange(3), np.ones(3, np.int8)) == exact_error(
        [0, 1, 2], [1, 1, 1]
    )
    single = np.float32([1, 2, 4])
    raw = mean_squared_error(single, single + 1, multioutput="raw_values")
    assert raw.dtype == np.float32
    assert raw.tolist() == [1.0]
    assert mean_squared_error(single, single + 1, sample_weight=[1, 2, 3]) == 1.0
    assert mean_squared_error([True, False], [False, False], sample_weight=[True, False]) == 1.0


def test_data_frames_and_series():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3, 4]})
    assert mean_squared_error(frame, frame + 1, multioutput="raw_values").tolist() == [1.0, 1.0]
    assert mean_squared_error(frame["b"], frame["a"], sample_weight=pandas.Series([1, 3])) == 4.0


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (([1, 2], [1, 2, 3]), {}, ValueError, "y_pred: expected 2 samples"),
        (([[1, 2]], [[1, 2, 3]]), {}, ValueError, "y_pred: expected 2 outputs"),
        (([], []), {}, ValueError, "at least one sample"),
        (
            ([1, 2], [1, 2]),
            dict(sample_weight=[1]),
            ValueError,
            "sample_weight: expected one weight",
        ),
        (
            ([1, 2], [1, 2]),
            dict(multioutput="all"),
            ValueError,
            "multioutput: expected 'raw_values'",
        ),
        (
            ([[1, 2]], [[1, 2]]),
            dict(multioutput=[1]),
            ValueError,
            "one weight for each of 2 outputs",
        ),
        (([1, math.nan], [1, 2]), {}, ValueError, "y_true: expected finite numbers"),
        (([1, 2], [1, math.inf]), {}, ValueError, "y_pred: expected finite numbers"),
        (([1, 2], [1, 3]), dict(sample_weight=[1, -1]), ZeroDivisionError, "add up to 0"),
        ((np.zeros((2, 2, 2)), np.zeros((2, 2, 2))), {}, ValueError, "1 or 2 dimensions"),
        ((["a"], ["b"]), {}, ValueError, "y_true: expected numbers"),
        ((1.0, 2.0), {}, TypeError, "y_true: expected an array"),
    ],
    ids=str,
)
def test_errors_name_the_argument(function, arguments, options, error, words):
    with pytest.raises(error, match=words):
        function(*arguments, **options)


def test_weights_for_one_output():
    with pytest.raises(ValueError, match="only for several outputs"):
        mean_squared_error([1, 2], [1, 2], multioutput=[1])
    assert root_mean_squared_error([1, 2], [3, 4], multioutput=[1]) == 2


def test_results_and_exceptions_agree_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(2)
    cases = 0
    for outputs in (None, 1, 3):
        shape = (40,) if outputs is None else (40, outputs)
        for dtype in (np.float64, np.float32, np.int64):
            true, pred = (10 * random.standard_normal((2, *shape))).astype(dtype)
            for weight in (None, random.random(40), random.integers(0, 3, 40)):
                for average in ("raw_values", "uniform_average", [0.2, 0.3, 0.5], [1.0]):
                    for function in FUNCTIONS:
                        options = dict(sample_weight=weight, multioutput=average)
                        try:
                            expected = getattr(sklearn, function.__name__)(true, pred, **options)
                        except (ValueError, TypeError):  # TypeError for the root
                            with pytest.raises(ValueError, match="multioutput: "):
                                function(true, pred, **options)
                            continue
                        actual = function(true, pred, **options)
                        assert type(actual) is type(expected)
                        single = dtype == np.float32
                        np.testing.assert_allclose(actual, expected, rtol=1e-5 if single else 1e-13)
                        cases += 1
    assert cases > 100


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scikit_learn_s_own_tests_pass(monkeypatch):
    tests = pytest.importorskip("sklearn.metrics.tests.test_regression")
    monkeypatch.setattr(tests, "mean_squared_error", mean_squared_error)
    monkeypatch.setattr(tests, "root_mean_squared_error", root_mean_squared_error)
    tests.test_regression_metrics()
    tests.test_root_mean_squared_error_multioutput_raw_value()
    tests.test_multioutput_regression()
    tests.test_regression_metrics_at_limits()
    tests.test_regression_multioutput_array()
    tests.test_regression_custom_weights()
