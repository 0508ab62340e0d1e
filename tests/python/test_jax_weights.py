"""mseloss.jax with weights, masks and axes: the reference's bits, and derivatives of every order."""

import itertools

import numpy as np
import pytest
from conftest import normal, same_bits
from mseloss import reference

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402
import mseloss.jax as face  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

SHAPE = (4, 3, 2)
WEIGHTS = ("full", "sample", "inner", "mask", "none")
AXES = {
    "none": [{}],
    "mean": [{}, {"axis": 0}, {"axis": (-1, 1)}, {"axis": 2, "keepdims": True}, {"axis": ()}],
}
AXES["sum"] = AXES["mean"]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def weight_of(kind, dtype=np.float64, shape=SHAPE):
    if kind == "none":
        return None
    rng = np.random.default_rng(7)
    if kind == "mask":
        return rng.random(shape) < 0.7
    extents = {"full": shape, "sample": (shape[0],) + (1,) * (len(shape) - 1), "inner": shape[-2:]}
    return rng.uniform(0.5, 2, extents[kind]).astype(dtype)


def formula(x, y, reduction, weight=None, axis=None, keepdims=False):
    d = jnp.asarray(x) - jnp.asarray(y)
    w = jnp.ones((), d.dtype) if weight is None else jnp.asarray(weight)
    if w.dtype == bool:
        d, w = jnp.where(w, d, 0), w.astype(d.dtype)
    terms = w * d**2
    if reduction == "none":
        return terms
    value = terms.sum(axis, keepdims=keepdims)
    if reduction == "sum":
        return value
    return value / jnp.broadcast_to(w, terms.shape).sum(axis, keepdims=keepdims)


CASES = [
    pytest.param(reduction, options, kind, id=f"{reduction}-{options}-{kind}")
    for reduction in AXES
    for options in AXES[reduction]
    for kind in WEIGHTS
]


@pytest.mark.parametrize(("how", "options", "kind"), CASES)
def test_bits_of_the_reference(how, options, kind, dtype):
    if dtype.itemsize == 2 and options not in ({}, {"axis": (-1, 1)}):
        pytest.skip("the half types differ from float32 only in the conversions")
    x, y = normal(1, SHAPE, dtype), normal(2, SHAPE, dtype)
    options = options | {"weight": weight_of(kind, dtype)}
    expected = np.asarray(reference.loss(x, y, how, **options))
    keepdims = options.pop("keepdims", False)
    for wrap in (lambda f: f, jax.jit):
        value, back = jax.vjp(
            wrap(lambda a, b: face.mse_loss(a, b, how, keepdims=keepdims, **options)), x, y
        )
        assert same_bits(value, expected)
        for g in (np.ones(value.shape, dtype), normal(3, value.shape, dtype)):
            gx, gy = wrap(back)(jnp.asarray(g))
            upstream = g.squeeze(options["axis"]) if keepdims else g
            gradient = reference.loss_and_grad(x, y, how, grad_output=upstream, **options)[1]
            assert same_bits(gx, gradient)
            assert same_bits(gy, 0 - gradient if kind == "mask" else -gradient)


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize(
    ("how", "options"), [("none", {}), ("mean", {}), ("mean", {"axis": 1}), ("sum", {"axis": 1})]
)
def test_derivatives_to_third_order(how, options, kind):
    shape = (3, 2, 1)
    x, y, w = normal(1, shape, np.float64), normal(2, (2, 2), np.float64), weight_of(kind)
    if kind != "none":
        w = w[:3, :2, :2] if w.ndim == 3 else w[:2, :2]
    constant = kind in ("mask", "none")

    def loss(x, y, *weight):
        return face.mse_loss(x, y, how, weight=w if constant else weight[0], **options)

    operands = (x, y) if constant else (x, y, w)
    check_grads(jax.jit(loss), operands, order=3, modes=("fwd",), rtol=1e-3)
    check_grads(jax.jit(loss), operands, order=3, modes=("rev",), rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "reduction"), [("full", "mean"), ("sample", "sum"), ("mask", "mean")]
)
def test_compositions_of_forward_and_reverse_mode(kind, reduction):
    x, y, w = normal(1, SHAPE, np.float64), normal(2, SHAPE, np.float64), weight_of(kind)
    operands = (x, y, w) if kind not in ("mask", "none") else (x, y)

    def of(function):
        def loss(x, y, w=w):
            return jnp.sin(function(x, y, reduction, weight=w, axis=(1, 2))).sum()

        return loss

    every = tuple(range(len(operands)))
    for outer, inner in itertools.product((jax.jacfwd, jax.jacrev), repeat=2):
        actual, expected = (
            jax.jit(outer(inner(of(f), every), every))(*operands) for f in (face.mse_loss, formula)
        )
        for ours, theirs in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    value, linear = jax.linearize(of(face.mse_loss), *operands)
    assert value == of(face.mse_loss)(*operands)
    tangents = tuple(np.ones_like(a) for a in operands)
    _, expected = jax.jvp(of(formula), operands, tangents)
    np.testing.assert_allclose(linear(*tangents), expected, rtol=1e-12, atol=1e-14)


