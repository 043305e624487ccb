"""Posteriors by quadrature through ``LowRank``, ``Effects`` and ``RepeatedMeasures``.

Regression coefficients and random effects with normal priors are factors, their design matrix
times their standard deviation, and the covariance of the rats is common to all. The same posteriors
as through ``Dense`` and ``Diagonal`` in test_reference_posteriors.py, and two more.
"""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from reference_cases import read_json, require
from registry import interpreted
from scipy import stats

require("pdb_eight_schools", "pdb_sblri", "pdb_radon_mn", "pdb_rats")

from test_reference_low_rank import effects, indicator, row_densities
from test_reference_posteriors import grid, integrate, log_axis, rat_covariance, rat_table

import pm_gaussgrad as gg


def assert_moments(moments, expected, atol):
    """Mean and standard deviation, in units of the latter."""
    mean, sd = expected["mean"], expected["sd"]
    np.testing.assert_allclose((np.array(moments) - [mean, sd]) / sd, 0, atol=atol)


def test_eight_schools_without_mean():
    data, expected = read_json("pdb_eight_schools", "data.json"), read_json("pdb_eight_schools")
    axis = log_axis(1e-6, 1e4, 231)
    [tau] = grid(axis)
    variances = np.array(data["sigma"]) ** 2 + tau[:, None] ** 2
    cov = gg.cov.LowRank(np.full((8, 1), 5.0)) + gg.cov.Diagonal(variances)
    log_density = row_densities(data["y"], 0, cov) + stats.halfcauchy.logpdf(tau, scale=5)
    log_evidence, [moments] = integrate(log_density, axis)
    reference = expected["quadrature_info"]["log_evidence"]
    np.testing.assert_allclose(log_evidence, reference, atol=1e-4)
    assert_moments(moments, expected["quadrature"]["tau"], 1e-3)


def test_regression_without_coefficients():
    """beta ~ N(0, 10^2 I) integrated out; its means given sigma are 100 X' Sigma^-1 y."""
    data, expected = read_json("pdb_sblri", "data.json"), read_json("pdb_sblri")
    y, design = np.array(data["y"]), np.array(data["X"])
    axis = log_axis(0.5, 2, 80)
    [sigma] = grid(axis)
    cov = gg.cov.LowRank(10 * design) + gg.cov.Diagonal(sigma[:, None] ** 2, size=len(y))
    # The stored evidence has the normal density, without the 2 of its positive half.
    log_density = row_densities(y, 0, cov) + stats.norm.logpdf(sigma, scale=10)
    log_evidence, [moments] = integrate(log_density, axis)
    reference = expected["quadrature_info"]["log_evidence"]
    np.testing.assert_allclose(log_evidence, reference, atol=1e-4)
    assert_moments(moments, expected["quadrature"]["sigma"], 1e-3)
    summary = expected["summary"]["sigma"]
    assert abs(moments[0] - summary["mean"]) < 4 * summary["mcse_mean"]

    weights = np.exp(log_density - log_density.max()) * axis[1]
    given_sigma = 100 * cov.solve(y).eval(mode="FAST_COMPILE") @ design
    means = weights @ given_sigma / weights.sum()
    for j, mean in enumerate(means):
        reference = expected["quadrature"][f"beta[{j + 1}]"]
        np.testing.assert_allclose(mean, reference["mean"], atol=1e-3 * reference["sd"])


@pytest.fixture(scope="module")
def radon():
    """Log radon, its county's design matrix, log uranium, and the floor."""
    data = read_json("pdb_radon_mn", "data.json")
    y, uranium, floor = (np.array(data[k]) for k in ("log_radon", "log_uppm", "floor_measure"))
    return y, indicator(data["county_idx"]), uranium, floor.astype(float)


def legendre_axis(low, high, count):
    """Gauss-Legendre rule, for scales that may be zero."""
    points, weights = np.polynomial.legendre.leggauss(count)
    return low + (high - low) * (points + 1) / 2, weights * (high - low) / 2


def integrated(y, terms, fixed, axes, beyond=(0.0, 0)):
    """Log evidence and moments of scales with N+(0, 1) priors, the last that of the noise.

    ``beyond`` is a sum of squares of so many further observations, which hold noise alone.
    """
    scales = [pt.dscalar() for _ in axes]
    cov = effects(*zip(scales, terms, strict=False), (10.0, fixed))
    function = interpreted(scales, gg.logp(y, 0, cov + gg.cov.Diagonal(scales[-1] ** 2)))
    points = grid(*axes)
    log_density = np.array([function(*point) for point in zip(*points, strict=True)])
    log_density += sum(stats.halfnorm.logpdf(scale) for scale in points)
    variance = points[-1] ** 2
    log_density -= 0.5 * (beyond[0] / variance + beyond[1] * np.log(2 * np.pi * variance))
    return integrate(log_density, *axes)


