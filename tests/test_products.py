"""Products of processes in time, entry by entry, against products of dense formulas."""

import operator
import re

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from registry import AS_WRITTEN, interpreted
from test_state_space import GROUP, NOISE, PARTS, TIMES, N, dense_logp

import pm_gaussgrad as gg

# Names of the factors, and how many states the product has.
PRODUCTS = {
    "exponentials": ("Matern12", "Matern12", 1),
    "decay of a wave": ("DampedCosine", "Matern12", 2),
    "waves": ("DampedCosine", "DampedCosine", 4),
    "decay of a Matern": ("Matern12", "Matern52", 3),
    "decay of an oscillator": ("SHO", "Matern12", 2),
    "Matern and wave": ("Matern32", "DampedCosine", 4),
    "oscillators": ("SHO", "overdamped SHO", 4),
    "of a sum": ("Rotation", "Matern32", 8),
    "linear": ("CARMA", "Matern12", 2),
}


def factor(name, symbol, group=None):
    """Symbols of the parameters, a point, the structure and its covariance matrix."""
    build, twin, values = PARTS[name]
    if group is None:
        own = [pt.dscalar(f"{symbol}{i}") for i in range(len(values))]
        return own, list(values), build(*own, time=TIMES), twin(*own, TIMES[:, None], TIMES[None])
    own = [pt.tensor(f"{symbol}{i}", shape=(2,)) for i in range(len(values))]
    sigma = twin(*(x[group][:, None] for x in own), TIMES[:, None], TIMES[None])
    same = (group[:, None] == group).astype(float)
    point = [np.array([x, 1.2 * x]) for x in values]
    return own, point, build(*own, time=TIMES, group=group), sigma * same


@pytest.mark.parametrize("name", PRODUCTS)
def test_value_and_gradient(name, rng):
    """In groups with parameters of their own, with noise."""
    left, right, states = PRODUCTS[name]
    (a, at, one, sigma), (b, to, other, tau) = factor(left, "a", GROUP), factor(right, "b", GROUP)
    product, wrt, point = one * other, [*a, *b], [*at, *to]
    assert product.states == states
    y = rng.normal(size=(1, N))
    logp = gg.logp(y, 0.0, product + gg.cov.Diagonal(NOISE))
    dense = dense_logp(pt.constant(y), sigma * tau + np.diag(NOISE))
    outputs = [*(f(x) for x in (logp, dense) for f in (pt.sum, lambda x: pt.grad(x.sum(), wrt)))]
    value, slopes, expected, slopes_expected = outputs
    found = interpreted(wrt, [value, *slopes, expected, *slopes_expected], AS_WRITTEN)(*point)
    half = len(found) // 2
    for x, y in zip(found[:half], found[half:], strict=True):
        assert_allclose(x, y, rtol=1e-9, atol=1e-10)


def test_sums_and_multiples(rng):
    """(a + b) (c + d), a multiple, a product of three, and what is added to them."""
    names = ["Matern12", "SHO", "DampedCosine", "Matern32"]
    a, b, c, d = (PARTS[name][0](*PARTS[name][2], time=TIMES) for name in names)
    cov = 2.0 * ((a + b) * (c + d)) + a * b * c + gg.cov.Matern52(0.3, 1.0, TIMES)
    dense = [x.to_dense() for x in (a, b, c, d, gg.cov.Matern52(0.3, 1.0, TIMES))]
    noisy = cov + gg.cov.Diagonal(NOISE)
    eye, z = np.eye(N), rng.normal(size=N)
    outputs = [cov.to_dense(), noisy.logp(z), noisy.color(eye), *dense]
    found, value, drawn, a, b, c, d, e = interpreted([], outputs, AS_WRITTEN)()
    sigma = 2 * (a + b) * (c + d) + a * b * c + e
    assert_allclose(found, sigma, rtol=1e-12, atol=1e-14)
    sigma += np.diag(NOISE)
    quad = z @ np.linalg.solve(sigma, z) + np.linalg.slogdet(sigma)[1] + N * np.log(2 * np.pi)
    assert_allclose(value, -quad / 2, rtol=1e-12)
    assert_allclose(drawn.T @ drawn, sigma, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["exponentials", "decay of a wave", "waves", "oscillators"])
def test_what_is_no_process_has_no_density(name):
    """Each parameter of each factor in turn, also where groups have one observation."""
    left, right, _ = PRODUCTS[name]
    (a, at, one, _), (b, to, other, _) = factor(left, "a"), factor(right, "b")
    every, point = [*a, *b], [*at, *to]
    alone = PARTS[left][0](*a, [1.0, 2.0], group=[0, 1])
    alone *= PARTS[right][0](*b, [1.0, 2.0], group=[0, 1])
    logps = gg.logp(np.ones(N), 0.0, one * other), gg.logp(np.ones(2), 0.0, alone)
    slopes = [slope for logp in logps for slope in pt.grad(logp, every)]
    function = interpreted(every, [*logps, *slopes], AS_WRITTEN)
    assert np.isfinite(function(*point)).all()
    for k in range(len(point)):
        for wrong in (-1.0, 0.0, np.nan, np.inf):
            whole, apart, *found = function(*[wrong if i == k else x for i, x in enumerate(point)])
            assert (whole, apart) == (-np.inf, -np.inf)
            assert_array_equal(found, 0.0)


def test_single_precision():
    a, b, c, d = theta = [pt.fscalar(name) for name in "abcd"]
    product = gg.cov.Matern32(a, b, TIMES) * gg.cov.DampedCosine(c, d, np.float32(2.0), TIMES)
    slopes = pt.grad(gg.logp(np.ones(N, "float32"), np.float32(0), product), theta)
    assert {x.dtype for x in (product, *slopes)} == {"float32"}


MATERN = gg.cov.Matern32(1.0, 1.0, TIMES)
MISTAKES = {
    "times": (MATERN, gg.cov.Matern12(1.0, 1.0, TIMES + 1), "`time` or `group` differ"),
    "walk": (MATERN, gg.cov.Wiener(1.0, TIMES), "a Wiener process is not stationary"),
    "noise": (MATERN + gg.cov.Diagonal(0.1), MATERN, "one has noise"),
    "symbolic noise": (MATERN, MATERN + gg.cov.Diagonal(pt.dscalar()), "one has noise"),
    "states": (MATERN * MATERN * MATERN, MATERN * MATERN, "more than 16 states"),
    "another": (MATERN, gg.cov.AR1(1.0, 0.5), "it has no algorithm here"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    left, right, message = MISTAKES[name]
    with pytest.raises(TypeError, match=re.escape(message) + r".*a\.to_dense\(\) \* b"):
        operator.mul(left, right)
