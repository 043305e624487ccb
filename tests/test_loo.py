"""Leaving out, from posteriors to ArviZ: pointwise, by groups, one step ahead, and LOO-PIT."""

import arviz as az
import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from registry import AS_WRITTEN, interpreted
from scipy.stats import multivariate_normal, multivariate_t, norm

import pm_gaussgrad as gg
from pm_gaussgrad.posterior.leave_out.groups import equal_sized
from pm_gaussgrad.posterior.leave_out.terms import leave_out_terms
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood

N, CHAINS, DRAWS = 7, 2, 3
TIMES = np.arange(1990, 1990 + N)
GROUP = np.array(["b", "a", "b", "c", "a", "b", "d"])


@pytest.fixture(scope="module")
def posterior():
    rng = np.random.default_rng(1)
    draws = {
        "sigma": rng.uniform(0.5, 2, (CHAINS, DRAWS)),
        "rho": rng.uniform(0, 0.9, (CHAINS, DRAWS)),
        "slope": rng.normal(size=(CHAINS, DRAWS)),
    }
    return {"posterior": draws}


def tree(posterior):
    return az.from_dict(posterior)


def lag():
    return np.abs(np.subtract.outer(np.arange(N), np.arange(N)))


# Free values of the parameters.
TRANSFORMED = {
    "sigma_log__": lambda at: np.log(at["sigma"]),
    "rho_interval__": lambda at: np.log(at["rho"] / (1 - at["rho"])),
}
STRUCTURES = {
    "ar1": lambda v, rho: gg.cov.AR1(v, rho, size=N),
    "toeplitz": lambda v, rho: gg.cov.Toeplitz(v * rho ** np.arange(N)),
    "dense": lambda v, rho: gg.cov.Dense(v * rho ** lag()),
    "low rank": lambda v, rho: (
        gg.cov.LowRank(pt.sqrt(v) * rho ** np.arange(N)[:, None]) + gg.cov.Diagonal(v)
    ),
}


def covariance(name, v, rho):
    if name == "low rank":
        factor = np.sqrt(v) * rho ** np.arange(N)[:, None]
        return factor @ factor.T + v * np.eye(N)
    return v * rho ** lag()


def data(*rows):
    return np.random.default_rng(2).normal(size=(*rows, N))


def model_of(name, y, dims=None, likelihood=None):
    with pm.Model(coords={"time": TIMES, "who": ["x", "y", "z"]}) as model:
        sigma, rho = pm.HalfNormal("sigma"), pm.Uniform("rho")
        mu = pm.Normal("slope") * np.arange(N)
        if likelihood is pm.MvNormal:
            pm.MvNormal("y", mu, sigma**2 * rho ** lag(), observed=y, dims=dims)
        elif likelihood is gg.MvStudentT:
            gg.MvStudentT("y", 5, mu, STRUCTURES[name](sigma**2, rho), observed=y, dims=dims)
        else:
            gg.MvNormal("y", mu, STRUCTURES[name](sigma**2, rho), observed=y, dims=dims)
    return model


def each_draw(posterior, name, y):
    """(chain, draw), residual and covariance matrix of each draw."""
    draws = posterior["posterior"]
    for index in np.ndindex(CHAINS, DRAWS):
        v, rho = draws["sigma"][index] ** 2, draws["rho"][index]
        yield index, y - draws["slope"][index] * np.arange(N), covariance(name, v, rho)


def conditional_logp(residual, matrix, left_out, given):
    """log p of some entries of one row given others, by brute force."""
    weights = np.linalg.solve(matrix[np.ix_(given, given)], matrix[np.ix_(given, left_out)]).T
    rest = matrix[np.ix_(left_out, left_out)] - weights @ matrix[np.ix_(given, left_out)]
    return multivariate_normal.logpdf(residual[left_out] - weights @ residual[given], cov=rest)


def brute_force(posterior, name, y, sets, observed=None):
    """For each draw the conditional log density of the ``sets`` of entries of one row."""
    observed = np.arange(N) if observed is None else observed
    logp = np.empty((CHAINS, DRAWS, len(sets)))
    for index, residual, matrix in each_draw(posterior, name, y):
        for i, (left_out, given) in enumerate(sets):
            given = np.setdiff1d(observed, left_out) if given is None else given
            logp[(*index, i)] = conditional_logp(residual, matrix, left_out, given)
    return logp


def one_by_one(observed):
    return [([i], None) for i in observed]


