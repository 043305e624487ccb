"""Compound symmetry and known eigenvectors."""

import numpy as np
import pymc as pm

import pm_gaussgrad as gg
from benchmarks.case import At, Case, of_models

SEED = 20260101
_LARGEST_BASIS = 5_000


def _reflected(n):
    """Eigenvectors, eigenvalues and their matrix without the n^3 of a decomposition."""
    rng = np.random.default_rng(SEED)
    u, values = rng.standard_normal(n), rng.exponential(size=n)
    u /= np.sqrt(u @ u)
    # H = I - 2 u u' is orthonormal; H diag(values) H by outer products
    vectors = np.eye(n) - 2 * np.outer(u, u)
    crossed = np.outer(u, values * u)
    matrix = np.diag(values) - 2 * (crossed + crossed.T) + 4 * (values @ u**2) * np.outer(u, u)
    return vectors, values, matrix


def eigenbasis(n, rows):
    """A known relationship matrix and noise, two coefficients."""
    vectors, values, relationship = _reflected(n)
    basis = gg.cov.Eigenbasis(vectors, values)
    y, design, model = _variance_components(n)

    def ours(beta, a, s):
        gg.MvNormal("y", design @ beta, a * basis + gg.cov.Diagonal(s), observed=y)

    def peer(beta, a, s):
        pm.MvNormal("y", design @ beta, cov=a * relationship + s * np.eye(n), observed=y)

    return of_models(model, ours, peer)


def rotated_eigenbasis(n, rows):
    """The same with data and design rotated beforehand."""
    y, design, model = _variance_components(n)
    if n > _LARGEST_BASIS:
        # Any numbers do for the timing: the basis is not part of the model.
        values, y_rotated, design_rotated = np.linspace(0, 4, n), y, design
    else:
        vectors, values, relationship = _reflected(n)
        basis = gg.cov.Eigenbasis(vectors, values)
        y_rotated, design_rotated = basis.rotate(y), basis.rotate(design, axis=0)

    def ours(beta, a, s):
        cov = gg.cov.Diagonal(a * values + s)
        gg.MvNormal("y", design_rotated @ beta, cov, observed=y_rotated)

    def peer(beta, a, s):
        pm.MvNormal("y", design @ beta, cov=a * relationship + s * np.eye(n), observed=y)

    return of_models(model, ours, peer)


def _variance_components(n):
    """Data, design, and a model of coefficients and two variances for any likelihood."""
    rng = np.random.default_rng(SEED)
    y, design = rng.standard_normal(n), rng.standard_normal((n, 2))

    def model(likelihood):
        with pm.Model() as model:
            beta = pm.Normal("beta", shape=2)
            likelihood(beta, pm.HalfNormal("a"), pm.HalfNormal("s"))
        return model

    return y, design, model


def compound_symmetry(n, rows):
    """Subjects of equal size with a random intercept and a common mean."""
    rng = np.random.default_rng(SEED)
    y = rng.standard_normal((rows, n)) + rng.standard_normal((rows, 1))
    x = rng.standard_normal((rows, n))

    def model(likelihood):
        with pm.Model() as model:
            mean = pm.Normal("mean") + pm.Normal("slope") * x
            likelihood(mean, pm.HalfNormal("v"), pm.Uniform("rho"))
        return model

    def ours(mean, v, rho):
        gg.MvNormal("y", mean, gg.cov.CompoundSymmetry(v, rho), observed=y)

    def peer(mean, v, rho):
        cov = v * ((1 - rho) * np.eye(n) + rho * np.ones((n, n)))
        pm.MvNormal("y", mean, cov=cov, observed=y)

    return of_models(model, ours, peer)


CASES = (
    Case(
        name="eigenbasis",
        title="variance components, known relationship matrix",
        peer="pm.MvNormal(cov=)",
        build=eigenbasis,
        exponent=2,
        sizes=(
            At(100),
            At(500),
            At(2_000, bar=100.0),
            At(3_000, peer=False),
            At(5_000, peer=False),
            At(8_000, peer=False),
        ),
    ),
    Case(
        name="rotated eigenbasis",
        title="variance components, data and design rotated beforehand",
        peer="pm.MvNormal(cov=)",
        build=rotated_eigenbasis,
        exponent=1,
        sizes=(
            At(100),
            At(1_000, bar=1_000.0),
            At(10_000, peer=False),
            At(30_000, peer=False),
            At(100_000, peer=False),
        ),
    ),
    Case(
        name="compound symmetry",
        title="random intercept, subjects as rows",
        peer="pm.MvNormal(cov=)",
        build=compound_symmetry,
        exponent=1,
        sizes=(
            At(4, 1_000, bar=1.0),
            At(100, 10),
            At(1_000, 1, bar=100.0),
            At(10_000, 1, peer=False),
            At(100_000, 1, peer=False),
            At(1_000_000, 1, peer=False),
        ),
    ),
)
