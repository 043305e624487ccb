"""Latent vectors that have a covariance structure, seen by a likelihood."""

import numpy as np
import pytensor.tensor as pt
from scipy.sparse import coo_array

from pm_gaussgrad.adopt.marginalize.linear.pieces import Term, product_of
from pm_gaussgrad.cov import Covariance, Dense, Projected, Scaled


def of_latent(base, pieces, n) -> Covariance | None:
    """The covariance of a linear map of one vector, by the structure of that; None without one."""
    if len(base.shape) != 1 or not all(isinstance(x, Term) for x in pieces):
        return None
    [first, *more] = pieces
    if not more and np.array_equal(first.index, np.arange(base.size)) and base.size == n:
        return _scaled(base.cov, first)
    if isinstance(base.cov, Dense):
        return _chosen(base.cov, first) if not more and base.size >= n else None
    if any(term.array is not None or term.scalars != first.scalars for term in pieces):
        return None
    rows = np.tile(np.arange(n), len(pieces))
    entries, columns = (
        np.concatenate([getattr(x, y) for x in pieces]) for y in ("weight", "index")
    )
    matrix = coo_array((entries, (rows, columns)), shape=(n, base.size)).tocsr()
    try:
        field = Projected(matrix, base.cov)
    except TypeError:
        return None  # it has no sparse precision
    return field * product_of(first.scalars) ** 2 if first.scalars else field


def _scaled(cov, term):
    scale, weight = product_of(term.scalars), term.weight
    if term.array is None and (weight == weight[0]).all():
        factor = (scale * weight[0]) ** 2
        return cov if isinstance(factor, float) and factor == 1 else cov * factor
    scales = scale * weight if term.array is None else scale * weight * term.array
    return Scaled(cov, scales)


def _chosen(cov, term):
    """Of a matrix: its rows and columns."""
    [matrix] = cov.parameters
    index = pt.constant(term.index)
    weight = product_of(term.scalars) * term.weight
    weight = weight if term.array is None else weight * term.array
    chosen = matrix[index][:, index]
    return Dense(chosen * weight[:, None] * weight)
