r"""``MvStudentT``: the multivariate Student-t distribution with a structured scale matrix.

With quad = r' Sigma^-1 r and logdet = log|Sigma|, as of the normal,

    log p = log Gamma((nu + n) / 2) - log Gamma(nu / 2) - n/2 log(nu pi)
            - logdet / 2 - (nu + n) / 2 log(1 + quad / nu)

The cotangents d log p / d quad = -(nu + n) / (2 (nu + quad)) and d log p / d logdet = -1/2 go
into the pullback of the structure. (Kotz and Nadarajah, 2004, Multivariate t Distributions and
Their Applications, equation 1.1.)
"""

import warnings

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.distribution import _support_point
from pymc.distributions.moments.means import _mean
from pymc.logprob.abstract import _logprob

from pm_gaussgrad.cov.protocol.base import as_parameter, check_size, length
from pm_gaussgrad.cov.protocol.batches import check_batch
from pm_gaussgrad.cov.protocol.elliptical import LOG_2PI
from pm_gaussgrad.cov.protocol.latent import check_proper
from pm_gaussgrad.distributions.normal import (
    StructuredDistribution,
    StructuredRV,
    broadcast_mean,
    centred_draws,
    check_keywords,
)
from pm_gaussgrad.distributions.shapes import as_value, expand_mean, resized
from pm_gaussgrad.likelihood.density import LogDensity, as_covariance
from pm_gaussgrad.likelihood.missing import log_density_where_observed, without_masks
from pm_gaussgrad.ops import log_gamma_ratio


def _range(dtype):
    """The nu between which nu^2 neither underflows nor overflows."""
    limits = np.finfo(dtype)
    return np.sqrt(np.array([limits.tiny, limits.max], dtype=dtype))


def student_log_density(quad, logdet, n, nu):
    """The log density from its parts, which broadcast; n may differ between them.

    -inf where logdet is not finite, quad / nu overflows or nu is not positive. A quad that is
    NaN stays NaN: that is a fact of the data or of the mean. Infinite nu is the normal limit.
    """
    dtype = quad.dtype
    nu, n = pt.as_tensor(nu).astype(dtype), pt.as_tensor(n).astype(dtype)
    least, largest = _range(dtype)
    positive = nu > least
    nu = pt.switch(positive, pt.minimum(nu, largest), np.ones((), dtype))
    usable = positive & pt.isfinite(logdet) & ~pt.isinf(quad / nu)
    # What is not usable has cotangents of zero, and must not multiply them by infinity.
    quad = pt.switch(usable, quad, np.zeros((), dtype))
    value = (
        log_gamma_ratio(nu / 2, n / 2)
        - 0.5 * (nu + n) * pt.log1p(quad / nu)
        - 0.5 * (logdet + n * LOG_2PI)
    )
    return pt.switch(usable, value, -np.inf).astype(dtype)


class StudentLogDensity(LogDensity):
    """``(value (..., n), mu, nu, *parameters) -> logp (...)`` of one structure of the scale."""

    inline = True
    core_ndims = (1, 1, 0)

    def build_inner_graph(self, value, mu, nu, *parameters):
        residual = value - mu
        scale = self.structure.from_parameters(*parameters, size=residual.shape[-1])
        quad, logdet = scale.quad_logdet(residual)
        return [student_log_density(quad, logdet, residual.shape[-1], nu)]


def student_t_logp(value, nu, mu, scale):
    r"""Log density of a multivariate Student-t, :math:`\log t_\nu(y \mid \mu, \Sigma)`.

    Parameters
    ----------
    value : tensor_like, shape (..., n), in units of [y]
        Observations; leading dimensions are rows or batches. NaN in data are missing values,
        which are integrated out.
    nu : tensor_like, shape () or (...)
        Degrees of freedom, positive; one for all rows or one a row.
    mu : tensor_like, shape (..., n) or broadcastable to it, in units of [y]
        Location.
    scale : tensor_like, shape (..., n, n), or gg.cov structure, in units of [y]^2
        Scale matrix. It is not the covariance, which is :math:`\nu / (\nu - 2)` times as large.

    Returns
    -------
    TensorVariable, shape ``value.shape[:-1]``
        -inf where the scale matrix is not positive definite or not finite, and where ``nu`` is
        not positive.

    Notes
    -----
    Rows that share one scale matrix share one factorisation.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> round(float(gg.student_t_logp([0.0, 0.0], 3.0, 0.0, gg.cov.Diagonal(1.0)).eval()), 6)
    -1.837877
    """
    scale = as_covariance(scale, owner="gg.student_t_logp", name="scale", kind="scale")
    value = without_masks(value)
    value = as_parameter("gg.student_t_logp", "value", value, 1)
    nu = as_parameter("gg.student_t_logp", "nu", nu, 0)
    mu = as_parameter("gg.student_t_logp", "mu", mu, 0)
    check_size(scale, "value", value)
    scale = scale.resolved_for(length(value))
    check_proper("gg.student_t_logp", "scale", scale, "give the coefficients a prior variance")
    check_batch(scale, "value", value)
    scale.check_constants(value.type.shape[-1])
    return _log_density_of_data(scale.structure, value, nu, mu, scale.parameters)


