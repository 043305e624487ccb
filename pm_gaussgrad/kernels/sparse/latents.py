r"""Sparse latents with independent noise, y = A x + e, by one factor of the size of x.

x has the covariance M, block diagonal: Q^-1 for the fields, R^-1 (x) G for the effects of a term,
G = Lambda Lambda', with a constant precision R between levels, I for those that are not related,
in units in which |R| = 1.
They are written as x = Lambda u, u of precision R (x) I. So that fields and effects are one, let
B = A Lambda and P = diag(R (x) I, Q), the precision of (u, fields). With

    H = P + B'D^-1 B,    x^ = H^-1 B'D^-1 r,    e^ = r - B x^,

    quad = e^'D^-1 e^ + x^'P x^,    logdet = log|H| - log|Q| + log|D|,    alpha = D^-1 e^,

where quad is a minimum over x^, in which an error of x^ enters squared; one step of refinement
makes up for having formed B'D^-1 B. Pullback, Z = H^-1 on the pattern of H:

    Q_bar = sum_i q_i x^_i x^_i' + l (Z - Q^-1),
    D_bar = l (1/D - diag(B Z B')/D^2) - sum_i q_i alpha_i^2,
    G_bar = l sum_g (X R^-1)_gg - sum_i q_i sum_gh R_gh v_ig v_ih',    X = A'Sigma^-1 A,

over the levels g and h, with v = Lambda'^-1 u^, that is R^-1 A'alpha (the quadratic form is the
minimum over x of |r - A x|^2 in units of D and x'(R (x) G^-1) x, in which x is held fixed). From
H - P = Lambda'A'D^-1 A Lambda, X R^-1 Lambda = A'D^-1 B Z on the columns of effects, row by row of
A, whose entries are all that is asked of Z, whatever R is. Where G is singular the pivots of its
factor that vanish are tiny numbers instead: column j of X Lambda, and of u^, is as tiny then, to
full relative precision, and X and v are finite and exact, while Lambda Lambda' is G to the last
bit.

The square root, for draws and whitening, is S = D^1/2 (I + W Y W') with W = D^-1/2 B and
Y = K'^-1 (K + L)^-1, where H = L L' and P = K K' are factors in one order: for N = Y^-1,
N P^-1 N' - N - N' = H - P says that (N - P) P^-1 (N - P)' = H, which N = P + L K' obeys. Likewise
S^-1 = (I - W (K + L)'^-1 L^-1 W') D^-1/2.

Sources: Bates, Maechler, Bolker and Walker (2015), Fitting linear mixed-effects models using lme4,
Journal of Statistical Software 67, eq. 34 to 54 (the relative form); Rue and Held (2005), Gaussian
Markov Random Fields, section 2.3; Danskin (1967), The Theory of Max-Min.
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.sparse.arrangement import (
    BETWEEN,
    BETWEEN_COLUMN,
    BETWEEN_ROW,
    COLUMN_START,
    FIELD,
    NODE,
    PAIR,
    PRIOR,
    SYSTEM,
    TERM_SIZE,
    TERM_START,
)
from pm_gaussgrad.kernels.sparse.embedding import count_twice
from pm_gaussgrad.kernels.sparse.factorise import factorise, log_determinant
from pm_gaussgrad.kernels.sparse.layout import ENTRY, NODES, section
from pm_gaussgrad.kernels.sparse.products import add_outer_products, add_product
from pm_gaussgrad.kernels.sparse.relative import (
    relative_factors,
    relative_loadings,
    without_factor,
    without_factor_transposed,
)
from pm_gaussgrad.kernels.sparse.selected_inverse import selected_inverse
from pm_gaussgrad.kernels.sparse.solve import solve
from pm_gaussgrad.kernels.symmetric import log_product


def forward(residual, covariances, values, variance, loadings, entries, between, index):
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
    latent, rest = _posterior(rows, relative, prior_values, noise, factor, entries, constant, index)
    quad = squares(rest, noise, latent, prior_values, constant, index)
    logdet = log_determinant(factor, section(index, SYSTEM)) + log_product(noise)
    logdet -= log_determinant(prior_factor, section(index, PRIOR))
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
    if values.size > 0:
        add_outer_products(means, weights, columns, section(index, NODE), first, values_bar)
    effects, variance_bar = np.zeros(covariances.size), np.zeros(noise.size)
    if logdet_bar != 0:
        relative = relative_loadings(design, factors, pivots, entries, index)
        inverse = selected_inverse(np.asarray(factor, np.float64), section(index, SYSTEM))
        prior = selected_inverse(np.asarray(prior_factor, np.float64), section(index, PRIOR))
        half = rows_of_inverse(relative, inverse, entries, index)
        if effects.size > 0:
            add_crossed(design, half, noise, entries, index, effects)
            without_factor(factors, pivots, effects, index)
        explained = explained_variances(relative, half, entries, noise.size)
        for e in range(effects.size):
            effects[e] *= logdet_bar
        for j in range(noise.size):
            variance_bar[j] = logdet_bar * (1 - explained[j] / noise[j]) / noise[j]
        field = section(index, FIELD)
        for e in range(values_bar.size):
            values_bar[e] += logdet_bar * (inverse[field[e]] - prior[e])
    count_twice(values_bar, columns[:-1])
    for i in range(weights.size):
        for j in range(noise.size):
            variance_bar[j] -= weights[i] * solved[i, j] * solved[i, j]
    if effects.size > 0:
        subtract_effects(means, weights, np.asarray(between, np.float64), index, effects)
    kind = quad_bar.dtype
    return np.asarray(effects, kind), np.asarray(values_bar, kind), np.asarray(variance_bar, kind)


@apart("float64 2", "float64 1", "float64 2", "float64 1", "float64 1", "int64 1")
def squares(rest, variance, latent, values, between, index):
    """quad (m) from e^ and x^; e^ is overwritten by alpha."""
    quad, product = np.zeros(rest.shape[0]), times_prior(latent, values, between, index)
    for i in range(rest.shape[0]):
        for j in range(rest.shape[1]):
            weighted = rest[i, j] / variance[j]
            quad[i] += rest[i, j] * weighted
            rest[i, j] = weighted
        for j in range(latent.shape[1]):
            quad[i] += latent[i, j] * product[i, j]
    return quad


def times_prior(latent, values, between, index):
    """P x of each row x: (m, p) -> (m, p)."""
    row, column = section(index, BETWEEN_ROW), section(index, BETWEEN_COLUMN)
    product = np.zeros(latent.shape)
    for i in range(latent.shape[0]):
        for e in range(between.size):
            product[i, row[e]] += between[e] * latent[i, column[e]]
            if row[e] != column[e]:
                product[i, column[e]] += between[e] * latent[i, row[e]]
    if values.size > 0:
        columns, first = section(index, COLUMN_START), section(index, TERM_START)[-1]
        add_product(values, columns, section(index, NODE), latent, first, product)
    return product


@apart("float64 1", "float64 1", "float64 1", "int64 2", "float64 1", "int64 1")
def system(relative, values, variance, entries, between, index):
    """The values of H: of the pattern, in the order of its analysis."""
    pair, found = section(index, PAIR), prior_system(values, between, index)
    rows, product, begin = entries[0], 0, 0
    for e in range(relative.size):
        if rows[e] != rows[begin]:
            begin = e
        weighted = relative[e] / variance[rows[e]]
        for other in range(begin, e + 1):
            found[pair[product]] += weighted * relative[other]
            product += 1
    return found


@apart("float64 1", "float64 1", "int64 1")
def prior_system(values, between, index):
    """Those of P on the same pattern."""
    place, field = section(index, BETWEEN), section(index, FIELD)
    found = np.zeros(section(section(index, SYSTEM), ENTRY).size)
    for e in range(place.size):
        found[place[e]] = between[e]
    for e in range(field.size):
        found[field[e]] = values[e]
    return found


@apart("float64 2", "float64 1", "int64 2", "int64")
def transposed_times(rows, loadings, entries, columns):
    """A'r of each row r: (m, n) -> (m, columns)."""
    product = np.zeros((rows.shape[0], columns))
    for i in range(rows.shape[0]):
        for e in range(loadings.size):
            product[i, entries[1, e]] += loadings[e] * rows[i, entries[0, e]]
    return product


