"""mseloss.xarray.mse against exact fractions, on NumPy and on Dask data."""

from fractions import Fraction

import mseloss
import numpy as np
import pytest
from conftest import same_bits

xr = pytest.importorskip("xarray")
pytest.importorskip("dask")
import mseloss.xarray  # noqa: E402
from mseloss.xarray import mse  # noqa: E402

DIMS = ("time", "lat", "lon")
LATITUDES = [-60.0, 0.0, 45.0]


def field(seed, missing=0.0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((6, 3, 4)).astype(dtype)
    values[rng.random(values.shape) < missing] = np.nan
    coordinates = {"time": np.arange(6), "lat": LATITUDES}
    return xr.DataArray(values, dims=DIMS, coords=coordinates, name="t2m", attrs={"units": "K"})


def exact(a, b, reduced, weights=None, skipna=False):
    """The weighted mean of each slice as a fraction, rounded once by Python's division."""
    x, y = a.values, b.values
    w = np.ones(x.shape) if weights is None else np.broadcast_to(weights, x.shape)
    axes = [DIMS.index(d) for d in reduced]
    kept = [i for i in range(3) if i not in axes]
    result = np.empty([x.shape[i] for i in kept], x.dtype)
    for index in np.ndindex(*result.shape):
        total = divisor = Fraction(0)
        missing = False
        for element in np.ndindex(*x.shape):
            if tuple(element[i] for i in kept) != index:
                continue
            difference = x[element] - y[element]
            if np.isnan(difference):
                missing = missing or not skipna
                continue
            weight = Fraction(float(w[element]))
            total += weight * Fraction(float(difference)) ** 2
            divisor += weight
        result[index] = np.nan if missing or divisor == 0 else nearest(total / divisor, x.dtype)
    return result


def nearest(value, dtype):
    """The element of `dtype` that is nearest to a fraction; these are never ties."""
    near = dtype.type(float(value))
    candidates = [
        near,
        np.nextafter(near, dtype.type(-np.inf)),
        np.nextafter(near, dtype.type(np.inf)),
    ]
    return min(candidates, key=lambda c: abs(Fraction(float(c)) - value))


def chunked(array, seed):
    rng = np.random.default_rng(seed)
    return array.chunk({d: int(rng.integers(1, n + 1)) for d, n in array.sizes.items()})


@pytest.mark.parametrize("skipna", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dim", [None, "time", ["lat", "lon"], ("lon", "time")], ids=str)
def test_means_are_exact_whatever_the_chunks(dim, weighted, skipna):
    a, b = field(1, 0.2), field(2, 0.2)
    weights = None
    if weighted:
        weights = xr.DataArray(np.float32([0.5, 1, 0.7]), dims="lat", coords={"lat": LATITUDES})
    reduced = DIMS if dim is None else [dim] if isinstance(dim, str) else dim
    grid = None if weights is None else weights.values[:, None]
    expected = exact(a, b, reduced, grid, skipna)
    dims = tuple(d for d in DIMS if d not in reduced)
    for seed in range(4):
        x, y = (a, b) if seed == 0 else (chunked(a, seed), chunked(b, -seed % 7))
        w = weights if weights is None or seed < 2 else weights.chunk({"lat": 2})
        result = mse(x, y, dim, w, skipna)
        assert (result.chunks is None) == (seed == 0)
        assert result.dims == dims
        assert set(result.coords) == set(dims) & {"time", "lat"}
        assert same_bits(result.values, expected)


def test_skipna_is_the_mean_over_a_mask():
    a, b = field(1, 0.3), field(2, 0.3)
    valid = a.notnull() & b.notnull()
    for dim in (None, "time"):
        expected = mse(a, b, dim, weights=valid)
        assert expected.identical(mse(a, b, dim, skipna=True))
        assert expected.identical(mse(chunked(a, 1), chunked(b, 2), dim, skipna=True).compute())
    nothing = a * np.nan
    assert np.isnan(mse(nothing, b, skipna=True))
    assert np.isnan(mse(a, b))


def test_float64_weights_make_a_float64_mean():
    a, b = field(1), field(2)
    weights = np.cos(np.deg2rad(a.lat))
    wide = a.astype(np.float64), b.astype(np.float64)
    expected = exact(*wide, DIMS, weights.values[:, None])
    result = mse(a, b, weights=weights)
    assert same_bits(result.values, expected)
    assert same_bits(mse(chunked(a, 3), b, weights=weights).values, expected)


def test_data_sets():
    a, b = field(1), field(2)
    forecast = xr.Dataset({"t2m": a, "sst": b})
    truth = xr.Dataset({"t2m": b, "sst": chunked(b, 1)})
    result = mse(forecast, truth, dim="time")
    assert same_bits(result.t2m.values, exact(a, b, ["time"]))
    assert not result.sst.values.any()
    assert mse(forecast, b, dim="time").sst.identical(result.sst.compute())


def test_names_attributes_and_integers():
    a, b = field(1), field(2)
    assert mse(a, b).name == "t2m"
    assert mse(a, b).attrs == {}
    assert mse(a, b, keep_attrs=True).attrs == {"units": "K"}
    whole = xr.DataArray([1, 2, 5], dims="x")
    assert mse(whole, whole * 0).values == 10
    assert mse(whole, whole * 0).dtype == np.float64


def test_agrees_with_xarray():
    a, b = field(1, dtype=np.float64), field(2, dtype=np.float64)
    weights = np.cos(np.deg2rad(a.lat))
    for dim in ("time", ["lat", "lon"]):
        expected = ((a - b) ** 2).weighted(weights).mean(dim)
        np.testing.assert_allclose(mse(a, b, dim, weights).values, expected.values, rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda a: mse(a, a.isel(lat=slice(2))),
            ValueError,
            "a, b: expected equal coordinates and sizes",
        ),
        (
            lambda a: mse(a, a.isel(lon=slice(2))),
            ValueError,
            "a, b: expected equal coordinates and sizes",
        ),
        (
            lambda a: mse(a, a, dim="height"),
            ValueError,
            "dim: expected dimensions among .*, got 'height'",
        ),
        (
            lambda a: mse(a, a.values),
            TypeError,
            "b: expected an xarray.DataArray or Dataset, got ndarray",
        ),
        (lambda a: mse(a, a, weights=2.0), TypeError, "weights: expected an xarray.DataArray"),
        (
            lambda a: mse(a.astype(complex), a),
            TypeError,
            "a: expected real numbers, got complex128",
        ),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(field(1))


def test_it_is_imported_on_first_use():
    assert mseloss.xarray.mse is mse
    assert {"dask", "xarray"} <= set(dir(mseloss))
