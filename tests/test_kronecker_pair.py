"""Sums of two Kronecker products: repeated eigenvalues, singular factors, units, what closes."""

import itertools
from functools import reduce

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pytensor.graph.traversal import graph_inputs
from registry import AS_WRITTEN, interpreted, positive_definite

import pm_gaussgrad as gg
from pm_gaussgrad.cov.grids.kronecker import NoisyKronecker
from pm_gaussgrad.cov.grids.kronecker_pair import KroneckerPair
from pm_gaussgrad.ops import InvQuadLogdet, InvQuadLogdetPullback

SIZES = (3, 4)
KERNEL = np.exp(-0.005 * np.subtract.outer(np.arange(6), np.arange(6)) ** 2)  # condition 5e11


def _evaluate(y, factors, others):
    """quad, logdet, alpha, and the cotangents of the factors for quad + logdet, by the kernels."""
    cov = KroneckerPair.from_parameters(*factors, *others)
    given = y[None], *factors, *others
    quad, logdet, alpha, *saved = InvQuadLogdet(cov.structure).evaluate(*given)
    pull = InvQuadLogdetPullback(cov.structure)
    bars = pull.evaluate(*given, alpha, *saved, np.ones(1), np.array(1.0))
    return quad[0], logdet, alpha[0], bars


