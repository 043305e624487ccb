"""Sums as people write them, each beside its dense matrix in NumPy, all of the same few numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytensor.tensor as pt
from scipy.linalg import block_diag

import pm_gaussgrad as gg

SUBJECTS, VISITS = 3, 4
N = SUBJECTS * VISITS
SUBJECT, VISIT = np.repeat(np.arange(SUBJECTS), VISITS), np.tile(np.arange(VISITS), SUBJECTS)
POSITION = np.linspace(-1, 1, N)
DISTANCE = np.subtract.outer(POSITION, POSITION) ** 2
INTERCEPT = np.eye(SUBJECTS)[SUBJECT]
BASIS = np.stack([np.cos(2 * POSITION), np.sin(3 * POSITION)], axis=1)
KINSHIP = np.exp(-2 * DISTANCE) + 0.1 * np.diag(POSITION**2)
# Variance, correlation, standard deviation of effects, variance of noise, slope of log scales.
AT = np.array([1.3, 0.6, 0.8, 0.4, 0.3])
Y = np.random.default_rng(12).normal(size=N)


def lags(n):
    return np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


@dataclass(frozen=True)
class NaturalSum:
    """A sum as a structure of tensors and as a matrix of numbers, of the same five scalars."""

    build: Callable
    matrix: Callable


def _by_visit(s, g):
    return s * np.exp(g * np.arange(VISITS))


def _series(v, rho, n=N):
    return v * rho ** lags(n)


def _by_subject(within):
    return np.kron(np.eye(SUBJECTS), within)


def _tasks(v, rho):
    """Covariances of a grid of subjects and visits."""
    return np.eye(SUBJECTS) + v * np.ones((SUBJECTS, SUBJECTS)), _series(v, rho, VISITS)


def _factors(v, rho):
    return gg.cov.Dense(np.eye(SUBJECTS) + v * np.ones((SUBJECTS, SUBJECTS))), gg.cov.AR1(
        v, rho, size=VISITS
    )


def _ar1(v, rho, n=N):
    return gg.cov.AR1(v, rho, size=n)


def _blocks(v, rho):
    return gg.cov.BlockDiagonal(_ar1(v, rho, VISITS), gg.cov.Diagonal(v, size=N - VISITS))


def _kernel(v, rho):
    return v * np.exp(-rho * DISTANCE)


def _within(v, rho, t):
    return gg.cov.CompoundSymmetry(t**2, 1.0) + _ar1(v, rho, VISITS)


def _repeated(within):
    return gg.cov.RepeatedMeasures(within, SUBJECT, VISIT)


def _noise(s):
    return gg.cov.Diagonal(s, size=N)


SUMS = {
    "Dense + Diagonal": NaturalSum(
        lambda v, rho, t, s, g: gg.cov.Dense(v * pt.exp(-rho * DISTANCE)) + _noise(s),
        lambda v, rho, t, s, g: _kernel(v, rho) + s * np.eye(N),
    ),
    "within of AR1 + Diagonal": NaturalSum(
        lambda v, rho, t, s, g: _repeated(_ar1(v, rho, VISITS) + gg.cov.Diagonal(s)),
        lambda v, rho, t, s, g: _by_subject(_series(v, rho, VISITS) + s * np.eye(VISITS)),
    ),
    "intercept, AR1, noise by visit": NaturalSum(
        lambda v, rho, t, s, g: _repeated(
            _within(v, rho, t) + gg.cov.Diagonal(s * pt.exp(g * np.arange(VISITS)))
        ),
        lambda v, rho, t, s, g: _by_subject(
            t**2 + _series(v, rho, VISITS) + np.diag(_by_visit(s, g))
        ),
    ),
    "LowRank + AR1": NaturalSum(
        lambda v, rho, t, s, g: gg.cov.LowRank(t * BASIS) + _ar1(v, rho),
        lambda v, rho, t, s, g: t**2 * BASIS @ BASIS.T + _series(v, rho),
    ),
    "LowRank + Toeplitz": NaturalSum(
        lambda v, rho, t, s, g: (
            gg.cov.LowRank(t * BASIS) + gg.cov.Toeplitz(v * rho ** np.arange(N) + s * np.eye(N)[0])
        ),
        lambda v, rho, t, s, g: t**2 * BASIS @ BASIS.T + _series(v, rho) + s * np.eye(N),
    ),
    "LowRank + Kronecker + Diagonal": NaturalSum(
        lambda v, rho, t, s, g: (
            gg.cov.LowRank(t * BASIS) + gg.cov.Kronecker(*_factors(v, rho)) + _noise(s)
        ),
        lambda v, rho, t, s, g: t**2 * BASIS @ BASIS.T + np.kron(*_tasks(v, rho)) + s * np.eye(N),
    ),
    "Scaled AR1": NaturalSum(
        lambda v, rho, t, s, g: gg.cov.Scaled(_ar1(v, rho), pt.exp(g * POSITION)),
        lambda v, rho, t, s, g: (
            np.exp(g * POSITION)[:, None] * _series(v, rho) * np.exp(g * POSITION)
        ),
    ),
    "noise by task": NaturalSum(
        lambda v, rho, t, s, g: (
            gg.cov.Kronecker(*_factors(v, rho))
            + gg.cov.Kronecker(
                gg.cov.Diagonal(s * pt.exp(g * np.arange(SUBJECTS))),
                gg.cov.Diagonal(1.0, size=VISITS),
            )
        ),
        lambda v, rho, t, s, g: (
            np.kron(*_tasks(v, rho))
            + np.kron(np.diag(s * np.exp(g * np.arange(SUBJECTS))), np.eye(VISITS))
        ),
    ),
    "BlockDiagonal + Diagonal": NaturalSum(
        lambda v, rho, t, s, g: _blocks(v, rho) + gg.cov.Diagonal(s * pt.exp(g * POSITION)),
        lambda v, rho, t, s, g: (
            block_diag(_series(v, rho, VISITS), v * np.eye(N - VISITS))
            + np.diag(s * np.exp(g * POSITION))
        ),
    ),
    "kinship, intercept, noise": NaturalSum(
        lambda v, rho, t, s, g: (
            v * gg.cov.Eigenbasis.from_matrix(KINSHIP) + gg.cov.LowRank(t * INTERCEPT) + _noise(s)
        ),
        lambda v, rho, t, s, g: v * KINSHIP + t**2 * INTERCEPT @ INTERCEPT.T + s * np.eye(N),
    ),
    "three LowRanks + Toeplitz": NaturalSum(
        lambda v, rho, t, s, g: (
            gg.cov.LowRank(t * INTERCEPT)
            + gg.cov.Toeplitz(v * rho ** np.arange(N))
            + gg.cov.LowRank(s * BASIS)
            + gg.cov.LowRank(g * POSITION[:, None])
        ),
        lambda v, rho, t, s, g: (
            t**2 * INTERCEPT @ INTERCEPT.T
            + _series(v, rho)
            + s**2 * BASIS @ BASIS.T
            + g**2 * np.outer(POSITION, POSITION)
        ),
    ),
    "RepeatedMeasures + LowRank": NaturalSum(
        lambda v, rho, t, s, g: (
            _repeated(_ar1(v, rho, VISITS)) + _noise(s) + gg.cov.LowRank(t * BASIS)
        ),
        lambda v, rho, t, s, g: (
            _by_subject(_series(v, rho, VISITS)) + s * np.eye(N) + t**2 * BASIS @ BASIS.T
        ),
    ),
}


@cache
def expected(name):
    """Log density of Y and its slopes, by the derivative of the matrix in a complex step."""
    matrix = SUMS[name].matrix
    sigma = matrix(*AT)
    inverse = np.linalg.inv(sigma)
    alpha = inverse @ Y
    logp = -0.5 * (Y @ alpha + np.linalg.slogdet(sigma)[1] + N * np.log(2 * np.pi))
    steps = [np.imag(matrix(*(AT + 1e-30j * step))) / 1e-30 for step in np.eye(len(AT))]
    return logp, [0.5 * (alpha @ step @ alpha - (inverse * step).sum()) for step in steps]


def densities(names):
    """The five scalars as a vector, the log density of each sum, and its gradient, (..., 5)."""
    parameters = pt.vector("parameters", shape=AT.shape)
    logps = [gg.logp(Y, 0.0, SUMS[name].build(*parameters)) for name in names]
    slopes = [pt.grad(logp, parameters) for logp in logps]
    return parameters, pt.stack(logps), pt.stack(slopes)
