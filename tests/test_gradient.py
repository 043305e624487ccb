"""The three routes agree, and the audit says who is wrong."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import interpreted, positive_definite

import pm_gaussgrad as gg

N, P = 4, 3


@pytest.fixture
def problem(rng):
    """A mean and a covariance that depend on theta, with their derivatives at a point."""
    theta = pt.vector("theta", shape=(P,))
    base = [positive_definite(rng, N) for _ in range(2)]
    design = rng.normal(size=(N, P))
    cov = pt.exp(theta[0]) * base[0] + theta[1] ** 2 * base[1]
    mu = design @ pt.sin(theta)
    point = np.array([0.3, 0.8, -0.4])
    dcov = np.stack([np.exp(point[0]) * base[0], 2 * point[1] * base[1], np.zeros((N, N))], axis=-1)
    dmu = design * np.cos(point)
    numbers = interpreted([theta], [mu, cov])(point)
    return theta, mu, cov, point, numbers, dmu, dcov


def _vec_jacobian(dcov):
    """d vec(Sigma) / d theta' with the column-stacking vec."""
    return np.stack([dcov[:, :, k].ravel(order="F") for k in range(dcov.shape[-1])], axis=-1)


@pytest.mark.parametrize("shape", [(N,), (6, N)])
def test_three_routes_agree(problem, shape, rng):
    theta, mu, cov, point, (mu_at, cov_at), dmu, dcov = problem
    y = rng.normal(size=shape)
    expected = interpreted([theta], gg.gradient.pullback(y, mu, cov, theta))(point)
    assert expected.shape == (P,)
    assert_allclose(gg.gradient.frobenius(y, mu_at, cov_at, dmu, dcov), expected, rtol=1e-11)
    jacobian = gg.gradient.jacobian(y, mu_at, cov_at, dmu, _vec_jacobian(dcov))
    assert_allclose(jacobian, expected, rtol=1e-11)


def test_layouts(problem, rng):
    *_, (mu, cov), dmu, dcov = problem
    y, J_cov = rng.normal(size=N), _vec_jacobian(dcov)
    flat = gg.gradient.jacobian(y, mu, cov, dmu, J_cov)
    row = gg.gradient.jacobian(y, mu, cov, dmu, J_cov, layout="numerator")
    column = gg.gradient.jacobian(y, mu, cov, dmu, J_cov, layout="denominator")
    assert (flat.shape, row.shape, column.shape) == ((P,), (1, P), (P, 1))
    np.testing.assert_array_equal(row.ravel(), flat)
    np.testing.assert_array_equal(column.ravel(), flat)
    with pytest.raises(ValueError, match="layout is 'rows'"):
        gg.gradient.jacobian(y, mu, cov, dmu, J_cov, layout="rows")


def test_vec_stacks_columns(rng):
    """With derivatives that are not symmetric, only one order of vec is right."""
    y, cov = rng.normal(size=N), positive_definite(rng, N)
    dcov = rng.normal(size=(N, N, P))
    assert_allclose(
        gg.gradient.jacobian(y, 0.0, cov, J_cov=_vec_jacobian(dcov)),
        gg.gradient.frobenius(y, 0.0, cov, dcov=dcov),
        rtol=1e-11,
    )


def test_tensors_in_tensors_out(problem, rng):
    *_, (mu, cov), dmu, dcov = problem
    y = rng.normal(size=(2, N))
    value = pt.matrix("y", shape=(2, N))
    for route, derivatives in (
        (gg.gradient.frobenius, (dmu, dcov)),
        (gg.gradient.jacobian, (dmu, _vec_jacobian(dcov))),
    ):
        symbolic = route(value, mu, cov, *derivatives)
        assert isinstance(symbolic, pt.TensorVariable)
        numbers = route(y, mu, cov, *derivatives)
        assert isinstance(numbers, np.ndarray)
        assert_allclose(interpreted([value], symbolic)(y), numbers, rtol=1e-12)


def test_structures_as_covariances(rng):
    y, v = rng.normal(size=N), rng.uniform(1, 2, size=N)
    dcov = np.zeros((N, N, N))
    dcov[range(N), range(N), range(N)] = 1.0
    got = gg.gradient.frobenius(y, 0.0, gg.cov.Diagonal(v), dcov=dcov)
    assert_allclose(got, 0.5 * (y**2 / v**2 - 1 / v), rtol=1e-12)


