"""Cases of ``AR1`` and ``BlockDiagonal``."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt

import pm_gaussgrad as gg
from benchmarks.case import At, Case, of_models

SEED = 20260101


def autoregression(n, rows):
    """A linear trend and stationary autoregressive noise."""
    y = np.random.default_rng(SEED).standard_normal(n)
    time = np.linspace(-1, 1, n)

    def model(likelihood):
        with pm.Model() as model:
            level, trend = pm.Normal("level"), pm.Normal("trend")
            # Where rho^n underflows, LAPACK crawls through subnormal numbers.
            likelihood(level + trend * time, pm.HalfNormal("v"), pm.Uniform("rho", 0.9, 1))
        return model

    def ours(mean, v, rho):
        gg.MvNormal("y", mean, gg.cov.AR1(v, rho), observed=y)

    def peer(mean, v, rho):
        # Symbolic: not evaluated where the peer is not measured.
        index = pt.arange(n)
        lags = pt.abs(index[:, None] - index)
        pm.MvNormal("y", mean, cov=v * rho**lags, observed=y)

    return of_models(model, ours, peer)


def blocks(n, rows):
    """Groups of ``n`` observations at times of their own, ``rows`` of them."""
    rng = np.random.default_rng(SEED)
    y = rng.standard_normal(n * rows)
    times = np.sort(rng.uniform(0, n, size=(rows, n)))
    lags = np.abs(times[:, :, None] - times[:, None, :])

    def model(likelihood):
        with pm.Model() as model:
            sigma, length = pm.HalfNormal("sigma"), pm.HalfNormal("length")
            matrices = [sigma**2 * pt.exp(-lag / length) for lag in lags]
            likelihood(pm.Normal("mean"), matrices)
        return model

    def ours(mean, matrices):
        gg.MvNormal("y", mean, gg.cov.BlockDiagonal(*matrices), observed=y)

    def peer(mean, matrices):
        dense = pt.linalg.block_diag(*matrices)
        pm.MvNormal("y", mean * np.ones(n * rows), cov=dense, observed=y)

    return of_models(model, ours, peer)


CASES = (
    Case(
        name="AR1",
        title="trend and autoregressive noise",
        peer="pm.MvNormal(cov=)",
        build=autoregression,
        exponent=1,
        sizes=(
            At(100, bar=1.0),
            At(1_000, peer=False),
            At(2_000, bar=1_000.0),
            At(10_000, peer=False),
            At(100_000, peer=False),
            At(1_000_000, peer=False),
        ),
    ),
    Case(
        name="BlockDiagonal",
        title="groups with times of their own (rows: groups)",
        peer="pm.MvNormal(cov=block_diag)",
        build=blocks,
        exponent=1,
        sizes=(
            At(50, 2),
            At(50, 6),
            At(50, 20, bar=10.0),
        ),
    ),
)
