"""Predictions from a fitted model, at each draw of its posterior."""

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov import Covariance, marginal
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.kriging import Kriging, color_semidefinite
from pm_gaussgrad.likelihood.condition import check_blocks, matrix_of, variances_of
from pm_gaussgrad.likelihood.missing import common_pattern, given_observed
from pm_gaussgrad.posterior.draws import evaluated_size, over_draws, posterior_of, white_noise
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood
from pm_gaussgrad.posterior.predict.component import check_drawn, of_component
from pm_gaussgrad.posterior.predict.labels import dims_of_new, store
from pm_gaussgrad.posterior.predict.predicted import Predicted, together

NAME = "gg.predict"


def predict(
    idata,
    mu_new=None,
    cross_cov=None,
    cov_new=None,
    *,
    mu=None,
    cov=None,
    new=None,
    component=None,
    diag=False,
    name=None,
    dims=None,
    coords=None,
    model=None,
    var_name=None,
    extend_inferencedata=True,
    random_seed=None,
    progressbar=True,
    compile_kwargs=None,
):
    r"""Mean, variance and draws of new entries, or of a component, at each draw of a posterior.

    The new entries are described in one of two ways, both written with the variables of the
    fitted model, inside or outside of its context:

    - by ``mu_new``, ``cross_cov`` and ``cov_new``, as in :func:`gg.condition`: new inputs of a
      Gaussian process, the latent function, sums of what was observed;
    - by ``mu`` and ``cov`` of observations and new entries together, and ``new``, the positions
      of the new ones: forecasts of a time series, cells of a grid, visits and subjects, at the
      cost of the structure.

    A *component* is a summand of the covariance: a smooth part without the noise, a random
    intercept alone. It is predicted at the entries of the fitted model, observed and missing, or,
    with ``mu``, ``cov`` and ``new``, at new ones; it has no mean of its own.

    Parameters
    ----------
    idata : xarray.DataTree
        With the ``posterior`` group.
    mu_new : tensor_like, shape (..., n_new) or broadcastable to it, in units of [y]
        Mean of the new entries.
    cross_cov : tensor_like, shape (..., n, n_new), in units of [y]^2
        Covariance of the observations, its rows, with the new entries. Missing observations have
        rows too.
    cov_new : tensor_like, shape (..., n_new, n_new), or gg.cov structure, in units of [y]^2
        Covariance of the new entries: with the noise for new observations, without it for what
        lies under them. If ``diag``, variances (n_new) are enough.
    mu : tensor_like, shape (..., n + n_new) or broadcastable to it, in units of [y]
        Mean of observations and new entries.
    cov : gg.cov structure, or tensor_like, shape (..., n + n_new, n + n_new), in units of [y]^2
        Their covariance. What is predicted is as noisy as the observations.
    new : array_like of bool, shape (n + n_new), or of int, shape (n_new)
        Which of them are new, as a mask or as positions. The others are the observations of the
        fitted model, in their order.
    component : gg.cov structure, optional, in units of [y]^2
        A summand of the covariance of the fitted model, or of ``cov``, or a sum of some: the
        object that was added, as ``smooth`` of ``smooth + gg.cov.Diagonal(variance)``, also where
        that sum is scaled, a multiple, in ``within`` or a factor. Without
        ``new``, ``cov`` is needed only where the model does not know its sum, as a copy of one.
    diag : bool, default False
        Mean and variance only. Otherwise draws of all new entries together are added; by
        ``cov_new`` they take n_new^3 operations. Components have draws or variances.
    name : str, optional
        Of the draws; mean and variance are ``name_mean`` and ``name_variance``. By default the
        observed variable's, and ``_new``, and ``_component`` of a component.
    dims : str or sequence of str, optional
        The dimension of the new entries; or all, those of the rows first.
    coords : dict, optional
        Labels of these dimensions; by default those that the model has.
    model : pymc.Model, optional
        By default the one on the context stack.
    var_name : str, optional
        The observed variable, where several are multivariate normal.
    extend_inferencedata : bool, default True
        Add the predictions to ``idata`` and return it.
    random_seed : int or numpy.random.Generator, optional
    progressbar : bool, default True
    compile_kwargs : dict, optional
        For ``pytensor.function``. By default draws are interpreted, and timed: numba compiles what
        it pays to compile for as many as there are.

    Returns
    -------
    xarray.DataTree or xarray.Dataset
        ``idata`` with the group ``predictions``, or what would be in it: draws and means with
        dimensions (chain, draw, rows of the data, new entries), and variances, which rows share
        where they miss the same observations.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the new entries are not described in one way.
    ValueError
        If sizes disagree, ``cross_cov`` and ``cov_new`` are of no common normal distribution,
        ``component`` is no part of the sum, or ``cov`` with it not the covariance of the fitted
        model, a summand has no root to draw with, or the expressions depend on what the posterior
        does not have.

    Notes
    -----
    Missing observations are integrated out. Variances are those given a draw of the parameters:
    the variance of a prediction is the mean of ``name_variance`` and the variance of
    ``name_mean`` over the draws. Draws have both.

    Cost of a draw of the posterior, by blocks: whitening of the residual rows and of n_new more,
    and n_new^3 for draws. By positions: for each new or missing entry one solve with the whole, and
    the cube of their number; a structure may have a better way of its own
    (``Covariance.conditional``). Of a component: a solve with what is observed, a product with the
    component (``Covariance.times``) and a draw from each summand, of a matrix by its eigenvectors,
    n^3; with ``diag``, whitening of a row for each entry, in memory of as many rows.

    References
    ----------
    Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian Processes for Machine Learning,
    eq. 2.22 to 2.24.

    Rue, H. and Held, L. (2005). Gaussian Markov Random Fields, section 2.3.

    Chiles, J.-P. and Delfiner, P. (2012). Geostatistics: Modeling Spatial Uncertainty, 2nd ed.,
    sections 3.4.5 and 7.3.1.

    Examples
    --------
    Two more days, from three draws of a posterior (as ``pm.sample`` returns them):

    >>> import arviz as az
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> idata = az.from_dict({"posterior": {"rho": np.array([[0.4, 0.5, 0.6]])}})
    >>> with pm.Model(coords={"day": [1, 2, 3], "next_day": [4, 5]}) as model:
    ...     rho = pm.Uniform("rho", -1, 1)
    ...     y = gg.MvNormal("y", 0, gg.cov.AR1(1.0, rho), observed=[0.5, 0.7, 0.2], dims="day")
    >>> cov = gg.cov.AR1(1.0, rho)
    >>> idata = gg.predict(
    ...     idata, mu=0, cov=cov, new=[3, 4], dims="next_day", model=model, progressbar=False
    ... )
    >>> dict(idata.predictions.sizes)
    {'chain': 1, 'draw': 3, 'next_day': 2}
    >>> idata.predictions["y_new_mean"].values.round(3)
    array([[[0.08 , 0.032],
            [0.1  , 0.05 ],
            [0.12 , 0.072]]])
    >>> idata.predictions["y_new_variance"].values.round(3)
    array([[[0.84 , 0.974],
            [0.75 , 0.938],
            [0.64 , 0.87 ]]])
    """
    posterior_of(NAME, idata)
    blocks, joint = (mu_new, cross_cov, cov_new), (mu, cov, new)
    by_blocks = _way(blocks, joint, component)
    likelihood = gaussian_likelihood(NAME, model, var_name)
    if component is not None:
        predicted = of_component(NAME, likelihood, component, *joint, diag)
        dims = likelihood.dims if new is None and dims is None else dims
    elif by_blocks:
        predicted = _by_blocks(likelihood, *blocks, diag)
    else:
        predicted = _by_positions(likelihood, *joint, diag)
    if name is None:
        at_new = component is None or new is not None
        name = f"{likelihood.name}{'_new' * at_new}{'_component' * (component is not None)}"
    dims, labels = dims_of_new(NAME, likelihood, predicted.n_new, name, dims, coords)
    outputs = {
        name: predicted.draw,
        f"{name}_mean": predicted.mean,
        f"{name}_variance": predicted.variances,
    }
    outputs = {name: x for name, x in outputs.items() if x is not None}
    *arrays, contradictory = over_draws(
        NAME,
        likelihood.model,
        idata,
        [*outputs.values(), predicted.contradictory],
        noise=predicted.noise,
        random_seed=random_seed,
        progressbar=progressbar,
        compile_kwargs=compile_kwargs,
    )
    predicted.check(NAME, contradictory)
    if predicted.variances is not None:
        arrays[-1] = np.where(arrays[-1] < 0, 0, arrays[-1])  # negative by rounding
    if component is not None and not diag:
        check_drawn(NAME, *arrays)
    named = dict(zip(outputs, arrays, strict=True))
    return store(idata, "predictions", named, dims, labels, extend_inferencedata)


