"""CARMA processes against residues in many digits, processes that they are, and errors."""

import functools
import re

import mpmath as mp
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import AS_WRITTEN, BACKENDS, INTERPRETED, interpreted

import pm_gaussgrad as gg

TIMES = np.array([2.0, 0.25, 7.0, 4.0, 4.5, 1.125])  # in no order
Y = np.array([0.4, -0.3, 1.1, 0.2, -0.8, 0.5])
NOISE = 0.125


def evaluated(*outputs):
    return interpreted([], list(outputs), AS_WRITTEN)()


def roots_of(ar):
    """Of (s^2 + t_2 s + t_1) (s^2 + t_4 s + t_3) ..., the last factor s + t_p of odd p."""
    roots = []
    for i in range(0, len(ar) - 1, 2):
        half = mp.sqrt(mp.mpc(ar[i + 1] ** 2 / 4 - ar[i]))
        roots += [-ar[i + 1] / 2 + half, -ar[i + 1] / 2 - half]
    return roots + [-mp.mpc(ar[-1])] * (len(ar) % 2)


def moving(ma, s):
    """(1 + f_1 s + f_2 s^2) (1 + f_3 s + f_4 s^2) ..."""
    product = mp.mpf(1)
    for i in range(0, len(ma), 2):
        product *= 1 + sum(f * s ** (k + 1) for k, f in enumerate(ma[i : i + 2]))
    return product


def autocovariance(sigma, ar, ma):
    """A function of the lag: Brockwell's sum of residues. Equal roots are moved apart by 1e-25."""
    moved = [x * (1 + (k + 1) * mp.mpf(10) ** -25) for k, x in enumerate(ar)]
    roots, terms = roots_of(moved), []
    for i, root in enumerate(roots):
        others = mp.fprod(root - x for k, x in enumerate(roots) if k != i)
        terms.append(
            moving(ma, root) * moving(ma, -root) / (others * mp.fprod(-root - x for x in roots))
        )
    total = mp.re(sum(terms))

    def at(lag):
        return sigma**2 * mp.re(mp.fdot(terms, [mp.exp(x * lag) for x in roots])) / total

    return at


def exact_logp(q, sigma, *rest):
    ar, ma = rest[: len(rest) - q], rest[len(rest) - q :]
    at = autocovariance(sigma, ar, ma)
    n = TIMES.size
    matrix = mp.matrix(n, n)
    for i, j in np.ndindex(n, n):
        matrix[i, j] = at(abs(mp.mpf(TIMES[i]) - mp.mpf(TIMES[j]))) + (i == j) * mp.mpf(NOISE)
    y = mp.matrix([mp.mpf(x) for x in Y])
    quad = (y.T * mp.lu_solve(matrix, y))[0]
    return -(quad + mp.log(mp.det(matrix)) + n * mp.log(2 * mp.pi)) / 2


# Factors of A and B: distinct roots, equal ones, and equal ones of A and B.
POINTS = {
    "(3, 0)": ([2.0, 0.75, 0.5], []),
    "(3, 0), equal": ([1.0, 2.0, 1.0], []),
    "(3, 0), nearly equal": ([1.0, 2.0 + 1e-9, 1.0], []),
    "(2, 1), equal": ([0.25, 1.0], [0.5]),
    "(3, 2)": ([2.0, 0.75, 0.5], [0.25, 1.5]),
    "(3, 1), common": ([1.0, 2.0, 0.5], [1.0]),
    "(4, 3), equal": ([1.0, 2.0, 1.0, 2.0], [0.5, 1.0, 0.25]),
    "(4, 1), pairs": ([2.0, 0.5, 2.0, 0.5], [0.75]),
}


@pytest.mark.parametrize("name", POINTS)
def test_residues(name):
    """Value and gradient against 120 digits."""
    ar, ma = POINTS[name]
    point = [1.25, *ar, *ma]
    theta = [pt.dscalar(f"x{i}") for i in range(len(point))]
    split = 1 + len(ar)
    build = gg.cov.CARMA.from_factors
    cov = build(theta[0], pt.stack(theta[1:split]), pt.stack(theta[split:]) if ma else None, TIMES)
    logp = gg.logp(Y, 0.0, cov + gg.cov.Diagonal(NOISE))
    found = interpreted(theta, [logp, *pt.grad(logp, theta)], AS_WRITTEN)(*point)
    with mp.workdps(120):
        of_theta, exact = functools.partial(exact_logp, len(ma)), [mp.mpf(x) for x in point]
        step = mp.mpf(10) ** -15
        expected = [of_theta(*exact)]
        for k in range(len(point)):
            down, up = (
                of_theta(*[x + h if i == k else x for i, x in enumerate(exact)])
                for h in (-step, step)
            )
            expected.append((up - down) / (2 * step))
    assert_allclose(found, [float(x) for x in expected], rtol=1e-11, atol=1e-13)


