"""One factor of a Kronecker product times rows, for draws, whitening and diagonals.

An Op instead of two reshapes, because JAX cannot reshape to sizes that a graph computes.
"""

import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.tensor.blockwise import Blockwise

from pm_gaussgrad.kernels.kronecker import factor_product
from pm_gaussgrad.ops.batching import rows_last
from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.signature import Signature, common_float


class FactorProduct(CompiledOp):
    """``(rows (m, n), matrix (t, s)) -> (m, n t / s)``: along the last axis, then moved first.

    A row is an array whose last axis has length s. Applied once for each factor of a Kronecker
    product, the last factor first, it multiplies by the product.
    """

    __props__ = ()
    gufunc_signature = "(m,n),(t,s)->(m,p)"
    signature = Signature(
        "gg.cov.Kronecker",
        (("rows", ("m", "n")), ("matrix", ("t", "s"))),
        (("product", ("m", "p")),),
        "rows",
    )
    kernel = staticmethod(factor_product)

    def make_node(self, rows, matrix):
        rows, matrix = common_float(rows, matrix)
        [(m, n), (t, s)] = rows.type.shape, matrix.type.shape
        size = None if None in (n, t, s) else n // max(s, 1) * t
        return Apply(self, [rows, matrix], [pt.tensor(dtype=rows.dtype, shape=(m, size))])

    def infer_shape(self, node, input_shapes):
        (m, n), (t, s) = input_shapes
        return [(m, n // pt.maximum(s, 1) * t)]

    def pullback(self, inputs, outputs, cotangents):
        rows, matrix = inputs
        (m, n), (t, s) = rows.shape, matrix.shape
        product_bar = cotangents[0].reshape((m, t, n // s))
        rows_bar = (product_bar.mT @ matrix).reshape((m, n))
        return [rows_bar, (product_bar @ rows.reshape((m, n // s, s))).sum(axis=0)]


def multiply_factor(rows, matrix):
    """:class:`FactorProduct` of rows (..., n) and a matrix (..., t, s)."""
    batch_ndim = matrix.type.ndim - 2
    op = Blockwise(FactorProduct()) if batch_ndim else FactorProduct()
    rows, restore = rows_last(pt.as_tensor_variable(rows), batch_ndim)
    return restore(op(rows, matrix))
