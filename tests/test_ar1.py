"""``AR1``: precision near the edges of its domain, the recurrence, sizes and edges.

The witness is exact: quadratic forms and gradients as fractions of the given doubles, the
logarithms with 60 digits.
"""

from decimal import Decimal, getcontext
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytensor.tensor as pt
import pytest
from registry import AS_WRITTEN, BACKENDS, interpreted

import pm_gaussgrad as gg
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.series.spaced_ar1 import SpacedAR1
from pm_gaussgrad.ops import InvQuadLogdet, InvQuadLogdetPullback, linear_recurrence

EPS = np.finfo(float).eps
FORWARD, PULLBACK = InvQuadLogdet(gg.cov.AR1), InvQuadLogdetPullback(gg.cov.AR1)


def _exact(residual, variance, correlation):
    """quad, logdet, and the derivatives of both, from the definition of the innovations."""
    getcontext().prec = 60
    r = [Fraction(float(x)) for x in residual]
    v, rho = Fraction(variance), Fraction(correlation)
    n, s = len(r), 1 - rho**2
    innovations = [b - rho * a for a, b in pairwise(r)]
    squares = sum(e**2 for e in innovations)
    d_squares = -2 * sum(e * a for e, a in zip(innovations, r, strict=False))
    quad = (r[0] ** 2 + squares / s) / v
    d_quad = (d_squares / s + 2 * rho * squares / s**2) / v
    exact_log = [Decimal(x.numerator) / Decimal(x.denominator) for x in (v, s)]
    logdet = n * exact_log[0].ln() + (n - 1) * exact_log[1].ln()
    return [float(x) for x in (quad, logdet, -quad / v, d_quad, n / v, -2 * (n - 1) * rho / s)]


def _computed(residual, variance, correlation):
    inputs = residual[None], np.array(variance), np.array(correlation)
    quad, logdet, alpha, *saved = FORWARD.evaluate(*inputs)
    through_quad, through_logdet = (
        PULLBACK.evaluate(*inputs, alpha, *saved, np.array([q]), np.array(p))
        for q, p in ((1.0, 0.0), (0.0, 1.0))
    )
    return [quad[0], logdet, *through_quad, *through_logdet]


@pytest.mark.parametrize("kind", ["path", "rough", "alternating"])
@pytest.mark.parametrize(
    "correlation", [1 - 1e-12, 1 - 1e-6, 0.9, 0.5, 1e-9, 0.0, -0.3, -0.9, -1 + 1e-6, -1 + 1e-12]
)
def test_full_precision_up_to_the_edges(correlation, kind, rng):
    """Values and derivatives to a few units in the last place, where Sigma has condition 1e13."""
    n = 40
    steps = rng.normal(size=n)
    scale = np.sqrt(1 - correlation**2)
    path = {
        "path": 3 + scale * np.cumsum(steps),
        "rough": steps,
        "alternating": (3 + scale * np.cumsum(steps)) * (-1) ** np.arange(n),
    }[kind]
    expected = _exact(path, 1.3, correlation)
    names = ["quad", "logdet", "dquad/dv", "dquad/drho", "dlogdet/dv", "dlogdet/drho"]
    for name, got, value in zip(names, _computed(path, 1.3, correlation), expected, strict=True):
        # Terms of both signs add up to dquad/drho; its condition is that sum's.
        cancelled = abs(value) if name != "dquad/drho" else _condition(path, 1.3, correlation)
        assert abs(got - value) <= 20 * EPS * cancelled, name


def _condition(r, v, rho):
    forward, backward = r[1:] - rho * r[:-1], r[:-1] - rho * r[1:]
    return 2 * np.abs(forward * backward).sum() / v / ((1 - rho) * (1 + rho)) ** 2


@pytest.mark.parametrize(
    ("variance", "correlation"),
    [(1.0, 1.0), (1.0, -1.0), (1.0, 1.5), (0.0, 0.5), (-1.0, 0.5), (np.nan, 0.5), (1.0, np.nan)],
)
@pytest.mark.parametrize("backend", ["py", "jax"])
def test_outside_the_domain_is_minus_infinity(variance, correlation, backend, rng):
    v, rho = pt.dscalars("v", "rho")
    logp = gg.logp(rng.normal(size=4), 0.0, gg.cov.AR1(v, rho))
    value, *gradient = _outside(logp, v, rho, backend)(variance, correlation)
    assert value == -np.inf
    assert np.all(np.asarray(gradient) == 0)


