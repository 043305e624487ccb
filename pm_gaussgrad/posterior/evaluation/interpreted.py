"""The interpreted mode: PyTensor's Python linker, with kernels compiled.

An elementwise operation without a form in NumPy is a call of a Python function for each entry
there, a hundred times as long as an array needs: such operations are written out.
"""

import math

import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.scalar.math import log1mexp, softplus
from pytensor.tensor.rewriting.basic import elemwise_of


def _clip(x, low, high):
    return pt.switch(pt.lt(x, low), low, pt.switch(pt.gt(x, high), high, x))


def _softplus(x):
    upper = pt.switch(pt.lt(x, 33.3), x + pt.exp(-x), x)
    return pt.switch(pt.lt(x, -37), pt.exp(x), pt.switch(pt.lt(x, 18), pt.log1p(pt.exp(x)), upper))


def _log1mexp(x):
    near, far = pt.log(-pt.expm1(x)), pt.log1p(-pt.exp(x))
    return pt.switch(pt.lt(x, -math.log(2)), far, near)


WRITTEN_OUT = {ps.clip: _clip, softplus: _softplus, log1mexp: _log1mexp}


@node_rewriter([elemwise_of(op) for op in WRITTEN_OUT])
def write_out(fgraph, node):
    """By operations that NumPy has, of the same values."""
    written = WRITTEN_OUT[node.op.scalar_op](*node.inputs)
    return [written.astype(node.outputs[0].dtype)]


# Python functions around compiled kernels. Not fused: PyTensor's Python form of a fused 1 / x has
# single precision. Not in place: what SciPy solves in place comes read-only, and what is fused
# afterwards would have to be evaluated before it is overwritten. Written out when nothing would put
# it together again.
INTERPRETED = (
    Mode(linker="py", optimizer="fast_run")
    .excluding("fusion", "inplace")
    .register((dfs_rewriter(write_out), 49))
)

# What has been rewritten already.
AS_IT_IS = Mode(linker="py", optimizer=None)
