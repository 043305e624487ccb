r"""What a summand of a covariance is made of: Sigma_k = A M A', u ~ N(0, M), seen as A u.

Coefficients of a regression, effects of groups, the nodes of a field. Given data of the sum, with
r their residual and alpha = Sigma^-1 r, its mean is M A'alpha and its covariance
M - M A'Sigma^-1 A M (:mod:`pm_gaussgrad.posterior.recover.conditional`). A flat prior has no
M. What is made of nothing else is seen itself, A = I and M = Sigma_k.
"""

from dataclasses import dataclass, replace
from functools import partial, singledispatch

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from pm_gaussgrad.cov.protocol.base import Covariance
from pm_gaussgrad.cov.protocol.products import rows_times, unit_rows
from pm_gaussgrad.cov.protocol.terms import multiple


@dataclass(frozen=True)
class SparseLoadings:
    """A constant matrix (n, p) by its entries.

    Attributes
    ----------
    shape : tuple of int
    positions : array of int, shape (2, a)
    values : array, shape (a)
    """

    shape: tuple[int, int]
    positions: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, matrix):
        """From a sparse matrix of SciPy."""
        entries = matrix.tocoo()
        return cls(entries.shape, np.stack([entries.row, entries.col]).astype(int), entries.data)

    def times(self, latent):
        """A u of each row u, (..., p) -> (..., n)."""
        return self._summed(latent, *self.positions[::-1], self.shape[0])

    def transposed_times(self, rows):
        """A'r of each row r, (..., n) -> (..., p)."""
        return self._summed(rows, *self.positions, self.shape[1])

    def _summed(self, rows, source, target, size):
        terms = rows[..., source] * self.values.astype(rows.dtype)
        nothing = pt.zeros((*tuple(terms.shape)[:-1], size), dtype=terms.dtype)
        return nothing[..., target].inc(terms)


@dataclass(frozen=True)
class Latent:
    """u ~ N(0, M), seen as A u.

    Attributes
    ----------
    prior : Covariance, or None
        M, of known size p; None where the prior is flat.
    matrix : TensorVariable (..., n, p), SparseLoadings, or None
        A; None where it is the identity.
    shape : tuple of int
        In which the p numbers are arranged.
    labels : tuple of array, or None
        Along each of these dimensions; None where they are only numbered.
    scale : TensorVariable (..., n), or None
        What the observations of A u are multiplied by.
    """

    prior: Covariance | None
    matrix: TensorVariable | SparseLoadings | None
    shape: tuple[int, ...]
    labels: tuple = (None,)
    scale: TensorVariable | None = None

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return int(np.prod(self.shape, dtype=int))

    def seen(self, latent):
        """A u of each row u, (..., p) -> (..., n)."""
        if isinstance(self.matrix, SparseLoadings):
            seen = self.matrix.times(latent)
        else:
            seen = latent if self.matrix is None else rows_times(latent, self.matrix.mT)
        return seen if self.scale is None else self.scale * seen

    def scores(self, rows):
        """A'r of each row r, (..., n) -> (..., p)."""
        rows = rows if self.scale is None else self.scale * rows
        if self.matrix is None:
            return rows
        if isinstance(self.matrix, SparseLoadings):
            return self.matrix.transposed_times(rows)
        return rows_times(rows, self.matrix)

    def mean(self, alpha):
        """M A'alpha, (..., n) -> (..., p)."""
        return self.prior.times(self.scores(alpha))

    @property
    def design(self):
        """A as a tensor, (..., n, p), of coefficients."""
        return self.matrix if self.scale is None else self.scale[..., None] * self.matrix

    def columns(self):
        """A M as rows, one for each of the p numbers: (p, ..., n)."""
        prior, positions = self.prior, pt.arange(self.size)
        if not prior.batch_ndim:
            return self.seen(prior.rows(positions))
        rows = unit_rows(positions, self.size, prior.dtype)
        return self.seen(prior.times(pt.expand_dims(rows, tuple(range(1, 1 + prior.batch_ndim)))))


@singledispatch
def _latent(cov) -> Latent | None:
    """What a structure is made of, None where it is not known; families register theirs."""
    return None


def latent_of(cov) -> Latent:
    """What a summand of known size is made of, also a multiple of one."""
    return known_latent(cov) or Latent(cov, None, (cov.size,))


def known_latent(cov) -> Latent | None:
    """The same, None of what is made of nothing else."""
    around = getattr(cov.inside, "around", None)
    inner = known_latent(cov.inside.cov) if isinstance(around, partial) else None
    if inner is not None and around.func is multiple:
        prior = inner.prior
        return replace(inner, prior=prior and prior.scaled(around.keywords["factor"]))
    if inner is not None and "scale" in around.keywords:
        scale = around.keywords["scale"]
        return replace(inner, scale=scale if inner.scale is None else scale * inner.scale)
    return _latent(cov)


def is_flat(cov) -> bool:
    """Whether a summand is of coefficients with a flat prior."""
    latent = known_latent(cov)
    return latent is not None and latent.prior is None


def check_proper(owner, name, cov, remedy) -> None:
    """Raise a ValueError where a resolved structure has a density and no covariance."""
    if hasattr(cov, "proper"):
        raise ValueError(
            f"{owner}: `{name}` is {cov.label}, whose flat prior makes a density and no matrix, "
            f"expected a covariance; {remedy}."
        )


register_latent = _latent.register
