"""The Cholesky factor of a small matrix that may be singular.

A pivot that is zero but for rounding is a number so small that its square has no part in sums, and
not zero: what is multiplied by the column is as small, and the slope by the matrix, in which both
are divided by the pivot, is what it is in the limit.

Source: Higham (1990), Analysis of the Cholesky decomposition of a semi-definite matrix (the error
of pivots).
"""

import numpy as np

# Pivots that are rounding, in units of k eps of the diagonal.
ROUNDING = 8


def semidefinite_root(matrix):
    """Lower triangular L, L L' = A, of A (k, k); NaN where it is not positive semidefinite."""
    k = matrix.shape[0]
    root = np.zeros((k, k), matrix.dtype)
    scale = 0.0
    for j in range(k):
        scale = max(scale, np.abs(matrix[j, j]))
    floor = np.finfo(matrix.dtype).eps ** 2 * (np.sqrt(scale) if scale > 0 else 1.0)
    for j in range(k):
        slack = ROUNDING * k * np.finfo(matrix.dtype).eps * np.abs(matrix[j, j])
        pivot = matrix[j, j]
        for a in range(j):
            pivot -= root[j, a] ** 2
        if not pivot >= -slack:
            root[:] = np.nan
            return (root,)
        singular = pivot <= slack
        root[j, j] = floor if singular else np.sqrt(pivot)
        for i in range(j + 1, k):
            entry = matrix[i, j]
            for a in range(j):
                entry -= root[i, a] * root[j, a]
            if not singular:
                root[i, j] = entry / root[j, j]
            elif not np.abs(entry) <= np.sqrt(slack * np.abs(matrix[i, i])):
                root[:] = np.nan
                return (root,)
    return (root,)
