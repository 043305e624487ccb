"""xSYRK by its name, compiled, at sizes that include nothing."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_kernels import compiled

from pm_gaussgrad.kernels import lapack

pytestmark = pytest.mark.compiled


def _gram(rows, out):
    lapack.gram(rows, out)
    return out


GRAM = compiled(_gram)


@pytest.mark.parametrize(("n", "k"), [(0, 2), (1, 3), (5, 2), (30, 20), (4, 0)])
def test_gram_writes_the_lower_triangle(n, k, rng):
    rows = rng.normal(size=(n, k))
    got = GRAM(rows, np.full((k, k), np.nan))
    assert_allclose(np.tril(got), np.tril(rows.T @ rows), rtol=1e-12, atol=1e-13)
    assert np.isnan(got[np.triu_indices(k, 1)]).all()
