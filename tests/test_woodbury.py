"""``LowRank`` beside any covariance: edges of sizes and of precision, and second derivatives."""

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import AS_WRITTEN, interpreted

import pm_gaussgrad as gg
from pm_gaussgrad.cov.matrices.woodbury import Woodbury

SCALE = np.arange(1.0, 7.0)


def series(n, dtype="float64"):
    return gg.cov.AR1(np.asarray(1.5, dtype), np.asarray(0.6, dtype), size=n)


@pytest.mark.parametrize(
    ("n", "k", "m"), [(5, 2, 0), (5, 0, 2), (1, 1, 1), (1, 0, 1), (3, 7, 2), (4, 2, 1), (0, 2, 1)]
)
def test_edge_sizes(n, k, m, rng):
    """No rows, no factors, one observation or none, more factors than observations."""
    rows, factor = rng.normal(size=(m, n)), pt.constant(rng.normal(size=(n, k)))
    cov = gg.cov.LowRank(factor) + series(n)
    assert isinstance(cov.resolved, Woodbury)
    dense = gg.cov.Dense(cov.to_dense())
    outputs = []
    for structure in (cov, dense):
        quad, logdet = structure.quad_logdet(rows)
        gradient = pt.grad(quad.sum() + logdet, factor)
        white = (structure.whiten(rows) ** 2).sum(axis=-1)
        outputs += [quad, logdet, gradient, structure.solve(rows), white]
        outputs += [structure.inverse_diagonal(), *structure.innovations(rows)]
    found = interpreted([], outputs)()
    half = len(found) // 2
    for ours, theirs in zip(found[:half], found[half:], strict=True):
        assert ours.shape == theirs.shape
        assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("k", [0, 2, 3])
def test_factors_beside_a_batch_of_bases(k, rng):
    """As many factors as there are bases, or others: columns are rows of each base."""
    first, second, factor = rng.normal(size=(3, 3, 3)), rng.normal(size=(2, 2)), np.ones((6, k))
    product = gg.cov.Kronecker(first @ first.mT + np.eye(3), second @ second.T + np.eye(2))
    rows, factor = rng.normal(size=(4, 3, 6)), factor + rng.normal(size=(6, k))
    for base in (product, gg.cov.AR1([1.0, 2.0, 3.0], 0.5, size=6)):
        cov = gg.cov.LowRank(factor) + base
        dense = gg.cov.Dense(cov.to_dense())
        outputs = [cov.color(rows)]
        for structure in (cov, dense):
            white = (structure.whiten(rows) ** 2).sum(axis=-1)
            outputs += [white, structure.inverse_diagonal(), *structure.innovations(rows)]
            outputs += [structure.solve(rows), structure.solve(outputs[0])]
        _, *found = interpreted([], outputs, AS_WRITTEN)()
        for ours, theirs in zip(found[:6], found[6:], strict=True):
            assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "around",
    [
        lambda x: gg.cov.LowRank(np.arange(12.0).reshape(6, 2)) + x,
        lambda x: gg.cov.Scaled(x, SCALE),
    ],
    ids=["factor", "scale"],
)
def test_gaps_of_a_size_that_only_what_is_around_says(around, rng):
    first, second = pt.dmatrix("first"), pt.dmatrix("second")
    cov = around(gg.cov.Kronecker(first, second) + gg.cov.Diagonal(0.5))
    observed, y = np.array([0, 2, 3]), rng.normal(size=3)
    outputs = gg.cov.marginal(cov, observed).quad_logdet(y)[0], cov.to_dense()
    quad, whole = interpreted([first, second], outputs)(np.eye(2) + 0.3, np.eye(3) + 0.2)
    assert_allclose(quad, y @ np.linalg.solve(whole[np.ix_(observed, observed)], y))


def test_single_precision(rng):
    factor = pt.constant(rng.normal(size=(6, 2)).astype("float32"))
    rows = rng.normal(size=(2, 6)).astype("float32")
    single = gg.cov.LowRank(factor) + series(6, "float32")
    double = gg.cov.LowRank(factor.astype("float64")) + series(6)
    outputs = []
    for cov in (single, double):
        quad, logdet = cov.quad_logdet(rows)
        outputs += [quad, logdet, cov.solve(rows), pt.grad(quad.sum() + logdet, factor)]
    found = interpreted([], outputs)()
    for ours, theirs in zip(found[:4], found[4:], strict=True):
        assert ours.dtype == "float32"
        assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


