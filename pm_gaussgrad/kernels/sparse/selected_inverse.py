"""Entries of the inverse of a sparse matrix on its pattern, from its factor.

The entries of Z = Q^-1 on the pattern of L follow from each other, the last column first, without
any others: with d = l_jj and l the column below it, Z_(below, j) = -Z_(below, below) l / d and
z_jj = (1 / d - z'l) / d. With supernodes a parent hands the block of Z that a child needs to it, on
the stack on which the child handed its Schur complement in the factorisation.

Sources: Takahashi, Fagan and Chen (1973), Formation of a sparse bus impedance matrix and its
application to short circuit study; Erisman and Tinney (1975), On computing certain elements of the
inverse of a sparse matrix, Communications of the ACM 18; Lin et al. (2011), SelInv, ACM
Transactions on Mathematical Software 37:40.
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.sparse.layout import (
    CHILD,
    ENTRY,
    ENTRY_START,
    FIRST,
    LARGEST,
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
from pm_gaussgrad.kernels.sparse.panels import invert_front


@apart("float64 1", "int64 1")
def selected_inverse(factor, analysis):
    """The entries of Q^-1 on the pattern of Q, from the factor of Q.

    Returns
    -------
    values : array, shape (entries)
        Of the lower triangle, in the order of the pattern that was analysed; NaN where the factor
        is.
    """
    values = np.empty(analysis[PLACE + 1] - analysis[PLACE])
    if analysis[SUPERNODAL]:
        _by_fronts(factor, analysis, values)
    elif values.size > 0:
        _by_columns(factor, analysis, values)
    return values


@apart("float64 1", "int64 1", "float64 1", result=())
def _by_fronts(factor, analysis, values):
    first, row_start = section(analysis, FIRST), section(analysis, ROW_START)
    panel_start = section(analysis, PANEL_START)
    child, sibling = section(analysis, CHILD), section(analysis, SIBLING)
    relative, shared = section(analysis, RELATIVE), section(analysis, SHARED)
    places, stack = section(analysis, STACK), np.empty(analysis[STACK_SIZE])
    space, memory = np.empty(analysis[LARGEST]), np.empty(analysis[LARGEST])
    for s in range(child.size - 1, -1, -1):
        columns, below = first[s + 1] - first[s], row_start[s + 1] - row_start[s]
        panel = factor[panel_start[s] : panel_start[s + 1]]
        corner = stack[places[s] : places[s] + below * below]
        inverse = space[: panel.size]
        invert_front(panel, columns, corner, below, inverse, memory)
        _gather(inverse, analysis, s, values)
        c = child[s]
        while c >= 0:
            size = row_start[c + 1] - row_start[c]
            handed = stack[places[c] : places[c] + size * size]
            where = relative[row_start[c] : row_start[c + 1]]
            _hand_down(inverse, columns, corner, below, handed, where, shared[c])
            c = sibling[c]


def _gather(inverse, analysis, s, values):
    """Read the entries of the pattern from the panel where they begin."""
    entry_start = section(analysis, ENTRY_START)
    entry, place = section(analysis, ENTRY), section(analysis, PLACE)
    for at in range(entry_start[s], entry_start[s + 1]):
        values[entry[at]] = inverse[place[at]]


@apart("float64 1", "int64", "float64 1", "int64", "float64 1", "int64 1", "int64")
def _hand_down(inverse, columns, corner, below, handed, where, shared):
    """Write the block of a child: its first ``shared`` columns are from the panel."""
    size, height = where.size, columns + below
    for j in range(shared):
        source, target = where[j] * height, j * size
        for i in range(j, size):
            handed[target + i] = inverse[source + where[i]]
    if shared == size:
        return
    begin = where[shared]
    if where[size - 1] - begin == size - 1 - shared:  # neighbours all the way
        for j in range(shared, size):
            length, row = size - j, begin - columns + j - shared
            source = corner[row * (below + 1) : row * (below + 1) + length]
            target = handed[j * (size + 1) : j * (size + 1) + length]
            for i in range(length):
                target[i] = source[i]
        return
    for j in range(shared, size):
        source, target = (where[j] - columns) * below - columns, j * size
        for i in range(j, size):
            handed[target + i] = corner[source + where[i]]


@apart("float64 1", "int64 1", "float64 1", result=())
def _by_columns(factor, analysis, values):
    row_start, target = section(analysis, ROW_START), section(analysis, TARGET)
    n, product, inverse = row_start.size - 1, target.size, np.empty(factor.size)
    for j in range(n - 1, -1, -1):
        begin, end = row_start[j] + j, row_start[j + 1] + j + 1
        scale, total = 1 / factor[begin], 0.0
        for i in range(begin + 1, end):
            inverse[i] = 0
        for i in range(end - 1, begin, -1):
            for k in range(end - 1, i - 1, -1):
                product -= 1
                entry = inverse[target[product]]
                inverse[k] -= entry * factor[i]
                if k > i:
                    inverse[i] -= entry * factor[k]
        for i in range(begin + 1, end):
            inverse[i] *= scale
            total += inverse[i] * factor[i]
        inverse[begin] = (scale - total) * scale
        _gather(inverse[begin:end], analysis, j, values)
