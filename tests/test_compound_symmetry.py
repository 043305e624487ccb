"""``CompoundSymmetry``: both ends of the correlation, one observation, sums, sizes."""

from fractions import Fraction

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import interpreted

import pm_gaussgrad as gg
from pm_gaussgrad.cov.groups.compound_symmetry import ComponentSymmetry


@pytest.fixture(scope="module")
def compiled():
    """quad, logdet, solve and the gradient of quad - logdet; one function for all sizes."""
    y, v, rho = pt.dvector("y"), pt.dscalar("v"), pt.dscalar("rho")
    cov = gg.cov.CompoundSymmetry(v, rho)
    quad, logdet = cov.quad_logdet(y)
    gradient = pt.grad(quad - logdet, [v, rho])
    return interpreted([y, v, rho], [quad, logdet, cov.solve(y), *gradient])


@pytest.fixture(scope="module")
def by_components():
    y, own, common = pt.dvector("y"), pt.dscalar("own"), pt.dscalar("common")
    cov = gg.cov.CompoundSymmetry.from_components(own, common)
    quad, logdet = cov.quad_logdet(y)
    gradient = pt.grad(quad - logdet, [own, common])
    return interpreted([y, own, common], [quad, logdet, cov.solve(y), *gradient])


def _exactly(y, own, common):
    """quad, Sigma^-1 y and d(quad - logdet) / d(own, common) in rational arithmetic."""
    y, own, common, n = [*map(Fraction, y)], Fraction(own), Fraction(common), len(y)
    mean, between = sum(y) / n, own + n * common
    deviations = [x - mean for x in y]
    squares = sum(d * d for d in deviations)
    solved = [d / own + mean / between for d in deviations]
    d_between = -n * mean * mean / between**2 - 1 / between
    d_own = -squares / own**2 - (n - 1) / own + d_between
    quad = squares / own + n * mean * mean / between
    return float(quad), [float(s) for s in solved], d_own, n * d_between


@pytest.mark.parametrize("distance", [0.5, 1e-3, 1e-8, 2.0**-50])
@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_all_digits_near_correlation_one(compiled, distance, mean, rng):
    y, v, rho = rng.normal(size=7) + mean, 1.7, 1 - distance
    quad, _, solved, v_bar, rho_bar = compiled(y, v, rho)
    exact_v, exact_rho = Fraction(v), Fraction(rho)
    expected = _exactly(y, exact_v * (1 - exact_rho), exact_v * exact_rho)
    assert_allclose(quad, expected[0], rtol=1e-14)
    assert_allclose(solved, expected[1], rtol=1e-13, atol=1e-14 * np.abs(solved).max())
    d_own, d_common = expected[2:]
    d_v = (1 - exact_rho) * d_own + exact_rho * d_common
    assert_allclose(v_bar, float(d_v), rtol=1e-13)
    assert_allclose(rho_bar, float(exact_v * (d_common - d_own)), rtol=1e-13)


@pytest.mark.parametrize("own", [1.0, 1e-6, 1e-12])
def test_components_keep_all_digits(by_components, own, rng):
    """The correlation, 1 / (1 + own), would have rounded twelve digits of ``own`` away."""
    y = rng.normal(size=7) + 3.0
    quad, logdet, solved, *gradient = by_components(y, own, 1.0)
    expected = _exactly(y, own, 1.0)
    assert_allclose(quad, expected[0], rtol=1e-14)
    assert_allclose(logdet, 6 * np.log(own) + np.log(own + 7), rtol=1e-14)
    assert_allclose(solved, expected[1], rtol=1e-13)
    assert_allclose(gradient, [*map(float, expected[2:])], rtol=1e-13)


NO_COVARIANCE = [
    *[(1.0, 1.0), (1.0, 1.5), (1.0, -0.25), (1.0, -0.3), (0.0, 0.5), (-1.0, 0.5), (-1.0, 2.0)],
    *[(np.nan, 0.5), (1.0, np.nan), (np.inf, 0.5)],
]


@pytest.mark.parametrize(("v", "rho"), NO_COVARIANCE)
def test_no_covariance_has_no_logdet(compiled, v, rho):
    """Five observations: the correlation must exceed -1/4."""
    assert not np.isfinite(compiled(np.ones(5), v, rho)[1])


def test_just_above_the_least_correlation(compiled):
    quad, logdet, *_ = compiled(np.array([1.0, -1, 1, -1, 0]), 1.0, -0.25 + 2.0**-40)
    assert_allclose(quad, 4 / (1.25 - 2.0**-40), rtol=1e-14)
    assert_allclose(logdet, 4 * np.log(1.25 - 2.0**-40) - 38 * np.log(2), rtol=1e-14)


