r"""Graph rewrites: sufficient statistics of many rows, constant covariances.

**Many rows.** Constant rows whose mean is linear in what they share, or common to them, are
replaced by few rows of the same scatter (:mod:`pm_gaussgrad.likelihood.statistics`), computed once,
when the graph is rewritten. The rewrite acts on the sum of a log density, in the canonicalisation
that PyMC runs before it takes gradients; the log densities of single rows are untouched.

**Constant covariances.** A constant matrix is replaced by its constant Cholesky factor
(``Dense``) or by itself and its constant log determinant (``Precision``): O(n^2) an evaluation.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.tensor.basic import Alloc
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.math import Sum
from pytensor.tensor.rewriting.basic import (
    register_canonicalize,
    register_specialize,
    register_stabilize,
)
from pytensor.tensor.rewriting.blockwise import blockwise_of

from pm_gaussgrad.cov.protocol.base import gaussian_log_density
from pm_gaussgrad.cov.protocol.gaps import ObservedQuadLogdet
from pm_gaussgrad.likelihood.density import GaussianLogDensity
from pm_gaussgrad.likelihood.linear_means import LinearMean, linear_mean
from pm_gaussgrad.likelihood.statistics import rows_of_same_scatter
from pm_gaussgrad.ops import InvQuadLogdet
from pm_gaussgrad.ops.batched import Batched


def _mean_of_rows(mu, leading):
    """The mean of rows, whose leading dimensions are ``leading``, as a linear one; None if not.

    None also where the mean repeats the rows.
    """
    repeats = mu.type.ndim - 1 > len(leading) or any(
        size not in (1, of_rows) and not (size is None and of_rows > 1)
        for size, of_rows in zip(mu.type.shape[-2::-1], leading[::-1], strict=False)
    )
    if repeats:
        return None
    if mu.type.ndim == 2 and len(leading) == 1:
        return linear_mean(mu)
    lead = range(mu.type.ndim - 1)
    if isinstance(mu, Constant):
        constant = np.broadcast_to(mu.data, (*leading, mu.type.shape[-1] if mu.type.ndim else 1))
        return LinearMean(constant.reshape((-1, constant.shape[-1])).astype("float64"))
    if all(mu.type.broadcastable[i] for i in lead):
        row = mu.squeeze(axis=tuple(lead)) if lead else mu
        return linear_mean(pt.atleast_2d(row))
    if mu.owner and isinstance(mu.owner.op, Alloc) and mu.owner.inputs[0].type.ndim <= 1:
        return linear_mean(pt.atleast_2d(mu.owner.inputs[0]))
    return None


def _sizes_may_differ(n, structure, mean, parameters) -> bool:
    """Whether another argument may have a last dimension to which rows of length n broadcast."""
    sizes = [] if mean.type.ndim == 0 or mean.type.broadcastable[-1] else [mean.type.shape[-1]]
    for dims, p in zip(structure.parameter_shapes.values(), parameters, strict=True):
        named = zip(dims.split(), p.type.shape, strict=True)
        sizes += [size for dim, size in named if dim == "n"]
    return any(size != n and not (size is None and n > 1) for size in sizes)


def _sums_everything(node) -> bool:
    axis = node.op.axis
    return axis is None or len(axis) == node.inputs[0].type.ndim


@register_canonicalize
@node_rewriter([Sum])
def sum_over_constant_rows(fgraph, node):
    """Sum(log density of m constant rows with a linear mean) -> as many rows as it has columns."""
    [summand] = node.inputs
    if not (summand.owner and isinstance(summand.owner.op, GaussianLogDensity)):
        return None
    structure = summand.owner.op.structure
    value, mu, *parameters = summand.owner.inputs
    cores = [len(dims.split()) for dims in structure.parameter_shapes.values()]
    unbatched = all(p.type.ndim == core for p, core in zip(parameters, cores, strict=True))
    if not (unbatched and isinstance(value, Constant) and _sums_everything(node)):
        return None
    n, leading = value.data.shape[-1], value.data.shape[:-1]
    m = value.data.size // n if n else 0
    if m <= n + 1 or _sizes_may_differ(n, structure, mu, parameters):
        return None
    with np.errstate(all="ignore"):  # what is not finite is found below
        mean = _mean_of_rows(mu, leading)
        design = None if mean is None else mean.design(m)
        if design is None:
            return None
        rows = value.data.reshape(m, n) - mean.constant
    columns, coefficients, by_group = design
    groups = 0 if by_group is None else by_group.effects.type.shape[0]
    if m <= n + columns.shape[1] + groups or not (
        np.isfinite(rows).all() and np.isfinite(columns).all()
    ):
        return None
    residual = rows_of_same_scatter(rows, columns, coefficients, by_group, summand.dtype)
    cov = structure.from_parameters(*parameters, size=n)
    quad, logdet = cov.quad_logdet(residual)
    total = gaussian_log_density(quad.sum(), m * logdet, m * n)
    return [total.astype(node.outputs[0].dtype)]


@register_stabilize
@register_specialize
@node_rewriter([GaussianLogDensity])
def expand_log_density(fgraph, node):
    """Replace the log density Op by its graph, once sums over rows have been looked for.

    Built anew from the inputs: what they have in common says which blocks are the same.
    """
    return node.op.build_inner_graph(*node.inputs)


@register_specialize
@node_rewriter([ObservedQuadLogdet])
def expand_observed(fgraph, node):
    """Let value and gradient, which is not that of this graph, share what they have in common."""
    return node.op.build_inner_graph(*node.inputs)


@register_canonicalize
@register_stabilize
@register_specialize
@node_rewriter([InvQuadLogdet, blockwise_of(InvQuadLogdet)])
def fold_constant_covariance(fgraph, node):
    """Factor a constant covariance when the graph is rewritten."""
    batched = isinstance(node.op, Blockwise)
    structure = (node.op.core_op if batched else node.op).structure
    residual, *parameters = node.inputs
    outputs, saved = node.outputs[:3], node.outputs[3:]
    if (
        structure.constant_form is None
        or not all(isinstance(p, Constant) for p in parameters)
        or any(fgraph.clients.get(output) for output in saved)
    ):
        return None
    folded, arrays = structure.constant_form(*(p.data for p in parameters))
    op = InvQuadLogdet(folded)
    op = Batched(op) if batched else op
    constants = [pt.constant(a.astype(residual.dtype)) for a in arrays]
    new = op.make_node(residual, *constants).outputs[:3]
    return dict(zip(outputs, new, strict=True))
