"""Cholesky factors of matrices that may be singular up to rounding.

A singular matrix has a pivot that is zero up to rounding, positive or negative by chance, and
relative to its diagonal entry as large as eps times the squared norm of the weights with which
the rows before it explain its row. What tells it from a pivot that is small but right is the
smallest eigenvalue of the matrix scaled to unit diagonal, C = D^-1/2 A D^-1/2, D = diag(A),
which does not see the units of the observations. It is at most the Rayleigh quotient of
x = C^-1 s, one step of inverse iteration from a vector s, and about that:

    rho = x' C x / x' x = |y|^2 / |D^1/2 v|^2,    y = L^-1 D^1/2 s,    v = L'^-1 y.

The matrix counts as singular where rho <= (1 + sqrt(n)) eps: condition numbers of C above about
1e15 for n = 10 and 1e14 for n = 1000. Of singular matrices (intrinsic autoregressions,
A A' with A (n, n - 1), covariances with a repeated input), n from 2 to 2000, rounding leaves
rho at 1.5 eps for n = 2 and 6 eps at most.

Sources: Higham (2002), Accuracy and Stability of Numerical Algorithms, 2nd ed., sections 10.1
(the error of a factorisation in terms of C) and 15.3; Cline, Moler, Stewart and Wilkinson
(1979), An estimate for the condition number of a matrix.
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.lapack import cholesky

# Above this share of its diagonal entry a pivot of rounding would need weights of 1e6.
SUSPECT = 1e-3
# The multiples of the golden ratio modulo one: no two entries of s are nearly equal, so that the
# difference of two rows, which is zero where an observation is repeated, is not orthogonal to s.
_GOLDEN = 0.6180339887498949


def start_entry(j):
    """Entry j of the vector s, between 1/2 and 3/2."""
    return 0.5 + (j * _GOLDEN) % 1.0


def rounding_level(n, eps):
    """The largest eigenvalue of a matrix with unit diagonal that counts as zero."""
    return (1 + n**0.5) * eps


@apart("float64 2")
def definite_cholesky(a):
    """Overwrite symmetric ``a`` (n, n) by its lower Cholesky factor; by NaN where it has none.

    That is where a pivot is not positive, or the matrix is singular up to rounding. The strict
    upper triangle is neither read nor meaningful afterwards.
    """
    n = a.shape[0]
    for j in range(1, n):  # the diagonal, in entries that the factorisation leaves alone
        a[0, j] = a[j, j]
    definite, suspect = cholesky(a), False
    for j in range(1, n):
        suspect |= not a[j, j] * a[j, j] >= SUSPECT * a[0, j]
    if definite and suspect:
        definite = not is_singular(a)
    if not definite:
        a[:] = np.nan


def is_singular(factor):
    """Whether L L' is singular up to rounding; its diagonal stands in the first row of ``factor``.

    The first diagonal entry is the square of the first pivot.
    """
    n = factor.shape[0]
    scales, x = np.empty(n, factor.dtype), np.empty(n, factor.dtype)
    quad, norm = 0.0, 0.0
    for i in range(n):  # loops: solves of many rows would be all of the time to compile this
        scales[i] = np.sqrt(factor[0, i]) if i > 0 else factor[0, 0]
        value = scales[i] * start_entry(i)
        for j in range(i):
            value -= factor[i, j] * x[j]
        x[i] = value / factor[i, i]
        quad += x[i] * x[i]
    for i in range(n - 1, -1, -1):
        x[i] /= factor[i, i]
        for j in range(i):
            x[j] -= factor[i, j] * x[i]
        norm += (scales[i] * x[i]) ** 2
    return not quad > rounding_level(n, np.finfo(factor.dtype).eps) * norm


def constant_cholesky(matrix):
    """:func:`definite_cholesky` of arrays (..., n, n), in the interpreter; a new array."""
    matrix = np.asarray(matrix)
    factor = np.full(matrix.shape, np.nan)
    for index in np.ndindex(matrix.shape[:-2]):
        try:
            lower = np.linalg.cholesky(matrix[index])
        except np.linalg.LinAlgError:
            continue
        if not _is_singular_constant(lower, np.diagonal(matrix[index])):
            factor[index] = lower
    return factor


def _is_singular_constant(lower, diagonal):
    n = diagonal.size
    if (np.diagonal(lower) ** 2 >= SUSPECT * diagonal).all():
        return False
    scales = np.sqrt(diagonal)
    white = np.linalg.solve(lower, scales * start_entry(np.arange(n)))
    weights = scales * np.linalg.solve(lower.T, white)
    level = rounding_level(n, np.finfo(lower.dtype).eps)
    return not white @ white > level * (weights @ weights)
