"""Many small tensors as one, by an expression that does not grow with them.

What a user makes in a loop, v[0] ** 2, v[1] ** 2, ..., is one expression of entries of v: joined
one by one it is a graph of as many nodes, whose rewriting takes longer than in proportion. Here
the expression is taken once, of what its entries come from: elementwise operations and dimensions
of length one pass through, and entries of one tensor are that tensor at their positions. What is
not alike, or has a name, is put side by side as it is.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.scalar.basic import ScalarConstant
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.subtensor import AdvancedSubtensor, Subtensor

from pm_gaussgrad.ops.batching import split_dims
from pm_gaussgrad.ops.partition import assemble


def same_value(x):
    """Equal for tensors that are known to have the same value."""
    return (x.dtype, x.data.shape, x.data.tobytes()) if isinstance(x, Constant) else x


def common(tensors):
    """The first of several tensors that are known to be the same; None where they are not."""
    found = _alike(tuple(tensors), {})
    return tensors[0] if found is not None and found.type.shape[0] == 1 else None


def stacked(tensors):
    """Tensors of one type, of known shape (...), as one, (count, ...)."""
    count, kind = len(tensors), tensors[0].type
    found = _alike(tuple(tensors), {})
    static = None if found is None else found.type.shape
    fits = static is not None and found.dtype == kind.dtype and static[1:] == kind.shape
    if fits and static[0] in (1, count):
        return pt.broadcast_to(found, (count, *kind.shape)) if static[0] != count else found
    return _joined(tensors)


def _joined(tensors):
    """Side by side, one by one.

    The pullback cuts into blocks: PyTensor would take apart what indexes a batch, and compute the
    batch once for each entry.
    """
    if tensors[0].type.ndim == 1:
        flat = side_by_side(tensors)
    else:
        flat = assemble([x.flatten() if x.type.ndim else x[None] for x in tensors])
    return split_dims(flat, (len(tensors), *tensors[0].type.shape), axis=0)


def _alike(tensors, known):
    """:func:`stacked`, or (1, ...) of what is the same in all; None where they are not alike."""
    if tensors not in known:
        known[tensors] = _found_alike(tensors, known)
    return known[tensors]


def _found_alike(tensors, known):
    first = tensors[0]
    if len({x.type.ndim for x in tensors}) > 1:
        return None
    if len(set(map(same_value, tensors))) == 1:
        return first[None]
    if all(isinstance(x, Constant) for x in tensors):
        values = [x.data for x in tensors]
        return pt.constant(np.stack(values)) if len({x.shape for x in values}) == 1 else None
    ops = [node.op if (node := _node(x)) else None for x in tensors]
    if any(isinstance(op, Subtensor) for op in ops):
        return _at_entries(tensors)
    if ops[0] is None or any(op != ops[0] for op in ops):
        return _joined(tensors) if _of_one_shape(tensors) else None
    if isinstance(ops[0], Elemwise) and len(first.owner.outputs) == 1:
        inputs = [_alike(x, known) for x in zip(*(x.owner.inputs for x in tensors), strict=True)]
        if all(x is not None for x in inputs):
            return ops[0](*inputs)
    if isinstance(ops[0], DimShuffle):
        inner = _alike(tuple(x.owner.inputs[0] for x in tensors), known)
        if inner is not None:
            order = ["x" if axis == "x" else axis + 1 for axis in ops[0].new_order]
            return inner.dimshuffle(0, *order)
    return _joined(tensors) if _of_one_shape(tensors) else None


def _node(x):
    """What computes a tensor; None of one with a name, which a model may replace."""
    return x.owner if x.name is None else None


def _of_one_shape(tensors) -> bool:
    return len({x.type for x in tensors}) == 1 and None not in tensors[0].type.shape


def _at_entries(tensors):
    """Of tensors x[i], x[i, j] of one x: x at the positions."""
    found = [_entry(x) for x in tensors]
    sources, depths = {x for x, _ in found}, {len(index) for _, index in found}
    if len(sources) > 1 or len(depths) > 1 or depths == {0}:
        return _joined(tensors) if _of_one_shape(tensors) else None
    [source], index = sources, np.array([index for _, index in found])
    for axis in reversed(range(index.shape[1])):  # what is the same for all comes first
        if (index[:, axis] == index[0, axis]).all() and index.shape[1] > 1:
            source = source[(*[slice(None)] * axis, int(index[0, axis]))]
            index = np.delete(index, axis, axis=1)
    if index.shape[1] == 1:
        return at_positions(source, index[:, 0])
    return source[tuple(index.T)]


def _entry(x):
    """The tensor that an entry is of, and its constant leading positions there."""
    node = _node(x)
    if node and isinstance(node.op, Subtensor) and _known_integers(node):
        source, own = _entry(node.inputs[0])
        return source, (*own, *(int(i.data) for i in node.inputs[1:]))
    return x, ()


def _known_integers(node) -> bool:
    integers = all(isinstance(i, int) for i in node.op.idx_list)
    return integers and all(isinstance(i, ScalarConstant) for i in node.inputs[1:])


def at_positions(x, positions):
    """x[positions] of constant positions that there are; x itself where these are all."""
    count, (n, *others) = len(positions), x.type.shape
    if count == 0 or not np.array_equal(positions, np.arange(count) + positions[0]):
        return x[positions]
    if positions[0] == 0 and n == count:
        return x
    if positions[0] < 0:
        return x[positions]
    return pt.specify_shape(x[positions[0] : positions[0] + count], (count, *others))


def side_by_side(tensors, counts=None):
    """Scalars and vectors of known length, one after the other: a vector.

    Parameters
    ----------
    tensors : list of TensorVariable, shape () or (k)
    counts : list of int, optional
        How many entries each stands for: one is repeated as often.
    """
    scalars = {same_value(x): x for x in tensors if x.type.ndim == 0}
    numbers = {value: i for i, value in enumerate(scalars)}
    pool, places = _Pool(), []
    of_scalars = pool.add(stacked(list(scalars.values()))) if scalars else None
    for x in tensors:
        places.append(pool.add(x) if x.type.ndim else of_scalars[[numbers[same_value(x)]]])
    if counts is not None:
        places = [np.broadcast_to(own, count) for own, count in zip(places, counts, strict=True)]
    return pool.at(np.concatenate(places))


def of_groups(tensors, counts):
    """:func:`side_by_side`, or (1,) where all are the same single number."""
    same = common(tensors)
    if same is None or same.type.shape not in ((), (1,)):
        return side_by_side(tensors, counts)
    return same if same.type.ndim else same[None]


class _Pool:
    """Vectors, of which those that are parts of one are there once."""

    def __init__(self):
        self._starts, self._length = {}, 0

    def add(self, x):
        """The places of the entries of a vector of known length."""
        source, positions = _source(x)
        if source not in self._starts:
            self._starts[source] = self._length
            self._length += source.type.shape[0]
        return self._starts[source] + positions

    def at(self, places):
        """The entries at places."""
        sources = list(self._starts)
        return at_positions(sources[0] if len(sources) == 1 else assemble(sources), places)


def _source(x):
    """The vector of known length that a vector is a part of, and its positions there."""
    positions = np.arange(x.type.shape[0])
    node = _node(x)
    if node is None or not isinstance(node.op, Subtensor | AdvancedSubtensor):
        return x, positions
    source = node.inputs[0]
    if source.type.ndim != 1 or source.type.shape[0] is None or len(node.op.idx_list) != 1:
        return x, positions
    own = _constant_positions(node, source.type.shape[0])
    if own is None:
        return x, positions
    source, inner = _source(source)
    return source, inner[own]


def _constant_positions(node, n):
    """Positions that a node takes out of a vector, where they are constants."""
    if not all(isinstance(i, ScalarConstant | Constant) for i in node.inputs[1:]):
        return None
    if isinstance(node.op, AdvancedSubtensor):
        index = node.inputs[1].data
        return index % n if index.dtype.kind in "iu" and index.ndim == 1 else None
    [index], values = node.op.idx_list, iter(node.inputs[1:])
    if not isinstance(index, slice):
        return None
    bounds = [
        None if at is None else int(next(values).data)
        for at in (index.start, index.stop, index.step)
    ]
    return np.arange(n)[slice(*bounds)]
