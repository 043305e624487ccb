"""Coefficients, effects and fields that were integrated out, at each draw of a posterior."""

import numpy as np

from pm_gaussgrad.posterior.draws import over_draws, posterior_of
from pm_gaussgrad.posterior.likelihood import as_model, gaussian_likelihood
from pm_gaussgrad.posterior.predict.component import check_drawn
from pm_gaussgrad.posterior.recover.attached import attached
from pm_gaussgrad.posterior.recover.conditional import conditional_latents
from pm_gaussgrad.posterior.recover.labels import dims_of_latent, store_latents

NAME = "gg.recover"


def recover(
    idata,
    model=None,
    latents=None,
    *,
    moments=False,
    cov=None,
    var_name=None,
    dims=None,
    coords=None,
    extend_inferencedata=True,
    random_seed=None,
    progressbar=True,
    compile_kwargs=None,
):
    r"""Draws of what was integrated out, given the data, at each draw of a posterior.

    With :math:`y - \mu = \sum_k A_k u_k + e`, where each :math:`A_k u_k` is a summand of the
    covariance: the coefficients of :class:`~pm_gaussgrad.cov.Linear`, the effects of
    :class:`~pm_gaussgrad.cov.Effects`, the nodes of a field, factors. They are drawn exactly, and
    all together, from their distribution given y and the parameters, as if they had been sampled.

    Of a model that :func:`gg.marginalize` made, the variables that it lacks, and what depended on
    them, under the names, dimensions and labels that they had.

    Parameters
    ----------
    idata : xarray.DataTree
        With the ``posterior`` group.
    model : pymc.Model, optional
        By default the one on the context stack.
    latents : dict of str to gg.cov structure, optional
        What to draw, by the name that it gets: the object that was added, as ``line`` of ``line +
        errors``. By default all of the above, by names such as ``linear`` and ``effects_2``. Of
        other summands, as a Gaussian process, the values at the entries of the data.
    moments : bool, default False
        Add conditional means and variances at each draw, ``name_mean`` and ``name_variance``. Of
        effects they are called best linear unbiased predictions (BLUP) and their variances.
    cov : gg.cov structure, optional, in units of [y]^2
        The covariance with its summands, where the model does not know them, as a copy of one.
    var_name : str, optional
        The observed variable, where several are multivariate normal.
    dims : dict of str to str or sequence of str, optional
        Names of the dimensions of latents, by the name of these; those of rows of the data are
        known.
    coords : dict, optional
        Labels of these dimensions, by default those of the model, else of groups and columns. What
        they have in another order is put into theirs.
    extend_inferencedata : bool, default True
        Add the draws to the ``posterior`` of ``idata`` and return it.
    random_seed : int or numpy.random.Generator, optional
    progressbar : bool, default True
    compile_kwargs : dict, optional
        For ``pytensor.function``. By default draws are interpreted, and timed: numba compiles what
        it pays to compile for as many as there are.

    Returns
    -------
    xarray.DataTree or xarray.Dataset
        ``idata``, or what would be added to its posterior: of coefficients (chain, draw, rows of
        the data, p), of effects the levels, and with a design the coefficients of each.

    Raises
    ------
    TypeError
        If ``latents`` is no dict of structures.
    ValueError
        If a latent is no summand of the covariance, two of them share a part, a name is that of a
        variable of the model, or labels do not fit.

    Notes
    -----
    Missing observations are integrated out. A coefficient with a prior mean that is in the mean of
    the data is drawn less that mean.

    Cost of a draw of the posterior: a draw from each summand, a solve with what is observed, and
    one for each coefficient with a flat prior. Moments: a solve for each number that is recovered.

    References
    ----------
    Chiles, J.-P. and Delfiner, P. (2012). Geostatistics: Modeling Spatial Uncertainty, 2nd ed.,
    section 7.3.1.

    Robinson, G. K. (1991). That BLUP is a good thing: the estimation of random effects. Statistical
    Science 6, 15-32.

    Examples
    --------
    >>> import arviz as az
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> idata = az.from_dict({"posterior": {"v": np.ones((1, 2))}})
    >>> with pm.Model() as model:
    ...     v = pm.HalfNormal("v")
    ...     level = gg.cov.Linear(np.ones((3, 1)), "flat")
    ...     y = gg.MvNormal("y", 0, level + gg.cov.Dense(v * np.eye(3)), observed=[1.0, 3.0, 2.0])
    >>> idata = gg.recover(
    ...     idata, model, {"mean": level}, moments=True, dims={"mean": "column"}, progressbar=False
    ... )
    >>> dict(idata.posterior["mean"].sizes)
    {'chain': 1, 'draw': 2, 'column': 1}
    >>> idata.posterior["mean_mean"].values[0, 0], idata.posterior["mean_variance"].values[0, 0]
    (array([2.]), array([0.33333333]))
    """
    posterior_of(NAME, idata)
    model = as_model(NAME, model)
    if latents is None and (own := attached(model)) is not None:
        return own(
            idata, model, moments, extend_inferencedata, random_seed, progressbar, compile_kwargs
        )
    likelihood = gaussian_likelihood(NAME, model, var_name)
    _check_latents(likelihood.model, latents, dims)
    found = conditional_latents(NAME, likelihood, latents, cov, moments)
    if not found.latents:
        raise ValueError(
            f"{NAME}: the covariance of {likelihood.name!r} has no summand of coefficients, "
            "effects or fields, expected at least one; of others say by latents= which, or call "
            "gg.predict(component=)."
        )
    labels = {
        name: dims_of_latent(NAME, likelihood, name, latent, (dims or {}).get(name), coords)
        for name, latent in found.latents.items()
    }
    means = {f"{name}_mean": x for name, x in found.means.items()}
    variances = {f"{name}_variance": x for name, x in found.variances.items()}
    outputs = {**found.draws, **means, **variances}
    arrays = over_draws(
        NAME,
        likelihood.model,
        idata,
        list(outputs.values()),
        noise=found.noise,
        random_seed=random_seed,
        progressbar=progressbar,
        compile_kwargs=compile_kwargs,
    )
    arrays = dict(zip(outputs, arrays, strict=True))
    for name in variances:
        arrays[name] = np.where(arrays[name] < 0, 0, arrays[name])  # negative by rounding
    for name in found.draws:
        check_drawn(NAME, arrays[name], arrays.get(f"{name}_mean", 0))
    return store_latents(idata, arrays, labels, extend_inferencedata)


def _check_latents(model, latents, dims):
    if latents is None:
        return
    if not isinstance(latents, dict):
        raise TypeError(
            f"{NAME}: `latents` is a {type(latents).__name__}, expected a dict of names to "
            "summands of the covariance, as {'beta': line, 'subject_effect': effects}."
        )
    if taken := sorted(set(latents) & set(model.named_vars)):
        raise ValueError(
            f"{NAME}: the names {taken} of `latents` are those of variables of the model, expected "
            "others: what was integrated out is put beside them."
        )
    if unknown := sorted(set(dims or {}) - set(latents)):
        raise ValueError(
            f"{NAME}: `dims` has the names {unknown}, expected some of {sorted(latents)}, those of "
            "`latents`."
        )
