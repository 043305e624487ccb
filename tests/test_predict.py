"""From a fitted model to predictions and imputed values: numbers, labels, coverage."""

import arviz as az
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from registry import CASES, INTERPRETED, each, interpreted

import pm_gaussgrad as gg
from pm_gaussgrad.cov.protocol.kriging import Kriging

QUIET = {"progressbar": False, "random_seed": 1}
N, N_NEW, ROWS = 5, 2, 3
LAGS = np.arange(N + N_NEW)


def posterior(**draws):
    return az.from_dict({"posterior": draws})


def exponential(distance, scale):
    """A kernel with noise, which is part of the observations and of new ones."""
    return np.exp(-distance / scale) + 0.3 * (distance == 0)


def conditional(y, mu, cov, new):
    """Means and covariance of some entries given those that are neither new nor missing."""
    seen = np.flatnonzero(~np.isnan(y))
    weights = np.linalg.solve(cov[np.ix_(seen, seen)], cov[np.ix_(seen, new)])
    mean = mu + (y[seen] - mu) @ weights
    return mean, cov[np.ix_(new, new)] - weights.T @ cov[np.ix_(seen, new)]


@pytest.fixture(scope="module")
def panel():
    """Rows with different gaps, one without observations; a series with a known posterior."""
    rng = np.random.default_rng(3)
    y = rng.normal(size=(ROWS, N)) + 2
    y[0, 1], y[1] = np.nan, np.nan
    coords = {"series": ["a", "b", "c"], "time": np.arange(N), "later": [10, 20]}
    with pm.Model(coords=coords) as model:
        scale, mean = pm.HalfNormal("scale"), pm.Normal("mean")
        column = pt.exp(-LAGS / scale) + 0.3 * (LAGS == 0)
        cov = gg.cov.Toeplitz(column[:N])
        gg.MvNormal("y", mean, cov, observed=y, dims=("series", "time"))
    model.y, model.column = y, column
    return model


def by_positions(model, idata, **options):
    cov = gg.cov.Toeplitz(model.column)
    options = {**QUIET, "new": [N, N + 1], **options}
    return gg.predict(idata, mu=model["mean"], cov=cov, dims="later", model=model, **options)


def by_blocks(model, idata, **options):
    full = model.column[np.abs(LAGS[:, None] - LAGS)]
    blocks = model["mean"], full[:N, N:], full[N:, N:]
    return gg.predict(idata, *blocks, dims="later", model=model, **{**QUIET, **options})


@pytest.mark.parametrize("way", [by_positions, by_blocks])
def test_numbers_at_each_draw(panel, way, rng):
    scales, means = rng.uniform(1, 5, size=(2, 3)), rng.normal(size=(2, 3))
    idata = posterior(scale=scales, mean=means)
    assert way(panel, idata) is idata
    found = idata.predictions
    assert found["y_new"].dims == ("chain", "draw", "series", "later")
    assert found["later"].values.tolist() == [10, 20]
    assert found["series"].values.tolist() == ["a", "b", "c"]
    for index in np.ndindex(2, 3):
        cov = exponential(np.abs(LAGS[:, None] - LAGS), scales[index])
        for i, row in enumerate(panel.y):
            y = np.append(row, [np.nan] * N_NEW)
            mean, covariance = conditional(y, means[index], cov, LAGS[N:])
            assert_allclose(found["y_new_mean"].values[index][i], mean, rtol=1e-10)
            variances = found["y_new_variance"].values[index][i]
            assert_allclose(variances, np.diag(covariance), rtol=1e-10)


def test_blocks_for_each_row(panel):
    """Leading dimensions of the blocks are those of rows."""
    idata = posterior(scale=np.array([[1.5, 4.0]]), mean=np.array([[1.0, 2.0]]))
    full = panel.column[np.abs(LAGS[:, None] - LAGS)]
    cross, own = (pt.stack([block] * ROWS) for block in (full[:N, N:], full[N:, N:]))
    options = {**QUIET, "dims": "later", "model": panel, "extend_inferencedata": False}
    found = gg.predict(idata, panel["mean"], cross, own, **options)
    expected = by_blocks(panel, idata, extend_inferencedata=False)
    for name, values in expected.items():
        assert_allclose(found[name], values, rtol=1e-10, err_msg=name)


