"""One factor of a Kronecker product times a vector, for draws, whitening and diagonals.

An Op instead of two reshapes, because JAX cannot reshape to sizes that a graph computes.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from pm_gaussgrad.kernels.kronecker import factor_product
from pm_gaussgrad.ops.compiled import compiled_kernel
from pm_gaussgrad.ops.signature import Signature, common_float


def products_of_rows(rows, matrices):
    """NumPy's form of :class:`FactorProduct`, over all leading dimensions at once."""
    *_, t, s = matrices.shape
    pieces = rows.shape[-1] // s
    products = matrices @ rows.reshape((*rows.shape[:-1], pieces, s)).mT
    return np.ascontiguousarray(products).reshape((*products.shape[:-2], t * pieces))


class FactorProduct(Op):
    """``(row (n,), matrix (t, s)) -> (n t / s,)``: along the last axis, which is then moved first.

    The row is an array whose last axis has length s. Applied once for each factor of a Kronecker
    product, the last factor first, it multiplies by the product.
    """

    __props__ = ()
    gufunc_signature = "(n),(t,s)->(p)"
    gufunc_spec = (f"{__name__}.products_of_rows", 2, 1)
    signature = Signature(
        "gg.cov.Kronecker",
        (("row", ("n",)), ("matrix", ("t", "s"))),
        (("product", ("p",)),),
        "row",
    )

    def make_node(self, row, matrix):
        row, matrix = common_float(row, matrix)
        [(n,), (t, s)] = row.type.shape, matrix.type.shape
        size = None if None in (n, t, s) else n // s * t
        return Apply(self, [row, matrix], [pt.tensor(dtype=row.dtype, shape=(size,))])

    def infer_shape(self, node, input_shapes):
        (n,), (t, s) = input_shapes
        return [(n // s * t,)]

    def perform(self, node, inputs, output_storage):
        output_storage[0][0] = products_of_rows(*inputs)

    def compiled(self):
        """The numba function and its cache key."""
        return compiled_kernel(factor_product, self.signature)

    def pullback(self, inputs, outputs, cotangents):
        row, matrix = inputs
        product_bar = cotangents[0].reshape((matrix.shape[0], -1))
        row_bar = (product_bar.T @ matrix).ravel()
        return [row_bar, product_bar @ row.reshape((-1, matrix.shape[1]))]
