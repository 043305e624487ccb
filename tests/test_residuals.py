"""Whitened residuals: white by the dense twin, for every structure; missing values; pictures."""

import sys

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from registry import CASES, each, interpreted, positive_definite
from scipy.linalg import toeplitz
from scipy.special import ndtri

import pm_gaussgrad as gg
from pm_gaussgrad.posterior.residuals.whiteness import (
    autocorrelation,
    normal_order_band,
    order_probability,
)

N = 6
LOCATION, SCALE = np.array([[0.3, -1.0]]), np.array([[0.5, 2.0]])
# What docs/residuals.md says of the square roots.
ROOTS = {
    "Dense": "lower",
    "Cholesky": "lower",
    "Precision": "upper",
    "Diagonal": "lower",
    "ScalarDiagonal": "lower",
    "LowRankPlusDiagonal": "low rank",
    "LowRankPlusScalar": "low rank",
    "AR1": "lower",
    "BlockDiagonal": "lower",
    "CompoundSymmetry": "symmetric",
    "Eigenbasis": "symmetric",
    "Toeplitz": "lower",
    "Kronecker": "lower",
    "NoisyKronecker": "symmetric",
    "RepeatedMeasures": "by visit",
}


def posterior(**variables):
    """A tree of given draws, (chain, draw, ...)."""
    data = {
        name: (("chain", "draw", *(f"{name}_{i}" for i in range(np.ndim(x) - 2))), np.asarray(x))
        for name, x in variables.items()
    }
    return xr.DataTree.from_dict({"posterior": xr.Dataset(data)})


def located(build, observed, distribution=gg.MvNormal, **kwargs):
    """A model y ~ N(location, scale * Sigma), and two draws of it."""
    with pm.Model() as model:
        location, scale = pm.Normal("location"), pm.HalfNormal("scale")
        distribution("y", location, build(scale), observed=observed, **kwargs)
    return posterior(location=LOCATION, scale=SCALE), model


def residuals(*args, **kwargs):
    return gg.whitened_residuals(*args, progressbar=False, **kwargs)


def assert_white(whitening, sigma):
    """S^-1 Sigma S'^-1 = I, and so |S^-1 r|^2 = r' Sigma^-1 r for every r."""
    identity = np.eye(len(sigma))
    assert_allclose(whitening @ sigma @ whitening.T, identity, atol=1e-10)


@each(CASES)
def test_white_by_the_dense_twin(case, rng):
    values = case.draw(rng, N)
    cov = case.build(N, *map(pt.constant, values))
    sigma = interpreted([], cov.to_dense())()
    # Rows are the unit vectors, whatever the mean is: they show the whole linear map.
    for draw, (location, scale) in enumerate(zip(LOCATION[0], SCALE[0], strict=True)):
        given, model = located(lambda scale: scale * cov, np.eye(N) + location)
        part = given.isel(draw=[draw])
        white = residuals(part, model)
        assert white.sizes == {"chain": 1, "draw": 1, "y_dim_0": N, "y_dim_1": N}
        whitening = white.to_numpy()[0, 0].T
        assert_white(whitening, scale * sigma)
        if draw == 0 and case.name in ROOTS:
            assert_root(case, np.sqrt(scale) * whitening, cov)


def assert_root(case, whitening, cov):
    kind = ROOTS[case.name]
    if kind in ("lower", "upper"):
        triangle = np.tril if kind == "lower" else np.triu
        assert_allclose(whitening, triangle(whitening), atol=1e-12)
    elif kind == "symmetric":
        assert_allclose(whitening, whitening.T, atol=1e-12)
    elif kind == "low rank":
        noise = np.broadcast_to(interpreted([], cov.parameters[1])(), N)
        common = whitening - np.diag(1 / np.sqrt(noise))
        assert np.linalg.matrix_rank(common, tol=1e-10) == 2
    else:
        _, _, _, observations, *_ = interpreted([], list(cov.parameters))()
        order = observations[observations >= 0]  # by subject, within it by visit
        ordered = whitening[np.ix_(order, order)]
        assert_allclose(ordered, np.tril(ordered), atol=1e-12)
        assert (whitening != np.tril(whitening)).any()


