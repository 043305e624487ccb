"""Independent subjects at some of T visits; letters as in ``RepeatedMeasures``."""

import numpy as np

from pm_gaussgrad.kernels.definite import definite_cholesky
from pm_gaussgrad.kernels.lapack import inverse_from_cholesky
from pm_gaussgrad.kernels.substitution import backward_substitution, forward_substitution
from pm_gaussgrad.kernels.symmetric import fold_to_lower, is_symmetric, log_product

# As many subjects of a pattern are solved for side by side as stay in the first-level cache.
_CHUNK = 64


def _stop(pattern, start):
    """The end of a run of subjects, at most a chunk, who have the pattern of the first."""
    stop = start + 1
    while stop < min(start + _CHUNK, pattern.size) and pattern[stop] == pattern[start]:
        stop += 1
    return stop


def pattern_length(visits):
    """Number of visits of a pattern, whose row is filled up by -1."""
    k = 0
    while k < visits.size and visits[k] >= 0:
        k += 1
    return k


def _factor(within, visits):
    """Cholesky factor of ``within`` at the visits of a pattern; NaN where there is none."""
    k = visits.size
    if k and visits[k - 1] >= within.shape[0]:
        raise ValueError(
            "gg.cov.RepeatedMeasures: a visit lies beyond the last row of `within`; visits count "
            "from 0 to T - 1"
        )
    factor = np.empty((k, k), within.dtype)
    for i in range(k):
        for j in range(i + 1):
            factor[i, j] = within[visits[i], visits[j]]
    definite_cholesky(factor)
    return factor


def forward(residual, within, visits, pattern, observations):
    """quad, logdet, alpha, the factor of each pattern, whether ``within`` is symmetric."""
    m, (n_patterns, width) = residual.shape[0], visits.shape
    alpha = np.empty(residual.shape, residual.dtype)
    factors = np.empty((n_patterns, width, width), residual.dtype)
    halves, pivots = np.empty(n_patterns), np.empty(width, residual.dtype)
    for p in range(n_patterns):
        k = pattern_length(visits[p])
        factor = _factor(within, visits[p, :k])
        for i in range(k):
            pivots[i] = factor[i, i]
            for j in range(i + 1):
                factors[p, i, j] = factor[i, j]
        halves[p] = log_product(pivots[:k])
    quad, logdet, start = np.zeros(m, residual.dtype), 0.0, 0
    while start < pattern.size:
        stop, p = _stop(pattern, start), pattern[start]
        k, subjects = pattern_length(visits[p]), stop - start
        columns = np.empty((k, subjects), residual.dtype)
        for row in range(m):
            for j in range(k):
                for s in range(subjects):
                    columns[j, s] = residual[row, observations[start + s, j]]
            forward_substitution(factors[p], columns)
            for j in range(k):
                for s in range(subjects):
                    quad[row] += columns[j, s] ** 2
            backward_substitution(factors[p], columns)
            for j in range(k):
                for s in range(subjects):
                    alpha[row, observations[start + s, j]] = columns[j, s]
        logdet += 2 * subjects * halves[p]
        start = stop
    return quad, logdet, alpha, factors, is_symmetric(within)


def _add_block(within_bar, visits, lower, weight):
    """Add a multiple of the symmetric matrix of a lower triangle at the visits of a pattern."""
    for i in range(lower.shape[0]):
        for j in range(i + 1):
            entry = weight * lower[i, j]
            within_bar[visits[i], visits[j]] += entry
            if i != j:
                within_bar[visits[j], visits[i]] += entry


def pullback(
    within, visits, pattern, observations, alpha, factors, symmetric, quad_bar, logdet_bar
):
    """The cotangent of ``within``, and none of the index data."""
    within_bar = np.zeros(within.shape, alpha.dtype)
    counts, start = np.zeros(visits.shape[0], np.int64), 0
    part = np.empty(visits.shape[1], alpha.dtype)
    while start < pattern.size:
        stop, p = _stop(pattern, start), pattern[start]
        counts[p] += stop - start
        k = pattern_length(visits[p])
        block_bar = np.zeros((k, k), alpha.dtype)
        for row in range(alpha.shape[0]):
            for s in range(start, stop):
                for j in range(k):
                    part[j] = alpha[row, observations[s, j]]
                for i in range(k):
                    weighted = quad_bar[row] * part[i]
                    for j in range(i + 1):
                        block_bar[i, j] -= weighted * part[j]
        _add_block(within_bar, visits[p], block_bar, 1.0)
        start = stop
    if logdet_bar != 0:
        for p in range(counts.size):
            k = pattern_length(visits[p])
            inverse = np.empty((k, k), alpha.dtype)
            for i in range(k):
                for j in range(i + 1):
                    inverse[i, j] = factors[p, i, j]
            inverse_from_cholesky(inverse)
            _add_block(within_bar, visits[p], inverse, logdet_bar * counts[p])
    if symmetric == 0:
        fold_to_lower(within_bar)
    return (within_bar,)