def test_derivatives_of_half_types_are_computed_in_float32(dtype):
    x, y = np.full((64, 64), 2.0**-6).astype(dtype), np.zeros((1, 64), dtype)
    w = np.ones((64, 1), dtype)
    # Each element's gradient is 2^-17, and 2^-21 of it is not a float16.
    _, tangent = jax.jvp(lambda a: face.mse_loss(a, y, weight=w), (x,), (np.ones_like(x),))
    assert same_bits(tangent, np.asarray(2.0**-5, dtype))
    gradient = jax.grad(face.mse_loss, 1)(x, y)
    assert same_bits(gradient, np.full((1, 64), -(2.0**-11), dtype))
    # (d^2 - loss) / sum(w) summed over each row, where all rows are equal
    gradient = jax.grad(lambda w: face.mse_loss(x, y, weight=w))(w)
    assert (gradient == 0).all()


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_vmap_is_one_call_without_a_loop(how, dtype):
    x, y = normal(1, (6, 5, 4), dtype), normal(2, (6, 5, 4), dtype)
    w = weight_of("full", dtype, x.shape)

    def loss(x, y, w):
        return face.mse_loss(x, y, how, weight=w)

    for axes in itertools.product((0, None), repeat=3):
        if axes == (None,) * 3:
            continue
        a, b, c = (v if axis == 0 else v[0] for v, axis in zip((x, y, w), axes, strict=True))
        mapped = jax.vmap(loss, axes)
        text = jax.jit(mapped).lower(a, b, c).as_text()
        assert text.count("@mseloss_loss(") == 1
        assert "while" not in text
        step = jax.jit(jax.vmap(jax.value_and_grad(loss), axes))
        assert "while" not in step.lower(a, b, c).as_text()
        values, gradients = step(a, b, c)
        for i in range(6):
            rows = [v[i] if axis == 0 else v for v, axis in zip((a, b, c), axes, strict=True)]
            expected = reference.loss_and_grad(*rows[:2], how, weight=rows[2])
            assert same_bits(values[i], np.asarray(expected[0]))
            assert same_bits(mapped(a, b, c)[i], values[i])
            assert same_bits(gradients[i], expected[1])
        total = jax.jit(jax.grad(lambda *z, f=mapped: f(*z).sum(), (0, 1, 2)))
        plain = jax.grad(
            lambda *z, axes=axes: jax.vmap(lambda p, q, r: formula(p, q, how, r), axes)(*z).sum(),
            (0, 1, 2),
        )(*(v.astype(np.float64) for v in (a, b, c)))
        for ours, theirs in zip(total(a, b, c), plain, strict=True):
            scale = np.abs(theirs).max()
            step_of = float(jnp.finfo(dtype).eps)
            np.testing.assert_allclose(ours.astype(np.float64), theirs, atol=8 * step_of * scale)


def test_one_sweep_with_weights():
    x = np.ones((8, 4))

    def loss(x, w):
        return face.mse_loss(x, 0.0, weight=w, axis=1).sum()

    for w in (np.ones((8, 1)), np.ones((8, 4), bool)):
        text = jax.jit(jax.value_and_grad(loss)).lower(x, w).as_text()
        assert text.count("@mseloss_loss_and_grad") == 1
        assert "@mseloss_loss(" not in text


@pytest.mark.parametrize("how", ["none", "mean", "sum"])
def test_nothing_behind_a_mask_matters(how, dtype):
    x, y = normal(1, SHAPE, dtype), normal(2, SHAPE, dtype)
    mask = weight_of("mask")
    bad = np.where(mask, x, np.asarray(np.nan, dtype))

    def loss(a, b):
        return face.mse_loss(a, b, how, weight=mask).sum()

    for a, b in ((bad, y), (x, bad), (bad, bad)):
        clean = (np.where(mask, v, np.asarray(0, dtype)) for v in (a, b))
        clean = tuple(clean)
        for derivative in (
            jax.value_and_grad(loss, (0, 1)),
            jax.jacfwd(loss, (0, 1)),
            jax.hessian(loss, (0, 1)),
        ):
            actual, expected = derivative(a, b), derivative(*clean)
            for ours, theirs in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
                assert same_bits(ours, theirs)
        gx, gy = jax.grad(loss, (0, 1))(a, b)
        for gradient in (gx, gy):
            assert (gradient[~mask] == 0).all()
            assert not np.signbit(np.asarray(gradient[~mask], np.float64)).any()


