"""What is particular to ``Kronecker``: repeated eigenvalues, singular factors, sizes, sums."""

import pickle
import tracemalloc
from functools import reduce

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from registry import INTERPRETED, interpreted, positive_definite

import pm_gaussgrad as gg
from pm_gaussgrad.ops import FactorProduct


def _dense(*factors, noise=0.0):
    product = reduce(np.kron, factors)
    return product + noise * np.eye(len(product))


@pytest.fixture(scope="module")
def evaluate():
    """``(y, a, b, noise) -> logp, (da, db, dnoise)`` of two factors with noise."""
    y, a, b, noise = pt.dvector("y"), pt.dmatrix("a"), pt.dmatrix("b"), pt.dscalar("noise")
    logp = gg.logp(y, 0.0, gg.cov.Kronecker(a, b) + gg.cov.Diagonal(noise))
    function = interpreted([y, a, b, noise], [logp, *pt.grad(logp, [a, b, noise])])

    def split(*arguments):
        value, *gradients = function(*arguments)
        return value, gradients

    return split


@pytest.mark.parametrize("noise", [None, 0.4])
def test_three_factors_one_of_them_a_structure(noise, rng):
    a, b, variance = positive_definite(rng, 2), positive_definite(rng, 3), np.array([0.5, 2.0])
    y = rng.normal(size=12)
    factor, diagonal = pt.dmatrix("factor"), pt.dvector("diagonal")
    cov = gg.cov.Kronecker(a, (factor + factor.mT) / 2, gg.cov.Diagonal(diagonal))
    if noise:
        cov = cov + gg.cov.Diagonal(noise)
    results = []
    for logp in (gg.logp(y, 0.1, cov), gg.logp(y, 0.1, gg.cov.Dense(cov.to_dense()))):
        outputs = [logp, *pt.grad(logp, [factor, diagonal]), cov.color(y), cov.to_dense()]
        results.append(interpreted([factor, diagonal], outputs)(b, variance))
    got, expected = results
    assert_allclose(got[-1], _dense(a, b, np.diag(variance), noise=noise or 0), rtol=1e-12)
    for x, other in zip(got, expected, strict=True):
        assert_allclose(x, other, rtol=1e-9, atol=1e-12)


def test_gradient_with_repeated_eigenvalues(evaluate, rng):
    """Of compound symmetry, against 4th-order differences; pm.KroneckerNormal's is NaN.

    That of pm.KroneckerNormal is shown in tests/test_gradient.py.
    """
    y, a, rho, step = rng.normal(size=24), positive_definite(rng, 4), 0.4, 1e-3

    def symmetric(rho):
        return (1 - rho) * np.eye(6) + rho

    moved = [evaluate(y, a, symmetric(rho + i * step), 0.3)[0] for i in (-2, -1, 1, 2)]
    differences = np.array([1, -8, 8, -1]) @ moved / (12 * step)
    _, (_, factor_bar, _) = evaluate(y, a, symmetric(rho), 0.3)
    assert_allclose((factor_bar * (1 - np.eye(6))).sum(), differences, rtol=1e-8)


@pytest.mark.parametrize("factor", [np.eye(3), np.zeros((3, 3)), np.ones((3, 3))], ids=str)
def test_singular_factors_beside_noise(evaluate, factor, rng):
    a, y, noise = positive_definite(rng, 2), rng.normal(size=6), 0.7
    sigma = _dense(a, factor, noise=noise)
    alpha = np.linalg.solve(sigma, y)
    sigma_bar = 0.5 * (np.outer(alpha, alpha) - np.linalg.inv(sigma))
    blocks = sigma_bar.reshape(2, 3, 2, 3)
    value, gradients = evaluate(y, a, factor, noise)
    logdet = np.linalg.slogdet(sigma)[1]
    assert_allclose(value, -0.5 * (y @ alpha + logdet + 6 * np.log(2 * np.pi)), rtol=1e-11)
    expected = [
        np.einsum("abcd,bd->ac", blocks, factor),
        np.einsum("abcd,ac->bd", blocks, a),
        np.trace(sigma_bar),
    ]
    for got, wanted in zip(gradients, expected, strict=True):
        assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("factor", "noise"),
    [
        (-np.eye(3), 0.5),
        (np.ones((3, 3)), -1e-3),
        (np.full((3, 3), np.nan), 1.0),
        (np.eye(3), np.inf),
    ],
)
def test_not_a_covariance(evaluate, factor, noise):
    """Not positive definite or not finite: density zero, gradient zero, nothing raised."""
    value, gradients = evaluate(np.ones(6), np.eye(2), factor, noise)
    assert value == -np.inf
    for gradient in gradients:
        assert_array_equal(gradient, 0)


def test_only_lower_triangles_are_read(evaluate, rng):
    a, b, y = positive_definite(rng, 2), positive_definite(rng, 3), rng.normal(size=6)
    other = b + np.triu(rng.normal(size=(3, 3)), 1)
    assert evaluate(y, a, other, 0.3)[0] == evaluate(y, a, b, 0.3)[0]


def test_factors_that_are_not_positive_definite_have_density_zero_without_noise():
    cov = gg.cov.Kronecker(np.eye(2), np.ones((3, 3)))
    assert interpreted([], cov.logp(np.ones(6)))() == -np.inf


