r"""A summand of the covariance: what is known of it from observations of the sum.

With y - mu = c + d, c of covariance C and d the other summands together, Sigma that of both, o the
observed entries, and alpha = Sigma_oo^-1 (y - mu)_o among zeros,

    E(c | y) = C alpha,    Var(c_i | y) = C_ii - C_io Sigma_oo^-1 C_oi,
    s + C Sigma_oo^-1 ((y - mu) - s - t)_o is a draw of c, s one of c and t one of d.

Nothing is subtracted but what was drawn: the other summands need not be small, nor have an inverse.

Sources: Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, section 2.7 and
eq. 2.25 (sums of processes); Chiles and Delfiner (2012), Geostatistics, 2nd ed., sections 3.4.5
and 7.3.1 (factorial kriging; draws, after Matheron).
"""

from functools import reduce
from operator import add

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov import Covariance, Dense, marginal
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.gaps import observed_quad_logdet_alpha
from pm_gaussgrad.cov.protocol.kriging import Kriging
from pm_gaussgrad.cov.protocol.latent import is_flat
from pm_gaussgrad.cov.protocol.products import unit_rows
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.likelihood.missing import common_pattern, given_observed, missing_positions
from pm_gaussgrad.ops import among_zeros
from pm_gaussgrad.posterior.draws import over_draws, white_noise
from pm_gaussgrad.posterior.predict.parted import parted
from pm_gaussgrad.posterior.predict.predicted import Predicted, Together, together


def of_component(owner, likelihood, component, mu, cov, new, diag) -> Predicted:
    """A component at the entries of the fitted model, or at new ones."""
    entries = entries_of(owner, likelihood, mu, cov, new)
    n = entries.missing.shape[-1]
    if not isinstance(component, Covariance):
        raise TypeError(
            f"{owner}: `component` is a {type(component).__name__}, expected a gg.cov structure, "
            "a summand of the covariance."
        )
    own, others = (
        [of_size(cov, n) for cov in covs] for covs in parted(owner, component, entries.cov)
    )
    component = reduce(add, own)
    residuals, draw, noise = entries.residual[None], None, ()
    if not diag:
        (drawn, noise), (beside, more) = (_drawn(covs, entries) for covs in (own, others))
        noise = (*noise, *more)
        residuals = pt.stack([entries.residual, entries.residual - drawn - beside])
    found = component.times(observed_alpha(entries, residuals))
    if not diag:
        draw = (drawn + found[1])[..., entries.wanted]
    given = cov is not None
    return Predicted(
        n_new=len(entries.wanted),
        mean=found[0][..., entries.wanted],
        variances=_variances(own, entries) if diag else None,
        draw=draw,
        noise=noise,
        contradictory=_differs(likelihood, entries) if given else pt.constant(np.array(False)),
        complaint="`cov` is not the covariance of the fitted model, its variances of the "
        "observations are others; pass what the model was given, and its summand.",
    )


def drawn_component(owner, likelihood, idata, component, cov, **options):
    """Draws of a component at the entries of the fitted model, at each draw of a posterior."""
    found = of_component(owner, likelihood, component, None, cov, None, diag=False)
    outputs, model = [found.draw, found.mean, found.contradictory], likelihood.model
    *arrays, contradictory = over_draws(owner, model, idata, outputs, noise=found.noise, **options)
    found.check(owner, contradictory)
    check_drawn(owner, *arrays)
    return arrays[0]


def check_drawn(owner, draws, means) -> None:
    """Raise a ValueError where a component has a mean and no draw."""
    if (np.isnan(draws) & ~np.isnan(means)).any():
        raise ValueError(
            f"{owner}: draws of the component are NaN, expected summands that have a root by "
            "themselves; in place of one that is singular up to rounding add the matrix, "
            "gg.cov.Dense(summand.to_dense()), or ask for moments alone, gg.predict(diag=True)."
        )


