"""The kernels of :mod:`.symmetric` and :mod:`.definite` in ``jax.numpy``; imports jax."""

import jax
import jax.numpy as jnp
from jax.lax.linalg import cholesky
from jax.scipy.linalg import solve_triangular

from pm_gaussgrad.kernels.definite import SUSPECT, rounding_level, start_entry


def is_symmetric(matrix):
    """One where a matrix (n, n) is symmetric, zero where it is not."""
    scales = jnp.sqrt(4 * len(matrix) * jnp.finfo(matrix.dtype).eps * jnp.abs(jnp.diag(matrix)))
    close = jnp.abs(matrix - matrix.T) <= scales[:, None] * scales
    return (close | (matrix == matrix.T)).all().astype(matrix.dtype)


def symmetric_cotangent(bar, symmetric):
    """A full cotangent, or where ``symmetric`` is zero that of the lower triangle."""
    lower = jnp.tril(bar) + jnp.triu(bar, 1).T
    return jnp.where(symmetric == 0, lower, bar)


def definite_cholesky(matrices, sizes=None):
    """Lower Cholesky factors of the lower triangles (..., n, n); NaN where there is none.

    ``sizes`` (...) are those of the blocks that are not an identity.
    """
    n = matrices.shape[-1]
    factors = cholesky(matrices, symmetrize_input=False)
    diagonal = jnp.diagonal(matrices, axis1=-2, axis2=-1)
    pivots = jnp.diagonal(factors, axis1=-2, axis2=-1) ** 2
    level = rounding_level(n if sizes is None else sizes, jnp.finfo(matrices.dtype).eps)
    scales = jnp.sqrt(diagonal)

    def quotients():
        start = (scales * start_entry(jnp.arange(n)))[..., None]
        white = solve_triangular(factors, start, lower=True)
        weights = scales[..., None] * solve_triangular(factors, white, lower=True, trans=1)
        quad, norm = (white**2).sum(axis=(-2, -1)), (weights**2).sum(axis=(-2, -1))
        return quad > level * norm

    sound = pivots >= SUSPECT * diagonal
    definite = jax.lax.cond(sound.all(), lambda: sound.all(axis=-1), quotients)
    definite |= sound.all(axis=-1)
    return jnp.where(definite[..., None, None], factors, jnp.nan)