def _log_density_of_data(structure, value, nu, mu, parameters):
    """Of what data do not miss: a marginal has the same nu and a smaller n."""

    def of_rows(structure, value, mu, parameters):
        op = StudentLogDensity(structure=structure)
        return op(pt.as_tensor_variable(value), mu, nu, *parameters)

    def of_parts(quad, logdet, n):
        return student_log_density(quad, logdet, n, nu)

    return log_density_where_observed(structure, value, mu, parameters, of_rows, of_parts)


class MvStudentTRV(StructuredRV):
    """Draws ``mu + S z sqrt(nu / chi2)``, S S' = Sigma, with a chi2 of nu degrees for each row."""

    _print_name = ("MvStudentT", "\\operatorname{MvStudentT}")

    @classmethod
    def rv_op(cls, nu, mu, *parameters, structure, rng=None, size=None, **kwargs):
        def draws(batch, rng, nu, mu, *parameters):
            next_rng, centred = centred_draws(structure, batch, rng, mu, parameters)
            nu = pt.minimum(nu, _range(nu.dtype)[1])
            next_rng, chi2 = pt.random.chisquare(nu, size=batch, rng=next_rng, return_next_rng=True)
            factor = pt.sqrt(nu / chi2).astype(mu.dtype)
            return next_rng, mu + centred * pt.expand_dims(factor, -1)

        arguments, cores = [nu, mu, *parameters], [(), ("n",)]
        return cls.from_draws(draws, arguments, cores, structure, rng, size, **kwargs)


@_logprob.register(MvStudentTRV)
def _mvstudentt_logprob(op, values, rng, size, nu, mu, *parameters, **kwargs):
    value = as_value("gg.MvStudentT", *values, mu)
    logp = _log_density_of_data(op.structure, value, nu, mu, parameters)
    return resized("gg.MvStudentT", logp, size)


@_support_point.register(MvStudentTRV)
def _mvstudentt_support_point(op, rv, rng, size, nu, mu, *parameters):
    return broadcast_mean(op, size, [nu, mu, *parameters], mu)


@_mean.register(MvStudentTRV)
def _mvstudentt_mean(op, rv, rng, size, nu, mu, *parameters):
    """NaN where there is no mean."""
    location = broadcast_mean(op, size, [nu, mu, *parameters], mu)
    return pt.switch(pt.expand_dims(nu, -1) > 1, location, np.nan).astype(location.dtype)


