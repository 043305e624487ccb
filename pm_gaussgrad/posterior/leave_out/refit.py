r"""Fits without some observations, for cross-validation by ArviZ: reloo, loo_kfold, lfo_cv.

What is left out is missing: integrated out of the likelihood, exactly. Which entries these are is
an input of the log density, which is compiled once for all fits. With d the difference of the
entries left out from their conditional mean given the others, and C their conditional covariance,

    y_i | others      N, of d_i and C_ii
    y_g | others      N, of d_g and C_gg
    y_i | y_<i        N, of the innovations of d by the factor of C, in the order of the data

at each draw of a fit. The last add up to the joint log density of all that is left out.

Sources: as in :mod:`pm_gaussgrad.posterior.leave_out.terms` and
:mod:`pm_gaussgrad.cov.protocol.gaps`.
"""

import inspect
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import xarray as xr
from arviz_stats import SamplingWrapper
from pymc.model.fgraph import clone_model
from pymc.variational.minibatch_rv import MinibatchRandomVariable, get_scaling
from scipy.linalg import solve_triangular

from pm_gaussgrad.cov.protocol.elliptical import LOG_2PI, gaussian_log_density
from pm_gaussgrad.cov.protocol.gaps import MissingEntries, observed_quad_logdet_alpha
from pm_gaussgrad.distributions.student import student_log_density
from pm_gaussgrad.likelihood.missing import missing_positions
from pm_gaussgrad.posterior.draws import SAMPLE_DIMS, DrawFunction, posterior_of
from pm_gaussgrad.posterior.evaluation.interpreted import INTERPRETED
from pm_gaussgrad.posterior.leave_out.terms import PAST
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood


@dataclass(frozen=True)
class LeftOut:
    """What a fit is to do without.

    Attributes
    ----------
    units : array of int, shape (u)
        Numbers of the observations or groups, among all of these.
    missing : array of bool, of the shape of the data
        These and what is missing anyway.
    """

    units: np.ndarray
    missing: np.ndarray

    @property
    def positions(self):
        """Those of what each row misses, at least one, filled up by n: shape (..., k)."""
        positions = missing_positions(np.atleast_2d(self.missing))
        if positions.shape[-1]:
            return positions
        return np.full((*positions.shape[:-1], 1), self.missing.shape[-1])


