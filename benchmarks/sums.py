"""Sums that find their algorithm: factors beside a series, and a covariance of visits in words."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt

import pm_gaussgrad as gg
from benchmarks.case import At, Case, of_models

SEED = 20260105
VISITS = 6


def factors_and_series(n, rows):
    """Ten regressors whose coefficients are integrated out, with AR(1) errors."""
    rng = np.random.default_rng(SEED)
    design = rng.standard_normal((n, 10))
    y = design @ rng.standard_normal(10) + rng.standard_normal(n)

    def model(likelihood):
        with pm.Model() as model:
            tau, sigma = pm.HalfNormal("tau"), pm.HalfNormal("sigma")
            likelihood(tau * design, sigma**2, pm.Uniform("rho"))
        return model

    def ours(factor, variance, rho):
        cov = gg.cov.LowRank(factor) + gg.cov.AR1(variance, rho, size=n)
        gg.MvNormal("y", 0, cov, observed=y)

    def peer(factor, variance, rho):
        lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        cov = pt.dot(factor, factor.T) + variance * rho**lags
        pm.MvNormal("y", np.zeros(n), cov=cov, observed=y)

    return of_models(model, ours, peer)


def visits_in_words(n, rows):
    """Subjects at six visits: intercept, AR(1), noise and a scale for each visit."""
    rng = np.random.default_rng(SEED)
    present = rng.uniform(size=(rows, n)) > 0.12
    subject, visit = np.nonzero(present)
    y = rng.standard_normal(subject.size)

    def model(likelihood):
        with pm.Model() as model:
            tau, noise = pm.HalfNormal("tau"), pm.HalfNormal("noise")
            scale = pm.HalfNormal("scale", shape=n)
            within = likelihood(tau**2, pm.Uniform("rho"), noise**2, scale)
            gg.MvNormal("y", 0, gg.cov.RepeatedMeasures(within, subject, visit), observed=y)
        return model

    def ours(intercept, rho, noise, scale):
        cov = gg.cov.LowRank(pt.sqrt(intercept) * np.ones((n, 1))) + gg.cov.AR1(1.0, rho, size=n)
        return gg.cov.Scaled(cov + gg.cov.Diagonal(noise), scale)

    def peer(intercept, rho, noise, scale):
        lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        return scale[:, None] * (intercept + rho**lags + noise * np.eye(n)) * scale

    return of_models(model, ours, peer)


CASES = (
    Case(
        name="factors and series",
        title="10 factors beside an AR(1)",
        peer="pm.MvNormal(cov=)",
        build=factors_and_series,
        exponent=1,
        sizes=(At(200), At(2_000, bar=100.0), At(20_000, peer=False), At(100_000, peer=False)),
    ),
    Case(
        name="visits in words",
        title="300 subjects at 6 visits: intercept + AR(1) + noise, a scale a visit",
        peer="the same with `within` written out",
        build=visits_in_words,
        sizes=(At(VISITS, 300, bar=1 / 1.5),),
    ),
)