def _sigma_bar_on_factors(sigma_bar, factors, others):
    """The adjoint of the definition, written out."""
    shape = [len(x) for x in factors]
    for term in (factors, others):
        for j in range(len(term)):
            bar = sigma_bar.reshape(*shape, *shape)
            for i in reversed(range(len(term))):
                if i != j:  # contract the other axes, the last first
                    bar = np.tensordot(bar, term[i], ((i, i + bar.ndim // 2), (0, 1)))
            yield bar


def _dense(y, factors, others):
    sigma = reduce(np.kron, factors) + reduce(np.kron, others)
    inverse = np.linalg.inv(sigma)
    alpha = inverse @ y
    sigma_bar = inverse - np.outer(alpha, alpha)
    bars = _sigma_bar_on_factors(sigma_bar, factors, others)
    return y @ alpha, np.linalg.slogdet(sigma)[1], alpha, list(bars)


def _assert_close(got, expected, rtol):
    for x, wanted in zip([*got[:3], *got[3]], [*expected[:3], *expected[3]], strict=True):
        assert_allclose(x, wanted, rtol, rtol * np.abs(wanted).max())


def _of(rng, *given):
    """Matrices as they are; of a size, a positive definite one."""
    return [positive_definite(rng, x) if isinstance(x, int) else np.asarray(x) for x in given]


PAIRS = {
    "noise by task": ((3, 4), (np.diag([0.1, 1.0, 2.0]), np.eye(4))),
    "noise, one variance": ((3, 4), (0.3 * np.eye(3), np.eye(4))),
    "equal eigenvalues": ((np.eye(3) / 2 + 0.5, np.eye(4)), (np.diag([1.0, 1.0, 2.0]), np.eye(4))),
    "shared factor": ((3, np.eye(4) + 0.5), (3, np.eye(4) + 0.5)),
    "K singular": ((np.ones((3, 3)), np.zeros((4, 4))), (3, 4)),
    "R singular": ((3, 4), (np.ones((3, 3)), np.diag([0.0, 0.0, 1.0, 2.0]))),
    "a task without noise": ((3, 4), (np.diag([0.0, 1.0, 2.0]), np.eye(4))),
    "both of a pair": ((np.diag([1.0, 0.0, 2.0]), 4), (np.diag([0.0, 3.0, 1.0]), 4)),
    "one factor each": ((4,), (4,)),
    "three factors": ((2, 3, 2), (2, 3, 2)),
    "one of a size": ((1, 4), (1, 4)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_against_dense_algebra(name, rng):
    factors, others = (_of(rng, *given) for given in PAIRS[name])
    y = rng.normal(size=np.prod([len(x) for x in factors]))
    _assert_close(_evaluate(y, factors, others), _dense(y, factors, others), 1e-11)


@pytest.mark.parametrize("scale", [1e-8, 1e8, 1e100])
def test_any_units(scale, rng):
    """Of one trait, and of the factors within each product."""
    factors, others, y = _of(rng, *SIZES), _of(rng, *SIZES), rng.normal(size=12)
    units = np.array([1.0, scale, 3.0])
    each, pair = np.repeat(units, 4), np.outer(units, units)
    quad, logdet, alpha, bars = _evaluate(y, factors, others)
    moved = [scale * pair * factors[0], factors[1] / scale]
    other_moved = [pair * others[0] / scale, scale * others[1]]
    got = _evaluate(each * y, moved, other_moved)
    units_of_bars = [1 / (scale * pair), scale, scale / pair, 1 / scale]
    assert_allclose(got[:2], [quad, logdet + 8 * np.log(scale * 3)], rtol=1e-11)
    assert_allclose(got[2] * each, alpha, rtol=1e-11, atol=1e-12)
    for bar, wanted, unit in zip(got[3], bars, units_of_bars, strict=True):
        assert_allclose(bar / unit, wanted, rtol=1e-11, atol=1e-11)


ILL_CONDITIONED = {
    "little noise": (1e-10 * np.diag([1.0, 2.0]), np.eye(6)),
    "tasks with little": (np.diag([1.0, 1e-9]), np.eye(6)),
    "smooth noise": (np.eye(2), KERNEL**0.5 * 1e-6),
}


@pytest.mark.parametrize("name", ILL_CONDITIONED)
def test_against_fifty_digits(name, rng):
    mpmath = pytest.importorskip("mpmath")
    factors, others = _of(rng, 2, KERNEL), ILL_CONDITIONED[name]
    y = rng.normal(size=12)
    with mpmath.workdps(50):
        terms = [[x.astype(object) * mpmath.mpf(1) for x in term] for term in (factors, others)]
        sigma = mpmath.matrix((np.kron(*terms[0]) + np.kron(*terms[1])).tolist())
        inverse = np.array((sigma**-1).tolist(), dtype=object)
        alpha = inverse @ y
        bars = list(_sigma_bar_on_factors(inverse - np.outer(alpha, alpha), *terms))
        exact = y @ alpha, mpmath.log(mpmath.det(sigma)), alpha, bars
        quad, logdet, alpha, bars = [np.asarray(x, dtype=float) for x in exact[:3]] + [bars]
    bars = [bar.astype(float) for bar in bars]
    condition = np.linalg.cond(np.array(sigma.tolist(), dtype=float))
    assert condition > 1e8
    got = _evaluate(y, factors, others)
    _assert_close(got, (quad, logdet, alpha, bars), 100 * np.finfo(float).eps * condition)


def _singular_sums(rng):
    """Of products of a definite factor, a singular one in units that differ, and their likes."""
    rows = np.exp(3 * rng.normal(size=(4, 1))) * rng.normal(size=(4, rng.integers(1, 4)))
    singular, ones, zeros = rows @ rows.T, np.ones((3, 3)), np.zeros((3, 3))
    yield _of(rng, 3, singular), _of(rng, zeros, 4)
    yield _of(rng, 3, singular), _of(rng, np.diag([1.0, 0.0, 2.0]), 4)
    yield _of(rng, 3, singular), _of(rng, 3, 3 * singular)
    yield _of(rng, 3, singular), _of(rng, ones, 4)
    yield _of(rng, ones, singular), _of(rng, np.eye(3), singular)
    yield _of(rng, ones, 4), _of(rng, ones, 4)


def test_singular_is_minus_infinity(rng):
    """Singular up to rounding, whichever factors are: no density, and no gradient."""
    tensors = [pt.tensor(name, shape=(n, n)) for n, name in zip(SIZES * 2, "abcd", strict=True)]
    value = gg.logp(
        np.ones(12), 0.0, gg.cov.Kronecker(*tensors[:2]) + gg.cov.Kronecker(*tensors[2:])
    )
    function = interpreted(tensors, [value, *pt.grad(value, tensors)])
    for factors, others in (x for _ in range(30) for x in _singular_sums(rng)):
        value, *gradient = function(*factors, *others)
        assert value == -np.inf
        for bar in gradient:
            assert_array_equal(bar, np.zeros_like(bar))


def test_constants_that_are_singular():
    """Refused where a density is built: what both have in common, and what the sum has not."""
    singular, noise = np.ones((3, 3)), np.diag([1.0, 0.0])
    scale = pt.dscalar("scale")
    common = gg.cov.Kronecker(scale * np.eye(2), singular) + gg.cov.Kronecker(noise, 2 * singular)
    with pytest.raises(
        ValueError, match=r"`the sum of both factors\[1\]` is not positive definite"
    ):
        gg.logp(np.ones(6), 0.0, common)
    mixed = gg.cov.Kronecker(np.eye(2), singular) + gg.cov.Kronecker(noise, np.eye(3))
    with pytest.raises(ValueError, match=r"the constants .*make no covariance with a density"):
        gg.logp(np.ones(6), 0.0, mixed)


def test_noise_of_one_variance_is_the_scalar_diagonal(rng):
    """The special case that has kernels of its own."""
    a, b = _of(rng, *SIZES)
    y, s = rng.normal(size=(2, 12)), pt.dscalar("s")
    noisy = gg.cov.Kronecker(a, b) + gg.cov.Diagonal(s)
    pair = gg.cov.Kronecker(a, b) + gg.cov.Kronecker(
        gg.cov.Diagonal(s, size=3), gg.cov.Diagonal(1.0, size=4)
    )
    outputs = []
    for cov in (pair, noisy):
        value = cov.logp(y).sum()
        outputs += [value, pt.grad(value, s), *cov.leave_one_out(y), cov.diagonal()]
    found = interpreted([s], outputs)(0.4)
    for got, expected in zip(found[:5], found[5:], strict=True):
        assert_allclose(got, expected, rtol=1e-11, atol=1e-11)


A, B, C, D, E, F = (pt.tensor(x, shape=(n, n)) for x, n in zip("ABCDEF", SIZES * 3, strict=True))
PRODUCTS = gg.cov.Kronecker(A, B), gg.cov.Kronecker(C, D)
CLOSED = {
    "a common factor": (gg.cov.Kronecker, [(A, B), (C, B)]),
    "the other one": (gg.cov.Kronecker, [(A, B), (A, D)]),
    "both": (gg.cov.Kronecker, [(A, B), (A, B)]),
    "two products": (KroneckerPair, [(A, B), (C, D)]),
    "the third like the second": (KroneckerPair, [(A, B), (C, D), (E, D)]),
    "the third like the first": (KroneckerPair, [(A, B), (C, D), (A, F)]),
}


@pytest.mark.parametrize("name", CLOSED)
def test_sums_that_close(name, rng):
    """Products that differ in one factor are one product."""
    kind, terms = CLOSED[name]
    total = sum(gg.cov.Kronecker(*term) for term in terms)
    assert type(total.resolved) is kind
    known = {x: positive_definite(rng, x.type.shape[0]) for x in (A, B, C, D, E, F)}
    got = total.to_dense().eval({x: known[x] for x in set(sum(terms, ()))}, mode=AS_WRITTEN)
    expected = sum(np.kron(*(known[x] for x in term)) for term in terms)
    assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_a_common_factor_and_noise():
    """Two products with a common factor leave room for scalar noise, on either."""
    noise = gg.cov.Diagonal(pt.dscalar("s"), size=12)
    common = gg.cov.Kronecker(C, B)
    for total in (PRODUCTS[0] + noise + common, PRODUCTS[0] + (common + noise)):
        assert type(total.resolved) is NoisyKronecker
        assert total.parameters[1:] == (B, noise.parameters[0])


UNITS = [
    (gg.cov.Diagonal(1.0, size=4), 0),
    (np.eye(4), 0),
    (np.eye(3), 1),
    (pt.eye(3), 1),
]


@pytest.mark.parametrize(("unit", "place"), UNITS, ids=["Diagonal", "array", "first", "tensor"])
def test_common_noise_beside_noise_by_task(unit, place, rng):
    """s I beside D x I, in any order of the summands."""
    by_task = gg.cov.Kronecker(C, unit) if place == 0 else gg.cov.Kronecker(unit, D)
    noise = gg.cov.Diagonal(pt.dscalar("s"))
    known = {x: positive_definite(rng, x.type.shape[0]) for x in (A, B, C, D)}
    for summands in itertools.permutations((PRODUCTS[0], by_task, noise)):
        total = sum(summands).resolved
        assert type(total) is KroneckerPair
        used = [x for x in (A, B, C, D) if x in set(graph_inputs([total.to_dense()]))]
        given = {x: known[x] for x in used}
        got = total.to_dense().eval({**given, noise.parameters[0]: 0.3}, mode=AS_WRITTEN)
        task = np.kron(known[C], np.eye(4)) if place == 0 else np.kron(np.eye(3), known[D])
        expected = np.kron(known[A], known[B]) + task + 0.3 * np.eye(12)
        assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: PRODUCTS[0] + PRODUCTS[1] + gg.cov.Diagonal(0.1),
            TypeError,
            r"no algorithm .*Write D x I \+ s I as \(D \+ s I\) x I.* n\^3",
        ),
        (
            lambda: PRODUCTS[0] + gg.cov.Diagonal(0.1) + PRODUCTS[1],
            TypeError,
            r"gg.cov.Kronecker with noise \+ gg.cov.Kronecker has no algorithm",
        ),
        (
            lambda: PRODUCTS[0] + gg.cov.Diagonal(np.ones(12)),
            TypeError,
            r"gg.cov.Kronecker\(gg.cov.Diagonal\(d\), gg.cov.Diagonal\(1.0, size=n2\)\)",
        ),
        (
            lambda: PRODUCTS[0] + PRODUCTS[1] + gg.cov.Kronecker(E, F),
            TypeError,
            r"gg.cov.Kronecker \+ gg.cov.Kronecker \+ gg.cov.Kronecker has no algorithm",
        ),
        (lambda: PRODUCTS[0] + gg.cov.Kronecker(D, C), TypeError, "has no algorithm"),
        (lambda: PRODUCTS[0] + gg.cov.Kronecker(np.eye(12)), TypeError, "has no algorithm"),
        (
            lambda: PRODUCTS[0] + gg.cov.Kronecker(C, C),
            ValueError,
            r"gg.cov.Kronecker \+ gg.cov.Kronecker: the sizes \[12, 9\] disagree",
        ),
    ],
)
def test_sums_that_do_not_close(build, error, message):
    with pytest.raises(error, match=message):
        build().plan()


def test_whitening_does_not_depend_on_order(rng):
    """Permuting the entries along an axis permutes white residuals, signs of vectors or not."""
    factors, others, y = _of(rng, *SIZES), _of(rng, *SIZES), rng.normal(size=12)
    order = [2, 0, 1]

    def white(move, y):
        a, c = (x[0][np.ix_(move, move)] for x in (factors, others))
        cov = gg.cov.Kronecker(a, factors[1]) + gg.cov.Kronecker(c, others[1])
        return interpreted([], cov.whiten(y), AS_WRITTEN)().reshape(SIZES)

    moved = white(order, y.reshape(SIZES)[order].ravel())
    assert_allclose(moved, white([0, 1, 2], y)[order], rtol=1e-9, atol=1e-11)


def test_gaps_of_a_size_that_no_summand_says(rng):
    """One summand says the length of the first axis, the other that of the second."""
    first, second = pt.dmatrix("first"), pt.dmatrix("second")
    cov = gg.cov.Kronecker(gg.cov.AR1(1.0, 0.5, size=2), second)
    cov = cov + gg.cov.Kronecker(first, gg.cov.AR1(2.0, 0.3, size=3))
    observed = np.array([0, 2, 3, 5])
    outputs = gg.cov.marginal(cov, observed).to_dense(), cov.to_dense()
    kept, whole = interpreted([first, second], outputs, AS_WRITTEN)(np.eye(2), np.eye(3))
    assert_allclose(kept, whole[np.ix_(observed, observed)])


def test_traits_of_related_individuals(rng):
    """G x A + R x I with missing records: value, gradient and prediction of dense algebra."""
    kinship, y = positive_definite(rng, 5), rng.normal(size=10)
    y[[1, 7]] = np.nan
    v = pt.tensor("v", shape=(2,))
    between, within = pt.diag(v) + 0.3, pt.diag(1 + v**2) + 0.2
    pair = gg.cov.Kronecker(between, kinship) + gg.cov.Kronecker(
        within, gg.cov.Diagonal(1.0, size=5)
    )
    results = []
    for cov in (pair, gg.cov.Dense(pair.to_dense())):
        value = gg.logp(y, 0.1, cov)
        mean, new = gg.condition(y, 0.1, cov, 0.0, pt.ones((10, 1)) / 9, pt.eye(1))
        white = gg.cov.marginal(cov, np.isfinite(y)).whiten(np.ones(8))
        outputs = [value, pt.grad(value, v), mean, new.to_dense(), (white**2).sum()]
        results.append(interpreted([v], outputs, AS_WRITTEN)(np.array([0.5, 2.0])))
    for got, expected in zip(*results, strict=True):
        assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
