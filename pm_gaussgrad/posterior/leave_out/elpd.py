"""Leave-one-out cross-validation by ArviZ: the estimate, and what ArviZ asks for others."""

import warnings

import numpy as np
import pandas as pd
import xarray as xr

from pm_gaussgrad.posterior.draws import SAMPLE_DIMS, DrawFunction, posterior_of
from pm_gaussgrad.posterior.leave_out.moment_match import moment_match_functions, serve_arviz
from pm_gaussgrad.posterior.leave_out.terms import PAST, ahead_terms, leave_out_terms
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood


def loo(
    idata,
    model=None,
    var_name=None,
    *,
    group=None,
    moment_match=False,
    pointwise=True,
    progressbar=True,
    compile_kwargs=None,
    **kwargs,
):
    r"""Leave-one-out cross-validation by Pareto-smoothed importance sampling.

    ``az.loo`` with :math:`\log p(y_i \mid y_{-i}, \theta)`, exact at each draw, as the log density
    of the observation left out.

    Parameters
    ----------
    idata : xarray.DataTree
        With a ``posterior`` group, as ``pm.sample`` returns it. It is not changed.
    model : pymc.Model, optional
        By default the one on the context stack.
    var_name : str, optional
        The ``gg.MvNormal``, ``pm.MvNormal`` or ``gg.MvStudentT`` variable, needed where several
        are observed.
    group : array_like, shape (n), or str, or True, optional
        Leave out one group at a time, as for :func:`gg.loo_log_likelihood`.
    moment_match : bool, default False
        Where importance sampling fails, a Pareto k above the threshold, move the draws to where
        the posterior without the observation is.
    pointwise : bool, default True
        Keep ``elpd_i``, ``pareto_k`` and others by observation.
    progressbar : bool, default True
    compile_kwargs : dict, optional
        For ``pytensor.function``, as for :func:`gg.loo_log_likelihood`.
    **kwargs
        For ``az.loo``, or with ``moment_match`` for ``az.loo_moment_match``: ``k_threshold``,
        ``split``, ``cov``, ``max_iters``, ``reff``.

    Returns
    -------
    ELPDData
        Of ArviZ, for ``az.compare``, ``az.plot_khat`` and others.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :func:`gg.loo_log_likelihood`, and with ``moment_match`` if the model has discrete
        variables.

    Notes
    -----
    Moment matching evaluates the log posterior and one conditional log density for all draws,
    a dozen times or so for each observation with a large Pareto k. Where it does not help fit
    again: ``az.reloo`` with :func:`gg.refit_wrapper`.

    References
    ----------
    Buerkner, P.-C., Gabry, J. and Vehtari, A. (2021). Efficient leave-one-out cross-validation
    for Bayesian non-factorized normal and Student-t models. Computational Statistics 36,
    1243-1261.

    Paananen, T., Piironen, J., Buerkner, P.-C. and Vehtari, A. (2021). Implicitly adaptive
    importance sampling. Statistics and Computing 31, 16.

    Examples
    --------
    >>> import arviz as az
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> with pm.Model() as model:
    ...     rho = pm.Uniform("rho")
    ...     y = gg.MvNormal("y", 0.0, gg.cov.AR1(1.0, rho, size=3), observed=[0.5, -0.2, 0.1])
    >>> draws = np.random.default_rng(1).uniform(0.2, 0.6, size=(1, 500))
    >>> idata = az.from_dict({"posterior": {"rho": draws}})
    >>> elpd = gg.loo(idata, model, progressbar=False)
    >>> elpd.elpd_i.values.round(2)
    array([-1.03, -0.87, -0.84])
    """
    import arviz_stats

    owner = "gg.loo"
    serve_arviz(load=True)
    posterior = posterior_of(owner, idata)
    likelihood = gaussian_likelihood(owner, model, var_name, student=True)
    terms = leave_out_terms(owner, likelihood, idata, group)
    options = {"progressbar": progressbar, "compile_kwargs": compile_kwargs}
    array = terms.evaluate(owner, idata, **options)
    groups = {"posterior": posterior, "log_likelihood": array.to_dataset()}
    tree = xr.DataTree.from_dict(groups)
    if not moment_match:
        return arviz_stats.loo(tree, pointwise=pointwise, **kwargs)
    with warnings.catch_warnings():
        # Of large Pareto k, which are about to be mended.
        warnings.filterwarnings("ignore", "Estimated shape parameter of Pareto distribution")
        plain = arviz_stats.loo(tree, pointwise=True, reff=kwargs.get("reff"))
    threshold = kwargs.get("k_threshold", plain.good_k)
    if not (plain.pareto_k > threshold).any():
        return arviz_stats.loo(tree, pointwise=pointwise, reff=kwargs.get("reff"))
    log_prob, log_lik_i, upars = moment_match_functions(owner, terms, idata, compile_kwargs)
    # ArviZ takes the covariance matrix of a single parameter for a number, and warns.
    kwargs.setdefault("cov", upars.shape[-1] > 1)
    return arviz_stats.loo_moment_match(
        tree, plain, log_prob, log_lik_i, upars, pointwise=pointwise, **kwargs
    )