def test_dimensions_and_labels(rng):
    """Of the model and of the draws; gg.MvNormal and pm.MvNormal alike."""
    matrix, y, means = (
        positive_definite(rng, 3),
        rng.normal(size=(2, 3)),
        rng.normal(size=(2, 5, 3)),
    )
    idata = posterior(location=means)
    posterior_group = idata["posterior"].to_dataset().assign_coords(draw=np.arange(10, 15))
    idata["posterior"] = xr.DataTree(posterior_group)
    expected = np.linalg.solve(np.linalg.cholesky(matrix), (y - means[:, :, None])[..., None])
    coords = {"subject": ["a", "b"], "visit": [0, 2, 4]}
    for distribution in (gg.MvNormal, pm.MvNormal):
        with pm.Model(coords=coords) as model:
            location = pm.Normal("location", dims="visit")
            distribution("y", location, cov=matrix, observed=y, dims=("subject", "visit"))
        white = residuals(idata, model)
        assert white.name == "y"
        assert white.dims == ("chain", "draw", "subject", "visit")
        labels = {name: labels.to_numpy().tolist() for name, labels in white.coords.items()}
        assert labels == {"draw": [10, 11, 12, 13, 14], **coords}
        assert_allclose(white, expected[..., 0], rtol=1e-12)


def test_model_from_the_context_and_name(rng):
    with pm.Model():
        a = pm.Normal("a")
        gg.MvNormal("y", a, np.eye(2), observed=np.ones(2))
        gg.MvNormal("z", a, np.eye(2), observed=np.zeros(2))
        idata = posterior(a=[[0.25]])
        white = residuals(idata, var_name="z")
        with pytest.raises(ValueError, match=r"2 observed .*\['y', 'z'\].*var_name="):
            residuals(idata)
    assert white.name == "z"
    assert_allclose(white, np.full((1, 1, 2), -0.25))


def test_hierarchy_needs_what_the_likelihood_needs():
    """Parameters of parameters may be absent."""
    with pm.Model() as model:
        top = pm.Normal("top")
        a = pm.Normal("a", top)
        gg.MvNormal("y", a, np.eye(2), observed=np.ones(2))
    assert_allclose(residuals(posterior(a=[[0.25, 3.0]]), model)[0, :, 0], [0.75, -2.0])
    with pytest.raises(ValueError, match=r"lacks the variables \['a'\].*var_names="):
        residuals(posterior(top=[[0.25]]), model)


GAPS = np.array([True, False, True, True, False, True])


@pytest.mark.parametrize("name", ["Dense", "AR1", "Toeplitz", "NoisyKronecker", "RepeatedMeasures"])
def test_gaps_common_to_all_rows(name, rng):
    """Labels of what is missing are left out."""
    [case] = [c for c in CASES if c.name == name]
    cov = case.build(N, *map(pt.constant, case.draw(rng, N)))
    sigma = interpreted([], cov.to_dense())()
    observed = np.where(GAPS, np.eye(N) + LOCATION[0, 0], np.nan)
    given, model = located(lambda scale: scale * cov, observed)
    white = residuals(given.isel(draw=[0]), model)
    assert white.coords["y_dim_1"].to_numpy().tolist() == [0, 2, 3, 5]
    whitening = white.to_numpy()[0, 0][GAPS].T
    assert_white(whitening, SCALE[0, 0] * sigma[np.ix_(GAPS, GAPS)])
    if name in ("Dense", "AR1"):  # still innovations
        assert_allclose(whitening, np.tril(whitening), atol=1e-12)


@pytest.mark.parametrize("name", ["Dense", "CompoundSymmetry", "AR1", "Toeplitz"])
@pytest.mark.parametrize("batch", [False, True])
def test_gaps_that_differ(name, batch, rng):
    """NaN at the missing entries; each row white by its own marginal; rows without any data."""
    [case] = [c for c in CASES if c.name == name]
    values = case.values(rng, N, (2,) if batch else ())
    cov = case.build(N, *map(pt.constant, values))
    sigma = np.broadcast_to(interpreted([], cov.to_dense())(), (2, N, N))
    y = rng.normal(size=(3, 2, N))
    y[rng.random(size=y.shape) < 0.3] = np.nan
    y[0, 1], y[2, 0] = np.nan, [np.nan, np.nan, 1.0, np.nan, np.nan, np.nan]
    y[1, 0], y[1, 1, :] = y[1, 1], y[1, 0]  # one pattern under both covariances
    given, model = located(lambda scale: scale * cov, y)
    white = residuals(given, model).to_numpy()
    missing = np.isnan(y)
    assert 2 < len(np.unique(missing.reshape(-1, N), axis=0)) < 6
    for draw, (location, scale) in enumerate(zip(LOCATION[0], SCALE[0], strict=True)):
        assert (np.isnan(white[0, draw]) == missing).all()
        for i, j in np.ndindex(3, 2):
            o = ~missing[i, j]
            r, block = y[i, j, o] - location, scale * sigma[j][np.ix_(o, o)]
            quad = r @ np.linalg.solve(block, r) if o.any() else 0
            assert_allclose(np.nansum(white[0, draw, i, j] ** 2), quad, rtol=1e-9)


