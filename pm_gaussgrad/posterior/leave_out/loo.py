"""Leaving out: pointwise log densities of a multivariate normal likelihood, for ArviZ.

Definitions and sources: :mod:`pm_gaussgrad.posterior.leave_out.terms`.
"""

import pytensor.tensor as pt

from pm_gaussgrad.posterior.draws import add_to_group, labelled, over_draws, posterior_of
from pm_gaussgrad.posterior.leave_out.moment_match import serve_arviz
from pm_gaussgrad.posterior.leave_out.observed import ObservedEntries
from pm_gaussgrad.posterior.leave_out.terms import ahead_terms, leave_out_terms, left_out
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood

serve_arviz()


def loo_log_likelihood(
    idata, model=None, var_name=None, *, group=None, progressbar=True, compile_kwargs=None
):
    r"""Add :math:`\log p(y_i \mid y_{-i}, \theta)` at each draw, for leave-one-out comparison.

    ``az.loo`` on the log density of a whole vector would count it as one observation. These are
    the pointwise terms it needs, in place of those in the ``log_likelihood`` group.

    Parameters
    ----------
    idata : xarray.DataTree
        With a ``posterior`` group, as ``pm.sample`` returns it. It is changed.
    model : pymc.Model, optional
        By default the one on the context stack.
    var_name : str, optional
        The ``gg.MvNormal``, ``pm.MvNormal`` or ``gg.MvStudentT`` variable, needed where several
        are observed.
    group : array_like, shape (n), or str, or True, optional
        Leave out one group at a time: a label for each observation, or the name of a
        coordinate or variable that holds them. True: the groups that the structure is made
        of, such as subjects or blocks. The joint density of each group's observations given all
        others, :math:`\log p(y_g \mid y_{-g}, \theta)`.
    progressbar : bool, default True
    compile_kwargs : dict, optional
        For ``pytensor.function``. By default draws are interpreted, and timed: numba compiles what
        it pays to compile for as many as there are.

    Returns
    -------
    xarray.DataTree
        ``idata``, with the variable in its group ``log_likelihood``, of dimensions chain, draw
        and those of the observations. Where rows miss different entries, one dimension of the
        observed entries is in place of these; where all miss the same, the last dimension has
        the labels of those observed. With ``group``, its last dimension is that of the groups.

    Raises
    ------
    TypeError, ValueError
        If there is no posterior or no such likelihood, or ``group`` does not fit it.
    NotImplementedError
        With ``group`` or a Student-t, if rows miss different entries.

    Notes
    -----
    :math:`y_i \mid y_{-i} \sim N(y_i - \alpha_i / c_i,\, 1 / c_i)` with
    :math:`\alpha = \Sigma^{-1}(y - \mu)` and :math:`c = \operatorname{diag}(\Sigma^{-1})`. The
    cost of a draw is that of ``solve`` and ``inverse_diagonal`` of the covariance; the memory
    that of the result. Groups take a solve for each observation, but for those that the
    structure is independent between, such as subjects, which take whitening. Rows of data are
    independent: one entry of a row is left out, given the others of that row.

    Under a Student-t the conditional has :math:`\nu + n - 1` degrees of freedom and a scale
    that is :math:`(\nu + q_{-i}) / (\nu + n - 1)` times as large, q the quadratic form of the
    others.

    References
    ----------
    Sundararajan, S. and Keerthi, S. S. (2001). Predictive approaches for choosing
    hyperparameters in Gaussian processes. Neural Computation 13, 1103-1118, eqs. 3 and 4.

    Buerkner, P.-C., Gabry, J. and Vehtari, A. (2021). Efficient leave-one-out cross-validation
    for Bayesian non-factorized normal and Student-t models. Computational Statistics 36,
    1243-1261, eqs. 8 to 10.

    Examples
    --------
    >>> import arviz as az
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> with pm.Model(coords={"time": [2001, 2002, 2003]}) as model:
    ...     rho = pm.Uniform("rho")
    ...     cov = gg.cov.AR1(1.0, rho, size=3)
    ...     y = gg.MvNormal("y", 0.0, cov, observed=[0.5, -0.2, 0.1], dims="time")
    >>> idata = az.from_dict({"posterior": {"rho": np.array([[0.1, 0.4]])}})
    >>> idata = gg.loo_log_likelihood(idata, model, progressbar=False)
    >>> idata.log_likelihood["y"].round(3).sel(chain=0).values
    array([[-1.05 , -0.943, -0.921],
           [-1.032, -0.872, -0.851]])
    """
    owner = "gg.loo_log_likelihood"
    serve_arviz(load=True)
    posterior_of(owner, idata)
    likelihood = gaussian_likelihood(owner, model, var_name, student=True)
    options = {"progressbar": progressbar, "compile_kwargs": compile_kwargs}
    terms = leave_out_terms(owner, likelihood, idata, group)
    add_to_group(idata, "log_likelihood", terms.evaluate(owner, idata, **options))
    return idata


