"""``MvNormal``: the multivariate normal distribution of PyMC models."""

import inspect

import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.distributions.distribution import SymbolicRandomVariable, _support_point
from pymc.distributions.moments.means import _mean
from pymc.distributions.shape_utils import (
    _change_dist_size,
    implicit_size_from_params,
    rv_size_is_none,
)
from pymc.logprob.abstract import _logprob
from pymc.pytensorf import normalize_rng_param
from pytensor.graph.basic import equal_computations
from pytensor.graph.replace import _vectorize_node
from pytensor.raise_op import CheckAndRaise
from pytensor.tensor.basic import get_vector_length, infer_static_shape
from pytensor.tensor.random.utils import normalize_size_param

from pm_gaussgrad.cov.protocol.base import as_parameter, length
from pm_gaussgrad.cov.protocol.batches import vector_hint
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.distributions.shapes import (
    as_value,
    batch_shape,
    check_batches,
    check_observed,
    expand_mean,
    resized,
)
from pm_gaussgrad.likelihood.data import mark_data_of_model
from pm_gaussgrad.likelihood.density import as_covariance, insert_dims, log_density_of_data
from pm_gaussgrad.likelihood.missing import as_observed, with_shape_of


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
    def from_draws(cls, draws, arguments, cores, structure, rng, size, dtype=None, name=None):
        """Build the variable of ``draws(batch, rng, *arguments) -> next_rng, draws``.

        Of the arguments, whose core shapes are ``cores`` and those of the structure, the last
        are the structure's parameters. The draws are of ``dtype``, by default floatX, whatever
        the arguments are, as those of PyMC's distributions.
        """
        arguments = [pt.as_tensor_variable(x) for x in arguments]
        rng = normalize_rng_param(rng)
        size = normalize_size_param(size)
        declared = [tuple(dims.split()) for dims in structure.parameter_shapes.values()]
        cores = [*cores, *declared]
        ndims = [len(core) for core in cores]
        hint = vector_hint(structure, arguments[len(arguments) - len(declared) :])
        check_batches(f"gg.{cls._print_name[0]}", size, arguments, ndims, hint)
        batch = batch_shape(size, arguments, ndims)
        next_rng, rows = draws(batch, rng, *arguments)
        rows = rows.astype(dtype or pytensor.config.floatX)
        static = [*infer_static_shape(tuple(batch))[1], rows.type.shape[-1]]
        if tuple(static) != rows.type.shape:
            rows = pt.specify_shape(rows, static)
        signature = ",".join(f"({','.join(core)})" for core in cores)
        variable = cls(
            inputs=[rng, size, *arguments],
            outputs=[next_rng, rows],
            structure=structure,
            extended_signature=f"[rng],[size],{signature}->[rng],(n)",
        )(rng, size, *arguments)
        variable.name = name
        return variable

    def rebuild_rv(self, *args, **kwargs):
        kwargs.setdefault("dtype", self.output_types[-1].dtype)
        return self.rv_op(*args, structure=self.structure, **kwargs)


@_change_dist_size.register(StructuredRV)
def _change_size(op, rv, new_size, expand):
    arguments = op.dist_params(rv.owner)
    if expand:
        batch = batch_shape(op.size_param(rv.owner), arguments, op.ndims_params)
        new_size = (*new_size, *batch)
    return op.rebuild_rv(*arguments, size=new_size)


def broadcast_mean(op, size, arguments, mu):
    """The mean in the shape of the draws."""
    batch = batch_shape(size, arguments, op.ndims_params)
    return pt.broadcast_to(mu, (*batch, length(mu)))


@_vectorize_node.register(StructuredRV)
def _vectorize_draws(op, node, rng, size, *arguments):
    """Batches of arguments: leading dimensions ahead of those that the draws had."""
    old, old_size = op.dist_params(node), op.size_param(node)
    ndims = op.ndims_params
    if rv_size_is_none(old_size):
        had = max(x.type.ndim - ndim for x, ndim in zip(old, ndims, strict=True))
    else:
        had = get_vector_length(old_size)
    arguments = [
        insert_dims(new, x.type.ndim, had + ndim)
        for new, x, ndim in zip(arguments, old, ndims, strict=True)
    ]
    if not rv_size_is_none(size) and equal_computations([size], [old_size]):
        batch = implicit_size_from_params(*arguments, ndims_params=ndims)
        size = (*tuple(batch)[: -had or None], *size)
    return op.rebuild_rv(*arguments, size=size, rng=rng).owner


