"""How the levels of random effects are related: a constant precision between them."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytensor.tensor as pt
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from pm_gaussgrad.cov.graphs.pattern import (
    LowerTriangle,
    as_csc,
    check_diagonal,
    index_data,
    lower_triangle,
)
from pm_gaussgrad.cov.graphs.sparse_matrix import SparseInverse
from pm_gaussgrad.cov.protocol.constants import constant_value
from pm_gaussgrad.cov.protocol.labels import as_labels

# Differences from the transpose that are rounding, relative to the largest entry.
_ROUNDING = 1e-9
# Beyond this a variance is explained by others but for rounding.
_SINGULAR = 1e12


@dataclass(frozen=True, eq=False)
class LevelPrecision:
    """The precision R of the effects of one coefficient with the variance 1.

    Attributes
    ----------
    pattern : LowerTriangle
        R in units of its determinant: R / c, c the geometric mean of the eigenvalues of R, so that
        it has no part in log determinants.
    unit : float
        The effects in these units, c^-1/2.
    """

    pattern: LowerTriangle
    unit: float

    @classmethod
    def of(cls, triangle, log_determinant):
        """Of R and log|R|."""
        mean = np.exp(log_determinant / max(triangle.size, 1))
        return cls(replace(triangle, values=triangle.values / mean), 1 / np.sqrt(mean))

    @classmethod
    def independent(cls, count):
        """Of levels that are not related."""
        return cls(LowerTriangle(np.arange(count + 1), np.arange(count), np.ones(count)), 1.0)

    @property
    def size(self) -> int:
        """Levels."""
        return self.pattern.size

    def of_coefficients(self, k):
        """R (x) I, of k coefficients for each level."""
        if k == 1:
            return self
        lower, own = self.pattern, np.arange(k)
        rows, columns = ((x[:, None] * k + own).ravel() for x in (lower.indices, lower.columns))
        order = np.lexsort((rows, columns))
        indptr = np.append(0, np.cumsum(np.repeat(np.diff(lower.indptr), k)))
        values = np.repeat(lower.values, k)[order]
        return LevelPrecision(LowerTriangle(indptr, rows[order], values), self.unit)


def as_level_precision(owner: str, labels, precision=None, relationship=None, levels=None):
    """A user's relation between levels, and the level that each of some labels is of.

    Parameters
    ----------
    owner : str
        Who is named in errors.
    labels : array of labels
        Those that occur, each once.
    precision, relationship : array_like or sparse matrix, shape (l, l), optional
        R, or its inverse.
    levels : array_like, shape (l), optional
        The labels of their rows; by default the index of a table, or their numbers.

    Returns
    -------
    between : LevelPrecision
    number : array of int, as long as ``labels``

    Raises
    ------
    TypeError
        If both matrices are given, or one is symbolic or not real, or labels are no numbers.
    ValueError
        If a matrix is not square, not symmetric or not positive definite, if labels have no row, or
        rows no label.
    """
    if precision is None and relationship is None:
        if levels is not None:
            raise TypeError(
                f"{owner}: `levels` are given without a matrix, expected `precision` or "
                "`relationship`, whose rows they are the labels of."
            )
        return LevelPrecision.independent(len(labels)), np.arange(len(labels))
    if precision is not None and relationship is not None:
        raise TypeError(
            f"{owner}: both `precision` and `relationship` are given, expected one of them: each "
            "is the inverse of the other."
        )
    name = "relationship" if precision is None else "precision"
    matrix = relationship if precision is None else precision
    if isinstance(matrix, pd.DataFrame):
        levels = _levels_of_table(owner, name, matrix) if levels is None else levels
        matrix = matrix.to_numpy()
    triangle = lower_triangle(owner, name, _without_rounding(owner, name, matrix), node="level")
    number = _rows(owner, name, labels, levels, triangle.size)
    check_diagonal(owner, name, triangle)
    if precision is None:
        return LevelPrecision.of(*_inverse(owner, triangle)), number
    return LevelPrecision.of(triangle, _log_determinant(owner, triangle)), number


def _levels_of_table(owner, name, table):
    if not table.index.equals(table.columns):
        raise ValueError(
            f"{owner}: `{name}` is a table whose index and columns differ, expected the same "
            "levels in the same order; reorder it by table.loc[levels, levels]."
        )
    return table.index


def _without_rounding(owner, name, matrix):
    """Its symmetric part, if that is all but rounding, as of a computed inverse."""
    matrix = as_csc(owner, name, matrix)
    if matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix.data).all():
        return matrix
    difference = abs(matrix - matrix.T)
    largest = abs(matrix.data).max(initial=0)
    return (matrix + matrix.T) / 2 if difference.max() <= _ROUNDING * largest else matrix


def _rows(owner, name, labels, levels, size):
    """The row of each label."""
    if levels is None:
        numbers = np.asarray(labels)
        if not all(isinstance(x, int | np.integer) for x in numbers):
            raise TypeError(
                f"{owner}: `group` has labels such as {labels[0]!r}, expected the numbers of the "
                f"rows of `{name}`, 0 to {size - 1}; say by levels= which label each row has."
            )
        numbers = numbers.astype(np.int64)
        found = np.where((numbers >= 0) & (numbers < size), numbers, -1)
    else:
        _, known = as_labels(owner, "levels", levels)
        if len(known) != len(levels) or len(known) != size:
            raise ValueError(
                f"{owner}: `levels` has {len(levels)} entries, {len(known)} of them different, "
                f"expected {size}: one label for each row of `{name}`."
            )
        found = pd.Index(known).get_indexer(pd.Index(labels, dtype=object))
    outside = np.flatnonzero(found < 0)
    if outside.size:
        raise ValueError(
            f"{owner}: {outside.size} label(s) of `group` have no row in `{name}` (the first is "
            f"{labels[outside[0]]!r}), expected one for each; levels without observations may have "
            "rows, but none may be left out."
        )
    return found.astype(np.int64)


def _log_determinant(owner, triangle):
    """log|R|."""
    index = index_data(triangle.indptr, triangle.indices)
    field = SparseInverse.from_parameters(pt.constant(triangle.values), *index)
    found = -float(constant_value(field.logdet()))
    if not np.isfinite(found):
        raise ValueError(
            f"{owner}: `precision` is not positive definite, expected the inverse of a covariance "
            "of the levels; if it is the covariance itself, pass it as relationship=. Of an "
            "intrinsic autoregression, D - W, write gg.cov.Projected(Z, gg.cov.ICAR(W, sigma)), "
            "Z[i, g] = 1 where observation i is of group g."
        )
    return found


def _inverse(owner, triangle):
    """The lower triangle of the inverse and its log determinant, family by family."""
    n, columns = triangle.size, triangle.columns
    lower = sp.csr_array((triangle.values, (triangle.indices, columns)), shape=(n, n))
    _, family = connected_components(lower, directed=False)
    order, entries, total = np.argsort(family, kind="stable"), [], 0.0
    for nodes in np.split(order, np.cumsum(np.bincount(family))[:-1]):
        block = lower[nodes][:, nodes].toarray()
        root = _inverse_root(block + np.tril(block, -1).T)
        if root is None:
            raise ValueError(
                f"{owner}: `relationship` is singular or not positive definite, expected a "
                "covariance of the levels that has an inverse; where two levels are the same, as "
                "twins of one genotype are, give both one label, or add a small number to the "
                "diagonal. If it is an inverse itself, pass it as precision=."
            )
        row, column = np.tril_indices(len(nodes))
        entries.append(np.stack([nodes[column], nodes[row], (root.T @ root)[row, column]]))
        total += 2 * np.log(np.diag(root)).sum()
    column, row, value = np.concatenate(entries, axis=1)
    order = np.lexsort((row, column))
    indptr = np.searchsorted(column[order], np.arange(n + 1))
    return LowerTriangle(indptr, row[order].astype(np.int64), value[order]), float(total)


def _inverse_root(matrix):
    """L^-1 of a positive definite matrix L L'; None of a singular one."""
    try:
        root = np.linalg.inv(np.linalg.cholesky(matrix))
    except np.linalg.LinAlgError:
        return None
    # The share of a variance that the levels before leave, inverse.
    inflation = np.diag(root) ** 2 * np.diag(matrix)
    return root if inflation.max() < _SINGULAR else None
