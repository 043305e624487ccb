"""What moment matching of LOO asks for: a posterior and what is left out, by unconstrained draws.

ArviZ builds these from a PyMC model itself, but takes the log density of an observed variable for
that of the observation left out. That of a vector is one number, for all observations the same.

Source: Paananen, T., Piironen, J., Buerkner, P.-C. and Vehtari, A. (2021), Implicitly adaptive
importance sampling, Statistics and Computing 31, 16.
"""

import importlib
import sys
from functools import wraps

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from pymc.pytensorf import join_nonshared_inputs

from pm_gaussgrad.posterior.draws import SAMPLE_DIMS, over_draws, posterior_of
from pm_gaussgrad.posterior.evaluation.adaptive import AdaptiveFunction
from pm_gaussgrad.posterior.leave_out.terms import leave_out_terms
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood, is_normal

NAMESPACES = "arviz_stats.loo.loo_moment_match_helper", "arviz_stats.loo"


def moment_match_functions(owner, terms, idata, compile_kwargs=None):
    """The arguments of ``az.loo_moment_match`` for exact conditional densities.

    Parameters
    ----------
    owner : str
        The function that asks, for messages.
    terms : Terms
    idata : xarray.DataTree
    compile_kwargs : dict, optional
        For ``pytensor.function``; these functions are called for each draw some dozen times.

    Returns
    -------
    log_prob, log_lik_i : callable
        Of draws (chain, draw, d), and of these and the flat index of a term: (chain, draw).
    upars : xarray.DataArray
        The draws of the posterior, in the unconstrained space.
    """
    model = terms.likelihood.model
    if model.discrete_value_vars:
        raise NotImplementedError(
            f"{owner}: moment matching moves draws of continuous variables, and the model has the "
            f"discrete ones {[v.name for v in model.discrete_value_vars]}; fit again without the "
            "observations by az.reloo with gg.refit_wrapper(idata, model)."
        )
    expression, inputs, values = terms.single()
    [expression] = model.replace_rvs_by_values([expression])
    outputs, joined = join_nonshared_inputs(
        model.initial_point(), [model.logp(), expression], model.value_vars
    )
    posterior, left_out = (
        AdaptiveFunction([joined, *more], [output], compile_kwargs, again=True, fixed=len(more))
        for more, output in zip(((), inputs), outputs, strict=True)
    )

    def log_prob(upars):
        return _of_each(posterior, upars, ())

    def log_lik_i(upars, i):
        return _of_each(left_out, upars, values(int(i)))

    return log_prob, log_lik_i, _unconstrained(owner, model, idata)


def _of_each(function, upars, more):
    """A scalar function of a vector at each draw of these."""
    upars = upars.transpose(*SAMPLE_DIMS, ...)
    *shape, size = upars.shape
    vectors = upars.values.reshape(-1, size)
    found = function.over(len(vectors), lambda start, stop: [vectors[start:stop]], [more])
    values = np.reshape([value for [value] in found], shape)
    coords = {d: upars.coords[d] for d in SAMPLE_DIMS if d in upars.coords}
    return xr.DataArray(values, coords, SAMPLE_DIMS)


def _unconstrained(owner, model, idata):
    """The draws of a posterior as vectors of the model's value variables."""
    parts = []
    for value in model.value_vars:
        rv = model.values_to_rvs[value]
        transform = model.rvs_to_transforms[rv]
        part = rv if transform is None else transform.forward(rv, *rv.owner.inputs)
        parts.append(part.ravel())
    [array] = over_draws(owner, model, idata, [pt.concatenate(parts)], progressbar=False)
    posterior = posterior_of(owner, idata)
    coords = {d: posterior.coords[d] for d in SAMPLE_DIMS if d in posterior.coords}
    return xr.DataArray(array, coords, (*SAMPLE_DIMS, "unconstrained_parameter"), name="upars")


def serve_arviz(load=False):
    """Have ``az.loo(..., moment_match=True, model=model)`` use exact conditional densities.

    Parameters
    ----------
    load : bool
        Load ArviZ if it is not.

    Notes
    -----
    ArviZ has no registry in which a distribution could say how its observations are left out, and
    its result for a vector is wrong without a word. Therefore its function that builds what
    moment matching asks for is wrapped, once it is loaded: all likelihoods but the multivariate
    normal ones are passed on to it.
    """
    if load:
        importlib.import_module(NAMESPACES[0])
    for name in NAMESPACES:
        module = sys.modules.get(name)
        built = getattr(module, "mm_from_pymc", None)
        if built is not None and not hasattr(built, "of_other_likelihoods"):
            module.mm_from_pymc = _with_exact_conditionals(built)


def _with_exact_conditionals(of_other_likelihoods):
    @wraps(of_other_likelihoods)
    def mm_from_pymc(idata, *, model=None, var_name=None):
        terms = _terms_in(idata, model, var_name) if isinstance(model, pm.Model) else None
        if terms is None:
            return of_other_likelihoods(idata, model=model, var_name=var_name)
        return moment_match_functions("az.loo", terms, idata)

    mm_from_pymc.of_other_likelihoods = of_other_likelihoods
    return mm_from_pymc


def _terms_in(idata, model, var_name):
    """The terms that a tree holds for a multivariate normal likelihood; None of anything else.

    Raises
    ------
    ValueError
        If the tree holds something else for such a likelihood than the conditional log density
        of each observation, or the log density of each row.
    """
    observed = [rv for rv in model.observed_RVs if var_name in (None, rv.name)]
    if len(observed) != 1 or not is_normal(observed[0], student=True):
        return None
    name = observed[0].name
    likelihood = gaussian_likelihood("az.loo", model, name, student=True)
    held = idata["log_likelihood"][name].transpose(*SAMPLE_DIMS, ...)
    if held.dims[2:] == likelihood.dims[:-1] and held.shape[2:] == likelihood.data.shape[:-1]:
        return None  # whole rows, as PyMC's log density has them
    terms = leave_out_terms("az.loo", likelihood, idata)
    first = {dim: slice(0, 1) for dim in SAMPLE_DIMS}
    posterior = idata["posterior"].to_dataset().isel(first)
    draw = xr.DataTree.from_dict({"posterior": posterior})
    expected = terms.evaluate("az.loo", draw, progressbar=False).values
    found = held.isel(first).values
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-4, atol=1e-4):
        raise ValueError(
            f"az.loo: the group log_likelihood does not hold the log density of each observation "
            f"of {name!r} given all others, expected what gg.loo_log_likelihood(idata, model) puts "
            "there, to match moments by it; for groups use "
            "gg.loo(idata, model, group=..., moment_match=True)."
        )
    return terms