RATE = 0.7
SAME = {
    "Matern12": (gg.cov.CARMA(1.3, [RATE], time=TIMES), gg.cov.Matern12(1.3, 1 / RATE, TIMES)),
    "SHO": (
        gg.cov.CARMA(1.3, [4.0, 0.5], time=TIMES),
        gg.cov.SHO(1.3, 2 * np.pi / 2, 2.0 / 0.5, TIMES),
    ),
    "Matern32": (
        gg.cov.CARMA(1.3, [RATE**2, 2 * RATE], [1e-200], TIMES),
        gg.cov.Matern32(1.3, 3**0.5 / RATE, TIMES),
    ),
    "Matern52": (
        gg.cov.CARMA(1.3, [RATE**3, 3 * RATE**2, 3 * RATE], time=TIMES),
        gg.cov.Matern52(1.3, 5**0.5 / RATE, TIMES),
    ),
    # (s + 1)(s^2 + s + 2), and (1 + s / 2)(1 + s)
    "factors": (
        gg.cov.CARMA(1.3, [2.0, 3.0, 2.0], [1.5, 0.5], TIMES),
        gg.cov.CARMA.from_factors(1.3, [2.0, 1.0, 1.0], [1.5, 0.5], TIMES),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_processes_that_it_is(name):
    found, expected = SAME[name]
    noise = gg.cov.Diagonal(NOISE)
    outputs = [x for cov in (found, expected) for x in (cov.to_dense(), gg.logp(Y, 0, cov + noise))]
    dense, value, dense_expected, value_expected = evaluated(*outputs)
    assert_allclose(dense, dense_expected, rtol=1e-12, atol=1e-14)
    assert_allclose(value, value_expected, rtol=1e-12)


def test_driving_noise():
    """By the definition of the variance: int |B / A|^2 df; of groups, and as a unit."""
    ar, ma = np.array([[2.0, 3.0, 2.0], [1.0, 3.0, 4.0]]), [-0.7, 0.5]
    sigma = np.array([1.3, 0.6])
    cov = gg.cov.CARMA(sigma, ar, ma, TIMES, group=[0, 1, 0, 1, 1, 0])
    strength, unit = evaluated(cov.driving_noise, gg.cov.CARMA(1.0, ar[1], ma, TIMES).driving_noise)
    for own, s, found in zip(ar, sigma, strength, strict=True):
        density = functools.partial(_density, own, ma)
        variance = float(mp.quad(density, [-mp.inf, -3, -1, 0, 1, 3, mp.inf]) / (2 * mp.pi))
        assert_allclose(found**2 * variance, s**2, rtol=1e-10)
    assert_allclose(unit * sigma[1], strength[1], rtol=1e-14)
    assert strength.shape == (2,)
    assert unit.shape == ()


def _density(ar, ma, frequency):
    s = mp.mpc(0, frequency)
    above = 1 + sum(b * s ** (k + 1) for k, b in enumerate(ma))
    below = s ** len(ar) + sum(a * s**k for k, a in enumerate(ar))
    return abs(above) ** 2 / abs(below) ** 2


def test_groups_of_their_own(rng):
    """Coefficients by group, and a batch of them, beside each series alone."""
    group, ar = np.array([0, 1, 0, 1, 1, 0]), rng.uniform(1, 2, size=(2, 3))
    ar[:, 1] = 3
    whole = gg.cov.CARMA([1.0, 2.0], ar, [0.5], TIMES, group).to_dense()
    batch = gg.cov.CARMA([1.0, 2.0], ar, [0.5], TIMES).to_dense()
    alone = [gg.cov.CARMA(1.0 + g, ar[g], [0.5], TIMES).to_dense() for g in range(2)]
    whole, batch, *alone = evaluated(whole, batch, *alone)
    for g in range(2):
        own = np.ix_(group == g, group == g)
        assert_allclose(whole[own], alone[g][own], rtol=1e-13)
        assert_allclose(batch[g], alone[g], rtol=1e-13)
    assert not whole[np.ix_(group == 0, group == 1)].any()


def test_unstable_has_no_density():
    """Of p = 3 with coefficients that are positive, and others; the gradient is zero."""
    theta, y = pt.tensor("theta", shape=(3,)), pt.dvector("y")
    cov = gg.cov.CARMA(1.0, theta, [0.5], TIMES, [0, 1, 0, 1, 1, 0]) + gg.cov.Diagonal(NOISE)
    logp = gg.logp(y, 0.0, cov)
    function = interpreted([theta, y], [logp, *pt.grad(logp, [theta, y])], AS_WRITTEN)
    assert np.isfinite(function(np.array([1.0, 3, 2]), Y)[0])
    for wrong in ([8.0, 3, 2], [6.0, 3, 2], [0.0, 3, 2], [1, -3.0, 2], [1, np.nan, 2]):
        value, *slopes = function(np.array(wrong), Y)
        assert value == -np.inf, wrong
        assert not np.any(slopes[0])
        assert not np.any(slopes[1])


def test_factors_that_are_no_numbers_have_no_density():
    """The gradient is zero, also of what they are multiplied by."""
    theta, phi = pt.tensor("theta", shape=(3,)), pt.tensor("phi", shape=(2,))
    cov = gg.cov.CARMA.from_factors(1.0, theta, phi, TIMES) + gg.cov.Diagonal(NOISE)
    logp = gg.logp(Y, 0.0, cov)
    function = interpreted([theta, phi], [logp, *pt.grad(logp, [theta, phi])], AS_WRITTEN)
    at = np.array([1.0, 3.0, 2.0, 0.3, 0.2])
    assert np.isfinite(function(at[:3], at[3:])[0])
    for i in range(5):
        for wrong in (np.nan, np.inf, -np.inf):
            there = np.where(np.arange(5) == i, wrong, at)
            value, *slopes = function(there[:3], there[3:])
            assert value == -np.inf
            assert not np.any(slopes[0])
            assert not np.any(slopes[1])


def test_stability_is_that_of_the_roots(rng):
    """Of random polynomials of degree 2 to 6: a density where all roots are left of zero."""
    for p in range(2, 7):
        theta = pt.tensor("theta", shape=(p,))
        strength = gg.cov.CARMA(1.0, theta, [0.5], TIMES).driving_noise
        function, found = interpreted([theta], strength, AS_WRITTEN), []
        for _ in range(40):
            ar = np.exp(rng.normal(size=p) * (0.3 if p > 4 else 1)) * np.poly(-np.ones(p))[:0:-1]
            stable = (np.roots([1, *ar[::-1]]).real < 0).all()
            assert np.isfinite(function(ar)) == stable
            found.append(stable)
        assert 0 < sum(found) < 40 or p == 2


MISTAKES = {
    "unstable": (lambda: gg.cov.CARMA(1.0, [5.0, 2, 1], time=[0, 1]), "real part is not negative"),
    "negative": (lambda: gg.cov.CARMA(1.0, [1.0, -2], time=[0, 1]), "`ar[1]` has the entry -2"),
    "order": (lambda: gg.cov.CARMA(1.0, [1.0], [1.0], [0, 1]), "1 coefficients in `ar` and 1"),
    "none": (lambda: gg.cov.CARMA(1.0, [], time=[0, 1]), "a known number of coefficients"),
    "unknown": (
        lambda: gg.cov.CARMA(1.0, pt.dvector("ar"), time=[0, 1]),
        "a known number of coefficients",
    ),
    "factor": (
        lambda: gg.cov.CARMA.from_factors(1.0, [1.0, -2.0, 1.0], time=[0, 1]),
        "`ar` has the entry -2",
    ),
    "factor of none": (
        lambda: gg.cov.CARMA.from_factors(1.0, [1.0, 2.0], [np.inf], time=[0, 1]),
        "`ma` has 1 entries",
    ),
    "not finite": (lambda: gg.cov.CARMA(1.0, [1.0, 2], [np.nan], [0, 1]), "`ma[0]` has 1 entries"),
    "sigma": (lambda: gg.cov.CARMA(-1.0, [1.0], time=[0, 1]), "`sigma` has the entry -1"),
    "lengths": (
        lambda: gg.cov.CARMA(1.0, [1.0], time=[0, 1, 2], group=["a", "b"]),
        "`time` has 3 entries and `group` 2",
    ),
    "groups": (
        lambda: gg.cov.CARMA(np.ones(3), [[1.0], [2.0]], time=[0, 1], group=[0, 1]),
        "expected shapes () or (..., g)",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    build, message = MISTAKES[name]
    with pytest.raises(ValueError, match=r"gg\.cov\.CARMA: .*" + re.escape(message)):
        build()


def test_types():
    for build, message in (
        (lambda: gg.cov.CARMA(1.0, 2.0, time=[0, 1]), "`ar` has 0 dimension"),
        (lambda: gg.cov.CARMA(1.0, [2.0]), "`time` is missing"),
    ):
        with pytest.raises(TypeError, match=message):
            build()


@pytest.mark.compiled
@pytest.mark.parametrize("backend", ["numba", "jax"])
def test_backends(backend):
    """With noise, by the coefficients."""
    ar, ma = pt.tensor("ar", shape=(3,)), pt.tensor("ma", shape=(1,))
    logp = gg.logp(Y, 0.0, gg.cov.CARMA(1.1, ar, ma, TIMES) + gg.cov.Diagonal(NOISE))
    outputs, at = [logp, *pt.grad(logp, [ar, ma])], ([2.0, 3.0, 2.0], [0.5])
    found, expected = (
        pytensor.function([ar, ma], outputs, mode=mode)(*at)
        for mode in (BACKENDS[backend], INTERPRETED)
    )
    for a, b in zip(found, expected, strict=True):
        assert_allclose(a, b, rtol=1e-10)
