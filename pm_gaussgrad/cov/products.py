"""Products of rows with matrices, for draws and whitening."""


def rows_times(rows, matrix):
    """r' A for each row r, of one matrix or one a batch: (..., n), (..., n, k) -> (..., k).

    Arrays or tensors.
    """
    if matrix.ndim == 2:
        return rows @ matrix
    return (rows[..., None, :] @ matrix)[..., 0, :]
