"""A covariance and k factors or flat coefficients, from solves with the covariance: two Ops.

Ops, because the small matrix operations that they are made of would take numba a minute to compile.
Their pullbacks are those of the same operations written in PyTensor; the likelihood does not need
them (:mod:`pm_gaussgrad.cov.protocol.minimum`), second derivatives do.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.tensor.blockwise import Blockwise

from pm_gaussgrad.kernels.woodbury import factor_cotangent, take_out_factors
from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.definition import pullback_by_definition
from pm_gaussgrad.ops.signature import Signature


class TakeOutFactors(CompiledOp):
    """``(residual (m, n), factor (n, k), solved (p, n), prior ()) -> rows, half_logdet, ...``.

    As :func:`pm_gaussgrad.kernels.woodbury.take_out_factors` says.
    """

    __props__ = ()
    signature = Signature(
        "gg.cov.LowRank and another covariance",
        (
            ("residual", ("m", "n")),
            ("factor", ("n", "k")),
            ("solved", ("p", "n")),
            ("prior", ()),
        ),
        (
            ("rows", ("p", "n")),
            ("half_logdet", ()),
            ("scores", ("m", "k")),
            ("norms", ("m",)),
            ("chol", ("k", "k")),
        ),
        "residual",
    )
    kernel = staticmethod(take_out_factors)

    def connection_pattern(self, node):
        rest = len(node.outputs) - 1  # do not depend on the residual but through what was solved
        of_inputs = [[True, *[False] * rest], *[[True] * len(node.outputs)] * 2]
        return [*of_inputs, [False] * len(node.outputs)]

    def pullback(self, inputs, outputs, cotangents):
        bars = pullback_by_definition(_taken_out, inputs, cotangents, wrt=range(3))
        return [*bars, DisconnectedType()()]


class FactorCotangent(CompiledOp):
    """``(alpha (p, n), scores (m, k), chol (k, k), quad_bar (m,), ...) -> factor_bar, weights``.

    As :func:`pm_gaussgrad.kernels.woodbury.factor_cotangent` says.
    """

    __props__ = ()
    signature = Signature(
        "gg.cov.LowRank and another covariance",
        (
            ("alpha", ("p", "n")),
            ("scores", ("m", "k")),
            ("chol", ("k", "k")),
            ("quad_bar", ("m",)),
            ("logdet_bar", ()),
        ),
        (("factor_bar", ("n", "k")), ("weights", ("p",))),
        "alpha",
    )
    kernel = staticmethod(factor_cotangent)
    zero_inputs = ("quad_bar", "logdet_bar")

    def connection_pattern(self, node):
        return [*[[True, False]] * 3, *[[True, True]] * 2]

    def pullback(self, inputs, outputs, cotangents):
        return pullback_by_definition(_factor_bar, inputs, cotangents, wrt=range(5))


def _taken_out(residual, factor, solved, prior):
    """The outputs of :class:`TakeOutFactors` in PyTensor's own operations."""
    k = factor.shape[1]
    of_factor, of_residual = solved[:k], solved[k:]
    identity = pt.eye(k, dtype=residual.dtype)
    inner = of_factor @ factor
    chol = pt.linalg.cholesky(prior * identity + (inner + inner.T) / 2, lower=True)
    inverse = pt.linalg.solve_triangular(chol, identity, lower=True, b_ndim=2)
    scores = of_residual @ factor @ inverse.T @ inverse
    rows = pt.concatenate([inverse @ factor.T, residual - scores @ factor.T])
    norms = prior * (scores**2).sum(axis=1)
    return rows, pt.log(pt.diagonal(chol)).sum(), scores, norms, chol


def _factor_bar(alpha, scores, chol, quad_bar, logdet_bar):
    """The outputs of :class:`FactorCotangent` likewise."""
    identity = pt.eye(chol.shape[0], dtype=chol.dtype)
    inverse = pt.linalg.solve_triangular(chol, identity, lower=True, b_ndim=2)
    weights = pt.concatenate([2 * logdet_bar * inverse, -2 * quad_bar[:, None] * scores])
    of_factor = pt.full((chol.shape[0],), logdet_bar)
    return alpha.T @ weights, pt.concatenate([of_factor, quad_bar])


def without_factors(residual, factor, solved, prior):
    """:class:`TakeOutFactors`, with batches: (..., m, n), (..., n, k), (..., k + m, n)."""
    prior = pt.constant(np.asarray(prior, dtype=residual.dtype))
    return _applied(TakeOutFactors(), residual, factor, solved, prior)


def cotangent_of_factor(alpha, scores, chol, quad_bar, logdet_bar):
    """:class:`FactorCotangent`, with batches."""
    return _applied(FactorCotangent(), alpha, scores, chol, quad_bar, logdet_bar)


def _applied(op, *inputs):
    cores = (len(dims) for _, dims in op.signature.inputs)
    batched = any(x.type.ndim > core for x, core in zip(inputs, cores, strict=True))
    return (Blockwise(op) if batched else op)(*inputs)
