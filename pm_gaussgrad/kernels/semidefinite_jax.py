"""The kernel of :mod:`pm_gaussgrad.kernels.semidefinite` in ``jax.numpy``."""

import jax.numpy as jnp
from jax.lax import stop_gradient

from pm_gaussgrad.kernels.semidefinite import ROUNDING


def semidefinite_root(matrix):
    """As its twin."""
    k, of = matrix.shape[0], jnp.finfo(matrix.dtype)
    root, usable = jnp.zeros((k, k), matrix.dtype), True
    largest = stop_gradient(jnp.abs(jnp.diag(matrix)).max(initial=0))
    floor = of.eps**4 * jnp.where(largest > 0, largest, 1)
    for j in range(k):
        column = matrix[:, j] - root @ root[j]
        pivot, diagonal = column[j], jnp.abs(jnp.diag(matrix))
        slack = stop_gradient(ROUNDING * k * of.eps * diagonal[j])
        singular = pivot <= slack
        small = jnp.abs(column) <= jnp.sqrt(slack * diagonal)
        usable &= (pivot >= -slack) & (~singular | small[j + 1 :].all())
        pivot = jnp.where(singular, floor + (pivot - stop_gradient(pivot)), pivot)
        below = jnp.where(singular, column - stop_gradient(column), column)
        own = jnp.sqrt(jnp.where(usable, pivot, 1))
        column = jnp.where(jnp.arange(k) > j, below / own, 0).at[j].set(own)
        root = root.at[:, j].set(column)
    return jnp.where(usable, root, jnp.nan)
