"""Leave-one-out densities against arithmetic with 120 digits.

The error bounds are those of tests/test_reference_highprec.py: c cond(Sigma) eps, of the
covariance scaled to unit diagonal, and its square root where the factor is given.
"""

import functools

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from reference_cases import assert_normwise, read_json, read_npz, require
from registry import interpreted

import pm_gaussgrad as gg

require("highprec")

EPS = np.finfo(float).eps
INDEX = [
    case["name"]
    for case in read_json("highprec", "index.json")["cases"]
    if not case["name"].startswith("param_")
]
MATRIX, COLUMN, ENTRIES = pt.dmatrix("matrix"), pt.dvector("column"), pt.dvector("entries")
RESIDUAL = pt.dvector("residual")
STRUCTURES = {
    "Dense": lambda: gg.cov.Dense(MATRIX),
    "Cholesky": lambda: gg.cov.Cholesky(MATRIX),
    "Precision": lambda: gg.cov.Precision(MATRIX),
    "Toeplitz": lambda: gg.cov.Toeplitz(COLUMN),
    "CompoundSymmetry": lambda: gg.cov.CompoundSymmetry(ENTRIES[0], ENTRIES[1] / ENTRIES[0]),
    "LowRank": lambda: gg.cov.LowRank(MATRIX) + gg.cov.Diagonal(0.01),
}


@functools.cache
def conditionals(kind):
    """Deviation from the conditional mean, conditional variance and log density."""
    cov = STRUCTURES[kind]()
    if cov.size is None:
        cov = type(cov).from_parameters(*cov.parameters, size=RESIDUAL.shape[0])
    standardised, log_scale = cov.leave_one_out(RESIDUAL)
    logp = -(standardised**2) / 2 - log_scale - np.log(2 * np.pi) / 2
    outputs = [standardised * pt.exp(log_scale), pt.exp(2 * log_scale), logp]
    return interpreted([RESIDUAL, MATRIX, COLUMN, ENTRIES], outputs, on_unused_input="ignore")


def expressible():
    """Each structure with each stored matrix that it can hold."""
    for name in INDEX:
        sigma = read_npz("highprec", f"{name}.npz")["Sigma"]
        yield from ((name, kind) for kind in ("Dense", "Cholesky", "Precision"))
        if all(np.ptp(np.diag(sigma, k)) == 0 for k in range(len(sigma))):
            yield name, "Toeplitz"
        if name.startswith("cs_"):
            yield name, "CompoundSymmetry"
        if name.startswith("lowrank") and "1e-2" in name:
            yield name, "LowRank"


def matrix_of(kind, stored):
    if kind == "LowRank":  # the factors of the stored sum, to rounding
        values, vectors = np.linalg.eigh(stored["Sigma"] - 0.01 * np.eye(len(stored["y"])))
        return (vectors * np.sqrt(np.maximum(values, 0)))[:, -5:]
    return stored[{"Cholesky": "chol", "Precision": "precision"}.get(kind, "Sigma")]


@pytest.mark.parametrize(("name", "kind"), expressible())
def test_digits(name, kind):
    stored = read_npz("highprec", f"{name}.npz")
    sigma, scale = stored["Sigma"], np.sqrt(np.diag(stored["Sigma"]))
    cond = np.linalg.cond(sigma / scale[:, None] / scale)
    # Observed: at most 2 cond eps; and the rounding error of a logarithm of 1e-200 or 1e200.
    logarithms = np.abs(np.log(stored["loo_var"])).max()
    bound = (10 * (np.sqrt(cond) if kind == "Cholesky" else cond) + logarithms) * EPS
    residual = stored["y"] - stored["mu"]
    deviation, variance, logp = conditionals(kind)(
        residual, matrix_of(kind, stored), sigma[0], sigma[0, :2]
    )
    mean = (stored["y"] - deviation) / scale
    assert_normwise(mean, stored["loo_mean"] / scale, bound)
    assert_allclose(variance / stored["loo_var"], 1, rtol=0, atol=bound)
    assert_normwise(logp, stored["loo_logp"], bound)