@pytest.mark.parametrize("name", ["Dense", "AR1", "Toeplitz", "NoisyKronecker"])
def test_rows_are_whitened_as_alone(name, rng):
    """A row among rows that miss more, fewer and other entries: the same linear map."""
    [case] = [c for c in CASES if c.name == name]
    cov = case.build(N, *map(pt.constant, case.draw(rng, N)))
    y = np.where(GAPS, np.eye(N) + LOCATION[0, 0], np.nan)
    alone, among = y, np.concatenate([y, np.ones((2, N))])
    among[-1, [0, 1, 2, 4]] = np.nan
    whites = []
    for observed in (alone, among):
        given, model = located(lambda scale: scale * cov, observed)
        whites.append(residuals(given, model).to_numpy())
    assert_allclose(whites[1][:, :, :N][..., GAPS], whites[0], atol=1e-12)


def test_one_observation_and_none():
    expected = (1.3 - LOCATION) / np.sqrt(SCALE)
    for observed in ([1.3], [[1.3], [np.nan]]):
        given, model = located(lambda s: s * gg.cov.Toeplitz([1.0]), np.array(observed))
        white = residuals(given, model).to_numpy().reshape(1, 2, -1)
        assert_allclose(white[..., 0], expected)
        assert np.isnan(white[..., 1:]).all()
    given, model = located(lambda s: s * gg.cov.Diagonal(np.ones(2)), np.full(2, np.nan))
    with pytest.raises(ValueError, match="all values of 'y' are missing"):
        residuals(given, model)


def test_what_is_no_posterior():
    given, model = located(lambda s: s * gg.cov.Diagonal(np.ones(2)), np.zeros(2))
    with pytest.raises(TypeError, match=r"`idata` is a Dataset, expected an xarray.DataTree"):
        residuals(given["posterior"].to_dataset(), model)
    with pytest.raises(ValueError, match="no draws"):
        residuals(given.isel(draw=slice(0)), model)
    with pytest.raises(ValueError, match=r"the groups \['prior'\], expected `posterior`"):
        residuals(xr.DataTree.from_dict({"prior": given["posterior"].to_dataset()}), model)


@pytest.fixture(scope="module")
def calibrated():
    """Residuals of 4,000 simulated data sets, each at one draw of its own exact posterior.

    y is an AR(1) about a level that is N(0, 4) a priori and normal a posteriori.
    """
    rng, n, rows = np.random.default_rng(3), 8, 4000
    sigma = 1.5 * toeplitz(0.6 ** np.arange(n))
    level = 2 * rng.normal(size=(rows, 1))
    y = level + rng.normal(size=(rows, n)) @ np.linalg.cholesky(sigma).T
    weights = np.linalg.solve(sigma, np.ones(n))
    variance = 1 / (weights.sum() + 1 / 4)
    drawn = variance * y @ weights + np.sqrt(variance) * rng.normal(size=rows)
    with pm.Model() as model:
        level = pm.Normal("level", 0, 2, shape=(rows, 1))
        gg.MvNormal("y", level, gg.cov.AR1(1.5, 0.6), observed=y)
    return residuals(posterior(level=drawn[None, None, :, None]), model)


def test_white_at_a_draw_of_the_posterior(calibrated):
    z = calibrated.to_numpy()[0, 0]
    rows, n = z.shape
    assert_allclose(z.mean(axis=0), 0, atol=4 / np.sqrt(rows))
    assert_allclose(z.T @ z / rows, np.eye(n), atol=4 * np.sqrt(2 / rows))
    assert_allclose((z**4).mean(), 3, atol=4 * np.sqrt(96 / z.size))


