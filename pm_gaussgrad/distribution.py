"""``MvNormal``: the multivariate normal distribution of PyMC models."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions.distribution import SymbolicRandomVariable, _support_point
from pymc.distributions.shape_utils import implicit_size_from_params, rv_size_is_none
from pymc.logprob.abstract import _logprob
from pymc.pytensorf import normalize_rng_param
from pytensor.tensor.random.utils import normalize_size_param

from pm_gaussgrad.cov.base import as_parameter
from pm_gaussgrad.cov.sized import of_size
from pm_gaussgrad.density import as_covariance, log_density, log_density_of_observed
from pm_gaussgrad.missing import as_observed, missing_entries


class MvNormalRV(SymbolicRandomVariable):
    """Draws ``mu + S z``, S S' = Sigma, from white noise at the cost of the structure.

    The structure is a fact of the instance; the parameters are inputs. PyMC may resize,
    clone, vectorise or replace those, and the structure survives.
    """

    _ndim_supp = 1
    _print_name = ("MvNormal", "\\operatorname{MvNormal}")

    def __init__(self, *args, structure, **kwargs):
        self.structure = structure
        super().__init__(*args, **kwargs)

    @classmethod
    def rv_op(cls, mu, *parameters, structure, rng=None, size=None):
        mu = pt.as_tensor_variable(mu)
        parameters = [pt.as_tensor_variable(p) for p in parameters]
        rng = normalize_rng_param(rng)
        size = normalize_size_param(size)
        cores = [tuple(dims.split()) for dims in structure.parameter_shapes.values()]
        if rv_size_is_none(size):
            batch = implicit_size_from_params(
                mu, *parameters, ndims_params=[1, *(len(core) for core in cores)]
            )
        else:
            batch = size
        n = mu.shape[-1]
        cov = structure.from_parameters(*parameters, size=n)
        next_rng, z = pt.random.normal(
            size=pt.concatenate([batch, [cov.noise_size(n)]]),
            rng=rng,
            return_next_rng=True,
            dtype=mu.dtype,
        )
        signature = ",".join(f"({','.join(core)})" for core in (("n",), *cores))
        return cls(
            inputs=[rng, size, mu, *parameters],
            outputs=[next_rng, mu + cov.draw(z)],
            structure=structure,
            extended_signature=f"[rng],[size],{signature}->[rng],(n)",
        )(rng, size, mu, *parameters)

    def rebuild_rv(self, *args, **kwargs):
        return self.rv_op(*args, structure=self.structure, **kwargs)


@_logprob.register(MvNormalRV)
def _mvnormal_logprob(op, values, rng, size, mu, *parameters, **kwargs):
    [value] = values
    missing = missing_entries(value)
    if missing is None:
        return log_density(op.structure, value, mu, parameters)
    n = missing.shape[-1]
    cov = of_size(op.structure.from_parameters(*parameters, size=n), n)
    return log_density_of_observed(cov, value, mu, missing)


@_support_point.register(MvNormalRV)
def _mvnormal_support_point(op, rv, rng, size, mu, *parameters):
    if rv_size_is_none(size):
        return pt.broadcast_to(mu, rv.shape)
    return pt.broadcast_to(mu, (*tuple(size), mu.shape[-1]))


class MvNormal(pm.Continuous):
    r"""Multivariate normal distribution with a structured covariance and an analytic gradient.

    .. math:: y \sim N(\mu, \Sigma(\theta))

    Parameters
    ----------
    mu : tensor_like, shape () or (..., n), in units of [y], default 0
        Mean; may vary by row and depend on parameters.
    cov : tensor_like, shape (..., n, n), or gg.cov structure, in units of [y]^2
        Covariance matrix or structure. Exactly one of ``cov``, ``chol`` and ``tau``.
    chol : tensor_like, shape (..., n, n), in units of [y]
        Lower Cholesky factor of the covariance.
    tau : tensor_like, shape (..., n, n), in units of [y]^-2
        Precision matrix.
    observed, shape, dims, initval, ...
        As for every PyMC distribution. The value has shape (..., n); leading dimensions that
        the covariance does not have are rows that share one factorisation.

    Raises
    ------
    TypeError
        If an argument is not real or has too few dimensions.
    ValueError
        If not exactly one of ``cov``, ``chol`` and ``tau`` is given, or sizes disagree.

    Notes
    -----
    The log density is -inf, and its gradient with respect to the mean and the covariance zero,
    where the covariance is not positive definite or not finite; nothing is raised while
    sampling. Where the observed rows are
    constant and their mean is common, the summed log density costs the same however many
    rows there are (see :mod:`pm_gaussgrad.rewrites`).

    Examples
    --------
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> with pm.Model() as model:
    ...     sigma = pm.HalfNormal("sigma")
    ...     y = gg.MvNormal("y", 0.0, gg.cov.Diagonal(sigma**2), observed=[0.5, -0.2, 0.1])
    >>> print(model.str_repr())
    sigma ~ HalfNormal(0, 1)
        y ~ MvNormal(<constant>, f(sigma))
    """

    rv_type = MvNormalRV
    rv_op = MvNormalRV.rv_op

    def __new__(cls, name, *args, observed=None, **kwargs):
        if observed is not None:
            observed = as_observed(observed)
        return super().__new__(cls, name, *args, observed=observed, **kwargs)

    @classmethod
    def dist(cls, mu=0.0, cov=None, *, chol=None, tau=None, shape=None, **kwargs):
        """A standalone distribution, as :class:`MvNormal` without a model."""
        if "lower" in kwargs:
            raise TypeError(
                "gg.MvNormal: there is no argument `lower`; chol is the lower Cholesky factor. "
                "Pass chol=upper.mT for an upper one."
            )
        cov = as_covariance(cov, chol, tau)
        mu = as_parameter("gg.MvNormal", "mu", mu, 0)
        mu = _expand_mean(mu, cov, shape)
        return super().dist([mu, *cov.parameters], structure=cov.structure, shape=shape, **kwargs)


def _last(shape):
    """The last entry of a user's shape, if it is known to have one."""
    if shape is None:
        return None
    if isinstance(shape, int | np.integer):
        return int(shape)
    if isinstance(shape, pt.TensorVariable):
        return shape[-1] if shape.type.ndim else shape
    return shape[-1] if len(shape) else None


