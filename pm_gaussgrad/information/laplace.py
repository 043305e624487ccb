r"""The Laplace approximation of a posterior, and mass matrices for NUTS from it.

In the unconstrained space in which PyMC samples, with the mode x and the information H there,

    p(x* | y) is approximated by N(x, H^-1),
    log p(y)  is approximated by log p(y, x) + d/2 log 2 pi - 1/2 log|H|.

H is observed, the exact Hessian of -log p(y, x), or expected: the Fisher information of the
Gaussian likelihoods, plus the exact Hessian of all other terms.

Source: Tierney and Kadane (1986), Accurate approximations for posterior moments and marginal
densities, Journal of the American Statistical Association 81, 82-86.
"""

import numpy as np
import pymc as pm
import xarray as xr
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

from pm_gaussgrad.information.unconstrained import Unconstrained


def laplace(
    model=None,
    draws=1000,
    chains=4,
    *,
    information="observed",
    start=None,
    random_seed=None,
    compile_kwargs=None,
):
    r"""Laplace approximation: draws from the normal at the mode of the posterior.

    .. math:: x \mid y \;\approx\; N(\hat x, H^{-1})

    in the unconstrained space, with the mode and the information H there. The draws come back in
    the constrained space with all ``Deterministic`` variables, in the shape that ``pm.sample``
    returns.

    Parameters
    ----------
    model : pymc.Model, optional
        With continuous free variables only; by default that of the context.
    draws, chains : int
        Numbers of draws and of chains, all of them independent.
    information : {"observed", "expected"}
        "observed" is the exact Hessian of the negative log posterior at the mode. "expected"
        takes for each Gaussian likelihood (``gg.MvNormal``, ``pm.MvNormal``) its Fisher
        information (:func:`gg.fisher_information`), which is never negative, and the exact
        Hessian of the other terms.
    start : dict, optional
        Where the search for the mode starts: values of the model's value variables, as
        ``model.initial_point()``, which is the default, or ``pm.find_MAP()``.
    random_seed : int, optional
        Seed of the draws.
    compile_kwargs : dict, optional
        For ``pm.compile``. By default ``{"mode": "FAST_COMPILE"}``: the functions are evaluated
        some hundred times, for which numba would compile longer than it saves.

    Returns
    -------
    xarray.DataTree
        Groups ``posterior`` (dims chain, draw and the model's, with its coordinates), as from
        ``pm.sample``, ``observed_data``, ``constant_data``, and ``laplace`` with the variables
        ``mode`` and ``covariance``, of unconstrained variables by name, and ``log_evidence``.

    Raises
    ------
    TypeError
        If the model has discrete free variables.
    ValueError
        If there are no free variables, ``start`` lacks some or has no finite log density, or an
        argument is none of its choices.
    RuntimeError
        If no mode is found, or the information there is not positive definite.
    NotImplementedError
        If "expected" is asked of a Gaussian likelihood whose covariance has batch dimensions.

    Notes
    -----
    The mode is that of the unconstrained density, with the Jacobian of the transformations, and
    not that of ``pm.find_MAP``, which maximises without it: a normal approximation belongs to the
    density that it approximates. It is found by BFGS and finished by Newton steps.

    Cost beside the search: "observed" takes a Hessian-vector product for each of the d variables
    at dense cost, n^3, because second derivatives of a structured log density go through
    ``to_dense()``. "expected" has the cost of :func:`gg.fisher_information`, that of the
    structure.

    The evidence has the accuracy of the approximation, and is exact for a Gaussian posterior.

    References
    ----------
    Tierney, L. and Kadane, J. B. (1986). Accurate approximations for posterior moments and
    marginal densities. Journal of the American Statistical Association 81, 82-86.

    Examples
    --------
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> with pm.Model():
    ...     mean = pm.Normal("mean", 0, 10)
    ...     y = gg.MvNormal("y", mean, gg.cov.Diagonal(0.5), observed=[1.0, 2.0, 3.0])
    ...     idata = gg.laplace(random_seed=1)
    >>> idata.posterior["mean"].shape
    (4, 1000)
    """
    model = pm.modelcontext(model)
    space = Unconstrained(model, "gg.laplace", compile_kwargs)
    mode, matrix = _mode(space, start, information)
    factor = space.factor(matrix)
    rng = np.random.default_rng(random_seed)
    z = rng.normal(size=(chains, draws, mode.size))
    x = mode + solve_triangular(factor, z.reshape(-1, mode.size).T, lower=True, trans=1).T
    idata = space.to_datatree(x.reshape(z.shape))
    covariance = cho_solve((factor, True), np.eye(mode.size))
    halves = np.log(np.diag(factor)).sum()
    evidence = space.value(mode) + mode.size / 2 * np.log(2 * np.pi) - halves
    idata["laplace"] = xr.DataTree(
        xr.Dataset(
            {
                "mode": ("unconstrained", mode),
                "covariance": (("unconstrained", "unconstrained_bis"), covariance),
                "log_evidence": evidence,
            },
            coords={"unconstrained": space.names, "unconstrained_bis": space.names},
            attrs={"information": information},
        )
    )
    return idata


