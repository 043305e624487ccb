"""Summands of a covariance: products with rows, and what is known of one from their sum."""

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import BACKENDS, CASES, each, interpreted

import pm_gaussgrad as gg

BY_NAME = {case.name: case for case in CASES}


def times(case, n, batch, lead, rng):
    """Tensors and their values, the product with rows, and what it is by the dense matrix."""
    values, tensors = case.values(rng, n, batch), case.tensors(len(batch))
    cov, rows = case.build(n, *tensors), rng.normal(size=(*lead, n))
    return tensors, values, cov.times(rows), (cov.to_dense() @ rows[..., None])[..., 0]


@each(CASES)
def test_times(case, rng):
    """Rows, and a batch of parameters, against the dense matrix."""
    sought = [times(case, n, (), (3,), rng) for n in (1, 6)]
    if case.name != "RandomWalk":
        sought.append(times(case, 6, (2,), (3, 2), rng))
    tensors, values, *outputs = zip(*sought, strict=True)
    inputs = [x for xs in tensors for x in xs]
    function = interpreted(inputs, [*outputs[0], *outputs[1]], on_unused_input="ignore")
    found = function(*(v for vs in values for v in vs))
    for product, expected in zip(found[: len(sought)], found[len(sought) :], strict=True):
        assert_allclose(product, expected, rtol=1e-11, atol=1e-13 * np.abs(expected).max())


def test_times_by_strips(rng):
    """What a structure of a user has, which defines its rows: more of them than a strip is high."""
    case = BY_NAME["RandomWalk"]
    tensors, values, *outputs = times(case, 150, (), (2, 3), rng)
    found, expected = interpreted(tensors, outputs)(*values)
    assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(NotImplementedError, match=r"Define times\(rows\)"):
        times(case, 6, (2,), (2,), rng)


def test_times_of_the_twin_kernel(rng):
    tensors, values, *outputs = times(BY_NAME["Toeplitz"], 6, (2,), (3, 2), rng)
    found, expected = interpreted(tensors, outputs, mode=BACKENDS["jax"])(*values)
    assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
