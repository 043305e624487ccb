"""The log density of rows as one symbolic Op, so that rewrites can recognise it whole."""

import pytensor.tensor as pt
from pytensor.compile.builders import SymbolicOp
from pytensor.graph.replace import _vectorize_node, vectorize_graph

from pm_gaussgrad.cov import Cholesky, Covariance, Dense, Precision
from pm_gaussgrad.cov.protocol.base import as_parameter, check_size, length
from pm_gaussgrad.cov.protocol.batches import check_batch
from pm_gaussgrad.cov.protocol.elliptical import gaussian_log_density
from pm_gaussgrad.likelihood.data import mark_data, mark_data_of_model
from pm_gaussgrad.likelihood.missing import log_density_where_observed, without_masks
from pm_gaussgrad.likelihood.rows_apart import log_density_of_rows
from pm_gaussgrad.ops import pullback_by_definition


class LogDensity(SymbolicOp):
    """``(value (..., n), mu, ..., *parameters) -> logp (...)`` of one covariance structure.

    Attributes
    ----------
    core_ndims : tuple of int
        Core dimensions of the inputs ahead of the structure's parameters.
    """

    __props__ = ("structure",)
    core_ndims: tuple[int, ...]

    def pullback(self, inputs, outputs, cotangents):
        # Written out, so that value and gradient share one factorisation when compiled.
        return pullback_by_definition(
            self.build_inner_graph, inputs, cotangents, wrt=range(len(inputs))
        )

    def __str__(self):
        return f"{type(self).__name__}{{{self.structure.__name__}}}"


class GaussianLogDensity(LogDensity):
    """``(value (..., n), mu, *parameters) -> logp (...)``: the structure's ``logp``.

    It is expanded when a graph is rewritten, after the sum over rows had its chance
    (:mod:`pm_gaussgrad.likelihood.rewrites`).
    """

    core_ndims = (1, 1)

    def build_inner_graph(self, value, mu, *parameters):
        residual = value - mu
        cov = self.structure.from_parameters(*parameters, size=residual.shape[-1])
        return [cov.logp(residual)]


@_vectorize_node.register(LogDensity)
def _vectorize_log_density(op, node, *inputs):
    stop = len(op.core_ndims)
    parameters = zip(inputs[stop:], node.inputs[stop:], strict=True)
    if all(new.type.ndim == old.type.ndim for new, old in parameters):
        # One covariance for the whole batch: its entries are rows.
        leading = list(zip(inputs[:stop], node.inputs[:stop], op.core_ndims, strict=True))
        rows = max(old.type.ndim - core for _, old, core in leading)
        aligned = [insert_dims(new, old.type.ndim, rows + core) for new, old, core in leading]
        return op(*aligned, *inputs[stop:]).owner
    inner = op.build_inner_graph(*node.inputs)
    [batched] = vectorize_graph(inner, dict(zip(node.inputs, inputs, strict=True)))
    return batched.owner


def insert_dims(x, core_ndim, wanted):
    """Dimensions of length one between the batch and the core, so that cores align."""
    batch_ndim = x.type.ndim - core_ndim
    if batch_ndim == 0:
        return x
    return pt.expand_dims(x, tuple(range(batch_ndim, batch_ndim + wanted - core_ndim)))


def as_covariance(
    cov=None, chol=None, tau=None, owner="gg.MvNormal", name="cov", kind="covariance"
) -> Covariance:
    """The structure of exactly one of ``cov`` (a matrix or structure), ``chol`` and ``tau``.

    Errors call ``cov`` the ``name`` of ``owner`` and its matrix a ``kind`` matrix.
    """
    given = [name for name, x in ((name, cov), ("chol", chol), ("tau", tau)) if x is not None]
    if len(given) != 1:
        raise ValueError(
            f"{owner}: pass exactly one of {name}= (a {kind} matrix or a gg.cov structure), "
            "chol= (its lower Cholesky factor) and tau= (its inverse); found "
            f"{given or 'none'}."
        )
    if chol is not None:
        return Cholesky(chol)
    if tau is not None:
        return Precision(tau)
    return cov if isinstance(cov, Covariance) else Dense(cov)


def logp(value, mu, cov):
    r"""Log density of a multivariate normal, :math:`\log N(y \mid \mu, \Sigma)`.

    Parameters
    ----------
    value : tensor_like, shape (..., n), in units of [y]
        Observations; leading dimensions are rows or batches. NaN in data are missing values,
        which are integrated out.
    mu : tensor_like, shape (..., n) or broadcastable to it, in units of [y]
        Mean.
    cov : tensor_like, shape (..., n, n), or gg.cov structure, in units of [y]^2
        Covariance.

    Returns
    -------
    TensorVariable, shape ``value.shape[:-1]``
        -inf where the covariance is not positive definite or not finite.

    Notes
    -----
    Rows that share one covariance share one factorisation.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> round(float(gg.logp([0.0, 0.0], 0.0, gg.cov.Diagonal(1.0)).eval()), 6)
    -1.837877
    """
    cov = cov if isinstance(cov, Covariance) else Dense(cov)
    value = without_masks(value)
    value = as_parameter("gg.logp", "value", value, 1)
    mu = as_parameter("gg.logp", "mu", mu, 0)
    check_size(cov, "value", value)
    cov = cov.resolved_for(length(value))
    check_batch(cov, "value", value)
    cov.check_constants(value.type.shape[-1])
    return log_density_of_data(cov.structure, value, mu, cov.parameters)


def log_density(structure, value, mu, parameters):
    """:func:`logp` of a flattened covariance."""
    # The residual decides the number of observations; a scalar variance follows it.
    value, mu = pt.as_tensor_variable(value), pt.as_tensor_variable(mu)
    mark_data(value)
    mark_data_of_model()
    return GaussianLogDensity(structure=structure)(value, mu, *parameters)


def log_density_of_data(structure, value, mu, parameters):
    """:func:`log_density` of the entries that data, constant or shared, do not miss."""
    return log_density_where_observed(
        structure, value, mu, parameters, log_density, gaussian_log_density, log_density_of_rows
    )
