"""The algorithms of :mod:`pm_gaussgrad.kernels.toeplitz` in JAX; importing it imports jax.

The recursions work on vectors of the full length, with zeros where an order has no elements, so
that shapes do not change.
"""

import jax
import jax.numpy as jnp

from pm_gaussgrad.kernels.fft import power_of_two


def _schur(column, visit, carry):
    """Scan over the orders j: ``visit(carry, j, reflection, variance, behind) -> carry, output``.

    ``behind`` is column j of the lower Cholesky factor times the square root of the variance.
    """
    index = jnp.arange(column.size)

    def step(state, j):
        ahead, behind, variance, carry = state
        reflection = -ahead[j] / variance
        behind = jnp.roll(behind, 1)
        ahead, behind = ahead + reflection * behind, behind + reflection * ahead
        ahead, behind = jnp.where(index > j, ahead, 0), jnp.where(index >= j, behind, 0)
        variance = variance * (1 - reflection) * (1 + reflection)
        carry, output = visit(carry, j, reflection, variance, behind)
        return (ahead, behind, variance, carry), output

    start = (column.at[0].set(0), jnp.roll(column, -1), column[0], carry)
    (_, _, _, carry), outputs = jax.lax.scan(step, start, index)
    return carry, outputs


def durbin(column):
    """The predictor (n,) of the last order and the innovation variances (n,) of all orders."""

    def visit(predictors, j, reflection, variance, behind):
        forward, backward = predictors
        backward = jnp.roll(backward, 1)
        return (forward + reflection * backward, backward + reflection * forward), variance

    unit = jnp.zeros_like(column).at[0].set(1)
    (predictor, _), variances = _schur(column, visit, (unit, jnp.roll(unit, -1)))
    level = (1 + column.size / 2) * jnp.finfo(column.dtype).eps * column[0]
    definite = (variances > level).all() & (variances[-1] > level * (predictor**2).sum())
    definite |= (column.size == 1) & (column[0] > 0)
    return predictor, jnp.where(definite, variances, jnp.nan)


def inverse_times(predictor, variance, rows):
    """Sigma^-1 r for each row r of ``rows`` (m, n)."""
    n = predictor.size
    size = power_of_two(2 * n)
    reversed_ = jnp.roll(predictor[::-1], 1).at[0].set(0)
    generator = jnp.fft.fft(predictor + 1j * reversed_, size)
    mirrored = jnp.roll(generator[::-1], 1)
    weights = jnp.fft.ifft(jnp.fft.fft(rows, size) * mirrored)[:, :n]
    solved = jnp.fft.ifft(jnp.fft.fft(weights, size) * generator)[:, :n].real / variance
    return solved.astype(rows.dtype)


def diagonal_sums(predictor, variance, scale, rows, weights):
    """Sums along both diagonals of ``scale * Sigma^-1 + sum_i weights_i rows_i rows_i'``, (n,)."""
    n = predictor.size
    size = power_of_two(2 * n)
    weighted = (n - 2 * jnp.arange(n)) * predictor
    crossed = jnp.fft.rfft(predictor, size) * jnp.conj(jnp.fft.rfft(weighted, size))
    powers = jnp.abs(jnp.fft.rfft(rows, size)) ** 2
    spectrum = scale / variance * crossed.real + (weights[:, None] * powers).sum(axis=0)
    sums = 2 * jnp.fft.irfft(spectrum, size)[:n]
    return sums.at[0].mul(0.5).astype(rows.dtype)


def lower_times(column, rows):
    """L z for each row z of ``rows`` (m, n)."""

    def visit(product, j, reflection, variance, behind):
        weight = rows[:, j] / jnp.sqrt(variance)
        return product + weight[:, None] * behind, None

    product, _ = _schur(column, visit, jnp.zeros_like(rows))
    return product


def lower_solve(column, rows):
    """L^-1 r for each row r of ``rows`` (m, n)."""

    def visit(remaining, j, reflection, variance, behind):
        solved = remaining[:, j] / jnp.sqrt(variance)
        return remaining - (solved / jnp.sqrt(variance))[:, None] * behind, solved

    _, solved = _schur(column, visit, rows)
    return solved.T


def circulant_eigenvalues(column):
    """Eigenvalues of a circulant matrix whose order is a power of two, with corner Sigma."""
    n = column.size
    between = jnp.full(power_of_two(2 * n) - 2 * n + 1, column[-1], column.dtype)
    return jnp.fft.fft(jnp.concatenate([column, between, column[:0:-1]])).real


def circulant_times(column, rows):
    """S z for each row z of ``rows`` (m, 4n), S S' = Sigma."""
    n = column.size
    eigenvalues = circulant_eigenvalues(column)
    size = eigenvalues.size
    roots = jnp.sqrt(jnp.maximum(eigenvalues, 0) / size)

    def embedded(rows):
        row = jnp.fft.fft(rows[:, :size] * roots)[:, :n]
        return (row.real - row.imag).astype(rows.dtype)

    rounding = 64 * jnp.finfo(column.dtype).eps
    return jax.lax.cond(
        eigenvalues.min() >= -rounding * eigenvalues.max(),
        embedded,
        lambda rows: lower_times(column, rows[:, :n]),
        rows,
    )


def toeplitz_times(column, rows):
    """Sigma r for each row r of ``rows`` (m, n): the corner of a circulant product."""
    eigenvalues = circulant_eigenvalues(column)
    spectrum = jnp.fft.fft(rows, eigenvalues.size) * eigenvalues
    return jnp.fft.ifft(spectrum)[:, : column.size].real.astype(rows.dtype)
