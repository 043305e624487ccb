"""Products of two matrices, each as it is or transposed."""

import numpy as np

from pm_gaussgrad.kernels.lapack import product_of_plain_or_transposed


def matrix_product(left, right, left_transposed, right_transposed):
    """``left @ right`` of C-contiguous matrices, with the transpose in place of either."""
    rows = left.shape[1] if left_transposed else left.shape[0]
    columns = right.shape[0] if right_transposed else right.shape[1]
    product = np.empty((rows, columns), left.dtype)
    product_of_plain_or_transposed(left, right, left_transposed, right_transposed, product)
    return (product,)
