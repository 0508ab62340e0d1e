"""mseloss.jax: the reference's bits under grad, jit, vmap and shard_map."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import DTYPES, normal, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from mseloss import reference
from strategies import broadcast_shapes, layouts

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402
import mseloss.jax as face  # noqa: E402


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def sums_of(reduction):
    return lambda x, y: face.mse_loss(x, y, reduction).sum()


def test_bits_of_the_reference(dtype, reduction):
    x, y = normal(1, (33, 65), dtype), normal(2, (33, 65), dtype)
    for call in (face.mse_loss, jax.jit(face.mse_loss, static_argnums=2)):
        assert same_bits(call(x, y, reduction), np.asarray(reference.loss(x, y, reduction)))
    for transform in (jax.value_and_grad, lambda f, n: jax.jit(jax.value_and_grad(f, n))):
        _, (gx, gy) = transform(sums_of(reduction), (0, 1))(x, y)
        expected = reference.loss_and_grad(x, y, reduction)[1]
        assert same_bits(gx, expected)
        assert same_bits(gy, -expected)


@given(st.data())
@settings(max_examples=12)
def test_any_shapes_and_values(data):
    dtype = data.draw(st.sampled_from(DTYPES))
    (shape,) = data.draw(broadcast_shapes(1))
    x, y = (np.array(data.draw(layouts(shape, dtype))) for _ in range(2))
    how = data.draw(st.sampled_from(["mean", "sum"]))
    value, gradient = reference.loss_and_grad(x, y, how)
    with jax.enable_x64(True):
        loss, back = jax.vjp(lambda a, b: face.mse_loss(a, b, how), x, y)
        assert same_bits(loss, np.asarray(value))
        assert same_bits(back(jnp.ones((), dtype))[0], gradient)


@pytest.mark.parametrize("scale", [0.5, -3.0, 2.0**15])
def test_another_cotangent_starts_from_the_operands(dtype, scale):
    x, y = normal(1, 4096, dtype), normal(2, 4096, dtype)
    _, back = jax.vjp(face.mse_loss, x, y)
    g = np.asarray(scale, dtype)
    assert same_bits(back(g)[0], reference.loss_and_grad(x, y, grad_output=g)[1])
    tiny = np.full(
        4096, 2.0**-14, np.float16
    )  # unscaled gradient: 2^-25, which float16 rounds to 0
    gradient = jax.jit(jax.grad(lambda a, s: face.mse_loss(a, np.float16(0)) * s))(
        tiny, np.float16(2**15)
    )
    assert (gradient == np.float16(2.0**-10)).all()


@pytest.mark.parametrize("shapes", [((3, 1), (4,)), ((), (5,)), ((2, 3), (1, 1, 1)), ((0,), (1,))])
def test_broadcasting_reduces_each_gradient(shapes, reduction):
    x, y = (normal(i, s, np.float64) for i, s in enumerate(shapes))
    if 0 in shapes[0]:
        assert face.mse_loss(x, y, "sum") == 0
        assert np.isnan(face.mse_loss(x, y))
        return

    def plain(a, b):
        square = (a - b) ** 2
        return square.mean() if reduction == "mean" else square.sum()

    got = jax.grad(sums_of(reduction), (0, 1))(x, y)
    for ours, theirs in zip(got, jax.grad(plain, (0, 1))(x, y), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert face.mse_loss(x, y, "none").shape == np.broadcast_shapes(*shapes)


def test_dtypes_promote_and_gradients_are_cast_back():
    x, y = normal(1, 10, np.float16), jnp.asarray(normal(2, 10), jnp.bfloat16)
    value, (gx, gy) = jax.value_and_grad(face.mse_loss, (0, 1))(x, y)
    assert (value.dtype, gx.dtype, gy.dtype) == (np.float32, np.float16, jnp.bfloat16)
    assert same_bits(value, np.asarray(reference.loss(x, np.asarray(y))))
    assert face.mse_loss(jnp.arange(3), jnp.float32([1, 2, 3])) == 1


def test_vmap_has_the_bits_of_a_loop(dtype, reduction):
    x, y = normal(1, (5, 7, 3), dtype), normal(2, (5, 7, 3), dtype)
    for axes in ((0, 0), (1, 0), (None, 0), (0, None)):
        a = x if axes[0] is not None else x[0]
        b = y if axes[1] is not None else y[0]
        if axes == (1, 0):
            a = np.ascontiguousarray(x.swapaxes(0, 1))
        rows = [
            (x[i] if axes[0] is not None else a, y[i] if axes[1] is not None else b)
            for i in range(5)
        ]
        value = jax.vmap(lambda p, q: face.mse_loss(p, q, reduction), axes)(a, b)
        gradient = jax.jit(jax.vmap(jax.grad(sums_of(reduction)), axes))(a, b)
        for i, (p, q) in enumerate(rows):
            assert same_bits(value[i], np.asarray(reference.loss(p, q, reduction)))
            assert same_bits(gradient[i], reference.loss_and_grad(p, q, reduction)[1])


def test_jacobian_and_vmap_of_broadcast_operands():
    x, y = normal(1, (4, 3), np.float64), normal(2, 3, np.float64)
    none = jax.jacrev(lambda a: face.mse_loss(a, y, "none"))(x)
    plain = jax.jacrev(lambda a: (a - y) ** 2)(x)
    np.testing.assert_allclose(none, plain, rtol=1e-12)
    mapped = jax.vmap(lambda a: face.mse_loss(a, y[:, None], "none"))(x)
    np.testing.assert_array_equal(mapped, (x[:, None, :] - y[:, None]) ** 2)


def handlers_of(function, *operands):
    """The handlers that the compiled function calls."""
    compiled = jax.jit(function).lower(*operands).compile().as_text()
    return re.findall(r'custom_call_target="mseloss_(\w+)"', compiled)


def step(reduction):
    """The loss and the gradient for a cotangent of 1."""

    def both(x, y):
        value, back = jax.vjp(lambda a: face.mse_loss(a, y, reduction), x)
        return value, back(jnp.ones_like(value))[0]

    return both


# Around 4096 elements, up to which the handlers call a kernel without a plan.
@pytest.mark.parametrize("n", [1, 2, 31, 1000, 4096, 4097, 20_000])
def test_training_step_is_one_call(dtype, reduction, n):
    x, y = normal(1, n, dtype), normal(2, n, dtype)
    assert handlers_of(step(reduction), x, y) == ["loss_and_grad"]
    value, gradient = jax.jit(step(reduction))(x, y)
    expected = reference.loss_and_grad(x, y, reduction)
    assert same_bits(value, np.asarray(expected[0]))
    assert same_bits(gradient, expected[1])
    assert same_bits(jax.jit(face.mse_loss, static_argnums=2)(x, y, reduction), value)


def test_gradient_that_nothing_uses_is_not_computed():
    x, y = normal(1, 64), normal(2, 64)
    assert handlers_of(face.mse_loss, x, y) == ["loss"]
    weighted = jax.value_and_grad(lambda a: (face.mse_loss(a, y, "none") * y).sum())
    assert handlers_of(weighted, x) == ["loss", "grad"]
    value, gradient = jax.jit(weighted)(x)
    np.testing.assert_allclose(value, ((x - y) ** 2 * y).sum(), rtol=1e-5)
    assert same_bits(gradient, (x - y) * 2 * y)


@pytest.mark.parametrize("known", [True, False])
def test_cotangent_that_is_one_scalar_is_not_broadcast(dtype, known, monkeypatch):
    if not known:  # JAX versions whose traces do not tell
        monkeypatch.setattr(face.tangent, "_broadcast_scalar", lambda array: array)
    x, y = normal(1, (8, 16), dtype), normal(2, (8, 16), dtype)
    mean = jax.grad(lambda a: face.mse_loss(a, y, "none").mean())
    text = jax.jit(mean).lower(x).as_text()
    assert ("stablehlo.broadcast_in_dim" in text) != known
    total = jax.value_and_grad(lambda a: face.mse_loss(a, y, "none").sum())
    assert handlers_of(total, x) == (["loss_and_grad"] if known else ["loss", "grad"])
    one_over_n = np.asarray(1 / x.size, dtype)
    expected = reference.loss_and_grad(
        x, y, "none", grad_output=np.broadcast_to(one_over_n, x.shape)
    )
    assert same_bits(jax.jit(mean)(x), expected[1])
    mapped = jax.vmap(jax.jit(jax.grad(lambda a, s: face.mse_loss(a, y[0], "none").sum() * s)))
    scales = np.arange(8).astype(dtype)
    for row, scale, gradient in zip(x, scales, mapped(x, scales), strict=True):
        full = np.broadcast_to(scale, row.shape)
        assert same_bits(gradient, reference.loss_and_grad(row, y[0], "none", grad_output=full)[1])


def test_undecided_sums_of_few_elements_are_exact():
    """1 + 2^-24 lies between two float32; an element that a float64 sum loses decides."""
    tie, above = np.float32([1, 2**-12]), np.float32([1, 2**-12, 2**-30])
    for transform in (jax.jit, lambda f: jax.jit(lambda x: jax.value_and_grad(f)(x)[0])):
        loss = transform(lambda x: face.mse_loss(x, jnp.zeros_like(x), "sum"))
        assert loss(tie) == 1
        assert loss(above) == np.float32(1 + 2**-23)


def flags_of_memory_at(address):
    """The kernel's flags of the mapping that contains `address`."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        field, *rest = line.split()
        if "-" in field and not field.endswith(":"):
            first, last = (int(end, 16) for end in field.split("-"))
            inside = first <= address < last
        elif inside and field == "VmFlags:":
            return rest
    raise AssertionError("no such mapping")


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a kernel without huge pages"
)
def test_large_results_are_put_on_huge_pages():
    x = jnp.ones(1 << 24, jnp.float32)
    gradient = jax.jit(jax.grad(face.mse_loss))(x, x + 1).block_until_ready()
    middle = gradient.unsafe_buffer_pointer() + gradient.nbytes // 2
    assert "hg" in flags_of_memory_at(middle)  # MADV_HUGEPAGE
    small = np.empty(1000)
    assert "hg" not in flags_of_memory_at(small.ctypes.data)


