"""Symbolic products of Kronecker factors, one axis of the grid at a time."""

import functools
import operator

import pytensor.tensor as pt

from pm_gaussgrad.ops import multiply_factor


def kron(left, right):
    """The product of matrices, (..., k, k), (..., l, l) -> (..., k l, k l)."""
    blocks = left[..., :, None, :, None] * right[..., None, :, None, :]
    rows = pt.join_dims(blocks, start_axis=blocks.type.ndim - 4, n_axes=2)
    return pt.join_dims(rows, start_axis=rows.type.ndim - 2, n_axes=2)


def rowwise_kronecker(left, right):
    """Kronecker products of rows, (c, k), (c, l) -> (c, k l)."""
    return pt.join_dims(left[:, :, None] * right[:, None, :], start_axis=1, n_axes=2)


def on_axis(vector, axis, ndim):
    """A vector along one axis of a grid with ``ndim`` axes."""
    return vector[tuple(slice(None) if j == axis else None for j in range(ndim))]


def product_of(arrays):
    """Of arrays that broadcast; 1 of none."""
    return functools.reduce(operator.mul, arrays, pt.as_tensor(1.0))


def kron_vectors(vectors):
    """The diagonal of a product of diagonal matrices: (..., n_i) -> (..., n)."""
    columns = [vector[..., None] for vector in vectors]
    return along_axes(columns, pt.ones(1, dtype=columns[0].dtype))


def along_axes(matrices, rows):
    """(T_1 x ... x T_k) r for each row r: (..., n) -> (..., n)."""
    for matrix in reversed(matrices):
        rows = multiply_factor(rows, matrix)
    return rows