@apart("float64 2", "float64 1", "int64 2", "int64")
def times(latent, loadings, entries, n):
    """A x of each row x: (m, p) -> (m, n)."""
    product = np.zeros((latent.shape[0], n))
    for i in range(latent.shape[0]):
        for e in range(loadings.size):
            product[i, entries[0, e]] += loadings[e] * latent[i, entries[1, e]]
    return product


def in_units(loadings, variance, entries):
    """D^-1 A, entry by entry."""
    scaled = np.empty(loadings.size)
    for e in range(loadings.size):
        scaled[e] = loadings[e] / variance[entries[0, e]]
    return scaled


@apart(
    "float64 2",
    "float64 1",
    "float64 1",
    "float64 1",
    "float64 1",
    "int64 2",
    "float64 1",
    "int64 1",
)
def _posterior(rows, relative, values, variance, factor, entries, between, index):
    """x^ (m, p), refined once, and r - B x^ (m, n)."""
    analysis, weighted = section(index, SYSTEM), in_units(relative, variance, entries)
    p, n, m = analysis[NODES], variance.size, rows.shape[0]
    latent, rest = np.zeros((m, p)), rows.copy()
    for step in range(2):
        score = transposed_times(rest, weighted, entries, p)
        if step == 1:
            score = minus(score, times_prior(latent, values, between, index))
        change = solve(factor, analysis, score)
        for i in range(m):
            for j in range(p):
                latent[i, j] += change[i, j]
        rest = minus(rows, times(latent, relative, entries, n))
    return latent, rest


