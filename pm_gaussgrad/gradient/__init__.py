"""The gradient of a Gaussian log density by three routes, and the audit of a model's."""

from pm_gaussgrad.gradient.audit import audit
from pm_gaussgrad.gradient.routes import frobenius, jacobian, pullback

__all__ = ["audit", "frobenius", "jacobian", "pullback"]
