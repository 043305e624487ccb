"""Users' neighbourhoods of areas, in any of the forms that they come in, as a sparse matrix."""

import numpy as np
import scipy.sparse as sp
from pytensor.graph.basic import Constant, Variable

from pm_gaussgrad.cov.graphs.pattern import as_csc
from pm_gaussgrad.cov.protocol.arguments import as_constant

# Differences from the transpose that are rounding, relative to the largest weight.
_ROUNDING = 1e-12


def as_neighbours(owner: str, W, n=None, symmetric=True) -> sp.csc_array:
    """A user's ``W`` as a matrix (n, n) of weights, positive where two areas are neighbours.

    Parameters
    ----------
    owner : str
        Who is named in errors.
    W : scipy.sparse matrix, array_like or graph
        A matrix of weights, sparse or dense; a graph of libpysal, by its ``sparse``; or pairs of
        neighbours (e, 2), each pair once or in both directions, with weights of one.
    n : int, optional
        How many areas there are, of pairs.
    symmetric : bool
        Whether neighbours must be mutual, with one weight.

    Raises
    ------
    TypeError
        If it is symbolic, no matrix, or not of real numbers.
    ValueError
        If it is not square, has weights that are negative or not finite, an area is its own
        neighbour, or neighbours are not mutual.
    """
    if isinstance(W, Variable) and not isinstance(W, Constant):
        raise TypeError(
            f"{owner}: `W` is symbolic, expected constant neighbourhoods: a matrix of scipy.sparse,"
            " an array, or pairs of neighbours with n=; data in a pm.Data are no constants."
        )
    graph = getattr(W, "sparse", None)
    if sp.issparse(graph):
        W = graph
    if n is not None and not sp.issparse(W):
        return _of_pairs(owner, as_constant(owner, "W", W), n)
    matrix = as_csc(owner, "W", W)
    if matrix.shape[0] != matrix.shape[1] or n not in (None, matrix.shape[0]):
        raise ValueError(
            f"{owner}: `W` has shape {matrix.shape}, expected {_size(n)}: a row and a column for "
            "each area; of pairs of neighbours, (e, 2), say how many areas there are by n=."
        )
    matrix.eliminate_zeros()
    _check_weights(owner, matrix)
    if symmetric:
        _check_symmetric(owner, matrix)
    return matrix


def _size(n):
    return "(n, n)" if n is None else f"({n}, {n})"


def _of_pairs(owner, pairs, n):
    """Weights of one between the areas of each pair."""
    if pairs.ndim != 2 or pairs.shape[1] != 2 or np.any(pairs != np.round(pairs)):
        raise ValueError(
            f"{owner}: `W` has shape {pairs.shape} and n = {n} is given, expected pairs of "
            "neighbours, (e, 2), by their numbers; of a matrix leave n= out."
        )
    outside = (pairs < 0) | (pairs >= n)
    if outside.any():
        raise ValueError(
            f"{owner}: `W` has the area {pairs[outside][0]:g}, expected numbers from 0 to {n - 1}; "
            "count areas from 0, or pass a larger n=."
        )
    first, second = pairs.astype(np.int64).T
    both = np.append(first, second), np.append(second, first)
    matrix = sp.csc_array((np.ones(2 * first.size), both), shape=(n, n))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    _check_weights(owner, matrix)
    return matrix


def _check_weights(owner, matrix):
    if not np.isfinite(matrix.data).all() or (matrix.data < 0).any():
        wrong = matrix.data[~(matrix.data >= 0) | np.isinf(matrix.data)][0]
        raise ValueError(
            f"{owner}: `W` has the weight {wrong:g}, expected finite numbers, positive where two "
            "areas are neighbours and 0 elsewhere."
        )
    own = np.flatnonzero(matrix.diagonal())
    if own.size:
        raise ValueError(
            f"{owner}: `W` has a weight on its diagonal, in row {own[0]}, expected zeros: no area "
            "is its own neighbour; pass W - scipy.sparse.diags_array(W.diagonal())."
        )


def _check_symmetric(owner, matrix):
    difference = abs(matrix - matrix.T)
    largest = difference.max() if difference.nnz else 0.0
    if largest <= _ROUNDING * matrix.data.max(initial=0):
        return
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    if np.allclose(sums[sums > 0], 1):
        remedy = "its rows sum to one: pass the weights before they were standardised"
    else:
        remedy = (
            "of a triangle alone pass W + W.T, of neighbours that are not mutual W.maximum(W.T)"
        )
    raise ValueError(
        f"{owner}: `W` differs from its transpose by up to {largest:.3g}, expected mutual "
        f"neighbours with one weight; {remedy}."
    )


def check_connected(owner: str, matrix, instead: str) -> None:
    """Raise a ValueError where an area has no neighbours, with what to do ``instead``."""
    alone = np.flatnonzero(np.diff(matrix.indptr) == 0)
    if alone.size:
        raise ValueError(
            f"{owner}: `W` has {alone.size} area(s) without neighbours (the first is {alone[0]}), "
            f"expected at least one of each: their variance is not defined; {instead}."
        )
