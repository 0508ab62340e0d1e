"""The dtypes that arrays may have, and their byte order."""

import numpy as np

NAMES = ("float32", "float16", "bfloat16", "float64")
EXPECTED = "float32, float16, bfloat16 or float64"  # for error messages


def numpy_dtype(dtype):
    """The NumPy dtype of a name, a scalar type or a dtype."""
    if isinstance(dtype, str) and dtype == "bfloat16":  # unknown to NumPy
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)


def native(array):
    """The array in native byte order; anything without a dtype as it is."""
    if not hasattr(array, "dtype") or array.dtype.isnative:
        return array
    return array.astype(native_dtype(array))


def native_dtype(array):
    """The dtype of an array, in native byte order."""
    return array.dtype.newbyteorder("=")
