"""Conditional means of missing entries from rows of the precision, as one Op.

An Op, because the dozen small matrix operations that it is made of would take numba a minute to
compile. Its pullback is that of the same operations written in PyTensor; the likelihood does not
need it (:mod:`pm_gaussgrad.cov.protocol.gaps`), second derivatives do.
"""

import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.tensor.blockwise import Blockwise

from pm_gaussgrad.kernels.gaps import condition_on_observed
from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.definition import pullback_by_definition
from pm_gaussgrad.ops.signature import Signature

_SIGNATURE = Signature(
    "missing entries",
    (("residual", ("m", "n")), ("solved", ("k", "n")), ("missing", ("k",))),
    (("filled", ("m", "n")), ("half_logdet", ()), ("orthogonal", ("k", "n"))),
    "residual",
)


class ConditionOnObserved(CompiledOp):
    """``(residual (m, n), solved (k, n), missing (k)) -> filled, half_logdet, orthogonal``.

    As :func:`pm_gaussgrad.kernels.gaps.condition_on_observed` says.
    """

    __props__ = ()
    index_inputs = ("missing",)
    signature = _SIGNATURE
    kernel = staticmethod(condition_on_observed)

    def connection_pattern(self, node):
        return [[True, False, False], [True, True, True], [False, False, False]]

    def pullback(self, inputs, outputs, cotangents):
        bars = pullback_by_definition(definition, inputs, cotangents, wrt=[0, 1])
        return [*bars, DisconnectedType()()]


def definition(residual, solved, missing):
    """The outputs of :class:`ConditionOnObserved` in PyTensor's own operations."""
    n, k = residual.shape[1], missing.shape[0]
    unit_rows = pt.eq(pt.arange(n), missing[:, None]).astype(residual.dtype)
    filler = pt.eq(missing, n)
    block = solved @ unit_rows.T + pt.diag(filler.astype(residual.dtype))
    block = pt.switch(filler[:, None] & ~filler, 0, block)
    factor = pt.linalg.cholesky(block, lower=True)
    identity = pt.eye(k, dtype=residual.dtype)
    inverse = pt.linalg.solve_triangular(factor, identity, lower=True, b_ndim=2)
    observed = pt.switch(unit_rows.sum(axis=0) > 0, 0, residual)
    means = observed @ solved.T @ inverse.T @ inverse
    half_logdet = pt.log(pt.diagonal(factor)).sum()
    return observed - means @ unit_rows, half_logdet, inverse @ unit_rows


def condition_on_observed_rows(residual, solved, missing):
    """:class:`ConditionOnObserved`, with batches.

    Parameters
    ----------
    residual : TensorVariable, shape (..., m, n)
    solved : TensorVariable, shape (..., k, n)
    missing : TensorVariable of int, shape (k) or (..., k)
    """
    op = ConditionOnObserved()
    if residual.type.ndim == solved.type.ndim == 2 and missing.type.ndim == 1:
        return op(residual, solved, missing)
    return Blockwise(op)(residual, solved, missing)
