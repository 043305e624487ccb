"""Gaussian likelihoods with analytic gradients for PyMC."""

from pm_gaussgrad import cov, gradient
from pm_gaussgrad.adopt.accelerate.accelerate import accelerate
from pm_gaussgrad.adopt.accelerate.accelerated import accelerated
from pm_gaussgrad.adopt.accelerate.report import acceleration_report
from pm_gaussgrad.adopt.marginalize.marginalize import marginalize
from pm_gaussgrad.adopt.marginalize.report import marginalization_report
from pm_gaussgrad.distributions.normal import MvNormal
from pm_gaussgrad.distributions.student import MvStudentT, student_t_logp
from pm_gaussgrad.information.fisher import fisher_information
from pm_gaussgrad.information.laplace import laplace, mass_matrix
from pm_gaussgrad.likelihood import rewrites
from pm_gaussgrad.likelihood.condition import condition
from pm_gaussgrad.likelihood.density import logp
from pm_gaussgrad.posterior.covariance_plot import plot_covariance
from pm_gaussgrad.posterior.leave_out.elpd import loo, loo_log_lik_fn, refit_wrapper
from pm_gaussgrad.posterior.leave_out.loo import (
    lfo_log_likelihood,
    loo_log_likelihood,
    loo_predictive,
)
from pm_gaussgrad.posterior.predict.impute import impute
from pm_gaussgrad.posterior.predict.predict import predict
from pm_gaussgrad.posterior.recover.recover import recover
from pm_gaussgrad.posterior.residuals.plots import plot_residual_acf, plot_residual_qq
from pm_gaussgrad.posterior.residuals.residuals import whitened_residuals

__version__ = "0.1.0"

__all__ = [
    "MvNormal",
    "MvStudentT",
    "accelerate",
    "accelerated",
    "acceleration_report",
    "condition",
    "cov",
    "fisher_information",
    "gradient",
    "impute",
    "laplace",
    "lfo_log_likelihood",
    "logp",
    "loo",
    "loo_log_lik_fn",
    "loo_log_likelihood",
    "loo_predictive",
    "marginalization_report",
    "marginalize",
    "mass_matrix",
    "plot_covariance",
    "plot_residual_acf",
    "plot_residual_qq",
    "predict",
    "recover",
    "refit_wrapper",
    "rewrites",
    "student_t_logp",
    "whitened_residuals",
]
