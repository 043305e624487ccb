"""The kernels of :mod:`pm_gaussgrad.kernels.kronecker` in ``jax.numpy``; imports jax."""

from functools import partial, reduce

import jax.numpy as jnp
from jax.lax.linalg import eigh
from jax.scipy.linalg import solve_triangular

from pm_gaussgrad.kernels.definite import rounding_level
from pm_gaussgrad.kernels.kronecker import check_product
from pm_gaussgrad.kernels.symmetric_jax import (
    definite_cholesky,
    is_symmetric,
    symmetric_cotangent,
)


def along_axes(operators, sizes, rows):
    """Apply operators on columns along the axes of each row: (m, n) -> (m, n)."""
    m, n = rows.shape
    for operator, size in zip(operators[::-1], sizes[::-1], strict=True):
        columns = rows.reshape(m * (n // size), size).T
        rows = operator(columns).reshape(size, m, n // size).swapaxes(0, 1).reshape(m, n)
    return rows


def unfold(rows, sizes):
    """The rows along each axis in turn, last first: (m, n / n_j, n_j)."""
    m, n = rows.shape
    for size in sizes[::-1]:
        unfolded = rows.reshape(m, n // size, size)
        yield unfolded
        rows = unfolded.swapaxes(1, 2).reshape(m, n)


def forward(residual, factors):
    """quad, logdet, alpha, the whitened rows, the Cholesky factors, whether each is symmetric."""
    sizes, n = [len(factor) for factor in factors], residual.shape[1]
    check_product(factors, n)
    lower = [definite_cholesky(factor) for factor in factors]
    solve = [partial(solve_triangular, x, lower=True) for x in lower]
    solve_transposed = [partial(solve_triangular, x, lower=True, trans=1) for x in lower]
    white = along_axes(solve, sizes, residual)
    alpha = along_axes(solve_transposed, sizes, white)
    logdet = sum(2 * (n // len(x)) * jnp.log(jnp.diag(x)).sum() for x in lower)
    symmetric = [is_symmetric(factor) for factor in factors]
    return (white**2).sum(axis=1), logdet, alpha, white, lower, symmetric


def pullback(white, lower, symmetric, quad_bar, logdet_bar):
    """Cotangents of the factors."""
    n, bars = white.shape[1], []
    for x, rows in zip(lower[::-1], unfold(white, list(map(len, lower))), strict=True):
        core = -jnp.einsum("i,iba,ibc->ac", quad_bar, rows, rows)
        core = core + logdet_bar * (n // len(x)) * jnp.eye(len(x), dtype=core.dtype)
        half = solve_triangular(x, core, lower=True, trans=1)
        bars.append(solve_triangular(x, half.T, lower=True, trans=1))
    return (list(map(symmetric_cotangent, bars[::-1], symmetric)),)


def noisy_forward(residual, factors, noise):
    """As :func:`pm_gaussgrad.kernels.kronecker.noisy_forward`."""
    sizes = [len(factor) for factor in factors]
    check_product(factors, residual.shape[1])
    columns, values = zip(*(eigh(x, symmetrize_input=False) for x in factors), strict=True)
    vectors = [x.T for x in columns]
    signal = reduce(jnp.kron, values)
    spectrum = signal + noise
    largest = jnp.maximum(jnp.abs(signal).max(), spectrum.max())
    level = rounding_level(max(sizes), jnp.finfo(spectrum.dtype).eps)
    spectrum = jnp.where(spectrum > level * largest, spectrum, jnp.nan)
    rows = along_axes([x.__matmul__ for x in vectors], sizes, residual)
    rotated = rows / spectrum
    alpha = along_axes([x.__matmul__ for x in columns], sizes, rotated)
    quad = (rows * rotated).sum(axis=1)
    symmetric = [is_symmetric(factor) for factor in factors]
    return quad, jnp.log(spectrum).sum(), alpha, rotated, vectors, values, symmetric


def term_pullback(rotated, inverse, vectors, values, quad_bar, logdet_bar):
    """As :func:`pm_gaussgrad.kernels.kronecker.term_pullback`, of ``inverse`` (n,)."""
    k, sizes, bars = len(values), list(map(len, values)), []
    unfolded = zip(unfold(rotated, sizes), unfold(inverse[None], sizes), strict=True)
    for j, (rows, inverses) in zip(range(k)[::-1], unfolded, strict=True):
        cyclic = (*values[j + 1 :], *values[:j])
        others = reduce(jnp.kron, cyclic, jnp.ones(1, rotated.dtype))
        core = -jnp.einsum("i,b,iba,ibc->ac", quad_bar, others, rows, rows)
        core += logdet_bar * jnp.diag(others @ inverses[0])
        bars.append(vectors[j].T @ core @ vectors[j])
    return bars[::-1]


def noisy_pullback(noise, rotated, vectors, values, symmetric, quad_bar, logdet_bar):
    """Cotangents of the factors and of the noise."""
    inverse = 1 / (reduce(jnp.kron, values) + noise)
    bars = term_pullback(rotated, inverse, vectors, values, quad_bar, logdet_bar)
    noise_bar = logdet_bar * inverse.sum() - (quad_bar[:, None] * rotated**2).sum()
    return list(map(symmetric_cotangent, bars, symmetric)), noise_bar
