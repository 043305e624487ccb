"""``pm.KroneckerNormal``: a product of matrices with noise of one variance."""

from pytensor.graph.basic import Constant

from pm_gaussgrad.adopt.accelerate.matrices import structure_of
from pm_gaussgrad.cov import Diagonal, Kronecker


def as_grid(sigma, factors):
    """The covariance of a ``pm.KroneckerNormal``."""
    cov = Kronecker(*(structure_of(x) for x in factors))
    silent = isinstance(sigma, Constant) and not sigma.data.any()
    return cov if silent else cov + Diagonal(sigma.reshape(()) ** 2)
