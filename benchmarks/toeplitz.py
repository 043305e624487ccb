"""Toeplitz: a series at equal steps, with a covariance function of the lag and noise."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt

import pm_gaussgrad as gg
from benchmarks.case import At, Case, of_models

SEED = 20260101


def series(n, rows):
    """Matern 3/2 of the lag and noise, three kernel parameters and a constant mean."""
    y = np.random.default_rng(SEED).standard_normal(n)
    lag = np.arange(n) / 20

    def model(likelihood):
        with pm.Model() as model:
            mean = pm.Normal("mean")
            kernel = [pm.HalfNormal(name) for name in ("eta", "lengthscale", "sigma")]
            likelihood(mean * np.ones(n), *kernel)
        return model

    def matern(distance, eta, lengthscale):
        scaled = np.sqrt(3) * distance / lengthscale
        return eta**2 * (1 + scaled) * pt.exp(-scaled)

    def ours(mean, eta, lengthscale, sigma):
        cov = gg.cov.Toeplitz(matern(lag, eta, lengthscale)) + gg.cov.Diagonal(sigma**2)
        gg.MvNormal("y", mean, cov, observed=y)

    def peer(mean, eta, lengthscale, sigma):
        distance = np.abs(lag[:, None] - lag)
        cov = matern(distance, eta, lengthscale) + sigma**2 * np.eye(n)
        pm.MvNormal("y", mean, cov=cov, observed=y)

    return of_models(model, ours, peer)


CASES = (
    Case(
        name="toeplitz",
        title="series at equal steps, Matern 3/2 of the lag and noise",
        peer="pm.MvNormal(cov=)",
        build=series,
        exponent=2,
        sizes=(
            At(200),
            At(500),
            At(1_000),
            At(2_000, bar=150.0),
            At(5_000, peer=False),
            At(10_000, peer=False),
            At(20_000, peer=False),
        ),
    ),
)
