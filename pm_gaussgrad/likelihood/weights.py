r"""Known weights of rows: rows that have multiples of one covariance.

    y_i ~ N(mu_i, w_i Sigma)  <=>  y_i / w_i^1/2 ~ N(mu_i / w_i^1/2, Sigma),

and the log density of the former is that of the latter less n/2 log w_i. Written as
``w[:, None, None] * matrix`` for a covariance or precision, or as ``s[:, None, None] * chol`` with
s = w^1/2 (or a quotient), the weights being constants or shared data, a batch of matrices is
recognised as one matrix: one factorisation for all rows, and their statistics where there are some.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor import scalar as ps
from pytensor.graph.basic import Constant
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.math import Sum
from pytensor.tensor.rewriting.basic import register_canonicalize

from pm_gaussgrad.cov import Cholesky, Dense, Precision
from pm_gaussgrad.likelihood.data import data_in, is_data
from pm_gaussgrad.likelihood.density import GaussianLogDensity
from pm_gaussgrad.likelihood.rows_apart import sums_everything
from pm_gaussgrad.ops import remembered

# Standard deviations of rows for a factor of the matrix.
_SCALES = {Dense: pt.sqrt, Cholesky: lambda factor: factor, Precision: lambda x: 1 / pt.sqrt(x)}


@register_canonicalize
@node_rewriter([Sum])
def sum_over_weighted_rows(fgraph, node):
    """Sum(log density of rows with w_i Sigma) -> that of rows with Sigma, and the weights'."""
    [summand] = node.inputs
    if not (summand.owner and isinstance(summand.owner.op, GaussianLogDensity)):
        return None
    structure = summand.owner.op.structure
    value, mu, *parameters = summand.owner.inputs
    kind = getattr(structure, "kind", None)
    if kind not in _SCALES or value.type.ndim != 2 or value.type.broadcastable[0]:
        return None
    found = _weights(parameters[0]) if sums_everything(node) else None
    if found is None or mu.type.ndim > 2:
        return None
    factor, matrix = found
    positive = pt.gt(factor, 0) & pt.lt(factor, np.inf)
    scale = _SCALES[kind](pt.switch(positive, factor, 1))
    log_scales = pt.log(pt.switch(positive, scale, np.nan)).sum()
    if data := data_in(log_scales):
        [log_scales] = remembered(data, [], [], [log_scales], as_they_are)
    scale = scale[:, None].astype(value.dtype)
    rows = GaussianLogDensity(structure=structure)(value / scale, mu / scale, matrix)
    total = rows.sum() - value.shape[-1] * log_scales
    # As a matrix that is not positive definite has it.
    total = pt.switch(pt.isfinite(log_scales), total, -np.inf)
    return [total.astype(node.outputs[0].dtype)]


def _weights(parameter):
    """Factors (m) and a matrix (n, n), whose products a batch of matrices is known to be."""
    op = parameter.owner.op if parameter.owner else None
    if parameter.type.ndim != 3 or not isinstance(op, Elemwise):
        return None
    if isinstance(op.scalar_op, ps.Mul):
        factors = [x for x in parameter.owner.inputs if _is_factor(x)]
        others = [x for x in parameter.owner.inputs if not _is_factor(x)]
    elif isinstance(op.scalar_op, ps.TrueDiv):
        others, divisor = parameter.owner.inputs[:1], parameter.owner.inputs[1]
        factors = [1 / divisor] if _is_factor(divisor) else []
    else:
        return None
    if not factors or not others or any(not x.type.broadcastable[0] for x in others):
        return None
    return pt.mul(*factors).dimshuffle(0), pt.mul(*others).dimshuffle(1, 2)


def _is_factor(x) -> bool:
    if x.type.broadcastable != (False, True, True):
        return False
    if isinstance(x, Constant):
        return bool(((x.data > 0) & np.isfinite(x.data)).all())
    return is_data(x)


def as_they_are(*outputs):
    """Nothing is left to be reduced."""
    return outputs
