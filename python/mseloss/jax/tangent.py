"""The primitive that maps the operands' tangents to that of the loss.

It is linear in them. Its transpose, which reverse mode runs, calls the handlers.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from mseloss.jax import formulas
from mseloss.jax.ffi import varying_axes
from mseloss.jax.gradient import derivative, gradient, gradient_shape, reduce_to

_LINEAR = ("tx", "ty", "tw")
# The operands in which the tangent is not linear and that the formula reads. The others follow from these:
# "value" is the loss, and "stored" and "scale" spare the transpose work.
_READ = ("x", "y", "w", "mean", "total")

_tangent = Primitive("mseloss_tangent")


def bind(spec, **operands):
    """The tangent; an operand may be None."""
    given = {name: operand for name, operand in operands.items() if operand is not None}
    return _tangent.bind(*given.values(), names=tuple(given), spec=spec)


def tangent_of(spec, value, stored, arrays, tangents, scale=None, total=None):
    """The tangent of the loss `value`.

    `scale` and `total` are given for means with weights of sharded arrays.
    """
    x, y, w = arrays
    tx, ty, tw = tangents
    if tx is None and ty is None and tw is None:
        return jnp.zeros_like(value)
    mean = None
    if tw is not None and spec.reduction == "mean":
        mean = value
        if value.dtype.itemsize < 4:
            divisor = total
            if divisor is None:
                divisor = formulas.divisor(w, formulas.shape_of(x, y, w), x, spec)
            mean = formulas.mean(x, y, w, divisor, spec)
    residuals = {"value": value, "stored": stored, "x": x, "y": y, "w": w, "mean": mean}
    return bind(spec, **residuals, scale=scale, total=total, tx=tx, ty=ty, tw=tw)


def _formula(*operands, names, spec):
    given = dict(zip(names, operands, strict=True))
    return formulas.tangent(*(given.get(n) for n in (*_READ[:3], *_LINEAR, *_READ[3:])), spec)


_tangent.def_impl(jax.jit(_formula, static_argnames=("names", "spec")))
mlir.register_lowering(_tangent, mlir.lower_fun(_formula, multiple_results=False))


@_tangent.def_abstract_eval
def _type(*kinds, names, spec):
    value = kinds[names.index("value")]
    same = not spec.mesh_axes and all(
        varying_axes(kind) <= varying_axes(value)
        and _batch(name, kind, spec) == _batch("value", value, spec)
        for name, kind in zip(names, kinds, strict=True)
    )
    if same:
        return value.update(weak_type=False)
    formula = functools.partial(_formula, names=names, spec=spec)
    return jax.make_jaxpr(formula)(*kinds).out_avals[0]


def _batch(name, kind, spec):
    """The dimensions that vmap put in front."""
    like_loss = name in ("value", "mean", "total", "scale") and spec.reduction != "none"
    own = 0 if like_loss and spec.axis is None else spec.rank
    return kind.shape[: len(kind.shape) - own]


def _jvp(primals, tangents, *, names, spec):
    given = dict(zip(names, primals, strict=True))
    moved = {
        name: tangent
        for name, tangent in zip(names, tangents, strict=True)
        if not isinstance(tangent, ad.Zero)
    }
    out = _tangent.bind(*primals, names=names, spec=spec)
    parts = []
    if any(name in moved for name in _LINEAR):
        linear = {name: moved.get(name) for name in _LINEAR}
        parts.append(bind(spec, **{**given, **linear}))
    if any(name in moved for name in _READ):
        used = [given.get(name) for name in _READ]
        active = [moved.get(name) for name in _READ]
        linear = [given.get(name) for name in _LINEAR]
        parts.append(
            derivative(
                lambda *read: formulas.tangent(*read[:3], *linear, *read[3:], spec), used, active
            )
        )
    if not parts:
        return out, ad.Zero.from_primal_value(out)
    return out, functools.reduce(jnp.add, parts)


def _transpose(cotangent, *operands, names, spec):
    if isinstance(cotangent, ad.Zero):
        return [None] * len(operands)
    given = dict(zip(names, operands, strict=True))
    kinds = {n: given[n].aval for n in _LINEAR if n in given and ad.is_undefined_primal(given[n])}
    x, y, w, stored, scale = (given.get(name) for name in ("x", "y", "w", "stored", "scale"))
    results = {}
    if "tx" in kinds or "ty" in kinds:
        full = _input_gradient(stored, cotangent, x, y, w, scale, kinds, spec)
        if "tx" in kinds:
            results["tx"] = reduce_to(full, kinds["tx"])
        if "ty" in kinds:
            # Not -full for a mask, whose gradients are +0.
            negated = 0 - full if formulas.is_mask(w) else -full
            results["ty"] = reduce_to(negated, kinds["ty"])
    if "tw" in kinds:
        full = formulas.weight_gradient(
            cotangent, x, y, w, given.get("mean"), given.get("total"), spec
        )
        full = jnp.broadcast_to(full, formulas.shape_of(full, x, y, w))
        results["tw"] = reduce_to(full, kinds["tw"])
    return [results.get(name) for name in names]


def _input_gradient(stored, cotangent, x, y, w, scale, kinds, spec):
    shape = gradient_shape(cotangent, x, y, w, spec)
    elementwise = spec.reduction == "none"
    scalar = _broadcast_scalar(cotangent) if elementwise else cotangent
    if stored is not None and stored.shape == shape and _is_one(scalar):
        return stored
    if elementwise:
        stored = None  # computing from the operands takes as long as scaling it
        if scalar.ndim == 0:
            cotangent = scalar.astype(cotangent.dtype).reshape((1,) * cotangent.ndim)
    reduces = any(kinds[name].shape != shape for name in ("tx", "ty") if name in kinds)
    if x.dtype.itemsize == 2 and reduces:
        # Sum over the broadcast dimensions in float32, and round once to the operand's dtype.
        x, y, cotangent = (a.astype(jnp.float32) for a in (x, y, cotangent))
        stored = None
    return gradient(stored, cotangent, x, y, w, scale, spec)


def _broadcast_scalar(array):
    """The scalar whose broadcast, perhaps converted, `array` is, if jit's trace tells so; else `array`."""
    operand = _operand_of(array, jax.lax.convert_element_type_p)
    scalar = _operand_of(array if operand is None else operand, jax.lax.broadcast_in_dim_p)
    return array if scalar is None or scalar.ndim > 0 else scalar


