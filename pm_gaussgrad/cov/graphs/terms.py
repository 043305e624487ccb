"""Sums of multiples of constant sparse matrices, as values on the union of their patterns."""

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.graphs.pattern import lower_triangle, union
from pm_gaussgrad.cov.protocol.arguments import named_dims_hint
from pm_gaussgrad.cov.protocol.base import as_parameter

NAME = "gg.cov.SparsePrecision.from_terms"
# A term with at least this share of the entries is multiplied as a whole, zeros included: so is
# one pass over all of them.
_SHARE = 0.25


def sum_of_terms(terms):
    """The pattern of sum_k theta_k M_k, and its values as an expression, (..., q).

    Parameters
    ----------
    terms : sequence of pairs
        A user's: theta, () or (...), and a matrix.

    Raises
    ------
    TypeError
        If it is no sequence of pairs, or a matrix is symbolic or not real.
    ValueError
        If there are none, a matrix is not symmetric or of another size than the first, or all are
        zero at some node's diagonal.
    """
    thetas, matrices = _as_pairs(terms)
    pattern = union(matrices)
    _check_diagonal(matrices)
    return pattern, _values(thetas, matrices, pattern.keys())


def _as_pairs(terms):
    thetas, matrices = [], []
    pairs = list(terms) if isinstance(terms, list | tuple) else None
    if pairs is None or not all(isinstance(x, list | tuple) and len(x) == 2 for x in pairs):
        raise TypeError(
            f"{NAME}: `terms` is a {type(terms).__name__}, expected a list of pairs (theta, M) of "
            f"a scalar and a constant matrix{named_dims_hint(terms)}."
        )
    if not pairs:
        raise ValueError(f"{NAME}: `terms` is empty, expected at least one pair (theta, M).")
    for k, (theta, matrix) in enumerate(pairs):
        like = matrices[0].size if matrices else None
        matrices.append(lower_triangle(NAME, f"terms[{k}][1]", matrix, like))
        thetas.append(as_parameter(NAME, f"terms[{k}][0]", theta, 0))
    return thetas, matrices


def _check_diagonal(matrices):
    """Raise a ValueError where all matrices are zero at a node's diagonal, stored or not."""
    has = np.zeros(matrices[0].size, bool)
    for matrix in matrices:
        diagonal = matrix.columns == matrix.indices
        has[matrix.indices[diagonal & (matrix.values != 0)]] = True
    if not has.all():
        raise ValueError(
            f"{NAME}: all matrices of `terms` are zero on the diagonal in row {has.argmin()}, "
            "expected one that is not: no positive definite matrix is zero there. Of a node "
            "without neighbours either put a positive number into the diagonal matrix, its own "
            "precision in units of theta, or leave the node out."
        )


def _values(thetas, matrices, keys):
    few = [k for k, matrix in enumerate(matrices) if matrix.values.size < _SHARE * keys.size]
    values = pt.zeros(keys.size, dtype=thetas[0].dtype)
    for k in sorted({*range(len(matrices))} - {*few}):
        coefficients = np.zeros(keys.size, thetas[k].dtype)
        coefficients[np.searchsorted(keys, matrices[k].keys())] = matrices[k].values
        values = values + thetas[k][..., None] * coefficients
    if not few:
        return values
    term = np.repeat(np.arange(len(few)), [matrices[k].values.size for k in few])
    coefficients = np.concatenate([matrices[k].values for k in few])
    places = np.searchsorted(keys, np.concatenate([matrices[k].keys() for k in few]))
    multiples = pt.stack(pt.broadcast_arrays(*(thetas[k] for k in few)), axis=-1)
    added = multiples[..., pt.constant(term)] * coefficients.astype(multiples.dtype)
    return (values + pt.zeros_like(multiples[..., :1]))[..., pt.constant(places)].inc(added)
