"""A batch of covariances, which may be of length zero."""

import numpy as np
from pytensor.graph.replace import _vectorize_node
from pytensor.tensor.blockwise import Blockwise

from pm_gaussgrad.ops.inv_quad_logdet import StructureOp


class Batched(Blockwise):
    """``Blockwise`` of an Op of a structure.

    PyTensor's Python form calls the Op once to learn the shapes of its outputs. These are
    declared here, so that a batch of length zero gives empty arrays, as on numba.
    """

    def perform(self, node, inputs, output_storage):
        ndim = self.batch_ndim(node)
        batch = np.broadcast_shapes(*(x.shape[:ndim] for x in inputs))
        if 0 not in batch:
            super().perform(node, inputs, output_storage)
            return
        cores = [np.empty(x.shape[ndim:], np.bool) for x in inputs]
        shapes = self.core_op.signature.concrete_outputs(cores)
        for storage, shape, output in zip(output_storage, shapes, node.outputs, strict=True):
            storage[0] = np.empty((*batch, *shape), output.type.dtype)


@_vectorize_node.register(StructureOp)
def _vectorize_structure_op(op, node, *inputs):
    return Batched(op).make_node(*inputs)
