"""The Laplace approximation and the mass matrix: exact where the posterior is Gaussian."""

import arviz as az
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.blocking import DictToArrayBijection
from registry import AS_WRITTEN, INTERPRETED

import pm_gaussgrad as gg

MODE = {"compile_kwargs": {"mode": AS_WRITTEN}}  # the default, with the Python linker
N = 30
X = np.column_stack([np.ones(N), np.linspace(10, 12, N)])  # an intercept far from the data
# An array: of a Python float that is an integer PyMC takes the logarithm in single precision.
PRIOR, NOISE = np.array(5.0), 0.3


@pytest.fixture(scope="module")
def line():
    """A straight line with known covariance: the posterior is Gaussian."""
    rng = np.random.default_rng(3)
    y = X @ [1.0, -0.5] + 0.5 * rng.normal(size=N)
    with pm.Model(coords={"coefficient": ["intercept", "slope"], "time": X[:, 1]}) as model:
        beta = pm.Normal("beta", 0, PRIOR, dims="coefficient")
        mu = pm.Deterministic("mu", X @ beta, dims="time")
        gg.MvNormal("y", mu, gg.cov.AR1(NOISE, 0.4), observed=y, dims="time")
    cov = NOISE * 0.4 ** np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
    precision = X.T @ np.linalg.solve(cov, X) + np.eye(2) / PRIOR**2
    mean = np.linalg.solve(precision, X.T @ np.linalg.solve(cov, y))
    # log N(y | 0, cov + PRIOR^2 X X') by Woodbury's identity and the determinant lemma
    residual = y - X @ mean
    quad = residual @ np.linalg.solve(cov, residual) + mean @ mean / PRIOR**2
    logdet = np.linalg.slogdet(cov)[1] + np.linalg.slogdet(PRIOR**2 * precision)[1]
    evidence = -(quad + logdet + N * np.log(2 * np.pi)) / 2
    return model, mean, np.linalg.inv(precision), evidence


@pytest.mark.parametrize("information", ["observed", "expected"])
def test_exact_for_a_gaussian_posterior(line, information):
    model, mean, covariance, evidence = line
    idata = gg.laplace(model, 2000, 2, information=information, random_seed=1, **MODE)
    fit = idata["laplace"]
    assert_allclose(fit["mode"], mean, rtol=1e-8)
    assert_allclose(fit["covariance"], covariance, rtol=1e-8)
    assert_allclose(fit["log_evidence"], evidence, rtol=1e-10)
    assert list(fit["unconstrained"].values) == ["beta[0]", "beta[1]"]
    draws = idata.posterior["beta"].values.reshape(-1, 2)
    error = np.sqrt(np.diag(covariance) / len(draws))
    assert (np.abs(draws.mean(axis=0) - mean) < 4 * error).all()
    scale = np.sqrt(np.diag(covariance))
    assert_allclose(
        np.cov(draws.T) / np.outer(scale, scale), covariance / np.outer(scale, scale), atol=0.1
    )


def test_draws_are_those_of_a_sampler(line):
    model = line[0]
    idata = gg.laplace(model, 10, 3, random_seed=1, **MODE)
    posterior = idata.posterior
    assert posterior["beta"].dims == ("chain", "draw", "coefficient")
    assert posterior["beta"].shape == (3, 10, 2)
    assert list(posterior["coefficient"].values) == ["intercept", "slope"]
    assert_allclose(posterior["mu"], posterior["beta"].values @ X.T, rtol=1e-12)
    assert posterior["mu"].dims == ("chain", "draw", "time")
    assert idata.observed_data["y"].dims == ("time",)
    assert len(az.summary(idata, var_names="beta")) == 2
    again = gg.laplace(model, 10, 3, random_seed=1, **MODE)
    np.testing.assert_array_equal(again.posterior["beta"], posterior["beta"])
    with model:
        drawn = pm.sample_posterior_predictive(
            idata, random_seed=1, progressbar=False, compile_kwargs={"mode": INTERPRETED}
        )
    assert drawn.posterior_predictive["y"].shape == (3, 10, N)


@pytest.fixture(scope="module")
def growth():
    """Constrained parameters and several rows."""
    rows = np.random.default_rng(5).normal(size=(8, 4)).cumsum(axis=1)
    with pm.Model() as model:
        slope = pm.Normal("slope", 0, 1)
        v = pm.HalfNormal("v", 2)
        rho = pm.Uniform("rho", -1, 1)
        gg.MvNormal("y", slope * np.arange(4), gg.cov.AR1(v, rho), observed=rows)
        pm.Potential("soft", -0.1 * (v - 1) ** 4)
    return model


def test_observed_information_is_the_hessian(growth):
    """Differences of the model's gradient, in the unconstrained space, where it vanishes."""
    fit = gg.laplace(growth, 1, 1, **MODE)["laplace"]
    gradient = growth.compile_dlogp(mode=INTERPRETED)
    names = ["slope", "v_log__", "rho_interval__"]

    def at(x):
        return gradient({name: np.array(value) for name, value in zip(names, x, strict=True)})

    mode, h = fit["mode"].values, 1e-3
    weights = {-2: 1, -1: -8, 1: 8, 2: -1}
    hessian = [
        sum(w * at(mode + k * h * unit) for k, w in weights.items()) / (12 * h)
        for unit in np.eye(3)
    ]
    assert_allclose(at(mode), 0, atol=1e-6)
    assert_allclose(-np.array(hessian), np.linalg.inv(fit["covariance"]), rtol=1e-8, atol=1e-8)


