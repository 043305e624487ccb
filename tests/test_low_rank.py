"""``LowRank`` and its sums: edges, errors, algebra, digits, and what large n costs."""

import math
from fractions import Fraction

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import interpreted

import pm_gaussgrad as gg
from pm_gaussgrad.cov.matrices.low_rank import LowRankPlusDiagonal
from pm_gaussgrad.ops import InvQuadLogdet, InvQuadLogdetPullback

FORWARD, PULLBACK = InvQuadLogdet(LowRankPlusDiagonal), InvQuadLogdetPullback(LowRankPlusDiagonal)


def evaluate(residual, factor, variance, weights, logdet_bar):
    """quad, logdet, alpha, factor_bar, variance_bar by the kernels."""
    outputs = FORWARD.evaluate(residual, factor, variance)
    bars = PULLBACK.evaluate(residual, factor, variance, *outputs[2:], weights, logdet_bar)
    return *outputs[:3], *bars


def from_dense(residual, factor, variance, weights, logdet_bar):
    """The same five from the matrix, in whatever arithmetic the arguments are."""
    sigma = factor @ factor.T + np.diag(variance)
    inverse, determinant = _inverse(sigma)
    alpha = residual @ inverse
    bar = logdet_bar * inverse - (alpha * weights[:, None]).T @ alpha
    return (alpha * residual).sum(axis=1), determinant, alpha, 2 * bar @ factor, np.diag(bar)


def _inverse(matrix):
    """Inverse and determinant by elimination without pivoting, exact for fractions."""
    n, determinant = len(matrix), 1
    table = np.concatenate([matrix, np.eye(n, dtype=int).astype(matrix.dtype)], axis=1)
    for i in range(n):
        determinant = determinant * table[i, i]
        table[i] = table[i] / table[i, i]
        for j in range(n):
            if j != i:
                table[j] = table[j] - table[j, i] * table[i]
    return table[:, n:], determinant


def arguments(rng, n, k, m):
    return (
        rng.normal(size=(m, n)),
        rng.normal(size=(n, k)),
        rng.uniform(0.5, 2.0, size=n),
        rng.normal(size=m),
        np.array(0.7),
    )


@pytest.mark.parametrize(("n", "k", "m"), [(3, 0, 2), (1, 0, 1), (4, 7, 2), (1, 3, 1), (5, 2, 0)])
def test_edge_sizes(n, k, m, rng):
    inputs = arguments(rng, n, k, m)
    quad, determinant, *rest = from_dense(*inputs)
    expected = quad, np.log(determinant), *rest
    for a, b in zip(evaluate(*inputs), expected, strict=True):
        assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_equal_columns(rng):
    """U of rank one in three columns: M is far from W'W, which is singular."""
    residual, column, variance, weights, logdet_bar = arguments(rng, 6, 1, 2)
    once = evaluate(residual, np.sqrt(3) * column, variance, weights, logdet_bar)
    thrice = evaluate(residual, np.repeat(column, 3, axis=1), variance, weights, logdet_bar)
    for name in (0, 1, 2, 4):
        assert_allclose(thrice[name], once[name], rtol=1e-12)
    assert_allclose(thrice[3], np.repeat(once[3], 3, axis=1) / np.sqrt(3), rtol=1e-11)


HARD = {
    # name: columns' scales, how far the second is from the first, noise
    "little noise": ([1.0, 1.0], 1.0, 1e-10),
    "unequal columns": ([1e4, 1e-3], 1.0, 1e-6),
    "nearly equal columns": ([1.0, 1.0], 1e-3, 1e-6),
    "unequal noise": ([1.0, 1.0], 1.0, 10.0 ** np.arange(-10, 2, 2)),
}


def error_bound(factor, variance):
    """Data rounded to doubles cost sqrt(cond Sigma); M formed, its condition at unit diagonal.

    A dense factorisation costs cond Sigma, from 1e7 to 1e14 here.
    """
    white = factor / np.sqrt(variance)[:, None]
    inner = np.eye(factor.shape[1]) + white.T @ white
    scale = np.sqrt(np.diag(inner))
    cond = np.linalg.cond(factor @ factor.T + np.diag(variance))
    return (
        10 * np.finfo(float).eps * (np.sqrt(cond) + np.linalg.cond(inner / scale / scale[:, None]))
    )


