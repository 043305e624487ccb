"""gg.MvNormal as a PyMC distribution: everything a user does with one but sample its posterior."""

import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import (
    AS_WRITTEN,
    CASES,
    INTERPRETED,
    REPRESENTATIVES,
    each,
    interpreted,
    positive_definite,
)
from scipy.stats import halfnorm, multivariate_normal, norm

import pm_gaussgrad as gg

N, M = 3, 5
SIGMA = positive_definite(np.random.default_rng(1), N)
MU = np.array([1.0, -2.0, 0.5])
PARAMETERISATIONS = {
    "cov": SIGMA,
    "chol": np.linalg.cholesky(SIGMA),
    "tau": np.linalg.inv(SIGMA),
}


def _model(distribution=gg.MvNormal, shared=False):
    """A latent vector, rows around it, and a covariance with a parameter."""
    rng = np.random.default_rng(7)
    coords = {"row": range(M), "time": ["a", "b", "c"]}
    with pm.Model(coords=coords) as model:
        y = rng.normal(size=(M, N))
        scale = pm.HalfNormal("scale")
        mu = distribution("mu", np.zeros(N), SIGMA, dims="time")
        if shared:
            data = pm.Data("data", y)
            distribution("y", mu, scale * SIGMA, observed=data, shape=data.shape)
        else:
            distribution("y", mu, scale * SIGMA, observed=y, dims=("row", "time"))
    return model


@pytest.mark.parametrize("name", PARAMETERISATIONS)
@pytest.mark.parametrize("shape", [(N,), (M, N), (2, M, N)])
def test_logp_against_scipy(name, shape, rng):
    value = rng.normal(size=shape)
    dist = gg.MvNormal.dist(MU, **{name: PARAMETERISATIONS[name]}, shape=shape)
    got = pm.logp(dist, value).eval()
    assert got.shape == shape[:-1]
    assert_allclose(got, multivariate_normal(MU, SIGMA).logpdf(value), rtol=1e-12)


def test_mean_by_row_and_batches_of_covariances(rng):
    value, mu = rng.normal(size=(M, 2, N)), rng.normal(size=(M, 2, N))
    covs = np.stack([positive_definite(rng, N) for _ in range(2)])
    got = pm.logp(gg.MvNormal.dist(mu, covs), value).eval()
    expected = [
        [multivariate_normal(mu[i, b], covs[b]).logpdf(value[i, b]) for b in range(2)]
        for i in range(M)
    ]
    assert_allclose(got, expected, rtol=1e-12)


def test_covariances_without_rows_broadcast_over_one_value(rng):
    covs = np.stack([positive_definite(rng, N) for _ in range(4)])
    got = gg.logp(MU, 0.0, covs).eval()
    assert_allclose(got, [multivariate_normal(np.zeros(N), c).logpdf(MU) for c in covs], rtol=1e-12)


@each(CASES)
def test_draws_have_the_covariance(case, rng):
    """20,000 draws: every entry of the mean and covariance within 5 standard errors."""
    n, draws = 3, 20_000
    cov = case.build(n, *map(pt.constant, case.values(rng, n)))
    x = pm.draw(gg.MvNormal.dist(MU, cov, shape=(draws, n)), random_seed=3, mode=INTERPRETED)
    sigma = cov.to_dense().eval(mode=AS_WRITTEN)
    assert x.shape == (draws, n)
    assert_allclose((x.mean(axis=0) - MU) / np.sqrt(np.diag(sigma) / draws), 0, atol=5)
    spread = np.sqrt((np.outer(np.diag(sigma), np.diag(sigma)) + sigma**2) / draws)
    assert_allclose((np.cov(x.T) - sigma) / spread, 0, atol=5)
    if case.name in REPRESENTATIVES:  # the generator is not the structure's
        again = gg.MvNormal.dist(MU, cov, shape=(draws, n))
        np.testing.assert_array_equal(x, pm.draw(again, random_seed=3, mode=INTERPRETED))