def _outside(logp, v, rho, backend):
    import pytensor

    return pytensor.function([v, rho], [logp, *pt.grad(logp, [v, rho])], mode=BACKENDS[backend])


def test_a_single_observation_has_no_correlation(rng):
    """Not even one outside (-1, 1)."""
    quad, logdet, dv, drho, *_ = _computed(np.array([2.0]), 4.0, 1.5)
    assert (quad, dv, drho) == (1.0, -0.25, 0.0)
    np.testing.assert_allclose(logdet, np.log(4))


def test_no_observations_say_nothing():
    assert not np.any(_computed(np.empty(0), 1.3, 0.5))


def test_unknown_size_is_named():
    with pytest.raises(ValueError, match=r"gg.cov.AR1: .* pass size="):
        gg.cov.AR1(1.0, 0.5).to_dense()


def test_size_is_learnt_where_it_is_unknown_only():
    n, cov = pt.lscalar("n"), gg.cov.AR1(1.0, 0.5)
    assert of_size(cov, n).size is n
    sized = of_size(cov, 3)
    assert sized.size == 3
    assert of_size(sized, n) is sized


def test_long_series_need_no_matrix(rng):
    """n = 200,000: the matrix would take 320 GB."""
    n = 200_000
    v, rho, z = pt.dscalar("v"), pt.dscalar("rho"), pt.dvector("z")
    cov = gg.cov.AR1(v, rho, size=n)
    path = cov.color(z)
    outputs = [cov.whiten(path), *pt.grad(cov.logp(path), [v, rho])]
    white = rng.normal(size=n)
    again, *gradient = interpreted([v, rho, z], outputs)(1.0, 0.99, white)
    np.testing.assert_allclose(again, white, atol=1e-9)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_recurrence_and_its_gradient(backend, rng):
    """Beside the dense solve with the lower bidiagonal matrix."""
    import pytensor

    a, u = pt.dmatrices("a", "u")
    state = linear_recurrence(a, u)
    weights = rng.normal(size=(2, 5))
    gradient = pt.grad((weights * state).sum(), [a, u])
    function = pytensor.function([a, u], [state, *gradient], mode=BACKENDS[backend])
    coefficient, increment = rng.normal(size=(2, 2, 5))
    got, a_bar, u_bar = function(coefficient, increment)
    for i in range(2):
        inverse = np.linalg.inv(np.eye(5) - np.diag(coefficient[i, 1:], -1))
        expected = inverse @ increment[i]
        cotangent = inverse.T @ weights[i]
        np.testing.assert_allclose(got[i], expected, rtol=1e-12)
        np.testing.assert_allclose(u_bar[i], cotangent, rtol=1e-12)
        np.testing.assert_allclose(a_bar[i], cotangent * np.append(0, expected[:-1]), rtol=1e-12)


def test_second_derivatives_where_the_correlation_is_zero(rng):
    """The initial point of a uniform prior between -1 and 1."""
    rho, y = pt.dscalar("rho"), rng.normal(size=4)
    value = gg.cov.AR1(1.5, rho).logp(y)
    hessian = interpreted([rho], pt.grad(pt.grad(value, rho), rho))
    slope = interpreted([rho], pt.grad(value, rho))
    h = 1e-4
    np.testing.assert_allclose(hessian(0.0), (slope(h) - slope(-h)) / (2 * h), rtol=1e-6)


def test_color_of_one_row_by_a_batch_of_variances():
    rows = gg.cov.AR1(np.array([1.0, 4.0]), 0.5, size=3).color(np.ones(3))
    one = gg.cov.AR1(1.0, 0.5, size=3).color(np.ones(3))
    both, alone = interpreted([], [rows, one])()
    np.testing.assert_allclose(both, [alone, 2 * alone])


# Gaps