def loo(posterior, model, **kwargs):
    return gg.loo_log_likelihood(tree(posterior), model, progressbar=False, **kwargs)


@pytest.mark.parametrize("name", STRUCTURES)
def test_each_given_all_others(posterior, name):
    idata = loo(posterior, model_of(name, data(), "time"))
    found = idata.log_likelihood["y"]
    assert found.dims == ("chain", "draw", "time")
    assert_allclose(found["time"], TIMES)
    expected = brute_force(posterior, name, data(), one_by_one(range(N)))
    assert_allclose(found, expected, rtol=1e-9)


def test_pymc_distribution(posterior):
    found = loo(posterior, model_of("dense", data(), likelihood=pm.MvNormal)).log_likelihood["y"]
    assert found.dims == ("chain", "draw", "y_dim_0")
    assert_allclose(found, brute_force(posterior, "dense", data(), one_by_one(range(N))), rtol=1e-9)


def test_rows(posterior):
    y = data(3)
    found = loo(posterior, model_of("ar1", y, ("who", "time"))).log_likelihood["y"]
    assert found.dims == ("chain", "draw", "who", "time")
    for row, who in enumerate("xyz"):
        expected = brute_force(posterior, "ar1", y[row], one_by_one(range(N)))
        assert_allclose(found.sel(who=who), expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["toeplitz", "dense", "low rank"])
def test_missing_entries_are_left_out(posterior, name):
    y, observed = data(), np.array([0, 2, 3, 6])
    y[np.setdiff1d(np.arange(N), observed)] = np.nan
    found = loo(posterior, model_of(name, y, "time")).log_likelihood["y"]
    assert_allclose(found["time"], TIMES[observed])
    expected = brute_force(posterior, name, y, one_by_one(observed), observed)
    assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["ar1", "dense"])
def test_rows_that_miss_different_entries(posterior, name):
    y = data(3)
    y[0, [1, 4]], y[1, 5], y[2] = np.nan, np.nan, np.nan
    found = loo(posterior, model_of(name, y, ("who", "time"))).log_likelihood["y"]
    assert found.dims == ("chain", "draw", "y_observed")
    assert_allclose(found["time"], np.concatenate([TIMES[[0, 2, 3, 5, 6]], np.delete(TIMES, 5)]))
    for row, who in enumerate("xy"):
        observed = np.flatnonzero(~np.isnan(y[row]))
        expected = brute_force(posterior, name, y[row], one_by_one(observed), observed)
        assert_allclose(found[..., found["who"] == who], expected, rtol=1e-9)


def group_sets(observed):
    labels = list(dict.fromkeys(GROUP[observed]))
    return labels, [(np.intersect1d(np.flatnonzero(g == GROUP), observed), None) for g in labels]


@pytest.mark.parametrize("name", STRUCTURES)
def test_groups(posterior, name):
    found = loo(posterior, model_of(name, data(), "time"), group=GROUP).log_likelihood["y"]
    labels, sets = group_sets(np.arange(N))
    assert found.dims == ("chain", "draw", "group")
    assert list(found["group"].values) == labels
    assert_allclose(found, brute_force(posterior, name, data(), sets), rtol=1e-9)


def test_groups_of_rows_with_gaps(posterior):
    y, observed = data(3), np.array([0, 1, 2, 4, 5])
    y[:, [3, 6]] = np.nan
    found = loo(posterior, model_of("ar1", y, ("who", "time")), group=GROUP).log_likelihood["y"]
    labels, sets = group_sets(observed)
    assert found.dims == ("chain", "draw", "who", "group")
    assert list(found["group"].values) == labels
    for row in range(3):
        expected = brute_force(posterior, "ar1", y[row], sets, observed)
        assert_allclose(found[:, :, row], expected, rtol=1e-9)


SUBJECT, VISIT = np.array([0, 1, 0, 2, 1, 0, 3]), np.array([0, 0, 1, 2, 1, 2, 0])
INDEPENDENT = {
    "measures": lambda v, rho: gg.cov.RepeatedMeasures(
        gg.cov.AR1(v, rho, size=3) + gg.cov.Diagonal(0.2), SUBJECT, VISIT
    ),
    "scaled": lambda v, rho: gg.cov.Scaled(
        gg.cov.AR1(v, rho, time=TIMES, group=SUBJECT), np.arange(1.0, N + 1)
    ),
    "symmetric": lambda v, rho: gg.cov.CompoundSymmetry(v, rho, group=SUBJECT),
    "blocks": lambda v, rho: gg.cov.BlockDiagonal(
        gg.cov.AR1(v, rho, size=3), gg.cov.Dense(v * np.eye(1)), gg.cov.CompoundSymmetry(v, rho, 3)
    ),
}


