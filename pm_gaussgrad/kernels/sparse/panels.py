"""Small panels, for which the call of a BLAS routine costs more than plain loops.

Panels, square matrices and the triangle that is read of them are those of
:mod:`pm_gaussgrad.kernels.lapack_panels`, flat. All inner loops run along what is contiguous.
"""

import numpy as np

from pm_gaussgrad.kernels.lapack_panels import (
    extend_inverse,
    factor_panel,
    invert_panel,
    subtract_outer_product,
)

# Up to so many columns, rows or multiplications loops are faster.
_FEW_COLUMNS, _FEW_ROWS = 16, 24
_FEW_PRODUCTS, _FEW_INVERSE_PRODUCTS = 2000, 6000


def factor_front(panel, columns, matrix, below):
    """Factor a panel [A; B], and subtract B B' from the matrix (below, below); whether it could."""
    height = columns + below
    if columns <= _FEW_COLUMNS or height <= _FEW_ROWS:
        for j in range(columns):
            column = panel[j * height + j : (j + 1) * height]
            _subtract_multiples(column, panel, j, height, j)
            if not column[0] > 0:
                return False
            root = np.sqrt(column[0])
            inverse = 1 / root
            for i in range(column.size):
                column[i] *= inverse
            column[0] = root
    elif not factor_panel(panel.reshape((columns, height))):
        return False
    if columns * below * below <= _FEW_PRODUCTS:
        for j in range(below):
            column = matrix[j * below + j : (j + 1) * below]
            _subtract_multiples(column, panel, columns + j, height, columns)
    else:
        subtract_outer_product(panel.reshape((columns, height)), matrix.reshape((below, below)))
    return True


def _subtract_multiples(column, panel, start, stride, count):
    """Subtract from a column parts of others, each as often as its own first entry says.

    They are ``count`` parts of its length, at ``start``, ``start + stride``, ...
    """
    size = column.size
    for _ in range(count // 4):
        one, two = panel[start : start + size], panel[start + stride : start + stride + size]
        start += 2 * stride
        three, four = panel[start : start + size], panel[start + stride : start + stride + size]
        start += 2 * stride
        a, b, c, d = one[0], two[0], three[0], four[0]
        for i in range(size):
            column[i] -= (a * one[i] + b * two[i]) + (c * three[i] + d * four[i])
    for _ in range(count % 4):
        one = panel[start : start + size]
        start += stride
        a = one[0]
        for i in range(size):
            column[i] -= a * one[i]


def invert_front(panel, columns, corner, below, inverse, memory):
    """From a factor [L; B] and the inverse at the rows of B, its columns for the panel.

    Column by column, the last first: below the diagonal -Z l / l_jj, where Z is the inverse at
    these rows and l the column of the factor below its diagonal l_jj (Takahashi et al., 1973).
    """
    height = columns + below
    if columns * below * below > _FEW_INVERSE_PRODUCTS or (
        columns > _FEW_COLUMNS and height > _FEW_ROWS
    ):
        shape = (columns, height)
        solved = memory[: columns * below].reshape((columns, below))
        invert_panel(panel.reshape(shape), inverse.reshape(shape), solved)
        if below > 0:
            extend_inverse(inverse.reshape(shape), solved, corner.reshape((below, below)))
        return
    for j in range(columns - 1, -1, -1):
        start, stop = j * height + j + 1, (j + 1) * height
        factor, entries = panel[start:stop], inverse[start:stop]
        for i in range(entries.size):
            entries[i] = 0
        for k in range(j + 1, columns):
            part = k - j - 1
            _subtract_product(inverse[k * height + k : (k + 1) * height], factor, entries, part)
        for k in range(below):
            part = columns - j - 1 + k
            _subtract_product(corner[k * below + k : (k + 1) * below], factor, entries, part)
        scale, total = 1 / panel[start - 1], 0.0
        for i in range(entries.size):
            entries[i] *= scale
            total += entries[i] * factor[i]
        inverse[start - 1] = (scale - total) * scale


def _subtract_product(column, factor, entries, part):
    """Subtract the product of a symmetric matrix and a vector, as far as one column makes it.

    The column begins at its diagonal, which is at ``part`` of the vectors.
    """
    size = column.size
    multiple, vector, target = factor[part], factor[part : part + size], entries[part : part + size]
    for i in range(size):
        target[i] -= multiple * column[i]
    target[0] -= dot_after_first(column, vector)


def dot_after_first(one, other):
    """The dot product without the first entries, by four sums side by side."""
    a = b = c = d = 0.0
    whole = (one.size - 1) // 4 * 4 + 1
    for i in range(1, whole, 4):
        a += one[i] * other[i]
        b += one[i + 1] * other[i + 1]
        c += one[i + 2] * other[i + 2]
        d += one[i + 3] * other[i + 3]
    for i in range(whole, one.size):
        a += one[i] * other[i]
    return (a + b) + (c + d)
