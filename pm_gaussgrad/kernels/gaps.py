"""Missing entries by the precision: the dense algebra of k of them, with k rows of Sigma^-1."""

import numpy as np

from pm_gaussgrad.kernels.lapack import (
    cholesky,
    matrix_product,
    solve_lower,
    solve_lower_transposed,
)
from pm_gaussgrad.kernels.symmetric import copy_rows, log_product


def condition_on_observed(residual, solved, missing):
    """Fill in conditional means, from the rows of the precision at the missing entries.

    Parameters
    ----------
    residual : array, shape (m, n)
        What stands at the missing entries does not matter.
    solved : array, shape (k, n)
        Rows of P = Sigma^-1 at the missing entries.
    missing : array of int, shape (k)
        Their positions; n stands for no entry.

    Returns
    -------
    filled : array, shape (m, n)
        Conditional means in place of the missing entries.
    half_logdet : float
        log|P_mm| / 2; NaN, as all else, where P_mm is not positive definite.
    orthogonal : array, shape (k, n)
        L^-1 E, where P_mm = L L' and E are the unit rows of the missing entries.
    """
    (m, n), k = residual.shape, missing.size
    factor = np.empty((k, k), residual.dtype)
    for i in range(k):
        for j in range(i + 1):
            if missing[i] < n and missing[j] < n:
                factor[i, j] = solved[i, missing[j]]
            else:
                factor[i, j] = 1 if i == j else 0
    if not cholesky(factor):
        factor[:] = np.nan
    inverse = np.zeros((k, k), residual.dtype)
    for i in range(k):
        inverse[i, i] = 1
    solve_lower(factor, inverse)  # row i becomes L^-1 e_i
    filled, orthogonal = copy_rows(residual), np.zeros((k, n), residual.dtype)
    for i in range(k):
        if missing[i] < n:
            for row in range(m):
                filled[row, missing[i]] = 0
            for j in range(k):
                orthogonal[j, missing[i]] = inverse[i, j]
    means = np.empty((m, k), residual.dtype)
    matrix_product(filled, copy_rows(solved).T, means)
    solve_lower(factor, means)
    solve_lower_transposed(factor, means)
    for i in range(k):
        if missing[i] < n:
            for row in range(m):
                filled[row, missing[i]] = -means[row, i]
    return filled, log_product(np.diag(factor)), orthogonal