def assert_radon(result, names, moments, log_evidence):
    np.testing.assert_allclose(result[0], log_evidence, atol=1e-3)
    for name, found in zip(names, result[1], strict=True):
        assert_moments(found, moments[name], 2e-3)


def test_varying_intercepts(radon):
    y, county, uranium, floor = radon
    fixed = np.column_stack([np.ones_like(y), uranium, floor])
    axes = legendre_axis(0, 0.45, 18), log_axis(0.62, 0.86, 11)
    result = integrated(y, [county], fixed, axes)
    expected = read_json("pdb_radon_mn")
    evidence = expected["quadrature_info"]["log_evidence"]
    assert_radon(result, ["sigma_alpha", "sigma_y"], expected["quadrature"], evidence)


@pytest.mark.compiled
def test_varying_intercepts_and_slopes(radon):
    """In the coordinates that the effects reach; the others hold noise alone."""
    y, county, _, floor = radon
    terms = [county, floor[:, None] * county]
    basis, singular_values, _ = np.linalg.svd(np.column_stack(terms), full_matrices=False)
    basis = basis[:, singular_values > 1e-8]
    reached = basis.T @ y
    result = integrated(
        reached,
        [basis.T @ term for term in terms],
        basis.T @ np.column_stack([np.ones_like(y), floor]),
        (log_axis(0.15, 0.65, 10), legendre_axis(0, 0.9, 16), log_axis(0.62, 0.84, 10)),
        (y @ y - reached @ reached, len(y) - len(reached)),
    )
    expected = read_json("pdb_radon_mn")["quadrature_variable_intercept_slope"]
    names = ["sigma_alpha", "sigma_beta", "sigma_y"]
    assert_radon(result, names, expected["summary"], expected["log_evidence"])


@pytest.mark.compiled
def test_varying_intercepts_and_slopes_of_all_observations(radon):
    """Through ``Effects``, those that are fixed with a covariance that is."""
    (y, member, _, floor), scales = radon, pt.dscalars("intercepts", "slopes", "noise")
    county, floor = member.argmax(axis=1), floor[:, None]
    of_intercepts, of_slopes, noise = scales
    fixed = np.column_stack([np.ones_like(floor), floor])
    cov = (
        gg.cov.Effects(county, of_intercepts**2)
        + gg.cov.Effects(county, of_slopes**2, floor)
        + gg.cov.Effects(np.zeros(len(y)), 100 * np.eye(2), fixed)
        + gg.cov.Diagonal(noise**2)
    )
    function = pytensor.function(scales, gg.logp(y, 0.0, cov), mode="NUMBA")
    axes = log_axis(0.15, 0.65, 10), legendre_axis(0, 0.9, 16), log_axis(0.62, 0.84, 10)
    points = grid(*axes)
    log_density = np.array([function(*point) for point in zip(*points, strict=True)])
    log_density += sum(stats.halfnorm.logpdf(scale) for scale in points)
    expected = read_json("pdb_radon_mn")["quadrature_variable_intercept_slope"]
    names = ["sigma_alpha", "sigma_beta", "sigma_y"]
    result = integrate(log_density, *axes)
    assert_radon(result, names, expected["summary"], expected["log_evidence"])


# The growth of thirty rats, of BUGS, through ``RepeatedMeasures``.


def test_rats_by_quadrature(rng):
    """Flat scales on a grid, one batch of covariances; the means integrated out.

    The means enter the sum of the rats' rows and no contrast of them, which are independent.
    """
    y, days = rat_table()
    contrasts = np.linalg.qr(np.column_stack([np.ones(30), np.eye(30)[:, 1:]]))[0].T @ y
    rat, visit = np.divmod(rng.permutation(29 * 5), 5)
    axes = log_axis(5, 45, 16), log_axis(0.1, 1.7, 16), log_axis(3.8, 10, 16)
    scales = [pt.dvector() for _ in axes]
    within = rat_covariance(days, *(s[:, None, None] for s in scales))
    common = 30 * 100**2 * (1 + np.outer(days, days))
    free = gg.cov.RepeatedMeasures(within, rat, visit).logp(contrasts[1:][rat, visit])
    log_density = free + gg.logp(contrasts[0], 0, gg.cov.Dense(within + common))
    log_evidence, moments = integrate(interpreted(scales, log_density)(*grid(*axes)), *axes)

    expected = read_json("pdb_rats")
    stored = expected["quadrature_info"]["log_evidence_flat_sigmas"]
    np.testing.assert_allclose(log_evidence, stored, atol=1e-4)
    for name, (mean, sd) in zip(("alpha", "beta", "y"), moments, strict=True):
        reference = expected["quadrature"][f"sigma_{name}"]
        np.testing.assert_allclose(mean, reference["mean"], rtol=0, atol=1e-3 * reference["sd"])
        np.testing.assert_allclose(sd, reference["sd"], rtol=1e-3)