def lfo_log_likelihood(idata, model=None, var_name=None, *, progressbar=True, compile_kwargs=None):
    r"""Add :math:`\log p(y_i \mid y_{<i}, \theta)` at each draw: one step ahead in ordered data.

    The terms of leave-future-out cross-validation of time series, in place of those in the
    ``log_likelihood`` group; at each draw they add up to the log likelihood.

    Parameters
    ----------
    idata, model, var_name, progressbar, compile_kwargs
        As for :func:`loo_log_likelihood`. The order is that of the last dimension of the data.

    Returns
    -------
    xarray.DataTree
        ``idata``, with the variable in its group ``log_likelihood``, of dimensions chain, draw
        and those of the observations.

    Raises
    ------
    TypeError, ValueError
        If there is no posterior or no such likelihood.
    NotImplementedError
        If the structure has no causal factor (a grid with noise, known eigenvectors), or gaps
        after which it is not of its own kind; if rows miss different entries.

    Notes
    -----
    The cost of a draw is that of whitening. Do not hand these terms to ``az.loo``, which would
    leave out single observations: a term depends on all observations before it. For elpd_lfo
    weight the draws by the future that they have seen, or fit again: ``az.lfo_cv``.

    References
    ----------
    Buerkner, P.-C., Gabry, J. and Vehtari, A. (2020). Approximate leave-future-out
    cross-validation for Bayesian time series models. Journal of Statistical Computation and
    Simulation 90, 2499-2523.

    Examples
    --------
    >>> import arviz as az
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> with pm.Model() as model:
    ...     rho = pm.Uniform("rho")
    ...     y = gg.MvNormal("y", 0.0, gg.cov.AR1(1.0, rho, size=3), observed=[0.5, -0.2, 0.1])
    >>> idata = az.from_dict({"posterior": {"rho": np.array([[0.5]])}})
    >>> idata = gg.lfo_log_likelihood(idata, model, progressbar=False)
    >>> idata.log_likelihood["y"].values.round(3)
    array([[[-1.044, -0.91 , -0.802]]])
    """
    owner = "gg.lfo_log_likelihood"
    posterior_of(owner, idata)
    likelihood = gaussian_likelihood(owner, model, var_name, student=True)
    options = {"progressbar": progressbar, "compile_kwargs": compile_kwargs}
    terms = ahead_terms(owner, likelihood)
    add_to_group(idata, "log_likelihood", terms.evaluate(owner, idata, **options))
    return idata


def loo_predictive(
    idata, model=None, var_name=None, *, random_seed=None, progressbar=True, compile_kwargs=None
):
    r"""A tree for LOO-PIT: draws of each observation given all others, and their log densities.

    ``az.loo_pit`` weights predictive draws by the log densities. For correlated observations
    both must be those of :math:`y_i \mid y_{-i}, \theta`; draws of whole vectors, as
    ``pm.sample_posterior_predictive`` makes them, do not know the neighbours.

    Parameters
    ----------
    idata, model, var_name, progressbar, compile_kwargs
        As for :func:`loo_log_likelihood`; ``idata`` is not changed.
    random_seed : int or numpy.random.Generator, optional

    Returns
    -------
    xarray.DataTree
        A copy of ``idata`` with the variable in its groups ``posterior_predictive``,
        ``log_likelihood`` (as by :func:`loo_log_likelihood`) and ``observed_data``, all with the
        same dimensions; entries that are missing are left out of all three.

    Raises
    ------
    TypeError, ValueError
        If there is no posterior or no such likelihood; a Student-t is none.

    References
    ----------
    Gelfand, A. E., Dey, D. K. and Chang, H. (1992). Model determination using predictive
    distributions with implementation via sampling-based methods. Bayesian Statistics 4, 147-167.

    Examples
    --------
    >>> import arviz as az
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> with pm.Model() as model:
    ...     rho = pm.Uniform("rho")
    ...     y = gg.MvNormal("y", 0.0, gg.cov.AR1(1.0, rho, size=3), observed=[0.5, -0.2, 0.1])
    >>> idata = az.from_dict({"posterior": {"rho": np.linspace(0.1, 0.9, 200)[None]}})
    >>> tree = gg.loo_predictive(idata, model, random_seed=1, progressbar=False)
    >>> pit = az.loo_pit(tree)["y"]
    >>> pit.dims
    ('y_dim_0',)
    """
    owner = "gg.loo_predictive"
    posterior = posterior_of(owner, idata)
    likelihood = gaussian_likelihood(owner, model, var_name)
    entries = ObservedEntries(likelihood)
    standardised, log_scale = entries.leave_one_out()
    z = pt.tensor("z", dtype=entries.residual.dtype, shape=entries.data.shape)
    draws = entries.value + (z - standardised) * pt.exp(log_scale)
    logp = left_out(entries, standardised, log_scale)
    drawn, logp = over_draws(
        owner,
        likelihood.model,
        idata,
        [entries.select(draws), entries.select(logp)],
        noise=[z],
        random_seed=random_seed,
        progressbar=progressbar,
        compile_kwargs=compile_kwargs,
    )
    tree = idata.copy()
    arrays = {"posterior_predictive": drawn, "log_likelihood": logp}
    for name, array in arrays.items():
        array = labelled(likelihood.name, array, posterior, entries.dims, entries.coords)
        add_to_group(tree, name, array)
    add_to_group(tree, "observed_data", entries.labelled_data())
    return tree
