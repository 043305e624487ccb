"""Covariance structures, one a file."""

from pm_gaussgrad.cov.areal.bym2 import BYM2
from pm_gaussgrad.cov.areal.car import CAR
from pm_gaussgrad.cov.areal.icar import ICAR
from pm_gaussgrad.cov.areal.leroux import Leroux
from pm_gaussgrad.cov.areal.sar import SAR
from pm_gaussgrad.cov.graphs import sparse_latents  # noqa: F401 - latents and noise
from pm_gaussgrad.cov.graphs.effects import Effects
from pm_gaussgrad.cov.graphs.projected import Projected
from pm_gaussgrad.cov.graphs.sparse_precision import SparsePrecision
from pm_gaussgrad.cov.grids import kronecker_pair  # noqa: F401 - the sum of two products
from pm_gaussgrad.cov.grids.kronecker import Kronecker
from pm_gaussgrad.cov.grids.toeplitz import Toeplitz
from pm_gaussgrad.cov.groups.block_diagonal import BlockDiagonal
from pm_gaussgrad.cov.groups.compound_symmetry import CompoundSymmetry
from pm_gaussgrad.cov.groups.repeated_measures import RepeatedMeasures
from pm_gaussgrad.cov.matrices import woodbury  # noqa: F401 - sums with LowRank
from pm_gaussgrad.cov.matrices.cholesky import Cholesky
from pm_gaussgrad.cov.matrices.dense import Dense
from pm_gaussgrad.cov.matrices.diagonal import Diagonal
from pm_gaussgrad.cov.matrices.eigenbasis import Eigenbasis
from pm_gaussgrad.cov.matrices.low_rank import LowRank
from pm_gaussgrad.cov.matrices.precision import Precision
from pm_gaussgrad.cov.matrices.scaled import Scaled
from pm_gaussgrad.cov.protocol import sum  # noqa: F401 - what `+` makes
from pm_gaussgrad.cov.protocol.base import Covariance
from pm_gaussgrad.cov.protocol.marginal import marginal
from pm_gaussgrad.cov.series import (
    noisy_ar1,  # noqa: F401 - the sum of AR1 and noise
    random_intercept,  # noqa: F401 - levels of groups beside processes
)
from pm_gaussgrad.cov.series.ar1 import AR1
from pm_gaussgrad.cov.series.damped_cosine import DampedCosine
from pm_gaussgrad.cov.series.matern12 import Matern12
from pm_gaussgrad.cov.series.matern32 import Matern32
from pm_gaussgrad.cov.series.matern52 import Matern52
from pm_gaussgrad.cov.series.rotation import Rotation
from pm_gaussgrad.cov.series.sho import SHO
from pm_gaussgrad.cov.series.wiener import Wiener

__all__ = [
    "AR1",
    "BYM2",
    "CAR",
    "ICAR",
    "SAR",
    "SHO",
    "BlockDiagonal",
    "Cholesky",
    "CompoundSymmetry",
    "Covariance",
    "DampedCosine",
    "Dense",
    "Diagonal",
    "Effects",
    "Eigenbasis",
    "Kronecker",
    "Leroux",
    "LowRank",
    "Matern12",
    "Matern32",
    "Matern52",
    "Precision",
    "Projected",
    "RepeatedMeasures",
    "Rotation",
    "Scaled",
    "SparsePrecision",
    "Toeplitz",
    "Wiener",
    "marginal",
]