def test_hessian(rng):
    """Through the base, the factors, and the scores that the first derivative holds fixed."""
    at, basis, y = np.array([1.2, 0.5, 0.8]), rng.normal(size=(5, 2)), rng.normal(size=5)
    v, rho, t = parameters = [pt.dscalar(name) for name in "abc"]
    cov = gg.cov.LowRank(t * basis) + gg.cov.AR1(v, rho)
    hessians = []
    for structure in (cov, gg.cov.Dense(cov.sized(5).to_dense())):
        slopes = pt.grad(gg.logp(y, 0.0, structure), parameters)
        hessians += [pt.grad(slope, x) for slope in slopes for x in parameters]
    found = interpreted(parameters, hessians)(*at)
    assert_allclose(found[:9], found[9:], rtol=1e-9)


@pytest.mark.parametrize("bad", ["base", "factor"])
def test_no_covariance(bad):
    """-inf, and a gradient of zero."""
    v, factor = pt.dscalar("v"), pt.dmatrix("factor")
    cov = gg.cov.LowRank(factor) + gg.cov.AR1(v, 0.5)
    logp = gg.logp(np.ones((2, 3)), 0.0, cov)
    function = interpreted([v, factor], [logp, *pt.grad(logp.sum(), [v, factor])])
    values = {"base": (-1.0, np.ones((3, 1))), "factor": (1.0, np.full((3, 1), np.nan))}
    found = function(*values[bad])
    assert (found[0] == -np.inf).all()
    assert all((bar == 0).all() for bar in found[1:])


def exactly(mpmath, covariance, direction, y):
    """Log density, its derivative, and Sigma^-1 y of matrices of mpmath, to all digits."""
    n, y = len(y), mpmath.matrix(y.tolist())
    inverse = mpmath.inverse(covariance)
    alpha = inverse * y
    logdet = mpmath.log(mpmath.det(covariance))
    logp = -(((y.T * alpha)[0]) + logdet + n * mpmath.log(2 * mpmath.pi)) / 2
    trace = sum(inverse[i, j] * direction[j, i] for i in range(n) for j in range(n))
    slope = ((alpha.T * direction * alpha)[0] - trace) / 2
    return float(logp), float(slope), np.array([float(a) for a in alpha])


BASES = {
    "noisy series": lambda s, n: gg.cov.AR1(s, 0.6, size=n) + gg.cov.Diagonal(s),
    "series": lambda s, n: gg.cov.AR1(s, 0.6, size=n),
    "toeplitz": lambda s, n: gg.cov.Toeplitz(s * 0.6 ** np.arange(n)),
    "grid": lambda s, n: gg.cov.Kronecker(np.eye(2) + 0.5, s * np.eye(n // 2)),
}


@pytest.mark.parametrize("kind", ["rough", "draw"])
@pytest.mark.parametrize("name", BASES)
def test_digits(name, kind, rng):
    """A base of 1e-10 of the signal, against arithmetic with 50 digits."""
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 50
    n, noise = 8, 1e-10
    factor, y = rng.normal(size=(n, 3)), rng.normal(size=n)
    s, t = pt.dscalar("s"), pt.dscalar("t")
    base = BASES[name](s, n)
    shape = BASES[name](pt.constant(1.0), n).to_dense().eval(mode=AS_WRITTEN)
    if kind == "draw":
        y = factor @ rng.normal(size=3) + np.sqrt(noise) * y
    cov = gg.cov.LowRank(t * factor) + base
    logp = gg.logp(y, 0.0, cov)
    found = interpreted([s, t], [logp, *pt.grad(logp, [s, t]), cov.solve(y)])(noise, 1.0)
    exact = mpmath.matrix(factor.tolist())
    exact, unit = exact * exact.T, mpmath.matrix(shape.tolist())
    whole = exact + mpmath.mpf(noise) * unit
    value, by_noise, alpha = exactly(mpmath, whole, unit, y)
    by_factor = exactly(mpmath, whole, 2 * exact, y)[1]
    cond = np.linalg.cond(factor @ factor.T + noise * shape)
    # What the data's last digits cost is the root of the condition number, as large as alpha is;
    # from U'alpha, of the order of one, it is the condition number.
    slack = (
        100 * np.finfo(float).eps * np.array([np.sqrt(cond), np.sqrt(cond), cond, np.sqrt(cond)])
    )
    expected = value, by_noise, by_factor, alpha
    for ours, theirs, rtol in zip(found, expected, slack, strict=True):
        assert np.abs(ours - theirs).max() <= rtol * np.abs(theirs).max()
