"""The diagonal of (L L')^-1 from a lower triangular L, with nothing but L^-1 in memory."""

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.blockwise import Blockwise

from pm_gaussgrad.kernels.lapack import inverse_lower
from pm_gaussgrad.kernels.symmetric import copy_lower
from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.signature import Signature

_SIGNATURE = Signature(
    "inverse_diagonal", (("factor", ("n", "n")),), (("diagonal", ("n",)),), "factor"
)


def _squared_column_norms(factor):
    inverse = copy_lower(factor)
    inverse_lower(inverse)
    norms = np.zeros(factor.shape[0], factor.dtype)
    for i in range(norms.size):
        for j in range(i + 1):
            norms[j] += inverse[i, j] ** 2
    return (norms,)


class InverseDiagonal(CompiledOp):
    """``factor (n, n) -> diagonal (n,)`` of (L L')^-1, L the lower triangle of the factor.

    The squared norms of the columns of X = L^-1, in n^3 / 3 flops. With D = diag(diagonal_bar),
    the cotangent of L is the lower triangle of -2 X'X D X'.
    """

    __props__ = ()
    signature = _SIGNATURE
    kernel = staticmethod(_squared_column_norms)

    def pullback(self, inputs, outputs, cotangents):
        [factor], [diagonal_bar] = inputs, cotangents
        identity = pt.eye(factor.shape[0], dtype=factor.dtype)
        inverse = pt.linalg.solve_triangular(factor, identity, lower=True, b_ndim=2)
        return [pt.tril(-2 * (inverse.T @ inverse * diagonal_bar) @ inverse.T)]


def inverse_diagonal(factor):
    """diag((L L')^-1) of lower triangular factors: (..., n, n) -> (..., n)."""
    factor = pt.as_tensor_variable(factor)
    op = InverseDiagonal()
    return op(factor) if factor.type.ndim == 2 else Blockwise(op)(factor)
