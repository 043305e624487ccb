"""Gaussian likelihoods with analytic gradients for PyMC."""

from pm_gaussgrad import cov, gradient, rewrites
from pm_gaussgrad.density import logp
from pm_gaussgrad.distribution import MvNormal
from pm_gaussgrad.fisher import fisher_information
from pm_gaussgrad.laplace import laplace, mass_matrix
from pm_gaussgrad.student import MvStudentT, student_t_logp

__version__ = "0.1.0"

__all__ = [
    "MvNormal",
    "MvStudentT",
    "cov",
    "fisher_information",
    "gradient",
    "laplace",
    "logp",
    "mass_matrix",
    "rewrites",
    "student_t_logp",
]
