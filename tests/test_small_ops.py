"""Selections and inner products: small Ops that are each other's, or their own, pullback."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_array_equal
from pytensor.gradient import verify_grad
from registry import BACKENDS, INTERPRETED

from pm_gaussgrad.ops import among_zeros, entries_at, inner_products

POSITIONS = [[0, 2, 5], [4], [], list(range(6)), list(range(1, 6))]
BACKEND = pytest.mark.parametrize("backend", list(BACKENDS))


@BACKEND
@pytest.mark.parametrize("positions", POSITIONS, ids=len)
@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0,)], ids=str)
def test_selections(lead, positions, backend, rng):
    x, at = rng.normal(size=(*lead, 6)), np.array(positions, dtype=int)
    of_all, of_some = pt.tensor(shape=(*lead, 6)), pt.tensor(shape=(*lead, at.size))
    outputs = [entries_at(of_all, pt.constant(at)), among_zeros(of_some, pt.constant(at), 6)]
    some, spread = pytensor.function([of_all, of_some], outputs, mode=BACKENDS[backend])(
        x, x[..., at]
    )
    expected = np.zeros_like(x)
    expected[..., at] = x[..., at]
    assert_array_equal(some, x[..., at])
    assert_array_equal(spread, expected)


def test_more_entries_than_fit_into_a_byte(rng):
    x = rng.normal(size=300)
    at = pt.vector("at", dtype="int64")
    evaluate = pytensor.function([at], entries_at(pt.as_tensor(x), at), mode=INTERPRETED)
    assert_array_equal(evaluate(np.arange(0, 300, 2)), x[::2])


@pytest.mark.parametrize("size", [(3, 4, 2), (1, 1, 1), (2, 3, 0), (0, 2, 3)], ids=str)
@BACKEND
def test_inner_products(size, backend, rng):
    (p, q, k), (left, right) = size, pt.dmatrices("left", "right")
    a, b = rng.normal(size=(p, k)), rng.normal(size=(q, k))
    evaluate = pytensor.function([left, right], inner_products(left, right), BACKENDS[backend])
    np.testing.assert_allclose(evaluate(a, b), a @ b.T, rtol=1e-14, atol=1e-14)


def test_derivatives(rng):
    """Of each, and of its gradient: they are one another's."""
    at = pt.constant(np.array([0, 2, 3]))
    x, y = rng.normal(size=(2, 5)), rng.normal(size=(3, 5))

    def slope(function):
        return lambda *inputs: pt.concatenate(
            [g.ravel() for g in pt.grad((function(*inputs) ** 3).sum(), list(inputs))]
        )

    for function, point in (
        (lambda x: entries_at(x, at), [x]),
        (lambda x: among_zeros(x, at, 6), [x[:, :3]]),
        (inner_products, [x, y]),
    ):
        verify_grad(function, point, rng=rng, mode=INTERPRETED)
        verify_grad(slope(function), point, rng=rng, mode=INTERPRETED)
