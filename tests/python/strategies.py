"""Hypothesis strategies: operands of every layout, with values that are hard to round."""

import numpy as np
from conftest import DTYPES
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    np.inf,
    -np.inf,
    np.nan,
    65504.0,
    6e-8,
    1e-40,
    3.4e38,
    1.0009765625,
]


@st.composite
def layouts(draw, shape, dtype):
    """An array of `shape` that is dense, transposed, sliced, reversed or expanded."""
    # Values come from a seed, which is cheap to draw; "bits" covers the whole range of the dtype.
    kind = draw(st.sampled_from(["bits", "values", "normal"]))
    seed = draw(st.integers(0, 2**32 - 1))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1, -2])) for _ in shape]
    order = draw(st.permutations(range(len(shape))))
    expand = [draw(st.booleans()) and draw(st.booleans()) for _ in shape]
    stored = [1 if e else n * abs(s) for n, s, e in zip(shape, steps, expand, strict=True)]
    random = np.random.default_rng(seed)
    count = tuple(stored[axis] for axis in order)
    if kind == "bits":
        raw = random.integers(0, 256, (*count, dtype.itemsize), np.uint8)
        flat = np.ascontiguousarray(raw).reshape(-1).view(dtype).reshape(count)
    elif kind == "values":
        with np.errstate(all="ignore"):
            flat = random.choice(SPECIAL, count).astype(dtype)
    else:
        flat = random.standard_normal(count).astype(dtype)
    array = flat.transpose(np.argsort(order)) if shape else flat
    index = tuple(slice(None, None, 1 if e else s) for s, e in zip(steps, expand, strict=True))
    array = array[index]
    return np.broadcast_to(array, shape)


@st.composite
def broadcast_shapes(draw, count):
    result = draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=7))
    shapes = []
    for _ in range(count):
        skip = draw(st.integers(0, len(result)))
        shapes.append(tuple(1 if draw(st.booleans()) else n for n in result[skip:]))
    return shapes


@st.composite
def operands(draw, count, same_dtype=True):
    dtype = draw(st.sampled_from(DTYPES))
    shapes = draw(broadcast_shapes(count))
    return [
        draw(layouts(shape, dtype if same_dtype else draw(st.sampled_from(DTYPES))))
        for shape in shapes
    ]
