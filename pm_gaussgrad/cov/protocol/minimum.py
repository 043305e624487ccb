"""Quadratic forms that are minima, as Ops whose pullback holds what they are minima over fixed.

Missing entries (:mod:`pm_gaussgrad.cov.protocol.gaps`) and factors beside a covariance
(:mod:`pm_gaussgrad.cov.matrices.woodbury`) come to the same: with a covariance S of its own, and
rows x and V that depend on everything,

    quad = x' S^-1 x + ...,    logdet = log|S| + 2 log|L|,
    d quad = d (x' S^-1 x),    d logdet = d log|S| + sum_j d (v_j' S^-1 v_j),

where the differentials are those of S, x and V held fixed. The rows go through S together, so that
value and gradient share its factorisation and its pullback.

Source: Danskin (1967), The Theory of Max-Min.
"""

import pytensor.tensor as pt
from pytensor.compile.builders import SymbolicOp
from pytensor.gradient import DisconnectedType, disconnected_grad
from pytensor.graph.replace import _vectorize_node, vectorize_graph

from pm_gaussgrad.cov.protocol.base import length
from pm_gaussgrad.ops import is_disconnected, pullback_by_definition
from pm_gaussgrad.ops.polarisation import WEIGHTS, balance, polarise, rejected


class MinimisedQuadLogdet(SymbolicOp):
    """``(residual (..., n), *others, *parameters) -> quad (...), logdet, alpha (..., n)``.

    Attributes
    ----------
    structure
        Of the covariance S, whose parameters are the last inputs.
    """

    __props__ = ("structure",)

    def _cov(self, residual, parameters):
        return self.structure.from_parameters(*parameters, size=length(residual))

    def _pull(self, inputs, alpha, quad_bar, logdet_bar):
        """Cotangents of the inputs through the quadratic form and the log determinant."""
        raise NotImplementedError

    def pullback(self, inputs, outputs, cotangents):
        quad_bar, logdet_bar, alpha_bar = cotangents
        bars = [DisconnectedType()() for _ in inputs]
        if not (is_disconnected(quad_bar) and is_disconnected(logdet_bar)):
            quad_bar, logdet_bar = (
                pt.zeros_like(out) if is_disconnected(bar) else bar
                for out, bar in ((outputs[0], quad_bar), (outputs[1], logdet_bar))
            )
            bars = self._pull(inputs, outputs[2], quad_bar, logdet_bar)
        if not is_disconnected(alpha_bar):
            bars = _add(bars, self._pull_alpha(inputs, outputs[2], alpha_bar))
        return bars

    def _pull_held(self, residual, rows, weights, logdet_bar, parameters):
        """Cotangents of the parameters of S through its quadratic forms of rows held fixed.

        Parameters
        ----------
        rows : TensorVariable, shape (m, ..., n)
        weights : TensorVariable, shape (m, ...)
            Cotangents of the quadratic forms of the rows.
        """
        named = enumerate(self.structure.parameter_shapes)
        wrt = [i for i, name in named if name not in self.structure.constant_parameters]

        def value(rows, *own):
            # The rows are held fixed; they are functions of the parameters again when this is
            # differentiated once more.
            *own, weights, logdet_bar = own
            quad, logdet = self._cov(residual, own).quad_logdet(rows)
            return [(weights * quad).sum() + (logdet_bar * logdet).sum()]

        one = pt.ones((), dtype=rows.dtype)
        arguments = [rows, *parameters, weights, logdet_bar]
        found = pullback_by_definition(value, arguments, [one], [i + 1 for i in wrt])
        bars = [DisconnectedType()() for _ in parameters]
        for i, bar in zip(wrt, found, strict=True):
            bars[i] = bar
        return bars

    def _pull_residual(self, residual, alpha, quad_bar):
        """2 q alpha, zero where a point was rejected."""
        weights = quad_bar[..., None]
        solved = pt.where(rejected(pt, weights, alpha), 0, alpha)
        return sum_to(residual, 2 * weights * solved)

    def _pull_alpha(self, inputs, alpha, alpha_bar):
        """Those through alpha, as in :mod:`pm_gaussgrad.ops.inv_quad_logdet`."""
        residual, *others = inputs
        solved = self(alpha_bar, *others)[2]
        unused = rejected(pt, pt.abs(alpha_bar).sum(axis=-1, keepdims=True), solved)
        scale = disconnected_grad(balance(pt, solved, alpha))
        rows = pt.stack(polarise(alpha_bar, residual, scale))
        quad, logdet, both = self(rows, *others)
        weights = pt.stack([pt.where(unused, 0, w)[..., 0] for w in WEIGHTS])
        weights, of_logdet = weights.astype(quad.dtype), pt.zeros_like(logdet)
        _, *bars = self._pull([rows, *others], both, weights, of_logdet)
        return [sum_to(residual, pt.where(unused, 0, solved)), *bars]

    def _parameters_connected(self):
        """Rows of the connection pattern for the parameters of S."""
        constant = self.structure.constant_parameters
        return [[name not in constant] * 3 for name in self.structure.parameter_shapes]

    def __str__(self):
        return f"{type(self).__name__}{{{self.structure.__name__}}}"


def sum_to(x, bar):
    """A cotangent summed over the dimensions in which ``x`` was broadcast."""
    more = bar.type.ndim - x.type.ndim
    bar = bar.sum(axis=tuple(range(more)))
    ones = zip(x.type.broadcastable, bar.type.broadcastable, strict=True)
    axes = tuple(i for i, (own, full) in enumerate(ones) if own and not full)
    return bar.sum(axis=axes, keepdims=True) if axes else bar


def _add(left, right):
    """Sums of cotangents entry by entry."""
    return [
        b if is_disconnected(a) else a if is_disconnected(b) else a + b
        for a, b in zip(left, right, strict=True)
    ]


@_vectorize_node.register(MinimisedQuadLogdet)
def _vectorize_minimised(op, node, *inputs):
    given = dict(zip(node.inputs, inputs, strict=True))
    return vectorize_graph(op.build_inner_graph(*node.inputs), given)
