"""A user's program over JAX arrays, for mypy --strict and pyright; test_types.py also runs it."""

from typing import assert_type

import jax
import jax.numpy as jnp
import mseloss.jax

x, y = jnp.arange(4.0), jnp.ones(4)
assert_type(mseloss.jax.mse_loss(x, y), jax.Array)
assert_type(mseloss.jax.mse_loss(x, y, "sum", weight=x, axis=(0,), keepdims=True), jax.Array)
assert_type(mseloss.grad(1.0, x, y), jax.Array)
assert_type(mseloss.loss(x, y), jax.Array)


def loss(x: jax.Array, y: jax.Array) -> jax.Array:
    return mseloss.jax.mse_loss(x, y)


value, gradient = jax.value_and_grad(loss)(x, y)
