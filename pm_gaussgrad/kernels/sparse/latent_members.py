"""Sparse latents with noise: square root, marginal and leave-one-out variances.

Letters and derivations as in :mod:`pm_gaussgrad.kernels.sparse.latents`. Each factors anew.
"""

import numpy as np

from pm_gaussgrad.kernels.sparse.arrangement import SYSTEM
from pm_gaussgrad.kernels.sparse.factorise import factorise
from pm_gaussgrad.kernels.sparse.latents import (
    explained_variances,
    in_units,
    prior_system,
    rows_of_inverse,
    system,
    times,
    transposed_times,
)
from pm_gaussgrad.kernels.sparse.layout import NODES, ORDER, section
from pm_gaussgrad.kernels.sparse.relative import relative_factors, relative_loadings
from pm_gaussgrad.kernels.sparse.selected_inverse import selected_inverse
from pm_gaussgrad.kernels.sparse.solve import solve, solve_root_transposed
from pm_gaussgrad.kernels.sparse.substitution import (
    in_order,
    out_of_order,
    substitute_backward,
    substitute_forward,
)


def _relative(covariances, loadings, entries, index):
    factors, pivots = relative_factors(np.asarray(covariances, np.float64), index)
    return relative_loadings(np.asarray(loadings, np.float64), factors, pivots, entries, index)


def _factors(relative, values, variance, entries, index):
    """L of H and K of P, in one order."""
    analysis = section(index, SYSTEM)
    whole = factorise(system(relative, values, variance, entries, index), analysis)
    return whole, factorise(prior_system(values, index), analysis)


def color(rows, covariances, values, variance, loadings, entries, index):
    """S z of each row z: (m, n) -> (m, n)."""
    return _by_root(rows, covariances, values, variance, loadings, entries, index, False)


def whiten(rows, covariances, values, variance, loadings, entries, index):
    """S^-1 r of each row r: (m, n) -> (m, n)."""
    return _by_root(rows, covariances, values, variance, loadings, entries, index, True)


def _by_root(rows, covariances, values, variance, loadings, entries, index, inverse):
    noise, analysis = np.asarray(variance, np.float64), section(index, SYSTEM)
    relative = _relative(covariances, loadings, entries, index)
    whole, prior = _factors(relative, np.asarray(values, np.float64), noise, entries, index)
    scale, white = np.sqrt(noise), np.empty(rows.shape)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            white[i, j] = rows[i, j] / scale[j] if inverse else rows[i, j]
    score = transposed_times(white, in_units(relative, scale, entries), entries, analysis[NODES])
    score = in_order(score, section(analysis, ORDER))
    if inverse:
        substitute_forward(whole, analysis, score)
        substitute_backward(whole + prior, analysis, score)
    else:
        substitute_forward(whole + prior, analysis, score)
        substitute_backward(prior, analysis, score)
    latent = out_of_order(score, section(analysis, ORDER))
    common = times(latent, relative, entries, noise.size)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            if inverse:
                white[i, j] -= common[i, j] / scale[j]
            else:
                white[i, j] = scale[j] * white[i, j] + common[i, j]
    return (np.asarray(white, rows.dtype),)


def signal(rows, covariances, values, loadings, entries, extent, index):
    """A x with x of the covariance M for each row of white noise: (m, p) -> (m, n)."""
    relative, analysis = _relative(covariances, loadings, entries, index), section(index, SYSTEM)
    prior = factorise(prior_system(np.asarray(values, np.float64), index), analysis)
    latent = solve_root_transposed(prior, analysis, np.asarray(rows, np.float64))
    return (times(latent, relative, entries, extent.shape[0]).astype(rows.dtype),)


def signal_variances(rows, covariances, values, loadings, entries, extent, index):
    """diag(A M A') in each row: (m, n) -> (m, n)."""
    relative, analysis = _relative(covariances, loadings, entries, index), section(index, SYSTEM)
    prior = factorise(prior_system(np.asarray(values, np.float64), index), analysis)
    half = rows_of_inverse(relative, selected_inverse(prior, analysis), entries, index)
    return (_in_each(rows, explained_variances(relative, half, entries, extent.shape[0])),)


def inverse_diagonal(rows, covariances, values, variance, loadings, entries, index):
    """diag(Sigma^-1) in each row: (m, n) -> (m, n)."""
    noise, relative = (
        np.asarray(variance, np.float64),
        _relative(covariances, loadings, entries, index),
    )
    analysis = section(index, SYSTEM)
    found = system(relative, np.asarray(values, np.float64), noise, entries, index)
    inverse = selected_inverse(factorise(found, analysis), analysis)
    half = rows_of_inverse(relative, inverse, entries, index)
    explained = explained_variances(relative, half, entries, noise.size)
    return (_in_each(rows, (1 - explained / noise) / noise),)


def innovations(rows, covariances, values, variance, loadings, entries, index):
    """Each observation given those before it, in units of its deviation: (m, n) -> (m, n)."""
    relative, noise = (
        _relative(covariances, loadings, entries, index),
        np.asarray(variance, np.float64),
    )
    spread = _dense_prior(np.asarray(values, np.float64), index)
    white, _ = _one_by_one(np.asarray(rows, np.float64), relative, noise, entries, spread)
    return (np.asarray(white, rows.dtype),)


def log_scales(rows, covariances, values, variance, loadings, entries, index):
    """Logarithms of these deviations in each row: (m, n) -> (m, n)."""
    relative, noise = (
        _relative(covariances, loadings, entries, index),
        np.asarray(variance, np.float64),
    )
    spread = _dense_prior(np.asarray(values, np.float64), index)
    return (_in_each(rows, _one_by_one(rows[:0], relative, noise, entries, spread)[1]),)


def _dense_prior(values, index):
    """P^-1, (p, p)."""
    analysis = section(index, SYSTEM)
    return solve(
        factorise(prior_system(values, index), analysis), analysis, np.eye(analysis[NODES])
    )


def _one_by_one(rows, relative, variance, entries, spread):
    """Standardised innovations (m, n), and log scales (n).

    ``spread`` (p, p) is the covariance of the coefficients given the observations so far, and is
    overwritten; n p^2.
    """
    (m, n), p = rows.shape, len(spread)
    white, means, begin = np.zeros(rows.shape), np.zeros((m, p)), 0
    scales, gain = np.empty(n), np.empty(p)
    for i in range(n):
        end, total = begin, variance[i]
        gain[:] = 0
        while end < relative.size and entries[0, end] == i:
            gain += relative[end] * spread[entries[1, end]]
            end += 1
        for e in range(begin, end):
            total += relative[e] * gain[entries[1, e]]
        scales[i] = np.log(total) / 2
        for r in range(m):
            deviation = rows[r, i]
            for e in range(begin, end):
                deviation -= relative[e] * means[r, entries[1, e]]
            white[r, i] = deviation / np.sqrt(total)
            means[r] += (deviation / total) * gain
        if end > begin:
            for a in range(p):
                if gain[a] != 0:
                    spread[a] -= (gain[a] / total) * gain
        begin = end
    return white, scales


def _in_each(rows, values):
    filled = np.empty(rows.shape, rows.dtype)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            filled[i, j] = values[j]
    return filled