def _operand_of(array, primitive):
    """The first operand if `array` is the primitive's result, else None."""
    # Not part of JAX's interface: without these attributes the handlers read the broadcast.
    equation = getattr(array, "parent", None)
    if getattr(equation, "primitive", None) is not primitive:
        return None
    return next(iter(getattr(equation, "in_tracers", ())), None)


def _is_one(cotangent):
    """Whether it is 1 everywhere; False if that is not known, or if the host would wait for a device."""
    if isinstance(cotangent, jax.core.Tracer):
        # Under jit, the cotangent is a literal if the loss is the function's result or is added to others.
        literal = getattr(cotangent, "full_lower", lambda: cotangent)()
        return not isinstance(literal, (jax.core.Tracer, jax.Array)) and bool(np.all(literal == 1))
    devices = cotangent.devices() if isinstance(cotangent, jax.Array) else ()
    return all(d.platform == "cpu" for d in devices) and bool((cotangent == 1).all())


def _batched(operands, dimensions, *, names, spec):
    moved = [
        jnp.expand_dims(operand, 0) if dimension is None else jnp.moveaxis(operand, dimension, 0)
        for operand, dimension in zip(operands, dimensions, strict=True)
    ]
    return _tangent.bind(*moved, names=names, spec=spec), 0


ad.primitive_jvps[_tangent] = _jvp
ad.primitive_transposes[_tangent] = _transpose
batching.primitive_batchers[_tangent] = _batched
