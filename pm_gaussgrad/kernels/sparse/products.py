"""Products with a sparse symmetric matrix that is given by the values of its lower triangle."""

import numpy as np


def multiply(values, indptr, indices, rows):
    """Q r of each row r: (m, n) -> (m, n).

    Parameters
    ----------
    values : array, shape (entries)
    indptr : array of int, shape (n + 1)
    indices : array of int, shape (entries)
        The lower triangle by columns.
    rows : array, shape (m, n)
    """
    product = np.zeros(rows.shape)
    for r in range(rows.shape[0]):
        row, out = rows[r], product[r]
        for j in range(indptr.size - 1):
            value, total = row[j], 0.0
            for position in range(indptr[j], indptr[j + 1]):
                i = indices[position]
                total += values[position] * row[i]
                if i != j:
                    out[i] += values[position] * value
            out[j] += total
    return product
