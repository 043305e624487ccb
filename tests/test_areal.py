"""Areal models: proper and simultaneous autoregressions, against dense matrices."""

import pickle
import re
from types import SimpleNamespace

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from registry import AS_WRITTEN, interpreted

import pm_gaussgrad as gg

# A square with a tail, of which the weights differ.
PAIRS = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [3, 4]])
N = 5
W = np.zeros((N, N))
W[tuple(PAIRS.T)] = [1.0, 2.0, 0.5, 1.0, 1.5]
W += W.T
D = np.diag(W.sum(axis=1))
EYE = np.eye(N)
STANDARDISED = W / W.sum(axis=1, keepdims=True)


def evaluated(*outputs):
    return interpreted([], list(outputs), AS_WRITTEN)()


def of_lag(rho):
    return EYE - rho * STANDARDISED


# The structure, and its precision; of symbols and numbers alike.
MODELS = {
    "CAR": (lambda a, t: gg.cov.CAR(W, a, t), lambda a, t: t * (D - a * W)),
    "CAR of ones": (lambda a, t: gg.cov.CAR(W, a, t, D=np.ones(N)), lambda a, t: t * (EYE - a * W)),
    "Leroux": (
        lambda rho, t: gg.cov.Leroux(W, rho, t),
        lambda rho, t: t * (rho * (D - W) + (1 - rho) * EYE),
    ),
    "SAR": (
        lambda rho, s: gg.cov.SAR(STANDARDISED, rho, s),
        lambda rho, s: of_lag(rho).T @ of_lag(rho) / s**2,
    ),
}
POINT = (0.2, 1.7)


