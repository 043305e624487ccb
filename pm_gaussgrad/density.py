"""The log density of rows as one symbolic Op, so that rewrites can recognise it whole."""

import pytensor.tensor as pt
from pytensor.compile.builders import SymbolicOp
from pytensor.gradient import grad
from pytensor.graph.replace import _vectorize_node, clone_replace, vectorize_graph

from pm_gaussgrad.cov import Cholesky, Covariance, Dense, Precision
from pm_gaussgrad.cov.base import as_parameter, check_size, gaussian_log_density
from pm_gaussgrad.missing import Observed, observed_part, only_where


class GaussianLogDensity(SymbolicOp):
    """``(value (..., n), mu, *parameters) -> logp (...)`` of one covariance structure.

    Its inner graph is the structure's ``logp``. It is expanded when a graph is rewritten,
    after the sum over rows had its chance (:mod:`pm_gaussgrad.rewrites`).
    """

    __props__ = ("structure",)

    def build_inner_graph(self, value, mu, *parameters):
        residual = value - mu
        cov = self.structure.from_parameters(*parameters, size=residual.shape[-1])
        return [cov.logp(residual)]

    def pullback(self, inputs, outputs, cotangents):
        # Written out, so that value and gradient share one factorisation when compiled; on
        # copies of the inputs, because one may depend on another.
        dummies = [x.type() for x in inputs]
        [inner] = self.build_inner_graph(*dummies)
        cotangent = cotangents[0].type()
        bars = grad(
            None,
            wrt=dummies,
            known_grads={inner: cotangent},
            disconnected_inputs="ignore",
            return_disconnected="disconnected",
        )
        connected = [bar for bar in bars if isinstance(bar, pt.TensorVariable)]
        given = dict(zip([*dummies, cotangent], [*inputs, cotangents[0]], strict=True))
        written = iter(clone_replace(connected, given))
        return [next(written) if isinstance(bar, pt.TensorVariable) else bar for bar in bars]

    def __str__(self):
        return f"{type(self).__name__}{{{self.structure.__name__}}}"


@_vectorize_node.register(GaussianLogDensity)
def _vectorize_log_density(op, node, *inputs):
    (value, mu, *parameters), (new_value, new_mu, *new_parameters) = node.inputs, inputs
    if all(new.type.ndim == p.type.ndim for new, p in zip(new_parameters, parameters, strict=True)):
        # One covariance for the whole batch: its entries are rows.
        rows = max(value.type.ndim, mu.type.ndim)
        new_value = _insert_dims(new_value, value.type.ndim, rows)
        new_mu = _insert_dims(new_mu, mu.type.ndim, rows)
        return log_density(op.structure, new_value, new_mu, new_parameters).owner
    inner = op.build_inner_graph(*node.inputs)
    [batched] = vectorize_graph(inner, dict(zip(node.inputs, inputs, strict=True)))
    return batched.owner


def _insert_dims(x, core_ndim, wanted):
    """Dimensions of length one between the batch and the core, so that cores align."""
    batch_ndim = x.type.ndim - core_ndim
    if batch_ndim == 0:
        return x
    return pt.expand_dims(x, tuple(range(batch_ndim, batch_ndim + wanted - core_ndim)))


def as_covariance(cov=None, chol=None, tau=None) -> Covariance:
    """The structure of exactly one of ``cov`` (a matrix or structure), ``chol`` and ``tau``."""
    given = [name for name, x in (("cov", cov), ("chol", chol), ("tau", tau)) if x is not None]
    if len(given) != 1:
        raise ValueError(
            "gg.MvNormal: pass exactly one of cov= (a covariance matrix or a gg.cov structure), "
            "chol= (a lower Cholesky factor) and tau= (a precision matrix); found "
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
        Observations; leading dimensions are rows or batches.
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
    value = as_parameter("gg.logp", "value", value, 1)
    mu = as_parameter("gg.logp", "mu", mu, 0)
    check_size(cov, "value", value)
    return log_density(cov.structure, value, mu, cov.parameters)


def log_density(structure, value, mu, parameters):
    """:func:`logp` of a flattened covariance."""
    # The residual decides the number of observations; a scalar variance follows it.
    return GaussianLogDensity(structure=structure)(
        pt.as_tensor_variable(value), pt.as_tensor_variable(mu), *parameters
    )


def log_density_of_observed(cov, value, mu, missing):
    """:func:`logp` of the observed entries of rows, the others integrated out.

    Parameters
    ----------
    cov : Covariance
        Of known size n.
    value, mu : TensorVariable, shape (..., n)
        The value has NaN at its missing entries.
    missing : array of bool, of the shape of the value
    """
    mu = pt.broadcast_to(mu, (*tuple(mu.shape)[:-1], missing.shape[-1]))
    part = observed_part(cov, value, mu, missing)
    if part is None:
        logp = pt.zeros(missing.shape[:-1], dtype=value.dtype)
    elif isinstance(part, Observed):
        logp = log_density(part.cov.structure, part.value, part.mu, part.cov.parameters)
    else:
        logp = gaussian_log_density(part.quad, part.logdet, part.counts)
        logp = pt.switch(part.counts > 0, logp, 0)
    return only_where(value, missing, logp)
