"""LAPACK and BLAS calls for kernels, by the names of what they compute.

Every routine works in place on C-contiguous arrays and reads or writes the lower
triangle only; the strict upper triangle is neither read nor meaningful afterwards.
(A C-ordered lower triangle is LAPACK's Fortran-ordered upper triangle, so nothing is
ever transposed in memory.)

The functions are names for numba: their compiled form, straight calls through the
pointers that SciPy exposes, is defined in :mod:`pm_gaussgrad.kernels.lapack_numba`.
They cannot be called from the interpreter.
"""

_INTERPRETED = "this routine exists in compiled kernels only"


def cholesky(a):
    """Overwrite symmetric ``a`` (n, n) by its lower Cholesky factor (xPOTRF).

    Returns
    -------
    bool
        False where a pivot is not positive; ``a`` is then meaningless.
    """
    raise NotImplementedError(_INTERPRETED)


def inverse_from_cholesky(factor):
    """Overwrite the lower Cholesky factor (n, n) by the lower triangle of (L L')^-1 (xPOTRI)."""
    raise NotImplementedError(_INTERPRETED)


def inverse_lower(factor):
    """Overwrite a lower triangular matrix (n, n) by its inverse (xTRTRI)."""
    raise NotImplementedError(_INTERPRETED)


def solve_lower(factor, rows):
    """Overwrite each row r of ``rows`` (m, n) by L^-1 r (xTRSM)."""
    raise NotImplementedError(_INTERPRETED)


def solve_lower_transposed(factor, rows):
    """Overwrite each row r of ``rows`` (m, n) by L'^-1 r (xTRSM)."""
    raise NotImplementedError(_INTERPRETED)


def symmetric_product(matrix, rows, out):
    """Write ``rows @ S`` (m, n) to ``out``, S the symmetric matrix of a lower triangle (xSYMM)."""
    raise NotImplementedError(_INTERPRETED)


def gram(rows, out):
    """Write the lower triangle of ``rows' rows`` (k, k) to ``out``, rows (n, k) (xSYRK)."""
    raise NotImplementedError(_INTERPRETED)


def eigen(a, values):
    """Overwrite symmetric ``a`` (n, n) by its eigenvectors, one a row (xSYEVD).

    The eigenvalues, ascending, are written to ``values`` (n,).

    Returns
    -------
    bool
        False where ``a`` is not finite or the iteration fails; both are then meaningless.
    """
    raise NotImplementedError(_INTERPRETED)


def matrix_product(left, right, out):
    """Write ``left @ right`` to C-contiguous ``out`` (xGEMM; xGEMV for a single row).

    Each factor is C-contiguous or the transpose ``x.T`` of such an array.
    """
    raise NotImplementedError(_INTERPRETED)