def test_band_holds_posterior_draws(calibrated):
    """Nominal, in data sets whose level was estimated."""
    z = np.sort(calibrated.to_numpy()[0, 0], axis=-1)
    _, _, lower, upper = normal_order_band(z.shape[1], 0.9)
    covered = ((z > lower) & (z < upper)).all(axis=-1).mean()
    assert abs(covered - 0.9) < 4 * np.sqrt(0.9 * 0.1 / len(z))


@pytest.mark.parametrize(("n", "rows"), [(1, 20000), (40, 20000), (1500, 2000)])
def test_band_is_simultaneous(n, rows, rng):
    ranks, median, lower, upper = normal_order_band(n, 0.95)
    assert (np.diff(ranks) > 0).all()
    assert ranks[0] == 1
    assert ranks[-1] == n
    assert_allclose(median, -median[::-1], atol=1e-9)
    assert_allclose(lower, -upper[::-1], atol=1e-9)
    z = np.sort(rng.normal(size=(rows, n)), axis=-1)[:, ranks - 1]
    covered = ((z > lower) & (z < upper)).all(axis=-1).mean()
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / rows)


def test_probability_of_order_statistics():
    """Twice the area of the pairs u < v with u and v between their bounds."""
    assert_allclose(order_probability(1, np.array([1]), np.array([0.2]), np.array([0.7])), 0.5)
    two = order_probability(2, np.array([1, 2]), np.array([0.1, 0.4]), np.array([0.6, 0.9]))
    assert_allclose(two, 2 * (0.5 * 0.5 - 0.2**2 / 2))
    largest = order_probability(5, np.array([5]), np.array([0.3]), np.array([0.8]))
    assert_allclose(largest, 0.8**5 - 0.3**5)
    apart = np.array([0.5, 0.1]), np.array([0.6, 0.2])
    assert order_probability(2, np.array([1, 2]), *apart) == 0


def test_autocorrelation(rng):
    """Against plain sums; the variance of white noise, with gaps, against simulation."""
    z = rng.normal(size=(20000, 2, 7))
    z[:, 0, 3] = z[:, 1, 5] = np.nan
    values, sd = autocorrelation(z, 6)
    first = z[0]
    pairs = [first[i, t] * first[i, t + 2] for i in range(2) for t in range(5)]
    assert_allclose(values[0, 1], np.nansum(pairs) / np.nansum(first**2))
    se = np.sqrt(2 / len(z)) * sd**2  # of a variance; the tails are lighter than normal
    assert (np.abs((values**2).mean(axis=0) - sd**2) < 4 * se).all()
    assert np.isnan(autocorrelation(np.array([[[1.0, np.nan, 2.0]]]), 1)[0]).all()


# --- pictures


@pytest.fixture
def white(rng):
    z = rng.normal(size=(2, 20, 5, 30))
    dims = ("chain", "draw", "subject", "time")
    return xr.DataArray(z, coords={"time": np.arange(1990, 2020)}, dims=dims, name="y")


