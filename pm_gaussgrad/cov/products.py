"""Products of rows with matrices, and other arithmetic that structures share."""

import pytensor.tensor as pt


def rows_times(rows, matrix):
    """r' A for each row r, of one matrix or one a batch: (..., n), (..., n, k) -> (..., k).

    Arrays or tensors.
    """
    if matrix.ndim == 2:
        return rows @ matrix
    return (rows[..., None, :] @ matrix)[..., 0, :]


def standardised_by(alpha, precision):
    """Deviations alpha / c from conditional means in units of 1 / sqrt(c), and log(1 / c) / 2."""
    deviations = alpha / pt.sqrt(precision)
    return deviations, -pt.log(precision) / 2 + pt.zeros_like(deviations)