def _static(size) -> int | None:
    if isinstance(size, int | np.integer):
        return int(size)
    return None


def _expand_mean(mu, cov, shape):
    """The mean with its last dimension of length n, after checking n against all that know it."""
    structure = cov.label
    length = mu.type.shape[-1] if mu.type.ndim and mu.type.shape[-1] != 1 else None
    known = [
        (label, size)
        for label, size in (
            (f"`cov` ({structure})", _static(cov.size)),
            ("`mu`", length),
            ("the value (`observed`, `shape` or `dims`)", _static(_last(shape))),
        )
        if size is not None
    ]
    for label, size in known[1:]:
        if size != known[0][1]:
            raise ValueError(
                f"gg.MvNormal: {label} is for {size} observations, expected {known[0][1]}, the "
                f"size of {known[0][0]}. The last dimension of the value, of mu and of the "
                "covariance must agree; leading dimensions are rows."
            )
    n = known[0][1] if known else cov.size if cov.size is not None else _last(shape)
    if mu.type.ndim and mu.type.shape[-1] != 1:
        return mu
    if n is None:
        raise ValueError(
            f"gg.MvNormal: neither mu nor {structure} says how many observations there are; pass "
            "shape=, dims= or observed=, or size= to the covariance."
        )
    return pt.full((n,), mu) if mu.type.ndim == 0 else pt.broadcast_to(mu, (*mu.shape[:-1], n))