def _exact_with_gaps(residual, v, rho, steps):
    """As ``_exact``, and the sums of the absolute values of the terms."""
    getcontext().prec = 60
    r = [Fraction(float(x)) for x in residual]
    v, rho = Fraction(v), Fraction(rho)
    quads, logs, slopes, log_slopes = [r[0] ** 2 / v], [], [], []
    for (a, b), d in zip(pairwise(r), steps[1:], strict=True):
        phi, rate = rho ** int(d), int(d) * rho ** int(d - 1)
        s, e, back = 1 - phi**2, b - phi * a, a - phi * b
        quads.append(e**2 / s / v)
        slopes.append(-2 * e * back / s**2 / v * rate)
        logs.append((Decimal(s.numerator) / Decimal(s.denominator)).ln())
        log_slopes.append(-2 * phi / s * rate)
    n, quad = len(r), sum(quads)
    log_v = n * (Decimal(v.numerator) / Decimal(v.denominator)).ln()
    terms = [quads, [log_v, *logs], [-quad / v], slopes, [n / v], log_slopes]
    return [(float(sum(x)), float(sum(map(abs, x)))) for x in terms]


@pytest.mark.parametrize("kind", ["path", "rough"])
@pytest.mark.parametrize("correlation", [1 - 1e-12, 1 - 1e-6, 0.9, 1e-9, 0.0, -0.3, -1 + 1e-12])
def test_full_precision_with_gaps(correlation, kind, rng):
    n = 30
    steps = rng.integers(1, 5, size=n) * (np.arange(n) > 0)
    scale = np.sqrt(1 - correlation**2) if kind == "path" else 1.0
    rows = 3 + scale * rng.normal(size=n).cumsum() if kind == "path" else rng.normal(size=n)
    rows *= np.sign(correlation or 1.0) ** np.cumsum(steps)
    inputs = rows[None], np.array(1.3), np.array(correlation), steps
    forward, pullback = InvQuadLogdet(SpacedAR1), InvQuadLogdetPullback(SpacedAR1)
    quad, logdet, alpha, *saved = forward.evaluate(*inputs)
    slopes = [
        pullback.evaluate(*inputs, alpha, *saved, np.array([q]), np.array(p))
        for q, p in ((1.0, 0.0), (0.0, 1.0))
    ]
    got = [quad[0], logdet, *slopes[0], *slopes[1]]
    expected = _exact_with_gaps(rows, 1.3, correlation, steps)
    for computed, (value, size) in zip(got, expected, strict=True):
        assert abs(computed - value) <= 30 * EPS * size


def test_without_gaps_it_is_the_series_itself(rng):
    rows, parameters = rng.normal(size=(2, 6)), (np.array(1.3), np.array(-0.4))
    steps = np.array([0, 1, 1, 1, 1, 1])
    whole = FORWARD.evaluate(rows, *parameters)[:3]
    spaced = InvQuadLogdet(SpacedAR1).evaluate(rows, *parameters, steps)[:3]
    for a, b in zip(spaced, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_gaps_of_gaps(rng):
    """What is missing from a series with missing values, down to one observation and to none."""
    whole = gg.cov.AR1(1.3, -0.6, size=9)
    dense = whole.to_dense().eval(mode=AS_WRITTEN)
    some = gg.cov.marginal(whole, [1, 2, 5, 8])
    for kept in ([0, 1, 2, 3], [0, 2, 3], [2], []):
        fewer = gg.cov.marginal(some, np.array(kept, int))
        assert type(fewer) is SpacedAR1
        positions = np.array([1, 2, 5, 8])[kept]
        expected = dense[np.ix_(positions, positions)]
        np.testing.assert_allclose(fewer.to_dense().eval(mode=AS_WRITTEN), expected, rtol=1e-14)
        rows = rng.normal(size=(2, len(kept)))
        white = interpreted([], (fewer.whiten(rows) ** 2).sum(axis=-1))()
        quad = np.einsum("ij,ij->i", rows, np.linalg.solve(expected, rows.T).T)
        np.testing.assert_allclose(white, quad, rtol=1e-12)


def test_a_long_series_with_gaps_costs_no_matrix(rng):
    n = 200_000
    y = rng.normal(size=n)
    y[rng.uniform(size=n) < 0.1] = np.nan
    rho = pt.scalar("rho")
    logp = gg.logp(y, 0.0, gg.cov.AR1(1.0, rho))
    value, slope = interpreted([rho], [logp, pt.grad(logp, rho)])(0.5)
    assert np.isfinite([value, slope]).all()
