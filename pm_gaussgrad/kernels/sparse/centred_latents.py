r"""Sparse latents with independent noise of which fields sum to zero, y = A C x + e.

Letters and derivations are those of :mod:`pm_gaussgrad.kernels.sparse.latents`, with B C in place
of B, and of :mod:`pm_gaussgrad.kernels.sparse.centring`. They are kernels of their own, because
models without such fields would compile them in vain.
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.sparse.arrangement import (
    COLUMN_START,
    FIELD,
    NODE,
    PRIOR,
    SYSTEM,
    TERM_START,
)
from pm_gaussgrad.kernels.sparse.centring import (
    MEAN_IN,
    add_roots,
    add_to_rows,
    at_entry,
    centre,
    centred_roots,
    unit_vectors,
)
from pm_gaussgrad.kernels.sparse.embedding import count_twice
from pm_gaussgrad.kernels.sparse.factorise import factorise, log_determinant
from pm_gaussgrad.kernels.sparse.latents import (
    add_crossed,
    explained_variances,
    in_units,
    minus,
    rows_of_inverse,
    squares,
    subtract_effects,
    system,
    times,
    times_prior,
    transposed_times,
)
from pm_gaussgrad.kernels.sparse.layout import NODES, section
from pm_gaussgrad.kernels.sparse.products import add_outer_products
from pm_gaussgrad.kernels.sparse.relative import (
    relative_factors,
    relative_loadings,
    without_factor,
    without_factor_transposed,
)
from pm_gaussgrad.kernels.sparse.selected_inverse import selected_inverse
from pm_gaussgrad.kernels.sparse.solve import solve
from pm_gaussgrad.kernels.symmetric import log_product


def forward(residual, covariances, values, variance, loadings, entries, between, centred, index):
    """quad (m), logdet, alpha (m, n), (v, x^ of fields) (m, p), and the factors of H and Q."""
    noise, prior_values = np.asarray(variance, np.float64), np.asarray(values, np.float64)
    factors, pivots = relative_factors(np.asarray(covariances, np.float64), index)
    relative = relative_loadings(np.asarray(loadings, np.float64), factors, pivots, entries, index)
    constant = np.asarray(between, np.float64)
    factor = factorise(
        system(relative, prior_values, noise, entries, constant, index), section(index, SYSTEM)
    )
    prior_factor = factorise(prior_values, section(index, PRIOR))
    rows = np.asarray(residual, np.float64)
    more, roots = centring(relative, prior_values, noise, factor, entries, constant, centred, index)
    latent, rest = centred_posterior(
        rows, relative, prior_values, noise, factor, roots, entries, constant, centred, index
    )
    quad = squares(rest, noise, latent, prior_values, constant, index)
    logdet = log_determinant(factor, section(index, SYSTEM)) + log_product(noise)
    logdet += more - log_determinant(prior_factor, section(index, PRIOR))
    without_factor_transposed(factors, pivots, latent, index)
    kind = residual.dtype
    return (
        np.asarray(quad, kind),
        logdet,
        np.asarray(rest, kind),
        np.asarray(latent, kind),
        np.asarray(factor, kind),
        np.asarray(prior_factor, kind),
    )


def pullback(
    covariances,
    values,
    variance,
    loadings,
    entries,
    between,
    centred,
    index,
    alpha,
    latent,
    factor,
    prior_factor,
    quad_bar,
    logdet_bar,
):
    """Cotangents of the covariances (c), the values (q) and the variance (n)."""
    noise, design = np.asarray(variance, np.float64), np.asarray(loadings, np.float64)
    factors, pivots = relative_factors(np.asarray(covariances, np.float64), index)
    solved, weights = np.asarray(alpha, np.float64), np.asarray(quad_bar, np.float64)
    columns, first = section(index, COLUMN_START), section(index, TERM_START)[-1]
    values_bar, means = np.zeros(values.size), np.asarray(latent, np.float64)
    constant = np.asarray(between, np.float64)
    if values.size > 0:
        add_outer_products(means, weights, columns, section(index, NODE), first, values_bar)
    effects, variance_bar = np.zeros(covariances.size), np.zeros(noise.size)
    if logdet_bar != 0:
        relative = relative_loadings(design, factors, pivots, entries, index)
        whole = np.asarray(factor, np.float64)
        prior_values = np.asarray(values, np.float64)
        _, roots = centring(relative, prior_values, noise, whole, entries, constant, centred, index)
        inverse = selected_inverse(whole, section(index, SYSTEM))
        prior = selected_inverse(np.asarray(prior_factor, np.float64), section(index, PRIOR))
        half = rows_of_inverse(relative, inverse, entries, index)
        rows_of_centring(half, relative, roots, entries, noise.size)
        if effects.size > 0:
            add_crossed(design, half, noise, entries, index, effects)
            without_factor(factors, pivots, effects, index)
        explained = explained_variances(relative, half, entries, noise.size)
        for e in range(effects.size):
            effects[e] *= logdet_bar
        for j in range(noise.size):
            variance_bar[j] = logdet_bar * (1 - explained[j] / noise[j]) / noise[j]
        _add_of_fields(logdet_bar, inverse, prior, roots, index, values_bar)
    count_twice(values_bar, columns[:-1])
    for i in range(weights.size):
        for j in range(noise.size):
            variance_bar[j] -= weights[i] * solved[i, j] * solved[i, j]
    if effects.size > 0:
        subtract_effects(means, weights, constant, index, effects)
    kind = quad_bar.dtype
    return np.asarray(effects, kind), np.asarray(values_bar, kind), np.asarray(variance_bar, kind)


@apart(
    "float64 1",
    "float64 1",
    "float64 1",
    "float64 1",
    "int64 2",
    "float64 1",
    "int64 1",
    "int64 1",
)
def centring(relative, values, variance, factor, entries, between, centred, index):
    """log|H| - log|H_0|, and the roots of the difference of their inverses, (3, r, p)."""
    unit = unit_vectors(centred)
    count = unit.shape[0]
    if count == 0:
        return 0.0, np.empty((3, 0, centred.size))
    both = np.empty((2 * count, centred.size))
    both[:count] = unit
    both[count:] = times_prior(unit, values, between, index)
    solved = solve(factor, section(index, SYSTEM), both)
    both[count:] = solved[count:]
    return centred_roots(both, solved, times(both, relative, entries, variance.size), variance)


@apart(
    "float64 2",
    "float64 1",
    "float64 1",
    "float64 1",
    "float64 1",
    "float64 3",
    "int64 2",
    "float64 1",
    "int64 1",
    "int64 1",
)
def centred_posterior(
    rows, relative, values, variance, factor, roots, entries, between, centred, index
):
    """x^ (m, p), refined once, and r - B x^ (m, n)."""
    analysis, weighted = section(index, SYSTEM), in_units(relative, variance, entries)
    p, n, m = analysis[NODES], variance.size, rows.shape[0]
    latent, rest = np.zeros((m, p)), rows.copy()
    for step in range(2):
        score = transposed_times(rest, weighted, entries, p)
        centre(score, centred)
        if step == 1:
            score = minus(score, times_prior(latent, values, between, index))
        change = solve(factor, analysis, score)
        add_roots(score, change, roots, MEAN_IN)
        for i in range(m):
            for j in range(p):
                latent[i, j] += change[i, j]
        seen = latent.copy()
        centre(seen, centred)
        rest = minus(rows, times(seen, relative, entries, n))
    return latent, rest


def rows_of_centring(half, relative, roots, entries, n):
    """Add to B Z what makes it B C H^-1 C, where fields sum to zero."""
    count, p = roots.shape[1:]
    if count > 0:
        pair = roots[:MEAN_IN].copy().reshape((2 * count, p))
        add_to_rows(half, times(pair, relative, entries, n), roots, entries)


def _add_of_fields(weight, inverse, prior, roots, index, bars):
    """Add l (H^-1 - Q^-1) on the pattern of Q."""
    columns, node, field = (
        section(index, COLUMN_START),
        section(index, NODE),
        section(index, FIELD),
    )
    effects = section(index, TERM_START)[-1]
    for j in range(columns.size - 1):
        for e in range(columns[j], columns[j + 1]):
            more = at_entry(roots, effects + node[e], effects + j)
            bars[e] += weight * (inverse[field[e]] + more - prior[e])
