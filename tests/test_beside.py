"""Processes in time beside autoregressions, random intercepts and functions of the lag."""

import re

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from registry import AS_WRITTEN, BACKENDS, interpreted
from test_state_space import GROUP, NOISE, TIMES, N, dense_logp

import pm_gaussgrad as gg
from pm_gaussgrad.cov.grids.toeplitz import Toeplitz
from pm_gaussgrad.cov.series.state_space import StateSpace

DAYS = np.arange(N, dtype=float)
EVEN = 0.1 * DAYS + 0.3
V, C, T = pt.dscalars("v", "c", "t")
V2, C2 = (pt.tensor(name, shape=(2,)) for name in ("v2", "c2"))
LABELS = np.where(GROUP == 0, "b", "a")


def matern(time, group=None):
    return gg.cov.Matern32(T, 2.0, time, group)


# Summands and the values of v and c, or v2 and c2.
SUMS = {
    "AR1": (lambda: (matern(TIMES), gg.cov.AR1(V, C, time=TIMES)), 0.4),
    "AR1 by group": (
        lambda: (gg.cov.AR1(V2, C2, time=TIMES, group=GROUP), matern(TIMES, GROUP)),
        0.4,
    ),
    "whole steps": (lambda: (matern(DAYS), gg.cov.AR1(V, C, time=DAYS)), -0.4),
    "of no correlation": (lambda: (matern(DAYS), gg.cov.AR1(V, C, time=DAYS)), 0.0),
    "without times": (lambda: (matern(DAYS), gg.cov.AR1(V, C)), -0.4),
    "two AR1": (lambda: (gg.cov.AR1(V, C, time=TIMES), gg.cov.AR1(T, 0.9, time=TIMES)), 0.2),
    "intercept": (lambda: (matern(TIMES), gg.cov.CompoundSymmetry(V, C)), 0.3),
    "intercepts": (
        lambda: (matern(TIMES, GROUP), gg.cov.CompoundSymmetry(V2, C2, group=LABELS == "a")),
        0.3,
    ),
    "without times, and an intercept": (
        lambda: (gg.cov.AR1(V, C), gg.cov.CompoundSymmetry.from_components(0.0, T)),
        -0.4,
    ),
    "negative": (
        lambda: (matern(TIMES), gg.cov.CompoundSymmetry.from_components(V, -0.02 * C)),
        1.0,
    ),
    "AR1 and intercepts": (
        lambda: (
            gg.cov.AR1(V, C, time=TIMES, group=LABELS),
            gg.cov.CompoundSymmetry.from_components(0.0, T, group=LABELS),
        ),
        0.4,
    ),
    "effects": (lambda: (gg.cov.Effects(LABELS, V), matern(TIMES, GROUP)), None),
    "AR1 and effects": (
        lambda: (gg.cov.AR1(T, C, time=TIMES, group=LABELS), gg.cov.Effects(LABELS, V)),
        0.4,
    ),
}
BY_LAG = {
    "Toeplitz": (lambda: (matern(EVEN), gg.cov.Toeplitz(V * C**DAYS)), 0.4),
    "AR1 of other steps": (lambda: (gg.cov.AR1(V, C), matern(EVEN)), -0.4),
}


