"""Gaussian likelihoods with analytic gradients for PyMC."""

from pm_gaussgrad import cov

__all__ = ["cov"]
