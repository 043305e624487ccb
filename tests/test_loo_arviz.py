"""Each function of ArviZ that takes log likelihoods of observations, against quadrature.

A series with an outlier, of known correlation and unknown scale: the posterior of the scale, with
or without some of the observations, is a grid of densities. Draws are its quantiles.
"""

import sys

import arviz as az
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from registry import INTERPRETED
from scipy.interpolate import CubicSpline
from scipy.special import logsumexp
from scipy.stats import norm

import pm_gaussgrad as gg
from pm_gaussgrad.posterior.draws import add_to_group
from pm_gaussgrad.posterior.leave_out.moment_match import moment_match_functions
from pm_gaussgrad.posterior.leave_out.terms import leave_out_terms
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood

N, RHO, PRIOR = 12, 0.6, 2.0
TIME = np.arange(2001, 2001 + N)
EVERYTHING = np.arange(N)
OUTLIER = 5
CORRELATION = RHO ** np.abs(np.subtract.outer(EVERYTHING, EVERYTHING))
GRID = np.linspace(-3, 3, 401)  # of log(sigma)
QUIET = {"progressbar": False}


def series():
    y = np.linalg.cholesky(CORRELATION) @ np.random.default_rng(3).normal(size=N)
    y[OUTLIER] += 6
    return y


Y = series()


def joint(entries):
    """log p(y_entries, log sigma) on the grid."""
    entries = np.asarray(entries, dtype=int)
    matrix, size = CORRELATION[np.ix_(entries, entries)], len(entries)
    quad = Y[entries] @ np.linalg.solve(matrix, Y[entries])
    logdet = np.linalg.slogdet(matrix)[1] + 2 * size * GRID
    likelihood = -0.5 * (quad * np.exp(-2 * GRID) + logdet + size * np.log(2 * np.pi))
    return likelihood - 0.5 * (np.exp(GRID) / PRIOR) ** 2 + GRID


def others(entries):
    return np.setdiff1d(EVERYTHING, entries)


def exact(left_out, given=None):
    """log p(y_left_out | y_given), by quadrature."""
    given = others(left_out) if given is None else given
    return logsumexp(joint(np.union1d(left_out, given))) - logsumexp(joint(given))


def each_exact():
    return np.array([exact([i]) for i in range(N)])


def quantiles(log_density, size):
    """Draws of sigma: in the middle of ``size`` intervals of equal probability, shuffled."""
    weights = np.exp(log_density - log_density.max())
    below = (np.cumsum(weights) - weights / 2) / weights.sum()
    draws = np.exp(np.interp((np.arange(size) + 0.5) / size, below, GRID))
    return np.random.default_rng(1).permutation(draws)


def tree(draws, **groups):
    data = {"posterior": {"sigma": draws[None]}, "observed_data": {"y": Y}, **groups}
    return az.from_dict(data, dims={"y": ["time"]}, coords={"time": TIME})


def model_of(likelihood=gg.MvNormal):
    with pm.Model(coords={"time": TIME}) as model:
        sigma = pm.HalfNormal("sigma", PRIOR)
        cov = gg.cov.AR1(sigma**2, RHO) if likelihood is gg.MvNormal else sigma**2 * CORRELATION
        likelihood("y", np.zeros(N), cov, observed=Y, dims="time")
    return model


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.fixture(scope="module")
def idata(model):
    return gg.loo_log_likelihood(tree(quantiles(joint(EVERYTHING), 500)), model, **QUIET)


@pytest.fixture(scope="module")
def predictive(idata, model):
    return gg.loo_predictive(idata, model, random_seed=2, **QUIET)


def is_exact(elpd, rtol=2e-3):
    """All terms but that of the outlier, for which importance sampling fails."""
    assert_allclose(np.delete(elpd.elpd_i, OUTLIER), np.delete(each_exact(), OUTLIER), rtol=rtol)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_loo(idata, model):
    elpd = gg.loo(idata, model, **QUIET)
    is_exact(elpd)
    assert elpd.pareto_k.dims == ("time",)
    assert elpd.pareto_k.argmax() == OUTLIER
    assert elpd.pareto_k.max() > 0.7
    same = az.loo(idata, pointwise=True)
    assert_allclose(same.elpd_i, elpd.elpd_i)
    assert gg.loo(idata, model, pointwise=False, **QUIET).elpd_i is None


