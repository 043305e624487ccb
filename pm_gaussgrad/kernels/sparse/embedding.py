"""Arguments and results of kernels of structures: any precision outside, double inside.

A factor is saved as an array (n, h), as wide as its columns are high on average: shapes of saved
arrays follow from those of parameters.
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.sparse.factorise import factorise_into
from pm_gaussgrad.kernels.sparse.layout import NODES

# Rows that are solved for together, each of which reads the factor once.
TOGETHER = 8


def pointers(column_starts, row_indices):
    """Where columns begin and the last one ends, (n + 1), as of ``scipy.sparse``."""
    return np.append(column_starts, row_indices.size)


def unit_rows(start, stop, n):
    """Rows of the identity, (stop - start, n)."""
    unit = np.zeros((stop - start, n))
    for i in range(stop - start):
        unit[i, start + i] = 1
    return unit


def saved_factor(values, analysis, height):
    """The factor of a matrix, at the front of an array (n, h)."""
    n = analysis[NODES]
    factor = np.empty(n * height.size)
    factorise_into(values, analysis, factor)
    return factor.reshape((n, height.size))


@apart("float64 1", "int64 1")
def count_twice(bar, column_starts):
    """The cotangent of the lower triangle from that of all entries, in place.

    An entry below the diagonal stands for the one above it, too.
    """
    start = 0
    for j in range(column_starts.size):
        stop = column_starts[j + 1] if j + 1 < column_starts.size else bar.size
        for at in range(start + 1, stop):
            bar[at] *= 2
        start = stop
    return bar
