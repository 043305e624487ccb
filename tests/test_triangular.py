"""Products and solves with triangular factors, of vectors, rows and batches, against NumPy."""

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import interpreted, positive_definite

from pm_gaussgrad.cov.protocol.triangular import lower_solve, lower_times, lower_transposed_solve

N = 3


@pytest.mark.parametrize(
    ("batch", "rows"),
    [((), ()), ((), (4,)), ((), (2, 4)), ((2,), ()), ((2,), (2,)), ((2,), (4, 2))],
)
def test_against_numpy(batch, rows, rng):
    """Rows without dimensions of their own, and with more than the factor has."""
    draws = [positive_definite(rng, N) for _ in range(int(np.prod(batch)))]
    lower = np.linalg.cholesky(np.reshape(draws, (*batch, N, N)))
    x = rng.normal(size=(*rows, N))
    inverse = np.linalg.inv(lower)
    products = (lower_times, lower), (lower_solve, inverse), (lower_transposed_solve, inverse.mT)
    found = interpreted(
        [], [function(pt.constant(lower), pt.constant(x)) for function, _ in products]
    )()
    for got, (_, matrix) in zip(found, products, strict=True):
        assert_allclose(got, (matrix @ x[..., None])[..., 0], rtol=1e-12)