def test_loo_does_not_change_the_tree(model):
    idata = tree(quantiles(joint(EVERYTHING), 50))
    with pytest.warns(UserWarning, match="Estimated shape"):
        gg.loo(idata, model, **QUIET)
    assert "log_likelihood" not in idata.children


@pytest.fixture(scope="module")
def matched(idata, model):
    return gg.loo(idata, model, moment_match=True, compile_kwargs={"mode": INTERPRETED}, **QUIET)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_moment_matching(idata, matched):
    is_exact(matched)
    expected, plain = exact([OUTLIER]), az.loo(idata, pointwise=True).elpd_i[OUTLIER]
    assert abs(plain - expected) > 1
    assert abs(matched.elpd_i[OUTLIER] - expected) < 0.2
    assert matched.pareto_k.max() < 0.7


@pytest.mark.filterwarnings("ignore:Estimated shape", "ignore:Cholesky decomposition failed")
def test_moment_matching_by_arviz_alone(idata, matched):
    elpd = az.loo(idata, moment_match=True, model=model_of(pm.MvNormal), pointwise=True)
    assert_allclose(elpd.elpd_i, matched.elpd_i, rtol=1e-6)


def test_what_arviz_takes_for_an_observation(idata, model):
    """The whole vector by itself, one number for all; through this package one given the others."""
    served = sys.modules["arviz_stats.loo.loo_moment_match_helper"].mm_from_pymc
    held = idata.log_likelihood["y"].isel(draw=slice(2))
    for build, is_right in ((served, True), (served.of_other_likelihoods, False)):
        _, log_lik_i, upars = build(idata, model=model)
        values = np.stack([log_lik_i(upars.isel(draw=slice(2)), i) for i in (0, OUTLIER)], axis=-1)
        assert np.allclose(values[..., 0], values[..., 1]) != is_right
        assert np.allclose(values, held[..., [0, OUTLIER]], rtol=1e-6) == is_right


def test_moment_matching_without_need(idata, model):
    with pytest.warns(UserWarning, match="Estimated shape"):
        plain = az.loo(idata, pointwise=True)
    with pytest.warns(UserWarning, match="Estimated shape"):
        same = gg.loo(idata, model, moment_match=True, k_threshold=5.0, **QUIET)
    assert_allclose(same.elpd_i, plain.elpd_i)


def test_moment_matching_of_another_likelihood_is_arviz_own():
    with pm.Model() as model:
        mean = pm.Normal("mean")
        pm.Normal("x", mean, observed=[0.1, 0.2, 9.0])
    rng = np.random.default_rng(0)
    posterior = {"mean": rng.normal(2.3, 0.5, size=(1, 200))}
    log_likelihood = norm.logpdf(np.array([0.1, 0.2, 9.0]), posterior["mean"][..., None])
    idata = az.from_dict({"posterior": posterior, "log_likelihood": {"x": log_likelihood}})
    with pytest.warns(UserWarning, match="Estimated shape"):
        elpd = az.loo(idata, moment_match=True, model=model, pointwise=True)
    assert np.isfinite(elpd.elpd)


def test_moment_matching_of_what_is_not_left_out_raises(idata, model):
    other = gg.lfo_log_likelihood(idata.copy(), model, **QUIET)
    with pytest.raises(ValueError, match=r"does not hold .* gg.loo_log_likelihood\(idata, model\)"):
        az.loo(other, moment_match=True, model=model)


