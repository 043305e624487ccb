"""Singular up to rounding is -inf always; ill-conditioned and right stays right."""

import functools
import math
from fractions import Fraction

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from registry import BACKENDS, interpreted

import pm_gaussgrad as gg
from pm_gaussgrad.ops import InvQuadLogdet


def _graph(rng, n, kind):
    """Weights of the neighbours in a connected graph, in no order."""
    weights = np.zeros((n, n))
    if kind == "path":
        weights[range(n - 1), range(1, n)] = 1
    elif kind == "star":
        weights[0, 1:] = 1
    elif kind == "complete":
        weights[np.triu_indices(n, 1)] = 1
    else:  # a random tree, some more neighbours, unequal weights
        for i in range(1, n):
            weights[rng.integers(i), i] = 1
        weights = np.triu(np.maximum(weights, rng.uniform(size=(n, n)) < 2 / n), 1)
        weights *= rng.uniform(0.1, 3, size=(n, n))
    order = rng.permutation(n)
    return (weights + weights.T)[order][:, order]


def _intrinsic(rng, n, kind):
    """The precision of an intrinsic autoregression."""
    weights = _graph(rng, n, kind)
    return (np.diag(weights.sum(axis=1)) - weights) * np.exp(3 * rng.normal())


def _product(rng, n, rank, common=0.0):
    """A A' with A (n, rank), in units that differ."""
    factor = rng.normal(size=(n, rank)) + common * rng.normal(size=rank)
    factor *= np.exp(3 * rng.normal(size=(n, 1)))
    return factor @ factor.T


def _repeated_input(rng, n):
    """A Matern-5/2 covariance where two inputs are one."""
    x = rng.uniform(0, n, size=n)
    x[rng.integers(1, n)] = x[0]
    distance = np.sqrt(5) * np.abs(x[:, None] - x) / rng.uniform(0.5, 2)
    return (1 + distance + distance**2 / 3) * np.exp(-distance)


def _two_weak_directions(rng, n):
    """A singular block beside one that is nearly so, and right."""
    matrix = np.eye(n)
    matrix[:2, :2] = [[1, 1 - 1e-9], [1 - 1e-9, 1]]
    matrix[2:, 2:] = _product(rng, n - 2, max(n - 3, 1))
    order = rng.permutation(n)
    return matrix[order][:, order] if n > 3 else _product(rng, n, n - 1)


