"""``Diagonal``: sums of one variance and of many."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from registry import interpreted

import pm_gaussgrad as gg

VARIANCES = {"one": 0.5, "many": np.array([1.0, 2.0, 4.0])}


@pytest.mark.parametrize("left", VARIANCES)
@pytest.mark.parametrize("right", VARIANCES)
def test_sums(left, right):
    total = gg.cov.Diagonal(VARIANCES[left], size=3) + gg.cov.Diagonal(VARIANCES[right], size=3)
    expected = np.broadcast_to(VARIANCES[left] + VARIANCES[right], 3)
    assert total.size == 3
    assert isinstance(total.resolved, gg.cov.Diagonal)
    assert_allclose(interpreted([], total.to_dense())(), np.diag(expected))
