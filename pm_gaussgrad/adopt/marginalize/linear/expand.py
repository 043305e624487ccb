"""Expressions as linear maps of bases, node by node, from the bases up."""

from dataclasses import replace
from functools import singledispatch

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.traversal import toposort
from pytensor.tensor.blockwise import Blockwise

from pm_gaussgrad.adopt.marginalize.linear.pieces import Affine, Matrix, NonLinearError, Term

# Sums of more terms are written as a matrix.
MOST_TERMS = 64


class Expansion:
    """What expressions are, of bases.

    Parameters
    ----------
    bases : sequence of Base
    known : Known
    """

    def __init__(self, bases, known):
        self.known, self._found = known, {}
        for base in bases:
            self._found[base.leaf] = Affine(None, (_itself(base),))

    def of(self, variable) -> Affine:
        """An expression of leaves and others, offset and pieces.

        Raises
        ------
        NonLinearError
            If it is not linear in the bases that it depends on.
        """
        for node in toposort([variable], blockers=[*self._found]):
            parts = [self._affine(x) for x in node.inputs]
            if all(part.offset is x for part, x in zip(parts, node.inputs, strict=True)):
                continue
            given = [x if p.pieces else p.offset for p, x in zip(parts, node.inputs, strict=True)]
            node_given = node.clone_with_new_inputs(given)
            if not owners_of(parts):
                found = map(Affine, node_given.outputs)
                self._found |= dict(zip(node.outputs, found, strict=True))
                continue
            if len(node.outputs) != 1:
                raise NonLinearError(owners_of(parts), f"enters through {name_of(node.op)}")
            # What rules write anew is of these inputs.
            self._found |= dict(zip(given, parts, strict=True))
            self._found[node.outputs[0]] = self._noted(
                by_rule(node.op, node_given, parts, self), node
            )
        return self._affine(variable)

    def _noted(self, affine, node):
        if affine.pieces:
            self.known.note_shape(node.outputs[0], affine.pieces[0].shape)
        elif affine.offset is None:
            return Affine(pt.zeros(self.known.shape(node.outputs[0])))
        return affine

    def _affine(self, variable):
        return self._found.get(variable) or Affine(variable)


def _itself(base):
    index = np.arange(base.size).reshape(base.shape)
    return Term(base, index, np.ones(base.shape))


def owners_of(parts) -> frozenset:
    """The variables that affine expressions depend on."""
    return frozenset().union(*(part.owners for part in parts))


def name_of(op) -> str:
    """What an operation is called, in messages."""
    core = op.core_op if isinstance(op, Blockwise) else op
    scalar = getattr(core, "scalar_op", None)
    name = type(core if scalar is None else scalar).__name__
    return name.lower()


@singledispatch
def by_rule(op, node, parts, expansion) -> Affine:
    """What the output of a node is, of what its inputs are."""
    raise NonLinearError(owners_of(parts), f"enters through {name_of(op)}, which is not linear")


def linear_in(node, parts, positions, expansion, of_term=None) -> Affine:
    """The output of a node that is linear in some of its inputs together, given the others.

    Parameters
    ----------
    node : Apply
    parts : list of Affine
    positions : sequence of int
        The inputs that it is linear in.
    expansion : Expansion
    of_term : callable, optional
        ``of_term(position, term)``, the pieces that a term becomes; by default that of its
        Jacobian.
    """
    others = owners_of([part for i, part in enumerate(parts) if i not in positions])
    if others:
        raise NonLinearError(others, f"is an argument of {name_of(node.op)} that is not linear")
    pieces = []
    for position in positions:
        for piece in parts[position].pieces:
            found = of_term(position, piece) if of_term and isinstance(piece, Term) else None
            pieces += found or [_pushed(node, positions, position, piece.to_matrix(), expansion)]
    return Affine(_offset(node, parts, positions), compact(pieces))


def _offset(node, parts, positions):
    offsets = [parts[i].offset for i in positions]
    if all(x is None for x in offsets):
        return None
    given = {
        i: zeros_like(node.inputs[i]) if x is None else x
        for i, x in zip(positions, offsets, strict=True)
    }
    inputs = [given.get(i, x) for i, x in enumerate(node.inputs)]
    return node.clone_with_new_inputs(inputs, strict=False).outputs[0]


def _pushed(node, positions, position, piece, expansion):
    """A Jacobian, all of its columns put through the node."""
    zeros = {i: zeros_like(node.inputs[i]) for i in positions if i != position}
    stand_in = node.inputs[position].type()
    inputs = [zeros.get(i, x) for i, x in enumerate(node.inputs)]
    inputs[position] = stand_in
    [output] = node.clone_with_new_inputs(inputs).outputs
    jacobian = vectorize_graph(output, {stand_in: piece.jacobian})
    return Matrix(piece.base, expansion.known.fold(jacobian), piece.scalars)


def zeros_like(x):
    """Zeros of the shape of a tensor, which is a constant if it can be."""
    return pt.zeros(x.type.shape, x.dtype) if None not in x.type.shape else pt.zeros_like(x)


def broadcast(piece, shape):
    """A piece whose result is repeated along dimensions of length one."""
    return piece if isinstance(piece, Term) and piece.shape == shape else piece.broadcast(shape)


def compact(pieces) -> tuple:
    """Without terms that are zero, equal ones added up, and no more than may be."""
    merged, rest = {}, []
    for piece in pieces:
        if not isinstance(piece, Term):
            rest.append(piece)
        elif piece.weight.any():
            key = (id(piece.base), piece.index.tobytes(), *map(id, piece.scalars), id(piece.array))
            held = merged.get(key)
            merged[key] = (
                piece if held is None else replace(held, weight=held.weight + piece.weight)
            )
    terms = list(merged.values())
    if len(terms) > MOST_TERMS:
        return tuple(_added([*rest, *(term.to_matrix() for term in terms)]))
    return (*terms, *_added(rest))


def _added(matrices):
    """Jacobians of one base with the same scalars, as one."""
    groups = {}
    for x in matrices:
        groups.setdefault((id(x.base), *map(id, x.scalars)), []).append(x)
    for same in groups.values():
        jacobians = [x.jacobian for x in same]
        if all(isinstance(j, Constant) for j in jacobians):
            total = pt.constant(sum(j.data for j in jacobians))
        else:
            total = sum(jacobians[1:], start=jacobians[0])
        yield Matrix(same[0].base, total, same[0].scalars)