@pytest.mark.compiled
@pytest.mark.parametrize("way", [by_positions, by_blocks, None])
def test_draws_have_the_distribution(panel, way):
    """Means and covariances of 4,000 draws at one value of the parameters."""
    count = 4000
    idata = posterior(scale=np.full((1, count), 2.0), mean=np.full((1, count), 1.5))
    cov = exponential(np.abs(LAGS[:, None] - LAGS), 2.0)
    if way:
        draws, sought = way(panel, idata).predictions["y_new"].values[0], [LAGS[N:]] * ROWS
    else:
        gg.impute(idata, model=panel, **QUIET)
        draws = idata.posterior_predictive["y_imputed"].values[0]
        sought = [np.flatnonzero(np.isnan(row)) for row in panel.y]
        seen = ~np.isnan(panel.y)
        np.testing.assert_array_equal(draws[:, seen], np.tile(panel.y[seen], (count, 1)))
    for i, new in enumerate(sought):
        y = np.append(panel.y[i], [np.nan] * N_NEW)
        mean, covariance = conditional(y, 1.5, cov, new)
        of_row = draws[:, i, -N_NEW:] if way else draws[:, i, new]
        white = np.linalg.solve(np.linalg.cholesky(covariance), (of_row - mean).T)
        assert np.abs(white.mean(axis=1)).max(initial=0) < 4.5 / np.sqrt(count)
        moments = white @ white.T / count - np.eye(len(new))
        assert np.abs(moments).max(initial=0) < 4.5 * np.sqrt(2 / count)


def test_a_mask_and_any_order(panel):
    idata = posterior(scale=np.full((1, 2), 2.0), mean=np.zeros((1, 2)))
    expected = by_positions(panel, idata)["predictions"]["y_new_mean"]
    mask = by_positions(panel, idata, new=LAGS >= N, extend_inferencedata=False)
    np.testing.assert_array_equal(mask["y_new_mean"], expected)
    turned = by_positions(panel, idata, new=[N + 1, N], extend_inferencedata=False)
    assert_allclose(turned["y_new_mean"], expected[..., ::-1], rtol=1e-12)


def test_variances_only(panel):
    idata = posterior(scale=np.full((1, 2), 2.0), mean=np.zeros((1, 2)))
    for way in (by_positions, by_blocks):
        found = way(panel, idata, diag=True, extend_inferencedata=False)
        assert isinstance(found, xr.Dataset)
        assert set(found.data_vars) == {"y_new_mean", "y_new_variance"}
        assert "predictions" not in idata.children


def test_the_seed_and_the_group(panel):
    idata = posterior(scale=np.full((1, 3), 2.0), mean=np.zeros((1, 3)))
    first = by_positions(panel, idata)["predictions"]["y_new"].copy(deep=True)
    assert (by_positions(panel, idata)["predictions"]["y_new"] == first).all()
    assert (by_positions(panel, idata, random_seed=2)["predictions"]["y_new"] != first).all()
    by_positions(panel, idata, name="again")
    assert {"again", "again_mean", "y_new"} <= set(idata.predictions.data_vars)
    with pytest.raises(ValueError, match="other labels along 'later'"):
        by_positions(panel, idata, name="third", coords={"later": [30, 40]})
    # In place of what had the name, whatever its labels were.
    del idata["predictions"]
    by_positions(panel, idata, coords={"later": [30, 40]})
    by_positions(panel, idata)
    assert idata.predictions["later"].values.tolist() == [10, 20]


def test_imputed_values_are_not_replicates(panel):
    idata = posterior(scale=np.full((1, 3), 2.0), mean=np.zeros((1, 3)))
    replicates = xr.DataArray(
        np.zeros((1, 3, ROWS, N)), dims=("chain", "draw", "series", "time"), name="y"
    ).assign_coords(chain=[0], draw=np.arange(3), series=["a", "b", "c"], time=np.arange(N))
    idata["posterior_predictive"] = xr.DataTree(replicates.to_dataset())
    gg.impute(idata, model=panel, **QUIET)
    assert (idata.posterior_predictive["y"] == 0).all()
    assert idata.posterior_predictive["y_imputed"].dims == replicates.dims
    only = gg.impute(idata, model=panel, name="gaps", extend_inferencedata=False, **QUIET)
    assert list(only.data_vars) == ["gaps"]