def test_draws_are_constrained(growth):
    idata = gg.laplace(growth, 500, 2, random_seed=2, **MODE)
    assert float(idata.posterior["v"].min()) > 0
    assert float(np.abs(idata.posterior["rho"]).max()) < 1
    assert "v_log__" not in idata.posterior
    log_v = np.log(idata.posterior["v"].values)
    fit = idata["laplace"]
    scale = np.sqrt(fit["covariance"].values[1, 1])
    assert abs(log_v.mean() - fit["mode"].values[1]) < 4 * scale / np.sqrt(1000)


def _plain_models(rows):
    """The same likelihood in all the ways that models write it."""
    index = np.arange(4)
    lag = np.abs(np.subtract.outer(index, index))

    def kinds(v, rho):
        dense = v * rho**lag
        yield lambda mu, **k: gg.MvNormal("y", mu, gg.cov.AR1(v, rho), **k)
        yield lambda mu, **k: pm.MvNormal("y", mu, cov=dense, **k)
        yield lambda mu, **k: pm.MvNormal("y", mu, tau=pt.linalg.inv(dense), **k)

    for i in range(3):
        with pm.Model() as model:
            slope, v, rho = pm.Normal("slope"), pm.HalfNormal("v"), pm.Beta("rho", 2, 2)
            list(kinds(v, rho))[i](slope * index, observed=rows)
        yield model


def test_expected_information_of_every_normal():
    """Rows of gg.MvNormal and of pm.MvNormal by cov and tau; prior curvature beside."""
    rows = np.random.default_rng(6).normal(size=(5, 4))
    models = list(_plain_models(rows))
    point = {"slope": 0.3, "v_log__": 0.2, "rho_logodds__": -0.4}
    got = [gg.mass_matrix(m, point, information="expected", **MODE) for m in models]
    for other in got[1:]:
        assert_allclose(other, got[0], rtol=1e-8)
    # By hand: v = exp(x), rho = logistic(z), with log densities of their priors in x and z.
    v, rho, t = np.exp(0.2), 1 / (1 + np.exp(0.4)), np.arange(4)
    cov = v * rho ** np.abs(np.subtract.outer(t, t))
    lag = np.abs(np.subtract.outer(t, t))
    dcov = np.array([0 * cov, cov, lag * cov * (1 - rho)])
    solved = np.linalg.solve(cov, dcov)
    information = 5 * np.einsum("aij,bji->ab", solved, solved) / 2
    information[0, 0] += 5 * t @ np.linalg.solve(cov, t) + 1
    information[1, 1] += 2 * v**2
    information[2, 2] += 4 * rho * (1 - rho)
    assert_allclose(np.linalg.inv(got[0]), information, rtol=1e-9, atol=1e-9)


def test_expected_information_of_a_plain_sum():
    """A mean u + b x: precision J'J + I, J = [I x], and the evidence of a Gaussian posterior."""
    x = np.array([1.0, 2.0, 3.0])
    with pm.Model() as model:
        mean = pm.Normal("u", shape=3) + pm.Normal("b") * x
        gg.MvNormal("y", mean, gg.cov.Diagonal(1.0, size=3), observed=np.zeros(3))
    design = np.column_stack([np.eye(3), x])
    marginal = np.eye(3) + design @ design.T
    evidence = -(np.linalg.slogdet(marginal)[1] + 3 * np.log(2 * np.pi)) / 2
    for information in ("observed", "expected"):
        fit = gg.laplace(model, 1, 1, information=information, **MODE)["laplace"]
        precision = np.linalg.inv(fit["covariance"])
        assert_allclose(precision, design.T @ design + np.eye(4), rtol=1e-9, atol=1e-9)
        assert_allclose(fit["log_evidence"], evidence, rtol=1e-9)


def test_expected_information_with_gaps():
    """Rows with different gaps, and one without data, as subjects with missing visits."""
    data = np.random.default_rng(8).normal(size=(4, 3))
    data[0, 1] = data[2, 0] = data[3] = np.nan
    subject, visit = np.nonzero(~np.isnan(data))
    point, got = {"slope": 0.3, "v_log__": 0.2}, []
    for gaps in (True, False):
        with pm.Model() as model:
            slope, v = pm.Normal("slope"), pm.HalfNormal("v")
            within = gg.cov.AR1(v, 0.6, size=3)
            if gaps:
                gg.MvNormal("y", slope * np.arange(3), within, observed=data)
            else:
                cov = gg.cov.RepeatedMeasures(within, subject, visit)
                gg.MvNormal("y", slope * visit, cov, observed=data[subject, visit])
        got.append(gg.mass_matrix(model, point, information="expected", **MODE))
    assert_allclose(got[0], got[1], rtol=1e-10)


