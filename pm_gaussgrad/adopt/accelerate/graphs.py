"""Which variable of a graph is made of which, and how."""

import numpy as np
from pytensor.assumptions import LOWER_TRIANGULAR
from pytensor.graph.basic import Constant, equal_computations
from pytensor.tensor.basic import Alloc
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.math import Dot
from pytensor.tensor.subtensor import AdvancedIncSubtensor


def op_of(x):
    """What makes a variable, without what repeats it over a batch."""
    op = None if x.owner is None else x.owner.op
    return op.core_op if isinstance(op, Blockwise) else op


def are_same(a, b) -> bool:
    """Whether two variables are made in the same way of the same ones."""
    return a is b or equal_computations([a], [b])


def is_lower(factor) -> bool:
    """Whether it is a square lower triangle: declared by PyMC, made of one, known to PyTensor."""
    rows, columns = factor.type.shape[-2:]
    if getattr(factor.tag, "lower_triangular", False):
        return None in (rows, columns) or rows == columns
    # The loadings of a factor model are a triangle of few columns.
    square = rows == columns is not None
    return square and (_is_filled_below(factor) or LOWER_TRIANGULAR.holds(factor))


def _is_filled_below(factor) -> bool:
    """Whether it is zeros of which nothing but the lower triangle was set, by constant places."""
    op = op_of(factor)
    if not (isinstance(op, AdvancedIncSubtensor) and op.set_instead_of_inc):
        return False
    zeros, _, *index = factor.owner.inputs
    if not (_is_zero(zeros) and len(index) == 2 and factor.type.ndim == 2):
        return False
    known = all(isinstance(x, Constant) and x.type.ndim == 1 for x in index)
    return known and bool((index[0].data >= index[1].data).all()) and index[1].data.min() >= 0


def _is_zero(x) -> bool:
    if isinstance(op_of(x), Alloc):
        x = x.owner.inputs[0]
    return isinstance(x, Constant) and not np.any(x.data)


def own_factor(matrix):
    """F of F F'; None where a matrix is not such a product."""
    if not _is_product(matrix):
        return None
    left, right = matrix.owner.inputs
    below = _transposed(right)
    if below is None and isinstance(left, Constant) and isinstance(right, Constant):
        same = np.array_equal(left.data, np.swapaxes(right.data, -1, -2))
        return left if same else None
    return left if below is not None and are_same(left, below) else None


def _is_product(x) -> bool:
    return isinstance(op_of(x), Dot) and all(y.type.ndim == x.type.ndim for y in x.owner.inputs)


def _transposed(x):
    """The matrix of which another is the transpose; None where it is not one."""
    op, ndim = op_of(x), x.type.ndim
    if isinstance(op, DimShuffle):
        order = (*range(ndim - 2), ndim - 1, ndim - 2)
        swaps = op.new_order == order and x.owner.inputs[0].type.ndim == ndim
        return x.owner.inputs[0] if swaps else None
    return None
