"""Rows that miss different entries of a structure that is closed under dropping observations.

Such rows are independent parts of one long structure (``Covariance.rows_apart``), a series in each
group for those of an ``AR1``. Their sum, which is what a model needs, is one density at the cost of
as many observations in one row. The log density of each row by itself is a symbolic Op until a
graph is rewritten, so that the sum can be recognised; alone it is found by solves with the whole
for what each row misses (:mod:`pm_gaussgrad.cov.protocol.gaps`).
"""

from functools import partial

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.builders import SymbolicOp
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Constant
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.scalar.basic import Second
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Sum
from pytensor.tensor.rewriting.basic import (
    register_canonicalize,
    register_specialize,
    register_stabilize,
)
from pytensor.tensor.shape import Reshape

from pm_gaussgrad.cov.protocol.base import length
from pm_gaussgrad.cov.protocol.elliptical import gaussian_log_density
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
        definition, [bar] = self.build_inner_graph, cotangents
        if (common := _common_entry(bar)) is not None and self.apart(*inputs) is not None:
            definition, bar = partial(self._total_like, inputs), common  # that of a sum
        found = pullback_by_definition(definition, inputs, [bar], wrt=wrt)
        bars = [DisconnectedType()() for _ in inputs]
        for i, bar in zip(wrt, found, strict=True):
            bars[i] = bar
        return bars

    def apart(self, residual, missing, positions, *parameters):
        """The covariance of one long row; None where missing entries or index data are no data."""
        if not isinstance(missing, Constant):
            return None
        cov = self.structure.from_parameters(*parameters, size=missing.data.shape[1])
        return cov.rows_apart(~missing.data)

    def total(self, residual, missing, *others):
        """The sum over rows, as the density of one long row."""
        entries = residual.ravel()[np.flatnonzero(~missing.data)]
        return self.apart(residual, missing, *others).logp(entries)

    def _total_like(self, inputs, *copies):
        """The same of copies of inputs, in which index data are those of the inputs."""
        pairs = zip(self._connected(), copies, inputs, strict=True)
        return [self.total(*(copy if connected else x for connected, copy, x in pairs))]

    def _connected(self):
        constant = self.structure.constant_parameters
        return [True, False, False, *(x not in constant for x in self.structure.parameter_shapes)]

    def connection_pattern(self, node):
        return [[connected] for connected in self._connected()]


def _common_entry(bar):
    """The scalar that all entries of a cotangent are known to be; None where they are not."""
    while bar.owner and bar.type.ndim:
        op, inputs = bar.owner.op, bar.owner.inputs
        if isinstance(op, Alloc | DimShuffle | Reshape):
            bar = inputs[0]
        elif isinstance(op, Elemwise) and isinstance(op.scalar_op, Second):
            bar = inputs[1]
        else:
            return None
    return None if bar.type.ndim else bar


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
    alone = alone and _has_shape(residual, missing.shape) and not flat.all()
    if not alone or cov.rows_apart(~flat) is None:
        return None
    # Rows without any observation miss nothing where each is by itself.
    by_row = flat & ~flat.all(axis=-1, keepdims=True)
    positions = missing_positions(by_row)
    index = pt.constant(flat), pt.constant(positions)
    rows = residual.reshape((len(flat), flat.shape[-1]))
    logp = RowsApart(structure=cov.structure)(rows, *index, *cov.parameters)
    return logp if missing.ndim == 2 else logp.reshape(missing.shape[:-1])


def _has_shape(x, shape) -> bool:
    """Whether a tensor has that shape; where it does not know a size it has that of the data."""
    if x.type.ndim != len(shape):
        return False
    known = zip(x.type.shape, shape, strict=True)
    return all(own == size or (own is None and size > 1) for own, size in known)


def sums_everything(node) -> bool:
    """Whether a sum is over all dimensions."""
    axis = node.op.axis
    return axis is None or len(axis) == node.inputs[0].type.ndim


@register_canonicalize
@node_rewriter([Sum])
def sum_of_rows_apart(fgraph, node):
    """The sum of the log densities of rows -> the log density of one long row."""
    [summand] = node.inputs
    if summand.owner and isinstance(summand.owner.op, Reshape):
        summand = summand.owner.inputs[0]
    found = summand.owner and isinstance(summand.owner.op, RowsApart)
    if not (found and sums_everything(node)):
        return None
    op, inputs = summand.owner.op, summand.owner.inputs
    if op.apart(*inputs) is None:
        return None
    return [op.total(*inputs).astype(node.outputs[0].dtype)]


@register_stabilize
@register_specialize
@node_rewriter([RowsApart])
def expand_rows_apart(fgraph, node):
    """Each row by itself, where no sum was found."""
    return node.op.build_inner_graph(*node.inputs)
