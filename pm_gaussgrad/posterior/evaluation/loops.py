"""Elementwise operations on large arrays fused into compiled loops, amid what is interpreted.

Of an interpreted graph the matrix algebra and this package's kernels are machine code anyway. What
takes NumPy longer than a compiled loop are long elementwise expressions: each operation is a pass
over memory and a new array. These expressions alone take numba a tenth of the time to compile that
the whole graph does.
"""

import pytensor
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.replace import clone_replace
from pytensor.scalar.basic import Composite
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.rewriting.elemwise import FusionOptimizer

from pm_gaussgrad.posterior.evaluation.interpreted import AS_IT_IS


def _apply(op, inputs):
    outputs = op.operation.make_node(*inputs).outputs
    return Apply(op, inputs, [x.type() for x in outputs])


class CompiledLoop(Op):
    """A fused elementwise operation as a function that numba compiles when it is first called."""

    def __init__(self, operation: Elemwise):
        self.operation, self._function = operation, None

    def make_node(self, *inputs):
        return _apply(self, inputs)

    def perform(self, node, inputs, output_storage):
        if self._function is None:
            own = [x.type() for x in node.inputs]
            mode = Mode(linker="numba", optimizer=None)
            self._function = pytensor.function(
                own, self.operation.make_node(*own).outputs, mode=mode, trust_input=True
            )
        for storage, value in zip(output_storage, self._function(*inputs), strict=True):
            storage[0] = value


class _Unfused(Op):
    """Hides an elementwise operation from fusion."""

    def __init__(self, operation: Elemwise):
        self.operation = operation

    def make_node(self, *inputs):
        return _apply(self, inputs)

    def perform(self, node, inputs, output_storage):
        raise NotImplementedError


class Loops:
    """The loops of an interpreted function, and the same function with these compiled.

    Parameters
    ----------
    function : pytensor.compile.executor.Function
        Interpreted, without anything that is done in place: that would have to come in time.
    large : set of Apply
        Those of its nodes that may be fused, elementwise ones.

    Attributes
    ----------
    sizes : list of int
        Number of scalar operations of each loop, once where several are the same.
    fused : set of Apply
        The nodes that these take the place of.
    """

    def __init__(self, function, large):
        self._originals = [x.variable for x in function.maker.inputs]
        graph, copies = function.maker.fgraph.clone_get_equiv(attach_feature=False)
        candidates = {copies[node] for node in large}
        for node in graph.toposort():
            if isinstance(node.op, Elemwise) and node not in candidates:
                _exchange(graph, node, _Unfused(node.op))
        FusionOptimizer().rewrite(graph)
        self.fused = {node for node in large if copies[node] not in graph.apply_nodes}
        loops = {}
        for node in graph.toposort():
            if isinstance(node.op, _Unfused):
                _exchange(graph, node, node.op.operation)
            elif isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, Composite):
                same = node.op, *(x.type.broadcastable for x in node.inputs)
                loops.setdefault(same, len(node.op.scalar_op.fgraph.apply_nodes))
                _exchange(graph, node, CompiledLoop(node.op))
        self.sizes, self._graph = list(loops.values()), graph

    def compile(self, inputs):
        """The function of these inputs; what it depends on otherwise is shared as before."""
        replaced = dict(zip(self._graph.inputs, self._originals, strict=True))
        outputs = clone_replace(self._graph.outputs, replaced)
        return pytensor.function(inputs, outputs, mode=AS_IT_IS, on_unused_input="ignore")


def _exchange(graph, node, op):
    """Have another Op do the work of a node."""
    new = op.make_node(*node.inputs).outputs
    graph.replace_all(list(zip(node.outputs, new, strict=True)), reason="loops")
