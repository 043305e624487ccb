"""How the levels of random effects are related: a constant precision between them."""

from dataclasses import dataclass, replace

import numpy as np

from pm_gaussgrad.cov.graphs.pattern import LowerTriangle


@dataclass(frozen=True, eq=False)
class LevelPrecision:
    """The precision R of the effects of one coefficient with the variance 1.

    Attributes
    ----------
    pattern : LowerTriangle
        R in units of its determinant: R / c, c the geometric mean of the eigenvalues of R, so that
        it has no part in log determinants.
    unit : float
        The effects in these units, c^-1/2.
    """

    pattern: LowerTriangle
    unit: float

    @classmethod
    def of(cls, triangle, log_determinant):
        """Of R and log|R|."""
        mean = np.exp(log_determinant / max(triangle.size, 1))
        return cls(replace(triangle, values=triangle.values / mean), 1 / np.sqrt(mean))

    @classmethod
    def independent(cls, count):
        """Of levels that are not related."""
        return cls(LowerTriangle(np.arange(count + 1), np.arange(count), np.ones(count)), 1.0)

    @property
    def size(self) -> int:
        """Levels."""
        return self.pattern.size

    def of_coefficients(self, k):
        """R (x) I, of k coefficients for each level."""
        if k == 1:
            return self
        lower, own = self.pattern, np.arange(k)
        rows, columns = ((x[:, None] * k + own).ravel() for x in (lower.indices, lower.columns))
        order = np.lexsort((rows, columns))
        indptr = np.append(0, np.cumsum(np.repeat(np.diff(lower.indptr), k)))
        values = np.repeat(lower.values, k)[order]
        return LevelPrecision(LowerTriangle(indptr, rows[order], values), self.unit)
