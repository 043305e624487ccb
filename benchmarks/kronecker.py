"""Kronecker products with noise: Gaussian processes on complete grids, noise by task."""

from math import isqrt

import numpy as np
import pymc as pm
import pytensor.tensor as pt

import pm_gaussgrad as gg
from benchmarks.case import At, Case, of_models

SEED = 20260101


def grid(n, rows):
    """Exponential kernels on the two axes of a square grid, and noise; three scales, a mean."""

    def peer(mean, factors, sigma, y):
        pm.KroneckerNormal("y", mean, covs=factors, sigma=sigma, observed=y)

    return of_models(_model(n), _with_noise, peer)


def noise_by_task(n, rows):
    """The same with a variance of noise for each row of the grid, all equal, and with one."""

    def ours(mean, factors, sigma, y):
        side = isqrt(n)
        variances = gg.cov.Diagonal(sigma**2 * np.ones(side))
        noise = gg.cov.Kronecker(variances, gg.cov.Diagonal(1.0, size=side))
        gg.MvNormal("y", mean, gg.cov.Kronecker(*factors) + noise, observed=y)

    return of_models(_model(n), ours, _with_noise)


def _with_noise(mean, factors, sigma, y):
    cov = gg.cov.Kronecker(*factors) + gg.cov.Diagonal(sigma**2)
    gg.MvNormal("y", mean, cov, observed=y)


def _model(n):
    side = isqrt(n)
    x = np.linspace(0, 10, side)
    distance = np.abs(x[:, None] - x)
    y = np.random.default_rng(SEED).standard_normal(n)

    def model(likelihood):
        with pm.Model() as model:
            mean = pm.Normal("mean")
            lengthscale = pm.HalfNormal("lengthscale", shape=2)
            eta, sigma = pm.HalfNormal("eta"), pm.HalfNormal("sigma")
            first, second = (pt.exp(-distance / lengthscale[i]) for i in range(2))
            likelihood(mean * np.ones(n), [eta**2 * first, second], sigma, y)
        return model

    return model


CASES = (
    Case(
        name="kronecker",
        title="Gaussian process on a square grid, with noise",
        peer="pm.KroneckerNormal",
        build=grid,
        exponent=1.5,
        sizes=(
            At(2_500),
            At(10_000, bar=1.0),
            At(90_000, bar=1.0),
            At(250_000, peer=False),
            At(1_000_000, peer=False),
        ),
    ),
    Case(
        name="tasks",
        title="Gaussian process on a square grid, with noise by task",
        peer="gg.cov.Kronecker + gg.cov.Diagonal",
        build=noise_by_task,
        exponent=1.5,
        sizes=(At(2_500, bar=1 / 1.5), At(10_000, bar=1 / 1.5), At(90_000)),
    ),
)
