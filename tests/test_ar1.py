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
from registry import BACKENDS, interpreted

import pm_gaussgrad as gg
from pm_gaussgrad.cov.protocol.sized import of_size
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
