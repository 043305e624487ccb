"""The dense algebra of missing entries, against blocks of dense matrices."""

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import interpreted, positive_definite

from pm_gaussgrad.ops import condition_on_observed_rows
from pm_gaussgrad.ops.gaps import ConditionOnObserved

pytestmark = pytest.mark.compiled

N = 6
condition_on_observed = ConditionOnObserved().evaluate


@pytest.mark.parametrize("missing", [[1, 4, 5], [0], [0, 1, 2, 3, 4, 5], []], ids=str)
def test_against_dense_blocks(missing, rng):
    sigma, residual = positive_definite(rng, N), rng.normal(size=(3, N))
    missing = np.array(missing, dtype=int)
    observed = np.setdiff1d(np.arange(N), missing)
    precision = np.linalg.inv(sigma)
    filled, half_logdet, orthogonal = condition_on_observed(residual, precision[missing], missing)
    across, own = sigma[np.ix_(missing, observed)], sigma[np.ix_(observed, observed)]
    expected = residual.copy()
    expected[:, missing] = residual[:, observed] @ np.linalg.solve(own, across.T)
    assert_allclose(filled, expected, rtol=1e-10, atol=1e-12)
    difference = np.linalg.slogdet(own)[1] - np.linalg.slogdet(sigma)[1]
    assert_allclose(2 * half_logdet, difference, rtol=1e-10, atol=1e-12)
    assert_allclose(orthogonal @ precision @ orthogonal.T, np.eye(missing.size), atol=1e-12)
    assert not orthogonal[:, observed].any()


def test_positions_that_stand_for_no_entry(rng):
    precision, residual = positive_definite(rng, N), rng.normal(size=(2, N))
    rows = np.vstack([precision[[1, 3]], np.zeros((2, N))])
    got = condition_on_observed(residual, rows, np.array([1, 3, N, N]))
    expected = condition_on_observed(residual, precision[[1, 3]], np.array([1, 3]))
    assert_allclose(got[0], expected[0])
    assert_allclose(got[1], expected[1])
    assert_allclose(got[2], np.vstack([expected[2], np.zeros((2, N))]))


def test_not_positive_definite(rng):
    filled, half_logdet, orthogonal = condition_on_observed(
        rng.normal(size=(1, N)), -np.eye(N)[[2]], np.array([2])
    )
    assert np.isnan(half_logdet)
    assert np.isnan(orthogonal[0, 2])
    assert np.isnan(filled[0, 2])


def test_layouts_and_inputs_left_alone(rng):
    precision = positive_definite(rng, 2 * N)[::2, ::2]
    residual = np.asfortranarray(rng.normal(size=(3, N)))
    before = precision.copy(), residual.copy()
    missing = np.array([0, 4])
    got = condition_on_observed(residual, precision[missing], missing)
    expected = condition_on_observed(
        np.ascontiguousarray(residual), np.ascontiguousarray(precision[missing]), missing
    )
    for a, b in zip(got, expected, strict=True):
        assert_allclose(a, b)
    assert_allclose(precision, before[0])
    assert_allclose(residual, before[1])


def test_gradient_of_the_op(rng):
    """All outputs, in all entries, against differences of fourth order."""
    residual, solved = pt.dmatrices("residual", "solved")
    missing = np.array([1, 4])
    outputs = condition_on_observed_rows(residual, solved, pt.constant(missing))
    weights = [rng.normal(size=shape) for shape in ((2, N), (), (2, N))]
    value = sum((w * x).sum() for w, x in zip(weights, outputs, strict=True))
    function = interpreted([residual, solved], [value, *pt.grad(value, [residual, solved])])
    at = [rng.normal(size=(2, N)), positive_definite(rng, N)[missing]]
    # Of the block of the precision, which is symmetric, the definition reads the lower triangle.
    direction = [rng.normal(size=(2, N)), rng.normal(size=(2, N))]
    direction[1][0, 4] = direction[1][1, 1]
    h = 1e-3

    def along(t):
        return function(*(a + t * d for a, d in zip(at, direction, strict=True)))[0]

    slope = (8 * (along(h) - along(-h)) - along(2 * h) + along(-2 * h)) / (12 * h)
    exact = sum((g * d).sum() for g, d in zip(function(*at)[1:], direction, strict=True))
    assert_allclose(exact, slope, rtol=1e-8)
