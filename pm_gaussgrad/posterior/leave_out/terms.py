r"""Pointwise log densities of a multivariate normal likelihood given other observations.

With P = Sigma^-1, alpha = P (y - mu), c = diag(P), and a group g of observations,

    y_i | y_-i ~ N(y_i - alpha_i / c_i, 1 / c_i)
    y_g | y_-g ~ N(y_g - P_gg^-1 alpha_g, P_gg^-1)

and y_g ~ N(mu_g, Sigma_g) of independent groups, the product of what each of its observations is
given those before. And y_i | y_<i, its mean and variance from the rows of the factor L of
Sigma = L L'. Missing observations are integrated out first: what is left out and what is given are
observed.

Sources: Sundararajan and Keerthi (2001), Predictive approaches for choosing hyperparameters in
Gaussian processes, Neural Computation 13, 1103-1118, section 3; Buerkner, Gabry and Vehtari (2021),
Efficient leave-one-out cross-validation for Bayesian non-factorized normal and Student-t models,
Computational Statistics 36, 1243-1261; Buerkner, Gabry and Vehtari (2020), Approximate
leave-future-out cross-validation for Bayesian time series models, Journal of Statistical
Computation and Simulation 90, 2499-2523.
"""

from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.gaps import left_out_quad_logdet
from pm_gaussgrad.posterior.draws import labelled, over_draws, posterior_of
from pm_gaussgrad.posterior.leave_out.groups import are_unions, as_groups, equal_sized
from pm_gaussgrad.posterior.leave_out.observed import ObservedEntries
from pm_gaussgrad.posterior.likelihood import Likelihood

# What the terms are about is written on them, for who reads them back from a tree.
OTHERS = "log density given all other observations"
OTHER_GROUPS = "log density given all other groups"
PAST = "log density given the observations before"


@dataclass(frozen=True)
class Terms:
    """Log densities of some observations given others, as expressions of a model's variables.

    Attributes
    ----------
    likelihood : Likelihood
    kind : str
        What they are conditional on: ``OTHERS``, ``OTHER_GROUPS`` or ``PAST``.
    logp : TensorVariable
        The terms; of groups those at the positions that are its input.
    dims : tuple of str
    coords : dict
    codes : array of int, shape (n), or None
        The groups of the observed entries.
    pieces : tuple
        As for :func:`~pm_gaussgrad.posterior.draws.each_draw`.
    order : array of int, or None
        Of the groups, in which the pieces have them.
    """

    likelihood: Likelihood
    kind: str
    logp: pt.TensorVariable
    dims: tuple
    coords: dict
    codes: np.ndarray | None = None
    pieces: tuple = ((), [()])
    order: np.ndarray | None = None

    def labelled(self, values, posterior):
        """The terms at each draw as a DataArray."""
        if self.order is not None:
            values = values[..., np.argsort(self.order)]
        array = labelled(self.likelihood.name, values, posterior, self.dims, self.coords)
        return array.assign_attrs(long_name=self.kind)

    def evaluate(self, owner, idata, **options):
        """The terms at each draw of a tree, as a DataArray."""
        posterior = posterior_of(owner, idata)
        model, pieces = self.likelihood.model, self.pieces
        [values] = over_draws(owner, model, idata, [self.logp], pieces=pieces, **options)
        return self.labelled(values, posterior)

    def members(self):
        """For each term where its entries are in the data: an index, in the order of the terms."""
        observed = ~np.isnan(self.likelihood.data)
        where = np.nonzero(observed)
        if self.codes is None:
            return list(zip(*where, strict=True))
        if len(self.dims) < observed.ndim:  # rows that differ, as one long table
            groups = range(1 + self.codes.max())
            return [tuple(x[self.codes == g] for x in where) for g in groups]
        rows = self.likelihood.data.shape[:-1]
        positions = np.flatnonzero(observed[(0,) * len(rows)])
        groups = [positions[self.codes == g] for g in range(1 + self.codes.max())]
        return [(*row, group) for row in np.ndindex(rows) for group in groups]

    def single(self):
        """One term: an expression, its inputs, and the values of these for the i-th of all."""
        index = pt.lscalar("index")
        if not self.pieces[0]:
            return self.logp.ravel()[index], [index], lambda i: (i,)
        count = 1 + self.codes.max()

        def values(i):
            row, group = divmod(i, count)
            return np.flatnonzero(self.codes == group)[None], row

        return self.logp[..., 0].ravel()[index], [*self.pieces[0], index], values


