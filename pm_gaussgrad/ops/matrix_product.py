"""Inner products of rows as one Op, its pullback two of the same.

PyTensor's ``Dot`` takes numba ten seconds for every combination of memory layouts.
"""

from pm_gaussgrad.kernels.inner_products import inner_products as kernel
from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.signature import Signature


class InnerProducts(CompiledOp):
    """``(left (p, k), right (q, k)) -> left @ right.T``."""

    __props__ = ()
    signature = Signature(
        "inner products",
        (("left", ("p", "k")), ("right", ("q", "k"))),
        (("product", ("p", "q")),),
        "left",
    )
    kernel = staticmethod(kernel)

    def pullback(self, inputs, outputs, cotangents):
        left, right = inputs
        [bar] = cotangents
        return [self(bar, right.T), self(bar.T, left.T)]


def inner_products(left, right):
    """``left @ right.T`` of matrices: (p, k), (q, k) -> (p, q)."""
    return InnerProducts()(left, right)