def centred_draws(structure, batch, rng, mu, parameters):
    """``S z``, S S' = Sigma, of shape (*batch, n), and the next generator ahead of it."""
    n = length(mu)
    cov = structure.from_parameters(*parameters, size=n)
    next_rng, z = pt.random.normal(
        size=(*batch, cov.noise_size(n)), rng=rng, return_next_rng=True, dtype=mu.dtype
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
    def rv_op(cls, mu, *parameters, structure, rng=None, size=None, **kwargs):
        def draws(batch, rng, mu, *parameters):
            next_rng, centred = centred_draws(structure, batch, rng, mu, parameters)
            return next_rng, mu + centred

        return cls.from_draws(draws, [mu, *parameters], [("n",)], structure, rng, size, **kwargs)


@_logprob.register(MvNormalRV)
def _mvnormal_logprob(op, values, rng, size, mu, *parameters, **kwargs):
    value = as_value("gg.MvNormal", *values, mu)
    logp = log_density_of_data(op.structure, value, mu, parameters)
    return resized("gg.MvNormal", logp, size)


@_support_point.register(MvNormalRV)
@_mean.register(MvNormalRV)
def _mvnormal_mean(op, rv, rng, size, mu, *parameters):
    return broadcast_mean(op, size, [mu, *parameters], mu)


class StructuredDistribution(pm.Continuous):
    """A distribution of rows whose missing values are integrated out."""

    def __new__(cls, name, *args, observed=None, dims=None, **kwargs):
        mark_data_of_model()
        if observed is not None:
            observed = as_observed(observed)
            kwargs = with_shape_of(observed, {**kwargs, "dims": dims})
            dims = kwargs.pop("dims")
            check_observed(f"gg.{cls.__name__}", observed, dims, kwargs)
        return super().__new__(cls, name, *args, observed=observed, dims=dims, **kwargs)


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
    lower : bool, default True
        As of :class:`pymc.MvNormal`; ``chol`` is always the lower factor.
    method : {"cholesky", "eigh", "svd"}
        As of :class:`pymc.MvNormal`, and without effect: draws come from the square root that
        the structure has.
    observed, shape, dims, initval, ...
        As for every PyMC distribution. The value has shape (..., n); leading dimensions that
        the covariance does not have are rows that share one factorisation. Missing values, NaN
        or masked, are integrated out.

    Raises
    ------
    TypeError
        If an argument is not real, has too few dimensions or does not exist.
    ValueError
        If not exactly one of ``cov``, ``chol`` and ``tau`` is given, ``chol`` comes with
        ``lower=False``, or sizes disagree.

    Notes
    -----
    The log density is -inf, and its gradient with respect to the mean and the covariance zero,
    where the covariance is not positive definite or not finite; nothing is raised while
    sampling. Where the mean of the observed rows is common or linear in what they share, the
    summed log density costs the same however many rows there are, as arrays and, but for reading
    them, as ``pm.Data`` (see :mod:`pm_gaussgrad.likelihood.rewrites`).

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
    def dist(
        cls,
        mu=0.0,
        cov=None,
        *,
        chol=None,
        tau=None,
        lower=True,
        method="cholesky",
        shape=None,
        **kwargs,
    ):
        """A standalone distribution, as :class:`MvNormal` without a model."""
        check_keywords(cls, kwargs, chol, lower, method)
        written = as_covariance(cov, chol, tau)
        mu = as_parameter("gg.MvNormal", "mu", mu, 0)
        mu = expand_mean(mu, written, shape)
        cov = written.resolved_for(length(mu))
        cov.check_constants(mu.type.shape[-1])
        made = super().dist([mu, *cov.parameters], structure=cov.structure, shape=shape, **kwargs)
        rv = made[-1] if isinstance(made, list | tuple) else made
        # With its summands, which a fitted model is asked for, and the length they were found for.
        rv.tag.covariance = written if cov is written else of_size(written, length(mu))
        return made


# What PyMC itself takes, or has a message for.
_FORWARDED = {"size", "rng", "dtype", "name", "return_next_rng", "initval", "dims"}
_METHODS = ("cholesky", "eigh", "svd")


def check_keywords(distribution, kwargs, chol, lower, method):
    """Raise on keywords that do not exist, or that ask for what there is not."""
    owner = f"gg.{distribution.__name__}"
    if unknown := sorted(set(kwargs) - _FORWARDED):
        own = ", ".join(inspect.signature(distribution.dist).parameters).replace("kwargs", "size")
        raise TypeError(
            f"{owner}: there is no argument `{unknown[0]}`; expected one of {own}, and in a model "
            "observed, dims, initval and others of PyMC."
        )
    if chol is not None and not lower:
        raise ValueError(
            f"{owner}: `lower` is {lower}, expected True: `chol` is the lower Cholesky factor. "
            "Pass chol=upper.mT for an upper one."
        )
    if method not in _METHODS:
        raise ValueError(
            f"{owner}: `method` is {method!r}, expected one of {_METHODS}, of which none changes "
            "anything here; leave it out."
        )