class RefitWrapper(SamplingWrapper):
    """Fits a model again without some observations, and says how probable these are.

    Parameters
    ----------
    owner : str
        The function that asks, for messages.
    terms : Terms
        Of the observations or groups that may be left out.
    idata : xarray.DataTree
        With the terms at the draws of the whole model.
    sample_kwargs : dict
        For ``pm.sample``.
    compile_kwargs : dict, optional
    """

    def __init__(self, owner, terms, idata, sample_kwargs, compile_kwargs):
        self.owner, self.terms, self.likelihood = owner, terms, terms.likelihood
        self.compile_kwargs = compile_kwargs
        self._step, self._density = None, None
        model, self._positions = _model_with_gaps(owner, self.likelihood)
        sample_kwargs = {"progressbar": False, "chains": 4, "cores": 1, **sample_kwargs}
        super().__init__(model=model, idata_orig=idata, sample_kwargs=sample_kwargs)

    def sel_observations(self, idx):
        """Split by positions along the one dimension of the terms, or by a dict of labels."""
        terms, likelihood = self.terms, self.likelihood
        if isinstance(idx, dict):
            found = [list(terms.coords[dim]).index(idx[dim]) for dim in terms.dims]
            idx = np.ravel_multi_index(found, [len(terms.coords[dim]) for dim in terms.dims])
        units, members = np.atleast_1d(idx), terms.members()
        if terms.kind == PAST and not np.array_equal(units, np.arange(units[0], len(members))):
            raise ValueError(
                f"{self.owner}: the group log_likelihood has log densities one step ahead, "
                "expected that only the last observations be left out, as by az.lfo_cv; for "
                "az.reloo and az.loo_kfold call gg.loo_log_likelihood(idata, model) first."
            )
        missing = np.isnan(likelihood.data)
        for unit in units:
            missing[members[unit]] = True
        left_out = LeftOut(units, missing)
        return left_out, left_out

    def leave_out(self, left_out):
        """Have the model do without some observations."""
        self._positions.set_value(left_out.positions.astype(self._positions.dtype))

    def sample(self, modified_observed_data):
        """Fit to all data but those."""
        self.leave_out(modified_observed_data)
        arguments = dict(self.sample_kwargs)
        with_pymc = arguments.get("nuts_sampler", "pymc") == "pymc" and "step" not in arguments
        if not with_pymc or self.model.discrete_value_vars:
            with self.model:
                return pm.sample(**arguments)
        nuts = arguments.pop("nuts", {})
        for name in arguments.keys() - inspect.signature(pm.sample).parameters.keys():
            nuts[name] = arguments.pop(name)
        if self._step is None:
            self._step = self._compiled_step(arguments, nuts)
        step, step.sampling_state, starts = self._step
        arguments = {"initvals": starts, **arguments, "step": step, "nuts_sampler": "pymc"}
        with self.model:
            return pm.sample(**arguments)

    def _compiled_step(self, arguments, nuts):
        """A sampler with a compiled log density, its state before any draw, and where to start."""
        chosen = {"chains", "tune", "initvals", "random_seed", "init", "compile_kwargs"}
        arguments = {name: arguments[name] for name in chosen & arguments.keys()}
        starts, step = pm.init_nuts(
            model=self.model, progressbar=False, quiet=True, **arguments, **nuts
        )
        return step, step.sampling_state, starts

    def get_inference_data(self, fitted_model):
        """The fit, as it is."""
        return fitted_model

    def log_likelihood__i(self, excluded_obs, idata__i):
        """Log densities of what was left out, at each draw of a fit without it."""
        if self._density is None:
            self._density = _Density(self.owner, self.likelihood, self.compile_kwargs)
        members = [self.terms.members()[unit] for unit in excluded_obs.units]
        values = self._density(idata__i, excluded_obs, members, self.terms.kind == PAST)
        posterior, dims, coords = posterior_of(self.owner, idata__i), list(SAMPLE_DIMS), {}
        if len(self.terms.dims) == 1:
            [dim] = self.terms.dims
            dims, coords = [*dims, dim], {dim: self.terms.coords[dim][excluded_obs.units]}
        else:
            values = values[..., 0]
        coords |= {d: posterior.coords[d] for d in SAMPLE_DIMS if d in posterior.coords}
        return xr.DataArray(values, coords, dims, name=self.likelihood.name)


def _model_with_gaps(owner, likelihood):
    """The model with an input for what its data miss, and this input."""
    clone, name = clone_model(likelihood.model), likelihood.name
    own = gaussian_likelihood(owner, clone, name, student=True)
    n = own.data.shape[-1]
    rows = np.atleast_2d(own.data).shape[:-1]
    with clone:
        label = f"{name}_left_out"
        positions = pm.Data(label, np.full((*rows, 1), n), shape=(*rows, None))
        pm.Potential(f"{name}_kept", _log_density_of_others(own, positions) * _scaling(clone[name]))
    model = pm.do(clone, {name: own.data})
    return model, model[label]


def _log_density_of_others(likelihood, positions):
    """Of all that is not at the positions (..., k), a log density for all rows together."""
    n = likelihood.data.shape[-1]
    nothing = pt.eq(pt.lt(positions, n).sum(axis=-1), n)
    # Rows of which nothing remains are left out afterwards; here they miss nothing.
    positions = pt.switch(nothing[..., None], n, positions)
    residual = pt.atleast_Nd(likelihood.residual, n=2)
    quad, logdet, _ = observed_quad_logdet_alpha(likelihood.cov, residual, positions)
    count = pt.ge(positions, n).sum(axis=-1) + (n - positions.shape[-1])
    if likelihood.nu is None:
        logp = gaussian_log_density(quad, logdet, count)
    else:
        logp = student_log_density(quad, logdet, count.astype(quad.dtype), likelihood.nu)
    return pt.switch(nothing, 0, logp).sum()