def test_refusals():
    x = np.ones(3)
    with pytest.raises(ValueError, match="reduction: expected 'none', 'mean' or 'sum', got 'most'"):
        face.mse_loss(x, x, "most")
    with pytest.raises(TypeError, match=r"^input: .* got complex"):
        face.mse_loss(x + 1j, x)
    with pytest.raises(ValueError, match=r"[Ii]ncompatible shapes"):
        face.mse_loss(x, np.ones(4))
    with pytest.raises(TypeError, match=r"^target: .* got complex"):
        face.mse_loss(x, x + 1j)
    for reduction in ([], {}, jnp.ones(2), None):
        with pytest.raises(ValueError, match="reduction: expected 'none', 'mean' or 'sum'"):
            face.mse_loss(x, x, reduction)
    for axis_name in ("d", ["d"]):
        with pytest.raises(ValueError, match="axis_name: "):
            face.mse_loss(x, x, "none", axis_name=axis_name)


# Any number of dimensions

RANK_8 = (2, 1, 3, 1, 2, 2, 1, 2)


@pytest.mark.parametrize("batches", [(3,), (2, 3)], ids=str)
def test_rank_8_behind_batch_dimensions(batches, dtype, reduction):
    x, y = (normal(i, batches + RANK_8, dtype) for i in range(2))
    loss, scaled = sums_of(reduction), lambda a, b: 3 * sums_of(reduction)(a, b)
    value, gradient = lambda a, b: face.mse_loss(a, b, reduction), jax.grad(loss)
    fused, tripled = jax.value_and_grad(loss), jax.grad(scaled, (0, 1))
    for _ in batches:
        value, gradient, fused, tripled = map(jax.vmap, (value, gradient, fused, tripled))
    for wrap in (lambda f: f, jax.jit):
        values, gradients, (_, again), (gx, gy) = (
            wrap(f)(x, y) for f in (value, gradient, fused, tripled)
        )
        for i in np.ndindex(batches):
            expected = reference.loss_and_grad(x[i], y[i], reduction)
            assert same_bits(values[i], np.asarray(expected[0]))
            assert same_bits(gradients[i], expected[1])
            assert same_bits(again[i], expected[1])
            three = np.asarray(3, dtype)
            expected = reference.loss_and_grad(x[i], y[i], reduction, grad_output=three)[1]
            assert same_bits(gx[i], expected)
            assert same_bits(gy[i], -expected)


