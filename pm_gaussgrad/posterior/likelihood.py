"""The Gaussian likelihood of a model: which one, its mean, covariance, data and dimensions."""

from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from pymc.distributions.multivariate import MvNormal as PyMCMvNormal
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, equal_computations

from pm_gaussgrad.cov import Covariance, Dense
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.distributions.normal import MvNormalRV
from pm_gaussgrad.distributions.student import MvStudentTRV
from pm_gaussgrad.likelihood.missing import missing_entries, without_masks


@dataclass(frozen=True)
class Likelihood:
    """An observed multivariate normal variable of a model.

    Attributes
    ----------
    model : pymc.Model
    name : str
    data : array, shape (..., n)
        The observations, NaN where they are missing.
    value : TensorVariable, shape (..., n)
        The same, symbolic; zero where they are missing.
    mu : TensorVariable, shape (..., n)
    cov : Covariance
        Of known size n.
    missing : array of bool, of the shape of the data, or None
    dims : tuple of str
        The names of the data's dimensions.
    coords : dict
        Labels of the dimensions, by default 0, 1, ...
    nu : TensorVariable, shape (...), or None
        Degrees of freedom of a Student-t, whose scale matrix ``cov`` is.
    written : Covariance, or None
        The covariance as the distribution was given it, with its summands; None where that is not
        known.
    """

    model: pm.Model
    name: str
    data: np.ndarray
    value: pt.TensorVariable
    mu: pt.TensorVariable
    cov: Covariance
    missing: np.ndarray | None
    dims: tuple[str, ...]
    coords: dict
    nu: pt.TensorVariable | None = None
    written: Covariance | None = None

    @property
    def residual(self):
        """value - mu, zero where the data are missing: shape (..., n)."""
        residual = self.value - self.mu
        return residual if self.missing is None else pt.switch(self.missing, 0, residual)


def gaussian_likelihood(owner: str, model=None, var_name=None, student=False) -> Likelihood:
    """The multivariate normal likelihood of a model, the only one or that of the given name.

    Parameters
    ----------
    owner : str
        The function that asks, for messages.
    model : pymc.Model, optional
        By default the one on the context stack.
    var_name : str, optional
        Needed where several observed variables are multivariate normal.
    student : bool
        Whether a ``gg.MvStudentT`` will do.
    """
    model = as_model(owner, model)
    rv = _observed_normal(owner, model, var_name, student)
    var_name = rv.name
    value = without_masks(model.rvs_to_values[rv])
    data = _held(owner, var_name, value)
    normal = _unwrapped(rv)
    mu, cov = _mean_and_covariance(normal, data.shape[-1])
    missing = missing_entries(value)
    dims = model.named_vars_to_dims.get(var_name)
    dims = tuple(dims or (f"{var_name}_dim_{i}" for i in range(data.ndim)))
    coords = {d: _labels(model, d, size) for d, size in zip(dims, data.shape, strict=True)}
    return Likelihood(
        model=model,
        name=var_name,
        data=data,
        value=value if missing is None else pt.switch(missing, 0, value),
        mu=pt.broadcast_to(mu, data.shape),
        cov=cov,
        missing=missing,
        dims=dims,
        coords=coords,
        nu=normal.owner.inputs[2] if isinstance(normal.owner.op, MvStudentTRV) else None,
        written=_as_written(normal),
    )


def as_model(owner, model=None):
    """The given model, or the one on the context stack."""
    if model is not None and not isinstance(model, pm.Model):
        swapped = isinstance(model, xr.DataTree)
        raise TypeError(
            f"{owner}: `model` is a {type(model).__name__}, expected a pymc.Model"
            f"{'; the draws come first, then the model' if swapped else ''}."
        )
    return pm.modelcontext(model)


def _observed_normal(owner, model, var_name, student):
    """The observed variable, the only one or that of the given name."""
    normal = {rv.name: rv for rv in model.observed_RVs if is_normal(rv, student)}
    latent = [rv.name for rv in model.free_RVs if is_normal(rv, student=True)]
    if var_name in latent or (latent and not normal):
        name = var_name or latent[0]
        raise ValueError(
            f"{owner}: {name!r} is a latent variable, expected as `var_name` one of the observed "
            f"gg.MvNormal and pm.MvNormal variables {sorted(normal)}. For new entries of a latent "
            "variable put a variable with the mean and covariance of gg.condition("
            f"{name}, mu, cov, mu_new, cross_cov, cov_new) into the model, and draw it by "
            "pm.sample_posterior_predictive."
        )
    if not normal:
        raise ValueError(
            f"{owner}: none of the observed variables {[rv.name for rv in model.observed_RVs]} is "
            "gg.MvNormal or pm.MvNormal, expected one. Data with missing values need gg.MvNormal; "
            "gg.MvStudentT has gg.loo_log_likelihood and gg.lfo_log_likelihood; the log likelihood "
            "of independent observations is pm.compute_log_likelihood's."
        )
    if var_name is None:
        if len(normal) != 1:
            raise ValueError(
                f"{owner}: the model has {len(normal)} observed gg.MvNormal or pm.MvNormal "
                f"variables {sorted(normal)}, expected one; name it by var_name=."
            )
        [var_name] = normal
    if var_name not in normal:
        raise ValueError(
            f"{owner}: `var_name` is {var_name!r}, expected one of the observed gg.MvNormal and "
            f"pm.MvNormal variables {sorted(normal)}. Data with missing values need gg.MvNormal."
        )
    return normal[var_name]


def _unwrapped(rv):
    """A variable without ``total_size=``, which scales its log density only."""
    wrapped = rv.owner is not None and isinstance(rv.owner.op, MinibatchRandomVariable)
    return rv.owner.inputs[0] if wrapped else rv


def _labels(model, dim, size):
    labels = model.coords.get(dim)
    return np.arange(size) if labels is None else np.asarray(labels)


def is_normal(rv, student=False) -> bool:
    """Whether a variable of a model is multivariate normal, or Student-t where that will do."""
    kinds = MvNormalRV | PyMCMvNormal.rv_type
    rv = _unwrapped(rv)
    return rv.owner is not None and isinstance(
        rv.owner.op, kinds | MvStudentTRV if student else kinds
    )


def _held(owner, name, value) -> np.ndarray:
    """The observations as an array."""
    missing_entries(value)  # normalises what pm.set_data leaves
    if isinstance(value, Constant):
        return np.asarray(value.data)
    if isinstance(value, SharedVariable):
        return np.asarray(value.get_value())
    try:
        return np.asarray(value.eval())
    except Exception as error:
        raise TypeError(
            f"{owner}: the observations of {name!r} are symbolic, expected data or pm.Data."
        ) from error


def _as_written(rv):
    """The covariance of a variable with its summands; None where it is not known, or another's."""
    cov, op = getattr(rv.tag, "covariance", None), rv.owner.op
    if cov is None or cov.structure != op.structure:
        return None
    held = rv.owner.inputs[-len(cov.parameters) :]
    # In a copy of a model the parameters are others than those that the structure has.
    return cov if equal_computations(list(cov.parameters), held) else None


def _mean_and_covariance(rv, n):
    op = rv.owner.op
    if isinstance(op, MvNormalRV | MvStudentTRV):
        skipped = 2 if isinstance(op, MvNormalRV) else 3
        mu, *parameters = rv.owner.inputs[skipped:]
        return mu, of_size(op.structure.from_parameters(*parameters, size=n), n)
    mu, cov = op.dist_params(rv.owner)
    return mu, of_size(Dense(cov), n)
