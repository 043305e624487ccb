"""Cases of ``MvStudentT``."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt

import pm_gaussgrad as gg
from benchmarks.case import At, Case, of_models

SEED = 20260101


def student_process(n, rows):
    """Squared-exponential kernel and noise, a constant location and degrees of freedom."""
    y = np.random.default_rng(SEED).standard_normal(n)
    x = np.linspace(0, 10, n)
    squared_distance = (x[:, None] - x) ** 2

    def model(likelihood):
        with pm.Model() as model:
            mean, nu = pm.Normal("mean"), pm.Gamma("nu", 2, 0.1)
            eta, length, sigma = (pm.HalfNormal(name) for name in ("eta", "length", "sigma"))
            smooth = eta**2 * pt.exp(-0.5 * squared_distance / length**2)
            scale = smooth + sigma**2 * np.eye(n)
            likelihood("y", nu, mu=mean * np.ones(n), scale=scale, observed=y)
        return model

    return of_models(model, gg.MvStudentT, pm.MvStudentT)


def autoregressive_rows(n, rows):
    """Rows that are autoregressions, a common trend, some rows far out."""
    y = np.random.default_rng(SEED).standard_normal((rows, n))
    time = np.linspace(-1, 1, n)

    def model(likelihood):
        with pm.Model() as model:
            mean = pm.Normal("level") + pm.Normal("trend") * time
            # Where rho^n underflows, LAPACK crawls through subnormal numbers.
            v, rho = pm.HalfNormal("v"), pm.Uniform("rho", 0.9, 1)
            likelihood(pm.Gamma("nu", 2, 0.1), mean, v, rho)
        return model

    def ours(nu, mean, v, rho):
        gg.MvStudentT("y", nu, mean, gg.cov.AR1(v, rho), observed=y)

    def peer(nu, mean, v, rho):
        # Symbolic: not evaluated where the peer is not measured.
        index = pt.arange(n)
        lags = pt.abs(index[:, None] - index)
        pm.MvStudentT("y", nu, mu=mean, scale=v * rho**lags, observed=y)

    return of_models(model, ours, peer)


CASES = (
    Case(
        name="MvStudentT",
        title="Student-t process, squared-exponential kernel and noise",
        peer="pm.MvStudentT(scale=)",
        build=student_process,
        sizes=(At(10, bar=1.0), At(100), At(500, bar=2.3)),
    ),
    Case(
        name="MvStudentT AR1",
        title="rows of autoregressive noise that is Student-t",
        peer="pm.MvStudentT(scale=)",
        build=autoregressive_rows,
        sizes=(
            At(10, 20, bar=1.0),
            At(100, 20),
            At(1_000, 20, bar=100.0),
            At(10_000, 20, peer=False),
        ),
    ),
)
