"""Conditional distributions against the dense formulas, for every structure."""

import functools

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import AS_WRITTEN, CASES, each, interpreted, is_index, positive_definite

import pm_gaussgrad as gg
from pm_gaussgrad.likelihood.missing import given_observed

# Entries of a joint distribution and how many of them are new.
N, N_NEW = 6, 2
ROWS = 3


def kriging(y, mu, sigma, mu_new, cross, new):
    """Conditional means of rows and covariance, by dense solves."""
    weights = np.linalg.solve(sigma, cross)
    return mu_new + (y - mu) @ weights, new - cross.T @ weights


def blocks(joint, new):
    """Sigma, cross-covariance and covariance of the new entries."""
    old = np.setdiff1d(np.arange(len(joint)), new)
    return joint[np.ix_(old, old)], joint[np.ix_(old, new)], joint[np.ix_(new, new)]


@functools.cache
def joint_case(case):
    """A joint covariance of this structure, positions at random, and its dense form."""
    rng = np.random.default_rng(len(case.name))
    cov = case.build(N, *map(pt.constant, case.values(rng, N)))
    new = np.sort(rng.choice(N, N_NEW, replace=False))
    return cov, new, interpreted([], cov.to_dense())()


@each(CASES)
def test_by_blocks(case, rng):
    cov, new, joint = joint_case(case)
    old = np.setdiff1d(np.arange(N), new)
    sigma, cross, cov_new = blocks(joint, new)
    y, mu, mu_new = rng.normal(size=(ROWS, N - N_NEW)), rng.normal(size=N - N_NEW), 0.7
    arguments = y, mu, gg.cov.marginal(cov, old), mu_new, cross
    mean, covariance = gg.condition(*arguments, cov_new)
    same_mean, variances = gg.condition(*arguments, np.diag(cov_new), diag=True)
    got = interpreted([], [mean, covariance.to_dense(), same_mean, variances])()
    expected_mean, expected = kriging(y, mu, sigma, mu_new, cross, cov_new)
    assert isinstance(covariance, gg.cov.Dense)
    for a, b in zip(got, [expected_mean, expected, expected_mean, np.diag(expected)], strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(got[1], got[1].T)


@each(CASES)
def test_by_positions(case, rng):
    """Means, variances and, as draws are linear in white noise, the covariance of draws."""
    cov, new, joint = joint_case(case)
    missing = np.isin(np.arange(N), new)
    entries = given_observed(cov, missing)
    residual = rng.normal(size=N)
    width = int(cov.noise_size(N))
    z = pt.matrix("z", shape=(width, width))
    filled, variances, draws = interpreted(
        [z], [entries.fill(pt.constant(residual)), entries.variances(), entries.draw(residual, z)]
    )(np.eye(width))
    mean, covariance = kriging(
        residual[~missing], 0, *blocks(joint, new)[:1], 0, *blocks(joint, new)[1:]
    )
    assert_allclose(filled[new], mean, rtol=1e-10, atol=1e-10)
    assert_allclose(variances[new], np.diag(covariance), rtol=1e-10, atol=1e-10)
    columns = draws[:, new] - mean
    assert_allclose(columns.T @ columns, covariance, rtol=1e-9, atol=1e-9)
    for rows in (filled, draws):
        assert_allclose(rows[..., ~missing], np.broadcast_to(residual, rows.shape)[..., ~missing])
    assert not variances[~missing].any()


@each(CASES)
def test_rows_that_miss_different_entries(case, rng):
    cov, _, joint = joint_case(case)
    missing = rng.random((ROWS, N)) < 0.4
    missing[0] = True
    entries = given_observed(cov, missing)
    residual = rng.normal(size=(ROWS, N))
    width = int(cov.noise_size(N))
    z = pt.tensor("z", shape=(width, ROWS, width))
    got = interpreted(
        [z], [entries.fill(pt.constant(residual)), entries.variances(), entries.draw(residual, z)]
    )
    noise = np.repeat(np.eye(width)[:, None], ROWS, axis=1)
    filled, variances, draws = got(noise)
    for i, gaps in enumerate(missing):
        sigma, cross, cov_new = blocks(joint, np.flatnonzero(gaps))
        mean, covariance = kriging(residual[i, ~gaps], 0, sigma, 0, cross, cov_new)
        assert_allclose(filled[i, gaps], mean, rtol=1e-10, atol=1e-10)
        assert_allclose(variances[i, gaps], np.diag(covariance), rtol=1e-10, atol=1e-10)
        columns = draws[:, i, gaps] - mean
        assert_allclose(columns.T @ columns, covariance, rtol=1e-9, atol=1e-9)


@each(CASES)
def test_batches(case, rng):
    """Covariances (2, ...), values (3, 2, n): the 3 are rows of each of the 2."""
    n = N - N_NEW
    values = case.values(rng, n, (2,))
    batch = case.build(n, *map(pt.constant, values))
    singles = [
        case.build(n, *(pt.constant(v if is_index(v) else v[b]) for v in values)) for b in range(2)
    ]
    cross, cov_new = rng.normal(size=(2, n, N_NEW)), 9 * np.stack([np.eye(N_NEW)] * 2)
    y = rng.normal(size=(ROWS, 2, n))

    def outputs(value, cov, cross, cov_new):
        mean, covariance = gg.condition(value, 0.0, cov, 0.0, cross, cov_new)
        return [
            mean,
            covariance.to_dense(),
            gg.condition(value, 0, cov, 0, cross, cov_new, diag=True)[1],
        ]

    common = outputs(y, batch, cross[0], cov_new[0])
    each_own = outputs(y, batch, cross, cov_new)
    graphs = [outputs(y[:, b], singles[b], cross[i], cov_new[i]) for i, b in ((0, 1), (1, 1))]
    flat = interpreted([], [*common, *each_own, *graphs[0], *graphs[1]], AS_WRITTEN)()
    for got, expected in ((flat[:3], flat[6:9]), (flat[3:6], flat[9:])):
        assert got[0].shape == (ROWS, 2, N_NEW)
        assert_allclose(got[0][:, 1], expected[0], rtol=1e-10, atol=1e-12)
        assert_allclose(got[1][1], expected[1], rtol=1e-10, atol=1e-12)
        assert_allclose(got[2][1], expected[2], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kernel", ["exponential", "squared exponential"])
def test_training_points_return_the_data(kernel, rng):
    """Without noise: the data, certain, to rounding times the condition number."""
    x = np.linspace(0, 10, 12)
    distance = np.abs(x[:, None] - x)
    K = np.exp(-distance if kernel == "exponential" else -0.5 * distance**2)
    y = rng.normal(size=(2, 12))
    mean, covariance = gg.condition(y, 1.0, K, 1.0, K, K)
    mean, covariance = interpreted([], [mean, covariance.to_dense()])()
    rounding = 10 * np.linalg.cond(K) * np.finfo(float).eps
    assert_allclose(mean, y, atol=rounding * np.abs(y).max())
    assert_allclose(covariance, 0, atol=rounding)
    assert rounding < 1e-10
    missing = np.arange(24) >= 12
    both = given_observed(gg.cov.Dense(np.tile(K, (2, 2))), missing)
    residual = pt.constant(np.tile(y - 1, 2))
    z = pt.constant(rng.normal(size=(2, 24)))
    filled, drawn = interpreted([], [both.fill(residual), both.draw(residual, z)])()
    assert_allclose(filled[:, 12:], y - 1, atol=rounding * np.abs(y).max())
    assert_allclose(drawn[:, 12:], y - 1, atol=10 * np.sqrt(rounding))


def test_new_entries_as_a_structure(rng):
    """Of the size that the cross-covariance says; a covariance that does not know its own."""
    cross, y = rng.normal(size=(3, 2)) / 4, rng.normal(size=3)
    noise, correlated = gg.cov.Diagonal(1.5), gg.cov.AR1(2.0, 0.5)
    _, covariance = gg.condition(y, 0.0, correlated, 0.0, cross, noise)
    _, variances = gg.condition(y, 0.0, correlated, 0.0, cross, noise, diag=True)
    sigma = 2 * 0.5 ** np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    expected = 1.5 * np.eye(2) - cross.T @ np.linalg.solve(sigma, cross)
    got = interpreted([], [covariance.to_dense(), variances])()
    assert_allclose(got[0], expected, rtol=1e-12)
    assert_allclose(got[1], np.diag(expected), rtol=1e-12)


@pytest.mark.parametrize(("n", "n_new"), [(1, 1), (3, 0), (1, 3)])
def test_edge_sizes(n, n_new, rng):
    sigma, cross = positive_definite(rng, n), rng.normal(size=(n, n_new))
    cov_new, y = 9 * np.eye(n_new), rng.normal(size=n)
    mean, covariance = gg.condition(y, 0.5, sigma, np.zeros(n_new), cross, cov_new)
    got = interpreted([], [mean, covariance.to_dense()])()
    for a, b in zip(got, kriging(y, 0.5, sigma, 0, cross, cov_new), strict=True):
        assert a.shape == b.shape
        assert_allclose(a, b, rtol=1e-12)


def test_float32(rng):
    x = np.arange(4, dtype="float32")
    K = np.exp(-np.abs(x[:, None] - x)).astype("float32")
    y = rng.normal(size=4).astype("float32")
    mean, variances = gg.condition(
        y, np.float32(0), K, np.float32(0), K[:, :2], np.diag(K)[:2], diag=True
    )
    assert (mean.dtype, variances.dtype) == ("float32", "float32")
    got = interpreted([], [mean, variances])()
    assert_allclose(got[0], y[:2], rtol=1e-4)
    assert_allclose(got[1], 0, atol=1e-6)


def test_gradient(rng):
    """Of mean and covariance with respect to a parameter of all blocks."""
    x, y = rng.uniform(0, 5, size=6), rng.normal(size=4)
    distance = np.abs(x[:, None] - x)
    scale = pt.scalar("scale")
    K = pt.exp(-distance / scale)
    mean, covariance = gg.condition(y, 0, K[:4, :4] + np.eye(4), 0, K[:4, 4:], K[4:, 4:])
    value = mean.sum() + (covariance.to_dense() * [[1, 2], [3, 4]]).sum()
    function = interpreted([scale], [value, pt.grad(value, scale)])
    step = 1e-4
    difference = (function(1.3 + step)[0] - function(1.3 - step)[0]) / (2 * step)
    assert_allclose(function(1.3)[1], difference, rtol=1e-6)


GOOD = {
    "value": np.zeros(3),
    "mu": 0.0,
    "cov": np.eye(3),
    "mu_new": np.zeros(2),
    "cross_cov": np.zeros((3, 2)),
    "cov_new": np.eye(2),
}


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"cross_cov": np.zeros((2, 3))}, ValueError, "transpose it"),
        ({"cross_cov": np.zeros((4, 2))}, ValueError, r"`value` is for 3 entries, expected 3 rows"),
        ({"cov": gg.cov.AR1(1.0, 0.5, size=4)}, ValueError, "`cov` is for 4 entries"),
        ({"mu": np.zeros(2)}, ValueError, "`mu` is for 2 entries"),
        ({"mu_new": np.zeros(3)}, ValueError, "expected 3 columns of `cross_cov`"),
        ({"cov_new": np.eye(4)}, ValueError, "`cov_new` is for 4 entries"),
        ({"cov_new": np.ones(2)}, TypeError, "`cov_new` has 1 dimension"),
        ({"cross_cov": np.zeros(3)}, TypeError, "`cross_cov` has 1 dimension"),
        ({"cross_cov": gg.cov.Diagonal(1.0)}, TypeError, "`cross_cov` is a gg.cov.Diagonal"),
        ({"value": "y"}, TypeError, "gg.condition: `value`"),
    ],
)
def test_errors(wrong, error, message):
    gg.condition(**GOOD)
    with pytest.raises(error, match=message):
        gg.condition(**{**GOOD, **wrong})
