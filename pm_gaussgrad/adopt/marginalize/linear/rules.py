"""Operations that are linear, and how terms go through them."""

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.mode import Mode
from pytensor.compile.ops import ViewOp
from pytensor.graph.basic import Constant
from pytensor.sparse.math import Dot as SparseDot
from pytensor.sparse.math import StructuredDot
from pytensor.tensor.basic import Alloc, ExtractDiag, Join, MakeVector
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import CAReduce, DimShuffle
from pytensor.tensor.extra_ops import CumOp
from pytensor.tensor.linalg.solvers.core import SolveBase
from pytensor.tensor.math import Dot
from pytensor.tensor.reshape import JoinDims, SplitDims
from pytensor.tensor.shape import Reshape, Shape, Shape_i, SpecifyShape
from pytensor.tensor.subtensor import (
    AdvancedIncSubtensor,
    AdvancedSubtensor,
    IncSubtensor,
    Subtensor,
)

from pm_gaussgrad.adopt.marginalize.linear.expand import (
    MOST_TERMS,
    by_rule,
    linear_in,
    owners_of,
    zeros_like,
)
from pm_gaussgrad.adopt.marginalize.linear.pieces import (
    LARGEST,
    Affine,
    NonLinearError,
    Term,
    TooLargeError,
)

_PLAIN = Mode(linker="py", optimizer="fast_compile")


@by_rule.register(Shape)
@by_rule.register(Shape_i)
def _shape(op, node, parts, expansion):
    shape = expansion.known.shape(node.inputs[0])
    return Affine(pt.constant(shape if isinstance(op, Shape) else shape[op.i], dtype="int64"))


def _arranged(node, positions, expansion):
    """What becomes of a term where the output's entries are the input's, others or zero."""
    known = expansion.known
    others = [x for i, x in enumerate(node.inputs) if i not in positions]
    if any(known.value(x) is None for x in others):
        return None

    def of_term(position, term):
        def applied(array):
            inputs = list(node.inputs)
            for i in positions:
                inputs[i] = zeros_like(inputs[i])
            inputs[position] = array.astype(node.inputs[position].dtype)
            return node.op(*inputs)

        def evaluated(array):
            return np.asarray(pytensor.function([], applied(pt.constant(array)), mode=_PLAIN)())

        index = np.rint(evaluated(term.index)).astype(np.int64)
        array = None if term.array is None else applied(term.array)
        return [Term(term.base, index, evaluated(term.weight), term.scalars, array)]

    return of_term


def _arranging(positions_of):
    """The rule of an operation that arranges the entries of some of its inputs."""

    def rule(op, node, parts, expansion):
        positions = positions_of(op, node)
        return linear_in(node, parts, positions, expansion, _arranged(node, positions, expansion))

    return rule


def _first(op, node):
    return (0,)


for _kind in (
    DimShuffle, Reshape, Subtensor, AdvancedSubtensor, Alloc, SpecifyShape, ViewOp, ExtractDiag,
    JoinDims, SplitDims,
):  # fmt: skip
    by_rule.register(_kind, _arranging(_first))
for _kind in (Join, MakeVector):
    by_rule.register(_kind, _arranging(lambda op, node: range(len(node.inputs))))


@by_rule.register(IncSubtensor)
@by_rule.register(AdvancedIncSubtensor)
def _put(op, node, parts, expansion):
    # Where entries are added to others an entry of the output may be a sum of several.
    of_term = _arranged(node, (0, 1), expansion) if op.set_instead_of_inc else None
    return linear_in(node, parts, (0, 1), expansion, of_term)


@by_rule.register(CumOp)
def _cumulated(op, node, parts, expansion):
    if op.mode != "add":
        raise NonLinearError(owners_of(parts), "enters through a cumulative product, not linear")
    return linear_in(node, parts, (0,), expansion)


@by_rule.register(SolveBase)
def _solved(op, node, parts, expansion):
    return linear_in(node, parts, (1,), expansion)


@by_rule.register(Blockwise)
def _of_each(op, node, parts, expansion):
    return by_rule.dispatch(type(op.core_op))(op, node, parts, expansion)


@by_rule.register(OpFromGraph)
def _inlined(op, node, parts, expansion):
    return expansion.of(op.fgraph.bind(node.inputs)[0])


