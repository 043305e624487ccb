"""Low rank plus diagonal against the dense matrix of the same model."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt

import pm_gaussgrad as gg
from benchmarks.case import At, Case, of_models

SEED = 20260102


def regression_without_coefficients(k):
    """k regressors whose coefficients, with scales of their own, are integrated out."""

    def build(n, rows):
        rng = np.random.default_rng(SEED)
        design = rng.standard_normal((n, k))
        y = design @ rng.standard_normal(k) + rng.standard_normal(n)

        def model(likelihood):
            with pm.Model() as model:
                mean = pm.Normal("mean")
                tau = pm.HalfNormal("tau", shape=k)
                sigma = pm.HalfNormal("sigma")
                likelihood(mean, tau * design, sigma**2, y)
            return model

        def ours(mean, factor, variance, y):
            gg.MvNormal("y", mean, gg.cov.LowRank(factor) + gg.cov.Diagonal(variance), observed=y)

        def peer(mean, factor, variance, y):
            cov = pt.dot(factor, factor.T) + variance * pt.eye(n)
            pm.MvNormal("y", mean * np.ones(n), cov=cov, observed=y)

        return of_models(model, ours, peer)

    return build


CASES = (
    Case(
        name="low rank",
        title="10 factors plus noise",
        peer="pm.MvNormal(cov=)",
        build=regression_without_coefficients(10),
        exponent=1,
        sizes=(
            At(20),
            At(200),
            At(2_000, bar=500.0),
            At(20_000, peer=False),
            At(200_000, peer=False),
        ),
    ),
    Case(
        name="low rank, large",
        title="20 factors plus noise",
        peer="pm.MvNormal(cov=)",
        build=regression_without_coefficients(20),
        exponent=1,
        sizes=(
            At(1_000, peer=False),
            At(10_000, peer=False),
            At(100_000, peer=False),
        ),
    ),
)