@pytest.mark.parametrize("side", ["input", "target"])
def test_rank_8_behind_a_batch_dimension_of_one_operand(side, reduction):
    x, y = normal(1, (3, *RANK_8)), normal(2, (3, *RANK_8))
    axes = (0, None) if side == "input" else (None, 0)
    a, b = (x, y[0]) if side == "input" else (x[0], y)
    values = jax.vmap(lambda p, q: face.mse_loss(p, q, reduction), axes)(a, b)
    gradients = jax.jit(jax.vmap(jax.grad(sums_of(reduction)), axes))(a, b)
    for i in range(3):
        p, q = (a[i], b) if side == "input" else (a, b[i])
        value, gradient = reference.loss_and_grad(p, q, reduction)
        assert same_bits(values[i], np.asarray(value))
        assert same_bits(gradients[i], gradient)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2,) * 9, (2,) * 9),
        ((2,) * 12, (1,) * 12),
        ((1,) * 20, (3,)),
        ((2, 1) * 6, (1, 2) * 6),  # 12 dimensions that do not merge
        ((1, 2) * 5, (2,) * 10),
        ((2, 1) * 5, ()),
        ((2,) * 8 + (0,), (1,) * 9),
        ((0,) + (1, 2) * 5, (1,) + (2, 1) * 5),
    ],
    ids=str,
)
def test_more_than_8_dimensions(left, right, dtype, reduction):
    x, y = normal(1, left, dtype), normal(2, right, dtype)
    shape = np.broadcast_shapes(left, right)
    wide = [np.broadcast_to(a, shape).reshape(-1) for a in (x, y)]
    value, gradient = reference.loss_and_grad(*wide, reduction)
    value = np.asarray(value).reshape(shape if reduction == "none" else ())
    for wrap in (lambda f: f, jax.jit):
        assert same_bits(wrap(lambda a, b: face.mse_loss(a, b, reduction))(x, y), value)
        both, (gx, gy) = wrap(jax.value_and_grad(sums_of(reduction), (0, 1)))(x, y)
        if reduction != "none":
            assert same_bits(both, value)
        if left == right:
            assert same_bits(gx, gradient.reshape(shape))
        for ours, operand, sign in ((gx, x, 1), (gy, y, -1)):
            assert (ours.shape, ours.dtype) == (operand.shape, operand.dtype)
            exact = sign * gradient.astype(np.float64).reshape(shape)
            axes = tuple(range(len(shape) - operand.ndim))
            exact = exact.sum(axes)
            axes = tuple(i for i, n in enumerate(operand.shape) if n != exact.shape[i])
            exact = exact.sum(axes, keepdims=True)
            step = float(jnp.finfo(dtype).eps)
            scale = np.abs(gradient.astype(np.float64)).sum() + 1
            np.testing.assert_allclose(ours.astype(np.float64), exact, atol=4 * step * scale)


