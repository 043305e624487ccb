r"""``FlatMeans``: sparse latents with noise, some of whose means have a flat prior.

Definition: y = A x + U b + e, b flat (c), U constant, Sigma the covariance of A x + e: coefficients
with a flat prior (:mod:`pm_gaussgrad.cov.matrices.flat_coefficients`), the exponent of 2 pi is
n - c. There is a density and no covariance.

Source: Harville (1974), Bayesian inference for variance components using only error contrasts.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.raise_op import CheckAndRaise

from pm_gaussgrad.cov.matrices.flat_coefficients import FlatCoefficients, FlatLinear

# The smallest singular value of U, relative to the largest, that says something.
_SINGULAR = 1e-10


def no_covariance(owner: str) -> NotImplementedError:
    """The error where a member of a covariance is asked for."""
    return NotImplementedError(
        f"{owner}: means with a flat prior have a density and no covariance, expected areas that "
        "sum to zero for draws and variances: gg.cov.ICAR(..., flat=False), with a mean."
    )


def no_draws(owner: str, z):
    """In place of draws (..., n): an error when they are taken, and not when a model is made."""
    error = no_covariance(owner)
    return CheckAndRaise(NotImplementedError, str(error))(z * np.nan, pt.constant(False))


class FlatMeans(FlatCoefficients):
    """A covariance, and directions in which nothing is known.

    Parameters
    ----------
    base : Covariance
    directions : array, shape (n, c)

    Raises
    ------
    ValueError
        If no observation says anything about a direction, or a combination of them.
    """

    label = "gg.cov.ICAR(..., flat=True), + gg.cov.Diagonal"
    how = "the sparse latents without flat means, and a solve for each of these"

    def __init__(self, base, directions):
        values = np.linalg.svd(directions, compute_uv=False)
        missing = directions.shape[1] - np.sum(values > _SINGULAR * values.max(initial=0))
        if missing:
            raise ValueError(
                f"{self.label}: the observations do not identify {missing} of "
                f"{directions.shape[1]} flat means, expected at least one observation that sees "
                "each component of the map; leave out the areas of those that none sees, or pass "
                "flat=False."
            )
        super().__init__(base, FlatLinear.of(pt.constant(directions.astype(base.dtype))))

    @classmethod
    def label_of(cls, structures):
        return cls.label

    @property
    def summands(self):
        """What it is the sum of; they remember which means are flat."""
        return self.parts[0].summands

    def keep(self, observed):
        base, flat = self.parts
        kept = base.keep(observed)
        return None if kept is None else FlatMeans(kept, flat.design.data[observed])

    def no_covariance(self):
        return no_covariance(self.label)
