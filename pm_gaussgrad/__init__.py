"""Gaussian likelihoods with analytic gradients for PyMC."""

from pm_gaussgrad import cov, gradient, rewrites
from pm_gaussgrad.density import logp
from pm_gaussgrad.distribution import MvNormal
from pm_gaussgrad.posterior.loo import lfo_log_likelihood, loo_log_likelihood, loo_predictive
from pm_gaussgrad.student import MvStudentT, student_t_logp

__version__ = "0.1.0"

__all__ = [
    "MvNormal",
    "MvStudentT",
    "cov",
    "gradient",
    "lfo_log_likelihood",
    "logp",
    "loo_log_likelihood",
    "loo_predictive",
    "rewrites",
    "student_t_logp",
]