def test_a_tie_in_many_dimensions_is_rounded_exactly():
    # Halfway between two float32: only the exact sum decides, over several blocks.
    x = np.zeros((2, 1) * 6, np.float32)
    y = np.zeros((1, 2) * 6, np.float32)
    x[(0,) * 12] = 1  # 64 differences of 1
    x[(1, 0) * 6] = 2.0**-12
    value, gradient = reference.loss_and_grad(*np.broadcast_arrays(x.reshape(-1), y.reshape(-1, 1)))
    assert same_bits(face.mse_loss(x, y), np.asarray(value))
    assert same_bits(jax.value_and_grad(face.mse_loss)(x, y)[0], np.asarray(value))
    assert gradient.size == 4096


# Types: what jax.numpy gives for the formula

VALUES = {
    "float32": lambda: jnp.float32([1, -2]),
    "float16": lambda: jnp.float16([1, -2]),
    "bfloat16": lambda: jnp.asarray([1, -2], jnp.bfloat16),
    "float64": lambda: np.float64([1, -2]),
    "int32": lambda: jnp.int32([1, -2]),
    "int8": lambda: jnp.int8([1, -2]),
    "bool": lambda: jnp.asarray([True, False]),
    "scalar bfloat16": lambda: jnp.bfloat16(0.5),
    "numpy float32": lambda: np.float32(0.5),
    "python float": lambda: 0.5,
    "python int": lambda: 3,
    "python bool": lambda: True,
    "weak float": lambda: jnp.asarray(0.5),
    "weak int": lambda: jnp.asarray(3),
    "weak vector": lambda: jnp.broadcast_to(jnp.asarray(0.5), 2),
}


