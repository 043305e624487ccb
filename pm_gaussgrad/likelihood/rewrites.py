r"""Graph rewrites: sufficient statistics of many rows, constant covariances.

**Many rows.** Observed rows whose mean is linear in what they share, or common to them, are
replaced by few rows of the same scatter (:mod:`pm_gaussgrad.likelihood.statistics`), computed once:
of constants when the graph is rewritten, of shared data when they are new to a compiled function.
The rewrite acts on the sum of a log density, in the canonicalisation that PyMC runs before it takes
gradients; the log densities of single rows are untouched. Rows that have known multiples of one
covariance come to the same (:mod:`pm_gaussgrad.likelihood.weights`).

**Constant covariances.** A constant matrix is replaced by its constant Cholesky factor
(``Dense``) or by itself and its constant log determinant (``Precision``): O(n^2) an evaluation.
"""

import warnings

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
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

from pm_gaussgrad.cov.protocol.elliptical import gaussian_log_density
from pm_gaussgrad.cov.protocol.minimum import MinimisedQuadLogdet
from pm_gaussgrad.likelihood import weights  # noqa: F401 - whose rewrite is one of these
from pm_gaussgrad.likelihood.data import data_in, is_known
from pm_gaussgrad.likelihood.density import GaussianLogDensity
from pm_gaussgrad.likelihood.linear_means import LinearMean, linear_mean
from pm_gaussgrad.likelihood.rows_apart import sums_everything
from pm_gaussgrad.likelihood.statistics import rows_of_data, rows_of_same_scatter
from pm_gaussgrad.ops import InvQuadLogdet, join_dims
from pm_gaussgrad.ops.batched import Batched

_AT_PRESENT = Mode(linker="py", optimizer=None)
_SILENT = 2e6  # bytes, which are read in about a tenth of a millisecond


def _mean_of_rows(mu, leading):
    """The mean of rows, whose leading dimensions are ``leading``, as a linear one; None if not.

    None also where the mean repeats the rows.
    """
    # A length that is not known is not one.
    repeats = mu.type.ndim - 1 > len(leading) or any(
        size != 1 and (of_rows == 1 or (None not in (size, of_rows) and size != of_rows))
        for size, of_rows in zip(mu.type.shape[-2::-1], leading[::-1], strict=False)
    )
    if repeats:
        return None
    if mu.type.ndim == 2 and len(leading) == 1:
        return linear_mean(mu)
    lead = range(mu.type.ndim - 1)
    if isinstance(mu, Constant) and None not in leading:
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
    # A length that is not known is not one.
    return any(1 in (size, n) if None in (size, n) else size != n for size in sizes)


@register_canonicalize
@node_rewriter([Sum])
def sum_over_constant_rows(fgraph, node):
    """Sum(log density of m known rows with a linear mean) -> as many rows as it has columns.

    Known is what is constant, or shared data.
    """
    [summand] = node.inputs
    if not (summand.owner and isinstance(summand.owner.op, GaussianLogDensity)):
        return None
    structure = summand.owner.op.structure
    value, mu, *parameters = summand.owner.inputs
    cores = [len(dims.split()) for dims in structure.parameter_shapes.values()]
    unbatched = all(p.type.ndim == core for p, core in zip(parameters, cores, strict=True))
    if not (unbatched and value.type.ndim > 1 and sums_everything(node)):
        return None
    n = value.type.shape[-1]
    if _sizes_may_differ(n, structure, mu, parameters) or not is_known(value):
        return None
    reduced = _of_constants if isinstance(value, Constant) else _of_data
    residual, m, n = reduced(value, mu, summand.dtype) or (None, None, None)
    if residual is None:
        return None
    cov = structure.from_parameters(*parameters, size=n)
    quad, logdet = cov.quad_logdet(residual)
    total = gaussian_log_density(quad.sum(), m * logdet, m * n)
    return [total.astype(node.outputs[0].dtype)]


def _of_constants(value, mu, dtype):
    """Few rows of the same scatter as constant rows, and m and n; None where there are not few."""
    n, leading = value.data.shape[-1], value.data.shape[:-1]
    m = value.data.size // n if n else 0
    if m <= n + 1:
        return None
    with np.errstate(all="ignore"):  # what is not finite is found below
        mean = _mean_of_rows(mu, leading)
        design = None if mean is None else mean.design(m)
        if design is None:
            return None
        if data_in(mean.constant, *_known_parts(design)):
            return _of_data(value, mu, dtype)
        rows = value.data.reshape(m, n) - mean.constant
    columns, coefficients, by_group = design
    columns = np.zeros((m, 0)) if columns is None else columns
    groups = 0 if by_group is None else by_group.effects.type.shape[0]
    if m <= n + columns.shape[1] + groups or not (
        np.isfinite(rows).all() and np.isfinite(columns).all()
    ):
        return None
    return rows_of_same_scatter(rows, columns, coefficients, by_group, dtype), m, n


def _known_parts(design):
    """What of a design does not depend on parameters."""
    columns, _, by_group = design
    return columns, None if by_group is None else by_group.codes


def _holds_at_present(condition) -> bool:
    """Of shapes, which depend on shared data and constants."""
    try:
        return bool(pytensor.function([], condition, mode=_AT_PRESENT)())
    except (ValueError, IndexError, AssertionError):
        return False  # sizes disagree; the rows will say so


def _say_what_data_cost(data):
    size = sum(x.get_value(borrow=True).nbytes for x in data if isinstance(x, SharedVariable))
    if size > _SILENT:
        names = ", ".join(sorted(x.name or "without a name" for x in data))
        warnings.warn(
            f"gg: the log density depends on the shared data {names} through a few numbers only, "
            f"but {size / 1e6:.0f} MB are read at each evaluation to see whether they changed. If "
            "they do not, sample from "
            "pymc.model.transform.optimization.freeze_dims_and_data(model), which reads them once.",
            stacklevel=2,
        )


def _of_data(value, mu, dtype):
    """The same of rows of which something is shared data."""
    mean = _mean_of_rows(mu, value.type.shape[:-1])
    if mean is None:
        return None
    n = value.shape[-1]
    rows = join_dims(value, 0, value.type.ndim - 1) if value.type.ndim > 2 else value
    rows = rows.astype("float64") - mean.constant
    design = mean.design(rows.shape[0])
    if design is None:
        return None
    columns, coefficients, by_group = design
    columns = None if columns is None else pt.as_tensor_variable(columns).astype("float64")
    groups = 0 if by_group is None else by_group.effects.type.shape[0]
    few = n + groups + (0 if columns is None else columns.shape[1])
    if not _holds_at_present(rows.shape[0] > few):
        return None
    _say_what_data_cost(data_in(rows, *_known_parts(design)))
    m = pt.prod(value.shape[:-1])
    return rows_of_data(rows, columns, coefficients, by_group, dtype), m.astype(dtype), n


@register_stabilize
@register_specialize
@node_rewriter([GaussianLogDensity])
def expand_log_density(fgraph, node):
    """Replace the log density Op by its graph, once sums over rows have been looked for.

    Built anew from the inputs: what they have in common says which blocks are the same.
    """
    return node.op.build_inner_graph(*node.inputs)


@register_specialize
@node_rewriter(MinimisedQuadLogdet.__subclasses__())
def expand_minimised(fgraph, node):
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
