"""Rows that miss different entries of one covariance, in ``jax.numpy``; see ``patterned_rows.py``.

Stacks of factors, one for each pattern, and of columns, one for each row.
"""

import jax
import jax.numpy as jnp


def _selected(entries, n, dtype):
    """E_p' for each pattern, (p, w, n), zero in rows that stand for no entry."""
    return (entries[:, :, None] == jnp.arange(n)).astype(dtype)


def _solve(factors, columns, trans=0):
    return jax.scipy.linalg.solve_triangular(factors, columns, lower=True, trans=trans)


def forward(residual, matrix, entries, pattern):
    """quad (m), logdet (m), alpha (m, n), factors (p, w, w)."""
    selected = _selected(entries, residual.shape[1], residual.dtype)
    filled = (entries < 0)[:, :, None] & jnp.eye(entries.shape[1], dtype=bool)
    blocks = selected @ matrix @ selected.swapaxes(1, 2) + filled
    factors = jax.lax.linalg.cholesky(blocks, symmetrize_input=False)
    own, selects = factors[pattern], selected[pattern]
    white = _solve(own, (selects * residual[:, None, :]).sum(axis=-1, keepdims=True))
    alpha = (selects * _solve(own, white, trans=1)).sum(axis=1)
    logdet = 2 * jnp.log(jnp.diagonal(factors, axis1=-2, axis2=-1)).sum(axis=-1)
    return (white**2).sum(axis=(-2, -1)), logdet[pattern], alpha, jnp.tril(factors)


def pullback(entries, pattern, alpha, factors, quad_bar, logdet_bar):
    """The cotangent of the matrix; rows and patterns without weight have no part in it."""
    numbers, identity = jnp.arange(entries.shape[0]), jnp.eye(entries.shape[1], dtype=alpha.dtype)
    weights = ((pattern == numbers[:, None]) * logdet_bar).sum(axis=1)[:, None, None]
    inverse = _solve(factors, jnp.broadcast_to(identity, factors.shape))
    half = inverse @ _selected(entries, alpha.shape[1], alpha.dtype)
    of_logdet = jnp.where(weights == 0, 0, weights * (half.swapaxes(1, 2) @ half)).sum(axis=0)
    rows = jnp.where(quad_bar[:, None] == 0, 0, alpha)
    return of_logdet - (quad_bar[:, None] * rows).T @ rows
