"""Missing values of observed data, NaN or masked: found, and integrated out exactly.

The pattern of what is missing is a fact of the data, read when a log density is built: from a
constant, or from what a shared variable (``pm.Data``) holds at that time. Where all rows miss
the same entries the density is that of ``gg.cov.marginal``; where they differ, each row has its
own Schur complement of the common precision; or, of few entries, rows of one pattern have the
factor of their submatrix of the covariance.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytensor.tensor as pt
from pymc.distributions.shape_utils import convert_dims, implicit_size_from_params
from pytensor import config
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import graph_inputs
from pytensor.scalar import Cast
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.shape import SpecifyShape
from pytensor.tensor.variable import TensorVariable

from pm_gaussgrad.cov import Covariance, marginal
from pm_gaussgrad.cov.protocol.arguments import named_dims_hint
from pm_gaussgrad.cov.protocol.gaps import conditional, observed_quad_logdet_alpha
from pm_gaussgrad.cov.protocol.scales import finite_dense
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.ops import entries_at, patterned_rows


def as_observed(observed):
    """Data with missing values as a constant with NaN, which PyMC passes on; other data as is.

    PyMC makes missing values of arrays into parameters to be sampled.
    """
    if hint := named_dims_hint(observed):
        raise TypeError(f"`observed` is a {type(observed).__name__}, expected data{hint}.")
    if isinstance(observed, Variable):
        return without_masks(observed)
    if isinstance(observed, pd.Series | pd.DataFrame | pd.Index):
        if not np.any(observed.isnull()):
            return observed
        data = observed.to_numpy(dtype=config.floatX, na_value=np.nan)
    else:
        data = _with_nan(observed)
    return pt.constant(data) if np.isnan(data).any() else observed


def with_shape_of(observed, kwargs: dict) -> dict:
    """Keyword arguments of a distribution with the shape of its data, if they have none.

    PyMC would take it from a constant as a tensor, which errors of sizes cannot speak of; and of
    shared data with dims it would take the lengths of these, which do not say that they follow
    the data.
    """
    dims = kwargs.get("dims")
    if kwargs.get("shape") is not None:
        return kwargs
    if isinstance(observed, Constant):
        return kwargs if dims is not None else {**kwargs, "shape": observed.data.shape}
    shared = isinstance(observed, TensorVariable) and kwargs.get("size") is None
    if shared and len(convert_dims(dims) or ()) == observed.ndim:
        return {**kwargs, "shape": tuple(observed.shape)}
    return kwargs


def _with_nan(data) -> np.ndarray:
    """Floating data, NaN where it is masked."""
    return np.ma.filled(np.ma.asarray(data).astype(config.floatX), np.nan)


def missing_entries(value) -> np.ndarray | None:
    """Which entries of an observed value are missing: booleans, or None if none is.

    Only what is constant or shared is looked at, as it is, of another dtype or with its
    dimensions in another order; a value that depends on anything else has no missing entries.
    """
    data = _data_of(value)
    if data is None or data.dtype.kind != "f":
        return None
    missing = np.isnan(data)
    return missing if missing.any() else None


def _data_of(value) -> np.ndarray | None:
    """The data that an observed value is, NaN where they are masked; None if it is none."""
    if isinstance(value, SharedVariable):
        data = value.get_value(borrow=True)
        if isinstance(data, np.ma.MaskedArray):
            # pm.set_data leaves arrays with a mask, which compiled functions do not see.
            value.set_value(_with_nan(data))
        return np.asarray(value.get_value(borrow=True))
    if isinstance(value, Constant):
        return _with_nan(value.data) if np.ma.isMaskedArray(value.data) else np.asarray(value.data)
    op = value.owner.op if value.owner else None
    if isinstance(op, DimShuffle | SpecifyShape) or (
        isinstance(op, Elemwise) and isinstance(op.scalar_op, Cast)
    ):
        data = _data_of(value.owner.inputs[0])
        return _shuffled(data, op) if isinstance(op, DimShuffle) and data is not None else data
    return None


def _shuffled(data, op) -> np.ndarray:
    kept = data.transpose([*op.shuffle, *op.drop]).reshape([data.shape[i] for i in op.shuffle])
    return np.expand_dims(kept, tuple(op.augment))


def without_masks(value):
    """The same value with NaN, which densities look for, in place of what a mask hides.

    pm.observe makes constants that keep the mask of an array, and compiled functions read
    what is behind it.
    """
    if not isinstance(value, Variable):
        return pt.constant(_with_nan(value)) if np.ma.is_masked(value) else value
    filled = {x: _filled(x) for x in _masked_constants(value)}
    return filled.get(value, graph_replace(value, filled) if filled else value)


def _masked_constants(*variables):
    constants = (x for x in graph_inputs(variables) if isinstance(x, Constant))
    return [x for x in constants if np.ma.isMaskedArray(x.data)]


def _filled(constant):
    data = constant.data
    if data.dtype.kind == "f" or np.ma.is_masked(data):
        return pt.constant(_with_nan(data), name=constant.name)
    return pt.constant(np.asarray(data), name=constant.name)


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
    counts: np.ndarray | int


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

    An object with the methods of :class:`~pm_gaussgrad.cov.protocol.gaps.MissingEntries`.
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
    pattern = common_pattern(missing)
    if pattern is not None:
        observed = np.flatnonzero(~pattern)
        data = value.data[..., observed] if isinstance(value, Constant) else None
        kept = value[..., observed] if data is None else pt.constant(data)
        return Observed(kept, _mean_of(mu, observed, missing.shape[-1]), marginal(cov, observed))
    residual = _residual(value, mu, missing)
    counts = (~missing).sum(axis=-1)
    if _are_small(cov, residual, missing):
        return ObservedByRow(*_by_submatrices(cov, residual, missing), counts)
    # Rows without any observation are left out afterwards; here they miss nothing.
    positions = missing_positions(missing & (counts > 0)[..., None])
    if positions.shape[-1]:
        quad, logdet, _ = observed_quad_logdet_alpha(cov, residual, pt.constant(positions))
    else:
        quad, logdet = cov.quad_logdet(residual)
    return ObservedByRow(quad, logdet, counts)


def _residual(value, mu, missing):
    """Value less mean, zero where the value is missing."""
    mu = _spread(mu, missing.shape[-1])
    return pt.switch(missing, 0, pt.switch(missing, 0, value) - mu)


def _spread(mu, n):
    """A mean of shape () or (..., 1) or (..., n) as one of (..., n)."""
    return pt.broadcast_to(mu, (*tuple(mu.shape)[:-1], n))


def _mean_of(mu, observed, n):
    """The mean of the observed of n entries."""
    if mu.type.ndim == 0 or mu.type.broadcastable[-1]:
        return mu
    if mu.type.shape == (n,):
        return entries_at(mu, pt.constant(observed))
    return _spread(mu, n)[..., observed]


def _are_small(cov, residual, missing) -> bool:
    """Whether rows are of a size at which a factor for each pattern costs less than solves."""
    return (
        missing.shape[-1] <= cov.submatrices_up_to
        and cov.batch_ndim == 0
        and residual.type.shape == missing.shape
    )


def _by_submatrices(cov, residual, missing):
    """Quadratic form and log determinant of each row, one factor for all of a pattern."""
    *lead, n = missing.shape
    patterns, pattern = np.unique(~missing.reshape(-1, n), axis=0, return_inverse=True)
    entries = missing_positions(patterns)  # of what is there
    entries = np.where(entries < n, entries, -1)
    rows = residual.reshape((pattern.size, n))
    index = pt.constant(entries), pt.constant(pattern.ravel())
    is_matrix = "matrix" in cov.structure.parameter_shapes
    matrix = cov.to_dense() if is_matrix else finite_dense(cov)
    matrix = matrix[(0,) * (matrix.type.ndim - 2)]  # a batch of one
    quad, logdet, _ = patterned_rows(rows, matrix, *index)
    return quad.reshape(lead), logdet.reshape(lead)


def nothing_observed(structure, value, mu, parameters) -> ObservedByRow:
    """Of rows without any observation, in the batch of the mean and of the covariance."""
    cores = [len(dims.split()) for dims in structure.parameter_shapes.values()]
    batch = implicit_size_from_params(
        value, pt.atleast_1d(mu), *parameters, ndims_params=[1, 1, *cores]
    )
    nothing = pt.zeros(tuple(batch), dtype=value.dtype)
    return ObservedByRow(nothing, nothing, np.int64(0))


def log_density_where_observed(
    structure, value, mu, parameters, of_rows, of_parts, of_differing=lambda *_: None
):
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
    of_differing : callable, optional
        ``of_differing(cov, residual, missing)``, of rows that miss different entries; or None where
        there is nothing better than their parts.
    """
    if any(np.ma.is_masked(x.data) for x in _masked_constants(mu, *parameters)):
        raise ValueError(
            f"{structure.label}: the mean, the covariance or another argument has masked entries, "
            "expected numbers; only the value itself may miss some. Fill them in."
        )
    value = without_masks(value)
    missing = missing_entries(value)
    if missing is None:
        return of_rows(structure, value, mu, parameters)
    n = missing.shape[-1]
    cov = structure.from_parameters(*parameters, size=n)
    _check_sizes(cov, mu, n)
    cov = of_size(cov, n)
    if common_pattern(missing) is None:
        residual = _only_where(value, missing, _residual(value, mu, missing))
        small = _are_small(cov, residual, missing)
        logp = None if small else of_differing(cov, residual, missing)
        if logp is not None:
            return logp
    part = observed_part(cov, value, mu, missing)
    if part is None:
        part = nothing_observed(structure, value, mu, parameters)
    if isinstance(part, Observed):
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
