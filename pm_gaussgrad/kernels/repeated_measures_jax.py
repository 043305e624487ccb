"""The kernels of ``RepeatedMeasures`` in ``jax.numpy``; letters as in the NumPy ones."""

import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular

from pm_gaussgrad.kernels.symmetric_jax import (
    definite_cholesky,
    is_symmetric,
    symmetric_cotangent,
)


def forward(residual, within, visits, pattern, observations, subject, place):
    """quad, logdet, alpha, the factors of the patterns, whether ``within`` is symmetric."""
    observed = visits >= 0
    pair = jnp.where(observed, visits, 0)
    # Beyond the last visit is NaN, not the last.
    blocks = within.at[pair[:, :, None], pair[:, None, :]].get(mode="fill", fill_value=jnp.nan)
    both = observed[:, :, None] & observed[:, None, :]
    identity = jnp.eye(visits.shape[1], dtype=within.dtype)
    factors = definite_cholesky(jnp.where(both, blocks, identity), observed.sum(axis=1))
    of_subjects = factors[pattern]
    columns = _columns(residual, observations)
    white = solve_triangular(of_subjects, columns, lower=True)
    alpha = solve_triangular(of_subjects, white, lower=True, trans=1)[subject, place].T
    halves = jnp.log(jnp.diagonal(of_subjects, axis1=1, axis2=2)).sum()
    return (white**2).sum(axis=(0, 1)), 2 * halves, alpha, factors, is_symmetric(within)


def pullback(
    within, visits, pattern, observations, alpha, factors, symmetric, quad_bar, logdet_bar
):
    """The cotangent of ``within``, as a tuple of one."""
    width = visits.shape[1]
    identity = jnp.eye(width, dtype=alpha.dtype)
    inverses = cho_solve((factors, True), jnp.broadcast_to(identity, factors.shape))
    columns = _columns(alpha, observations)
    products = (columns * quad_bar) @ columns.swapaxes(1, 2)
    blocks_bar = jnp.zeros_like(factors).at[pattern].add(logdet_bar * inverses[pattern] - products)
    observed = visits >= 0
    both = observed[:, :, None] & observed[:, None, :]
    pair = jnp.where(observed, visits, 0)
    added = jnp.where(both, blocks_bar, 0)
    within_bar = jnp.zeros_like(within).at[pair[:, :, None], pair[:, None, :]].add(added)
    return (symmetric_cotangent(within_bar, symmetric),)


def _columns(rows, observations):
    """(m, n) -> (s, w, m), zero where a subject has fewer visits."""
    return jnp.where(observations >= 0, rows[:, observations], 0).transpose(1, 2, 0)
