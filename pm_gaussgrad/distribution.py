"""``MvNormal``: the multivariate normal distribution of PyMC models."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions.distribution import SymbolicRandomVariable, _support_point
from pymc.distributions.shape_utils import implicit_size_from_params, rv_size_is_none
from pymc.logprob.abstract import _logprob
from pymc.pytensorf import normalize_rng_param
from pytensor.raise_op import CheckAndRaise
from pytensor.tensor.random.utils import normalize_size_param

from pm_gaussgrad.cov.base import as_parameter
from pm_gaussgrad.density import as_covariance, log_density_of_data
from pm_gaussgrad.missing import as_observed, with_shape_of


class StructuredRV(SymbolicRandomVariable):
    """Draws of rows with a structured covariance, from white noise at the cost of the structure.

    The structure is a fact of the instance; the parameters are inputs. PyMC may resize,
    clone, vectorise or replace those, and the structure survives.
    """

    _ndim_supp = 1

    def __init__(self, *args, structure, **kwargs):
        self.structure = structure
        super().__init__(*args, **kwargs)

    @classmethod
    def from_draws(cls, draws, arguments, cores, structure, rng, size):
        """Build the variable of ``draws(batch, rng, *arguments) -> next_rng, draws``.

        Of the arguments, whose core shapes are ``cores`` and those of the structure, the last
        are the structure's parameters.
        """
        arguments = [pt.as_tensor_variable(x) for x in arguments]
        rng = normalize_rng_param(rng)
        size = normalize_size_param(size)
        declared = (tuple(dims.split()) for dims in structure.parameter_shapes.values())
        cores = [*cores, *declared]
        if rv_size_is_none(size):
            batch = implicit_size_from_params(*arguments, ndims_params=[len(c) for c in cores])
        else:
            batch = size
        signature = ",".join(f"({','.join(core)})" for core in cores)
        return cls(
            inputs=[rng, size, *arguments],
            outputs=list(draws(batch, rng, *arguments)),
            structure=structure,
            extended_signature=f"[rng],[size],{signature}->[rng],(n)",
        )(rng, size, *arguments)

    def rebuild_rv(self, *args, **kwargs):
        return self.rv_op(*args, structure=self.structure, **kwargs)


def centred_draws(structure, batch, rng, mu, parameters):
    """``S z``, S S' = Sigma, of shape (*batch, n), and the next generator ahead of it."""
    n = mu.shape[-1]
    cov = structure.from_parameters(*parameters, size=n)
    next_rng, z = pt.random.normal(
        size=pt.concatenate([batch, [cov.noise_size(n)]]),
        rng=rng,
        return_next_rng=True,
        dtype=mu.dtype,
    )
    drawn = cov.draw(z)
    # As PyMC does, whose factorisation raises; JAX leaves the check out.
    error = CheckAndRaise(
        ValueError,
        f"{cov.label}: draws are not finite, because the parameters make no covariance that is "
        "positive definite; restrict their priors to values of which it is.",
    )
    return next_rng, error(drawn, pt.isfinite(drawn).all())


class MvNormalRV(StructuredRV):
    """Draws ``mu + S z``, S S' = Sigma."""

    _print_name = ("MvNormal", "\\operatorname{MvNormal}")

    @classmethod
    def rv_op(cls, mu, *parameters, structure, rng=None, size=None):
        def draws(batch, rng, mu, *parameters):
            next_rng, centred = centred_draws(structure, batch, rng, mu, parameters)
            return next_rng, mu + centred

        return cls.from_draws(draws, [mu, *parameters], [("n",)], structure, rng, size)


@_logprob.register(MvNormalRV)
def _mvnormal_logprob(op, values, rng, size, mu, *parameters, **kwargs):
    [value] = values
    return log_density_of_data(op.structure, value, mu, parameters)


@_support_point.register(MvNormalRV)
def _mvnormal_support_point(op, rv, rng, size, mu, *parameters):
    if rv_size_is_none(size):
        return pt.broadcast_to(mu, rv.shape)
    return pt.broadcast_to(mu, (*tuple(size), mu.shape[-1]))


class StructuredDistribution(pm.Continuous):
    """A distribution of rows whose missing values are integrated out."""

    def __new__(cls, name, *args, observed=None, **kwargs):
        if observed is not None:
            observed = as_observed(observed)
            kwargs = with_shape_of(observed, kwargs)
        return super().__new__(cls, name, *args, observed=observed, **kwargs)


class MvNormal(StructuredDistribution):
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
        the covariance does not have are rows that share one factorisation. Missing values, NaN
        or masked, are integrated out.

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

    @classmethod
    def dist(cls, mu=0.0, cov=None, *, chol=None, tau=None, shape=None, **kwargs):
        """A standalone distribution, as :class:`MvNormal` without a model."""
        _reject_lower("gg.MvNormal", kwargs)
        cov = as_covariance(cov, chol, tau)
        mu = as_parameter("gg.MvNormal", "mu", mu, 0)
        mu = _expand_mean(mu, cov, shape)
        cov.check_constants(mu.type.shape[-1])
        return super().dist([mu, *cov.parameters], structure=cov.structure, shape=shape, **kwargs)


def _reject_lower(owner, kwargs):
    if "lower" in kwargs:
        raise TypeError(
            f"{owner}: there is no argument `lower`; chol is the lower Cholesky factor. "
            "Pass chol=upper.mT for an upper one."
        )


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


def _expand_mean(mu, cov, shape, owner="gg.MvNormal", name="cov"):
    """The mean with its last dimension of length n, after checking n against all that know it."""
    structure = cov.label
    length = mu.type.shape[-1] if mu.type.ndim and mu.type.shape[-1] != 1 else None
    known = [
        (label, size)
        for label, size in (
            (f"`{name}` ({structure})", _static(cov.size)),
            ("`mu`", length),
            ("the value (`observed`, `shape` or `dims`)", _static(_last(shape))),
        )
        if size is not None
    ]
    for label, size in known[1:]:
        if size != known[0][1]:
            raise ValueError(
                f"{owner}: {label} is for {size} observations, expected {known[0][1]}, the "
                f"size of {known[0][0]}. The last dimension of the value, of mu and of the "
                "covariance must agree; leading dimensions are rows."
            )
    n = known[0][1] if known else cov.size if cov.size is not None else _last(shape)
    if mu.type.ndim and mu.type.shape[-1] != 1:
        return mu
    if n is None:
        raise ValueError(
            f"{owner}: neither mu nor {structure} says how many observations there are; pass "
            "shape=, dims= or observed=, or size= to the covariance."
        )
    return pt.full((n,), mu) if mu.type.ndim == 0 else pt.broadcast_to(mu, (*mu.shape[:-1], n))