@pytest.mark.parametrize("rho", [0.3, 1.0, -7.0, np.nan])
def test_one_observation_has_no_correlation(compiled, rho):
    quad, logdet, solved, v_bar, rho_bar = compiled(np.array([3.0]), 2.0, rho)
    assert_allclose([quad, logdet, *solved], [4.5, np.log(2), 1.5])
    assert_allclose([v_bar, rho_bar], [-9 / 4 - 1 / 2, 0])


def test_one_observation_of_the_other_members():
    cov = gg.cov.CompoundSymmetry(4.0, 7.0, size=1)
    members = [cov.color([3.0]), cov.whiten([3.0]), cov.diagonal(), cov.inverse_diagonal()]
    assert_allclose([x[0] for x in interpreted([], members)()], [6.0, 1.5, 4.0, 0.25])


def test_memory_is_linear(compiled):
    """A million observations; a matrix of them would be 8 TB."""
    y = np.tile([1.0, -1.0], 500_000)
    quad, logdet, *_ = compiled(y, 2.0, 0.5)
    assert_allclose([quad, logdet], [1e6, np.log(0.5 * 1_000_001 * 2)], rtol=1e-12)


SYMMETRY = gg.cov.CompoundSymmetry(2.0, 0.25, size=4)
COMPONENTS = gg.cov.CompoundSymmetry.from_components(0.5, 1.0)
NOISE = gg.cov.Diagonal(0.3)


@pytest.mark.parametrize(
    ("total", "own", "common"),
    [
        (SYMMETRY + NOISE, 1.8, 0.5),
        (NOISE + SYMMETRY, 1.8, 0.5),
        (COMPONENTS + NOISE + SYMMETRY, 2.3, 1.5),
        (SYMMETRY + COMPONENTS, 2.0, 1.5),
        (SYMMETRY + SYMMETRY, 3.0, 1.0),
        (3 * (SYMMETRY + COMPONENTS), 6.0, 4.5),
    ],
)
def test_sums_close(total, own, common):
    assert type(total.resolved) is ComponentSymmetry
    assert total.size == 4
    members = [total.to_dense(), total.diagonal(), total.inverse_diagonal(), total.logdet()]
    members += [total.color(np.eye(4)), total.whiten(total.color(np.eye(4)))]
    dense, diagonal, inverse_diagonal, logdet, root, identity = interpreted([], members)()
    expected = own * np.eye(4) + common
    assert_allclose(dense, expected, rtol=1e-14)
    assert_allclose(diagonal, np.diag(expected), rtol=1e-14)
    assert_allclose(inverse_diagonal, np.diag(np.linalg.inv(expected)), rtol=1e-13)
    assert_allclose(logdet, np.linalg.slogdet(expected)[1], rtol=1e-13)
    assert_allclose(root, root.T)
    assert_allclose(root @ root, expected, rtol=1e-13)
    assert_allclose(identity, np.eye(4), atol=1e-14)


def test_sum_with_unequal_variances_does_not_close():
    with pytest.raises(TypeError, match="has no algorithm"):
        (SYMMETRY + gg.cov.Diagonal([1.0, 2.0, 1.0, 2.0])).plan()


def test_sizes():
    with pytest.raises(ValueError, match=r"sizes \[4, 3\] disagree"):
        SYMMETRY + gg.cov.Diagonal(1.0, size=3)
    unknown = gg.cov.CompoundSymmetry(2.0, 0.25)
    for member in (unknown.to_dense, unknown.logdet, unknown.diagonal, unknown.inverse_diagonal):
        with pytest.raises(ValueError, match="pass size="):
            member()


def test_components_by_jax(rng):
    """The JAX kernels of the components, which the registry does not reach."""
    jax = pytest.importorskip("jax")
    rows, weights = rng.normal(size=(3, 4)), rng.normal(size=3)
    with jax.enable_x64(True):
        for n in (4, 1):
            outputs = ComponentSymmetry.forward(rows[:, :n], 0.7, 0.4)
            by_jax = ComponentSymmetry.forward_jax(rows[:, :n], 0.7, 0.4)
            for got, expected in zip(by_jax, outputs, strict=True):
                assert_allclose(got, expected, rtol=1e-12)
            saved = (0.7, 0.4, *outputs[2:], weights, 0.3)
            expected = ComponentSymmetry.pullback(*saved)
            assert_allclose(ComponentSymmetry.pullback_jax(*saved), expected, rtol=1e-12)
