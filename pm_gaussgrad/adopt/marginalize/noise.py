"""The covariance of a likelihood as it was, and variances beside it."""

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.multivariate import MvNormal as PyMCMvNormal
from pytensor.tensor.random.basic import NormalRV

from pm_gaussgrad.adopt.marginalize.linear.elementwise import as_scalar
from pm_gaussgrad.cov import Covariance, Dense, Diagonal
from pm_gaussgrad.cov.protocol.sized import of_size


def noise_of(rv, known, n) -> Covariance:
    """The covariance of a normal variable of length n, given its parameters."""
    op, node = rv.owner.op, rv.owner
    if isinstance(op, NormalRV):
        sigma = op.dist_params(node)[1].astype(rv.dtype)
        if np.prod(known.shape(sigma), dtype=int) == 1:
            return Diagonal(as_scalar(sigma) ** 2, size=n)
        return Diagonal(pt.specify_shape(sigma, (n,)) ** 2)
    if isinstance(op, PyMCMvNormal.rv_type):
        return of_size(Dense(op.dist_params(node)[1].astype(rv.dtype)), n)
    _, *parameters = op.dist_params(node)
    return of_size(op.structure.from_parameters(*parameters), n)


def independent(variance, n) -> Covariance:
    """Of single observations, variances that broadcast to n."""
    if variance.type.shape != (n,):
        variance = pt.specify_shape(pt.broadcast_to(variance, (n,)), (n,))
    return Diagonal(variance)