# What a structure says of its groups does not depend on the density.
@pytest.mark.parametrize(
    ("name", "student"), [*((x, False) for x in INDEPENDENT), ("scaled", True)]
)
def test_groups_that_the_structure_is_made_of(posterior, name, student):
    """Without solves, unions of them too; what cuts through one is solved for as any group."""
    models = []
    for dense in (False, True):
        with pm.Model(coords={"who": ["x", "y"], "time": TIMES}) as model:
            cov = INDEPENDENT[name](pm.HalfNormal("sigma") ** 2, pm.Uniform("rho"))
            mean = pm.Normal("slope") * np.ones((2, 1))
            nu, kind = ([5.0], gg.MvStudentT) if student else ([], gg.MvNormal)
            cov = gg.cov.Dense(cov.to_dense()) if dense else cov
            kind("y", *nu, mean, cov, observed=data(2), dims=("who", "time"))
        models.append(model)
    likelihood = gaussian_likelihood("test", models[0], student=True)
    own = pt.as_tensor(likelihood.cov.groups()[1]).eval()
    for group, solves in ((own, False), (own == own[0], False), (np.arange(N) // 2, True)):
        terms = leave_out_terms("test", likelihood, tree(posterior), group)
        assert bool(terms.pieces[0]) is solves
        found, expected = (loo(posterior, x, group=group).log_likelihood["y"] for x in models)
        assert_allclose(found, expected, rtol=1e-10)
        assert found.dims == expected.dims == ("chain", "draw", "who", "group")


def test_groups_by_name(posterior):
    idata = az.from_dict({**posterior, "constant_data": {"site": GROUP}})
    model = model_of("ar1", data(), "time")
    gg.loo_log_likelihood(idata, model, group="site", progressbar=False)
    assert idata.log_likelihood["y"].dims == ("chain", "draw", "site")
    by_array = loo(posterior, model, group=GROUP).log_likelihood["y"]
    assert_allclose(idata.log_likelihood["y"], by_array)
    # Each time its own group: as without groups.
    single = loo(posterior, model, group="time").log_likelihood["y"]
    assert single.dims == ("chain", "draw", "time")
    assert_allclose(single, loo(posterior, model).log_likelihood["y"], rtol=1e-9)


def test_one_group_is_the_whole(posterior):
    found = loo(posterior, model_of("ar1", data()), group=["all"] * N).log_likelihood["y"]
    for index, residual, matrix in each_draw(posterior, "ar1", data()):
        expected = multivariate_normal.logpdf(residual, cov=matrix)
        assert_allclose(found.values[index], [expected], rtol=1e-9)


def test_batch_of_covariances(posterior):
    """A covariance of its own for each row, and groups of its entries."""
    y, scales = data(3), np.array([1.0, 2.0, 0.5])
    with pm.Model() as model:
        sigma, rho = pm.HalfNormal("sigma"), pm.Uniform("rho")
        gg.MvNormal("y", 0.0, gg.cov.AR1(scales * sigma**2, rho, size=N), observed=y)
    pointwise = loo(posterior, model).log_likelihood["y"]
    grouped = loo(posterior, model, group=GROUP).log_likelihood["y"]
    draws = posterior["posterior"]
    for index in np.ndindex(CHAINS, DRAWS):
        for row, scale in enumerate(scales):
            matrix = covariance("ar1", scale * draws["sigma"][index] ** 2, draws["rho"][index])
            for found, sets in (
                (pointwise, one_by_one(range(N))),
                (grouped, group_sets(range(N))[1]),
            ):
                expected = [
                    conditional_logp(y[row], matrix, out, np.setdiff1d(np.arange(N), out))
                    for out, _ in sets
                ]
                assert_allclose(found.values[(*index, row)], expected, rtol=1e-9)


def test_groups_are_solved_for_some_at_a_time():
    """No more unit rows at a time than a bound, but where the covariance is stored as a matrix."""
    codes = np.random.default_rng(0).integers(0, 40, size=500)
    for cov, largest in (
        (gg.cov.AR1(1.0, 0.5, size=500), 64),
        (gg.cov.Dense(np.eye(500)), 500),
    ):
        order, sets = equal_sized(cov, codes)
        groups = [members for [positions] in sets for members in positions]
        assert max(positions.size for [positions] in sets) <= largest
        assert all((codes[members] == g).all() for g, members in zip(order, groups, strict=True))
        assert sum(map(len, groups)) == 500


@pytest.mark.parametrize("name", STRUCTURES)
def test_one_step_ahead(posterior, name):
    idata = gg.lfo_log_likelihood(
        tree(posterior), model_of(name, data(), "time"), progressbar=False
    )
    found = idata.log_likelihood["y"]
    assert found.dims == ("chain", "draw", "time")
    sets = [([i], list(range(i))) for i in range(1, N)]
    assert_allclose(found[..., 1:], brute_force(posterior, name, data(), sets), rtol=1e-9)
    for index, residual, matrix in each_draw(posterior, name, data()):
        expected = multivariate_normal.logpdf(residual, cov=matrix)
        assert_allclose(found.values[index].sum(), expected, rtol=1e-9)


def test_a_variable_of_the_group_is_replaced(posterior):
    idata = az.from_dict({**posterior, "log_likelihood": {"y": np.zeros((CHAINS, DRAWS))}})
    gg.loo_log_likelihood(idata, model_of("ar1", data()), progressbar=False)
    assert idata.log_likelihood["y"].dims == ("chain", "draw", "y_dim_0")


# Student-t: conditional densities are ratios of joint ones.


def test_rows_that_differ_twice(posterior):
    """The stacked labels stay coordinates, and az.loo finds one variable."""
    y = data(3)
    y[0, [1, 4]], y[1, 5] = np.nan, np.nan
    idata, model = tree(posterior), model_of("dense", y, ("who", "time"))
    for _ in range(2):
        gg.loo_log_likelihood(idata, model, progressbar=False)
    group = idata["log_likelihood"]
    assert list(group.data_vars) == ["y"]
    assert {"who", "time"} <= set(group.coords)


def test_dimensions_of_the_posterior_in_another_order():
    rng = np.random.default_rng(3)
    with pm.Model(coords={"a": range(N), "b": range(N)}) as model:
        weights = pm.Normal("weights", dims=("a", "b"))
        gg.MvNormal("y", weights.sum(axis=0), np.eye(N), observed=np.zeros(N))
    draws = xr.Dataset({"weights": (("chain", "draw", "a", "b"), rng.normal(size=(1, 3, N, N)))})
    trees = [xr.DataTree.from_dict({"posterior": x}) for x in (draws, draws.transpose("b", ...))]
    found = [gg.loo_log_likelihood(t, model, progressbar=False) for t in trees]
    xr.testing.assert_allclose(found[0]["log_likelihood"]["y"], found[1]["log_likelihood"]["y"])


def student_logp(residual, matrix, entries):
    if len(entries) == 0:
        return 0.0
    block = matrix[np.ix_(entries, entries)]
    return multivariate_t.logpdf(residual[entries], shape=block, df=4.0)


@pytest.mark.parametrize("rows", [(), (2,)])
def test_student_t(posterior, rows):
    y = data(*rows)
    y[..., 2] = np.nan
    with pm.Model() as model:
        sigma, rho = pm.HalfNormal("sigma"), pm.Uniform("rho")
        gg.MvStudentT("y", 4.0, 0.0, gg.cov.Dense(sigma**2 * rho ** lag()), observed=y)
    observed = np.array([0, 1, 3, 4, 5, 6])
    _, sets = group_sets(observed)
    expected = {
        "one": [([i], np.setdiff1d(observed, i)) for i in observed],
        "group": [(out, np.setdiff1d(observed, out)) for out, _ in sets],
        "ahead": [([i], observed[observed < i]) for i in observed],
    }
    found = {
        "one": loo(posterior, model),
        "group": loo(posterior, model, group=GROUP),
        "ahead": gg.lfo_log_likelihood(tree(posterior), model, progressbar=False),
    }
    draws = posterior["posterior"]
    for index in np.ndindex(CHAINS, DRAWS):
        matrix = covariance("ar1", draws["sigma"][index] ** 2, draws["rho"][index])
        for kind, pairs in expected.items():
            for row in np.ndindex(rows):
                values = [
                    student_logp(y[row], matrix, np.union1d(out, given).astype(int))
                    - student_logp(y[row], matrix, given)
                    for out, given in pairs
                ]
                actual = found[kind].log_likelihood["y"].values[index + row]
                assert_allclose(actual, values, rtol=1e-9)
    with pytest.raises(ValueError, match=r"none of the observed variables \['y'\] is gg.MvNormal"):
        gg.loo_predictive(tree(posterior), model)


# ArviZ, for a series that is far from its mean most of the time.


@pytest.fixture(scope="module")
def series():
    """A long series, its model, and draws from about its posterior."""
    n, rho = 300, 0.99
    rng = np.random.default_rng(11)
    y = interpreted_draw(gg.cov.AR1(1.0, rho, size=n), rng.normal(size=n))
    with pm.Model(coords={"time": np.arange(n)}) as model:
        sigma = pm.HalfNormal("sigma")
        gg.MvNormal("y", 0.0, gg.cov.AR1(sigma**2, rho, size=n), observed=y, dims="time")
    quad = (y[0] ** 2 + ((y[1:] - rho * y[:-1]) ** 2).sum() / (1 - rho**2)) / n
    # The posterior of the variance under a flat prior of its logarithm.
    draws = np.sqrt(n * quad / rng.chisquare(n, size=(4, 250)))
    return az.from_dict({"posterior": {"sigma": draws}}), model


def interpreted_draw(cov, z):
    return interpreted([], cov.color(z))()


@pytest.fixture(scope="module")
def predictive(series):
    idata, model = series
    return gg.loo_predictive(idata, model, random_seed=3, progressbar=False)


def largest_gap(pit):
    """Between the empirical distribution function and that of a uniform variable."""
    ordered = np.sort(np.asarray(pit).ravel())
    return np.abs(ordered - np.arange(1, ordered.size + 1) / ordered.size).max()


def test_loo_pit(series, predictive):
    """Uniform with draws given the neighbours, far from it with draws of whole vectors."""
    idata, _ = series
    assert "posterior_predictive" not in idata.children  # the tree is a copy
    assert largest_gap(az.loo_pit(predictive)["y"]) < 1.36 / np.sqrt(300)
    rng = np.random.default_rng(5)
    drawn = idata.posterior["sigma"].values[..., None] * rng.normal(size=(4, 250, 300))
    whole = predictive.copy()
    alike = predictive["posterior_predictive"].to_dataset()
    whole["posterior_predictive"] = xr.DataTree(alike.assign(y=alike["y"].copy(data=drawn)))
    assert largest_gap(az.loo_pit(whole)["y"]) > 3 / np.sqrt(300)


def test_predictive_draws_are_of_the_conditionals(series, predictive):
    """Their mean and spread at one observation, against the formula."""
    idata, _ = series
    y, rho, i = predictive.observed_data["y"].values, 0.99, 150
    mean = rho * (y[i - 1] + y[i + 1]) / (1 + rho**2)
    unit = (1 - rho**2) / (1 + rho**2)
    z = (predictive.posterior_predictive["y"].values[..., i] - mean) / np.sqrt(unit)
    z /= idata.posterior["sigma"].values
    assert abs(z.mean()) < 4 / np.sqrt(1000)
    assert abs(z.std() - 1) < 4 / np.sqrt(2000)
    expected = norm.logpdf(y[i], mean, np.sqrt(unit) * idata.posterior["sigma"].values)
    assert_allclose(predictive.log_likelihood["y"].values[..., i], expected, rtol=1e-9)


def test_arviz_takes_the_tree(predictive):
    elpd = az.loo(predictive, pointwise=True)
    assert elpd.n_data_points == 300
    assert (elpd.pareto_k < 0.5).all()
    worse = predictive.copy()
    worse["log_likelihood"] = predictive["log_likelihood"] - 0.1
    assert list(az.compare({"worse": worse, "better": predictive}).index) == ["better", "worse"]
    az.plot_loo_pit(predictive, backend="none")
    az.plot_khat(elpd, backend="none")
    az.plot_ppc_dist(predictive, backend="none", num_samples=5)


def test_predictive_with_gaps(posterior):
    y = data()
    y[[1, 4]] = np.nan
    idata = az.from_dict({**posterior, "observed_data": {"y": y}})
    made = gg.loo_predictive(idata, model_of("toeplitz", y, "time"), progressbar=False)
    assert made.posterior_predictive["y"].shape == (CHAINS, DRAWS, N - 2)
    assert_allclose(made.observed_data["y"], y[~np.isnan(y)])
    assert idata.observed_data["y"].shape == (N,)
    same = gg.loo_predictive(
        idata, model_of("toeplitz", y, "time"), random_seed=1, progressbar=False
    )
    again = gg.loo_predictive(
        idata, model_of("toeplitz", y, "time"), random_seed=1, progressbar=False
    )
    assert same.posterior_predictive.equals(again.posterior_predictive)


# Errors


def test_no_posterior(posterior):
    with pytest.raises(ValueError, match=r"loo_log_likelihood: .* expected `posterior`; sample"):
        gg.loo_log_likelihood(
            az.from_dict({"prior": posterior["posterior"]}), model_of("ar1", data())
        )


def test_missing_variables(posterior):
    draws = {"posterior": {"rho": posterior["posterior"]["rho"]}}
    with pytest.raises(ValueError, match=r"lacks the variables \['sigma', 'slope'\].*keep them"):
        loo(draws, model_of("ar1", data()))


def test_several_likelihoods(posterior):
    with model_of("ar1", data()) as model:
        gg.MvNormal("other", 0.0, gg.cov.Diagonal(1.0), observed=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"2 observed .*\['other', 'y'\].*var_name="):
        loo(posterior, model)
    assert loo(posterior, model, var_name="other").log_likelihood["other"].sizes["other_dim_0"] == 2
    with pytest.raises(ValueError, match=r"`var_name` is 'z', expected one of"):
        loo(posterior, model, var_name="z")


def test_likelihood_that_is_not_gaussian(posterior):
    with pm.Model() as model:
        pm.Poisson("counts", pm.HalfNormal("sigma"), observed=[1, 2])
    with pytest.raises(ValueError, match=r"\['counts'\] is gg.MvNormal.*pm.compute_log_likelihood"):
        loo(posterior, model)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (GROUP[:-1], r"`group` has shape \(6,\), expected \(7,\): one label for each"),
        (np.array([*GROUP[:-1], None], dtype=object), "missing labels, expected one for each"),
        (["a"] * 6 + [np.nan], "missing labels, expected one for each"),
        (pd.Series(GROUP, name="y"), "named 'y', as the variable or another dimension"),
        ("site", "found no 'site' .* pass the labels as an array"),
    ],
)
def test_groups_that_do_not_fit(posterior, group, message):
    with pytest.raises(ValueError, match=message):
        loo(posterior, model_of("ar1", data()), group=group)


