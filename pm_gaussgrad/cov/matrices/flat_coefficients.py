r"""Coefficients with a flat prior beside any covariance: the restricted likelihood.

Definition: y = X b + e, p(b) = 1, e of the covariance Sigma. Integrated over b (p), with

    G = X'Sigma^-1 X,    b^ = G^-1 X'Sigma^-1 r,    e = r - X b^,
    P = Sigma^-1 - Sigma^-1 X G^-1 X'Sigma^-1,

    quad = e'Sigma^-1 e = r'P r,    logdet = log|Sigma| + log|G| - p log 2 pi,    alpha = P r,

so that with n log 2 pi the exponent of 2 pi is n - p. There is a density and no covariance; where
others have Sigma^-1 it has P: leave-one-out, missing entries, Fisher information of what Sigma
depends on. It is that of :mod:`pm_gaussgrad.cov.matrices.woodbury` with a prior precision of zero.
Cost: p + 1 rows of solves with Sigma twice. Pullback: b^ and G^-1/2 X' are held fixed.

Draws of entries given others need no draw of b: a draw of e alone, and what the others say about
the rest (:meth:`FlatCoefficients.proper`).

Sources: Harville (1974), Bayesian inference for variance components using only error contrasts;
Harville (1977), Maximum likelihood approaches to variance component estimation, section 5;
Cressie (1993), Statistics for Spatial Data, section 3.4 (universal kriging).
"""

import numpy as np
import pandas as pd
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.raise_op import CheckAndRaise
from pytensor.tensor.basic import get_underlying_scalar_constant_value

from pm_gaussgrad.cov.matrices.dense import Dense
from pm_gaussgrad.cov.matrices.woodbury import Woodbury
from pm_gaussgrad.cov.protocol.base import Covariance, as_parameter, length
from pm_gaussgrad.cov.protocol.constants import check_finite, constant_value
from pm_gaussgrad.cov.protocol.elliptical import LOG_2PI
from pm_gaussgrad.cov.protocol.latent import Latent, register_latent
from pm_gaussgrad.cov.protocol.marginal import marginal_of
from pm_gaussgrad.cov.protocol.products import rows_times, standardised_by
from pm_gaussgrad.cov.protocol.scales import rescales, times_scale
from pm_gaussgrad.cov.protocol.strips import by_strips
from pm_gaussgrad.cov.protocol.sums import closes, common_size, falls_back, label_of_sum, resolve

NAME = "gg.cov.Linear"
# The smallest singular value, relative to the largest, of columns of length one that differ: G has
# its square, to rounding.
_SINGULAR = np.sqrt(np.finfo(float).eps)
# What coefficients leave of an entry of Sigma^-1, in units of its rounding, that is anything else.
_LEAST_LEFT = 256


class FlatLinear(Covariance):
    """``Linear(design, "flat")``: a summand, which has no covariance.

    Parameters
    ----------
    design : tensor_like, shape (..., n, p)
    columns : sequence, optional
        Names of the columns.
    """

    how = (
        "a flat prior, which has no density by itself; beside another covariance by solves with it"
    )
    label = NAME
    parameter_shapes = {"design": "n p"}
    columns = None

    def __init__(self, design, columns=None):
        self.columns = columns
        self.parameters = (as_design(NAME, design),)
        check_rank(NAME, self.parameters[0], columns)

    @classmethod
    def of(cls, design):
        """From a tensor that is known to be of full rank."""
        return cls.from_parameters(design)

    @property
    def design(self):
        """X, (..., n, p)."""
        return self.parameters[0]

    def keep(self, observed):
        return FlatLinear(self.design[..., observed, :], self.columns)

    def scaled(self, factor):
        same = FlatLinear.of(self.design)
        same.columns = self.columns
        return same

    def __reduce__(self):
        return FlatLinear, (self.design, self.columns)

    def _alone(self, *_):
        raise NotImplementedError(
            f"{self.label}: coefficients with a flat prior have no density by themselves; add the "
            'covariance of the errors, as in gg.cov.Linear(X, "flat") + gg.cov.Diagonal(variance).'
        )

    def _improper(self, *_):
        raise no_covariance(self.label)

    quad_logdet = logp = solve = logdet = inverse_diagonal = innovations = _alone
    to_dense = color = draw = whiten = diagonal = times = rows = information = _improper


def as_design(owner, design):
    """A user's regressors, (..., n, p)."""
    design = design.to_numpy() if isinstance(design, pd.DataFrame) else design
    if np.ndim(design) == 1:
        raise TypeError(
            f"{owner}: `design` has 1 dimension, expected (..., n, p), one column a coefficient; "
            "for a single one pass design[:, None]."
        )
    design = as_parameter(owner, "design", design, 2)
    check_finite(owner, "design", design)
    return design


def check_rank(owner, design, columns=None) -> None:
    """Raise a ValueError where columns of a constant design are linearly dependent."""
    matrix = constant_value(design)
    if matrix is None or matrix.ndim != 2 or not matrix.shape[1]:
        return
    n, p = matrix.shape
    norms = np.sqrt((matrix**2).sum(axis=0))
    _, values, axes = np.linalg.svd(matrix / np.where(norms > 0, norms, 1))
    values = np.append(values, np.zeros(max(p - n, 0)))
    missing = int(np.sum(values <= _SINGULAR * max(values[0], np.finfo(float).tiny)))
    if missing:
        weights = np.abs(axes[p - missing :]).max(axis=0)
        names = np.arange(p) if columns is None else np.asarray(columns, dtype=object)
        found = [str(x) for x in names[weights > np.sqrt(_SINGULAR)]]
        raise ValueError(
            f"{owner}: the columns {found} of `design` have the rank {len(found) - missing} for "
            f"the {n} observations, expected linearly independent ones: with a flat prior the data "
            f"must identify each coefficient. Leave out {missing} of them, subtract their means if "
            "they are nearly constant, or give the coefficients variances."
        )


