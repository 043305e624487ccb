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


def outer_products(rows, weights, indptr, indices):
    """Entries of sum_i w_i r_i r_i' on the pattern: (m, n), (m) -> (entries).

    Of the lower triangle by columns, as in :func:`multiply`. Rows without weight have no part in
    it, whatever they are.
    """
    values = np.zeros(indices.size)
    for r in range(rows.shape[0]):
        if weights[r] == 0:
            continue
        row = rows[r]
        for j in range(indptr.size - 1):
            weighted = weights[r] * row[j]
            for position in range(indptr[j], indptr[j + 1]):
                values[position] += weighted * row[indices[position]]
    return values
