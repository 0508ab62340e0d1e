"""Mean squared error and its root with the signatures of scikit-learn's functions of the same names.

Errors are exact sums, weighted or not, divided and rounded once. scikit-learn is not needed.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mseloss._core import loss
from mseloss._dtypes import NAMES

__all__ = ["mean_squared_error", "root_mean_squared_error"]

_AVERAGES = ("raw_values", "uniform_average")


@overload
def mean_squared_error(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: Literal["raw_values"],
) -> NDArray[Any]: ...
@overload
def mean_squared_error(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: Literal["uniform_average"] | ArrayLike = "uniform_average",
) -> float: ...
def mean_squared_error(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: ArrayLike = "uniform_average",
) -> Any:
    """The mean of the squared errors of each output, and their average.

    Args:
        y_true, y_pred: arrays, lists or data frames of shape (n_samples,) or (n_samples, n_outputs).
            Numbers other than float32, float16, bfloat16 and float64 are read as float64.
        sample_weight: None, or one weight for each sample: an output's error is
            `sum(w * d ** 2) / sum(w)`, exact and rounded once.
        multioutput: "raw_values" returns an array with the error of each output; "uniform_average"
            their mean; an array of n_outputs weights their weighted mean.

    Returns a float, or for "raw_values" an array of n_outputs. Raises ValueError for shapes that do not
    fit, an unknown `multioutput`, no samples, or values that are not finite, TypeError for other types,
    and ZeroDivisionError if the weights add up to 0.

    >>> mseloss.metrics.mean_squared_error([3, -0.5, 2, 7], [2.5, 0.0, 2, 8])
    0.375
    """
    errors, dtype, average = _errors(y_true, y_pred, sample_weight, multioutput)
    # For one output only the root allows weights, as in scikit-learn.
    if len(errors) == 1 and isinstance(average, np.ndarray):
        raise ValueError("multioutput: expected weights only for several outputs, got one output")
    return errors.astype(dtype) if average is _RAW else _average(errors, average)


@overload
def root_mean_squared_error(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: Literal["raw_values"],
) -> NDArray[Any]: ...
@overload
def root_mean_squared_error(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: Literal["uniform_average"] | ArrayLike = "uniform_average",
) -> float: ...
def root_mean_squared_error(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: ArrayLike = "uniform_average",
) -> Any:
    """The square roots of the errors of `mean_squared_error`, output by output, and their average.

    Arguments, result and exceptions are those of `mean_squared_error`.

    >>> mseloss.metrics.root_mean_squared_error([[0, 1], [1, 1]], [[0, 2], [1, 2]], multioutput="raw_values")
    array([0., 1.])
    """
    errors, dtype, average = _errors(y_true, y_pred, sample_weight, multioutput)
    roots = np.sqrt(errors)
    return roots.astype(dtype) if average is _RAW else _average(roots, average)


_RAW = object()


def _errors(y_true, y_pred, sample_weight, multioutput):
    """The error of each output in float64, the dtype of raw values, and how to average: _RAW, None
    or weights."""
    true, pred = _targets(y_true, "y_true"), _targets(y_pred, "y_pred")
    if len(true) != len(pred):
        raise ValueError(f"y_pred: expected {len(true)} samples, as in y_true, got {len(pred)}")
    weight = None if sample_weight is None else _numbers(sample_weight, "sample_weight")
    if weight is not None and weight.shape != (len(true),):
        raise ValueError(
            f"sample_weight: expected one weight for each of {len(true)} samples, got shape {weight.shape}"
        )
    if len(true) == 0:
        raise ValueError("y_true: expected at least one sample, got none")
    if true.shape[1] != pred.shape[1]:
        raise ValueError(
            f"y_pred: expected {true.shape[1]} outputs, as in y_true, got {pred.shape[1]}"
        )
    average = _averaging(multioutput, true.shape[1])
    dtype = np.float64 if true.dtype != pred.dtype or true.dtype.name == "bfloat16" else true.dtype
    if weight is not None and weight.dtype != np.result_type(true, pred):
        dtype = np.float64  # a weight must not be wider than the errors
        weight = weight.astype(np.float64)
        pred = pred.astype(np.float64)
    columns = None if weight is None else weight.reshape(-1, 1)
    axis = None if true.shape[1] == 1 else 0
    errors = np.atleast_1d(loss(pred, true, weight=columns, axis=axis, dtype=np.float64))
    if not np.isfinite(errors).all():
        _explain(true, pred, weight)
    return errors, dtype, average


def _targets(values, name):
    array = _numbers(values, name)
    if array.ndim == 1:
        array = array.reshape(-1, 1)
    if array.ndim != 2:
        raise ValueError(f"{name}: expected 1 or 2 dimensions, got {array.ndim}")
    if array.shape[1] == 0:
        raise ValueError(f"{name}: expected at least one output, got none")
    return array


def _numbers(values, name):
    """An array that `loss` reads; numbers of other dtypes as float64."""
    if values is None or isinstance(values, (str, bytes, int, float, complex)):
        raise TypeError(f"{name}: expected an array, got {type(values).__name__}")
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise ValueError(f"{name}: expected real numbers, got {array.dtype}")
    if array.dtype.name in NAMES and array.dtype.isnative:
        return array
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected numbers, got {array.dtype}: {error}") from error


def _averaging(multioutput, outputs):
    if isinstance(multioutput, str):
        if multioutput not in _AVERAGES:
            raise ValueError(
                "multioutput: expected 'raw_values', 'uniform_average' or an array of weights, "
                f"got {multioutput!r}"
            )
        return _RAW if multioutput == "raw_values" else None
    weights = _numbers(multioutput, "multioutput")
    if weights.shape != (outputs,):
        raise ValueError(
            f"multioutput: expected one weight for each of {outputs} outputs, got shape {weights.shape}"
        )
    return weights


def _average(errors, weights):
    return float(errors[0] if len(errors) == 1 else np.average(errors, weights=weights))


def _explain(true, pred, weight):
    """Raises if values that are not finite, or weights that add up to 0, have made an error not finite."""
    for name, array in (("y_true", true), ("y_pred", pred), ("sample_weight", weight)):
        if array is not None and not np.isfinite(array.astype(np.float64, copy=False)).all():
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    if weight is not None and np.sum(weight, dtype=np.float64) == 0:
        raise ZeroDivisionError("sample_weight: expected weights that do not add up to 0")
