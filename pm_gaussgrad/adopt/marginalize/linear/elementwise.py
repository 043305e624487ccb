"""Elementwise operations that are linear: sums, differences, products with what is given."""

from functools import singledispatch

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.tensor.elemwise import DimShuffle, Elemwise

from pm_gaussgrad.adopt.marginalize.linear.expand import (
    MOST_TERMS,
    broadcast,
    by_rule,
    compact,
    name_of,
    owners_of,
    zeros_like,
)
from pm_gaussgrad.adopt.marginalize.linear.pieces import Affine, NonLinearError, Term
from pm_gaussgrad.adopt.marginalize.linear.rules import of_both

# Arrays of as many parameters are taken apart into scalars.
_FEW = 25


@by_rule.register(Elemwise)
def _elementwise(op, node, parts, expansion):
    shape = np.broadcast_shapes(*map(expansion.known.shape, node.inputs))
    spread = [
        Affine(part.offset, tuple(broadcast(piece, shape) for piece in part.pieces))
        for part in parts
    ]
    return of_scalar(op.scalar_op, node, spread, expansion)


@singledispatch
def of_scalar(op, node, parts, expansion) -> Affine:
    """What an elementwise operation makes of pieces of the output's shape."""
    raise NonLinearError(
        owners_of(parts), f"enters through {name_of(node.op)}, which is not linear"
    )


def _with_offsets(node, parts, like=None):
    """The node of the offsets alone; None where they are zero."""
    if all(part.offset is None for part in parts if part.pieces) and like == "product":
        return None
    if all(part.offset is None for part in parts):
        return None
    inputs = [
        zeros_like(x) if part.offset is None else part.offset
        for x, part in zip(node.inputs, parts, strict=True)
    ]
    return node.op(*inputs)


@of_scalar.register(ps.Add)
def _added(op, node, parts, expansion):
    pieces = [piece for part in parts for piece in part.pieces]
    return Affine(_with_offsets(node, parts), compact(pieces))


@of_scalar.register(ps.Sub)
def _subtracted(op, node, parts, expansion):
    left, right = parts
    pieces = [*left.pieces, *(piece.times_known(-1.0) for piece in right.pieces)]
    return Affine(_with_offsets(node, parts), compact(pieces))


@of_scalar.register(ps.Neg)
def _negated(op, node, parts, expansion):
    pieces = tuple(piece.times_known(-1.0) for piece in parts[0].pieces)
    return Affine(_with_offsets(node, parts), pieces)


@of_scalar.register(ps.Identity)
@of_scalar.register(ps.Cast)
def _same(op, node, parts, expansion):
    if not node.outputs[0].dtype.startswith("float"):
        raise NonLinearError(owners_of(parts), f"is cast to {node.outputs[0].dtype}")
    return Affine(_with_offsets(node, parts), parts[0].pieces)


@of_scalar.register(ps.Second)
def _filled(op, node, parts, expansion):
    # What is filled gives a shape alone.
    offset, shape = parts[1].offset, np.broadcast_shapes(*map(expansion.known.shape, node.inputs))
    return Affine(None if offset is None else pt.broadcast_to(offset, shape), parts[1].pieces)


@of_scalar.register(ps.Mul)
def _multiplied(op, node, parts, expansion):
    linear = [part for part in parts if part.pieces]
    if len(linear) > 1:
        raise of_both(linear[0].pieces, linear[1].pieces)
    pieces = linear[0].pieces
    for part in parts:
        if not part.pieces:
            pieces = times(pieces, part.offset, expansion.known)
    return Affine(_with_offsets(node, parts, "product"), compact(pieces))


@of_scalar.register(ps.TrueDiv)
def _divided(op, node, parts, expansion):
    above, below = parts
    if below.pieces:
        raise NonLinearError(below.owners, "is divided by, which is not linear")
    pieces = times(above.pieces, pt.reciprocal(below.offset), expansion.known)
    return Affine(_with_offsets(node, parts, "product"), compact(pieces))


@of_scalar.register(ps.Switch)
def _switched(op, node, parts, expansion):
    condition, yes, no = parts
    if condition.pieces:
        raise NonLinearError(condition.owners, "decides between values, which is not linear")
    chosen = pt.neq(condition.offset, 0).astype("float64")
    pieces = times(yes.pieces, chosen, expansion.known)
    pieces += times(no.pieces, 1 - chosen, expansion.known)
    return Affine(_with_offsets(node, parts), compact(pieces))


def times(pieces, factor, known) -> tuple:
    """Pieces of some shape, each times an array of parameters or numbers that broadcasts to it."""
    value = known.value(factor)
    if value is not None:
        return tuple(piece.times_known(value) for piece in pieces)
    shape = known.shape(factor)
    size = int(np.prod(shape, dtype=int))
    if size == 1:
        scalar = as_scalar(factor)
        return tuple(piece.times_scalar(scalar) for piece in pieces)
    found = []
    for piece in pieces:
        if isinstance(piece, Term) and size <= min(_FEW, MOST_TERMS // len(pieces)):
            found += _taken_apart(piece, factor, shape)
        elif isinstance(piece, Term):
            found.append(piece.times_array(pt.broadcast_to(factor, piece.shape)))
        else:
            found.append(piece.times_array(factor))
    return tuple(found)


def _taken_apart(term, factor, shape):
    """Terms of a scalar each, zero but where the array has it."""
    for place in np.ndindex(*shape):
        here = np.zeros(shape)
        here[place] = 1.0
        part = term.times_known(here)
        if part.weight.any():
            yield part.times_scalar(factor[place])


def as_scalar(x):
    """A tensor of one entry, without dimensions."""
    while x.owner is not None and isinstance(x.owner.op, DimShuffle) and x.type.ndim:
        x = x.owner.inputs[0]
    return x if x.type.ndim == 0 else x.reshape(())
