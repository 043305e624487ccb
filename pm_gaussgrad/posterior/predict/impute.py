"""Missing observations drawn given the others, at each draw of a posterior."""

import pytensor.tensor as pt

from pm_gaussgrad.likelihood.missing import given_observed
from pm_gaussgrad.posterior.draws import over_draws, posterior_of, white_noise
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood
from pm_gaussgrad.posterior.predict.component import drawn_component
from pm_gaussgrad.posterior.predict.labels import store

NAME = "gg.impute"


def impute(
    idata,
    model=None,
    var_name=None,
    *,
    component=None,
    cov=None,
    name=None,
    extend_inferencedata=True,
    random_seed=None,
    progressbar=True,
    compile_kwargs=None,
):
    r"""Draws of missing observations given the others, at each draw of a posterior.

    For observed entries o and missing ones m of a row,

    .. math::

        y_m \sim N\bigl(\mu_m + \Sigma_{mo} \Sigma_{oo}^{-1} (y_o - \mu_o),\;
        \Sigma_{mm} - \Sigma_{mo} \Sigma_{oo}^{-1} \Sigma_{om}\bigr)

    Parameters
    ----------
    idata : xarray.DataTree
        With the ``posterior`` group.
    model : pymc.Model, optional
        By default the one on the context stack.
    var_name : str, optional
        The observed variable, where several are multivariate normal.
    component : gg.cov structure, optional, in units of [y]^2
        A summand of the covariance, as for :func:`gg.predict`: draws of it alone. It is observed
        nowhere, so that there are draws at all entries, given the data.
    cov : gg.cov structure, optional, in units of [y]^2
        With ``component``: the covariance with its summands, where the model does not know them.
    name : str, optional
        By default the observed variable's, and ``_imputed``: its own name belongs to replicated
        data, as ``pm.sample_posterior_predictive`` draws them; and ``_component`` of a component.
    extend_inferencedata : bool, default True
        Add the draws to ``idata`` and return it.
    random_seed : int or numpy.random.Generator, optional
    progressbar : bool, default True
    compile_kwargs : dict, optional
        For ``pytensor.function``. By default draws are interpreted, and timed: numba compiles what
        it pays to compile for as many as there are.

    Returns
    -------
    xarray.DataTree or xarray.Dataset
        ``idata`` with the draws in the group ``posterior_predictive``, or what would be in it:
        the whole variable with its dimensions, data where they are observed and draws where they
        are missing; of a component draws everywhere.

    Raises
    ------
    TypeError
        If ``cov`` is given without ``component``, or that is no structure.
    ValueError
        If nothing is missing, the model has no such variable, or the covariance no such summand.

    Notes
    -----
    ``pm.sample_posterior_predictive`` replaces the whole group: call it first, if at all.

    Draws of a component are those of :func:`gg.predict`, which has its moments too, and predicts
    it where nothing is missing.

    Which entries are missing is read from the data when this is called. Rows may miss different
    entries. Cost of a draw of the posterior: a draw from the whole covariance, two solves and, for
    each missing entry of a row, another; and the cube of their number. Nothing of n x n is formed
    unless the covariance is a matrix.

    References
    ----------
    Chiles, J.-P. and Delfiner, P. (2012). Geostatistics: Modeling Spatial Uncertainty, 2nd ed.,
    section 7.3.1.

    Examples
    --------
    >>> import arviz as az
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> idata = az.from_dict({"posterior": {"rho": np.full((1, 400), 0.5)}})
    >>> with pm.Model():
    ...     rho = pm.Uniform("rho", -1, 1)
    ...     data = [0.5, np.nan, 0.2]
    ...     y = gg.MvNormal("y", 0, gg.cov.AR1(1.0, rho), observed=data)
    ...     idata = gg.impute(idata, progressbar=False, random_seed=1)
    >>> idata.posterior_predictive["y_imputed"].std(("chain", "draw")).round(1).values
    array([0. , 0.8, 0. ])
    """
    posterior_of(NAME, idata)
    if cov is not None and component is None:
        raise TypeError(
            f"{NAME}: found `cov` without `component`, expected both or neither: data are imputed "
            "by the covariance of the fitted model."
        )
    likelihood = gaussian_likelihood(NAME, model, var_name)
    if likelihood.missing is None:
        raise ValueError(
            f"{NAME}: no entry of {likelihood.name!r} is missing, expected NaN in its data; for "
            "replicated data call pm.sample_posterior_predictive, for a component gg.predict."
        )
    options = {
        "random_seed": random_seed,
        "progressbar": progressbar,
        "compile_kwargs": compile_kwargs,
    }
    if component is None:
        array = _drawn(likelihood, idata, **options)
    else:
        array = drawn_component(NAME, likelihood, idata, component, cov, **options)
    if name is None:
        name = f"{likelihood.name}_imputed{'_component' * (component is not None)}"
    dims, labels = likelihood.dims, likelihood.coords
    return store(idata, "posterior_predictive", {name: array}, dims, labels, extend_inferencedata)


def _drawn(likelihood, idata, **options):
    """The data with draws in place of what is missing."""
    cov, missing = likelihood.cov, likelihood.missing
    *rows, n = missing.shape
    residual = likelihood.residual
    z = white_noise(rows, cov.noise_size(n), residual.dtype)
    drawn = likelihood.mu + given_observed(cov, missing).draw(residual, z)
    [array] = over_draws(
        NAME,
        likelihood.model,
        idata,
        [pt.switch(missing, drawn, likelihood.value)],
        noise=(z,),
        **options,
    )
    return array