def _scaled(case, numbers, y):
    """A model whose covariance is a parameter times a structure."""
    with pm.Model(coords={"row": range(M), "time": range(N)}) as model:
        scale = pm.HalfNormal("scale")
        cov = scale * case.build(N, *map(pt.constant, numbers))
        mean = pm.Normal("mean")
        gg.MvNormal("y", mean * np.ones(N), cov=cov, observed=y, dims=("row", "time"))
    return model


def _by_hand(log_scale, mean, sigma, y):
    """Its log density and the slopes in the logarithm of the scale and in the mean."""
    scale, residual = np.exp(log_scale), y - mean
    solved = np.linalg.solve(scale * sigma, residual.T)
    prior = halfnorm.logpdf(scale) + log_scale + norm.logpdf(mean)
    rows = multivariate_normal(np.full(N, mean), scale * sigma).logpdf(y)
    slope = ((residual.T * solved).sum() - y.size) / 2 + 1 - scale**2
    return prior + rows.sum(), [slope, solved.sum() - mean]


@each(CASES)
def test_every_structure_in_a_model(case, rng):
    """Density and gradient, of a pickled copy too; predictive draws."""
    import arviz as az

    numbers, y = case.values(rng, N), rng.normal(size=(M, N))
    posterior = {"scale": rng.uniform(1, 2, size=(1, 3)), "mean": rng.normal(size=(1, 3))}
    sigma = case.build(N, *map(pt.constant, numbers)).to_dense().eval(mode=AS_WRITTEN)
    sigma = (sigma + sigma.T) / 2
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        ours = _scaled(case, numbers, y)
        point = {"scale_log__": np.array(0.3), "mean": np.array(-0.2)}
        logp, dlogp = _by_hand(0.3, -0.2, sigma, y)
        copied = cloudpickle.loads(cloudpickle.dumps(ours))
        assert_allclose(copied.compile_logp(mode=INTERPRETED)(point), logp, rtol=1e-10)
        assert_allclose(ours.compile_dlogp(mode=INTERPRETED)(point), dlogp, rtol=1e-9)
        idata = az.from_dict({"posterior": posterior})
        with ours:
            prior = pm.sample_prior_predictive(4, random_seed=1)
            predictive = pm.sample_posterior_predictive(idata, random_seed=1, progressbar=False)
            pm.compute_log_likelihood(idata, progressbar=False)
    assert prior.prior_predictive["y"].shape == (1, 4, M, N)
    assert predictive.posterior_predictive["y"].dims == ("chain", "draw", "row", "time")
    for d in range(3):
        mean, scale = posterior["mean"][0, d], posterior["scale"][0, d]
        expected = multivariate_normal(np.full(N, mean), scale * sigma).logpdf(y)
        assert_allclose(idata.log_likelihood["y"][0, d], expected, rtol=1e-9)


def test_draws_of_batched_covariances_use_their_own(rng):
    covs = np.stack([0.01 * np.eye(N), 100.0 * np.eye(N)])
    x = pm.draw(gg.MvNormal.dist(np.zeros((2, N)), covs, shape=(2000, 2, N)), random_seed=1)
    assert_allclose(x.std(axis=(0, 2)), [0.1, 10.0], rtol=0.05)


def test_model_agrees_with_pymc(rng):
    ours, theirs = _model(), _model(pm.MvNormal)
    point = ours.initial_point()
    point = {name: value + 0.3 * rng.normal(size=value.shape) for name, value in point.items()}
    assert_allclose(ours.compile_logp()(point), theirs.compile_logp()(point), rtol=1e-12)
    order = [v.name for v in ours.value_vars]
    assert order == [v.name for v in theirs.value_vars]
    assert_allclose(ours.compile_dlogp()(point), theirs.compile_dlogp()(point), rtol=1e-10)


def test_support_point_and_shapes():
    model = _model()
    assert_allclose(model.initial_point()["mu"], np.zeros(N))
    with pm.Model() as rows:
        gg.MvNormal("x", MU, SIGMA, shape=(M, N))
    assert_allclose(rows.initial_point()["x"], np.tile(MU, (M, 1)))


