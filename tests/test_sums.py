"""Sums of structures: by families, and an error that speaks of the two summands."""

import itertools

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import AS_WRITTEN, CASES

import pm_gaussgrad as gg

N = 4


def _of(case, seed):
    values = case.draw(np.random.default_rng(seed), N)
    return case.build(N, *map(pt.constant, values))


@pytest.mark.parametrize(
    ("left", "right"), itertools.combinations_with_replacement(CASES, 2), ids=str
)
def test_every_pair(left, right):
    """The sum of the matrices, in both orders; or an error about these two and nothing else."""
    a, b = _of(left, 1), _of(right, 1)
    try:
        total, swapped = (a + b).resolved, (b + a).resolved
    except TypeError as error:
        message = str(error)
        assert "gg.cov.Dense(" in message
        assert len(message) < 700
        with pytest.raises(TypeError):
            (b + a).plan()
        return
    dense = [x.to_dense() for x in (a, b, total, swapped)]
    x, y, *sums = (z.eval(mode=AS_WRITTEN) for z in dense)
    for both in sums:
        assert_allclose(both, x + y, rtol=1e-12, atol=1e-12)


def test_a_subclass_is_of_the_family():
    """What a structure closes with, its subclass does, until it has a rule of its own."""

    class Noise(gg.cov.Diagonal):
        pass

    noise = Noise.from_parameters(np.ones(N))
    total = gg.cov.LowRank(np.ones((N, 1))) + noise
    assert_allclose(total.to_dense().eval(mode=AS_WRITTEN), np.ones((N, N)) + np.eye(N))


def test_the_error_says_what_each_does_combine_with():
    total = gg.cov.AR1(1.0, 0.5, size=2) + gg.cov.Cholesky(np.eye(2))
    with pytest.raises(TypeError) as error:
        gg.logp(np.zeros(2), 0.0, total)
    assert str(error.value) == (
        "gg.cov.AR1 + gg.cov.Cholesky has no algorithm here, and nothing is made dense unasked. "
        "gg.cov.AR1 combines with gg.cov.Diagonal(scalar), gg.cov.Diagonal(vector). "
        "gg.cov.Cholesky combines with nothing by itself. gg.cov.LowRank and gg.cov.Dense can be "
        "added to anything. For the dense sum, at a cost of n^3, write "
        "gg.cov.Dense((a + b).to_dense())."
    )
