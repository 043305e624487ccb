"""Products of matrices as one Op, its pullback two of the same.

PyTensor's ``Dot`` takes numba ten seconds and more for every combination of memory layouts.
"""

from functools import cached_property

import pytensor.tensor as pt
from pytensor.compile.mode import optdb
from pytensor.graph.basic import Constant
from pytensor.graph.rewriting.basic import GraphRewriter, copy_stack_trace
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.math import Dot

from pm_gaussgrad.kernels.matrix_product import matrix_product as kernel
from pm_gaussgrad.ops.backends.loading import has_ops
from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.signature import Signature


class MatrixProduct(CompiledOp):
    """``(left (p, k), right (k, q)) -> left @ right``; a transposed factor is given as (k, p).

    A kernel takes arrays that are C-contiguous: with the transposition in the Op, none is copied.
    """

    __props__ = ("left_transposed", "right_transposed")
    kernel = staticmethod(kernel)

    def __init__(self, left_transposed=False, right_transposed=False):
        self.left_transposed, self.right_transposed = left_transposed, right_transposed

    @cached_property
    def signature(self):
        left = ("k", "p") if self.left_transposed else ("p", "k")
        right = ("q", "k") if self.right_transposed else ("k", "q")
        transposed = {name: int(getattr(self, name)) for name in self.__props__}
        return Signature(
            "matrix product",
            (("left", left), ("right", right)),
            (("product", ("p", "q")),),
            "left",
            facts=tuple(transposed.items()),
        )

    def pullback(self, inputs, outputs, cotangents):
        left, right = inputs
        [bar] = cotangents
        of_left, of_right = self.left_transposed, self.right_transposed
        if of_left:
            left_bar = MatrixProduct(of_right, True)(right, bar)
        else:
            left_bar = MatrixProduct(False, not of_right)(bar, right)
        if of_right:
            return [left_bar, MatrixProduct(True, of_left)(bar, left)]
        return [left_bar, MatrixProduct(not of_left, False)(left, bar)]


def matrix_product(left, right):
    """``left @ right`` of two matrices: (p, k), (k, q) -> (p, q)."""
    (left, left_transposed), (right, right_transposed) = map(_untransposed, (left, right))
    return MatrixProduct(left_transposed, right_transposed)(left, right)


def inner_products(left, right):
    """``left @ right.T`` of matrices: (p, k), (q, k) -> (p, q)."""
    return matrix_product(left, pt.matrix_transpose(right))


def _untransposed(matrix):
    """What a matrix is the transpose of, and whether it is one; else itself."""
    matrix = pt.as_tensor_variable(matrix)
    if matrix.owner is not None and isinstance(matrix.owner.op, DimShuffle):
        if matrix.owner.op.is_matrix_transpose:
            return matrix.owner.inputs[0], True
    elif isinstance(matrix, Constant) and not matrix.data.flags.c_contiguous:
        return pt.constant(matrix.data.T), True
    return matrix, False


class ProductsOnNumba(GraphRewriter):
    """Replace PyTensor's products of matrices where a graph has Ops of this package.

    In a graph for numba: there a product takes an order of magnitude longer to compile than a
    structure's likelihood.
    """

    def add_requirements(self, fgraph):
        pass

    def apply(self, fgraph):
        if not has_ops(fgraph):
            return
        for node in fgraph.toposort():
            if not isinstance(node.op, Dot):
                continue
            [out] = node.outputs
            if out.type.dtype in ("float32", "float64"):
                product = matrix_product(*(_cast(x, out.type.dtype) for x in node.inputs))
                if product.type == out.type:
                    copy_stack_trace(out, product)
                    fgraph.replace(out, product, reason="product of matrices")


def _cast(matrix, dtype):
    """A matrix with another dtype; a constant is cast here, once."""
    if isinstance(matrix, Constant):
        return pt.constant(matrix.data.astype(dtype, copy=False))
    return pt.cast(matrix, dtype)


optdb.register("pm_gaussgrad_products", ProductsOnNumba(), "numba", position=49.9)