def test_a_group_named_as_another_dimension(posterior):
    model = model_of("ar1", data(3), ("who", "time"))
    idata = az.from_dict({**posterior, "constant_data": {"who": GROUP}})
    with pytest.raises(ValueError, match="named 'who', as the variable or another"):
        gg.loo_log_likelihood(idata, model, group="who", progressbar=False)


@pytest.mark.parametrize("likelihood", [gg.MvNormal, gg.MvStudentT])
def test_rows_that_differ_are_a_long_table(posterior, likelihood):
    """Short rows, whose entries and groups are those of each row by itself."""
    y = data(3)
    y[0, 1] = y[2, 0] = y[2, 3] = np.nan
    model = model_of("ar1", y, likelihood=likelihood)
    rows = [model_of("ar1", row, likelihood=likelihood) for row in y]

    def log_likelihood(model, function=gg.loo_log_likelihood, **kwargs):
        idata = function(tree(posterior), model, progressbar=False, **kwargs)
        return idata.log_likelihood["y"]

    for function in (gg.loo_log_likelihood, gg.lfo_log_likelihood):
        alone = [log_likelihood(row, function) for row in rows]
        found = log_likelihood(model, function)
        assert_allclose(found, np.concatenate(alone, axis=-1), rtol=1e-10)
        assert found.dims[-1] == "y_observed"
    if likelihood is gg.MvStudentT:
        with pytest.raises(NotImplementedError, match="whose rows share a scale"):
            log_likelihood(model, group=GROUP)
        return
    groups = log_likelihood(model, group=GROUP)
    alone = np.concatenate([log_likelihood(row, group=GROUP) for row in rows], axis=-1)
    assert_allclose(np.sort(groups), np.sort(alone), rtol=1e-10)
    by_entry = log_likelihood(model, group=np.array([list(GROUP)] * 3))
    assert by_entry.sizes["group"] == 4
    whole = log_likelihood(model, group=True)
    alone = [log_likelihood(row, group=np.zeros(N)) for row in rows]
    assert_allclose(whole, np.concatenate(alone, axis=-1), rtol=1e-10)


