"""Solutions with the precision P of effects and fields by themselves.

Where levels of effects are related it is factored as H is, whose pattern has that of P; else the
effects have a diagonal, and the precision of the fields is factored by itself, which fills less.
"""

import numpy as np

from pm_gaussgrad.kernels.sparse.arrangement import PRIOR, SYSTEM, TERM_START
from pm_gaussgrad.kernels.sparse.factorise import factorise
from pm_gaussgrad.kernels.sparse.latents import prior_system
from pm_gaussgrad.kernels.sparse.layout import section
from pm_gaussgrad.kernels.sparse.solve import solve


def factorise_prior(values, between, index):
    """The factor that :func:`solve_prior` takes."""
    if between.size > section(index, TERM_START)[-1]:
        return factorise(prior_system(values, between, index), section(index, SYSTEM))
    return factorise(values, section(index, PRIOR))


def solve_prior(factor, between, index, rows):
    """P^-1 r of each row r: (m, p) -> (m, p)."""
    effects = section(index, TERM_START)[-1]
    if between.size > effects:
        return solve(factor, section(index, SYSTEM), rows)
    fields = solve(factor, section(index, PRIOR), rows[:, effects:].copy())
    solved = np.empty(rows.shape)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            solved[i, j] = fields[i, j - effects] if j >= effects else rows[i, j] / between[j]
    return solved