def no_covariance(owner: str) -> NotImplementedError:
    """The error where a member of a covariance is asked for."""
    return NotImplementedError(
        f"{owner}: coefficients with a flat prior have a density and no covariance, expected a "
        "prior that is one for draws and variances, gg.cov.Linear(X, variance); given data they "
        "are drawn by gg.recover."
    )


class FlatCoefficients(Woodbury):
    """A covariance, and coefficients of which nothing is known before.

    Parameters
    ----------
    base : Covariance
    flat : FlatLinear
    """

    how = "a restricted likelihood: solves with the covariance, p + 1 rows twice"
    label = Woodbury.label
    prior = 0
    submatrices_up_to = 0

    @property
    def proper(self):
        """The covariance without the coefficients."""
        return self._base

    def beside_dense(self):
        """The same with a dense matrix in place of the covariance."""
        return FlatCoefficients(Dense(self._base.to_dense()), self.parts[1])

    def quad_logdet(self, residual):
        quad, logdet = super().quad_logdet(residual)
        return quad, logdet - self._of_coefficients()

    def logdet(self):
        return super().logdet() - self._of_coefficients()

    def inverse_diagonal(self):
        whole, rest = self._base.inverse_diagonal(), super().inverse_diagonal()
        # Zero but for rounding where an observation alone identifies a coefficient.
        least = _LEAST_LEFT * np.finfo(self.dtype).eps * whole
        return pt.switch(pt.gt(rest, least.astype(rest.dtype)), rest, 0).astype(rest.dtype)

    def leave_one_out(self, residual):
        precision = self.inverse_diagonal()
        # Given the others such an observation has no distribution.
        precision = pt.switch(pt.gt(precision, 0), precision, np.nan).astype(precision.dtype)
        return standardised_by(self.solve(residual), precision)

    def _of_coefficients(self):
        """p log 2 pi."""
        return pt.as_tensor(length(self._factor)).astype(self.dtype) * LOG_2PI

    def whiten_rest(self, residual):
        """S^-1 (r - X b^) with S S' = Sigma, (..., n) -> (..., n): not white, but P = W'W."""
        residual, factor, base = pt.as_tensor_variable(residual), self._factor, self._base
        inverse, _ = self._inverse_root()
        scores = rows_times(base.solve(residual), factor)
        means = rows_times(rows_times(scores, inverse.mT), inverse)
        return base.whiten(residual - rows_times(means, factor.mT))

    def noise_size(self, n):
        return self._base.noise_size(n)

    def draw(self, z):
        # An error when it is drawn, and not when a model is made.
        drawn = self._base.draw(z)
        error = CheckAndRaise(NotImplementedError, str(self.no_covariance()))
        return error(drawn, pt.constant(False))

    def keep(self, observed):
        if not isinstance(self.size, int):
            return None
        kept = marginal_of(self._base, observed, self.size)
        return FlatCoefficients(kept, self.parts[1].keep(observed))

    def rows_apart(self, observed):
        # None; an error where what a row has does not identify its coefficients.
        for pattern in np.unique(observed, axis=0):
            if pattern.any():
                self.parts[1].keep(np.flatnonzero(pattern))
        return None

    def scaled(self, factor):
        return self.from_parts([self.parts[0].scaled(factor), self.parts[1]])

    def information(self, tangents):
        place = self.structure.places[-1]
        if not _is_zero(tangents[place]):
            raise NotImplementedError(
                f"{self.label}: the Fisher information of a design that depends on parameters has "
                "no form here, expected constant regressors, or coefficients with a prior variance."
            )
        tangents = [None if i == place else x for i, x in enumerate(tangents)]
        return by_strips(self, tangents)

    def no_covariance(self):
        """The error where a member of a covariance is asked for."""
        return no_covariance(self.label)

    def _improper(self, *_):
        raise self.no_covariance()

    def innovations(self, residual):
        raise NotImplementedError(
            f"{self.label}: the first observations have no distribution given those before them "
            "while coefficients with a flat prior are unknown; give these a prior variance, "
            "gg.cov.Linear(X, variance)."
        )

    to_dense = color = whiten = diagonal = times = rows = _improper


def _is_zero(tangent) -> bool:
    """Whether nothing that is differentiated by has a part in it."""
    known = get_underlying_scalar_constant_value(tangent, raise_not_constant=False)
    return not isinstance(known, Variable) and not known


@closes(FlatLinear, FlatLinear)
def _side_by_side(left, right):
    common_size(left, right)
    columns = [x.columns for x in (left, right)]
    names = None if None in columns else [*columns[0], *columns[1]]
    return FlatLinear(pt.concatenate([left.design, right.design], axis=-1), names)


@rescales(FlatLinear)
def _rescaled(cov, scale):
    return FlatLinear(times_scale(cov.design, scale[..., None]), cov.columns)


@falls_back(5, partner=lambda cov: "")
def _flat_and_others(summands):
    """Coefficients with a flat prior beside what the others come to."""
    flat = [cov for cov in summands if isinstance(cov, FlatLinear)]
    others = [cov for cov in summands if not isinstance(cov, FlatLinear)]
    if not (flat and others):
        return None
    base = resolve(others)
    if isinstance(base, FlatCoefficients):
        base, more = base.parts
        flat = [more, *flat]
    while len(flat) > 1:
        flat = [_side_by_side(*flat[:2]), *flat[2:]]
    found = FlatCoefficients(base, flat[0])
    found.of_base = label_of_sum(others)
    return found


@register_latent(FlatLinear)
def _coefficients(cov):
    return Latent(None, cov.design, (length(cov.design),), (cov.columns,))
