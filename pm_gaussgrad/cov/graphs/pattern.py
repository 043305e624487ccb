"""Users' sparse symmetric matrices, as the index data that the sparse kernels work on.

A pattern is the lower triangle by columns, rows ascending, so that the first entry of each column
is that of the diagonal: where columns begin is where the diagonal is.
"""

from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
import scipy.sparse as sp
from pytensor.graph.basic import Constant, Variable

from pm_gaussgrad.cov.protocol.arguments import as_constant
from pm_gaussgrad.kernels.sparse.analysis import SIMPLE, analyse
from pm_gaussgrad.kernels.sparse.layout import FACTOR_SIZE
from pm_gaussgrad.ops.compiled import compiled_function

# Differences from the transpose that are rounding, relative to the largest entry.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class LowerTriangle:
    """A symmetric sparse matrix by its lower triangle.

    Attributes
    ----------
    indptr : array of int64, shape (n + 1)
        Where each column begins.
    indices : array of int64, shape (q)
        The rows of its entries, ascending; explicit zeros are entries.
    values : array, shape (q)
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray

    @property
    def size(self) -> int:
        """The number of nodes, n."""
        return self.indptr.size - 1

    @property
    def columns(self):
        """The column of each entry, (q)."""
        return np.repeat(np.arange(self.size), np.diff(self.indptr))

    def keys(self):
        """A number for each entry, ascending, by its place in the matrix."""
        return self.columns * self.size + self.indices

    def without_diagonal(self):
        """The first node that has no entry on the diagonal; None where all have."""
        has = np.zeros(self.size, bool)
        has[self.indices[self.columns == self.indices]] = True
        return None if has.all() else int(has.argmin())


def lower_triangle(
    owner: str, name: str, matrix, like=None, numbers=True, node="observation"
) -> LowerTriangle:
    """A user's symmetric matrix.

    Parameters
    ----------
    owner, name : str
        Who is named in errors.
    matrix : array_like, shape (n, n), or of ``scipy.sparse``
        Dense, its entries are those that are not zero. Entries that are given several times are
        summed.
    like : int, optional
        The size that it is to have.
    numbers : bool
        Whether its numbers matter, and not its pattern alone.
    node : str
        What a row is of, for errors.

    Raises
    ------
    TypeError
        If it is symbolic, or not of real numbers.
    ValueError
        If it is not square or not of this size, or its pattern is not symmetric; where numbers
        matter, if these are not finite or not symmetric.
    """
    matrix = as_csc(owner, name, matrix)
    rows, columns = matrix.shape
    if rows != columns or like not in (None, rows):
        n = "n" if like is None else like
        raise ValueError(
            f"{owner}: `{name}` has shape {matrix.shape}, expected ({n}, {n}): a row and a column "
            f"for each {node}."
        )
    if numbers and not np.isfinite(matrix.data).all():
        raise ValueError(f"{owner}: `{name}` has entries that are not finite, expected numbers.")
    lower, upper = (_sorted(x) for x in (sp.tril(matrix), sp.triu(matrix).T))
    same = np.array_equal(lower.indptr, upper.indptr) and np.array_equal(
        lower.indices, upper.indices
    )
    if not same:
        raise ValueError(
            f"{owner}: `{name}` has {lower.nnz} entries in its lower triangle and {upper.nnz} in "
            "the upper one, or others, expected a symmetric pattern; of a triangle alone pass "
            "W + W.T, of neighbours that are not mutual W.maximum(W.T)."
        )
    if numbers:
        asymmetry = np.abs(lower.data - upper.data).max(initial=0)
        if asymmetry > _ROUNDING * np.abs(lower.data).max(initial=0):
            raise ValueError(
                f"{owner}: `{name}` differs from its transpose by up to {asymmetry:.3g}, expected "
                "a symmetric matrix; if the differences are noise, pass (M + M.T) / 2."
            )
    indptr, indices = (x.astype(np.int64) for x in (lower.indptr, lower.indices))
    return LowerTriangle(indptr, indices, lower.data)


def as_csc(owner: str, name: str, matrix) -> sp.csc_array:
    """A copy of a user's constant matrix, (rows, columns), in double precision, sorted.

    Raises
    ------
    TypeError
        If it is symbolic, or not of real numbers.
    ValueError
        If it is no matrix.
    """
    if isinstance(matrix, Constant):
        matrix = matrix.data
    if isinstance(matrix, Variable):
        raise TypeError(
            f"{owner}: `{name}` is symbolic, expected a constant matrix of scipy.sparse; what "
            "depends on parameters are the values on its pattern."
        )
    if not sp.issparse(matrix):
        matrix = as_constant(owner, name, matrix)
        if matrix.ndim != 2:
            raise ValueError(f"{owner}: `{name}` has shape {matrix.shape}, expected (n, n).")
    if np.dtype(matrix.dtype).kind not in "biuf":
        raise TypeError(f"{owner}: `{name}` has dtype {matrix.dtype}, expected real numbers.")
    return _sorted(sp.csc_array(as_wide(matrix), dtype=np.float64, copy=True))


def as_wide(matrix):
    """A copy of wide integers, in which sums of entries that are given several times have room."""
    return matrix.astype(np.int64 if np.dtype(matrix.dtype).kind in "iu" else matrix.dtype)


def _sorted(matrix):
    matrix = sp.csc_array(matrix)
    matrix.sum_duplicates()  # which sorts, too
    return matrix


def check_diagonal(owner: str, name: str, triangle: LowerTriangle) -> None:
    """Raise a ValueError where a node has no entry on the diagonal."""
    node = triangle.without_diagonal()
    if node is not None:
        raise ValueError(
            f"{owner}: `{name}` has no entry on the diagonal in row {node}, expected one in each: "
            "no positive definite matrix is zero there. Add the identity, as in W + "
            "scipy.sparse.eye_array(n)."
        )


def union(triangles) -> LowerTriangle:
    """The pattern that has the entries of all, with values of zero."""
    n = triangles[0].size
    keys = np.sort(np.concatenate([triangle.keys() for triangle in triangles]), kind="stable")
    keys = keys[np.diff(keys, prepend=-1) > 0]
    columns, indices = np.divmod(keys, max(n, 1))
    indptr = np.searchsorted(columns, np.arange(n + 1))
    return LowerTriangle(indptr, indices, np.zeros(keys.size))


def submatrix(indptr, indices, nodes):
    """The pattern of some nodes among themselves, and where its entries are in the whole.

    Parameters
    ----------
    indptr, indices : array of int
        Of the whole.
    nodes : array of int, increasing

    Returns
    -------
    indptr, indices, entries : array of int64
    """
    number = np.full(indptr.size - 1, -1)
    number[nodes] = np.arange(nodes.size)
    rows, columns = number[indices], np.repeat(number, np.diff(indptr))
    entries = np.flatnonzero((rows >= 0) & (columns >= 0))
    starts = np.searchsorted(columns[entries], np.arange(nodes.size + 1))
    return starts, rows[entries], entries


def analysed(indptr, indices, order=None):
    """The analysis of a pattern and the mean height of the columns of its factor.

    The latter is the length of an array: a dimension of what is saved.
    """
    analysis = analyse(indptr, indices, compiled_function, order, SIMPLE)
    height = -(-int(analysis[FACTOR_SIZE]) // max(indptr.size - 1, 1))
    return analysis, np.zeros(height, np.int64)


def index_data(indptr, indices, order=None):
    """The constants of a sparse structure: columns, rows, analysis and height."""
    data = (indptr[:-1], indices, *analysed(indptr, indices, order))
    return tuple(pt.constant(np.ascontiguousarray(x, np.int64)) for x in data)
