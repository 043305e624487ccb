"""Hessians of the log density through the dense formula, as users ask for them.

Second derivatives of every structure, without the loops of these functions, are in ``test_op``.
"""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numpy.testing import assert_allclose
from registry import CASES, each

import pm_gaussgrad as gg


def _dense_logp(value, mu, dense):
    """Written in PyTensor's own Ops."""
    residual = value - mu
    factor = pt.linalg.cholesky((dense + dense.mT) / 2)
    white = pt.linalg.solve_triangular(factor, residual, lower=True, b_ndim=1)
    return (
        -0.5 * (white**2).sum()
        - pt.log(pt.diagonal(factor)).sum()
        - np.log(2 * np.pi) * (value.shape[0] / 2)
    )


@each([c for c in CASES if c.name == "BlockDiagonal"])
def test_hessian(case, rng):
    """``pytensor.gradient.hessian`` in three parameters of the mean and the covariance."""
    n = 3
    theta, y = pt.tensor("theta", shape=(3,), dtype="float64"), pt.dvector("y")
    parameters = case.tensors()
    free = case.differentiable(parameters)
    varied = [p * (theta[1] + theta[2] * p) if p in free else p for p in parameters]
    mu = theta[0] * y[::-1] + theta[1] ** 2
    cov = case.build(n, *varied)
    hessians = [
        pytensor.gradient.hessian(logp, theta)
        for logp in (gg.logp(y, mu, cov), _dense_logp(y, mu, cov.to_dense()))
    ]
    # The mode of the loop inside, too.
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        function = pytensor.function([theta, y, *parameters], hessians)
    point = [np.array([0.3, 1.1, 0.05]), rng.normal(size=n), *case.values(rng, n)]
    got, expected = function(*point)
    assert_allclose(got, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_find_hessian(rng):
    """``pm.find_hessian`` of two structures in one model, one of them with many rows."""
    rows, series = rng.normal(size=(9, 2)), rng.normal(size=5)

    def model(dense):
        def normal(name, cov, data):
            mu = v * np.ones(data.shape[-1])
            if dense:
                pm.MvNormal(name, mu, cov=cov.to_dense(), observed=data)
            else:
                gg.MvNormal(name, mu, cov=cov, observed=data)

        with pm.Model() as built:
            v = pm.HalfNormal("v")
            normal("rows", gg.cov.CompoundSymmetry(v, 0.3, size=2), rows)
            normal("series", gg.cov.AR1(v, 0.5, size=5), series)
        return built

    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        point = {"v_log__": np.array(0.3)}
        got, expected = (
            pm.find_hessian(point, model=model(dense), negate_output=False)
            for dense in (False, True)
        )
    assert_allclose(got, expected, rtol=1e-9)