def loo_log_lik_fn(model=None, var_name=None, *, compile_kwargs=None):
    r"""A function for ``log_lik_fn=`` of ArviZ: log densities of observations given all others.

    For ``az.loo_subsample`` and ``az.update_subsample`` with ``method="plpd"``, the log density at
    the posterior mean; ``az.loo`` and ``az.loo_i`` take it too.

    Parameters
    ----------
    model : pymc.Model, optional
        By default the one on the context stack.
    var_name : str, optional
        The ``gg.MvNormal``, ``pm.MvNormal`` or ``gg.MvStudentT`` variable, needed where several
        are observed.
    compile_kwargs : dict, optional
        For ``pytensor.function``, as for :func:`gg.loo_log_likelihood`.

    Returns
    -------
    callable
        ``log_lik_fn(observed, data)``: :math:`\log p(y_i \mid y_{-i}, \theta)` as a DataArray, of
        the observations whose labels ``observed`` has, at each draw or at the one point of
        ``data.posterior``. All other observations are those of the model.

    Raises
    ------
    ValueError
        If the model has no such likelihood; and by the function, if there are observations that
        the model does not have.

    Notes
    -----
    Where values are missing, pass ArviZ the tree that :func:`gg.loo_predictive` makes, whose
    ``observed_data`` has the observed entries only.

    References
    ----------
    Magnusson, M., Riis Andersen, M., Jonasson, J. and Vehtari, A. (2019). Bayesian leave-one-out
    cross-validation for large data. Proceedings of Machine Learning Research 97, 4244-4253.

    Examples
    --------
    >>> import arviz as az
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> y = np.array([0.5, -0.2, 0.1])
    >>> with pm.Model() as model:
    ...     rho = pm.Uniform("rho")
    ...     gg.MvNormal("y", 0.0, gg.cov.AR1(1.0, rho, size=3), observed=y)
    y
    >>> draws = {"rho": np.random.default_rng(1).uniform(0.2, 0.6, size=(1, 500))}
    >>> idata = az.from_dict({"posterior": draws, "observed_data": {"y": y}})
    >>> idata = gg.loo_log_likelihood(idata, model, progressbar=False)
    >>> log_lik_fn = gg.loo_log_lik_fn(model)
    >>> elpd = az.loo_subsample(idata, 2, method="plpd", log_lik_fn=log_lik_fn, seed=1)
    >>> print(round(elpd.elpd, 1))
    -2.7
    """
    owner = "gg.loo_log_lik_fn"
    likelihood = gaussian_likelihood(owner, model, var_name, student=True)
    terms = leave_out_terms(owner, likelihood, None)
    function = DrawFunction(
        owner, likelihood.model, [terms.logp], compile_kwargs=compile_kwargs, again=True
    )

    def log_lik_fn(observed, data):
        posterior = getattr(data.posterior, "dataset", data.posterior)
        sample = [dim for dim in SAMPLE_DIMS if dim in posterior.dims]
        shape = tuple(posterior.sizes[dim] for dim in sample)
        values = np.array([logp for [logp] in function.over(posterior, sample)])
        values = values.reshape(*shape, *values.shape[1:])
        coords = {dim: posterior.coords[dim] for dim in sample if dim in posterior.coords}
        array = xr.DataArray(values, {**coords, **terms.coords}, (*sample, *terms.dims))
        return array.isel(_positions(owner, terms, observed)).rename(likelihood.name)

    return log_lik_fn


def _positions(owner, terms, observed):
    """Where the observations of a DataArray are among the terms, by their labels."""
    positions = {}
    for dim in terms.dims:
        if dim in observed.coords:
            labels = observed.coords[dim].to_numpy()
            found = pd.Index(terms.coords[dim]).get_indexer(np.atleast_1d(labels))
            positions[dim] = found if labels.ndim else found[0]
        elif observed.sizes.get(dim) == len(terms.coords[dim]):
            found = np.arange(observed.sizes[dim])
        else:
            found = np.array([-1])
        if (found < 0).any():
            raise ValueError(
                f"{owner}: `observed` has dimensions {observed.dims} and other labels along "
                f"{dim!r} than the observed entries of {terms.likelihood.name!r}, expected some of "
                "these; where values are missing pass the tree of gg.loo_predictive."
            )
    return positions


