"""Small panels, for which the call of a BLAS routine costs more than plain loops.

Panels, square matrices and the triangle that is read of them are those of
:mod:`pm_gaussgrad.kernels.lapack_panels`, flat. All inner loops run along what is contiguous.
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.lapack_panels import (
    extend_inverse,
    factor_panel,
    invert_panel,
    subtract_outer_product,
)

# Up to so many columns, rows or multiplications loops are faster.
_FEW_COLUMNS, _FEW_ROWS = 16, 24
_FEW_PRODUCTS, _FEW_INVERSE_PRODUCTS = 2000, 6000


@apart("float64 1", "int64", "float64 1", "int64")
def factor_front(panel, columns, matrix, below):
    """Factor a panel [A; B], and subtract B B' from the matrix (below, below); whether it could."""
    height = columns + below
    if columns <= _FEW_COLUMNS or height <= _FEW_ROWS:
        for j in range(columns):
            column = panel[j * height + j : (j + 1) * height]
            _subtract_multiples(column, panel, j, height, j, panel, j, height)
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
            start = columns + j
            _subtract_multiples(column, panel, start, height, columns, panel, start, height)
    else:
        subtract_outer_product(panel.reshape((columns, height)), matrix.reshape((below, below)))
    return True


def _subtract_multiples(target, source, start, stride, count, weights, at, step):
    """Subtract the sum of ``count`` parts of the source, each as long as the target, with weights.

    They are at ``start``, ``start + stride``, ..., their weights at ``at``, ``at + step``, ...
    """
    size = target.size
    for _ in range(count // 4):
        one, two = source[start : start + size], source[start + stride : start + stride + size]
        a, b = weights[at], weights[at + step]
        start, at = start + 2 * stride, at + 2 * step
        three, four = source[start : start + size], source[start + stride : start + stride + size]
        c, d = weights[at], weights[at + step]
        start, at = start + 2 * stride, at + 2 * step
        for i in range(size):
            target[i] -= (a * one[i] + b * two[i]) + (c * three[i] + d * four[i])
    for _ in range(count % 4):
        one, a = source[start : start + size], weights[at]
        start, at = start + stride, at + step
        for i in range(size):
            target[i] -= a * one[i]


@apart("float64 1", "int64", "float64 1", "int64", "float64 1", "float64 1")
def invert_front(panel, columns, corner, below, inverse, memory):
    """From a factor [L; B] and the inverse at the rows of B, its columns for the panel.

    Column by column, the last first: below the diagonal -Z l / l_jj, where Z is the inverse at
    these rows and l the column of the factor below its diagonal l_jj (Takahashi et al., 1973).
    Of the corner, and of these columns among themselves, both triangles are written.
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
    for j in range(below):
        for i in range(j + 1, below):
            corner[i * below + j] = corner[j * below + i]
    for j in range(columns - 1, -1, -1):
        start, stop, own = j * height + j + 1, (j + 1) * height, columns - j - 1
        factor, entries = panel[start:stop], inverse[start:stop]
        rest = entries[own:]
        for i in range(below):
            rest[i] = 0
        _subtract_multiples(rest, inverse, stop + columns, height, own, factor, 0, 1)
        _subtract_multiples(rest, corner, 0, below, below, factor, own, 1)
        for i in range(own):
            begin = start + (i + 1) * height
            entries[i] = -_dot(factor, inverse[begin : begin + entries.size])
        scale = 1 / panel[start - 1]
        for i in range(entries.size):
            entries[i] *= scale
        for i in range(own):  # both triangles, which what comes next reads
            inverse[start - 1 + (i + 1) * height] = entries[i]
        inverse[start - 1] = (scale - _dot(entries, factor)) * scale


def _dot(one, other):
    """The dot product, by four sums side by side."""
    a = b = c = d = 0.0
    whole = one.size // 4 * 4
    for i in range(0, whole, 4):
        a += one[i] * other[i]
        b += one[i + 1] * other[i + 1]
        c += one[i + 2] * other[i + 2]
        d += one[i + 3] * other[i + 3]
    for i in range(whole, one.size):
        a += one[i] * other[i]
    return (a + b) + (c + d)
