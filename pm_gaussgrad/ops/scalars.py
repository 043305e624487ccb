"""Numbers in graphs for numba: fewer arrays of one entry, and none that are broadcast.

PyTensor's rewrites for numba turn tensors of one entry into numbers where these begin as numbers,
which what comes from Ops of this package does not, and leave views between them, of constants too.
Each takes numba some tenths of a second to compile. A tensor without dimensions that is broadcast
takes seven seconds: numba assigns such a one as it does any array, with messages for shapes that
disagree.
"""

from pytensor.graph.basic import Constant
from pytensor.graph.rewriting.basic import GraphRewriter, copy_stack_trace
from pytensor.scalar.basic import ScalarConstant, uint8
from pytensor.tensor.basic import (
    Alloc,
    Join,
    MakeVector,
    ScalarFromTensor,
    expand_dims,
    scalar_from_tensor,
    tensor_from_scalar,
)
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.rewriting.fused_elemwise import FusedElemwise, fused_elemwise_optdb
from pytensor.tensor.subtensor import Subtensor

from pm_gaussgrad.ops.backends.loading import has_ops
from pm_gaussgrad.ops.compiled_op import CompiledOp


class NumbersOfOps(GraphRewriter):
    """Let what has no dimensions, or is the only entry of a vector, go on as a number."""

    def add_requirements(self, fgraph):
        pass

    def apply(self, fgraph):
        if not has_ops(fgraph):
            return
        for node in fgraph.toposort():
            if isinstance(node.op, CompiledOp):
                for out in node.outputs:
                    if out.type.ndim == 0:
                        _as_number(fgraph, out)
            elif isinstance(node.op, DimShuffle) and node.outputs[0].type.ndim == 0:
                [x], [out] = node.inputs, node.outputs
                if x.type.ndim == 1:
                    entry = Subtensor([0])(x, ScalarConstant(uint8, 0))
                    copy_stack_trace(out, entry)
                    fgraph.replace(out, entry, reason="numbers of Ops")


def _as_number(fgraph, out):
    """Have those who may take a number instead of an array take it."""
    number = None
    for client, i in list(fgraph.clients[out]):
        if isinstance(client.op, Elemwise | FusedElemwise | DimShuffle | Join | MakeVector):
            if number is None:
                number = copy_stack_trace(out, tensor_from_scalar(scalar_from_tensor(out)))
            fgraph.change_node_input(client, i, number, reason="numbers of Ops")


class ScalarsOnNumba(GraphRewriter):
    """Join views of views, take numbers out of constants, broadcast vectors instead of scalars."""

    def add_requirements(self, fgraph):
        pass

    def apply(self, fgraph):
        if not has_ops(fgraph):
            return
        rules = {DimShuffle: _joined, ScalarFromTensor: _known_number, Alloc: _of_vector}
        for node in fgraph.toposort():
            rule = rules.get(type(node.op))
            new = rule(node) if rule and node in fgraph.apply_nodes else None
            if new is not None:
                [old] = node.outputs
                copy_stack_trace(old, new)
                fgraph.replace_all_validate([(old, new)], reason="numbers on numba")


def _joined(node):
    """A view of a view as one view."""
    [x], op = node.inputs, node.op
    if x.owner is None or not isinstance(x.owner.op, DimShuffle):
        return None
    [first], inner = x.owner.inputs, x.owner.op.new_order
    order = ["x" if axis == "x" else inner[axis] for axis in op.new_order]
    if order == list(range(first.type.ndim)):
        return first
    return DimShuffle(input_ndim=first.type.ndim, new_order=order)(first)


def _known_number(node):
    """The number in a constant, or in a view of one."""
    [x], [out] = node.inputs, node.outputs
    if x.owner is not None and isinstance(x.owner.op, DimShuffle):
        [x] = x.owner.inputs
    return ScalarConstant(out.type, x.data.item()) if isinstance(x, Constant) else None


def _of_vector(node):
    """A number that is broadcast as the entry of a vector."""
    value, *lengths = node.inputs
    if value.type.ndim > 0 or not lengths:
        return None
    return node.op(expand_dims(value, 0), *lengths)


# Before and after tensors of one entry become numbers.
fused_elemwise_optdb.register("pm_gaussgrad_numbers", NumbersOfOps(), "numba", position=0.6)
fused_elemwise_optdb.register("pm_gaussgrad_scalars", ScalarsOnNumba(), "numba", position=3)
