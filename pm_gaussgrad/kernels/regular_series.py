"""Autoregressions of order one at equal steps, without noise: one series, or one after the other.

Letters and formulas as in :mod:`pm_gaussgrad.cov.series.ar1`.
"""

import numpy as np


def log_shrinkage(correlation):
    """log(1 - rho^2); NaN from |rho| = 1."""
    gap = 1 - abs(correlation)
    if not gap > 0:
        return np.nan
    if gap > 0.5:
        return np.log1p(-(correlation**2))
    return np.log(gap * (1 + abs(correlation)))


def solve_series(row, start, stop, solved, variance, correlation):
    """Sigma^-1 r of one series, from start to stop; quad, and its slope in the correlation."""
    sign = -1 if correlation < 0 else 1
    gap = 1 - abs(correlation)
    shrinkage = gap * (1 + abs(correlation))
    precision = 1 / (variance * shrinkage)
    squares, products, innovation = 0.0, 0.0, 0.0
    for t in range(start + 1, stop):
        before, now = row[t - 1], row[t]
        change, previous = now - sign * before, innovation
        innovation = change + sign * gap * before
        backward = sign * (gap * now - change)
        solved[t - 1] = precision * (
            backward if t == start + 1 else previous - correlation * innovation
        )
        squares += innovation * innovation
        products += innovation * backward
    if start == stop:
        return 0.0, 0.0
    first = row[start]
    quad = first * first / variance
    if stop == start + 1:
        solved[start] = first / variance
        return quad, 0.0
    solved[stop - 1] = innovation * precision
    return quad + squares * precision, -2 * products * precision / shrinkage


def log_determinant(n, variance, correlation):
    """log|Sigma| of a series of n; NaN where Sigma is no covariance."""
    logdet = n * np.log(variance) if variance > 0 else np.nan
    return logdet + (n - 1) * log_shrinkage(correlation) if n > 1 else logdet


def log_determinant_slope(n, correlation):
    """d log|Sigma| / d rho."""
    return -2 * (n - 1) * correlation / ((1 - correlation) * (1 + correlation)) if n > 1 else 0.0


def _own(values, g):
    return values[g if values.size > 1 else 0]


def forward(residual, variance, correlation, ends):
    """quad, logdet, alpha, and of each series quad and its slope: (m, g)."""
    if not (variance.size in (1, ends.size) and correlation.size in (1, ends.size)):
        raise ValueError(
            "gg.cov.AR1: the parameters have other lengths than 1 and the number of groups"
        )
    (m, n), many = residual.shape, ends.size
    quad, alpha = np.zeros(m, residual.dtype), np.empty((m, n), residual.dtype)
    norm, slope = np.zeros((m, many), residual.dtype), np.zeros((m, many), residual.dtype)
    logdet, start = 0.0, 0
    for g in range(many):
        v, rho, stop = _own(variance, g), _own(correlation, g), ends[g]
        logdet += log_determinant(stop - start, v, rho)
        for i in range(m):
            norm[i, g], slope[i, g] = solve_series(residual[i], start, stop, alpha[i], v, rho)
            quad[i] += norm[i, g]
        start = stop
    return quad, logdet, alpha, norm, slope


def pullback(variance, correlation, ends, norm, slope, quad_bar, logdet_bar):
    """Cotangents of variance and correlation."""
    variance_bar = np.zeros(variance.size, variance.dtype)
    correlation_bar = np.zeros(correlation.size, correlation.dtype)
    start = 0
    for g in range(ends.size):
        v, rho, n = _own(variance, g), _own(correlation, g), ends[g] - start
        through_norm, of_correlation = n * logdet_bar, log_determinant_slope(n, rho) * logdet_bar
        for i in range(quad_bar.size):
            through_norm -= quad_bar[i] * norm[i, g]
            of_correlation += quad_bar[i] * slope[i, g]
        variance_bar[g if variance.size > 1 else 0] += through_norm / v
        correlation_bar[g if correlation.size > 1 else 0] += of_correlation
        start = ends[g]
    return variance_bar, correlation_bar
