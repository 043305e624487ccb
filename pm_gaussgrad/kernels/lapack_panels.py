"""LAPACK and BLAS calls on panels of a factor, by the names of what they compute.

A panel holds some columns of a lower trapezoid [A; B], A (k, k) symmetric or triangular and B
(h - k, k), as the rows of a C-contiguous array (k, h): what is below the diagonal there is to the
right of it here. Square matrices beside it are kept in the same way, and of all of them only this
triangle is read and written.

As in :mod:`pm_gaussgrad.kernels.lapack`, these functions are what is computed by compiled kernels,
through the pointers of :mod:`pm_gaussgrad.kernels.lapack_panels_numba`.
"""

import numpy as np


def factor_panel(panel):
    """Overwrite [A; B] by the Cholesky factor L of A and B L'^-1 (xPOTRF, xTRSM).

    Returns
    -------
    bool
        False where a pivot is not positive; the panel is then meaningless.
    """
    k = len(panel)
    try:
        factor = np.linalg.cholesky(_symmetric(panel[:, :k]))
    except np.linalg.LinAlgError:
        return False
    _set_upper(panel[:, :k], factor.T)
    panel[:, k:] = _solved(factor, panel[:, k:])
    return bool(np.isfinite(np.diag(factor)).all())


def subtract_outer_product(panel, matrix):
    """Subtract B B' from a symmetric matrix (h - k, h - k) (xSYRK)."""
    below = panel[:, len(panel) :]
    _set_upper(matrix, matrix - below.T @ below)


def invert_panel(panel, inverse, memory):
    """From a factor [L; B] write (L L')^-1, and Y' = L'^-1 B' (xPOTRI, xTRSM).

    Parameters
    ----------
    panel, inverse : array, shape (k, h)
        The second is written to, in its first k columns.
    memory : array, shape (k, h - k)
        Y' is written to it.
    """
    k = len(panel)
    root = _solved(np.triu(panel[:, :k]).T, np.eye(k))
    _set_upper(inverse[:, :k], root.T @ root)
    memory[:] = root.T @ panel[:, k:]


def extend_inverse(inverse, memory, corner):
    """Turn [(L L')^-1; .] and Y' into columns of an inverse with a corner C (xSYMM, xGEMM).

    They are [(L L')^-1 + Y' C Y; -C Y].
    """
    k = len(inverse)
    inverse[:, k:] = -memory @ _symmetric(corner)
    _set_upper(inverse[:, :k], inverse[:, :k] - memory @ inverse[:, k:].T)


def _set_upper(matrix, upper):
    where = np.triu_indices(len(matrix))
    matrix[where] = upper[where]


def _symmetric(upper):
    return np.triu(upper) + np.triu(upper, 1).T


def _solved(factor, columns):
    return np.linalg.solve(factor, columns)
