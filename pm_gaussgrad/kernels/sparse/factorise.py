"""The Cholesky factor of a sparse matrix, P Q P' = L L', on the analysis of its pattern.

With supernodes by fronts: each is the part of Q that its columns begin, plus what its children
hand to it, and hands on the Schur complement of its columns. Without, column by column, where the
place of each product is known beforehand.

Sources: Duff and Reid (1983), The multifrontal solution of indefinite sparse symmetric linear
equations, ACM Transactions on Mathematical Software 9; Liu (1992), The multifrontal method for
sparse matrix solution, SIAM Review 34; Davis (2006), Direct Methods for Sparse Linear Systems,
chapter 4.
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.definite import SUSPECT, rounding_level, start_entry
from pm_gaussgrad.kernels.sparse.layout import (
    CHILD,
    ENTRY,
    ENTRY_START,
    FACTOR_SIZE,
    FIRST,
    NODES,
    PANEL_START,
    PLACE,
    RELATIVE,
    ROW_START,
    SHARED,
    SIBLING,
    STACK,
    STACK_SIZE,
    SUPERNODAL,
    TARGET,
    section,
)
from pm_gaussgrad.kernels.sparse.panels import factor_front
from pm_gaussgrad.kernels.sparse.substitution import substitute_backward, substitute_forward
from pm_gaussgrad.kernels.symmetric import log_product

_EPS = float(np.finfo(np.float64).eps)


def factorise(values, analysis):
    """The factor of a symmetric matrix.

    Parameters
    ----------
    values : array, shape (entries)
        Of its lower triangle, in the order of the pattern that was analysed.
    analysis : array of int64
        Of :func:`~pm_gaussgrad.kernels.sparse.analysis.analyse`.

    Returns
    -------
    factor : array, one-dimensional
        Its length is in the header of the analysis. NaN throughout where a value is not finite,
        or the matrix is not positive definite: a pivot is not positive, or the matrix is singular
        up to rounding, by the estimate of :mod:`pm_gaussgrad.kernels.definite`.
    """
    factor = np.empty(analysis[FACTOR_SIZE])
    factorise_into(values, analysis, factor)
    return factor


@apart("float64 1", "int64 1", "float64 1")
def factorise_into(values, analysis, factor):
    """As :func:`factorise`, in given memory, which may be longer: there it is zero."""
    scales = np.empty(analysis[NODES])
    if scales.size == 0:
        done = True
    elif analysis[SUPERNODAL]:
        done = _by_fronts(values, analysis, factor, scales)
    else:
        done = _by_columns(values, analysis, factor, scales)
    if not done or _is_singular(factor, analysis, scales):
        for i in range(factor.size):
            factor[i] = np.nan
    for i in range(analysis[FACTOR_SIZE], factor.size):
        factor[i] = 0


@apart("float64 1", "int64 1")
def log_determinant(factor, analysis):
    """log|Q|, from its factor; NaN where that is."""
    diagonal = np.empty(analysis[NODES])
    read_diagonal(factor, analysis, diagonal)
    return 2 * log_product(diagonal)


@apart("float64 1", "int64 1", "float64 1")
def read_diagonal(factor, analysis, diagonal):
    """Write the diagonal of L to ``diagonal`` (n), in the order of elimination."""
    first, panel_start = section(analysis, FIRST), section(analysis, PANEL_START)
    for s in range(first.size - 1):
        columns = first[s + 1] - first[s]
        height = (panel_start[s + 1] - panel_start[s]) // columns
        for j in range(columns):
            diagonal[first[s] + j] = factor[panel_start[s] + j * (height + 1)]


@apart("float64 1", "int64 1", "float64 1", "float64 1", result=("bool",))
def _by_fronts(values, analysis, factor, scales):
    first, row_start = section(analysis, FIRST), section(analysis, ROW_START)
    panel_start = section(analysis, PANEL_START)
    child, sibling = section(analysis, CHILD), section(analysis, SIBLING)
    relative, shared = section(analysis, RELATIVE), section(analysis, SHARED)
    places, stack = section(analysis, STACK), np.empty(analysis[STACK_SIZE])
    for s in range(child.size):
        columns, below = first[s + 1] - first[s], row_start[s + 1] - row_start[s]
        panel = factor[panel_start[s] : panel_start[s + 1]]
        matrix = stack[places[s] : places[s] + below * below]
        for i in range(panel.size):
            panel[i] = 0
        for i in range(matrix.size):
            matrix[i] = 0
        _scatter(values, analysis, s, panel)
        for j in range(columns):
            scales[first[s] + j] = panel[j * (columns + below + 1)]
        c = child[s]
        while c >= 0:
            size = row_start[c + 1] - row_start[c]
            handed = stack[places[c] : places[c] + size * size]
            where = relative[row_start[c] : row_start[c + 1]]
            _assemble(panel, columns, matrix, below, handed, where, shared[c])
            c = sibling[c]
        if not factor_front(panel, columns, matrix, below):
            return False
    return True


def _scatter(values, analysis, s, panel):
    """Write the entries of the matrix to the panel where they begin."""
    entry_start = section(analysis, ENTRY_START)
    entry, place = section(analysis, ENTRY), section(analysis, PLACE)
    for at in range(entry_start[s], entry_start[s + 1]):
        panel[place[at]] = values[entry[at]]


@apart("float64 1", "int64", "float64 1", "int64", "float64 1", "int64 1", "int64")
def _assemble(panel, columns, matrix, below, handed, where, shared):
    """Add what a child hands to its parent: the first ``shared`` columns to the panel."""
    size, height = where.size, columns + below
    for j in range(shared):
        target, source = where[j] * height, j * size
        for i in range(j, size):
            panel[target + where[i]] += handed[source + i]
    if shared == size:
        return
    begin = where[shared]
    if where[size - 1] - begin == size - 1 - shared:  # neighbours all the way
        for j in range(shared, size):
            length, row = size - j, begin - columns + j - shared
            target = matrix[row * (below + 1) : row * (below + 1) + length]
            source = handed[j * (size + 1) : j * (size + 1) + length]
            for i in range(length):
                target[i] += source[i]
        return
    for j in range(shared, size):
        target, source = (where[j] - columns) * below - columns, j * size
        for i in range(j, size):
            matrix[target + where[i]] += handed[source + i]


@apart("float64 1", "int64 1", "float64 1", "float64 1", result=("bool",))
def _by_columns(values, analysis, factor, scales):
    row_start, target = section(analysis, ROW_START), section(analysis, TARGET)
    n, product = scales.size, 0
    for i in range(factor.size):
        factor[i] = 0
    for j in range(n):
        _scatter(values, analysis, j, factor[row_start[j] + j : row_start[j + 1] + j + 1])
        scales[j] = factor[row_start[j] + j]
    for j in range(n):
        begin, end = row_start[j] + j, row_start[j + 1] + j + 1
        if not factor[begin] > 0:
            return False
        factor[begin] = np.sqrt(factor[begin])
        inverse = 1 / factor[begin]
        for i in range(begin + 1, end):
            factor[i] *= inverse
        for i in range(begin + 1, end):
            multiple = factor[i]
            for k in range(i, end):
                factor[target[product]] -= multiple * factor[k]
                product += 1
    return True


@apart("float64 1", "int64 1", "float64 1")
def _is_singular(factor, analysis, scales):
    """Whether a pivot is not finite, or the matrix singular; ``scales`` is its diagonal."""
    n = scales.size
    row, suspect = np.empty((1, n)), False
    read_diagonal(factor, analysis, row[0])
    for j in range(n):
        pivot = row[0, j] * row[0, j]
        if not pivot < np.inf:
            return True
        suspect |= not pivot >= SUSPECT * scales[j]
        row[0, j] = np.sqrt(scales[j]) * start_entry(j)
    if not suspect:
        return False
    substitute_forward(factor, analysis, row)
    quad, norm = 0.0, 0.0
    for j in range(n):
        quad += row[0, j] * row[0, j]
    substitute_backward(factor, analysis, row)
    for j in range(n):
        norm += scales[j] * row[0, j] * row[0, j]
    return not quad > rounding_level(n, _EPS) * norm
