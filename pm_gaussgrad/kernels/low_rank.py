"""Low rank plus diagonal, Sigma = U U' + D, by a k x k matrix; letters as in ``LowRank``.

Sources: Woodbury (1950), Inverting modified matrices; Björck (1987), Stability analysis of the
method of seminormal equations for linear least squares problems; Potter, in Battin (1964),
Astronautical Guidance, section 9.6 (the update of a square root of a covariance).
"""

import numpy as np

from pm_gaussgrad.kernels.lapack import (
    cholesky,
    gram,
    matrix_product,
    solve_lower,
    solve_lower_transposed,
)
from pm_gaussgrad.kernels.symmetric import copy_rows, log_product, rows_dot


def _standardised(residual, factor, variance):
    """w and W: residual rows and factor in units of the standard deviations of D."""
    (m, n), k = residual.shape, factor.shape[1]
    white = np.empty((m, n), residual.dtype)
    white_factor = np.empty((n, k), residual.dtype)
    for j in range(n):
        sigma = np.sqrt(variance[j])
        for a in range(k):
            white_factor[j, a] = factor[j, a] / sigma
        for i in range(m):
            white[i, j] = residual[i, j] / sigma
    return white, white_factor


def refined_scores(rest, columns, explaining, chol, memory, prior):
    """Scores (m, k) by the equations L L' = ``prior`` I + ``explaining @ columns``, refined once.

    What they explain, ``scores @ explaining``, is taken from the rows ``rest`` (m, n) in place;
    ``memory`` is of their shape.
    """
    m, k = rest.shape[0], columns.shape[1]
    scores, step = np.zeros((m, k), rest.dtype), np.empty((m, k), rest.dtype)
    for _ in range(2):
        matrix_product(rest, columns, step)
        if prior != 0:
            step -= prior * scores
        solve_lower(chol, step)
        solve_lower_transposed(chol, step)
        scores += step
        matrix_product(step, explaining, memory)
        rest -= memory
    return scores


def low_rank_forward(residual, factor, variance):
    """quad, logdet, alpha and W, L, c of residual rows (m, n)."""
    (m, n), k = residual.shape, factor.shape[1]
    white, white_factor = _standardised(residual, factor, variance)
    chol = np.empty((k, k), residual.dtype)
    gram(white_factor, chol)
    for a in range(k):
        chol[a, a] += 1
        chol[a, a + 1 :] = 0
    if not cholesky(chol):
        chol[:] = np.nan
    alpha = np.empty((m, n), residual.dtype)
    scores = refined_scores(white, white_factor, white_factor.T, chol, alpha, 1)
    quad = rows_dot(white, white) + rows_dot(scores, scores)
    logdet = log_product(variance) + 2 * log_product(np.diag(chol))
    for j in range(n):
        sigma = np.sqrt(variance[j])
        for i in range(m):
            alpha[i, j] = white[i, j] / sigma
    return quad, logdet, alpha, white_factor, chol, scores


def low_rank_pullback(variance, alpha, white_factor, chol, scores, quad_bar, logdet_bar):
    """Cotangents of the factor (n, k) and of the variances (n,)."""
    (m, n), k = alpha.shape, scores.shape[1]
    inverse = np.zeros((k, k), alpha.dtype)
    for a in range(k):
        inverse[a, a] = 1
    solve_lower(np.ascontiguousarray(chol), inverse)  # L'^-1: each row r becomes L^-1 r
    white = np.empty((n, k), alpha.dtype)
    matrix_product(np.ascontiguousarray(white_factor), inverse, white)
    variance_bar = np.empty(n, alpha.dtype)
    for j in range(n):
        unexplained = 1.0
        for a in range(k):
            unexplained -= white[j, a] ** 2
        variance_bar[j] = logdet_bar * unexplained / variance[j]
        for i in range(m):
            variance_bar[j] -= quad_bar[i] * alpha[i, j] ** 2
    solved = np.empty((n, k), alpha.dtype)
    matrix_product(white, inverse.T, solved)
    weighted = copy_rows(scores)
    for i in range(m):
        for a in range(k):
            weighted[i, a] *= -2 * quad_bar[i]
    matrix_product(np.ascontiguousarray(alpha).T, weighted, white)
    for j in range(n):
        scale = 2 * logdet_bar / np.sqrt(variance[j])
        for a in range(k):
            solved[j, a] = scale * solved[j, a] + white[j, a]
    return solved, variance_bar


def sequential_scores(residual, factor, variance):
    """Standardised innovations of rows (m, n), and the logs of their scales, for each row.

    Given the first observations the factors are N(b, S S'). The next, u'c + noise, has mean u'b
    and variance s^2 = v + |f|^2, f = S'u; with its innovation e,

        b += S f e / s^2,    S -= S f f' / (s^2 + s sqrt(v)).
    """
    (m, n), k = residual.shape, factor.shape[1]
    standardised, log_scales = np.empty((m, n), residual.dtype), np.empty((m, n), residual.dtype)
    root, means = np.zeros((k, k)), np.zeros((m, k))
    for a in range(k):
        root[a, a] = 1
    projected, gain = np.empty(k), np.empty(k)
    for j in range(n):
        projected[:] = 0
        for a in range(k):
            for b in range(k):
                projected[b] += root[a, b] * factor[j, a]
        squared = variance[j]
        for a in range(k):
            squared += projected[a] ** 2
        scale = np.sqrt(squared)
        shrinkage = 1 / (squared + scale * np.sqrt(variance[j]))
        for a in range(k):
            total = 0.0
            for b in range(k):
                total += root[a, b] * projected[b]
            gain[a] = total
            for b in range(k):
                root[a, b] -= total * shrinkage * projected[b]
        for i in range(m):
            innovation = residual[i, j]
            for a in range(k):
                innovation -= factor[j, a] * means[i, a]
            for a in range(k):
                means[i, a] += gain[a] * (innovation / squared)
            standardised[i, j] = innovation / scale
            log_scales[i, j] = np.log(scale)
    return standardised, log_scales


def constant_vector(value, like):
    """A vector with as many entries as the array has rows, all the same."""
    vector = np.empty(like.shape[0], like.dtype)
    vector[:] = value
    return vector
