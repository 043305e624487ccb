"""Which matrices of a graph are diagonal, and their entries."""

import numpy as np
import pytensor.tensor as pt
from pytensor.assumptions import DIAGONAL
from pytensor.graph.basic import Constant
from pytensor.scalar import Add, Mul
from pytensor.tensor.basic import AllocDiag, Eye
from pytensor.tensor.elemwise import DimShuffle, Elemwise

from pm_gaussgrad.adopt.accelerate.matrices import proves
from pm_gaussgrad.cov import Diagonal


@proves
def of_diagonal(matrix):
    """A diagonal matrix."""
    entries = diagonal_of(matrix) if matrix.type.ndim == 2 else None
    return None if entries is None else as_diagonal(entries, matrix)


def as_diagonal(entries, matrix):
    """With the length of the matrix, where that is known."""
    n = matrix.type.shape[-1]
    return Diagonal(entries) if entries.type.ndim or n is None else Diagonal(entries, size=n)


def is_elemwise(x, scalar_op) -> bool:
    """Whether a variable is made by an elementwise operation of a kind."""
    op = None if x.owner is None else x.owner.op
    return isinstance(op, Elemwise) and isinstance(op.scalar_op, scalar_op)


def is_spread(x, matrix) -> bool:
    """Whether an operation by entries repeats x over what it makes: a number is in all entries."""
    return x.type.broadcastable != matrix.type.broadcastable


def as_scalar(x):
    """The number that a tensor repeats, whatever it is multiplied with; None if it is not one."""
    return x.reshape(()) if all(x.type.broadcastable) else None


def diagonal_of(matrix):
    """The entries of a diagonal matrix (n, n): (n), or () where all are one number.

    None where the matrix is not known to be diagonal.
    """
    if isinstance(matrix, Constant):
        entries = np.diagonal(matrix.data)
        if not np.array_equal(np.diag(entries), matrix.data):
            return None
        same = entries.size > 0 and (entries == entries[0]).all()
        return pt.constant(entries[0] if same else entries)
    op = None if matrix.owner is None else matrix.owner.op
    if isinstance(op, Eye):
        return _of_eye(matrix)
    if isinstance(op, AllocDiag):
        plain = op.offset == 0 and (op.axis1, op.axis2) == (0, 1)
        return matrix.owner.inputs[0] if plain and matrix.type.ndim == 2 else None
    if is_elemwise(matrix, Mul):
        return _of_product(matrix.owner.inputs)
    if is_elemwise(matrix, Add):
        if any(is_spread(x, matrix) for x in matrix.owner.inputs):
            return None
        parts = [diagonal_of(x) for x in matrix.owner.inputs]
        return None if any(x is None for x in parts) else sum(parts[1:], parts[0])
    return pt.diagonal(matrix) if DIAGONAL.holds(matrix) else None


def _of_eye(matrix):
    rows, columns, offset = matrix.owner.inputs
    square = rows is columns or matrix.type.shape[0] == matrix.type.shape[1] is not None
    at = offset.data if isinstance(offset, Constant) else None
    return pt.constant(np.array(1.0, matrix.dtype)) if square and at == 0 else None


def _of_product(factors):
    """Of a product by entries: diagonal where one factor is."""
    entries, diagonal = None, False
    for x in factors:
        own = as_scalar(x)
        if own is None and _broadcast_vector(x) is not None:
            own = x.flatten()
        if own is None and (own := diagonal_of(x)) is not None:
            diagonal = True
        if own is None:
            own = pt.diagonal(x)
        entries = own if entries is None else entries * own
    return entries if diagonal else None


def _broadcast_vector(x):
    """The axis along which a vector was laid that is repeated along the other; else None."""
    if x.type.ndim != 2 or sum(x.type.broadcastable) != 1:
        return None
    return 0 if x.type.broadcastable[1] else 1


def laid_out(x):
    """The vector of which a matrix (n, 1) or (1, n) is made, and its axis; else None."""
    axis = _broadcast_vector(x)
    if axis is None:
        return None
    op = None if x.owner is None else x.owner.op
    if isinstance(op, DimShuffle) and x.owner.inputs[0].type.ndim == 1:
        return x.owner.inputs[0], axis
    if isinstance(x, Constant):
        return pt.constant(x.data.ravel()), axis
    return None
