"""Gaussian likelihoods with analytic gradients for PyMC."""

from pm_gaussgrad import cov, rewrites
from pm_gaussgrad.density import logp
from pm_gaussgrad.distribution import MvNormal

__all__ = ["MvNormal", "cov", "logp", "rewrites"]
