"""Some entries of the last axis, and some entries put among zeros: one Op, each other's pullback.

PyTensor's indexing by positions is general, and what numba compiles for its gradient takes as long
as a structure's kernels.
"""

import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType

from pm_gaussgrad.kernels.select import select as kernel
from pm_gaussgrad.ops.batching import rows_last
from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.signature import Signature


class Select(CompiledOp):
    """``(rows (m, k), source (n), inverse (k)) -> rows[:, source]``, zero where source is -1.

    The inverse says for each entry of a row where it goes to, -1 for nowhere.
    """

    __props__ = ()
    index_inputs = ("source", "inverse")
    signature = Signature(
        "select",
        (("rows", ("m", "k")), ("source", ("n",)), ("inverse", ("k",))),
        (("selected", ("m", "n")),),
        "rows",
    )
    kernel = staticmethod(kernel)

    def connection_pattern(self, node):
        return [[True], [False], [False]]

    def pullback(self, inputs, outputs, cotangents):
        _, source, inverse = inputs
        return [self(cotangents[0], inverse, source), DisconnectedType()(), DisconnectedType()()]


def _sources(positions, n):
    """For n entries their place among increasing positions, -1 where there is none."""
    entries = pt.arange(n, dtype="int64")
    # The end stands for an entry that is none, also where there are no positions.
    padded = pt.concatenate([positions.astype("int64"), entries[-1:] + 1])
    places = pt.searchsorted(padded, entries)
    return pt.switch(pt.eq(padded[places], entries), places, -1)


def _select(x, source, inverse):
    rows, restore = rows_last(x, 0)
    return restore(Select()(rows, source, inverse))


def entries_at(x, positions):
    """``x[..., positions]`` for increasing positions: (..., n) -> (..., k)."""
    static = x.type.shape[-1]
    n = x.shape[-1] if static is None else static
    return _select(x, positions, _sources(positions, n))


def among_zeros(x, positions, n):
    """The entries of x at increasing positions of n, zero elsewhere: (..., k) -> (..., n)."""
    return _select(x, _sources(positions, n), positions)