@pytest.mark.parametrize("likelihood", [gg.MvNormal, pm.MvNormal])
def test_inputs_of_data_containers(likelihood):
    """Sizes known at run time only; without noise the data are predicted at their inputs."""
    x = np.array([0.0, 1.0, 2.5, 4.0])
    with pm.Model():
        inputs, new = pm.Data("x", x), pm.Data("new", np.append(x, 9.0))
        scale = pm.HalfNormal("scale")

        def kernel(a, b):
            return pt.exp(-np.abs(a[:, None] - b) / scale)

        likelihood("y", np.ones(4), kernel(inputs, inputs), observed=np.sin(x))
        idata = posterior(scale=np.array([[0.7, 1.9]]))
        gg.predict(idata, 1.0, kernel(inputs, new), kernel(new, new), **QUIET)
        found = idata.predictions
        assert_allclose(found["y_new_mean"][..., :4], np.tile(np.sin(x), (1, 2, 1)), atol=1e-12)
        assert_allclose(found["y_new_variance"][..., :4], 0, atol=1e-12)
        assert_allclose(found["y_new"][..., :4], found["y_new_mean"][..., :4], atol=1e-6)
        assert (found["y_new_variance"] >= 0).all()
        assert (found["y_new_variance"][..., 4] > 0.9).all()
        with pytest.raises(ValueError, match="transpose it"):
            gg.predict(idata, 1.0, kernel(new, inputs), kernel(new, new), **QUIET)
        with pytest.raises(ValueError, match="explain more than the variance"):
            gg.predict(idata, 1.0, 2 * kernel(inputs, new), kernel(new, new), **QUIET)


def test_gaps_that_came_with_set_data():
    """A dense covariance whose size is known at run time only."""
    x = np.arange(4.0)
    with pm.Model() as model:
        inputs, data = pm.Data("x", x), pm.Data("data", np.zeros(4))
        scale = pm.HalfNormal("scale")
        K = pt.exp(-np.abs(inputs[:, None] - inputs) / scale)
        gg.MvNormal("y", 0.0, K, observed=data)
        idata = posterior(scale=np.ones((1, 2)))
        with pytest.raises(ValueError, match="no entry of 'y' is missing"):
            gg.impute(idata, **QUIET)
        y = np.array([1.0, np.nan, 2.0, np.nan])
        pm.set_data({"data": y})
        gg.impute(idata, **QUIET)
        seen = [0, 2]
        expected = gg.logp(y[seen], 0.0, np.exp(-np.abs(x[seen, None] - x[seen])))
        [logp] = interpreted(
            [model.rvs_to_values[model["scale"]]], [model.logp(vars=[model["y"]])]
        )(0.0)
        assert_allclose(logp, interpreted([], expected)())
    found = idata.posterior_predictive["y_imputed"]
    np.testing.assert_array_equal(found[..., seen], [[[1.0, 2.0]] * 2])
    assert np.isfinite(found).all()


@pytest.mark.sampling
def test_after_sampling():
    """A sampler's tree, replicates from PyMC, a hierarchy, a transform and a deterministic."""
    rng = np.random.default_rng(5)
    y = rng.normal(size=(2, 4))
    y[0, 1] = np.nan
    quiet = {"progressbar": False, "random_seed": 1, "compile_kwargs": {"mode": INTERPRETED}}
    with pm.Model(coords={"visit": [0, 1, 2, 3], "next": [4]}):
        spread = pm.HalfNormal("spread")
        mean = pm.Deterministic("mean", pm.Normal("center", 0, spread) + 1)
        rho = pm.Uniform("rho", -1, 1)
        gg.MvNormal("y", mean, gg.cov.AR1(spread**2, rho, size=4), observed=y)
        idata = pm.sample(20, tune=20, chains=2, cores=1, nuts_sampler="pymc", **quiet)
        gg.predict(idata, mu=mean, cov=gg.cov.AR1(spread**2, rho), new=[4], dims="next", **QUIET)
        pm.sample_posterior_predictive(idata, extend_inferencedata=True, **quiet)
        gg.impute(idata, **QUIET)
    found, draws = idata.predictions, idata.posterior
    expected = draws["mean"] + draws["rho"] * (y[1, -1] - draws["mean"])
    assert_allclose(found["y_new_mean"][..., 1, 0], expected, rtol=1e-10)
    variance = draws["spread"] ** 2 * (1 - draws["rho"] ** 2)
    for row in range(2):
        assert_allclose(found["y_new_variance"].sel(next=4)[..., row], variance, rtol=1e-10)
    assert {"y", "y_imputed"} <= set(idata.posterior_predictive.data_vars)