def test_pullback_of_arrays(rng):
    y, mu, cov = rng.normal(size=N), rng.normal(size=N), positive_definite(rng, N)
    alpha = np.linalg.solve(cov, y - mu)
    inner = 0.5 * (np.outer(alpha, alpha) - np.linalg.inv(cov))
    got = gg.gradient.pullback(y, mu, cov, [mu, cov])
    assert isinstance(got, np.ndarray)
    assert_allclose(got, [*alpha, *inner.ravel()], rtol=1e-10)
    with pytest.raises(TypeError, match="the very array passed"):
        gg.gradient.pullback(y, mu, cov, mu.copy())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: f(np.ones(2), 0.0, np.eye(2)), ValueError, "pass at least one of"),
        (lambda f: f(np.ones(3), 0.0, np.eye(2), np.ones((2, 1))), ValueError, r"`value` has"),
        (lambda f: f(np.ones(2), 0.0, np.eye(2), np.ones((3, 1))), ValueError, r"\(3, 1\)"),
        (lambda f: f(np.ones(2), 0.0, np.eye(2), np.ones(2)), TypeError, "runs over the param"),
        (lambda f: f(np.ones(2), 0.0, np.ones(2), np.ones((2, 1))), TypeError, "at least 2"),
    ],
)
@pytest.mark.parametrize("route", [gg.gradient.frobenius, gg.gradient.jacobian])
def test_errors(route, call, error, message):
    with pytest.raises(error, match=message):
        call(route)


def test_numbers_of_parameters_that_disagree():
    with pytest.raises(ValueError, match="for 1 and 2 parameters"):
        gg.gradient.frobenius(
            np.ones(2), 0.0, np.eye(2), dmu=np.ones((2, 1)), dcov=np.ones((2, 2, 2))
        )


def test_not_positive_definite_is_nan():
    indefinite = np.array([[1.0, 2.0], [2.0, 1.0]])
    got = gg.gradient.frobenius(np.ones(2), 0.0, indefinite, dmu=np.ones((2, 1)))
    assert np.isnan(got).all()


def test_no_large_temporaries(rng):
    """frobenius holds one (n, n) slice at a time, however many parameters there are."""
    import tracemalloc

    n, p = 100, 200
    y, cov, dcov = rng.normal(size=n), positive_definite(rng, n), np.ones((n, n, p))
    gg.gradient.frobenius(y, 0.0, cov, dcov=dcov)
    tracemalloc.start()
    gg.gradient.frobenius(y, 0.0, cov, dcov=dcov)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * n * n * 8


def test_audit_agrees(rng):
    with pm.Model() as model:
        beta = pm.Normal("beta", shape=2)
        scale = pm.HalfNormal("scale")
        gg.MvNormal("y", beta, scale**2 * positive_definite(rng, 2), observed=rng.normal(size=2))
    table = gg.gradient.audit(model)
    assert list(table.index) == ["beta[0]", "beta[1]", "scale_log__"]
    assert set(table.verdict) == {"agree"}
    assert table.minus_dense.abs().max() < 1e-12
    point = {"beta": np.ones(2), "scale_log__": np.array(0.5)}
    assert gg.gradient.audit(model, point).gradient.iloc[0] != table.gradient.iloc[0]


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # PyMC's NaN
def test_audit_exposes_kronecker_normal(rng):
    """Repeated eigenvalues of a compound-symmetric factor: pm.KroneckerNormal's gradient is NaN."""
    with pm.Model() as model:
        rho = pm.Uniform("rho", 0, 0.9)
        sigma = pm.HalfNormal("sigma")
        factor = (1 - rho) * pt.eye(4) + rho * pt.ones((4, 4))
        pm.KroneckerNormal(
            "y",
            mu=np.zeros(8),
            covs=[np.eye(2) + 0.3, factor],
            sigma=sigma,
            observed=rng.normal(size=8),
        )
    table = gg.gradient.audit(model)
    assert np.isnan(table.gradient["rho_interval__"])
    assert table.verdict["rho_interval__"] == (
        "model gradient is nan; dense autodiff and finite differences agree"
    )
    assert table.verdict["sigma_log__"] == "agree"