def formula(x, y, reduction):
    square = (jnp.asarray(x) - jnp.asarray(y)) ** 2
    return {"none": lambda a: a, "mean": jnp.mean, "sum": jnp.sum}[reduction](square)


def result_of(call):
    try:
        return call(), None
    except Exception as error:
        return None, error


@pytest.mark.parametrize(
    ("x64", "promotion"),
    [(False, "standard"), (True, "standard"), (False, "strict")],
    ids=["x32", "x64", "strict"],
)
@pytest.mark.parametrize(
    ("left", "right"), list(itertools.combinations_with_replacement(VALUES, 2)), ids=str
)
def test_dtypes_and_weak_types_are_those_of_jax(left, right, x64, promotion):
    with jax.enable_x64(x64):
        x, y = VALUES[left](), VALUES[right]()
        with jax.numpy_dtype_promotion(promotion):
            for reduction in ("none", "mean", "sum"):
                ours, error = result_of(lambda r=reduction: face.mse_loss(x, y, r))
                if left.endswith("bool") and right.endswith("bool"):
                    assert jnp.issubdtype(ours.dtype, jnp.floating)  # jax.numpy refuses
                    continue
                theirs, refused = result_of(lambda r=reduction: formula(x, y, r))
                assert type(error) is type(refused), (error, refused)
                if refused is not None:
                    continue
                if jnp.issubdtype(theirs.dtype, jnp.integer):
                    assert ours.dtype == formula(x, y, "mean").dtype
                else:
                    assert (ours.dtype, ours.weak_type) == (theirs.dtype, theirs.weak_type)
                np.testing.assert_allclose(
                    ours.astype(np.float32), theirs.astype(np.float32), rtol=2e-2
                )