def test_one_batch_broadcasts_over_the_other_factors(rng):
    batch = np.stack([positive_definite(rng, 2) for _ in range(4)])
    b, y = positive_definite(rng, 3), rng.normal(size=(4, 6))
    cov = gg.cov.Kronecker(batch, b) + gg.cov.Diagonal(0.3)
    value, dense, drawn = interpreted([], [cov.logp(y), cov.to_dense(), cov.color(y)])()
    assert_allclose(dense, [_dense(a, b, noise=0.3) for a in batch], rtol=1e-12)
    for i in range(4):
        each = gg.cov.Dense(_dense(batch[i], b, noise=0.3))
        assert_allclose(value[i], interpreted([], each.logp(y[i]))(), rtol=1e-10)
        norm = drawn[i] @ np.linalg.solve(dense[i], drawn[i])
        assert_allclose(norm, y[i] @ y[i], rtol=1e-10)


def test_many_matrices_with_a_common_mean(rng):
    """The scatter of 40 constant rows takes their place; the sum stays what it was."""
    a, b, y = positive_definite(rng, 2), positive_definite(rng, 3), rng.normal(size=(40, 6))
    mean = pt.dscalar("mean")
    rows = gg.logp(y, mean, gg.cov.Kronecker(a, b) + gg.cov.Diagonal(0.2))
    each, total = interpreted([mean], rows)(0.3), interpreted([mean], rows.sum())(0.3)
    assert each.shape == (40,)
    assert_allclose(total, each.sum(), rtol=1e-12)


def test_derivative_of_a_product_along_an_axis(rng):
    rows, matrix = rng.normal(size=(2, 6)), rng.normal(size=(2, 3))
    pytensor.gradient.verify_grad(FactorProduct(), [rows, matrix], rng=rng, mode=INTERPRETED)


def test_a_product_of_products_is_one_product():
    a, b, c = (pt.dmatrix(name) for name in "abc")
    nested = gg.cov.Kronecker(gg.cov.Kronecker(a, b), c)
    assert nested.parameters == gg.cov.Kronecker(a, b, c).parameters == (a, b, c)
    noisy = gg.cov.Kronecker(a, b) + gg.cov.Diagonal(1.0)
    assert len(gg.cov.Kronecker(noisy, c).parameters) == 2


def test_noise_adds_up():
    cov = gg.cov.Kronecker(2 * np.eye(2), np.eye(3)) + gg.cov.Diagonal(0.5, size=6)
    cov = 2 * (gg.cov.Diagonal(0.25, size=pt.lscalar()) + cov)
    assert_allclose(interpreted([], cov.to_dense())(), 5.5 * np.eye(6))
    assert_allclose(interpreted([], cov.parameters[-1])(), 1.5)


def test_a_draw_of_a_large_grid_needs_little_memory(rng):
    """90,000 observations: n x n would be 65 GB."""
    x = np.linspace(0, 1, 300)
    factor = np.exp(-np.abs(x[:, None] - x) / 0.3)
    z = pt.dvector("z")
    function = interpreted([z], (gg.cov.Kronecker(factor, factor) + gg.cov.Diagonal(0.1)).color(z))
    tracemalloc.start()
    drawn = function(rng.normal(size=90_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.isfinite(drawn).all()
    assert peak < 50e6


def test_the_number_of_factors_is_a_fact_of_the_structure():
    """Products of as many factors have one form, and one compiled kernel."""
    cov = gg.cov.Kronecker(*[np.eye(2)] * 3)
    assert cov.structure == gg.cov.Kronecker(*[np.eye(3)] * 3).structure
    assert cov.structure != gg.cov.Kronecker(*[np.eye(2)] * 2).structure
    assert pickle.loads(pickle.dumps(cov.structure)) == cov.structure
    assert list(cov.structure.parameter_shapes.values()) == ["n_0 n_0", "n_1 n_1", "n_2 n_2"]


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: gg.cov.Kronecker(), TypeError, "found no factor, expected at least one"),
        (lambda: gg.cov.Kronecker(np.eye(2), 3.0), TypeError, r"`factors\[1\]` has 0 dim"),
        (lambda: gg.cov.Kronecker([1.0, 2.0], np.eye(3)), TypeError, r"pass gg.cov.Diagonal\(v\)"),
        (lambda: gg.cov.Kronecker(np.ones((2, 3))), ValueError, r"`factors\[0\]` has shape"),
        (
            lambda: (gg.cov.Kronecker(np.eye(2), np.eye(3)) + gg.cov.Diagonal(np.ones(6))).plan(),
            TypeError,
            "Kronecker . gg.cov.Diagonal.vector. has no algorithm",
        ),
        (
            lambda: gg.cov.Kronecker(np.eye(2), np.eye(3)) + gg.cov.Diagonal(1.0, size=5),
            ValueError,
            r"the sizes \[6, 5\] disagree",
        ),
        (
            lambda: gg.cov.Kronecker(np.eye(2), np.eye(3)).logp(np.ones(5)),
            ValueError,
            "expected n = 6 in the last dimension",
        ),
    ],
)
def test_errors(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_sizes_that_disagree_at_run_time(evaluate):
    with pytest.raises(ValueError, match="n must be the product of the factors' sizes"):
        evaluate(np.ones(5), np.eye(2), np.eye(3), 1.0)
    with pytest.raises(ValueError, match="disagree in n_1"):
        evaluate(np.ones(6), np.eye(2), np.ones((3, 2)), 1.0)