@pytest.fixture
def axes():
    pytest.importorskip("matplotlib").use("Agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    yield lambda: plt.figure().add_subplot()
    plt.close("all")


def by_label(ax):
    handles, labels = ax.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def test_qq_picture(white, axes):
    ax = gg.plot_residual_qq(white, ax=axes())
    drawn = by_label(ax)
    assert set(drawn) == {
        "95 % simultaneous band",
        "N(0, 1)",
        "90 % of the draws",
        "posterior mean",
    }
    ordered = np.sort(white.to_numpy().reshape(40, -1), axis=-1)
    x, y = drawn["posterior mean"].get_data()
    _, median, lower, upper = normal_order_band(150, 0.95)
    assert_allclose(x, median)
    assert_allclose(y, ordered.mean(axis=0))
    segments = np.array(drawn["90 % of the draws"].get_segments())
    assert_allclose(segments[:, :, 1].T, np.quantile(ordered, [0.05, 0.95], axis=0))
    assert_allclose(drawn["N(0, 1)"].get_data(), [median[[0, -1]]] * 2)
    [band] = drawn["95 % simultaneous band"].get_paths()
    assert_allclose(band.vertices[:, 1].min(), lower[0])
    assert_allclose(band.vertices[:, 1].max(), upper[-1])
    assert ax.get_title() == "Whitened residuals of y"


def test_qq_picture_of_outliers_and_one_draw(white, axes):
    """Without chains and draws; missing entries do not count; three outliers are red."""
    one = white.isel(chain=0, draw=0).copy()
    one[0, :3], one[1, 4] = [9.0, 8.0, -9.0], np.nan
    drawn = by_label(gg.plot_residual_qq(one, ax=axes()))
    assert "90 % of the draws" not in drawn
    red, blue = drawn["outside the band"].get_ydata(), drawn["residuals"].get_ydata()
    assert {-9.0, 8.0, 9.0} <= set(red)
    assert len(red) + len(blue) == 149
    single = gg.plot_residual_qq(one[:1, 5:6].rename(None), ax=axes())
    assert single.get_title() == "Whitened residuals"


def test_acf_picture(white, axes):
    ax = gg.plot_residual_acf(white, max_lag=5, ax=axes())
    drawn = by_label(ax)
    x, y = drawn["posterior mean"].get_data()
    values, sd = autocorrelation(white.to_numpy().reshape(40, 5, 30), 5)
    assert_allclose(x, [1, 2, 3, 4, 5])
    assert_allclose(y, values.mean(axis=0))
    segments = np.array(drawn["90 % of the draws"].get_segments())
    assert_allclose(segments[:, :, 1].T, np.quantile(values, [0.05, 0.95], axis=0))
    [each_lag], [all_lags] = (
        drawn[f"95 % band, {name}"].get_paths() for name in ("each lag", "all lags")
    )
    assert (each_lag.vertices[:, 0].min(), each_lag.vertices[:, 0].max()) == (0.5, 5.5)
    assert_allclose(each_lag.vertices[:, 1].max(), ndtri(0.975) * sd.max())
    assert_allclose(all_lags.vertices[:, 1].max(), ndtri((1 + 0.95**0.2) / 2) * sd.max())
    assert ax.get_xlabel() == "lag along time"


def test_acf_along_a_named_dimension(white, axes):
    ax = gg.plot_residual_acf(white.isel(chain=0, draw=0), dim="subject", ax=axes())
    x, y = by_label(ax)["residuals"].get_data()
    z = white.to_numpy()[0, 0]
    assert_allclose(x, [1, 2, 3, 4])
    assert_allclose(y[0], (z[:-1] * z[1:]).sum() / (z**2).sum())
    assert ax.get_xlabel() == "lag along subject"


@pytest.mark.parametrize("correlation", [False, True])
def test_covariance_picture_of_a_fit(correlation, axes):
    """The mean over the draws, of correlations where these are asked for."""
    years = np.arange(1990, 2015)
    with pm.Model(coords={"year": years}) as model:
        rho, v = pm.Uniform("rho"), pm.HalfNormal("v")
        y = np.where(years == 2000, np.nan, 0.0)
        gg.MvNormal("y", 0.0, gg.cov.AR1(v, rho), observed=y, dims="year")
    idata = posterior(rho=[[0.2, 0.8]], v=[[1.0, 3.0]])
    ax = gg.plot_covariance(idata, model, correlation=correlation, progressbar=False, ax=axes())
    first, second = (toeplitz(rho ** np.arange(25.0)) for rho in (0.2, 0.8))
    expected = (first + (1 if correlation else 3) * second) / 2
    [image] = ax.get_images()
    assert_allclose(image.get_array(), expected, rtol=1e-12)
    assert image.get_clim() == ((-1, 1) if correlation else (-2, 2))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1990", "1995", "2000", "2005", "2010"]
    assert_allclose(ax.get_xticks(), [0, 5, 10, 15, 20])
    assert {t.get_rotation() for t in ax.get_xticklabels()} == {0}
    kind = "correlation" if correlation else "covariance"
    assert ax.get_title() == f"Posterior mean {kind} of y"
    some = gg.plot_covariance(idata, model, positions=years >= 2012, progressbar=False, ax=axes())
    assert [t.get_text() for t in some.get_yticklabels()] == ["2012", "2013", "2014"]


def test_covariance_picture_of_numbers(axes, rng):
    matrix = positive_definite(rng, 4) - 0.5
    for shown in (matrix, gg.cov.Dense(matrix)):
        [image] = gg.plot_covariance(shown, ax=axes()).get_images()
        assert_allclose(image.get_array(), matrix)
    ax = gg.plot_covariance(gg.cov.Dense(matrix), positions=[1, 3], ax=axes())
    assert_allclose(ax.get_images()[0].get_array(), matrix[np.ix_([1, 3], [1, 3])])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "3"]