@pytest.mark.parametrize("name", MODELS)
def test_value_and_gradient(name, rng):
    """Of three rows, beside the dense precision."""
    build, precision = MODELS[name]
    theta, y = [pt.dscalar("dependence"), pt.dscalar("scale")], rng.normal(size=(3, N))
    dense = gg.cov.Precision(precision(*theta))
    found, expected = (
        [logp := gg.logp(y, 0.3, cov).sum(), *pt.grad(logp, theta)]
        for cov in (build(*theta), dense)
    )
    values = interpreted(theta, [*found, *expected])(*POINT)
    assert_allclose(values[:3], values[3:], rtol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_members(name, rng):
    build, precision = MODELS[name]
    cov, sigma = build(*POINT), np.linalg.inv(precision(*POINT))
    assert isinstance(cov, getattr(gg.cov, name.partition(" ")[0]))
    again = pickle.loads(pickle.dumps(cov))
    z, kept = rng.normal(size=(2, N)), np.array([0, 2, 4])
    drawn, white, dense, twice, some = evaluated(
        again.color(EYE),
        cov.whiten(cov.color(z)),
        cov.to_dense(),
        (2 * cov).to_dense(),
        gg.cov.marginal(cov, kept).to_dense(),
    )
    assert_allclose(drawn.T @ drawn, sigma, rtol=1e-12)
    assert_allclose(white, z, rtol=1e-11)
    assert_allclose(dense, sigma, rtol=1e-12)
    assert_allclose(twice, 2 * sigma, rtol=1e-12)
    assert_allclose(some, sigma[np.ix_(kept, kept)], rtol=1e-12)
    assert cov.plan().label == f"gg.cov.{name.partition(' ')[0]}"


@pytest.mark.parametrize("name", MODELS)
def test_beside_noise_and_in_batches(name, rng):
    build, precision = MODELS[name]
    first, second, y = np.array([0.1, 0.25]), np.array([0.8, 2.0]), rng.normal(size=(2, N))
    alone, noisy = build(first, second), build(*POINT) + gg.cov.Diagonal(0.4)
    logps, dense, solved = evaluated(
        gg.logp(y, 0.0, alone), alone.to_dense(), noisy.resolved.solve(y)
    )
    sigmas = [np.linalg.inv(precision(a, b)) for a, b in zip(first, second, strict=True)]
    assert_allclose(dense, sigmas, rtol=1e-12)
    for logp, row, sigma in zip(logps, y, sigmas, strict=True):
        quad = row @ np.linalg.solve(sigma, row)
        logdet = np.linalg.slogdet(2 * np.pi * sigma)[1]
        assert_allclose(logp, -(quad + logdet) / 2, rtol=1e-12)
    sigma = np.linalg.inv(precision(*POINT)) + 0.4 * EYE
    assert_allclose(solved, np.linalg.solve(sigma, y.T).T, rtol=1e-10)


def by_a_factor(cov):
    """The same without a closed form of the log determinant, as on large maps."""
    return type(cov).from_parameters(*cov.parameters[:-1], np.empty(0))


@pytest.mark.parametrize("name", MODELS)
def test_a_known_determinant(name, rng):
    """Value, gradient, second and mixed derivatives are those by a factor; of a multiple, too."""
    build, _ = MODELS[name]
    theta = [pt.dscalar("dependence"), pt.dscalar("scale")]
    value, y = pt.dvector("y"), rng.normal(size=N)
    known = build(*theta)
    assert known.parameters[-1].type.shape == (1,)
    outputs = []
    for cov in (known, by_a_factor(known)):
        logp = gg.logp(value, 0.0, theta[1] * cov)
        slopes = pt.grad(logp, theta)
        outputs += [logp, *slopes, *pt.grad(slopes[0], [*theta, value]), cov.logdet()]
    found = interpreted([*theta, value], outputs)(*POINT, y)
    for one, other in zip(found[:7], found[7:], strict=True):
        assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_weights_without_real_eigenvalues(rng):
    """Of neighbours that are not mutual, or of no symmetric matrix, by a factor."""
    ring = np.roll(EYE, 1, axis=1)
    odd = ring + 0.5 * ring.T  # around the ring scales do not close
    for weights in (ring, odd):
        theta, y = [pt.dscalar(), pt.dscalar()], rng.normal(size=N)
        cov = gg.cov.SAR(weights, *theta)
        assert cov.parameters[-1].type.shape == (0,)
        logp = gg.logp(y, 0.0, cov)
        found = interpreted(theta, [logp, *pt.grad(logp, theta)])(0.3, 1.2)
        inner = EYE - 0.3 * weights
        assert_allclose(found[0], density(y, inner.T @ inner / 1.44), rtol=1e-12)
        steps = [
            density(y, of.T @ of / 1.44)
            for e in (1e-5, -1e-5)
            for of in [EYE - (0.3 + e) * weights]
        ]
        assert_allclose(found[1], (steps[0] - steps[1]) / 2e-5, rtol=1e-7)


def density(y, precision):
    return (np.linalg.slogdet(precision / (2 * np.pi))[1] - y @ precision @ y) / 2


def test_scales_in_pieces(rng):
    """Rows in any units, of two components and an area without neighbours."""
    weights = np.zeros((N + 3, N + 3))
    weights[:N, :N], weights[N, N + 1], weights[N + 1, N] = W, 2.0, 2.0
    weights *= rng.uniform(0.1, 3, (N + 3, 1))
    cov, y = gg.cov.SAR(weights, 0.1, 1.2), rng.normal(size=N + 3)
    assert cov.parameters[-1].type.shape == (1,)
    inner = np.eye(N + 3) - 0.1 * weights
    [found] = evaluated(gg.logp(y, 0.0, cov))
    assert_allclose(found, density(y, inner.T @ inner / 1.44), rtol=1e-12)


def test_large_maps_are_factored():
    n = 1001
    path = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)
    for cov in (
        gg.cov.CAR(path, 0.5, n=n),
        gg.cov.Leroux(path, 0.5, n=n),
        gg.cov.SAR(path, 0.1, n=n),
    ):
        assert cov.parameters[-1].type.shape == (0,)


def binary(matrix):
    return (matrix != 0).astype(int)


FORMS = {
    "pairs": (PAIRS, N),
    "both directions": (np.concatenate([PAIRS, PAIRS[::-1, ::-1]]), N),
    "dense": (binary(W), None),
    "list": (binary(W).tolist(), None),
    "bool": (W != 0, None),
    **{name: (sp.coo_array(binary(W)).asformat(name), None) for name in ("csr", "coo", "lil")},
    "matrix": (sp.csc_matrix(binary(W)), None),
    "graph": (SimpleNamespace(sparse=sp.coo_array(binary(W))), None),
    "graph and n": (SimpleNamespace(sparse=sp.csr_array(binary(W))), N),
    "constant": (pt.constant(binary(W)), None),
}