@by_rule.register(CAReduce)
def _reduced(op, node, parts, expansion):
    if not isinstance(op.scalar_op, pytensor.scalar.Add):
        raise NonLinearError(owners_of(parts), f"enters through {op}, which is not linear")
    ndim = node.inputs[0].type.ndim
    axes = tuple(range(ndim)) if op.axis is None else tuple(a % ndim for a in op.axis)

    def of_term(position, term):
        count = int(np.prod([term.shape[a] for a in axes], dtype=int))
        if count > MOST_TERMS:
            return [term.to_matrix(axes)]
        places = np.ndindex(*(term.shape[a] for a in axes))
        return [_at(term, dict(zip(axes, place, strict=True))) for place in places]

    return linear_in(node, parts, (0,), expansion, of_term)


def _at(term, places):
    """A term at places along axes."""
    key = tuple(places.get(axis, slice(None)) for axis in range(term.index.ndim))
    array = None if term.array is None else term.array[key]
    return Term(term.base, term.index[key], term.weight[key], term.scalars, array)


@by_rule.register(Dot)
def _product(op, node, parts, expansion):
    left, right = parts
    if left.pieces and right.pieces:
        raise of_both(left.pieces, right.pieces)
    position = 0 if left.pieces else 1
    matrix = node.inputs[1 - position]
    value = expansion.known.value(matrix) if matrix.type.ndim == 2 else None
    if value is not None and position == 1 and node.inputs[1].type.ndim == 2:
        entries = _few_entries(value)
        if entries is not None:
            return linear_in(node, parts, (1,), expansion, lambda _, term: _rows(term, *entries))
    if expansion.known.shape(matrix)[-1 if position else max(-2, -matrix.type.ndim)] <= _SHORT:
        return expansion.of(_written_out(*node.inputs))
    return linear_in(node, parts, (position,), expansion, _of_identity(matrix, position, expansion))


@by_rule.register(SparseDot)
@by_rule.register(StructuredDot)
def _sparse_product(op, node, parts, expansion):
    matrix, right = node.inputs
    if not isinstance(matrix, Constant):
        raise NonLinearError(owners_of(parts), "enters through a sparse matrix that is no constant")
    if np.prod(matrix.data.shape, dtype=float) > LARGEST:
        raise TooLargeError(parts[1].pieces[0].base.owner)
    return expansion.of(pt.dot(pt.constant(matrix.data.toarray()), right))


# Products over as many entries are written as sums of terms.
_SHORT = 8


def _few_entries(matrix):
    """Columns and entries (n, r) of a matrix with at most a few entries in each row, or None."""
    most = np.count_nonzero(matrix, axis=1).max(initial=0)
    if most > min(_SHORT, max(matrix.shape[1], 1)):
        return None
    columns = np.argsort(matrix == 0, axis=1, kind="stable")[:, :most]
    return columns, np.take_along_axis(matrix, columns, axis=1)


def _rows(term, columns, entries):
    """The terms of a product with a matrix of few entries."""
    found = []
    for column, entry in zip(columns.T, entries.T, strict=True):
        array = None if term.array is None else term.array[column]
        weight = entry[:, None] * term.weight[column]
        found.append(Term(term.base, term.index[column], weight, term.scalars, array))
    return found or [Term(term.base, *_nothing(len(columns), term))]


def _nothing(n, term):
    shape = (n, *term.shape[1:])
    return np.zeros(shape, np.int64), np.zeros(shape)


def _written_out(left, right):
    """A product of matrices as elementwise ones, summed."""
    if left.type.ndim == 1:
        return (left[:, None] * right).sum(0) if right.type.ndim == 2 else (left * right).sum()
    if right.type.ndim == 1:
        return (left * right).sum(-1)
    return (left[..., :, :, None] * right[..., None, :, :]).sum(-2)


def _of_identity(matrix, position, expansion):
    """A product with the base itself: the Jacobian is the matrix."""

    def of_term(_, term):
        if matrix.type.ndim != 2 or not term.is_identity or term.base.size != max(term.shape):
            return None
        jacobian = matrix.T[:, :, None] if position else matrix[:, None, :]
        jacobian = expansion.known.fold(jacobian * term.weight.flat[0])
        return [term.with_jacobian(jacobian)]

    return of_term


def of_both(left, right):
    """The error of a product of two expressions, of which one variable has to stay."""
    owners = [frozenset(piece.base.owner for piece in pieces) for pieces in (left, right)]
    return NonLinearError(owners[0], "is multiplied by itself", owners[1])
