"""Covariance structures, one a file."""

from pm_gaussgrad.cov.ar1 import AR1
from pm_gaussgrad.cov.base import Covariance
from pm_gaussgrad.cov.block_diagonal import BlockDiagonal
from pm_gaussgrad.cov.cholesky import Cholesky
from pm_gaussgrad.cov.compound_symmetry import CompoundSymmetry
from pm_gaussgrad.cov.dense import Dense
from pm_gaussgrad.cov.diagonal import Diagonal
from pm_gaussgrad.cov.eigenbasis import Eigenbasis
from pm_gaussgrad.cov.kronecker import Kronecker
from pm_gaussgrad.cov.low_rank import LowRank
from pm_gaussgrad.cov.marginal import marginal
from pm_gaussgrad.cov.precision import Precision
from pm_gaussgrad.cov.repeated_measures import RepeatedMeasures
from pm_gaussgrad.cov.toeplitz import Toeplitz

__all__ = [
    "AR1",
    "BlockDiagonal",
    "Cholesky",
    "CompoundSymmetry",
    "Covariance",
    "Dense",
    "Diagonal",
    "Eigenbasis",
    "Kronecker",
    "LowRank",
    "Precision",
    "RepeatedMeasures",
    "Toeplitz",
    "marginal",
]
