"""Rows that miss different entries of one covariance: a factor for each pattern of entries."""

import numpy as np

from pm_gaussgrad.kernels.definite import definite_cholesky
from pm_gaussgrad.kernels.lapack import inverse_from_cholesky, matrix_product
from pm_gaussgrad.kernels.repeated_measures import pattern_length
from pm_gaussgrad.kernels.substitution import backward_substitution, forward_substitution
from pm_gaussgrad.kernels.symmetric import log_product

# As many rows of a pattern are solved for side by side as stay in the first-level cache.
_CHUNK = 64


def _factor(matrix, entries, factor):
    """Write the Cholesky factor of a submatrix, bordered by the identity; NaN where it has none."""
    k = entries.size
    for i in range(k, factor.shape[0]):
        factor[i, i] = 1
    lower = np.empty((k, k), matrix.dtype)
    for i in range(k):
        for j in range(i + 1):
            lower[i, j] = matrix[entries[i], entries[j]]
    definite_cholesky(lower)
    diagonal = np.empty(k, matrix.dtype)
    for i in range(k):
        diagonal[i] = lower[i, i]
        for j in range(i + 1):
            factor[i, j] = lower[i, j]
    return 2 * log_product(diagonal)


def _by_pattern(pattern, patterns):
    """The rows in the order of their patterns."""
    start, order = np.zeros(patterns + 1, np.int64), np.empty(pattern.size, np.int64)
    for p in pattern:
        start[p + 1] += 1
    for p in range(patterns):
        start[p + 1] += start[p]
    for row in range(pattern.size):
        order[start[pattern[row]]] = row
        start[pattern[row]] += 1
    return order


def patterned_rows(residual, matrix, entries, pattern):
    """Quadratic forms and log determinants of the submatrices of a covariance.

    Parameters
    ----------
    residual : array, shape (m, n)
        What stands at entries that a row's pattern has not does not matter.
    matrix : array, shape (n, n)
        Symmetric.
    entries : array of int, shape (p, w)
        Of each pattern, increasing, and filled up by -1.
    pattern : array of int, shape (m)
        Of each row.

    Returns
    -------
    quad, logdet : array, shape (m)
        NaN where a submatrix is not positive definite.
    alpha : array, shape (m, n)
        Solutions, zero at the entries that a row has not.
    factors : array, shape (p, w, w)
        Lower Cholesky factors, bordered by the identity.
    """
    (m, n), (patterns, width) = residual.shape, entries.shape
    factors = np.zeros((patterns, width, width), residual.dtype)
    logdets = np.empty(patterns, residual.dtype)
    lengths = np.empty(patterns, np.int64)
    for p in range(patterns):
        lengths[p] = pattern_length(entries[p])
        logdets[p] = _factor(matrix, entries[p, : lengths[p]], factors[p])
    quad, logdet = np.zeros(m, residual.dtype), np.empty(m, residual.dtype)
    alpha, order, start = np.zeros((m, n), residual.dtype), _by_pattern(pattern, patterns), 0
    while start < m:
        p = pattern[order[start]]
        stop = start + 1
        while stop < min(start + _CHUNK, m) and pattern[order[stop]] == p:
            stop += 1
        columns = np.empty((lengths[p], stop - start), residual.dtype)
        for j in range(lengths[p]):
            for s in range(start, stop):
                columns[j, s - start] = residual[order[s], entries[p, j]]
        forward_substitution(factors[p], columns)
        for s in range(start, stop):
            logdet[order[s]] = logdets[p]
            for j in range(lengths[p]):
                quad[order[s]] += columns[j, s - start] ** 2
        backward_substitution(factors[p], columns)
        for j in range(lengths[p]):
            for s in range(start, stop):
                alpha[order[s], entries[p, j]] = columns[j, s - start]
        start = stop
    return quad, logdet, alpha, factors


def patterned_rows_pullback(entries, pattern, alpha, factors, quad_bar, logdet_bar):
    """The cotangent of the matrix, symmetric; rows without weight have no part in it.

    With E_p the columns of the identity at the entries of pattern p and l_p the sum of the
    cotangents of its log determinants,

        sum_p l_p E_p S_p^-1 E_p' - sum_i q_i alpha_i alpha_i'.
    """
    (m, n), patterns = alpha.shape, entries.shape[0]
    matrix_bar, weights = np.zeros((n, n), alpha.dtype), np.zeros(patterns, alpha.dtype)
    rows, weighted = np.zeros((m, n), alpha.dtype), np.zeros((m, n), alpha.dtype)
    for row in range(m):
        weights[pattern[row]] += logdet_bar[row]
        if quad_bar[row] != 0:
            for j in range(n):
                rows[row, j] = alpha[row, j]
                weighted[row, j] = -quad_bar[row] * alpha[row, j]
    if m > 0:
        matrix_product(weighted.T, rows, matrix_bar)
    for p in range(patterns):
        if weights[p] != 0:
            k = pattern_length(entries[p])
            inverse = factors[p, :k, :k].copy()
            inverse_from_cholesky(inverse)
            for i in range(k):
                for j in range(i + 1):
                    matrix_bar[entries[p, i], entries[p, j]] += weights[p] * inverse[i, j]
    for i in range(n):
        for j in range(i):
            matrix_bar[j, i] = matrix_bar[i, j]
    return (matrix_bar,)