def _scaling(rv):
    """The factor of a log density that ``total_size=`` is for."""
    if isinstance(rv.owner.op, MinibatchRandomVariable):
        return get_scaling(rv.owner.inputs[1:], rv.shape)
    return 1.0


class _Density:
    """Log densities of entries of a likelihood given all that is not left out."""

    def __init__(self, owner, likelihood, compile_kwargs):
        self.owner, self.n, self.nu = owner, likelihood.data.shape[-1], likelihood.nu
        ndim = max(likelihood.data.ndim, 2)
        positions = pt.tensor("positions", dtype="int64", shape=(None,) * ndim)
        entries = MissingEntries(likelihood.cov, positions, self.n)
        residual = pt.atleast_Nd(likelihood.residual, n=2)
        filled = entries.fill(pt.switch(entries.is_missing(), 0, residual))
        outputs = [residual - filled, entries.inverse_factor()]
        if self.nu is not None:
            quad = likelihood.cov.quad_logdet(filled)[0]
            outputs += [quad, pt.broadcast_to(self.nu, quad.shape)]
        self.function = DrawFunction(
            owner,
            likelihood.model,
            outputs,
            fixed=[positions],
            compile_kwargs=compile_kwargs,
            again=True,
        )

    def __call__(self, idata, left_out, members, ahead):
        """Of the entries or groups ``members``, at each draw: shape (chain, draw, len(members))."""
        sizes = posterior_of(self.owner, idata).sizes
        result = np.empty((*(sizes[dim] for dim in SAMPLE_DIMS), len(members)))
        positions = left_out.positions
        # A vector is one row.
        rows = [np.index_exp[0] if left_out.missing.ndim == 1 else at[:-1] for at in members]
        entries = [np.atleast_1d(at[-1]) for at in members]
        if ahead:
            rows, entries = rows[:1], [np.concatenate(entries)]
        count = self.n - (positions < self.n).sum(axis=-1)
        for index, (difference, factor, *student) in self.function.each(idata, [(positions,)]):
            terms = []
            for row, at in zip(rows, entries, strict=True):
                place = np.searchsorted(positions[row], at)
                block = factor[row][:, place]
                quad, logdet, size = _parts(difference[row][at], block.T @ block, ahead)
                others = count[row], *(x[row] for x in student)
                terms.append(_log_density(quad, logdet, size, *others))
            result[index] = np.concatenate(terms)
        return result


def _parts(difference, covariance, ahead):
    """Quadratic form and log determinant of entries: of all together, or one after the other."""
    factor = np.linalg.cholesky(covariance)
    quad = solve_triangular(factor, difference, lower=True) ** 2
    logdet = 2 * np.log(np.diag(factor))
    if ahead:
        return quad, logdet, 1
    return quad.sum(keepdims=True), logdet.sum(keepdims=True), quad.size


def _log_density(quad, logdet, size, count, known=None, nu=None):
    """By parts; under a Student-t given ``count`` others of which ``known`` is the quad."""
    if nu is None:
        return -0.5 * (quad + logdet + size * LOG_2PI)
    before = np.arange(quad.size)
    degrees = nu + count + before
    growth = (nu + known + np.cumsum(quad) - quad) / degrees
    return _student()(quad / growth, logdet + size * np.log(growth), size, degrees)


@lru_cache(maxsize=1)
def _student():
    quad, logdet, degrees = pt.dvectors("quad", "logdet", "degrees")
    size = pt.dscalar("size")
    logp = student_log_density(quad, logdet, size, degrees)
    return pytensor.function([quad, logdet, size, degrees], logp, mode=INTERPRETED)
