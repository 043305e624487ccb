"""Rows split into their mean and what is left; letters as in cov/groups/compound_symmetry.py."""

import numpy as np


def _mean(rows, i):
    """Mean of row i by four partial sums, which do not wait for one another."""
    n = rows.shape[1]
    stop = n - n % 4
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for j in range(0, stop, 4):
        a += rows[i, j]
        b += rows[i, j + 1]
        c += rows[i, j + 2]
        d += rows[i, j + 3]
    for j in range(stop, n):
        a += rows[i, j]
    return ((a + b) + (c + d)) / n


def split_and_solve(residual, within, between):
    """quad, logdet, alpha and the two parts of quad from the two eigenvalues."""
    m, n = residual.shape
    alpha = np.empty((m, n), residual.dtype)
    quad_within = np.zeros(m, residual.dtype)
    quad_between = np.empty(m, residual.dtype)
    if n == 0:
        quad_between[:] = 0
        return quad_within + quad_between, 0.0, alpha, quad_within, quad_between
    logdet = np.log(between)
    if n > 1:
        logdet += (n - 1) * np.log(within)
    for i in range(m):
        mean = _mean(residual, i)
        shared = mean / between
        quad_between[i] = n * mean * shared
        if n == 1:
            alpha[i, 0] = shared
            continue
        for j in range(n):
            alpha[i, j] = residual[i, j] - mean
        rest = _mean(alpha, i)  # the rounding error of the mean, which 1 / within would magnify
        total = 0.0
        for j in range(n):
            centered = alpha[i, j] - rest
            solved = centered / within
            total += centered * solved
            alpha[i, j] = solved + shared
        quad_within[i] = total
    return quad_within + quad_between, logdet, alpha, quad_within, quad_between


def eigenvalue_weights(alpha, quad_within, quad_between, quad_bar, logdet_bar):
    """Cotangents of the logarithms of the two eigenvalues."""
    through_within, through_between = 0.0, 0.0
    for i in range(quad_bar.size):
        through_within += quad_bar[i] * quad_within[i]
        through_between += quad_bar[i] * quad_between[i]
    n = alpha.shape[1]
    if n == 0:
        return 0.0, 0.0
    return logdet_bar * (n - 1) - through_within, logdet_bar - through_between


def split_and_solve_jax(residual, within, between):
    """The same in ``jax.numpy``."""
    import jax.numpy as jnp

    n = residual.shape[1]
    if n == 0:
        nothing = jnp.zeros(residual.shape[0], residual.dtype)
        return nothing, 0 * between, residual, nothing, nothing
    mean = residual.mean(axis=1, keepdims=True)
    quad_between = n * mean[:, 0] * (mean[:, 0] / between)
    alpha, logdet = jnp.broadcast_to(mean / between, residual.shape), jnp.log(between)
    if n == 1:
        return quad_between, logdet, alpha, jnp.zeros_like(quad_between), quad_between
    centered = residual - mean
    centered = centered - centered.mean(axis=1, keepdims=True)
    solved = centered / within
    quad_within = (centered * solved).sum(axis=1)
    logdet = logdet + (n - 1) * jnp.log(within)
    return quad_within + quad_between, logdet, alpha + solved, quad_within, quad_between
