"""Cut the last axis into consecutive blocks, whose sizes may be symbolic, and put them together."""

from itertools import accumulate, pairwise

import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Constant
from pytensor.graph.op import Op
from pytensor.graph.replace import _vectorize_node
from pytensor.tensor.basic import Join
from pytensor.tensor.type import discrete_dtypes

from pm_gaussgrad.ops.backends.loading import DispatchTravels
from pm_gaussgrad.ops.definition import is_disconnected


class Partition(DispatchTravels, Op):
    """``(x (..., n), *sizes ()) -> *blocks (..., size_i)``, contiguous copies.

    Unlike ``pytensor.tensor.split`` it takes each size by itself, so that under JAX a size may
    be the length of an array. Raises a ValueError when the sizes do not sum to n.
    """

    __props__ = ("owner",)

    def __init__(self, owner: str):
        self.owner = owner

    def make_node(self, x, *sizes):
        x, sizes = pt.as_tensor_variable(x), [pt.as_tensor_variable(size) for size in sizes]
        if any(size.type.ndim or size.dtype not in discrete_dtypes for size in sizes):
            raise TypeError(f"{self.owner}: the size of a block is not an integer.")
        static = [int(size.data) if isinstance(size, Constant) else None for size in sizes]
        outputs = [pt.tensor(dtype=x.dtype, shape=(*x.type.shape[:-1], size)) for size in static]
        return Apply(self, [x, *sizes], outputs)

    @property
    def message(self) -> str:
        return f"{self.owner}: the sizes of the blocks do not sum to the length of the last axis."

    def bounds(self, x, sizes) -> list[int]:
        """Where the blocks start, and n, after checking that the last one ends there."""
        bounds = list(accumulate(map(int, sizes), initial=0))
        if bounds[-1] != x.shape[-1]:
            raise ValueError(f"{self.message} They are for {bounds[-1]}, found {x.shape[-1]}.")
        return bounds

    def perform(self, node, inputs, output_storage):
        x, *sizes = inputs
        for storage, (a, b) in zip(output_storage, pairwise(self.bounds(x, sizes)), strict=True):
            storage[0] = x[..., a:b].copy()

    def infer_shape(self, node, input_shapes):
        return [(*input_shapes[0][:-1], size) for size in node.inputs[1:]]

    def connection_pattern(self, node):
        n_blocks = len(node.outputs)
        return [[i == 0] * n_blocks for i in range(n_blocks + 1)]

    def pullback(self, inputs, outputs, cotangents):
        bars = [
            block.zeros_like() if is_disconnected(bar) else bar
            for block, bar in zip(outputs, cotangents, strict=True)
        ]
        return [assemble(bars), *(DisconnectedType()() for _ in inputs[1:])]


@_vectorize_node.register(Partition)
def _vectorize_partition(op, node, x, *sizes):
    # The sizes of blocks do not vary within a batch.
    return op.make_node(x, *(size[(0,) * size.type.ndim] for size in sizes))


class Assemble(Join):
    """``Join`` along the last axis with a :class:`Partition` as its pullback."""

    def pullback(self, inputs, outputs, cotangents):
        sizes = [
            block.shape[-1] if block.type.shape[-1] is None else block.type.shape[-1]
            for block in inputs
        ]
        return partition("assemble", cotangents[0], sizes)


def partition(owner, x, sizes):
    """Blocks of the given sizes (integers or scalar tensors) of the last axis of x."""
    return Partition(owner).make_node(x, *(pt.as_tensor_variable(s) for s in sizes)).outputs


def assemble(blocks):
    """Concatenate along the last axis."""
    return Assemble(blocks[0].type.ndim - 1)(*blocks)
