r"""Fisher information of sparse latents with noise, a few columns at a time.

With Sigma = A M A' + D, M = diag(R^-1 (x) G, Q^-1), and the directions

    dS_a = A diag(R^-1 (x) dG_a, -Q^-1 dQ_a Q^-1) A' + dD_a,

the information is 1/2 sum_i (dS_a e_i)'Sigma^-1 dS_b Sigma^-1 e_i over the observations i: p + 1
solves with Sigma and 2 p + 2 with Q for each, in memory of some rows for each direction. Means of
fields that sum to zero are taken out of A.

Source: Bangs (1971), Array Processing with Generalized Beamformers (the trace formula).
"""

import numpy as np

from pm_gaussgrad.kernels.sparse.arrangement import (
    COLUMN_START,
    NODE,
    SYSTEM,
    TERM_SIZE,
    TERM_START,
)
from pm_gaussgrad.kernels.sparse.centred_latents import centred_posterior, centring
from pm_gaussgrad.kernels.sparse.centring import centre
from pm_gaussgrad.kernels.sparse.embedding import TOGETHER, unit_rows
from pm_gaussgrad.kernels.sparse.factorise import factorise
from pm_gaussgrad.kernels.sparse.latents import system, times, transposed_times
from pm_gaussgrad.kernels.sparse.layout import NODES, section
from pm_gaussgrad.kernels.sparse.prior import factorise_prior, solve_prior
from pm_gaussgrad.kernels.sparse.products import add_product
from pm_gaussgrad.kernels.sparse.relative import relative_factors, relative_loadings


def information(
    tangents, covariances, values, variance, loadings, entries, between, centred, index
):
    """Of p directions of covariances, values and variance, (p, c + q + n) -> (p, p)."""
    noise, precision = np.asarray(variance, np.float64), np.asarray(values, np.float64)
    design, constant = np.asarray(loadings, np.float64), np.asarray(between, np.float64)
    moves, (p, n) = np.asarray(tangents, np.float64), (tangents.shape[0], noise.size)
    factors, pivots = relative_factors(np.asarray(covariances, np.float64), index)
    relative = relative_loadings(design, factors, pivots, entries, index)
    factor = factorise(
        system(relative, precision, noise, entries, constant, index), section(index, SYSTEM)
    )
    _, roots = centring(relative, precision, noise, factor, entries, constant, centred, index)
    prior, total = factorise_prior(precision, constant, index), np.zeros((p, p))
    for start in range(0, n, TOGETHER):
        unit = unit_rows(start, min(start + TOGETHER, n), n)
        count = unit.shape[0]
        columns = _solve(
            unit, relative, precision, noise, factor, roots, entries, constant, centred, index
        )
        both = np.concatenate((unit, columns))
        moved = _moved(both, moves, design, prior, entries, constant, centred, index)
        # Contiguous: of all directions the columns of the covariance, and those of the solutions.
        own, others = moved[:, :count].copy(), moved[:, count:].copy()
        solved = _solve(
            others.reshape((p * count, n)),
            relative,
            precision,
            noise,
            factor,
            roots,
            entries,
            constant,
            centred,
            index,
        )
        flat, own = solved.reshape((p, count * n)), own.reshape((p, count * n))
        for a in range(p):
            for b in range(p):
                total[a, b] += np.dot(own[a], flat[b]) / 2
    return (np.asarray((total + total.T) / 2, tangents.dtype),)


def _solve(rows, relative, values, noise, factor, roots, entries, between, centred, index):
    """Sigma^-1 r of each row r."""
    _, solved = centred_posterior(
        rows, relative, values, noise, factor, roots, entries, between, centred, index
    )
    for i in range(rows.shape[0]):
        for j in range(noise.size):
            solved[i, j] /= noise[j]
    return solved


def _moved(rows, moves, design, prior, entries, between, centred, index):
    """dS_a r of p directions and each row r: (m, n) -> (p, m, n)."""
    (m, n), p = rows.shape, moves.shape[0]
    latents, columns = section(index, SYSTEM)[NODES], section(index, COLUMN_START)
    first, node = section(index, TERM_START)[-1], section(index, NODE)
    score = transposed_times(rows, design, entries, latents)
    centre(score, centred)
    solved = solve_prior(prior, between, index, score)
    covariances = moves.shape[1] - node.size - n
    moved = np.empty((p, m, n))
    for a in range(p):
        change = np.zeros((m, latents))
        if node.size > 0:
            direction = -moves[a, covariances : covariances + node.size]
            add_product(direction, columns, node, solved, first, change)
            change = solve_prior(prior, between, index, change)
        _add_effects(moves[a, :covariances], solved, index, change)
        centre(change, centred)
        moved[a] = times(change, design, entries, n)
        for i in range(m):
            for j in range(n):
                moved[a, i, j] += moves[a, covariances + node.size + j] * rows[i, j]
    return moved


def _add_effects(direction, latent, index, change):
    """Add dG times the coefficients of each level."""
    size, start = section(index, TERM_SIZE), section(index, TERM_START)
    for i in range(latent.shape[0]):
        offset = 0
        for term in range(size.size):
            k = size[term]
            for g in range(start[term], start[term + 1], k):
                for a in range(k):
                    for b in range(k):
                        change[i, g + a] += direction[offset + a * k + b] * latent[i, g + b]
            offset += k * k