def _way(blocks, joint, component) -> bool:
    """Whether the new entries are described by blocks, else by positions in a joint normal."""
    given = [[x is not None for x in arguments] for arguments in (blocks, joint)]
    if (all(given[0]), any(given[1]), component is None) == (True, False, True):
        return True
    mu, cov, new = given[1]
    complete = mu and cov and new
    if not any(given[0]) and (complete or (component is not None and not (mu or new))):
        return False
    names = ("mu_new", "cross_cov", "cov_new", "mu", "cov", "new")
    found = [name for name, is_given in zip(names, [*given[0], *given[1]], strict=True) if is_given]
    raise TypeError(
        f"{NAME}: found {found or 'none'} of the arguments that describe the new entries, expected "
        + (
            "either mu_new=, cross_cov= and cov_new=, or mu=, cov= and new=."
            if component is None
            else "with component= mu=, cov= and new=, or of these at most cov=; by blocks a "
            "component is predicted without the argument, by its own cross_cov= and cov_new=."
        )
    )


def _by_blocks(likelihood, mu_new, cross_cov, cov_new, diag) -> Predicted:
    mu_new = as_parameter(NAME, "mu_new", mu_new, 0)
    cross_cov = as_parameter(NAME, "cross_cov", cross_cov, 2)
    cross_cov = pt.specify_shape(cross_cov, (*cross_cov.type.shape[:-2], *_core(cross_cov)))
    if not isinstance(cov_new, Covariance):
        cov_new = as_parameter(NAME, "cov_new", cov_new, 1 if diag else 2)
    check_blocks(NAME, likelihood.value, likelihood.mu, likelihood.cov, mu_new, cross_cov, cov_new)
    n_new = cross_cov.type.shape[-1]
    rows = likelihood.data.shape[:-1]
    kriging, residual = _observed_kriging(likelihood, cross_cov)
    mean = pt.broadcast_to(mu_new + kriging.mean_by_root(residual), (*rows, n_new))
    prior = variances_of(cov_new, cross_cov)
    if diag:
        draw, noise = None, ()
        variances = prior - kriging.explained_variances()
    else:
        covariance = matrix_of(cov_new, cross_cov) - kriging.explained()
        variances = pt.diagonal(covariance, axis1=-2, axis2=-1)
        noise = (white_noise(rows, n_new, mean.dtype),)
        draw = mean + color_semidefinite(covariance, *noise)
    rounding = float(np.finfo(variances.dtype).eps) ** (1 / 3)
    contradictory = pt.lt(variances, -rounding * prior).any()
    return Predicted(
        n_new,
        mean,
        variances,
        draw,
        noise,
        contradictory,
        "the observations explain more than the variance of a new entry, expected `cross_cov` and "
        "`cov_new` of one joint distribution with the model's covariance; do they have the same "
        "scale?",
    )