@pytest.mark.parametrize("likelihood", [gg.MvNormal, gg.MvStudentT])
@pytest.mark.parametrize("blocks", [False, True])
def test_one_step_ahead_in_time(posterior, likelihood, blocks):
    """In a table that is not in order of time, of which rows miss different entries."""
    y = data(3)
    y[0, 1] = y[2, 0] = y[2, 3] = np.nan
    time = np.array([3.0, 1.5, 0.2, 5.0, 4.0, 2.7, 1.0])

    def log_likelihood(y):
        with pm.Model() as model:
            v, rho = pm.HalfNormal("sigma") ** 2, pm.Uniform("rho")
            if blocks:
                series = gg.cov.AR1(v, rho, time=time[:5], group=GROUP[:5])
                cov = gg.cov.BlockDiagonal(gg.cov.AR1(v, 0.3, size=2), series)
            else:
                cov = gg.cov.AR1(v, rho, time=time, group=GROUP)
            settings = {"nu": 5, "scale": cov} if likelihood is gg.MvStudentT else {"cov": cov}
            likelihood("y", mu=0, observed=y, **settings)
        idata = gg.lfo_log_likelihood(tree(posterior), model, progressbar=False)
        at = posterior["posterior"]
        inputs = {k: at[k][0, 0] for k in ("sigma", "rho")}
        logp = model.compile_fn(model.logp(vars=[model["y"]], sum=True), mode=AS_WRITTEN)
        values = {x.name: TRANSFORMED[x.name](inputs) for x in model.value_vars}
        return idata.log_likelihood["y"].values, logp(values)

    alone = [log_likelihood(row) for row in y]
    for ahead, joint in alone:
        assert_allclose(ahead[0, 0].sum(), joint, rtol=1e-10)
    assert_allclose(
        log_likelihood(y)[0], np.concatenate([ahead for ahead, _ in alone], axis=-1), rtol=1e-10
    )