class MvStudentT(StructuredDistribution):
    r"""Multivariate Student-t distribution with a structured scale matrix and an analytic gradient.

    .. math::

        p(y) = \frac{\Gamma((\nu + n) / 2)}{\Gamma(\nu / 2)\, (\nu \pi)^{n/2}\, |\Sigma|^{1/2}}
        \left( 1 + \frac{(y - \mu)^\top \Sigma^{-1} (y - \mu)}{\nu} \right)^{-(\nu + n) / 2}

    Parameters
    ----------
    nu : tensor_like, shape () or (...)
        Degrees of freedom, positive; one for all rows or one a row.
    mu : tensor_like, shape () or (..., n), in units of [y], default 0
        Location: the mean where nu > 1. May vary by row and depend on parameters.
    scale : tensor_like, shape (..., n, n), or gg.cov structure, in units of [y]^2
        Scale matrix :math:`\Sigma` or its structure. It is not the covariance, which is
        :math:`\nu / (\nu - 2)\, \Sigma` where nu > 2 and does not exist elsewhere. Exactly one
        of ``scale``, ``chol`` and ``tau``.
    chol : tensor_like, shape (..., n, n), in units of [y]
        Lower Cholesky factor of the scale matrix.
    tau : tensor_like, shape (..., n, n), in units of [y]^-2
        Inverse of the scale matrix.
    Sigma, cov : tensor_like, shape (..., n, n), or gg.cov structure, in units of [y]^2
        Other names of ``scale``, which :class:`pymc.MvStudentT` has. ``cov`` warns, as it does
        there: it is not the covariance.
    lower, method
        As of :class:`MvNormal`.
    observed, shape, dims, initval, ...
        As for every PyMC distribution. The value has shape (..., n). Each row is a draw of its
        own, with one random factor common to its n entries; leading dimensions that the scale
        matrix does not have are rows that share one factorisation.

    Raises
    ------
    TypeError
        If an argument is not real, has too few dimensions or does not exist.
    ValueError
        If not exactly one of ``scale``, ``chol`` and ``tau`` is given, or sizes disagree.

    Notes
    -----
    Value and gradient cost what those of :class:`MvNormal` with the same structure cost. Rows are
    never summed up beforehand: each has a weight :math:`(\nu + n) / (\nu + r^\top \Sigma^{-1} r)`
    of its own in the gradient, by which rows far out count less.

    The log density is -inf, and its gradient zero, where the scale matrix is not positive
    definite or not finite, or nu is not positive; nothing is raised while sampling. As nu grows
    it becomes that of the normal without loss of digits.

    References
    ----------
    - Kotz, S. and Nadarajah, S. (2004). *Multivariate t Distributions and Their Applications*,
      equation 1.1.
    - Lange, K. L., Little, R. J. A. and Taylor, J. M. G. (1989). Robust statistical modeling
      using the t distribution. *Journal of the American Statistical Association* 84, 881-896,
      section 2.

    Examples
    --------
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> with pm.Model() as model:
    ...     nu = pm.Gamma("nu", 2, 0.1)
    ...     scale = gg.cov.AR1(2.0, 0.5)
    ...     y = gg.MvStudentT("y", nu, 0.0, scale, observed=[[0.5, -0.2, 0.1], [0.3, 9.0, 8.0]])
    >>> print(model.str_repr())
    nu ~ Gamma(2, <constant>)
     y ~ MvStudentT(nu, <constant>, 2, 0.5)
    """

    rv_type = MvStudentTRV
    rv_op = MvStudentTRV.rv_op

    @classmethod
    def dist(
        cls,
        nu,
        mu=0.0,
        scale=None,
        *,
        Sigma=None,
        cov=None,
        chol=None,
        tau=None,
        lower=True,
        method="cholesky",
        shape=None,
        **kwargs,
    ):
        """A standalone distribution, as :class:`MvStudentT` without a model."""
        owner = "gg.MvStudentT"
        check_keywords(cls, kwargs, chol, lower, method)
        scale = as_covariance(
            _scale_matrix(owner, scale, Sigma, cov), chol, tau, owner, "scale", "scale"
        )
        nu = as_parameter(owner, "nu", nu, 0)
        mu = expand_mean(as_parameter(owner, "mu", mu, 0), scale, shape, owner, "scale")
        scale = scale.resolved_for(length(mu))
        check_proper(owner, "scale", scale, "give the coefficients a prior variance")
        scale.check_constants(mu.type.shape[-1])
        return super().dist(
            [nu, mu, *scale.parameters], structure=scale.structure, shape=shape, **kwargs
        )


def _scale_matrix(owner, scale, Sigma, cov):
    """The scale matrix by whichever of its names, of which PyMC has three."""
    given = {"scale": scale, "Sigma": Sigma, "cov": cov}
    given = {name: matrix for name, matrix in given.items() if matrix is not None}
    if len(given) > 1:
        raise ValueError(
            f"{owner}: {' and '.join(given)} are names of one argument, the scale matrix; pass "
            "scale= alone."
        )
    if cov is not None:
        warnings.warn(
            f"{owner}: `cov` is taken as the scale matrix, as PyMC does; pass it as scale=. The "
            "covariance is nu / (nu - 2) times the scale matrix.",
            FutureWarning,
            stacklevel=4,
        )
    return next(iter(given.values()), None)
