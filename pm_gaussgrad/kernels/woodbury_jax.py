"""The kernels of :mod:`pm_gaussgrad.kernels.woodbury` in ``jax.numpy``."""

import jax.numpy as jnp
from jax.lax.linalg import cholesky
from jax.scipy.linalg import cho_solve, solve_triangular

from pm_gaussgrad.kernels.symmetric_jax import definite_cholesky


def take_out_factors(residual, factor, solved, prior):
    """As its twin."""
    k = factor.shape[1]
    of_factor, rest = solved[:k], solved[k:]
    inner = of_factor @ factor
    identity = prior * jnp.eye(k, dtype=residual.dtype)
    inner = (inner + inner.T) / 2 + identity
    regular = cholesky(inner, symmetrize_input=False)
    chol = jnp.where(prior > 0, regular, definite_cholesky(inner))
    scores = cho_solve((chol, True), (rest @ factor).T).T
    left = (rest - scores @ of_factor) @ factor - prior * scores
    scores = scores + cho_solve((chol, True), left.T).T
    white = solve_triangular(chol, factor.T, lower=True)
    rows = jnp.concatenate([white, residual - scores @ factor.T])
    return rows, jnp.log(jnp.diag(chol)).sum(), scores, prior * (scores * scores).sum(axis=1), chol


def factor_cotangent(alpha, scores, chol, quad_bar, logdet_bar):
    """As its twin."""
    k = chol.shape[0]
    row_weights = jnp.concatenate([jnp.full(k, logdet_bar, alpha.dtype), quad_bar])
    inverse = solve_triangular(chol, jnp.eye(k, dtype=chol.dtype), lower=True)
    weights = jnp.concatenate([inverse, -scores])
    # Rejected rows, which have no weight, may not be finite.
    unused = row_weights[:, None] == 0
    weights = jnp.where(unused, 0, 2 * row_weights[:, None] * weights)
    return jnp.where(unused, 0, alpha).T @ weights, row_weights
