"""``MissingTimes``: entries of processes in time given those at other times."""

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.kriging import with_entries
from pm_gaussgrad.ops import transform_rows


class MissingTimes:
    """Entries at some times given the others: smoothing, at the cost of the structure.

    Takes the place of :class:`~pm_gaussgrad.cov.protocol.gaps.MissingEntries`.

    Parameters
    ----------
    cov : StateSpace
        Of all entries, at constant times.
    missing : array of int, shape (k)
    """

    def __init__(self, cov, missing):
        self.cov, self.missing = cov, missing
        self.observed = np.setdiff1d(np.arange(cov.size), missing)

    def fill(self, residual):
        """Conditional means in place of the missing entries: (..., n) -> (..., n)."""
        given = residual[..., self.observed]
        alpha = self.cov.keep(self.observed).solve(given)
        nothing = pt.zeros_like(residual) + pt.zeros_like(alpha.sum(-1, keepdims=True))
        means = self.cov.times(with_entries(nothing, self.observed, alpha))
        return with_entries(residual, self.missing, means[..., self.missing])

    def draw(self, residual, z):
        """A conditional draw in place of the missing entries: (..., n) -> (..., n)."""
        whole = self.cov.draw(z)
        drawn = whole + self.fill(residual - whole)
        return with_entries(residual, self.missing, drawn[..., self.missing])

    def variances(self):
        """Conditional variances of the missing entries, zero elsewhere: shape (..., n)."""
        noise = self.cov.parameters[3] + pt.zeros_like(self.cov.diagonal())
        unseen = with_entries(noise, self.missing, pt.constant(np.full(len(self.missing), np.inf)))
        smoothed = self.cov.with_noise(unseen)
        variances = transform_rows(smoothed, "smoothed_variances", pt.zeros_like(noise)) + noise
        return with_entries(pt.zeros_like(noise), self.missing, variances[..., self.missing])