def test_prior_predictive_dims():
    with _model():
        prior = pm.sample_prior_predictive(4, random_seed=1)
    assert prior.prior_predictive["y"].dims == ("chain", "draw", "row", "time")
    assert prior.prior["mu"].shape == (1, 4, N)


def test_posterior_predictive_and_log_likelihood():
    """From a posterior group, per row, against SciPy; new data change the shapes."""
    import arviz as az

    rng = np.random.default_rng(2)
    posterior = {"scale": rng.uniform(1, 2, size=(1, 6)), "mu": rng.normal(size=(1, 6, N))}
    model = _model(shared=True)
    idata = az.from_dict({"posterior": posterior}, dims={"mu": ["time"]})
    with model:
        pm.compute_log_likelihood(idata, progressbar=False)
        predictive = pm.sample_posterior_predictive(idata, random_seed=1, progressbar=False)
    got = idata.log_likelihood["y"]
    assert got.shape == (1, 6, M)
    data = model["data"].get_value()
    for d in range(6):
        frozen = multivariate_normal(posterior["mu"][0, d], posterior["scale"][0, d] * SIGMA)
        assert_allclose(got[0, d], frozen.logpdf(data), rtol=1e-10)
    assert predictive.posterior_predictive["y"].shape == (1, 6, M, N)
    with model:
        pm.set_data({"data": np.zeros((2, N))})
        predictive = pm.sample_posterior_predictive(
            idata, random_seed=1, progressbar=False, predictions=True
        )
    assert predictive.predictions["y"].shape == (1, 6, 2, N)


def test_set_data_changes_the_log_density():
    model = _model(shared=True)
    logp = model.compile_logp(vars=[model["y"]])
    point = model.initial_point()
    for value in (np.zeros((M, N)), np.ones((2 * M, N))):
        with model:
            pm.set_data({"data": value})
        expected = multivariate_normal(np.zeros(N), SIGMA).logpdf(value).sum()
        assert_allclose(logp(point), expected, rtol=1e-10)


@pytest.mark.parametrize("dims", [None, ("time",)], ids=["data", "dims"])
def test_data_of_another_length(dims, rng):
    """A common mean is as long as the data are, whatever the structure."""
    with pm.Model(coords={"time": range(N)}) as model:
        x, rho = pm.Data("x", rng.normal(size=N), dims=dims), pm.Uniform("rho")
        series = gg.cov.AR1(1.0, rho)
        covs = {
            "scalars": series,
            "factors": gg.cov.LowRank(x[:, None]) + series,
            "scales": gg.cov.Scaled(series, pt.exp(x)) + gg.cov.Diagonal(0.1),
            "lags": series + gg.cov.CompoundSymmetry(1.0, 0.3),
        }
        for name, cov in covs.items():
            y = pm.Data(f"{name}_data", rng.normal(size=N), dims=dims)
            gg.MvNormal(name, 0.0, cov, observed=y, dims=dims)
    logp = model.compile_logp(vars=model.observed_RVs, sum=False, mode=INTERPRETED)
    for n in (N, N + 2, 2):
        y = rng.normal(size=n)
        new = {"x": rng.normal(size=n), **dict.fromkeys((f"{name}_data" for name in covs), y)}
        with model:
            pm.set_data(new, coords={"time": range(n)} if dims else None)
        found = logp({"rho_interval__": np.array(0.3)})
        given = {rho: 1 / (1 + np.exp(-0.3))}
        for value, cov in zip(found, covs.values(), strict=True):
            sigma = cov.sized(n).to_dense().eval(given, mode=AS_WRITTEN)
            assert_allclose(value, multivariate_normal(np.zeros(n), sigma).logpdf(y), rtol=1e-9)
    assert pm.draw(model["scalars"], random_seed=1, mode=AS_WRITTEN).shape == (2,)


