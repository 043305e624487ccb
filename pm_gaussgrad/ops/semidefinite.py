r"""The Cholesky factor of a small matrix that may be singular, an Op.

Pullback: A_bar = sym(L'^-1 phi(L'L_bar) L^-1), phi the lower triangle with half of the diagonal.

Source: Murray (2016), Differentiation of the Cholesky decomposition, eq. 9.
"""

import pytensor.tensor as pt
from pytensor.tensor.blockwise import Blockwise

from pm_gaussgrad.kernels.semidefinite import semidefinite_root as kernel
from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.signature import Signature


class SemidefiniteRoot(CompiledOp):
    """``(matrix (k, k)) -> L (k, k)``: see :mod:`pm_gaussgrad.kernels.semidefinite`."""

    __props__ = ()
    signature = Signature(
        "root of a covariance", (("matrix", ("k", "k")),), (("root", ("k", "k")),), "matrix"
    )
    kernel = staticmethod(kernel)

    def pullback(self, inputs, outputs, cotangents):
        [root], [root_bar] = outputs, cotangents
        identity = pt.eye(root.shape[0], dtype=root.dtype)
        inverse = pt.linalg.solve_triangular(root, identity, lower=True, b_ndim=2)
        inner = pt.tril(root.T @ root_bar) * (1 - identity / 2)
        bar = inverse.T @ inner @ inverse
        # Of a matrix that was rejected nothing is finite.
        unused = pt.eq(pt.abs(root_bar).sum(), 0)
        return [pt.where(unused, 0, (bar + bar.T) / 2)]


def semidefinite_root(matrix):
    """:class:`SemidefiniteRoot`, with batches: (..., k, k) -> (..., k, k)."""
    op = SemidefiniteRoot()
    return (Blockwise(op) if matrix.type.ndim > 2 else op)(matrix)