@pytest.mark.parametrize("name", FORMS)
def test_any_form_of_neighbours(name):
    neighbours, n = FORMS[name]
    expected = np.diag(binary(W).sum(axis=1)) - 0.5 * binary(W)
    cov = gg.cov.CAR(neighbours, 0.5, n=n)
    assert_allclose(np.linalg.inv(cov.to_dense().eval()), expected, atol=1e-13)


def test_zeros_that_are_stored_are_no_neighbours():
    stored = sp.coo_array(([1.0, 1.0, 0.0, 0.0], ([0, 1, 1, 2], [1, 0, 2, 1])), shape=(3, 3))
    before = stored.data.copy()
    with pytest.raises(ValueError, match=r"1 area\(s\) without neighbours \(the first is 2\)"):
        gg.cov.CAR(stored, 0.5)
    assert gg.cov.Leroux(stored, 0.5).pattern("")[1].size == 4
    assert_array_equal(stored.data, before)


def test_areas_without_neighbours():
    pair = [[0, 1]]
    leroux, car, sar = evaluated(
        gg.cov.Leroux(pair, 0.75, 2.0, n=3).diagonal(),
        gg.cov.CAR(pair, 0.5, 2.0, D=[1, 1, 4], n=3).diagonal(),
        gg.cov.SAR(pair, 0.5, 3.0, n=3).diagonal(),
    )
    assert_allclose([leroux[2], car[2], sar[2]], [2.0, 1 / 8, 9.0])
    assert_allclose(gg.cov.SAR(np.empty((0, 2)), 0.5, n=1).to_dense().eval(), [[1.0]])


@pytest.mark.parametrize("alpha", [1.0, 1.2, -1.01, -5.0, np.nan])
def test_outside_of_the_domain_there_is_no_density(alpha):
    """The square is bipartite, so that the eigenvalues are from -1 to 1."""
    dependence = pt.dscalar()
    square = gg.cov.CAR(PAIRS[:4], dependence, n=4)
    logp = gg.logp(np.ones(4), 0.0, square)
    value, slope = interpreted([dependence], [logp, pt.grad(logp, dependence)])(alpha)
    assert value == -np.inf
    assert slope == 0


def test_a_lag_model(rng):
    """(I - rho W)^-1 mu and its derivatives, of rows and of a batch."""
    rho, beta = pt.dscalar("rho"), pt.dvector("beta")
    X, y = rng.normal(size=(N, 2)), rng.normal(size=N)
    cov = gg.cov.SAR(STANDARDISED, rho, 1.3)
    inverse = pt.linalg.inv(of_lag(rho))
    logps = [
        gg.logp(y, cov.lag_mean(X @ beta), cov),
        gg.logp(y, inverse @ (X @ beta), gg.cov.Precision(of_lag(rho).T @ of_lag(rho) / 1.3**2)),
    ]
    outputs = [x for logp in logps for x in (logp, *pt.grad(logp, [rho, beta]))]
    values = interpreted([rho, beta], outputs)(0.4, [1.0, -2.0])
    for found, expected in zip(values[:3], values[3:], strict=True):
        assert_allclose(found, expected, rtol=1e-11)
    batch = gg.cov.SAR(STANDARDISED, np.array([0.1, 0.4]), np.array([1.0, 2.0]))
    means = evaluated(batch.lag_mean(X.T))[0]
    assert_allclose(means[0], np.linalg.solve(of_lag(0.1), X[:, 0]), rtol=1e-12)
    assert_allclose(means[1], np.linalg.solve(of_lag(0.4), X[:, 1]), rtol=1e-12)
    with pytest.raises(NotImplementedError, match="not a multiple of it"):
        (2 * batch).resolved.lag_mean(y)


def test_single_precision():
    """Data and parameters of 32 bits stay so; work is in double."""
    y = np.linspace(-1, 1, N).astype("float32")
    alpha, tau = pt.fscalar(), pt.fscalar()
    logp = gg.logp(y, pt.zeros(N, dtype="float32"), gg.cov.CAR(W, alpha, tau))
    assert logp.dtype == "float32"
    [value] = interpreted([alpha, tau], [logp])(0.5, 2.0)
    assert_allclose(value, gg.logp(y.astype(float), 0.0, gg.cov.CAR(W, 0.5, 2.0)).eval(), 1e-6)


