"""Fisher information of a sparse matrix, as covariance or as precision, in one Op."""

from pm_gaussgrad.kernels.sparse_matrix import information
from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.signature import Signature


class SparseInformation(CompiledOp):
    """``(tangents (p, q), values (q), *pattern) -> 1/2 tr(Q^-1 dQ_a Q^-1 dQ_b) (p, p)``."""

    __props__ = ()
    signature = Signature(
        "information of a sparse matrix",
        (
            ("tangents", ("p", "q")),
            ("values", ("q",)),
            ("column_starts", ("n",)),
            ("row_indices", ("q",)),
            ("analysis", ("a",)),
        ),
        (("information", ("p", "p")),),
        "tangents",
    )
    index_inputs = ("column_starts", "row_indices", "analysis")
    kernel = staticmethod(information)


def sparse_information(tangents, values, column_starts, row_indices, analysis):
    """Of directions of the values of the lower triangle: (p, q) -> (p, p), without gradient."""
    return SparseInformation()(tangents, values, column_starts, row_indices, analysis)
