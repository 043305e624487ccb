"""The kernels of :mod:`pm_gaussgrad.kernels.kronecker_pair` in ``jax.numpy``; imports jax."""

from functools import reduce

import jax.numpy as jnp
from jax.lax.linalg import eigh
from jax.scipy.linalg import solve_triangular

from pm_gaussgrad.kernels.definite import rounding_level
from pm_gaussgrad.kernels.kronecker import check_product
from pm_gaussgrad.kernels.kronecker_jax import along_axes, term_pullback
from pm_gaussgrad.kernels.kronecker_pair import ROUNDINGS
from pm_gaussgrad.kernels.symmetric_jax import (
    definite_cholesky,
    is_symmetric,
    symmetric_cotangent,
)


def diagonal_scale(matrix):
    """As :func:`pm_gaussgrad.kernels.kronecker_pair.diagonal_scale`."""
    diagonal = jnp.diag(matrix)
    logs = jnp.where(diagonal > 0, jnp.log2(jnp.where(diagonal > 0, diagonal, 1)), 0)
    return jnp.exp2(jnp.rint(logs.sum() / jnp.maximum((diagonal > 0).sum(), 1)))


def diagonalise(matrix, other):
    """T', log|T|, and mu and nu, both as they are and as the most that they may be."""
    n, scale, other_scale = len(matrix), diagonal_scale(matrix), diagonal_scale(other)
    scaled = (jnp.tril(matrix) + jnp.tril(matrix, -1).T) / scale
    base = scaled + (jnp.tril(other) + jnp.tril(other, -1).T) / other_scale
    lower = definite_cholesky(base)
    half = solve_triangular(lower, scaled, lower=True)
    vectors, values = eigh(solve_triangular(lower, half.T, lower=True), symmetrize_input=False)
    vectors = solve_triangular(lower, vectors, lower=True, trans=1).T
    level = ROUNDINGS * rounding_level(n, jnp.finfo(matrix.dtype).eps)
    rounding = level * (vectors**2 * jnp.diag(base)).sum(axis=1)
    values, other_values = scale * values, other_scale * (1 - values)
    upper = values + scale * rounding, other_values + other_scale * rounding
    return vectors, -jnp.log(jnp.diag(lower)).sum(), (values, other_values), upper


def pair_spectrum(pairs):
    """Eigenvalues of the sum, of (mu, nu) of each pair."""
    return sum(reduce(jnp.kron, values) for values in zip(*pairs, strict=True))


def forward(residual, factors, others):
    """As :func:`pm_gaussgrad.kernels.kronecker_pair.forward`."""
    sizes, n = [len(factor) for factor in factors], residual.shape[1]
    check_product(factors, n)
    found = [diagonalise(*pair) for pair in zip(factors, others, strict=True)]
    vectors, log_scales, pairs, upper = zip(*found, strict=True)
    spectrum = pair_spectrum(pairs)
    spectrum = jnp.where(2 * spectrum > pair_spectrum(upper), spectrum, jnp.nan)
    rows = along_axes([x.__matmul__ for x in vectors], sizes, residual)
    rotated = rows / spectrum
    alpha = along_axes([x.T.__matmul__ for x in vectors], sizes, rotated)
    logdet = jnp.log(spectrum).sum()
    for size, log_scale in zip(sizes, log_scales, strict=True):
        logdet -= 2 * (n // size) * log_scale
    quad, flags = (rows * rotated).sum(axis=1), [map(is_symmetric, x) for x in (factors, others)]
    values, other_values = zip(*pairs, strict=True)
    return quad, logdet, alpha, rotated, vectors, values, other_values, *map(list, flags)


def pullback(
    rotated, vectors, values, other_values, symmetric, other_symmetric, quad_bar, logdet_bar
):
    """Cotangents of the factors of both products."""
    inverse = 1 / pair_spectrum(zip(values, other_values, strict=True))
    given = rotated, inverse, vectors
    bars = [term_pullback(*given, x, quad_bar, logdet_bar) for x in (values, other_values)]
    both = zip(bars, (symmetric, other_symmetric), strict=True)
    return tuple(list(map(symmetric_cotangent, *x)) for x in both)