SERIES, LENGTH, AHEAD, DRAWS = 400, 12, 2, 200


@pytest.fixture(scope="module")
def simulated():
    """Series with parameters from the prior, and exact draws from the posterior of each.

    The prior is uniform on a grid, on which the posterior is known.
    """
    rng = np.random.default_rng(20)
    grid = np.array([(v, r) for v in np.linspace(0.5, 3, 10) for r in np.linspace(-0.6, 0.9, 16)])
    truth = grid[rng.integers(len(grid), size=SERIES)]
    lags = np.abs(np.subtract.outer(np.arange(LENGTH + AHEAD), np.arange(LENGTH + AHEAD)))
    covs = grid[:, 0, None, None] * grid[:, 1, None, None] ** lags
    of_truth = truth[:, 0, None, None] * truth[:, 1, None, None] ** lags
    y = (np.linalg.cholesky(of_truth) @ rng.normal(size=(SERIES, LENGTH + AHEAD, 1)))[..., 0]
    seen = np.setdiff1d(np.arange(LENGTH), [4, 5])
    factors = np.linalg.cholesky(covs[:, seen[:, None], seen])
    white = np.linalg.solve(factors, y[:, seen].T)
    halves = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=-1)
    logp = -0.5 * (white**2).sum(axis=1) - halves[:, None]
    weights = np.exp(logp - logp.max(axis=0))
    weights /= weights.sum(axis=0)
    chosen = np.stack([rng.choice(len(grid), size=DRAWS, p=w) for w in weights.T], axis=-1)
    idata = posterior(variance=grid[chosen, 0][None], correlation=grid[chosen, 1][None])
    data = y[:, :LENGTH].copy()
    data[:, [4, 5]] = np.nan
    with pm.Model() as model:
        variance = pm.Uniform("variance", 0.5, 3, shape=SERIES)
        correlation = pm.Uniform("correlation", -0.6, 0.9, shape=SERIES)
        gg.MvNormal("y", 0, gg.cov.AR1(variance, correlation, size=LENGTH), observed=data)
        joint = gg.cov.AR1(variance, correlation)
        gg.predict(idata, mu=0, cov=joint, new=[LENGTH, LENGTH + 1], **QUIET)
        gg.impute(idata, **QUIET)
    return model, idata, y


@pytest.mark.parametrize("probability", [0.5, 0.9])
def test_coverage(simulated, probability):
    """Intervals have their nominal probability over data and parameters: forecasts and gaps."""
    _, idata, y = simulated
    forecasts, gaps = idata.predictions["y_new"], idata.posterior_predictive["y_imputed"]
    error = np.sqrt(probability * (1 - probability) / SERIES)
    sought = [(forecasts[..., i], y[:, LENGTH + i]) for i in range(AHEAD)]
    sought += [(gaps[..., i], y[:, i]) for i in (4, 5)]
    for draws, truth in sought:
        # The rank of the truth among draws is uniform.
        ranks = (draws.values[0] < truth).sum(axis=0)
        tail = (1 - probability) / 2 * (DRAWS + 1)
        inside = (ranks + 0.5 > tail) & (ranks + 0.5 < DRAWS + 1 - tail)
        assert abs(inside.mean() - probability) < 3.5 * error


def test_mean_and_variance_are_those_of_the_draws(simulated):
    _, idata, _ = simulated
    found = idata.predictions
    z = (found["y_new"] - found["y_new_mean"]) / np.sqrt(found["y_new_variance"])
    count = z.size
    assert abs(float(z.mean())) < 4.5 / np.sqrt(count / AHEAD)
    assert abs(float((z**2).mean()) - 1) < 4.5 * np.sqrt(2 / (count / AHEAD))


