r"""Graph rewrites: sufficient statistics of many rows, constant covariances.

**Many rows.** Let Y (m, n) be constant and the mean mu common to its rows. With the column
means ybar and the scatter S = (Y - ybar)'(Y - ybar) = C' C,

    sum_i (y_i - mu)' Sigma^-1 (y_i - mu)
        = tr(Sigma^-1 S) + m (ybar - mu)' Sigma^-1 (ybar - mu)
        = sum_j c_j' Sigma^-1 c_j + |sqrt(m) (ybar - mu)|^2 in the norm of Sigma^-1

so the m rows are replaced by the rows c_j of the triangular factor C of Y - ybar (QR, computed
once, when the graph is rewritten; at most n of them) and one more. The rewrite acts on the
sum of a log density, in the canonicalisation that PyMC runs before it takes gradients; the
log densities of single rows are untouched. (Anderson, 2003, An Introduction to Multivariate
Statistical Analysis, section 3.2.)

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
from pm_gaussgrad.ops import InvQuadLogdet
from pm_gaussgrad.ops.batched import Batched


def _common_mean(mu, leading):
    """The mean, of shape () or (n,), that all rows share.

    None where rows may differ, or where the mean repeats the rows, whose leading dimensions
    are ``leading``.
    """
    if mu.type.ndim <= 1:
        return mu
    repeats = mu.type.ndim - 1 > len(leading) or any(
        size not in (1, of_rows)
        for size, of_rows in zip(mu.type.shape[-2::-1], leading[::-1], strict=False)
    )
    if repeats:
        return None
    if all(mu.type.broadcastable[:-1]):
        return mu.squeeze(axis=tuple(range(mu.type.ndim - 1)))
    if mu.owner and isinstance(mu.owner.op, Alloc) and mu.owner.inputs[0].type.ndim <= 1:
        return mu.owner.inputs[0]
    return None


def _sizes_may_differ(n, structure, mean, parameters) -> bool:
    """Whether another argument may have a last dimension to which rows of length n broadcast."""
    sizes = [mean.type.shape[-1]] if mean.type.ndim else []
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
    """Sum(log density of m constant rows with a common mean) -> at most n + 1 rows."""
    [summand] = node.inputs
    if not (summand.owner and isinstance(summand.owner.op, GaussianLogDensity)):
        return None
    structure = summand.owner.op.structure
    value, mu, *parameters = summand.owner.inputs
    cores = [len(dims.split()) for dims in structure.parameter_shapes.values()]
    unbatched = all(p.type.ndim == core for p, core in zip(parameters, cores, strict=True))
    if not (unbatched and isinstance(value, Constant) and _sums_everything(node)):
        return None
    rows = value.data
    if isinstance(mu, Constant):
        rows, mu = rows - mu.data, pt.zeros((), dtype=mu.dtype)
    mean = _common_mean(mu, rows.shape[:-1])
    n = rows.shape[-1]
    m = rows.size // n if n else 0
    if mean is None or m <= n + 1 or _sizes_may_differ(n, structure, mean, parameters):
        return None
    if not np.isfinite(rows).all():
        return None

    rows = rows.reshape(m, n).astype("float64")
    center = rows.mean(axis=0)
    factor = np.linalg.qr(rows - center, mode="r")
    dtype = summand.dtype
    mean_row = np.sqrt(m).astype(dtype) * (pt.constant(center.astype(dtype)) - mean)
    residual = pt.concatenate([pt.constant(factor.astype(dtype)), mean_row[None, :]])
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