def test_a_prior_of_counts(rng):
    """With another scale, sampled as any other variable: the density is a density."""
    with pm.Model() as model:
        alpha, tau = pm.Beta("alpha", 2, 2), pm.HalfNormal("tau")
        field = gg.MvNormal("field", 0.0, gg.cov.CAR(W, alpha, tau))
        pm.Poisson("counts", pm.math.exp(field), observed=rng.poisson(3, N))
    point = model.initial_point()
    gradient = model.compile_dlogp(mode="FAST_COMPILE")(point)
    assert gradient.shape == (N + 2,)
    assert np.isfinite(gradient).all()


WRONG = [
    (lambda: gg.cov.CAR(pt.dmatrix(), 0.5), TypeError, "`W` is symbolic, expected constant neigh"),
    (lambda: gg.cov.CAR("map", 0.5), TypeError, "gg.cov.CAR: `W` is a str"),
    (lambda: gg.cov.CAR(1j * W, 0.5), TypeError, "complex128, expected real"),
    (lambda: gg.cov.CAR(PAIRS, 0.5), ValueError, "say how many areas there are by n="),
    (lambda: gg.cov.CAR(W, 0.5, n=N), ValueError, "of a matrix leave n= out"),
    (lambda: gg.cov.CAR(sp.csr_array(W), 0.5, n=4), ValueError, "expected (4, 4)"),
    (lambda: gg.cov.CAR(PAIRS, 0.5, n=4), ValueError, "has the area 4, expected numbers from 0"),
    (lambda: gg.cov.CAR(PAIRS + 0.5, 0.5, n=6), ValueError, "pairs of neighbours, (e, 2)"),
    (lambda: gg.cov.CAR([[0, 0]], 0.5, n=2), ValueError, "no area is its own neighbour"),
    (lambda: gg.cov.CAR(W + EYE, 0.5), ValueError, "weight on its diagonal, in row 0"),
    (lambda: gg.cov.CAR(-W, 0.5), ValueError, "has the weight -1, expected finite numbers"),
    (lambda: gg.cov.CAR(W * np.nan, 0.5), ValueError, "has the weight nan"),
    (lambda: gg.cov.CAR(np.triu(W), 0.5), ValueError, "of a triangle alone pass W + W.T"),
    (lambda: gg.cov.Leroux(STANDARDISED, 0.5), ValueError, "before they were standardised"),
    (lambda: gg.cov.CAR([[0, 1]], 0.5, n=3), ValueError, "(the first is 2)"),
    (lambda: gg.cov.CAR(W, 0.5, -1.0), ValueError, "gg.cov.CAR: `tau` is -1, expected at least 0"),
    (lambda: gg.cov.CAR(W, np.nan), ValueError, "`alpha` has 1 entries that are not finite"),
    (lambda: gg.cov.CAR(W, 0.5, D=np.ones(3)), ValueError, "`D` has shape (3,), expected (5,)"),
    (lambda: gg.cov.CAR(W, 0.5, D=np.zeros(N)), ValueError, "`D` has entries that are no pos"),
    (lambda: gg.cov.CAR(W, 0.5, D=pt.dvector()), TypeError, "`D` is symbolic"),
    (lambda: gg.cov.Leroux(W, 1.5), ValueError, "`rho` is 1.5, expected between 0 and 1"),
    (lambda: gg.cov.SAR(W, 0.5, -2.0), ValueError, "gg.cov.SAR: `sigma` is -2"),
    (lambda: gg.cov.SAR(W, 0.5).lag_mean(np.ones(3)), ValueError, "expected n = 5"),
    (lambda: gg.logp(np.ones(N), 0.0, gg.cov.CAR(W, 1.0)), ValueError, "gg.cov.CAR: the constants"),
]


@pytest.mark.parametrize(("build", "error", "message"), WRONG)
def test_wrong_arguments(build, error, message):
    with pytest.raises(error, match=re.escape(message)):
        build()


def test_neighbours_in_a_data_container():
    with pm.Model(), pytest.raises(TypeError, match=r"data in a pm\.Data are no constants"):
        gg.cov.Leroux(pm.Data("W", W), 0.5)
