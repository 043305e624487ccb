"""Gaussian likelihoods with analytic gradients for PyMC."""

from pm_gaussgrad import cov, gradient, rewrites
from pm_gaussgrad.condition import condition
from pm_gaussgrad.density import logp
from pm_gaussgrad.distribution import MvNormal
from pm_gaussgrad.posterior.impute import impute
from pm_gaussgrad.posterior.predict import predict
from pm_gaussgrad.student import MvStudentT, student_t_logp

__version__ = "0.1.0"

__all__ = [
    "MvNormal",
    "MvStudentT",
    "condition",
    "cov",
    "gradient",
    "impute",
    "logp",
    "predict",
    "rewrites",
    "student_t_logp",
]
