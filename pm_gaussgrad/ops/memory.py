"""Rewrites that save memory traffic in compiled graphs: trimming and working in place.

Both matter for large n: a fresh n x n array costs page faults on top of its copy.
"""

from pytensor.compile.mode import optdb
from pytensor.graph.destroyhandler import inplace_candidates
from pytensor.graph.rewriting.basic import copy_stack_trace, node_rewriter
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.rewriting.basic import register_specialize
from pytensor.tensor.rewriting.blockwise import blockwise_of
from pytensor.tensor.rewriting.elemwise import InplaceGraphOptimizer

from pm_gaussgrad.ops.batched import Batched
from pm_gaussgrad.ops.inv_quad_logdet import InvQuadLogdetPullback, StructureOp


@register_specialize
@node_rewriter([InvQuadLogdetPullback, blockwise_of(InvQuadLogdetPullback)])
def trim_pullback(fgraph, node):
    """Drop the inputs that the pullback kernel does not read."""
    batched = isinstance(node.op, Blockwise)
    op = node.op.core_op if batched else node.op
    if op.trimmed:
        return None
    trimmed = InvQuadLogdetPullback(op.structure, trimmed=True)
    kept = {name for name, _ in trimmed.signature.inputs}
    inputs = [
        x for (name, _), x in zip(op.signature.inputs, node.inputs, strict=True) if name in kept
    ]
    outputs = (Batched(trimmed) if batched else trimmed).make_node(*inputs).outputs
    if [x.type for x in outputs] != [x.type for x in node.outputs]:
        return None  # a static shape was known from a dropped input only
    return copy_stack_trace(node.outputs, outputs)


class InplaceStructureOptimizer(InplaceGraphOptimizer):
    """Let kernels overwrite inputs that nothing else needs (``Leaf.overwrites``)."""

    op = StructureOp

    def filter_candidate_pairs(self, fgraph, node, protected_inputs):
        free = inplace_candidates(fgraph, node.inputs, protected_inputs=protected_inputs)
        allowed = [i for i, x in enumerate(node.inputs) if x in free]
        destroy_map = node.op.inplace_on_inputs(allowed).destroy_map
        return [((o, node.outputs[o]), (i, node.inputs[i])) for o, [i] in destroy_map.items()]

    def create_inplace_node(self, node, inplace_pattern):
        allowed = [i for [i] in inplace_pattern.values()]
        return node.op.inplace_on_inputs(allowed).make_node(*node.inputs)


optdb.register(
    "pm_gaussgrad_inplace", InplaceStructureOptimizer(), "fast_run", "inplace", position=50.15
)