@pytest.mark.parametrize("kind", ["rough", "draw"])
@pytest.mark.parametrize("name", HARD)
def test_digits(name, kind, rng):
    """Against exact fractions."""
    scales, distance, noise = HARD[name]
    n = 6
    factor = rng.normal(size=(n, 2))
    factor[:, 1] = (1 - distance) * factor[:, 0] + distance * factor[:, 1]
    factor *= scales
    variance = np.full(n, noise) if np.ndim(noise) == 0 else noise
    residual = rng.normal(size=(1, n))
    if kind == "draw":
        residual = rng.normal(size=(1, 2)) @ factor.T + np.sqrt(variance) * residual
    inputs = residual, factor, variance, np.array([-0.5]), np.array(0.7)
    exact = [np.vectorize(Fraction, otypes=[object])(x) for x in inputs]
    quad, determinant, *rest = from_dense(*exact[:4], Fraction(0.7))
    for a, b in zip(evaluate(*inputs), (quad, _log(determinant), *rest), strict=True):
        b = np.asarray(b, dtype=float)
        assert_allclose(a, b, rtol=0, atol=error_bound(factor, variance) * np.abs(b).max())


def _log(fraction):
    return math.log(fraction.numerator) - math.log(fraction.denominator)


@pytest.mark.parametrize(
    ("factor", "variance"),
    [
        (np.ones((3, 1)), np.array([1.0, -0.1, 1.0])),
        (np.ones((3, 1)), np.array([1.0, 0.0, 1.0])),
        (np.full((3, 1), np.nan), np.ones(3)),
        (np.full((3, 1), np.inf), np.ones(3)),
        (np.ones((3, 1)), np.array([1.0, np.nan, 1.0])),
        (np.ones((3, 1)), np.array([1.0, np.inf, 1.0])),
        (np.zeros((3, 0)), np.array([1.0, -1.0, -1.0])),
        (np.full((3, 1), 1e200), np.ones(3)),
    ],
)
def test_no_covariance_has_no_finite_logdet(factor, variance):
    assert not np.isfinite(FORWARD.evaluate(np.ones((1, 3)), factor, variance)[1])


def test_whitening_little_noise(rng):
    """The square of the white rows is quad, at a condition number of 1e10."""
    factor, variance = rng.normal(size=(50, 3)), np.full(50, 1e-8)
    cov = gg.cov.LowRank(factor) + gg.cov.Diagonal(variance)
    residual = rng.normal(size=(2, 50))
    white, quad = interpreted([], [cov.whiten(residual), cov.quad_logdet(residual)[0]])()
    assert_allclose((white**2).sum(axis=1), quad, rtol=1e-10)


# Algebra.

FACTOR, OTHER = np.arange(6.0).reshape(3, 2), np.ones((3, 1))
VARIANCE = np.array([1.0, 2.0, 3.0])
GRAM, OTHER_GRAM, NOISE = FACTOR @ FACTOR.T, OTHER @ OTHER.T, np.diag(VARIANCE)


def low_rank(factor=FACTOR):
    return gg.cov.LowRank(factor)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: low_rank() + low_rank(OTHER), GRAM + OTHER_GRAM),
        (lambda: low_rank() + gg.cov.Diagonal(VARIANCE), GRAM + NOISE),
        (lambda: gg.cov.Diagonal(VARIANCE) + low_rank(), GRAM + NOISE),
        (lambda: low_rank() + gg.cov.Diagonal(2.0), GRAM + 2 * np.eye(3)),
        (lambda: low_rank() + gg.cov.Diagonal(2.0, size=3), GRAM + 2 * np.eye(3)),
        (
            lambda: low_rank() + gg.cov.Diagonal(2.0) + low_rank(OTHER),
            GRAM + OTHER_GRAM + 2 * np.eye(3),
        ),
        (
            lambda: low_rank() + gg.cov.Diagonal(VARIANCE) + gg.cov.Diagonal(2.0),
            GRAM + NOISE + 2 * np.eye(3),
        ),
        (
            lambda: (
                (low_rank() + gg.cov.Diagonal(2.0)) + (low_rank(OTHER) + gg.cov.Diagonal(VARIANCE))
            ),
            GRAM + OTHER_GRAM + NOISE + 2 * np.eye(3),
        ),
        (lambda: 2 * low_rank() + gg.cov.Diagonal(VARIANCE), 2 * GRAM + NOISE),
        (
            lambda: sum([low_rank(OTHER), gg.cov.Diagonal(1.0), low_rank()]),
            GRAM + OTHER_GRAM + np.eye(3),
        ),
    ],
)
def test_sums(build, expected):
    assert_allclose(build().to_dense().eval(mode="FAST_COMPILE"), expected)


