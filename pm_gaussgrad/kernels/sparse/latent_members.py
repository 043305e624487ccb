"""Sparse latents with noise: square root, marginal and leave-one-out variances.

Letters and derivations as in :mod:`pm_gaussgrad.kernels.sparse.latents`. Each factors anew.
"""

import numpy as np

from pm_gaussgrad.kernels.sparse.arrangement import SYSTEM
from pm_gaussgrad.kernels.sparse.centred_latents import centring, rows_of_centring
from pm_gaussgrad.kernels.sparse.centred_root import apply_root, root_of_centring
from pm_gaussgrad.kernels.sparse.centring import MEAN_IN, centre, unit_vectors
from pm_gaussgrad.kernels.sparse.factorise import factorise
from pm_gaussgrad.kernels.sparse.latents import (
    explained_variances,
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


def _factors(relative, values, variance, entries, between, index):
    """L of H and K of P, in one order."""
    analysis = section(index, SYSTEM)
    whole = factorise(system(relative, values, variance, entries, between, index), analysis)
    return whole, factorise(prior_system(values, between, index), analysis)


def color(rows, covariances, values, variance, loadings, entries, between, centred, index):
    """S z of each row z: (m, n) -> (m, n)."""
    noise, prior = np.asarray(variance, np.float64), np.asarray(values, np.float64)
    relative = _relative(covariances, loadings, entries, index)
    constant = np.asarray(between, np.float64)
    factors = _factors(relative, prior, noise, entries, constant, index)
    basis, inner = _centred_root(relative, prior, noise, factors, entries, constant, centred, index)
    colored, scale = np.asarray(rows, np.float64).copy(), np.sqrt(noise)
    apply_root(colored, basis, inner, False)
    whole, root = factors
    common = _through(_divided(colored, scale), relative, whole + root, root, entries, index)
    for i in range(rows.shape[0]):
        for j in range(scale.size):
            colored[i, j] = scale[j] * colored[i, j] + common[i, j]
    return (np.asarray(colored, rows.dtype),)


def whiten(rows, covariances, values, variance, loadings, entries, between, centred, index):
    """S^-1 r of each row r: (m, n) -> (m, n)."""
    noise, prior = np.asarray(variance, np.float64), np.asarray(values, np.float64)
    relative = _relative(covariances, loadings, entries, index)
    constant = np.asarray(between, np.float64)
    factors = _factors(relative, prior, noise, entries, constant, index)
    basis, inner = _centred_root(relative, prior, noise, factors, entries, constant, centred, index)
    scale = np.sqrt(noise)
    white = _divided(np.asarray(rows, np.float64), scale)
    whole, root = factors
    common = _through(_divided(white, scale), relative, whole, whole + root, entries, index)
    for i in range(rows.shape[0]):
        for j in range(scale.size):
            white[i, j] -= common[i, j] / scale[j]
    apply_root(white, basis, inner, True)
    return (np.asarray(white, rows.dtype),)


def _centred_root(relative, values, noise, factors, entries, between, centred, index):
    """What makes the root of the covariance one of fields that sum to zero."""
    whole, root = factors
    _, roots = centring(relative, values, noise, whole, entries, between, centred, index)
    count, n = roots.shape[1], noise.size
    if count == 0:
        return np.empty((0, n)), np.empty((0, 0))
    pair = roots[:MEAN_IN].copy().reshape((2 * count, centred.size))
    columns, scale = _divided(times(pair, relative, entries, n), noise), np.sqrt(noise)
    common = _through(columns, relative, root, whole + root, entries, index)
    for i in range(2 * count):  # S_0' of each
        for j in range(n):
            columns[i, j] = scale[j] * columns[i, j] + common[i, j] / scale[j]
    return root_of_centring(columns)


def _divided(rows, scale):
    """Each row divided by the scale, (m, n)."""
    divided = np.empty(rows.shape)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            divided[i, j] = rows[i, j] / scale[j]
    return divided


def _through(rows, relative, lower, upper, entries, index):
    """B U'^-1 L^-1 B'r of each row r, of two factors L and U in one order."""
    analysis = section(index, SYSTEM)
    score = transposed_times(rows, relative, entries, analysis[NODES])
    score = in_order(score, section(analysis, ORDER))
    substitute_forward(lower, analysis, score)
    substitute_backward(upper, analysis, score)
    latent = out_of_order(score, section(analysis, ORDER))
    return times(latent, relative, entries, rows.shape[1])


def signal(rows, covariances, values, loadings, entries, between, centred, extent, index):
    """A x with x of the covariance M for each row of white noise: (m, p) -> (m, n)."""
    relative, analysis = _relative(covariances, loadings, entries, index), section(index, SYSTEM)
    precision = prior_system(np.asarray(values, np.float64), np.asarray(between, np.float64), index)
    prior = factorise(precision, analysis)
    latent = solve_root_transposed(prior, analysis, np.asarray(rows, np.float64))
    centre(latent, centred)
    return (times(latent, relative, entries, extent.shape[0]).astype(rows.dtype),)


def signal_variances(rows, covariances, values, loadings, entries, between, centred, extent, index):
    """diag(A M A') in each row: (m, n) -> (m, n)."""
    relative, analysis = _relative(covariances, loadings, entries, index), section(index, SYSTEM)
    precision = prior_system(np.asarray(values, np.float64), np.asarray(between, np.float64), index)
    prior = factorise(precision, analysis)
    half, n = (
        rows_of_inverse(relative, selected_inverse(prior, analysis), entries, index),
        extent.shape[0],
    )
    variances = explained_variances(relative, half, entries, n)
    unit = unit_vectors(centred)
    solved = solve(prior, analysis, unit)
    seen, means = times(unit, relative, entries, n), times(solved, relative, entries, n)
    for k in range(unit.shape[0]):
        for j in range(n):
            variances[j] -= 2 * means[k, j] * seen[k, j]
        for other in range(unit.shape[0]):
            both = np.dot(unit[k], solved[other])
            if both != 0:
                for j in range(n):
                    variances[j] += both * seen[k, j] * seen[other, j]
    return (_in_each(rows, variances),)


def inverse_diagonal(
    rows, covariances, values, variance, loadings, entries, between, centred, index
):
    """diag(Sigma^-1) in each row: (m, n) -> (m, n)."""
    noise, relative = (
        np.asarray(variance, np.float64),
        _relative(covariances, loadings, entries, index),
    )
    analysis, prior = section(index, SYSTEM), np.asarray(values, np.float64)
    constant = np.asarray(between, np.float64)
    factor = factorise(system(relative, prior, noise, entries, constant, index), analysis)
    half = rows_of_inverse(relative, selected_inverse(factor, analysis), entries, index)
    _, roots = centring(relative, prior, noise, factor, entries, constant, centred, index)
    rows_of_centring(half, relative, roots, entries, noise.size)
    explained = explained_variances(relative, half, entries, noise.size)
    return (_in_each(rows, (1 - explained / noise) / noise),)


def innovations(rows, covariances, values, variance, loadings, entries, between, centred, index):
    """Each observation given those before it, in units of its deviation: (m, n) -> (m, n)."""
    relative, noise = (
        _relative(covariances, loadings, entries, index),
        np.asarray(variance, np.float64),
    )
    spread = _dense_prior(np.asarray(values, np.float64), between, centred, index)
    white, _ = _one_by_one(np.asarray(rows, np.float64), relative, noise, entries, spread)
    return (np.asarray(white, rows.dtype),)


def log_scales(rows, covariances, values, variance, loadings, entries, between, centred, index):
    """Logarithms of these deviations in each row: (m, n) -> (m, n)."""
    relative, noise = (
        _relative(covariances, loadings, entries, index),
        np.asarray(variance, np.float64),
    )
    spread = _dense_prior(np.asarray(values, np.float64), between, centred, index)
    return (_in_each(rows, _one_by_one(rows[:0], relative, noise, entries, spread)[1]),)


def _dense_prior(values, between, centred, index):
    """The covariance C P^-1 C of the coefficients, (p, p)."""
    analysis, constant = section(index, SYSTEM), np.asarray(between, np.float64)
    rows = np.eye(analysis[NODES])
    centre(rows, centred)
    rows = solve(factorise(prior_system(values, constant, index), analysis), analysis, rows)
    centre(rows, centred)
    return rows


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
