"""Covariance structures, one a file."""

from pm_gaussgrad.cov.base import Covariance
from pm_gaussgrad.cov.cholesky import Cholesky
from pm_gaussgrad.cov.dense import Dense
from pm_gaussgrad.cov.diagonal import Diagonal
from pm_gaussgrad.cov.precision import Precision
from pm_gaussgrad.cov.toeplitz import Toeplitz

__all__ = [
    "Cholesky",
    "Covariance",
    "Dense",
    "Diagonal",
    "Precision",
    "Toeplitz",
]
