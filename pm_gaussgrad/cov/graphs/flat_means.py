r"""``FlatMeans``: sparse latents with noise, some of whose means have a flat prior.

Definition: y = A x + U b + e, b flat (c), Sigma the covariance of A x + e. Integrated over b, with
one solve for the columns of U,

    G = U'Sigma^-1 U,    b^ = G^-1 U'Sigma^-1 r,    e = r - U b^,

    quad = e'Sigma^-1 e,    logdet = log|Sigma| + log|G| - c log 2 pi,    alpha = Sigma^-1 e,

so that with n log 2 pi the exponent of 2 pi is n - c. There is a density and no covariance. It has
no kernels: derivatives are those of Sigma's products.

Source: Harville (1974), Bayesian inference for variance components using only error contrasts.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.raise_op import CheckAndRaise

from pm_gaussgrad.cov.matrices.low_rank import LowRank
from pm_gaussgrad.cov.protocol.base import as_parameter, check_size
from pm_gaussgrad.cov.protocol.composite import Composite
from pm_gaussgrad.cov.protocol.elliptical import LOG_2PI
from pm_gaussgrad.cov.protocol.products import matmul

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


class FlatMeans(Composite):
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
    same_observations = True
    submatrices_up_to = 0

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
        self.parts = (base, LowRank(directions))
        self.sizes = (base.size, len(directions))

    @property
    def summands(self):
        """What it is the sum of; they remember which means are flat."""
        return self.parts[0].summands

    @property
    def size(self):
        return self.parts[0].size

    def _taken_out(self, residual):
        """Residuals without the means (..., n), Sigma^-1 U as rows, and a root of G."""
        residual = as_parameter(self.label, "residual", residual, 1)
        check_size(self, "residual", residual)
        base, factor = self.parts[0], self.parts[1].parameters[0]
        columns = pt.expand_dims(factor.mT, tuple(range(1, 1 + base.batch_ndim)))
        solved = pt.moveaxis(base.solve(columns), 0, -2)
        inner = matmul(solved, factor)
        root = pt.linalg.cholesky((inner + inner.mT) / 2, lower=True)
        means = matmul(base.solve(residual), factor)[..., None, :]
        means = matmul(means, pt.linalg.inv((inner + inner.mT) / 2))[..., 0, :]
        return residual - matmul(means, factor.mT), solved, root

    def quad_logdet(self, residual):
        rest, _, root = self._taken_out(residual)
        quad, logdet = self.parts[0].quad_logdet(rest)
        of_means = 2 * pt.log(pt.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)
        return quad, logdet + of_means - root.shape[-1] * LOG_2PI

    def solve(self, b):
        return self.parts[0].solve(self._taken_out(b)[0])

    def logdet(self):
        return self.quad_logdet(pt.zeros((self.size,), dtype=self.dtype))[1]

    def inverse_diagonal(self):
        _, solved, root = self._taken_out(pt.zeros((self.size,), dtype=self.dtype))
        white = pt.linalg.solve_triangular(root, solved, lower=True, b_ndim=2)
        return self.parts[0].inverse_diagonal() - (white**2).sum(axis=-2)

    def keep(self, observed):
        base, factor = self.parts
        kept = base.keep(observed)
        return None if kept is None else FlatMeans(kept, factor.parameters[0].data[observed])

    def scaled(self, factor):
        return self.from_parts([self.parts[0].scaled(factor), self.parts[1]])

    def draw(self, z):
        return no_draws(self.label, pt.as_tensor_variable(z))

    def _improper(self, *_):
        raise no_covariance(self.label)

    to_dense = color = whiten = diagonal = times = rows = innovations = _improper