def test_float32_and_one_of_each():
    """One observation, one new entry, single precision."""
    one = np.ones(1, "float32")
    with pytensor.config.change_flags(floatX="float32"), pm.Model():
        scale = pm.HalfNormal("scale")
        gg.MvNormal("y", 0, gg.cov.Diagonal(scale**2), observed=one)
        idata = posterior(scale=np.array([[2.0]]))
        gg.predict(idata, 0, one[:, None] * scale, one[:, None] * 3, **QUIET)
        by_blocks = idata.predictions
        cov = gg.cov.CompoundSymmetry(scale**2, np.float32(0.5))
        joint = gg.predict(idata, mu=0, cov=cov, new=[1], extend_inferencedata=False, **QUIET)
    assert {variable.dtype.name for variable in by_blocks.data_vars.values()} == {"float32"}
    assert_allclose(by_blocks["y_new_mean"], 0.5, rtol=1e-6)
    assert_allclose(by_blocks["y_new_variance"], 2, rtol=1e-6)
    assert_allclose(joint["y_new_mean"], 0.5, rtol=1e-6)
    assert_allclose(joint["y_new_variance"], 3, rtol=1e-6)


class TestErrors:
    @pytest.fixture(scope="class")
    def idata(self):
        return posterior(scale=np.full((1, 2), 2.0), mean=np.zeros((1, 2)))

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"new": [0]}, ValueError, "`cov` is for 7 entries, expected 6: the 5 observations"),
            ({"new": [N, N]}, ValueError, "distinct positions"),
            ({"new": [N, 9]}, ValueError, "leaves 6 of 7"),
            (
                {"new": LAGS > N},
                ValueError,
                "leaves 6 of 7 entries as observations, expected the 5",
            ),
            ({"new": []}, TypeError, "at least one entry is new"),
            ({"new": [0.5]}, TypeError, "dtype float64"),
            ({"cov_new": 1.0}, TypeError, r"found \['cov_new', 'mu', 'cov', 'new'\]"),
            ({"coords": {"later": [1]}}, ValueError, "has 1 labels, expected 2"),
            ({"var_name": "x"}, ValueError, "`var_name` is 'x'"),
        ],
    )
    def test_of_positions(self, panel, idata, options, error, message):
        with pytest.raises(error, match=message):
            by_positions(panel, idata, **options)

    def test_of_dims(self, panel, idata):
        with panel, pytest.raises(ValueError, match="`dims` has 3 names, expected one"):
            gg.predict(idata, 0, np.zeros((N, 1)), np.eye(1), dims=("a", "b", "c"))

    def test_foreign_variables(self, panel, idata):
        foreign = pm.Normal.dist(name="foreign")
        with panel, pytest.raises(ValueError, match="depends on the random variable foreign"):
            gg.predict(idata, foreign, np.zeros((N, 1)), np.eye(1), **QUIET)

    def test_of_the_tree(self, panel, idata):
        with pytest.raises(TypeError, match="expected an xarray"):
            by_positions(panel, idata["posterior"].to_dataset())
        with pytest.raises(ValueError, match=r"lacks the variables \['mean'\]"):
            by_positions(panel, posterior(scale=np.ones((1, 2))))


# One factorisation for means and variances


@each(CASES)
def test_means_by_the_root_are_those_by_a_solve(case, rng):
    batch = (2,)
    values = case.values(rng, 6, batch)
    parameters = case.tensors(len(batch), n=6)
    kriging = Kriging(case.build(6, *parameters), pt.as_tensor(rng.normal(size=(6, 2))))
    rows = pt.as_tensor(rng.normal(size=(3, *batch, 6)))
    function = interpreted(
        parameters, [kriging.mean_by_root(rows), kriging.mean(rows)], on_unused_input="ignore"
    )
    found, expected = function(*values)
    assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_means_and_variances_factor_once():
    matrix, cross = pt.dmatrix("matrix"), pt.dmatrix("cross")
    kriging = Kriging(gg.cov.Dense(matrix), cross)
    outputs = [kriging.mean_by_root(pt.ones((3, 5))), kriging.explained_variances()]
    function = interpreted([matrix, cross], outputs)
    names = [type(node.op).__name__ for node in function.maker.fgraph.toposort()]
    assert sum(name.startswith(("Cholesky", "InvQuad")) for name in names) == 1