def leave_out_terms(owner, likelihood, idata, group=None) -> Terms:
    """Of each observation, or group of these, given all others.

    Parameters
    ----------
    owner : str
        The function that asks, for messages.
    likelihood : Likelihood
    idata : xarray.DataTree
        In which the labels of the groups may be.
    group : array_like, str or True, optional
        As for :func:`~pm_gaussgrad.posterior.leave_out.loo.loo_log_likelihood`.
    """
    entries = ObservedEntries(likelihood)
    if group is not None:
        entries.check_common(owner)
        if entries.nu is not None and entries.subject is not None:
            raise NotImplementedError(
                f"{owner}: the rows of {entries.name!r} miss different entries and are Student-t, "
                "expected the same entries in all for groups, whose rows share a scale."
            )
        return _of_groups(owner, likelihood, entries, idata, group)
    if entries.nu is not None:
        entries.check_common(owner, whole_rows=True)
    logp = entries.select(left_out(entries, *entries.leave_one_out()))
    return Terms(likelihood, OTHERS, logp, entries.dims, entries.coords)


def left_out(entries, standardised, log_scale):
    """Log densities of single entries given all others."""
    total = None if entries.nu is None else entries.quad()
    return entries.log_density(standardised**2, 2 * log_scale, 1, total, entries.count())


def _of_groups(owner, likelihood, entries, idata, group):
    name, codes, labels = as_groups(owner, group, idata, entries, likelihood.cov)
    if (found := _independent(entries, codes)) is not None:
        quad, logdet = found
        order, pieces, sizes = None, ((), [()]), np.bincount(codes)
    else:
        positions = pt.lmatrix("positions")
        order, pieces = equal_sized(entries.cov, codes)
        quad, logdet = left_out_quad_logdet(entries.cov, entries.residual, positions, codes.size)
        pieces, sizes = ([positions], pieces), positions.shape[1]
    total = None if entries.nu is None else entries.quad()
    logp = entries.log_density(quad, logdet, sizes, total, codes.size)
    rows = entries.dims[:-1]
    coords = {dim: entries.coords[dim] for dim in rows} | {name: labels}
    return Terms(
        likelihood,
        OTHER_GROUPS,
        logp,
        (*rows, name),
        coords,
        codes=codes,
        pieces=pieces,
        order=order,
    )


def _independent(entries, codes):
    """Quad and logdet of each group, (..., g), where all others say nothing of it; else None."""
    if not are_unions(codes, entries.cov):
        return None
    try:
        standardised, log_scale = entries.innovations()
    except NotImplementedError:
        return None
    return [_of_each(codes, x) for x in (standardised**2, 2 * log_scale)]


def _of_each(codes, x):
    """Sums over the observations of each group, (..., n) -> (..., g)."""
    by_observation = pt.moveaxis(x, -1, 0)
    sums = pt.zeros((1 + codes.max(), *tuple(by_observation.shape)[1:]), dtype=x.dtype)
    return pt.moveaxis(sums[codes].inc(by_observation), 0, -1)


def ahead_terms(owner, likelihood) -> Terms:
    """Of each observation given those before it."""
    entries = ObservedEntries(likelihood)
    entries.check_common(owner, whole_rows=True)
    standardised, log_scale = entries.innovations()
    so_far = entries.cumulated(standardised**2), entries.place()
    logp = entries.log_density(standardised**2, 2 * log_scale, 1, *so_far)
    return Terms(likelihood, PAST, entries.select(logp), entries.dims, entries.coords)
