"""Rows that miss different entries of a structure that is closed under dropping observations.

Such rows are independent parts of one long structure (``Covariance.rows_apart``), a series in each
group for those of an ``AR1``. Their sum, which is what a model needs, is one density at the cost of
as many observations in one row. The log density of each row by itself is a symbolic Op until a
graph is rewritten, so that the sum can be recognised; alone it is found by solves with the whole
for what each row misses (:mod:`pm_gaussgrad.cov.protocol.gaps`).
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.builders import SymbolicOp
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Constant
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.tensor.math import Sum
from pytensor.tensor.rewriting.basic import (
    register_canonicalize,
    register_specialize,
    register_stabilize,
)
from pytensor.tensor.shape import Reshape

from pm_gaussgrad.cov.protocol.base import gaussian_log_density, length
from pm_gaussgrad.cov.protocol.gaps import observed_quad_logdet_alpha
from pm_gaussgrad.likelihood.missing import missing_positions
from pm_gaussgrad.ops import pullback_by_definition


class RowsApart(SymbolicOp):
    """``(residual (m, n), missing (m, n), positions (m, k), *parameters) -> logp (m,)``.

    What stands at missing entries does not matter; ``positions`` are those of what each row misses,
    filled up by n.
    """

    __props__ = ("structure",)

    def build_inner_graph(self, residual, missing, positions, *parameters):
        cov = self.structure.from_parameters(*parameters, size=length(residual))
        quad, logdet, _ = observed_quad_logdet_alpha(cov, residual, positions)
        counts = pt.eq(missing, 0).sum(axis=-1)
        return [pt.switch(pt.gt(counts, 0), gaussian_log_density(quad, logdet, counts), 0)]

    def pullback(self, inputs, outputs, cotangents):
        wrt = [i for i, connected in enumerate(self._connected()) if connected]
        found = pullback_by_definition(self.build_inner_graph, inputs, cotangents, wrt=wrt)
        bars = [DisconnectedType()() for _ in inputs]
        for i, bar in zip(wrt, found, strict=True):
            bars[i] = bar
        return bars

    def _connected(self):
        constant = self.structure.constant_parameters
        return [True, False, False, *(x not in constant for x in self.structure.parameter_shapes)]

    def connection_pattern(self, node):
        return [[connected] for connected in self._connected()]


def log_density_of_rows(cov, residual, missing):
    """The log density of each row (..., n) of residuals; None where there is no such structure.

    Parameters
    ----------
    cov : Covariance
        Of known size n.
    residual : TensorVariable, shape (..., n)
    missing : array of bool, of that shape
    """
    flat = missing.reshape(-1, missing.shape[-1])
    cores = (len(dims.split()) for dims in cov.structure.parameter_shapes.values())
    alone = all(p.type.ndim == core for p, core in zip(cov.parameters, cores, strict=True))
    alone = alone and residual.type.ndim == missing.ndim and not flat.all()
    if not alone or cov.rows_apart(~flat) is None:
        return None
    # Rows without any observation miss nothing where each is by itself.
    by_row = flat & ~flat.all(axis=-1, keepdims=True)
    positions = missing_positions(by_row)
    index = pt.constant(flat), pt.constant(positions)
    rows = residual.reshape((len(flat), flat.shape[-1]))
    logp = RowsApart(structure=cov.structure)(rows, *index, *cov.parameters)
    return logp.reshape(missing.shape[:-1])


@register_canonicalize
@node_rewriter([Sum])
def sum_of_rows_apart(fgraph, node):
    """The sum of the log densities of rows -> the log density of one long row."""
    [summand] = node.inputs
    if summand.owner and isinstance(summand.owner.op, Reshape):
        summand = summand.owner.inputs[0]
    whole = node.op.axis is None or len(node.op.axis) == node.inputs[0].type.ndim
    if not (whole and summand.owner and isinstance(summand.owner.op, RowsApart)):
        return None
    residual, missing, _, *parameters = summand.owner.inputs
    if not isinstance(missing, Constant):
        return None
    observed = ~missing.data
    cov = summand.owner.op.structure.from_parameters(*parameters, size=observed.shape[1])
    apart = cov.rows_apart(observed)
    entries = residual.ravel()[np.flatnonzero(observed)]
    return None if apart is None else [apart.logp(entries).astype(node.outputs[0].dtype)]


@register_stabilize
@register_specialize
@node_rewriter([RowsApart])
def expand_rows_apart(fgraph, node):
    """Each row by itself, where no sum was found."""
    return node.op.build_inner_graph(*node.inputs)