def entries_of(owner, likelihood, mu, cov, new) -> Together:
    """Observations and new entries, or the entries of the fitted model alone."""
    if new is not None:
        return together(owner, likelihood, mu, cov, new)
    shape = likelihood.data.shape
    cov = likelihood.written if cov is None else cov
    if cov is None:
        raise ValueError(
            f"{owner}: what the covariance of {likelihood.name!r} is a sum of is not known, "
            "expected a gg.cov structure as `cov` of gg.MvNormal; of a pm.MvNormal or a copy of a "
            "model pass the sum, cov=."
        )
    cov = cov if isinstance(cov, Covariance) else Dense(as_parameter(owner, "cov", cov, 2))
    if isinstance(cov.size, int) and cov.size != shape[-1]:
        raise ValueError(
            f"{owner}: `cov` is for {cov.size} entries, expected the {shape[-1]} of "
            f"{likelihood.name!r}; for new ones beside them pass mu= and new=, too."
        )
    missing = np.zeros(shape, bool) if likelihood.missing is None else likelihood.missing
    return Together(
        of_size(cov, shape[-1]), likelihood.mu, likelihood.residual, missing, np.arange(shape[-1])
    )


def _drawn(covs, entries):
    """The sum of a draw of each, and the white noise that it is a function of.

    Of coefficients with a flat prior any draw will do, and it is zero: the data say all of them.
    """
    covs = [cov for cov in covs if not is_flat(cov)]
    *rows, n = entries.missing.shape
    dtype = entries.residual.dtype
    noise = [white_noise(rows, cov.noise_size(n), dtype) for cov in covs]
    drawn = [cov.draw_semidefinite(z) for cov, z in zip(covs, noise, strict=True)]
    return sum(drawn, start=pt.zeros_like(entries.residual)), noise


def observed_alpha(entries, residuals):
    """Sigma_oo^-1 r_o among zeros, for rows (..., n)."""
    missing, n = entries.missing, entries.missing.shape[-1]
    cov, pattern = entries.cov.resolved, common_pattern(entries.missing)
    if pattern is not None:
        observed = np.flatnonzero(~pattern)
        if not observed.size:
            return pt.zeros_like(residuals)
        alpha = marginal(cov, observed).solve(residuals[..., observed])
        return among_zeros(alpha, pt.constant(observed), n)
    residuals = pt.switch(missing, 0, residuals)
    # Rows without any observation are zero; they need no solves for what they miss.
    seen = ~missing.all(axis=-1, keepdims=True)
    positions = pt.constant(missing_positions(missing & seen))
    alpha = observed_quad_logdet_alpha(cov, residuals, positions)[2]
    return pt.switch(missing, 0, alpha)


def _variances(own, entries):
    """Of each wanted entry: (..., n_wanted)."""
    cov, missing, wanted = entries.cov.resolved, entries.missing, entries.wanted
    component, batch_ndim = reduce(add, own), max(x.batch_ndim for x in own)
    positions, prior = pt.constant(wanted), component.diagonal()
    if batch_ndim:
        rows = unit_rows(positions, missing.shape[-1], prior.dtype)
        rows = component.times(pt.expand_dims(rows, tuple(range(1, 1 + batch_ndim))))
    else:
        rows = component.rows(positions)
    columns, pattern = pt.moveaxis(rows, 0, -1), common_pattern(missing)
    if pattern is None:
        kriging = Kriging(cov, columns, given_observed(cov, missing), _root_of(cov))
    else:
        observed = np.flatnonzero(~pattern)
        if not observed.size:
            return prior[..., wanted]
        cov = marginal(cov, observed).resolved
        kriging = Kriging(cov, columns[..., observed, :], whiten=_root_of(cov))
    return prior[..., wanted] - kriging.explained_variances()


def _root_of(cov):
    """What whitens, but for what coefficients with a flat prior may explain."""
    return getattr(cov, "whiten_rest", cov.whiten)


def _differs(likelihood, entries):
    """Whether the covariance has other variances of the observations than the fitted model."""
    n, size = likelihood.data.shape[-1], entries.missing.shape[-1]
    old = np.arange(n) if n == size else np.setdiff1d(np.arange(size), entries.wanted)
    variances, expected = entries.cov.diagonal()[..., old], likelihood.cov.diagonal()
    rounding = float(np.finfo(expected.dtype).eps) ** (1 / 2)
    return pt.gt(pt.abs(variances - expected), rounding * expected).any()
