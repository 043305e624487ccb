"""Products with a sparse symmetric matrix that is given by the values of its lower triangle."""

import numpy as np

from pm_gaussgrad.kernels.apart import apart


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
    add_product(values, indptr, indices, rows, 0, product)
    return product


@apart("float64 1", "int64 1", "int64 1", "float64 2", "int64", "float64 2", result=())
def add_product(values, indptr, indices, rows, first, product):
    """Add Q r of each row r to ``product``; Q is that of the entries of rows from ``first`` on."""
    for r in range(rows.shape[0]):
        row, out = rows[r], product[r]
        for j in range(indptr.size - 1):
            value, total = row[first + j], 0.0
            for position in range(indptr[j], indptr[j + 1]):
                i = indices[position]
                total += values[position] * row[first + i]
                if i != j:
                    out[first + i] += values[position] * value
            out[first + j] += total


def outer_products(rows, weights, indptr, indices):
    """Entries of sum_i w_i r_i r_i' on the pattern: (m, n), (m) -> (entries).

    Of the lower triangle by columns, as in :func:`multiply`. Rows without weight have no part in
    it, whatever they are.
    """
    values = np.zeros(indices.size)
    add_outer_products(
        np.asarray(rows, np.float64),
        np.asarray(weights, np.float64),
        indptr,
        indices,
        0,
        values,
    )
    return values


@apart("float64 2", "float64 1", "int64 1", "int64 1", "int64", "float64 1", result=())
def add_outer_products(rows, weights, indptr, indices, first, values):
    """Add :func:`outer_products` to ``values``, of the entries of rows from ``first`` on."""
    for r in range(rows.shape[0]):
        if weights[r] == 0:
            continue
        row = rows[r]
        for j in range(indptr.size - 1):
            weighted = weights[r] * row[first + j]
            for position in range(indptr[j], indptr[j + 1]):
                values[position] += weighted * row[first + indices[position]]