def beside(summands, correlation, noise):
    """Value and gradients of the sum, and of the sum of matrices."""
    wrt = [
        x
        for x in (V, C, T, V2, C2)
        if x
        in set(pytensor.graph.traversal.ancestors([p for cov in summands for p in cov.parameters]))
    ]
    at = {V: 0.8, C: correlation, T: 1.3, V2: [0.8, 0.5], C2: [correlation, 0.2]}
    y = np.random.default_rng(3).normal(size=(1, N))
    cov, matrix = sum([*summands, gg.cov.Diagonal(noise)]), sum(summands).sized(N).to_dense()
    logp = gg.logp(y, 0.0, cov)
    dense = dense_logp(pt.constant(y), matrix + np.diag(noise + np.zeros(N)))
    outputs = [[x, *pt.grad(x.sum(), wrt)] for x in (logp, dense)]
    found = interpreted(wrt, [*outputs[0], *outputs[1]], AS_WRITTEN)(*(at[x] for x in wrt))
    return cov, found[: len(found) // 2], found[len(found) // 2 :]


@pytest.mark.parametrize("name", SUMS)
def test_one_filter(name):
    build, correlation = SUMS[name]
    cov, found, expected = beside(build(), correlation, NOISE)
    assert isinstance(cov.resolved, StateSpace)
    for a, b in zip(found, expected, strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", BY_LAG)
def test_functions_of_the_lag(name):
    build, correlation = BY_LAG[name]
    cov, found, expected = beside(build(), correlation, 0.2)
    assert isinstance(cov.resolved, Toeplitz)
    for a, b in zip(found, expected, strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_members():
    """Draws, rows with gaps, and Fisher information, of what has noise of its own already."""
    noisy = gg.cov.AR1(0.8, -0.4, size=N) + gg.cov.Diagonal(NOISE)
    cov = noisy + gg.cov.Matern32(1.3, 2.0, DAYS) + gg.cov.CompoundSymmetry(0.3, 1.0)
    y = np.random.default_rng(1).normal(size=(2, N))
    y[0, 2], y[1, [0, 5]] = np.nan, np.nan
    dense, drawn, logp = interpreted(
        [], [cov.to_dense(), cov.color(np.eye(N)), gg.logp(y, 0.0, cov)], AS_WRITTEN
    )()
    assert_allclose(drawn.T @ drawn, dense, rtol=1e-11, atol=1e-12)
    for row, value in zip(y, logp, strict=True):
        seen = np.flatnonzero(~np.isnan(row))
        inner, r = dense[np.ix_(seen, seen)], row[seen]
        quad = r @ np.linalg.solve(inner, r) + np.linalg.slogdet(inner)[1]
        assert_allclose(value, -(quad + seen.size * np.log(2 * np.pi)) / 2, rtol=1e-12)
    theta = [V, C, T]
    free = gg.cov.AR1(V, C, time=DAYS) + matern(DAYS) + gg.cov.Diagonal(0.2)
    informations = [
        gg.fisher_information(0.0, x, theta) for x in (free, gg.cov.Dense(free.to_dense()))
    ]
    for correlation in (-0.4, 0.0, 0.4):
        assert_allclose(
            *interpreted(theta, informations, AS_WRITTEN)(0.8, correlation, 1.3), rtol=1e-10
        )


def test_what_is_no_autoregression_has_no_density():
    """Also a negative correlation at times that are not whole."""
    for time, wrongs in (
        (DAYS, [(-0.1, 0.4), (np.nan, 0.4), (0.8, 1.0), (0.8, -1.5), (0.8, np.nan)]),
        (TIMES, [(0.8, -0.4)]),
    ):
        logp = gg.logp(
            np.ones(N), 0.0, gg.cov.Matern32(1.0, 2.0, time) + gg.cov.AR1(V, C, time=time)
        )
        function = interpreted([V, C], [logp, *pt.grad(logp, [V, C])], AS_WRITTEN)
        assert np.isfinite(function(0.8, 0.4)[0])
        for wrong in wrongs:
            value, *slopes = function(*wrong)
            assert value == -np.inf
            assert_array_equal(slopes, 0.0)


@pytest.mark.parametrize("correlation", [-0.4, 0.0, 0.4])
def test_jax(correlation):
    logp = gg.logp(np.ones(N), 0.0, gg.cov.Matern32(1.0, 2.0, DAYS) + gg.cov.AR1(V, C, time=DAYS))
    outputs = [logp, *pt.grad(logp, [V, C])]
    found = pytensor.function([V, C], outputs, mode=BACKENDS["jax"])(0.8, correlation)
    assert_allclose(found, interpreted([V, C], outputs, AS_WRITTEN)(0.8, correlation), rtol=1e-10)


ONE, GROUPED = gg.cov.Matern32(1.0, 2.0, TIMES), gg.cov.Matern32(1.0, 2.0, TIMES, GROUP)
MISTAKES = {
    "times": (ONE, gg.cov.AR1(1.0, 0.5, time=TIMES + 1), "`time` or `group` differ"),
    "steps": (ONE, gg.cov.AR1(1.0, 0.5), "pass time= and group= to gg.cov.AR1"),
    "groups": (ONE, gg.cov.CompoundSymmetry(1.0, 0.5, group=GROUP), "`group` differs"),
    "no groups": (GROUPED, gg.cov.CompoundSymmetry(1.0, 0.5), "`group` differs"),
    "levels": (ONE, gg.cov.Effects(GROUP, 1.0), "gg.cov.LowRank(sd * Z)"),
    "slopes": (GROUPED, gg.cov.Effects(GROUP, 1.0, TIMES[:, None]), "gg.cov.LowRank"),
    "scale": (ONE, gg.cov.Scaled(ONE, NOISE), "gg.cov.Scaled(a + b, scale)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    left, right, message = MISTAKES[name]
    with pytest.raises(TypeError, match=re.escape(message)):
        (left + right).plan()
