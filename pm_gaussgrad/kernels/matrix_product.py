"""Inner products of the rows of two matrices."""

import numpy as np

from pm_gaussgrad.kernels.lapack import matrix_product


def inner_products(left, right):
    """``left @ right.T``: (p, k), (q, k) -> (p, q)."""
    product = np.empty((left.shape[0], right.shape[0]), left.dtype)
    matrix_product(left, right.T, product)
    return (product,)