def refit_wrapper(
    idata, model=None, var_name=None, *, group=None, compile_kwargs=None, **sample_kwargs
):
    r"""How ArviZ fits the model again without some observations.

    For ``az.reloo``, ``az.loo_kfold`` and ``az.lfo_cv``. What is left out is missing, integrated
    out exactly; its log density is that given what is not left out.

    Parameters
    ----------
    idata : xarray.DataTree
        With the groups ``posterior`` and ``log_likelihood``. The latter says what may be left
        out: single observations or groups after :func:`gg.loo_log_likelihood`, the last
        observations after :func:`gg.lfo_log_likelihood`.
    model : pymc.Model, optional
        By default the one on the context stack. It is not changed.
    var_name : str, optional
        The ``gg.MvNormal``, ``pm.MvNormal`` or ``gg.MvStudentT`` variable, needed where several
        are observed.
    group : array_like, shape (n), or str, or True, optional
        The groups that were passed to :func:`gg.loo_log_likelihood`.
    compile_kwargs : dict, optional
        For ``pytensor.function``, of the conditional log densities, as for
        :func:`gg.loo_log_likelihood`.
    **sample_kwargs
        For ``pm.sample``, such as ``draws``, ``tune`` and ``random_seed``. By default 4 chains, one
        after the other, without a progress bar.

    Returns
    -------
    SamplingWrapper
        Of ArviZ.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :func:`gg.loo_log_likelihood`, and if the group ``log_likelihood`` does not hold what
        that function or :func:`gg.lfo_log_likelihood` puts there.

    Notes
    -----
    Which observations are left out is an input of the log density, which PyMC's sampler compiles
    once for all fits; other samplers (``nuts_sampler=``) compile it for each. Its cost is that of
    a log density with gaps: for each entry left out two solves with the whole covariance, and
    the cube of their number.

    A term of ``az.loo_kfold`` is the log density of one observation, or group, given the other
    folds. One of ``az.lfo_cv`` is conditional on all observations before it, so that those of a
    horizon add up to their joint log density.

    References
    ----------
    Buerkner, P.-C., Gabry, J. and Vehtari, A. (2020). Approximate leave-future-out
    cross-validation for Bayesian time series models. Journal of Statistical Computation and
    Simulation 90, 2499-2523.

    Examples
    --------
    >>> import arviz as az
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> with pm.Model() as model:
    ...     rho = pm.Uniform("rho")
    ...     gg.MvNormal("y", 0.0, gg.cov.AR1(1.0, rho), observed=[0.5, -0.2, 0.1, 0.9])
    ...     idata = pm.sample(random_seed=1)  # doctest: +SKIP
    y
    >>> idata = gg.loo_log_likelihood(idata, model)  # doctest: +SKIP
    >>> wrapper = gg.refit_wrapper(idata, model, random_seed=1)  # doctest: +SKIP
    >>> az.loo_kfold(idata, wrapper, k=2)  # doctest: +SKIP
    """
    from pm_gaussgrad.posterior.leave_out.refit import RefitWrapper

    owner = "gg.refit_wrapper"
    posterior_of(owner, idata)
    likelihood = gaussian_likelihood(owner, model, var_name, student=True)
    terms = _terms_held(owner, likelihood, idata, group)
    return RefitWrapper(owner, terms, idata, sample_kwargs, compile_kwargs)


def _terms_held(owner, likelihood, idata, group):
    """What the log densities in a tree are about, after checking that they are ours."""
    held = idata["log_likelihood"].dataset if "log_likelihood" in idata.children else {}
    kind = held[likelihood.name].attrs.get("long_name") if likelihood.name in held else None
    if kind == PAST:
        terms = ahead_terms(owner, likelihood)
    else:
        terms = leave_out_terms(owner, likelihood, idata, group)
    found = held[likelihood.name] if kind else None
    same = kind == terms.kind and all(
        dim in found.dims and found.get_index(dim).equals(pd.Index(terms.coords[dim]))
        for dim in terms.dims
    )
    if not same or (kind == PAST and group is not None):
        raise ValueError(
            f"{owner}: the group log_likelihood holds for {likelihood.name!r} a "
            f"{kind or 'log density of another kind'}, expected what gg.loo_log_likelihood(idata, "
            "model), with the same group= if any, or gg.lfo_log_likelihood(idata, model) puts "
            "there; call it first."
        )
    return terms
