"""Predictions from a fitted model, at each draw of its posterior."""

from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov import Covariance, Dense, marginal
from pm_gaussgrad.cov.protocol.arguments import named_dims_hint
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.kriging import Kriging, color_semidefinite
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.likelihood.condition import check_blocks, matrix_of, variances_of
from pm_gaussgrad.likelihood.missing import common_pattern, given_observed
from pm_gaussgrad.posterior.draws import evaluated_size, over_draws, posterior_of, white_noise
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood
from pm_gaussgrad.posterior.predict.labels import dims_of_new, store

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
    r"""Mean, variance and draws of new entries, at each draw of a posterior.

    The new entries are described in one of two ways, both written with the variables of the
    fitted model, inside or outside of its context:

    - by ``mu_new``, ``cross_cov`` and ``cov_new``, as in :func:`gg.condition`: new inputs of a
      Gaussian process, the latent function, sums of what was observed;
    - by ``mu`` and ``cov`` of observations and new entries together, and ``new``, the positions
      of the new ones: forecasts of a time series, cells of a grid, visits and subjects, at the
      cost of the structure.

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
    diag : bool, default False
        Mean and variance only. Otherwise draws of all new entries together are added; by
        ``cov_new`` they take n_new^3 operations.
    name : str, optional
        Of the draws; mean and variance are ``name_mean`` and ``name_variance``. By default the
        observed variable's, and ``_new``.
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
        If sizes disagree, ``cross_cov`` and ``cov_new`` are of no common normal distribution, or
        the expressions depend on what the posterior does not have.

    Notes
    -----
    Missing observations are integrated out. Variances are those given a draw of the parameters:
    the variance of a prediction is the mean of ``name_variance`` and the variance of
    ``name_mean`` over the draws. Draws have both.

    Cost of a draw of the posterior, by blocks: whitening of the residual rows and of n_new more,
    and n_new^3 for draws. By positions: for each new or missing entry one solve with the whole, and
    the cube of their number; a structure may have a better way of its own
    (``Covariance.conditional``).

    References
    ----------
    Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian Processes for Machine Learning,
    eq. 2.22 to 2.24.

    Rue, H. and Held, L. (2005). Gaussian Markov Random Fields, section 2.3.

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
    by_blocks = _way((mu_new, cross_cov, cov_new), (mu, cov, new))
    likelihood = gaussian_likelihood(NAME, model, var_name)
    if by_blocks:
        predicted = _by_blocks(likelihood, mu_new, cross_cov, cov_new, diag)
    else:
        predicted = _by_positions(likelihood, mu, cov, new, diag)
    name = f"{likelihood.name}_new" if name is None else name
    dims, labels = dims_of_new(NAME, likelihood, predicted.n_new, name, dims, coords)
    outputs = {f"{name}_mean": predicted.mean, f"{name}_variance": predicted.variances}
    if not diag:
        outputs = {name: predicted.draw, **outputs}
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
    if contradictory.any():
        raise ValueError(
            f"{NAME}: the observations explain more than the variance of a new entry, expected "
            "`cross_cov` and `cov_new` of one joint distribution with the model's covariance; do "
            "they have the same scale?"
        )
    arrays[-1] = np.where(arrays[-1] < 0, 0, arrays[-1])  # negative by rounding
    named = dict(zip(outputs, arrays, strict=True))
    return store(idata, "predictions", named, dims, labels, extend_inferencedata)


def _way(blocks, joint) -> bool:
    """Whether the new entries are described by blocks, else by positions in a joint normal."""
    given = [[x is not None for x in arguments] for arguments in (blocks, joint)]
    if (all(given[0]), any(given[1])) == (True, False):
        return True
    if (any(given[0]), all(given[1])) == (False, True):
        return False
    names = ("mu_new", "cross_cov", "cov_new", "mu", "cov", "new")
    found = [name for name, is_given in zip(names, [*given[0], *given[1]], strict=True) if is_given]
    raise TypeError(
        f"{NAME}: found {found or 'none'} of the arguments that describe the new entries, expected "
        "either mu_new=, cross_cov= and cov_new=, or mu=, cov= and new=."
    )


@dataclass(frozen=True)
class Predicted:
    """Symbolic predictions, of one draw of the parameters.

    Attributes
    ----------
    n_new : int
    mean, draw : TensorVariable, shape (..., n_new)
    variances : TensorVariable, shape (..., n_new)
    contradictory : TensorVariable of bool, shape ()
        Whether a variance is negative by more than rounding.
    noise : tuple of TensorVariable
        White noise that the draw is a function of.
    """

    n_new: int
    mean: pt.TensorVariable
    variances: pt.TensorVariable
    draw: pt.TensorVariable | None
    contradictory: pt.TensorVariable
    noise: tuple


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
    return Predicted(n_new, mean, variances, draw, contradictory, noise)


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
    *rows, n = likelihood.data.shape
    new, old = _positions(new, n)
    size = len(new) + len(old)
    mu = as_parameter(NAME, "mu", mu, 0)
    cov = cov if isinstance(cov, Covariance) else Dense(as_parameter(NAME, "cov", cov, 2))
    for argument, found in (("mu", mu.type.shape[-1:]), ("cov", (cov.size,))):
        if any(isinstance(x, int) and x != size and (argument, x) != ("mu", 1) for x in found):
            raise ValueError(
                f"{NAME}: `{argument}` is for {found[0]} entries, expected {size}: the {n} "
                f"observations of {likelihood.name!r} and {len(new)} new entries together."
            )
    cov = of_size(cov, size)
    mu = pt.broadcast_to(mu, (*rows, size))
    known = likelihood.value - mu[..., old]
    missing = np.ones((*rows, size), bool)
    missing[..., old] = False
    if likelihood.missing is not None:
        missing[..., old] = likelihood.missing
        known = pt.switch(likelihood.missing, 0, known)
    residual = pt.zeros((*rows, size), dtype=known.dtype)[..., old].set(known)
    entries = given_observed(cov, missing)
    draw, noise = None, ()
    if not diag:
        noise = (white_noise(rows, cov.noise_size(size), residual.dtype),)
        draw = (mu + entries.draw(residual, *noise))[..., new]
    return Predicted(
        n_new=len(new),
        mean=(mu + entries.fill(residual))[..., new],
        variances=entries.variances()[..., new],
        draw=draw,
        contradictory=pt.constant(np.array(False)),
        noise=noise,
    )


def _positions(new, n):
    """Positions of the new entries, in the user's order, and of the observations."""
    hint, new = named_dims_hint(new), np.asarray(new)
    if new.ndim != 1 or new.dtype.kind not in "biu" or new.size == 0:
        raise TypeError(
            f"{NAME}: `new` has shape {new.shape} and dtype {new.dtype}, expected a vector of "
            f"bool, a mask, or of int, positions{hint}; at least one entry is new."
        )
    size = new.size if new.dtype.kind == "b" else n + new.size
    new = np.flatnonzero(new) if new.dtype.kind == "b" else new.astype("int64")
    old = np.setdiff1d(np.arange(size), new)
    if old.size != n or new.size == 0:
        raise ValueError(
            f"{NAME}: `new` leaves {old.size} of {size} entries as observations, expected the {n} "
            "of the fitted model: distinct positions in the data and new entries together, or a "
            "mask of all of them."
        )
    return new, old
