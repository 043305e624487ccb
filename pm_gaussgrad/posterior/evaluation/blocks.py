"""An interpreted function of one draw as a function of several.

Of a function whose work is small nearly all time is spent in calls from Python. What is done entry
by entry, and what only arranges entries, takes as many calls for all draws together as for one: the
arrays have one more dimension, the first. Everything else, matrix algebra and this package's
kernels, is called for each draw with the arrays that it had before, so that nothing has to be known
of it. The numbers of a draw are the same as alone, up to the rounding of NumPy's sums and loops.
"""

from functools import singledispatch

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.ops import DeepCopyOp
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.scalar.basic import ScalarType
from pytensor.tensor.basic import ExtractDiag
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.subtensor import Subtensor
from pytensor.tensor.type import TensorType

from pm_gaussgrad.posterior.evaluation.interpreted import AS_IT_IS


class Blocks:
    """The function of several draws that evaluates what an interpreted one does of one.

    Parameters
    ----------
    function : pytensor.compile.executor.Function
        With the Python linker, and nothing in place.
    varying : int
        As many of its first inputs differ between draws.

    Attributes
    ----------
    together : set of Apply
        Those of its nodes that are evaluated once for all draws.
    """

    def __init__(self, function, varying):
        self._graph, self._varying = function.maker.fgraph, varying
        self._originals = [x.variable for x in function.maker.inputs]
        of_draws, self.together = set(self._graph.inputs[:varying]), set()
        for node in self._graph.toposort():
            if of_draws.isdisjoint(node.inputs):
                self.together.add(node)
                continue
            of_draws.update(node.outputs)
            if _of_all.dispatch(type(node.op)) is not _of_all.dispatch(Op):
                self.together.add(node)

    def compile(self):
        """A function of the same inputs, those that vary with draws along their first dimension.

        Returns
        -------
        callable
            Of the number of draws and the inputs, which returns a list of arrays, draws first.

        Raises
        ------
        NotImplementedError
            If something that differs between draws is no array.
        """
        known = dict(zip(self._graph.inputs, self._originals, strict=True))
        many = {x: _with_draws(x) for x in self._graph.inputs[: self._varying]}
        for node in self._graph.toposort():
            if many.keys().isdisjoint(node.inputs):
                alone = node.clone_with_new_inputs([known.get(x, x) for x in node.inputs])
                known |= dict(zip(node.outputs, alone.outputs, strict=True))
                continue
            inputs = [many.get(x, known.get(x, x)) for x in node.inputs]
            varies = [x in many for x in node.inputs]
            many |= dict(zip(node.outputs, _of_all(node.op, node, inputs, varies), strict=True))
        inputs = [many.get(x, known[x]) for x in self._graph.inputs]
        inputs = [x for x in inputs if not isinstance(x, pytensor.compile.SharedVariable)]
        varies = [x in many for x in self._graph.outputs]
        outputs = [many.get(x, known.get(x, x)) for x in self._graph.outputs]
        function = pytensor.function(inputs, outputs, mode=AS_IT_IS, on_unused_input="ignore")

        def of_draws(count, *values):
            return [
                value if is_varying else np.broadcast_to(value, (count, *np.shape(value)))
                for value, is_varying in zip(function(*values), varies, strict=True)
            ]

        return of_draws


def _with_draws(x):
    if not isinstance(x.type, TensorType | ScalarType):
        raise NotImplementedError(f"{x.type} differs between draws, expected arrays and numbers")
    return pt.tensor(dtype=x.type.dtype, shape=(None, *x.type.shape))


@singledispatch
def _of_all(op, node, inputs, varies):
    """Outputs of a node for all draws, of inputs of which those that vary have one dimension more.

    By default by one call for each draw.
    """
    return _EachDraw(node, tuple(varies)).make_node(*inputs).outputs


@_of_all.register(Elemwise)
def _(op, node, inputs, varies):
    aligned = [
        x if several else pt.expand_dims(x, 0) for x, several in zip(inputs, varies, strict=True)
    ]
    return op.make_node(*aligned).outputs


@_of_all.register(DimShuffle)
def _(op, node, inputs, varies):
    order = (0, *(x if x == "x" else x + 1 for x in op.new_order))
    return DimShuffle(input_ndim=op.input_ndim + 1, new_order=order).make_node(*inputs).outputs


@_of_all.register(CAReduce)
def _(op, node, inputs, varies):
    axes = range(node.inputs[0].type.ndim) if op.axis is None else op.axis
    return op.clone(axis=tuple(axis + 1 for axis in axes)).make_node(*inputs).outputs


@_of_all.register(ExtractDiag)
def _(op, node, inputs, varies):
    axes = {"axis1": op.axis1 + 1, "axis2": op.axis2 + 1}
    return ExtractDiag(offset=op.offset, view=op.view, **axes).make_node(*inputs).outputs


@_of_all.register(Subtensor)
def _(op, node, inputs, varies):
    if any(varies[1:]):
        return _EachDraw(node, tuple(varies)).make_node(*inputs).outputs
    return Subtensor((slice(None), *op.idx_list)).make_node(*inputs).outputs


@_of_all.register(DeepCopyOp)
def _(op, node, inputs, varies):
    return inputs


class _EachDraw(Op):
    """An operation that is called for each draw, as a node of a graph of one draw has it."""

    def __init__(self, node, varies):
        # Which inputs vary, and whether their draws are numbers, as indices are, not arrays.
        self._varying = [
            (i, isinstance(x.type, ScalarType)) for i, x in enumerate(node.inputs) if varies[i]
        ]
        self._node = node.clone_with_new_inputs([x.type() for x in node.inputs], strict=False)
        self._cells = [[None] for _ in node.inputs], [[None] for _ in node.outputs]
        self._thunk = None

    def make_node(self, *inputs):
        return Apply(self, inputs, [_with_draws(x) for x in self._node.outputs])

    def perform(self, node, inputs, output_storage):
        if self._thunk is None:
            self._thunk = self._made_thunk()
        given, found = self._cells
        for cell, x in zip(given, inputs, strict=True):
            cell[0] = x
        varying = [(given[i], inputs[i], is_number) for i, is_number in self._varying]
        results, count = None, len(varying[0][1])
        for i in range(count):
            for cell, x, is_number in varying:
                cell[0] = x[i] if is_number else x[i, ...]
            self._thunk()
            if results is None:
                results = [np.empty((count, *cell[0].shape), cell[0].dtype) for cell in found]
            for result, cell in zip(results, found, strict=True):
                result[i] = cell[0]
        for storage, result in zip(output_storage, results, strict=True):
            storage[0] = result

    def _made_thunk(self):
        given, found = self._cells
        storage = dict(zip(self._node.inputs, given, strict=True))
        storage |= dict(zip(self._node.outputs, found, strict=True))
        computed = {x: [True] for x in self._node.inputs}
        computed |= {x: [False] for x in self._node.outputs}
        return self._node.op.make_thunk(self._node, storage, computed, [], impl="py")
