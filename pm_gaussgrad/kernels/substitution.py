"""Triangular solves of many short columns side by side.

The inner loops run along the columns, which are contiguous in each row and independent, so
they compile to vector instructions. (Golub and Van Loan, 2013, Matrix Computations, algorithms
3.1.1 and 3.1.4.)
"""

import numpy as np

# Up to here a plain loop costs less than the call of a BLAS routine.
SHORT = 12
# Rows of that many fit into the fastest cache together.
STRIP = 128


def forward_substitution(factor, columns):
    """Overwrite the columns (k, c) by L^-1 times them."""
    for i in range(columns.shape[0]):
        row = columns[i]
        for j in range(i):
            multiple, above = factor[i, j], columns[j]
            for s in range(row.size):
                row[s] -= multiple * above[s]
        row /= factor[i, i]


def backward_substitution(factor, columns):
    """Overwrite the columns (k, c) by L'^-1 times them."""
    for i in range(columns.shape[0] - 1, -1, -1):
        row = columns[i]
        row /= factor[i, i]
        for j in range(i):
            multiple, above = factor[i, j], columns[j]
            for s in range(row.size):
                above[s] -= multiple * row[s]


def solve_short_rows(factor, rows, white, solved):
    """``|L^-1 r|^2`` of each row, in one pass over them.

    ``L^-1 r`` is written to ``white``, then ``L'^-1 L^-1 r`` to ``solved``. Both may be the memory
    of the rows, and the same.
    """
    m, n = rows.shape
    quad = np.zeros(m, rows.dtype)
    columns = np.zeros((n, min(m, STRIP)), rows.dtype)
    for start in range(0, m, STRIP):
        # The last strip is filled up with what the one before it left.
        count = min(m - start, STRIP)
        for i in range(n):
            for s in range(count):
                columns[i, s] = rows[start + s, i]
        forward_substitution(factor, columns)
        for i in range(n):
            for s in range(count):
                white[start + s, i] = columns[i, s]
                quad[start + s] += columns[i, s] ** 2
        backward_substitution(factor, columns)
        for i in range(n):
            for s in range(count):
                solved[start + s, i] = columns[i, s]
    return quad