def _singular(rng, n):
    yield from (_intrinsic(rng, n, kind) for kind in ("path", "star", "complete", "random"))
    yield from (_product(rng, n, rank) for rank in {1, max(1, n // 2), max(1, n - 2), n - 1})
    yield _product(rng, n, n - 1, common=3.0)
    yield _repeated_input(rng, n)
    yield _two_weak_directions(rng, n)


@functools.cache
def _compiled(structure, backend):
    y, matrix = pt.vector("y"), pt.matrix("matrix")
    value = gg.logp(y, 0.0, structure(matrix))
    return pytensor.function([y, matrix], [value, pt.grad(value, matrix)], mode=BACKENDS[backend])


@pytest.mark.parametrize(
    ("backend", "sizes", "repeats"),
    [("py", (2, 3, 5, 10, 40), 60), ("py", (200,), 3), ("numba", (3, 13), 10), ("jax", (4,), 20)],
)
@pytest.mark.parametrize("structure", [gg.cov.Dense, gg.cov.Precision])
def test_singular_is_minus_infinity(structure, backend, sizes, repeats, rng):
    function = _compiled(structure, backend)
    for n in sizes:
        y = rng.normal(size=n)
        for matrix in (m for _ in range(repeats) for m in _singular(rng, n)):
            value, gradient = function(y, matrix)
            assert value == -np.inf
            assert_array_equal(gradient, np.zeros((n, n)))


@pytest.mark.parametrize("structure", [gg.cov.Dense, gg.cov.Precision])
def test_constant_that_is_singular(structure, rng):
    """Constants are folded: factored when the graph is rewritten."""
    y, fold = pt.vector("y"), structure.constant_form
    for n in (3, 10):
        for matrix in _singular(rng, n):
            folded, arrays = fold(matrix)
            outputs = InvQuadLogdet(folded).evaluate(np.ones((1, n)), *map(np.asarray, arrays))
            assert not np.isfinite(outputs[1])
    constant = _intrinsic(rng, 5, "star")
    assert interpreted([y], structure(constant).logp(y))(np.ones(5)) == -np.inf
    with pytest.raises(ValueError, match="not positive definite"):
        gg.logp(y, 0.0, structure(constant))


SINGULAR_PARTS = {
    "Kronecker": lambda m: gg.cov.Kronecker(np.eye(2), m),
    "NoisyKronecker": lambda m: gg.cov.Kronecker(np.eye(2), m) + gg.cov.Diagonal(0.0, size=6),
    "KroneckerPair": lambda m: (
        gg.cov.Kronecker(np.eye(2), m) + gg.cov.Kronecker(np.diag([0.0, 1.0]), np.eye(3))
    ),
    "RepeatedMeasures": lambda m: gg.cov.RepeatedMeasures(
        m, [0, 0, 0, 1, 1, 2], [0, 1, 2, 0, 1, 0]
    ),
    "BlockDiagonal": lambda m: gg.cov.BlockDiagonal(np.eye(3), gg.cov.Dense(m)),
}


# On JAX a BlockDiagonal is a graph of the parts, which are tested.
BY_BACKEND = [(name, "py") for name in SINGULAR_PARTS]
BY_BACKEND += [(name, "jax") for name in SINGULAR_PARTS if name != "BlockDiagonal"]


@pytest.mark.parametrize(("name", "backend"), BY_BACKEND)
def test_singular_part(name, backend, rng):
    matrix = pt.tensor("matrix", shape=(3, 3))
    value = gg.logp(np.ones(6), 0.0, SINGULAR_PARTS[name](matrix))
    function = pytensor.function([matrix], [value, pt.grad(value, matrix)], mode=BACKENDS[backend])
    assert np.isfinite(function(np.eye(3) + 0.5)[0])
    for singular in (m for _ in range(30) for m in _singular(rng, 3)):
        if name == "NoisyKronecker":  # eigenvalues do see the units
            scale = np.sqrt(np.diag(singular))
            singular = singular / scale[:, None] / scale
        value, gradient = function(singular)
        assert value == -np.inf
        assert_array_equal(gradient, np.zeros((3, 3)))


@pytest.mark.parametrize("backend", ["py", "jax"])
def test_singular_series(backend, rng):
    """Sums of q < n / 2 cosines are autocovariances of rank 2 q."""
    column, n = pt.tensor("column", shape=(7,)), 7
    value = gg.logp(np.ones(n), 0.0, gg.cov.Toeplitz(column))
    function = pytensor.function([column], [value, pt.grad(value, column)], mode=BACKENDS[backend])
    for i in range(100):
        frequencies = rng.uniform(0, np.pi, size=(1 + i % 3, 1))
        weights = rng.uniform(0.5, 2, size=frequencies.shape)
        value, gradient = function((weights * np.cos(frequencies * np.arange(n))).sum(axis=0))
        assert value == -np.inf
        assert_array_equal(gradient, np.zeros(n))


def _log_determinant_of_hilbert(n):
    """Of the matrix 1 / (i + j + 1): c_n^4 / c_2n, c_n the product of i! for i < n."""

    def product(m):
        return math.prod(math.factorial(i) for i in range(m))

    exact = Fraction(product(n) ** 4, product(2 * n))
    return math.log(exact.numerator) - math.log(exact.denominator)


@pytest.mark.parametrize("structure", [gg.cov.Dense, gg.cov.Precision])
@pytest.mark.parametrize("n", [4, 8, 10])
def test_hilbert_matrix(structure, n):
    """Condition numbers up to 1e13; the error of a log determinant is n cond eps at most."""
    index = np.arange(n)
    hilbert = 1.0 / (index[:, None] + index + 1)
    sign = 1 if structure is gg.cov.Dense else -1
    value = _compiled(structure, "py")(np.zeros(n), hilbert)[0]
    expected = -0.5 * (sign * _log_determinant_of_hilbert(n) + n * np.log(2 * np.pi))
    assert abs(value - expected) < n * np.linalg.cond(hilbert) * np.finfo(float).eps


@pytest.mark.parametrize("backend", ["py", "jax"])
@pytest.mark.parametrize("n", [2, 20, 300])
def test_nearly_repeated_observation(n, backend, rng):
    """A pair with correlation 1 - 2e-14, condition number 1e14, in units that differ."""
    scales = np.exp(5 * rng.normal(size=n))
    rho = 1 - 2e-14
    matrix = np.eye(n)
    matrix[0, -1] = matrix[-1, 0] = rho
    value, gradient = _compiled(gg.cov.Dense, backend)(
        np.zeros(n), matrix * scales[:, None] * scales
    )
    logdet = np.log1p(-(rho**2)) + 2 * np.log(scales).sum()
    assert_allclose(value, -0.5 * (logdet + n * np.log(2 * np.pi)), atol=0.02)
    assert np.isfinite(gradient).all()


def test_noise_above_the_rounding_of_the_signal(rng):
    """A singular factor is fine with noise of 1e-12 of its variance."""
    factor = np.ones((3, 3))
    cov = gg.cov.Kronecker(factor, factor) + gg.cov.Diagonal(1e-12, size=9)
    assert_allclose(cov.logdet().eval(), np.log(9) + 8 * np.log(1e-12), rtol=1e-4)