def test_batches_have_no_expected_information():
    with pm.Model() as model:
        v = pm.HalfNormal("v", shape=2)
        gg.MvNormal("y", 0.0, v[:, None, None] * np.eye(3), observed=np.ones((2, 3)))
    with pytest.raises(NotImplementedError, match="'y' has batch dimensions"):
        gg.laplace(model, information="expected", **MODE)


def test_start_and_the_mode_of_pymc(growth):
    """``pm.find_MAP()`` is a start, though not the mode: it leaves the Jacobian out."""
    with growth:
        found = pm.find_MAP(progressbar=False, compile_kwargs={"mode": INTERPRETED})
    fits = [gg.laplace(growth, 1, 1, start=start, **MODE)["laplace"] for start in (None, found)]
    assert_allclose(*(fit["mode"] for fit in fits), rtol=1e-7)
    assert abs(float(found["v_log__"]) - float(fits[0]["mode"][1])) > 0.01


def test_mass_matrix_in_nuts(line):
    """In the order and on the scale that ``pm.NUTS`` takes: short trajectories, right moments.

    Intercept and slope have a correlation of -0.998, for which a diagonal matrix needs
    trajectories of many steps.
    """
    model, mean, covariance, _ = line
    scaling = gg.mass_matrix(model, **MODE)
    assert_allclose(scaling, covariance, rtol=1e-8)
    with model:
        step = pm.NUTS(scaling=scaling, is_cov=True)
        idata = pm.sample(
            600, tune=200, step=step, chains=2, cores=1, random_seed=7, progressbar=False
        )
    draws = idata.posterior["beta"]
    error = az.mcse(draws)
    assert (np.abs(draws.mean(("chain", "draw")) - mean) < 4 * error).all()
    assert_allclose(draws.std(("chain", "draw")), np.sqrt(np.diag(covariance)), rtol=0.15)
    assert float(idata.sample_stats["n_steps"].mean()) < 6


def test_order_of_the_mass_matrix(growth):
    """Rows are those of DictToArrayBijection, as NUTS uses it."""
    scaling = gg.mass_matrix(growth, growth.initial_point(), information="expected", **MODE)
    order = DictToArrayBijection.map(growth.initial_point()).point_map_info
    assert [x[0] for x in order] == [v.name for v in growth.value_vars]
    assert scaling.shape == (3, 3)
    assert (np.linalg.eigvalsh(scaling) > 0).all()


def _model(free, likelihood):
    with pm.Model() as model:
        likelihood(*free())
    return model


def _observe(mu):
    gg.MvNormal("y", mu, gg.cov.Diagonal(1.0), observed=np.arange(3.0))


@pytest.mark.parametrize(
    ("model", "arguments", "error", "words"),
    [
        (
            lambda: _model(lambda: [pm.Poisson("count", 3)], lambda k: _observe(k * np.ones(3))),
            {},
            TypeError,
            r"discrete variables \(count\)",
        ),
        (lambda: _model(list, lambda: _observe(0.0)), {}, ValueError, "no free variables"),
        (
            lambda: _model(
                lambda: [pm.Flat("a"), pm.Flat("b")], lambda a, b: _observe((a + b) * np.ones(3))
            ),
            {},
            RuntimeError,
            "not positive definite: .* a.* b|not positive definite: .* b.* a",
        ),
        (
            lambda: _model(
                lambda: [pm.Normal("a")], lambda a: pm.Poisson("k", pt.exp(a), observed=3)
            ),
            {"information": "expected"},
            ValueError,
            "needs a Gaussian likelihood",
        ),
        (
            lambda: _model(lambda: [pm.Normal("a")], lambda a: _observe(a * np.ones(3))),
            {"information": "fisher"},
            ValueError,
            "information is 'fisher'",
        ),
        (
            lambda: _model(lambda: [pm.HalfNormal("a")], lambda a: _observe(a * np.ones(3))),
            {"start": {"a": 1.0}},
            ValueError,
            "`start` lacks a_log__",
        ),
        (
            lambda: _model(lambda: [pm.Normal("a")], lambda a: _observe(a * np.ones(3))),
            {"start": {"a": np.ones(2)}},
            ValueError,
            "has the shapes",
        ),
        (
            lambda: _model(lambda: [pm.Normal("a")], lambda a: pm.Potential("no", pt.log(a))),
            {"start": {"a": np.array(-1.0)}},
            ValueError,
            "not finite",
        ),
        (
            lambda: _model(lambda: [pm.Flat("a")], lambda a: pm.Potential("up", 2 * a)),
            {},
            RuntimeError,
            "not positive definite",
        ),
    ],
)
def test_errors(model, arguments, error, words):
    with pytest.raises(error, match=words):
        gg.laplace(model(), 1, 1, **arguments, **MODE)


def test_points_of_the_mass_matrix(growth):
    with pytest.raises(ValueError, match="`point` lacks rho_interval__"):
        gg.mass_matrix(growth, {"slope": 0.0, "v_log__": 0.0}, **MODE)
    with pytest.raises(TypeError, match="context"):
        gg.mass_matrix(**MODE)
