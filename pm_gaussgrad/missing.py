"""Missing values of observed data, NaN or masked: found, and integrated out exactly.

The pattern of what is missing is a fact of the data, read when a log density is built: from a
constant, or from what a shared variable (``pm.Data``) holds at that time. Where all rows miss
the same entries the density is that of ``gg.cov.marginal``; where they differ, each row has its
own Schur complement of the common precision.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytensor.tensor as pt
from pytensor import config
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.scalar import Cast
from pytensor.tensor.elemwise import Elemwise

from pm_gaussgrad.cov import Covariance, marginal
from pm_gaussgrad.cov.base import named_dims_hint
from pm_gaussgrad.cov.conditioning import conditional, observed_quad_logdet_alpha
from pm_gaussgrad.cov.sized import of_size


def as_observed(observed):
    """Data with missing values as a constant with NaN, which PyMC passes on; other data as is.

    PyMC makes missing values of arrays into parameters to be sampled.
    """
    if hint := named_dims_hint(observed):
        raise TypeError(f"`observed` is a {type(observed).__name__}, expected data{hint}.")
    if isinstance(observed, Variable):
        return observed
    if isinstance(observed, pd.Series | pd.DataFrame | pd.Index):
        if not np.any(observed.isnull()):
            return observed
        data = observed.to_numpy(dtype=config.floatX, na_value=np.nan)
    else:
        data = _with_nan(observed)
    return pt.constant(data) if np.isnan(data).any() else observed


def with_shape_of(observed, kwargs: dict) -> dict:
    """Keyword arguments of a distribution with the shape of constant data, if they have none.

    PyMC would take it from the constant as a tensor, which errors of sizes cannot speak of.
    """
    known = isinstance(observed, Constant)
    if not known or any(kwargs.get(name) is not None for name in ("shape", "dims")):
        return kwargs
    return {**kwargs, "shape": observed.data.shape}


def _with_nan(data) -> np.ndarray:
    """Floating data, NaN where it is masked."""
    return np.ma.filled(np.ma.asarray(data).astype(config.floatX), np.nan)


def missing_entries(value) -> np.ndarray | None:
    """Which entries of an observed value are missing: booleans, or None if none is.

    Only what is constant or shared is looked at; a value that depends on anything else has no
    missing entries.
    """
    while value.owner and isinstance(value.owner.op, Elemwise):
        if not isinstance(value.owner.op.scalar_op, Cast):
            return None
        [value] = value.owner.inputs
    if isinstance(value, SharedVariable):
        data = value.get_value(borrow=True)
        if isinstance(data, np.ma.MaskedArray):
            # pm.set_data leaves arrays with a mask, which compiled functions do not see.
            data = _with_nan(data)
            value.set_value(data)
    elif isinstance(value, Constant):
        data = value.data
    else:
        return None
    if np.asarray(data).dtype.kind != "f":
        return None
    missing = np.isnan(data)
    return missing if missing.any() else None


@dataclass(frozen=True)
class Observed:
    """The observed part of rows that all miss the same entries."""

    value: Variable
    mu: Variable
    cov: Covariance


@dataclass(frozen=True)
class ObservedByRow:
    """Quadratic form, log determinant and number of observed entries of rows that differ."""

    quad: Variable
    logdet: Variable
    counts: np.ndarray


def common_pattern(missing) -> np.ndarray | None:
    """The pattern (n) of all rows (..., n) of booleans, or None where they differ."""
    patterns = missing.reshape(-1, missing.shape[-1])
    return patterns[0] if len(patterns) and (patterns == patterns[0]).all() else None


def missing_positions(missing) -> np.ndarray:
    """Positions of what each row (..., n) misses, filled up by n: shape (..., k)."""
    order = np.argsort(~missing, axis=-1, kind="stable")[..., : missing.sum(axis=-1).max(initial=0)]
    return np.where(np.take_along_axis(missing, order, axis=-1), order, missing.shape[-1])


def given_observed(cov, missing):
    """The conditional distribution of missing entries, booleans (..., n), given the others.

    An object with the methods of :class:`~pm_gaussgrad.cov.conditioning.MissingEntries`.
    """
    pattern = common_pattern(missing)
    positions = missing_positions(missing) if pattern is None else np.flatnonzero(pattern)
    return conditional(cov, positions, missing.shape[-1])


def observed_part(cov, value, mu, missing) -> Observed | ObservedByRow | None:
    """What the observed entries contribute to a log density; None where there are none.

    Parameters
    ----------
    cov : Covariance
        Of known size n.
    value : TensorVariable, shape (..., n)
        Has NaN at its missing entries.
    mu : TensorVariable, shape () or (..., n)
    missing : array of bool, of the shape of the value
    """
    if missing.all():
        return None
    mu = pt.broadcast_to(mu, (*tuple(mu.shape)[:-1], missing.shape[-1]))
    pattern = common_pattern(missing)
    if pattern is not None:
        observed = np.flatnonzero(~pattern)
        data = value.data[..., observed] if isinstance(value, Constant) else None
        kept = value[..., observed] if data is None else pt.constant(data)
        return Observed(kept, mu[..., observed], marginal(cov, observed))
    residual = pt.switch(missing, 0, pt.switch(missing, 0, value) - mu)
    counts = (~missing).sum(axis=-1)
    # Rows without any observation are left out afterwards; here they miss nothing.
    positions = missing_positions(missing & (counts > 0)[..., None])
    if positions.shape[-1]:
        quad, logdet, _ = observed_quad_logdet_alpha(cov, residual, pt.constant(positions))
    else:
        quad, logdet = cov.quad_logdet(residual)
    return ObservedByRow(quad, logdet, counts)


def log_density_where_observed(structure, value, mu, parameters, of_rows, of_parts):
    """A log density of rows, its missing entries integrated out.

    Parameters
    ----------
    structure
        Of the covariance or scale, and ``parameters`` its tensors.
    value : TensorVariable, shape (..., n)
        Data with NaN, or anything else, which has no missing entries.
    mu : TensorVariable, shape () or (..., n)
    parameters : sequence of TensorVariable
    of_rows : callable
        ``of_rows(structure, value, mu, parameters)``, the density where nothing is missing.
    of_parts : callable
        ``of_parts(quad, logdet, n)``, the same from its parts, n varying by row.
    """
    missing = missing_entries(value)
    if missing is None:
        return of_rows(structure, value, mu, parameters)
    n = missing.shape[-1]
    cov = structure.from_parameters(*parameters, size=n)
    _check_sizes(cov, mu, n)
    part = observed_part(of_size(cov, n), value, mu, missing)
    if part is None:
        logp = pt.zeros(missing.shape[:-1], dtype=value.dtype)
    elif isinstance(part, Observed):
        logp = of_rows(part.cov.structure, part.value, part.mu, part.cov.parameters)
    else:
        logp = of_parts(part.quad, part.logdet, part.counts)
        logp = pt.switch(part.counts > 0, logp, 0)
    return _only_where(value, missing, logp)


def _check_sizes(cov, mu, n):
    """Raise a ValueError where covariance or mean are known not to be for n entries."""
    length = mu.type.shape[-1] if mu.type.ndim else 1
    for name, size in (("covariance", cov.size), ("mean", n if length == 1 else length)):
        if isinstance(size, int) and size != n:
            raise ValueError(
                f"{cov.label}: the data have {n} entries in their last dimension and the {name} is "
                f"for {size}, expected the same; missing entries count, as NaN."
            )


def _only_where(value, missing, logp):
    """The log density, or NaN where shared data came to miss other entries than ``missing``."""
    if isinstance(value, Constant):
        return logp
    unchanged = pt.eq(pt.isnan(value), missing).all()
    return pt.switch(unchanged, logp, np.nan).astype(logp.dtype)