def test_weights_have_any_dtype():
    x, y = normal(1, SHAPE, np.float32), normal(2, SHAPE, np.float32)
    with jax.enable_x64(False):
        for w in (jnp.float16(0.5), jnp.asarray([1, 2], jnp.int8), jnp.bfloat16([[3]]), 2, 0.5):
            value = face.mse_loss(x, y, "sum", weight=w)
            wide = np.asarray(w, np.float32)
            assert same_bits(value, np.asarray(reference.loss(x, y, "sum", weight=wide)))
        half = face.mse_loss(jnp.asarray(x, jnp.bfloat16), jnp.asarray(y, jnp.bfloat16), weight=x)
        assert half.dtype == np.float32
        gradient = jax.grad(lambda w: face.mse_loss(x, y, weight=w))(jnp.float16([0.5, 1]))
        assert gradient.dtype == np.float16
        strict = jnp.float16([0.5, 1])
        with jax.numpy_dtype_promotion("strict"), pytest.raises(ValueError, match="promotion"):
            face.mse_loss(x, y, weight=strict)


def test_refusals():
    x = np.ones((2, 3))
    for options, error, text in (
        ({"axis": 2}, ValueError, "axis: expected dimensions of an array of rank 2, got 2"),
        ({"axis": (0, -2)}, ValueError, "axis: expected each dimension at most once"),
        ({"axis": 0.5}, TypeError, "axis: expected None, an integer or a tuple"),
        ({"reduction": "none", "axis": 0}, ValueError, "axis: expected None for reduction 'none'"),
        ({"reduction": "none", "keepdims": True}, ValueError, "keepdims: expected False"),
        ({"axis": 0, "axis_name": "d"}, ValueError, "axis_name: expected axis None"),
        ({"weight": x + 1j}, TypeError, "weight: .* or bool for a mask, got complex128"),
        ({"weight": np.ones(4)}, ValueError, "[Ii]ncompatible shapes"),
    ):
        with pytest.raises(error, match=text):
            face.mse_loss(x, x, **options)


@pytest.mark.parametrize("how", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_empty_slices(how, shape):
    x, w = np.ones(shape, np.float32), np.ones((shape[0], 1), np.float32)
    for options in ({"axis": 1}, {"axis": 0}, {}, {"axis": 1, "weight": w}, {"weight": w}):
        value, back = jax.vjp(lambda a, o=options: face.mse_loss(a, 1.0, how, **o), x)
        expected = np.asarray(reference.loss(x, np.float32([1]), how, **options))
        assert same_bits(value, expected)
        assert back(value)[0].shape == shape


@pytest.mark.parametrize("kind", ["none", "weight", "mask"])
@pytest.mark.parametrize("axis", [None, (0, 2, 4), (1, 3, 5, 7, 9, 11), 3], ids=str)
def test_more_than_8_dimensions(kind, axis, dtype):
    x, y = normal(1, (2, 1) * 6, dtype), normal(2, (1, 2) * 6, dtype)
    w = None if kind == "none" else weight_of("full", dtype, (1, 1, 2, 2) * 3)
    w = w > 1 if kind == "mask" else w
    shape = (2,) * 12
    reduced = tuple(range(12)) if axis is None else np.atleast_1d(axis)
    kept = [i for i in range(12) if i not in reduced]
    order = (*kept, *reduced)
    wide = [
        np.broadcast_to(a, shape).transpose(order).reshape(2 ** len(kept), -1)
        for a in ((x, y) if w is None else (x, y, w))
    ]
    weight = None if w is None else wide[2]
    for how in ("mean", "sum"):
        loss = jax.jit(lambda a, b, how=how: face.mse_loss(a, b, how, weight=w, axis=axis))
        value, gradient = reference.loss_and_grad(*wide[:2], how, weight=weight, axis=1)
        assert same_bits(loss(x, y).reshape(-1), value.reshape(-1))
        full = [np.broadcast_to(a, shape) for a in (x, y)]
        gx = jax.grad(lambda a, b, f=loss: f(a, b).sum())(*map(np.ascontiguousarray, full))
        assert same_bits(gx, gradient.reshape((2,) * 12).transpose(np.argsort(order)))


def test_export_with_weights_and_symbolic_shapes():
    from jax import export

    n, m = export.symbolic_shape("n, m")
    x, y = normal(1, (5, 3), np.float32), normal(2, (5, 3), np.float32)
    w = weight_of("sample", np.float32, (5, 3))
    kinds = [jax.ShapeDtypeStruct(s, np.float32) for s in ((n, m), (n, m), (n, 1))]
    for how in ("none", "mean", "sum"):
        options = {} if how == "none" else {"axis": 0}

        def loss(x, y, w, how=how, options=options):
            return face.mse_loss(x, y, how, weight=w, **options)

        for function in (loss, jax.grad(lambda *a, f=loss: f(*a).sum(), (0, 1, 2))):
            program = export.export(jax.jit(function), disabled_checks=face.EXPORT_CHECKS)(*kinds)
            results = jax.tree.leaves(program.call(x, y, w))
            for ours, theirs in zip(results, jax.tree.leaves(function(x, y, w)), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-6)