@pytest.mark.parametrize("group", [None, np.repeat(["b", "c", "a"], 4)])
@pytest.mark.parametrize("rows", [(), (2,)])
def test_what_moment_matching_evaluates(rows, group):
    """At the draws themselves the terms that are held, and the log posterior."""
    y = np.stack([Y, Y[::-1]]) if rows else Y
    with pm.Model() as model:
        sigma = pm.HalfNormal("sigma", PRIOR)
        gg.MvNormal("y", 0.0, gg.cov.AR1(sigma**2, RHO), observed=y)
    idata = az.from_dict({"posterior": {"sigma": np.array([[0.5, 1.0], [1.5, 3.0]])}})
    likelihood = gaussian_likelihood("test", model)
    terms = leave_out_terms("test", likelihood, idata, group)
    held = terms.evaluate("test", idata, progressbar=False).values.reshape(2, 2, -1)
    log_prob, log_lik_i, upars = moment_match_functions("test", terms, idata, {"mode": INTERPRETED})
    assert_allclose(upars[..., 0], np.log(idata.posterior["sigma"]))
    for i in range(held.shape[-1]):
        assert_allclose(log_lik_i(upars, i), held[..., i], rtol=1e-9)
    logp = model.compile_logp(mode=INTERPRETED)
    expected = [[logp({"sigma_log__": x}) for x in chain] for chain in upars.values[..., 0]]
    assert_allclose(log_prob(upars), expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_one_observation(idata, model):
    log_lik_fn = gg.loo_log_lik_fn(model)
    for options in ({}, {"log_lik_fn": log_lik_fn}):
        assert_allclose(az.loo_i({"time": 2003}, idata, **options).elpd, exact([2]), rtol=2e-3)
    elpd = az.loo(idata, log_lik_fn=log_lik_fn, pointwise=True)
    assert_allclose(elpd.elpd_i, az.loo(idata, pointwise=True).elpd_i)


def test_subsample_by_the_model_alone_raises(idata, model):
    with pytest.raises(ValueError, match="reduces over observation dimensions are not supported"):
        az.loo_subsample(idata, 4, method="plpd", model=model)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
@pytest.mark.parametrize("method", ["lpd", "plpd"])
def test_subsample(idata, model, method):
    """All of them, in two steps, and the point densities that stand in for those left out."""
    log_lik_fn = gg.loo_log_lik_fn(model)
    options = {"method": method, "log_lik_fn": log_lik_fn}
    some = np.arange(0, N, 2)
    elpd = az.loo_subsample(idata, some, pointwise=True, **options)
    assert_allclose(elpd.elpd_i[some], each_exact()[some], rtol=2e-3)
    elpd = az.update_subsample(elpd, idata, some + 1, **options)
    is_exact(elpd)
    if method == "plpd":
        sigma = idata.posterior["sigma"].mean().item()
        for i in range(N):
            mean, sd = conditional(i)
            assert_allclose(elpd.elpd_loo_approx[i], norm.logpdf(Y[i], mean, sd * sigma))


def conditional(i):
    """Mean of y_i given all others, and its standard deviation in units of sigma."""
    rest = others([i])
    weights = np.linalg.solve(CORRELATION[np.ix_(rest, rest)], CORRELATION[rest, i])
    return weights @ Y[rest], np.sqrt(1 - weights @ CORRELATION[rest, i])


def left_out_scale(i, size=500):
    """Draws of sigma given all others."""
    return quantiles(joint(others([i])), size)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_predictive_functions(predictive):
    """Means, errors, explained variance, probability transforms and scores of y_i given y_-i."""
    means, scales = np.transpose([conditional(i) for i in range(N)])
    error = 4 * scales * 1.2 / np.sqrt(500)
    found, _ = az.loo_expectations(predictive, kind="mean")
    assert (np.abs(np.delete(found - means, OUTLIER)) < np.delete(error * 2, OUTLIER)).all()
    rmse = np.sqrt(np.mean((Y - means) ** 2))
    assert_allclose(az.loo_metrics(predictive, kind="rmse", round_to="none").mean, rmse, rtol=0.05)
    r2 = az.loo_r2(predictive, "y", summary=False, round_to="none", n_simulations=500)
    assert abs(np.median(r2) - (1 - np.var(Y - means) / np.var(Y))) < 0.3
    pit = az.loo_pit(predictive)["y"]
    scores = az.loo_score(predictive, pointwise=True, round_to="none").pointwise
    rng = np.random.default_rng(5)
    for i in others([OUTLIER]):
        sigma = left_out_scale(i)
        assert abs(pit[i] - norm.cdf(Y[i], means[i], scales[i] * sigma).mean()) < 0.06
        x, z = means[i] + scales[i] * sigma * rng.normal(size=(2, 500))
        crps = np.abs(x - Y[i]).mean() - 0.5 * np.abs(x - z).mean()
        assert abs(scores[i] + crps) < 4 * x.std() / np.sqrt(500)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_influence(idata):
    shift, _ = az.loo_influence(idata, var_names="sigma", group="posterior", standardize=False)
    mean = quantiles(joint(EVERYTHING), 500).mean()
    for i in others([OUTLIER]):
        expected = abs(left_out_scale(i).mean() - mean)
        assert_allclose(shift["sigma"][i], expected, atol=0.01)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_approximate_posterior(model):
    """Draws of a wider distribution, weighted by how much too wide it is."""
    log_p = joint(EVERYTHING)
    log_q = 0.7 * log_p
    idata = gg.loo_log_likelihood(tree(quantiles(log_q, 500)), model, **QUIET)
    x = np.log(idata.posterior["sigma"].values.ravel())
    log_densities = [np.interp(x, GRID, value) for value in (log_p, log_q)]
    elpd = az.loo_approximate_posterior(idata, *log_densities, pointwise=True)
    is_exact(elpd, rtol=0.01)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter", "ignore:Using mixture")
def test_mixture(model):
    """Draws of the mixture of all posteriors without one observation."""
    log_density = logsumexp([joint(others([i])) for i in range(N)], axis=0)
    elpd = gg.loo(tree(quantiles(log_density, 1000)), model, mixture=True, **QUIET)
    assert_allclose(elpd.elpd_i, each_exact(), rtol=0.01)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_compare(idata, model, matched):
    """Differences are those of what is compared; the fit of another model has what it needs."""
    with pm.Model(coords={"time": TIME}) as independent:
        sigma = pm.HalfNormal("sigma", PRIOR)
        gg.MvNormal("y", 0.0, gg.cov.Diagonal(sigma**2), observed=Y, dims="time")
    other = gg.loo(idata, independent, **QUIET)
    table = az.compare({"ar": matched, "independent": other}, round_to="none")
    difference = table.loc["ar", "elpd"] - table.loc["independent", "elpd"]
    assert_allclose(difference, sum(map(exact, EVERYTHING[:, None])) - other.elpd, atol=0.3)
    sigma = idata.posterior["sigma"].values[..., None]
    pointwise = norm.logpdf(Y, scale=sigma)
    assert_allclose(other.elpd, az.loo(tree(sigma.ravel(), log_likelihood={"y": pointwise})).elpd)


def test_power_scaling_takes_the_terms_one_step_ahead(idata, model):
    """They add up to the log likelihood, as power scaling needs; those given all others do not."""
    ahead = gg.lfo_log_likelihood(idata.copy(), model, **QUIET)
    whole = idata.copy()
    total = np.interp(np.log(idata.posterior["sigma"]), GRID, joint(EVERYTHING) - joint([]))
    add_to_group(whole, "log_likelihood", xr.DataArray(total, dims=("chain", "draw"), name="y"))
    found, expected, wrong = (
        az.psense(t, group="likelihood")["sigma"].item() for t in (ahead, whole, idata)
    )
    assert_allclose(found, expected, rtol=1e-3)
    assert abs(wrong - expected) > 0.01 * expected


# Fits again, by quadrature with the log density that a sampler would see.


@pytest.fixture(scope="module")
def on_grid(idata, model):
    """A function that has a wrapper draw by quadrature; all have the first's model."""
    first = gg.refit_wrapper(idata, model)
    logp = first.model.compile_logp(mode=INTERPRETED)

    def refits(idata, **options):
        wrapper = gg.refit_wrapper(idata, model, **options)

        def sample(left_out):
            first.leave_out(left_out)
            coarse = [logp({"sigma_log__": np.array(x)}) for x in GRID[::8]]
            log_density = CubicSpline(GRID[::8], coarse)(GRID)
            return tree(quantiles(log_density, 300))

        wrapper.sample = sample
        return wrapper

    return refits


def nearly(elpd, expected):
    """Of a fit's 300 draws by quantiles; an outlier's density is mostly that of the last few."""
    elpd, expected = np.array(elpd), np.array(expected)
    assert_allclose(elpd[OUTLIER], expected[OUTLIER], rtol=0.012)
    assert_allclose(np.delete(elpd, OUTLIER), np.delete(expected, OUTLIER), rtol=1e-3)


def test_reloo(idata, on_grid):
    with pytest.warns(UserWarning, match="Estimated shape"):
        elpd = az.reloo(on_grid(idata), pointwise=True)
    nearly(elpd.elpd_i, each_exact())
    assert elpd.pareto_k[OUTLIER] == 0


def test_kfold(idata, on_grid):
    """Folds of different sizes; each observation given the other folds."""
    folds = np.array([1, 2, 3, 1, 2, 3, 1, 1, 2, 3, 1, 1])
    wrapper = on_grid(idata)
    elpd = az.loo_kfold(idata, wrapper, folds=folds, pointwise=True)
    expected = [exact([i], np.flatnonzero(folds != folds[i])) for i in range(N)]
    nearly(elpd.elpd_i, expected)


def test_kfold_of_groups(model, on_grid):
    group = np.repeat(["a", "b", "c", "d"], 3)
    idata = tree(quantiles(joint(EVERYTHING), 50))
    gg.loo_log_likelihood(idata, model, group=group, **QUIET)
    wrapper = on_grid(idata, group=group)
    elpd = az.loo_kfold(idata, wrapper, folds=[1, 2, 1, 2], pointwise=True)
    for i, name in enumerate("abcd"):
        given = np.flatnonzero(np.isin(group, list("bd" if name in "ac" else "ac")))
        assert_allclose(elpd.elpd_i[i], exact(np.flatnonzero(group == name), given), rtol=3e-3)


@pytest.mark.parametrize("method", ["exact", "approx"])
def test_leave_future_out(model, on_grid, method):
    idata = tree(quantiles(joint(EVERYTHING), 50))
    gg.lfo_log_likelihood(idata, model, **QUIET)
    wrapper = on_grid(idata)
    elpd = az.lfo_cv(idata, wrapper, 8, 2, method=method, pointwise=True)
    expected = [exact([i, i + 1], np.arange(i)) for i in range(8, N - 1)]
    assert_allclose(elpd.elpd_i, expected, rtol=3e-3 if method == "exact" else 0.02)
    with pytest.raises(ValueError, match="only the last observations be left out"):
        az.loo_kfold(idata, wrapper, k=3)


def test_a_tree_without_terms(idata, model):
    bare = tree(quantiles(joint(EVERYTHING), 10))
    for held in (
        bare,
        az.from_dict(
            {
                **{"posterior": {"sigma": np.ones((1, 9))}},
                "log_likelihood": {"y": np.ones((1, 9, N))},
            }
        ),
    ):
        with pytest.raises(
            ValueError, match=r"expected what gg.loo_log_likelihood\(idata, model\)"
        ):
            gg.refit_wrapper(held, model)
    with pytest.raises(ValueError, match="with the same group= if any"):
        gg.refit_wrapper(idata, model, group=np.repeat([0, 1], 6))


@pytest.mark.sampling
def test_one_compiled_log_density_for_all_fits(model):
    """NUTS draws what quadrature draws; the function of the sampler is that of the fit before."""
    options = {"draws": 150, "tune": 150, "chains": 2, "random_seed": 1, "target_accept": 0.9}
    idata = gg.loo_log_likelihood(tree(quantiles(joint(EVERYTHING), 50)), model, **QUIET)
    wrapper = gg.refit_wrapper(idata, model, **options)
    functions = []
    for left_out in ([3], [0, 1, 2]):
        new, excluded = wrapper.sel_observations(np.array(left_out))
        fit = wrapper.get_inference_data(wrapper.sample(new))
        functions.append(wrapper._step[0]._logp_dlogp_func)
        sigma = quantiles(joint(others(left_out)), 500)
        error = np.sqrt(sigma.var() / az.ess(fit.posterior["sigma"]).item())
        assert abs(fit.posterior["sigma"].mean() - sigma.mean()) < 4 * error
        terms = wrapper.log_likelihood__i(excluded, fit)
        assert terms.dims == ("chain", "draw", "time")
        elpd = logsumexp(terms, axis=(0, 1)) - np.log(terms.sizes["chain"] * terms.sizes["draw"])
        assert_allclose(elpd, [exact([i], others(left_out)) for i in left_out], atol=0.1)
    assert functions[0] is functions[1]