def test_groups_of_the_structure_where_rows_differ(posterior):
    """True means the groups of the structure, within each row, whatever rows miss."""
    y = data(2)
    y[0, 1] = y[1, 0] = np.nan

    def of_structure(y, group):
        with pm.Model() as model:
            v = pm.HalfNormal("sigma") ** 2
            cov = gg.cov.CompoundSymmetry(v, 0.4, group=GROUP)
            gg.MvNormal("y", 0, cov, observed=y)
        idata = gg.loo_log_likelihood(tree(posterior), model, group=group, progressbar=False)
        return idata.log_likelihood["y"].values

    alone = [of_structure(row, True) for row in y]
    found = of_structure(y, True)
    assert_allclose(np.sort(found), np.sort(np.concatenate(alone, axis=-1)), rtol=1e-10)


def test_long_rows_that_differ_have_no_groups_and_no_order(posterior):
    y = np.random.default_rng(0).normal(size=(2, 40))
    y[0, 1] = np.nan
    with pm.Model() as model:
        sigma, rho = pm.HalfNormal("sigma"), pm.Uniform("rho")
        column = sigma**2 * rho ** np.arange(40)
        gg.MvNormal("y", 0, gg.cov.Toeplitz(column), observed=y)
    with pytest.raises(
        NotImplementedError, match=r"gg\.cov\.RepeatedMeasures\(within, subject=row"
    ):
        loo(posterior, model, group=np.arange(40) // 4)
    with pytest.raises(NotImplementedError, match="lfo_log_likelihood: the rows of 'y' miss"):
        gg.lfo_log_likelihood(tree(posterior), model, progressbar=False)


def test_gaps_without_a_causal_factor(posterior):
    y = data()
    y[1] = np.nan
    with pytest.raises(NotImplementedError, match=r"gg\.cov\.marginal: .*gg\.cov\.Dense"):
        gg.lfo_log_likelihood(tree(posterior), model_of("toeplitz", y), progressbar=False)


def test_a_series_with_gaps_is_one_step_ahead(posterior):
    y = data()
    y[[1, 4]] = np.nan
    ahead = [
        gg.lfo_log_likelihood(tree(posterior), model_of(name, y), progressbar=False)
        for name in ("ar1", "dense")
    ]
    ours, dense = (idata.log_likelihood["y"] for idata in ahead)
    assert_allclose(ours, dense, rtol=1e-10)