def test_summand_alone(rng):
    """All that a singular covariance has; draws too."""
    for factor in (
        FACTOR,
        OTHER,
        rng.normal(size=(2, 4)),
        np.zeros((3, 0)),
        np.repeat(OTHER, 3, 1),
    ):
        cov, n = low_rank(factor), len(factor)
        assert cov.size == n
        dense, diagonal, root = (
            x.eval(mode="FAST_COMPILE")
            for x in (cov.to_dense(), cov.diagonal(), cov.color(np.eye(n)))
        )
        assert_allclose(dense, factor @ factor.T)
        assert_allclose(diagonal, np.diag(dense))
        assert_allclose(root.T @ root, dense, atol=1e-13)


@pytest.mark.parametrize(
    "ask",
    [
        lambda cov: cov.logdet(),
        lambda cov: cov.inverse_diagonal(),
        lambda cov: cov.quad_logdet(np.ones(3)),
        lambda cov: cov.logp(np.ones(3)),
        lambda cov: cov.solve(np.ones(3)),
        lambda cov: cov.whiten(np.ones(3)),
        lambda cov: gg.logp(np.ones(3), 0.0, cov),
    ],
)
def test_summand_alone_says_what_to_add(ask):
    with pytest.raises(
        NotImplementedError, match=r"gg.cov.LowRank: .*singular.*another.* gg.cov.Diag"
    ):
        ask(low_rank())


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: low_rank(np.ones(3)), TypeError, r"`factor` has 1 dim.*factor\[:, None\]"),
        (lambda: low_rank(pt.dvector()), TypeError, r"`factor` has 1 dim.*factor\[:, None\]"),
        (lambda: low_rank(1.0), TypeError, "`factor` has 0 dim.*expected at least 2"),
        (lambda: low_rank() + low_rank(np.ones((4, 1))), ValueError, r"\[3, 4\] disagree"),
        (lambda: low_rank() + gg.cov.Diagonal(1.0, size=4), ValueError, r"\[3, 4\] disagree"),
        (lambda: low_rank() + gg.cov.Diagonal(np.ones(4)), ValueError, r"\[3, 4\] disagree"),
    ],
)
def test_errors(build, error, message):
    with pytest.raises(error, match=message):
        build()


def log_density(y, sigma):
    solved = np.linalg.solve(sigma, y)
    return -0.5 * (y @ solved + np.linalg.slogdet(2 * np.pi * sigma)[1])


def test_constant_and_random_factors(rng):
    """The gradient through a sum of both: half of tr((alpha alpha' - Sigma^-1) dSigma)."""
    tau, sigma = pt.dscalar("tau"), pt.dscalar("sigma")
    y, constant, design = rng.normal(size=4), rng.normal(size=(4, 2)), rng.normal(size=(4, 1))
    cov = low_rank(constant) + low_rank(tau * design) + gg.cov.Diagonal(sigma**2)
    logp = gg.logp(y, 0.0, cov)
    value, dtau, dsigma = interpreted([tau, sigma], [logp, *pt.grad(logp, [tau, sigma])])(0.3, 0.5)
    dense = constant @ constant.T + 0.09 * design @ design.T + 0.25 * np.eye(4)
    assert_allclose(value, log_density(y, dense), rtol=1e-12)
    inverse = np.linalg.inv(dense)
    bar = (np.outer(inverse @ y, inverse @ y) - inverse) / 2
    assert_allclose(dtau, 0.6 * (design.T @ bar @ design)[0, 0], rtol=1e-11)
    assert_allclose(dsigma, np.trace(bar), rtol=1e-11)


