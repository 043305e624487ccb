"""Sigma = B + U U' by solves with B: the dense algebra of k factors; letters as in ``Woodbury``.

The k scores have the prior precision I, or 0 where they are coefficients with a flat prior.

Sources: Woodbury (1950), Inverting modified matrices; Björck (1987), Stability analysis of the
method of seminormal equations for linear least squares problems (the step of refinement).
"""

import numpy as np

from pm_gaussgrad.kernels.definite import definite_cholesky
from pm_gaussgrad.kernels.lapack import (
    cholesky,
    matrix_product,
    solve_lower,
    solve_lower_transposed,
)
from pm_gaussgrad.kernels.low_rank import refined_scores
from pm_gaussgrad.kernels.symmetric import copy_rows, log_product, rows_dot


def take_out_factors(residual, factor, solved, prior):
    """Rows without their factors, from B^-1 U and B^-1 r.

    Parameters
    ----------
    residual : array, shape (m, n)
    factor : array, shape (n, k)
        U.
    solved : array, shape (p, n)
        B^-1 of the k columns of U and of the m residual rows, p = k + m.
    prior : float
        The prior precision of the scores, 1 or 0.

    Returns
    -------
    rows : array, shape (p, n)
        V = L^-1 U' and, below it, e = r - U b.
    half_logdet : float
        log|H| / 2; NaN, as all else, where H = prior I + U'B^-1 U is not positive definite, also
        where without a prior it is singular up to rounding.
    scores : array, shape (m, k)
        b = H^-1 U'B^-1 r.
    norms : array, shape (m,)
        prior b'b.
    chol : array, shape (k, k)
        L, where H = L L'.
    """
    (m, n), k = residual.shape, factor.shape[1]
    columns, solved = copy_rows(factor), copy_rows(solved)
    of_factor, rest = solved[:k], solved[k:]
    chol = np.empty((k, k), residual.dtype)
    matrix_product(of_factor, columns, chol)
    for a in range(k):
        for b in range(a):
            chol[a, b] = (chol[a, b] + chol[b, a]) / 2
            chol[b, a] = 0
        chol[a, a] += prior
    if prior > 0:
        if not cholesky(chol):
            chol[:] = np.nan
    else:
        definite_cholesky(chol)
        for a in range(k):
            chol[a, a + 1 :] = 0
    explained = np.empty((m, n), residual.dtype)
    scores = refined_scores(rest, columns, of_factor, chol, explained, prior)
    rows = np.empty((k + m, n), residual.dtype)
    matrix_product(scores, columns.T, explained)
    for i in range(m):
        for j in range(n):
            rows[k + i, j] = residual[i, j] - explained[i, j]
    solve_lower(chol, columns)
    for j in range(n):
        for a in range(k):
            rows[a, j] = columns[j, a]
    norms = rows_dot(scores, scores)
    for i in range(m):
        norms[i] *= prior
    return rows, log_product(np.diag(chol)), scores, norms, chol


def factor_cotangent(alpha, scores, chol, quad_bar, logdet_bar):
    """The cotangent of U, and what B's pullback weighs its rows by.

    Parameters
    ----------
    alpha : array, shape (p, n)
        B^-1 of the rows that :func:`take_out_factors` returns.
    scores : array, shape (m, k)
    chol : array, shape (k, k)
    quad_bar : array, shape (m,)
    logdet_bar : float

    Returns
    -------
    factor_bar : array, shape (n, k)
        2 l B^-1 U H^-1 - 2 sum_i q_i alpha_i b_i'.
    row_weights : array, shape (p,)
        Cotangents of the quadratic forms of the rows: l for those of V, q for the others.
    """
    (m, k), n = scores.shape, alpha.shape[1]
    solved = copy_rows(alpha)
    weights = np.zeros((k + m, k), alpha.dtype)
    for a in range(k):
        weights[a, a] = 2 * logdet_bar
    inverse = weights[:k]
    solve_lower_transposed(copy_rows(chol), inverse)  # row a becomes 2 l L'^-1 e_a: L^-1
    for i in range(m):
        if quad_bar[i] == 0:  # rejected rows may not be finite
            solved[k + i] = 0
            continue
        for a in range(k):
            weights[k + i, a] = -2 * quad_bar[i] * scores[i, a]
    factor_bar = np.empty((n, k), alpha.dtype)
    matrix_product(solved.T, weights, factor_bar)
    row_weights = np.empty(k + m, alpha.dtype)
    row_weights[:k] = logdet_bar
    row_weights[k:] = quad_bar
    return factor_bar, row_weights
