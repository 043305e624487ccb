"""Sums of the entries of matrices and larger arrays, as Ops of this package.

numba takes ten seconds to compile the first of PyTensor's that is not part of an elementwise
function: they are written for any order of strides, which they sort. The gradient of a scalar that
a structure's matrix consists of is such a sum.
"""

from functools import cached_property

from pytensor.graph.rewriting.basic import GraphRewriter, copy_stack_trace
from pytensor.tensor.math import Sum
from pytensor.tensor.rewriting.fused_elemwise import fused_elemwise_optdb

from pm_gaussgrad.kernels.sums import sums_over_axes, total
from pm_gaussgrad.ops.backends.loading import has_ops
from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.signature import Signature


class EntrySums(CompiledOp):
    """``x -> x.sum(axis=(start, ..., stop - 1))``, x of ``ndim`` axes."""

    __props__ = ("ndim", "start", "stop")

    def __init__(self, ndim: int, start: int, stop: int):
        self.ndim, self.start, self.stop = ndim, start, stop

    @property
    def kernel(self):
        return total if self.stop - self.start == self.ndim else sums_over_axes

    @cached_property
    def signature(self):
        dims = tuple(f"k{axis}" for axis in range(self.ndim))
        kept = (*dims[: self.start], *dims[self.stop :])
        facts = (("start", self.start), ("stop", self.stop))
        return Signature("sum", (("x", dims),), (("sums", kept),), "x", facts=facts)


class SumsOnNumba(GraphRewriter):
    """Replace PyTensor's sums that no elementwise function contains, in graphs with our Ops."""

    def add_requirements(self, fgraph):
        pass

    def apply(self, fgraph):
        if not has_ops(fgraph):
            return
        for node in fgraph.toposort():
            if not isinstance(node.op, Sum):
                continue
            [x], [out] = node.inputs, node.outputs
            axes = range(x.type.ndim) if node.op.axis is None else sorted(node.op.axis)
            neighbours = len(axes) > 0 and axes[-1] - axes[0] == len(axes) - 1
            if x.type.ndim < 2 or not neighbours or {x.dtype, out.dtype} != {"float64"}:
                continue
            sums = EntrySums(x.type.ndim, axes[0], axes[-1] + 1)(x)
            if sums.type == out.type:
                copy_stack_trace(out, sums)
                fgraph.replace(out, sums, reason="sums of entries")


# When elementwise functions have taken theirs.
fused_elemwise_optdb.register("pm_gaussgrad_sums", SumsOnNumba(), "numba", position=0.5)
