"""The loss of arrays of equal dtype and rank, differentiable to every order.

The handlers compute the loss and the first derivative; jax.numpy computes all others.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir, partial_eval

from mseloss.jax import formulas
from mseloss.jax.ffi import REDUCTIONS, call
from mseloss.jax.gradient import derivative, differentiable, given
from mseloss.jax.tangent import tangent_of


def _loss(x, y, w, spec):
    shape = spec.loss_shape(formulas.shape_of(x, y, w))
    return call(
        "loss",
        [(shape, x.dtype)],
        *given(x, y, w),
        vmap_method="expand_dims",
        weak=spec.weak,
        reduction=REDUCTIONS[spec.reduction],
    )


def _loss_jvp(spec, arrays, tangents):
    # The cotangent of an elementwise loss is rarely 1. Outside jit, its gradient would be computed in vain.
    eager = not isinstance(arrays[0], partial_eval.DynamicJaxprTracer)
    unused = spec.reduction == "none" and eager
    if unused or (tangents[0] is None and tangents[1] is None):
        value, stored = loss(*arrays, spec), None
    else:
        value, stored = loss_and_grad(*arrays, spec)
    return value, tangent_of(spec, value, stored, arrays, tangents)


def _sweep(*arrays, spec, with_gradient):
    x, y, w = arrays if len(arrays) == 3 else (*arrays, None)
    if not with_gradient:
        return [_loss(x, y, w, spec)]
    shape = formulas.shape_of(x, y, w)
    return call(
        "loss_and_grad",
        [(spec.loss_shape(shape), x.dtype), (shape, x.dtype)],
        *arrays,
        vmap_method="expand_dims",
        weak=spec.weak,
        reduction=REDUCTIONS[spec.reduction],
        rank=spec.rank,
        kept=spec.kept,
    )


# The loss and the gradient in one sweep, or the loss alone. If nothing uses the gradient, jit's dead code
# elimination makes the latter of the former.
_sweep_p = Primitive("mseloss_sweep")
_sweep_p.multiple_results = True
_sweep_p.def_impl(jax.jit(_sweep, static_argnames=("spec", "with_gradient")))
mlir.register_lowering(_sweep_p, mlir.lower_fun(_sweep, multiple_results=True))


@_sweep_p.def_abstract_eval
def _type(*kinds, **parameters):
    return jax.make_jaxpr(functools.partial(_sweep, **parameters))(*kinds).out_avals


def _batched(operands, dimensions, **parameters):
    results = jax.vmap(functools.partial(_sweep, **parameters), dimensions)(*operands)
    return results, [0] * len(results)


def _without_unused(used, equation):
    value, *gradient = equation.outvars
    if not any(used):
        return [False] * len(equation.invars), None
    if gradient and not used[1]:
        parameters = equation.params | {"with_gradient": False}
        equation = equation.replace(outvars=[value], params=parameters)
    return [True] * len(equation.invars), equation


batching.primitive_batchers[_sweep_p] = _batched
partial_eval.dce_rules[_sweep_p] = _without_unused


def _loss_and_grad(x, y, w, spec):
    value, stored = _sweep_p.bind(*given(x, y, w), spec=spec, with_gradient=True)
    return value, stored


def _loss_and_grad_jvp(spec, arrays, tangents):
    value, stored = loss_and_grad(*arrays, spec)
    one = jnp.ones_like(value)
    tangent = derivative(
        lambda x, y, w: formulas.gradient(one, x, y, w, None, spec), arrays, tangents
    )
    return (value, stored), (tangent_of(spec, value, stored, arrays, tangents), tangent)


# loss(x, y, w, spec) and loss_and_grad(x, y, w, spec), whose gradient is that for a cotangent of 1. `w` may
# be None.
loss = differentiable(_loss, _loss_jvp)
loss_and_grad = differentiable(_loss_and_grad, _loss_and_grad_jvp)