def test_do_and_observe():
    model = _model()
    done = pm.do(model, {"mu": MU})
    assert [v.name for v in done.free_RVs] == ["scale"]
    data = np.asarray(model.rvs_to_values[model["y"]].data)
    total = done.compile_logp(vars=[done["y"]])({"scale_log__": np.array(0.0)})
    assert_allclose(total, multivariate_normal(MU, SIGMA).logpdf(data).sum(), rtol=1e-12)
    observed = pm.observe(model, {"mu": MU})
    assert {v.name for v in observed.observed_RVs} == {"mu", "y"}
    prior = multivariate_normal(np.zeros(N), SIGMA).logpdf(MU)
    got = observed.compile_logp(vars=[observed["mu"]])({"scale_log__": np.array(0.0)})
    assert_allclose(got, prior, rtol=1e-12)


def test_printing_and_graph():
    model = _model()
    assert "y ~ MvNormal(mu, f(scale))" in model.str_repr()
    assert "MvNormal" in model.str_repr(formatting="latex")
    assert "MvNormal" in model.to_graphviz().source


def test_cloudpickle_round_trip():
    model = _model()
    copied = cloudpickle.loads(cloudpickle.dumps(model))
    point = model.initial_point()
    assert_allclose(copied.compile_logp()(point), model.compile_logp()(point), rtol=1e-14)


def test_vectorised_log_density(rng):
    """vectorize_graph over posterior draws, as PyMC's own tools do."""
    from pytensor.graph.replace import vectorize_graph

    mu, matrix = pt.vector("mu", shape=(N,)), pt.matrix("S", shape=(N, N))
    value = rng.normal(size=(M, N))
    by_row = gg.logp(value, mu, matrix)
    mus, matrices = pt.matrix("mus"), pt.tensor3("Ss")
    [batched] = vectorize_graph([by_row], {mu: mus, matrix: matrices})
    numbers = rng.normal(size=(4, N)), np.stack([positive_definite(rng, N) for _ in range(4)])
    got = interpreted([mus, matrices], batched)(*numbers)
    expected = [multivariate_normal(m, s).logpdf(value) for m, s in zip(*numbers, strict=True)]
    assert_allclose(got, expected, rtol=1e-12)


def test_vectorised_data_keep_one_factorisation(rng):
    """A batch of data and means under one covariance becomes rows, not a batch of matrices."""
    from pytensor.graph.replace import vectorize_graph
    from pytensor.tensor.blockwise import Blockwise

    value, mu, matrix = pt.matrix("y"), pt.vector("mu"), pt.matrix("S")
    values, mus = pt.tensor3("ys"), pt.matrix("mus")
    [batched] = vectorize_graph([gg.logp(value, mu, matrix)], {value: values, mu: mus})
    function = interpreted([values, mus, matrix], batched)
    assert not any(isinstance(node.op, Blockwise) for node in function.maker.fgraph.apply_nodes)
    numbers = rng.normal(size=(4, M, N)), rng.normal(size=(4, N))
    expected = [multivariate_normal(m, SIGMA).logpdf(y) for y, m in zip(*numbers, strict=True)]
    assert_allclose(function(*numbers, SIGMA), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "made",
    [
        lambda **kwargs: gg.MvNormal.dist(0, gg.cov.Diagonal(1.0, size=3), **kwargs),
        lambda **kwargs: gg.MvStudentT.dist(3.0, 0, gg.cov.Diagonal(1.0, size=3), **kwargs),
    ],
    ids=["normal", "student"],
)
def test_the_next_generator_is_returned_where_asked_for(made):
    following, draws = made(return_next_rng=True)
    assert following is draws.owner.outputs[0]
    assert draws.type == made().type


def test_resized_variable_keeps_its_structure():
    from pymc.distributions.shape_utils import change_dist_size

    dist = gg.MvNormal.dist(MU, gg.cov.Diagonal(2.0))
    resized = change_dist_size(dist, (4,))
    assert resized.owner.op.structure is dist.owner.op.structure
    assert pm.draw(resized, random_seed=1).shape == (4, N)
    assert pm.draw(change_dist_size(resized, (2,), expand=True), random_seed=1).shape == (2, 4, N)
