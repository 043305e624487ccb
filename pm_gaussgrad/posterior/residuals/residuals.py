r"""Whitened residuals of a fitted model, draw by draw.

Definition: with :math:`S S^\top = \Sigma` the square root that the structure works with,
:math:`z = S^{-1} (y - \mu)` has independent standard normal entries under the model. Where y and
the parameters come from the model, so that a draw of the posterior is a draw of the parameters
given y, this holds for the residuals at each single draw, as it does at the true parameters.

Source: Johnson (2007), Bayesian model assessment using pivotal quantities, Bayesian Analysis 2,
719-733, section 2.
"""

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.gaps import whiten_by_row
from pm_gaussgrad.cov.protocol.marginal import Marginal, marginal
from pm_gaussgrad.likelihood.missing import common_pattern
from pm_gaussgrad.posterior.draws import labelled, over_draws, posterior_of
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood

NAME = "gg.whitened_residuals"


def whitened_residuals(idata, model=None, var_name=None, *, progressbar=True, compile_kwargs=None):
    r"""Whitened residuals :math:`S^{-1} (y - \mu)` at each draw, with :math:`S S^\top = \Sigma`.

    They are independent and standard normal under the model: what is left to see in them,
    correlation, outliers, heavy tails, the model has not described.

    Parameters
    ----------
    idata : xarray.DataTree
        With a ``posterior`` group, as ``pm.sample`` returns it.
    model : pymc.Model, optional
        By default the one on the context stack.
    var_name : str, optional
        The observed ``gg.MvNormal`` or ``pm.MvNormal`` variable, where there are several.
    progressbar : bool, default True
    compile_kwargs : dict, optional
        For ``pytensor.function``. By default draws are interpreted, and timed: numba compiles what
        it pays to compile for as many as there are.

    Returns
    -------
    xarray.DataArray
        With the dimensions (chain, draw, those of the observations) and their labels, named as
        the variable. Dimensionless. Where values are missing: of the observed entries, with their
        labels, if all rows miss the same ones; else with NaN at the missing entries.

    Raises
    ------
    TypeError
        If ``idata`` is no DataTree, or the observations are symbolic.
    ValueError
        If the model has no multivariate normal likelihood of that name, or several and none is
        named; if the posterior is absent, empty or lacks variables; if nothing is observed.

    Notes
    -----
    The square root is that of the structure. Where S is lower triangular in the order of the
    observations, entry i is what observation i adds to those before it, in units of its
    conditional standard deviation: a standardised one-step-ahead prediction error. Where S is
    symmetric the observations are changed least. The guide says which structure has which.

    Cost, a draw: that of ``cov.whiten``, about that of the log density. Rows that miss different
    entries are whitened each with the marginal covariance of its own
    (:func:`pm_gaussgrad.cov.marginal`): pattern by pattern where the structure is closed under
    dropping observations, else all together with memory O(k m n) for k missing entries of m rows.

    References
    ----------
    Johnson, V. E. (2007). Bayesian model assessment using pivotal quantities. Bayesian Analysis 2,
    719-733, section 2.

    Harvey, A. C. (1989). Forecasting, Structural Time Series Models and the Kalman Filter.
    Section 5.4.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> with pm.Model(coords={"time": [2001, 2002, 2003]}):
    ...     correlation = pm.Uniform("correlation", -1, 1)
    ...     y = [1.0, 0.5, 2.5]
    ...     gg.MvNormal("y", 0.0, gg.cov.AR1(1.0, correlation), observed=y, dims="time")
    ...     idata = pm.sample_prior_predictive(2, random_seed=1)
    ...     idata["posterior"] = idata["prior"]
    ...     residuals = gg.whitened_residuals(idata, progressbar=False)
    y
    >>> residuals.sizes
    Frozen({'chain': 1, 'draw': 2, 'time': 3})
    """
    posterior = posterior_of(NAME, idata)
    likelihood = gaussian_likelihood(NAME, model, var_name)
    coords, missing = dict(likelihood.coords), likelihood.missing
    if missing is None:
        white = likelihood.cov.whiten(likelihood.residual)
    elif (observed := _common_observed(likelihood)) is not None:
        last = likelihood.dims[-1]
        coords[last] = coords[last][observed]
        white = marginal(likelihood.cov, observed).whiten(likelihood.residual[..., observed])
    else:
        white = _each_row(likelihood)
    [values] = over_draws(
        NAME,
        likelihood.model,
        idata,
        [white],
        progressbar=progressbar,
        compile_kwargs=compile_kwargs,
    )
    return labelled(likelihood.name, values, posterior, likelihood.dims, coords)


def _common_observed(likelihood):
    """Positions of the observed entries where all rows have the same, else None."""
    missing = likelihood.missing
    if missing.all():
        raise ValueError(
            f"{NAME}: all values of {likelihood.name!r} are missing, expected observations; "
            "without any there are no residuals."
        )
    pattern = common_pattern(missing)
    return None if pattern is None else np.flatnonzero(~pattern)


def _each_row(likelihood):
    """Rows (..., n) by the marginal covariance of each, NaN where values are missing."""
    missing, n = likelihood.missing, likelihood.data.shape[-1]
    # Rows without any observation come out as they may.
    by_row = missing & ~missing.all(axis=-1, keepdims=True)
    counts = by_row.sum(axis=-1)
    if not counts.any():
        white = likelihood.cov.whiten(likelihood.residual)
    elif isinstance(marginal(likelihood.cov, np.arange(n - 1)), Marginal):
        order = np.argsort(~by_row, axis=-1, kind="stable")[..., : counts.max()]
        positions = np.where(np.take_along_axis(by_row, order, axis=-1), order, n)
        white = whiten_by_row(likelihood.cov, likelihood.residual, pt.constant(positions))
    else:
        white = _each_pattern(likelihood, by_row)
    return pt.switch(missing, np.nan, white)


def _each_pattern(likelihood, missing):
    """The same of a structure that is closed under dropping observations, by their patterns."""
    *leading, n = likelihood.data.shape
    residual = likelihood.residual.reshape((-1, n))
    patterns, of_row = np.unique(missing.reshape(-1, n), axis=0, return_inverse=True)
    entries, parts = [], []
    for i, pattern in enumerate(patterns):
        rows, observed = np.flatnonzero(of_row.ravel() == i), np.flatnonzero(~pattern)
        cov = marginal(_of_rows(likelihood.cov, rows, tuple(leading)), observed)
        parts.append(cov.whiten(residual[rows[:, None], observed]).ravel())
        entries.append((rows[:, None] * n + observed).ravel())
    white = pt.zeros_like(residual).ravel()[np.concatenate(entries)].set(pt.concatenate(parts))
    return white.reshape(likelihood.data.shape)


def _of_rows(cov, rows, leading):
    """The covariances of some rows, counted over the leading dimensions of the data."""
    selected = []
    for parameter, core in zip(
        cov.parameters, cov.structure.parameter_shapes.values(), strict=True
    ):
        core_ndim = len(core.split())
        if parameter.type.ndim > core_ndim:
            core_shape = tuple(parameter.shape)[parameter.type.ndim - core_ndim :]
            spread = pt.broadcast_to(parameter, (*leading, *core_shape))
            parameter = spread.reshape((-1, *core_shape))[rows]
        selected.append(parameter)
    return cov.structure.from_parameters(*selected, size=cov.size)