def test_covariance_picture_of_rows_with_names(axes):
    """PyMC's own variable of rows has a batch of one matrix; every few names or dates are shown."""
    sites = [f"station {i}" for i in range(30)]
    days = np.arange("2020-01-05", "2020-04-04", 3, dtype="datetime64[D]")
    with pm.Model(coords={"row": [0, 1], "site": sites, "day": days}) as model:
        v = pm.HalfNormal("v")
        pm.MvNormal("y", 0.0, cov=v * np.eye(30), observed=np.zeros((2, 30)), dims=("row", "site"))
        gg.MvNormal("z", 0.0, gg.cov.AR1(v, 0.5), observed=np.zeros(30), dims="day")
    given, first = posterior(v=[[2.0, 4.0]]), {}
    for name in "yz":
        ax = gg.plot_covariance(given, model, name, progressbar=False, ax=axes())
        first[name] = [t.get_text() for t in ax.get_xticklabels()][:2]
        assert {t.get_rotation() for t in ax.get_xticklabels()} == {90}
        assert_allclose(np.diag(ax.get_images()[0].get_array()), 3)
    assert first == {"y": ["station 0", "station 2"], "z": ["2020-01-05", "2020-01-17"]}


def test_covariance_picture_of_uneven_labels(axes):
    """Round labels from the first to the last, where they belong among the others."""
    times = [*range(30), 100]
    with pm.Model(coords={"time": times}) as model:
        gg.MvNormal(
            "y", 0.0, gg.cov.AR1(pm.HalfNormal("v"), 0.5), observed=np.zeros(31), dims="time"
        )
    ax = gg.plot_covariance(posterior(v=[[2.0]]), model, progressbar=False, ax=axes())
    assert [ax.get_xticklabels()[i].get_text() for i in (0, -1)] == ["0", "100"]
    assert_allclose(ax.get_xticks()[[0, -1]], [0, 30])


def test_without_matplotlib(white, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"gg.plot_residual_qq: .*`pip install matplotlib`"):
        gg.plot_residual_qq(white)


def test_what_cannot_be_drawn(white, axes):
    with pytest.raises(TypeError, match=r"`residuals` is a ndarray.*xr.DataArray\(z, dims"):
        gg.plot_residual_qq(white.to_numpy())
    with pytest.raises(ValueError, match=r"`dim` is 'site', expected one of .*'subject', 'time'"):
        gg.plot_residual_acf(white, dim="site")
    with pytest.raises(ValueError, match="`max_lag` is 30, expected 1 to 29"):
        gg.plot_residual_acf(white, max_lag=30)
    with pytest.raises(ValueError, match=r"1 entries along 'time'.*dim="):
        gg.plot_residual_acf(white.isel(time=[0]))
    with pytest.raises(ValueError, match="`prob` is 95, expected a probability"):
        gg.plot_residual_qq(white, prob=95)
    with pytest.raises(ValueError, match="`ci_prob` is 1, expected a probability"):
        gg.plot_residual_acf(white, ci_prob=1)
    with pytest.raises(ValueError, match="no entries that are observed"):
        gg.plot_residual_qq(white * np.nan)
    with pytest.raises(ValueError, match=r"5000 observations.*3000.*positions=range\(0, 5000, 5\)"):
        gg.plot_covariance(gg.cov.AR1(1.0, 0.5, size=5000))
    with pytest.raises(ValueError, match="1 batch dimension"):
        gg.plot_covariance(np.ones((2, 3, 3)))
    with pytest.raises(TypeError, match="constant parameters; of a fitted model pass `idata`"):
        gg.plot_covariance(gg.cov.AR1(pt.scalar("v"), 0.5, size=3))
    with pytest.raises(TypeError, match="constant parameters"):
        gg.plot_covariance(gg.cov.AR1(pm.HalfNormal.dist(), 0.5, size=3))