def _core(cross_cov):
    """Number of observations and of new entries, evaluated where it depends on data."""
    return [
        evaluated_size(size) if known is None else known
        for known, size in zip(cross_cov.type.shape[-2:], tuple(cross_cov.shape)[-2:], strict=True)
    ]


def _observed_kriging(likelihood, cross_cov):
    """By the observations that are not missing, and their residual."""
    cov, residual, missing = likelihood.cov, likelihood.residual, likelihood.missing
    if missing is None:
        return Kriging(cov, cross_cov), residual
    pattern = common_pattern(missing)
    if pattern is None:
        return Kriging(cov, cross_cov, given_observed(cov, missing)), residual
    observed = np.flatnonzero(~pattern)
    return Kriging(marginal(cov, observed), cross_cov[..., observed, :]), residual[..., observed]


def _by_positions(likelihood, mu, cov, new, diag) -> Predicted:
    joint = together(NAME, likelihood, mu, cov, new)
    cov, mu, residual = joint.cov, joint.mu, joint.residual
    *rows, size = joint.missing.shape
    entries = given_observed(cov, joint.missing)
    draw, noise = None, ()
    if not diag:
        noise = (white_noise(rows, cov.noise_size(size), residual.dtype),)
        draw = (mu + entries.draw(residual, *noise))[..., joint.wanted]
    return Predicted(
        n_new=len(joint.wanted),
        mean=(mu + entries.fill(residual))[..., joint.wanted],
        variances=entries.variances()[..., joint.wanted],
        draw=draw,
        noise=noise,
    )