def test_batches_of_some_parameters(rng):
    """A constant factor, a batch of factors and a batch of scalar variances."""
    y, constant, design = rng.normal(size=3), rng.normal(size=(3, 2)), rng.normal(size=(3, 1))
    tau, variance = np.array([0.3, 2.0]), np.array([0.5, 1.5])
    batch = low_rank(constant) + low_rank(tau[:, None, None] * design)
    cov = batch + gg.cov.Diagonal(variance[:, None], size=3)
    expected = [
        log_density(y, constant @ constant.T + t**2 * design @ design.T + v * np.eye(3))
        for t, v in zip(tau, variance, strict=True)
    ]
    assert_allclose(gg.logp(y, 0.0, cov).eval(mode="FAST_COMPILE"), expected, rtol=1e-12)


def test_no_square_matrix_at_any_point():
    """n = 20,000: an n x n matrix would be 3.2 GB. Value, gradient, draws and all else."""
    n, rng = 20_000, np.random.default_rng(3)
    tau, design = pt.dscalar("tau"), rng.normal(size=(n, 2))
    cov = low_rank(tau * design) + gg.cov.Diagonal(0.5)
    y = rng.normal(size=n)
    logp = gg.logp(y, 0.0, cov)
    outputs = [
        logp,
        pt.grad(logp, tau),
        cov.whiten(cov.color(y)),
        cov.diagonal(),
        cov.inverse_diagonal(),
    ]
    function = interpreted([tau], outputs)
    assert not any(
        out.type.ndim == 2 and out.type.shape[0] == out.type.shape[1] == n
        for node in function.maker.fgraph.apply_nodes
        for out in node.outputs
    )
    value, gradient, again, *_ = function(0.7)
    assert_allclose(again, y, rtol=1e-9, atol=1e-9)
    up, down = (function(0.7 + h)[0] for h in (1e-5, -1e-5))
    assert_allclose(gradient, (up - down) / 2e-5, rtol=1e-6)
    assert np.isfinite(value)


def test_draws_of_a_factor_model():
    """Prior predictive draws have the covariance, whatever the rank of the noise."""
    with pm.Model() as model:
        loading = pm.Normal("loading", shape=(3, 2), initval=FACTOR)
        gg.MvNormal("y", VARIANCE, low_rank(loading) + gg.cov.Diagonal(0.5), shape=(4, 3))
    assert model.initial_point()["y"].shape == (4, 3)
    draws = pm.draw(
        gg.MvNormal.dist(VARIANCE, low_rank() + gg.cov.Diagonal(0.5)),
        20_000,
        random_seed=1,
        mode=pytensor.compile.mode.Mode(linker="cvm", optimizer="fast_run"),
    )
    dense = GRAM + 0.5 * np.eye(3)
    scale = np.sqrt(np.diag(dense))
    assert_allclose(draws.mean(axis=0), VARIANCE, atol=4 * scale.max() / np.sqrt(20_000))
    error = (np.cov(draws.T) - dense) / scale / scale[:, None]
    assert np.abs(error).max() < 4 * np.sqrt(2 / 20_000)


def test_batches_of_unequal_rank(rng):
    """A batch of factors and another of scalar variances; their compilation is cheap."""
    factor, noise, y = rng.normal(size=(3, 1, 3, 2)), np.array([[1.0], [2.0]]), rng.normal(size=3)
    factors, noises = (pt.tensor(shape=np.shape(x)) for x in (factor, noise))
    cov = gg.cov.LowRank(factors) + gg.cov.Diagonal(noises, size=3)
    got = interpreted([factors, noises], cov.logp(y))(factor, noise)
    assert got.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            matrix = factor[i, 0] @ factor[i, 0].T + noise[j] * np.eye(3)
            expected = -0.5 * (y @ np.linalg.solve(matrix, y) + np.linalg.slogdet(matrix)[1])
            np.testing.assert_allclose(got[i, j], expected - 1.5 * np.log(2 * np.pi), rtol=1e-12)