@apart("float64 2", "float64 2")
def minus(left, right):
    """Differences (m, k); numba takes long to compile them as expressions of arrays."""
    difference = np.empty(left.shape)
    for i in range(left.shape[0]):
        for j in range(left.shape[1]):
            difference[i, j] = left[i, j] - right[i, j]
    return difference


@apart("float64 1", "float64 1", "int64 2", "int64 1")
def rows_of_inverse(relative, inverse, entries, index):
    """B Z at the entries of B, (a)."""
    pair, rows, product, begin = section(index, PAIR), entries[0], 0, 0
    half = np.zeros(relative.size)
    for e in range(relative.size):
        if rows[e] != rows[begin]:
            begin = e
        for other in range(begin, e):
            z = inverse[pair[product]]
            half[e] += z * relative[other]
            half[other] += z * relative[e]
            product += 1
        half[e] += inverse[pair[product]] * relative[e]
        product += 1
    return half


@apart("float64 1", "float64 1", "int64 2", "int64")
def explained_variances(relative, half, entries, n):
    """diag(B Z B'), of :func:`rows_of_inverse`."""
    explained = np.zeros(n)
    for e in range(relative.size):
        explained[entries[0, e]] += relative[e] * half[e]
    return explained


@apart("float64 1", "float64 1", "float64 1", "int64 2", "int64 1", "float64 1", result=())
def add_crossed(loadings, half, variance, entries, index, crossed):
    """Add A'D^-1 B Z within levels, summed over the levels of each term, to ``crossed`` (c)."""
    columns, size, start = entries[1], section(index, TERM_SIZE), section(index, TERM_START)
    term, offset, e = 0, 0, 0
    while e < half.size:
        if columns[e] >= start[-1]:
            e += 1
            continue
        if columns[e] < start[term]:
            term, offset = 0, 0
        while columns[e] >= start[term + 1]:
            offset += size[term] * size[term]
            term += 1
        k = size[term]
        if k == 1:
            crossed[offset] += loadings[e] / variance[entries[0, e]] * half[e]
            e += 1
            continue
        for a in range(k):
            weighted = loadings[e + a] / variance[entries[0, e]]
            for b in range(k):
                crossed[offset + a * k + b] += weighted * half[e + b]
        e += k


@apart("float64 2", "float64 1", "float64 1", "int64 1", "float64 1", result=())
def subtract_effects(scores, weights, between, index, bars):
    """Subtract sum_i q_i sum_gh R_gh v_ig v_ih' over the levels g, h of each term."""
    size, start = section(index, TERM_SIZE), section(index, TERM_START)
    rows, columns = section(index, BETWEEN_ROW), section(index, BETWEEN_COLUMN)
    for i in range(weights.size):
        v, term, offset = scores[i], 0, 0
        for e in range(between.size):
            row, column, weight = rows[e], columns[e], weights[i] * between[e]
            while column >= start[term + 1]:
                offset += size[term] * size[term]
                term += 1
            k = size[term]
            a = (row - start[term]) % k
            for b in range(a + 1):
                part = weight * v[row] * v[column - a + b]
                if row != column:
                    part += weight * v[column] * v[row - a + b]
                bars[offset + a * k + b] -= part
                if a != b:
                    bars[offset + b * k + a] -= part