def mass_matrix(model=None, point=None, *, information="observed", compile_kwargs=None):
    r"""Inverse of the information at a point: the covariance that NUTS is to be scaled by.

    Parameters
    ----------
    model : pymc.Model, optional
        With continuous free variables only; by default that of the context.
    point : dict, optional
        Values of the model's value variables, as ``model.initial_point()``; by default the mode
        of the unconstrained posterior density (:func:`gg.laplace`).
    information : {"observed", "expected"}
        As for :func:`gg.laplace`. Away from the mode, "expected" is the one that is more often
        positive definite.
    compile_kwargs : dict, optional
        As for :func:`gg.laplace`.

    Returns
    -------
    numpy.ndarray, shape (d, d)
        Covariance of the unconstrained variables, raveled, in the order of the model's
        ``value_vars``.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As :func:`gg.laplace`.

    Notes
    -----
    For PyMC's own NUTS: ``pm.sample(step=pm.NUTS(scaling=gg.mass_matrix(), is_cov=True))``. It
    stays as it is during tuning; to adapt it further, pass
    ``potential=pm.step_methods.hmc.quadpotential.QuadPotentialFullAdapt(d, mean, covariance, 10)``
    instead. nutpie and the JAX samplers accept no initial mass matrix through ``pm.sample``.

    Examples
    --------
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> with pm.Model():
    ...     mean = pm.Normal("mean", 0, 2)
    ...     y = gg.MvNormal("y", mean, gg.cov.Diagonal(1.0), observed=[1.0, 2.0, 3.0])
    ...     covariance = gg.mass_matrix()
    >>> covariance.round(6)
    array([[0.307692]])
    """
    space = Unconstrained(pm.modelcontext(model), "gg.mass_matrix", compile_kwargs)
    if point is None:
        _, matrix = _mode(space, None, information)
    else:
        matrix = space.information(space.ravel(point, "point"), information)
    return cho_solve((space.factor(matrix), True), np.eye(len(matrix)))


def _mode(space, start, information):
    """The mode and the information there."""
    space.check(information)
    x = space.ravel(space.model.initial_point() if start is None else start, "start")
    if not np.isfinite(space.value(x)):
        raise ValueError(
            f"{space.owner}: the log density at the start is not finite; pass start= with values "
            "of the model's value variables (model.point_logps(start) shows the terms)."
        )
    with np.errstate(all="ignore"):  # steps into regions of no density
        found = minimize(space.descent, x, jac=True, method="BFGS", options={"gtol": 1e-6})
    x = found.x
    matrix = space.information(x, information)
    # Steps with the expected information converge as well, if not quadratically.
    for _ in range(20):
        slope = space.descent(x)[1]
        step = cho_solve((space.factor(matrix), True), slope)
        if slope @ step < 1e-16 * max(1, x.size):
            return x, matrix
        moved = x - step
        if not space.value(moved) >= space.value(x):
            break
        x, matrix = moved, space.information(moved, information)
    if slope @ step > 1e-6:
        raise RuntimeError(
            f"{space.owner}: no mode was found: the log density still rises by about "
            f"{slope @ step / 2:.2g} from where the search ended ({found.message}) Pass start= "
            "nearer to it, or check that the posterior has a mode in the unconstrained space."
        )
    return x, matrix
