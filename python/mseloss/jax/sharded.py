"""The loss of sharded arrays inside jax.shard_map, with the same bits as the loss of the whole arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mseloss.jax.ffi import PARTIAL_WORDS, REDUCTIONS, call, vary, varying_axes
from mseloss.jax.loss import gradients, needs_gradients, with_derivative


def _sharded_loss(input, target, reduction, axes):
    value, decided = _finished(
        _gathered(_partial(input, target, exact=False), axes), input.dtype, reduction
    )
    words = jax.lax.cond(
        jnp.all(decided != 0),
        _no_words,
        lambda x, y: _partial(x, y, exact=True),
        input,
        target,
    )
    exact, _ = _finished(_gathered(words, axes), input.dtype, reduction)
    return jnp.where(decided != 0, value, exact)


def _no_words(input, target):
    words = jnp.zeros(PARTIAL_WORDS, jnp.uint32)
    return vary(words, varying_axes(input) | varying_axes(target))


def _partial(input, target, exact):
    return call(
        "partial",
        [((PARTIAL_WORDS,), jnp.uint32)],
        input,
        target,
        vmap_method="sequential",
        exact=exact,
    )


def _gathered(words, axes):
    """The words of all devices, one row each, gathered by an integer sum with one non-zero term per row."""
    devices = jax.lax.axis_size(axes)
    rows = jnp.zeros((devices, PARTIAL_WORDS), jnp.uint32)
    return jax.lax.psum(rows.at[jax.lax.axis_index(axes)].set(words), axes)


def _finished(words, dtype, reduction):
    return call(
        "finish",
        [((), dtype), ((), jnp.uint8)],
        words,
        vmap_method="sequential",
        reduction=REDUCTIONS[reduction],
    )


def _sharded_forward(input, target, reduction, axes):
    needs = needs_gradients(input, target)
    input, target = input.value, target.value
    return _sharded_loss(input, target, reduction, axes), (input, target, needs)


def _sharded_backward(reduction, axes, saved, cotangent):
    input, target, needs = saved
    parts = jax.lax.axis_size(axes)
    return gradients(input, target, None, needs, cotangent, reduction, parts)


# sharded_loss(input, target, reduction, axes): the loss of arrays that are sharded over the mesh axes `axes`.
sharded_loss = with_derivative(_sharded_loss, _sharded_forward, _sharded_backward, options=2)