@pytest.mark.parametrize("right", [k for k in VALUES if "int" not in k and "bool" not in k])
@pytest.mark.parametrize("left", [k for k in VALUES if "int" not in k and "bool" not in k])
def test_gradients_have_the_types_of_their_operands(left, right, reduction):
    x, y = (jnp.asarray(VALUES[name]()) for name in (left, right))
    ours = jax.grad(lambda a, b: face.mse_loss(a, b, reduction).sum(), (0, 1))(x, y)
    theirs = jax.grad(lambda a, b: formula(a, b, reduction).sum(), (0, 1))(x, y)
    for gradient, expected in zip(ours, theirs, strict=True):
        assert (gradient.shape, gradient.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(
            gradient.astype(np.float32), expected.astype(np.float32), rtol=2e-2, atol=1e-2
        )


@pytest.mark.parametrize("left", [k for k in VALUES if k.startswith(("weak", "python"))])
@pytest.mark.parametrize("right", VALUES)
def test_gradients_have_the_weak_types_of_jax(left, right, reduction):
    x, y = (jnp.asarray(VALUES[name]()) for name in (left, right))
    if not jnp.issubdtype(x.dtype, jnp.floating):
        x, y = y, x
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return
    for wrap in (lambda f: f, jax.jit):
        ours, theirs = (
            wrap(jax.grad(lambda a, b, f=f: f(a, b, reduction).sum()))(x, y)
            for f in (face.mse_loss, formula)
        )
        assert (ours.dtype, ours.weak_type) == (theirs.dtype, theirs.weak_type)
        np.testing.assert_allclose(ours.astype(np.float32), theirs.astype(np.float32), rtol=2e-2)


def test_rank_promotion_settings_are_those_of_jax():
    x, y = jnp.ones((2, 3)), jnp.ones(3)
    with jax.numpy_rank_promotion("raise"):
        for call in (face.mse_loss, jax.jit(face.mse_loss), jax.grad(face.mse_loss)):
            with pytest.raises(ValueError, match="jax_numpy_rank_promotion='raise'"):
                call(x, y)
        assert face.mse_loss(x, 1.0) == face.mse_loss(x, x[:1]) == 0
        assert (jax.grad(face.mse_loss)(x, x[:1]) == 0).all()
    with jax.numpy_rank_promotion("warn"), pytest.warns(UserWarning, match="rank promotion"):
        assert face.mse_loss(x, y) == 0
    assert face.mse_loss(x, y) == 0


# jax.export


def exported(function, *operands):
    from jax import export

    return export.export(jax.jit(function), disabled_checks=face.EXPORT_CHECKS)(*operands)


def test_export_needs_the_checks_that_we_name():
    from jax import export

    x = jnp.ones(3)
    with pytest.raises(ValueError, match="custom calls whose targets have no compatibility"):
        export.export(jax.jit(face.mse_loss))(x, x)
    assert exported(face.mse_loss, x, x).call(x, x + 1) == 1


def test_exported_programs_have_the_same_bits(dtype, reduction):
    x, y = (jnp.asarray(normal(i, (5, 3), dtype)) for i in range(2))
    for function in (
        lambda a, b: face.mse_loss(a, b, reduction),
        jax.value_and_grad(sums_of(reduction), (0, 1)),
        jax.grad(lambda a, b: 3 * sums_of(reduction)(a, b)),
        jax.vmap(jax.grad(sums_of(reduction))),
    ):
        ours = jax.tree.leaves(exported(function, x, y).call(x, y))
        for actual, expected in zip(ours, jax.tree.leaves(function(x, y)), strict=True):
            assert same_bits(actual, expected)
    again = jax.grad(exported(sums_of(reduction), x, y).call)(x, y)
    assert same_bits(again, jax.grad(sums_of(reduction))(x, y))


def test_exported_programs_with_symbolic_shapes(reduction):
    from jax import export

    n, m = export.symbolic_shape("n, m")
    operand = jax.ShapeDtypeStruct((n, m), jnp.float32)
    x, y = (jnp.asarray(normal(i, (5, 3))) for i in range(2))
    for function in (
        lambda a, b: face.mse_loss(a, b, reduction),
        jax.grad(sums_of(reduction)),
        jax.vmap(jax.grad(sums_of(reduction))),
    ):
        program = exported(function, operand, operand)
        assert same_bits(program.call(x, y), function(x, y))


def test_serialized_programs_run_where_mseloss_is_imported(tmp_path):
    pytest.importorskip("flatbuffers")
    from jax import export

    x, y = jnp.arange(6.0, dtype=jnp.float32), jnp.ones(6, jnp.float32)
    path = tmp_path / "program"
    path.write_bytes(exported(face.mse_loss, x, y).serialize(vjp_order=1))
    program = export.deserialize(path.read_bytes())
    assert same_bits(program.call(x, y), face.mse_loss(x, y))
    assert same_bits(jax.grad(program.call)(x, y), jax.grad(face.mse_loss)(x, y))


# Compositions of transformations


def compositions(function, depth, checkpoint):
    """Every composition of `depth` transformations, innermost first; grad at most once."""
    if depth == 0:
        yield (), function
        return
    for names, inner in compositions(function, depth - 1, checkpoint):
        yield (*names, "jit"), jax.jit(inner)
        yield (*names, "vmap"), jax.vmap(inner)
        if checkpoint:
            yield (*names, "checkpoint"), jax.checkpoint(inner)
        if "grad" not in names:
            gradient = jax.grad(lambda a, b, f=inner: f(a, b).sum(), (0, 1))
            yield (*names, "grad"), lambda a, b, g=gradient: jnp.stack(g(a, b))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_compositions_have_the_values_of_the_formula(depth, reduction):
    def ours(a, b):
        return face.mse_loss(a, b, reduction)

    def theirs(a, b):
        return formula(a, b, reduction)

    x, y = normal(1, (2, 3, 2, 2), np.float64), normal(2, (2, 3, 2, 2), np.float64)
    checkpoint = depth < 3  # jit, vmap and grad to depth 3
    pairs = (compositions(f, depth, checkpoint) for f in (ours, theirs))
    count = 0
    for (names, f), (_, g) in zip(*pairs, strict=True):
        actual, expected = f(x, y), g(x, y)
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), names
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13, err_msg=str(names))
        count += 1
    others = 3 if checkpoint else 2
    assert count == others**depth + depth * others ** (depth - 1)
