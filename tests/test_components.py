"""Summands of a covariance: products with rows, and what is known of one from their sum."""

import arviz as az
import cloudpickle
import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from pytensor.graph.basic import equal_computations
from registry import BACKENDS, CASES, each, interpreted
from scipy.linalg import block_diag

import pm_gaussgrad as gg
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood
from pm_gaussgrad.posterior.predict.component import of_component
from pm_gaussgrad.posterior.predict.parted import parted

QUIET = {"progressbar": False, "random_seed": 1}
BY_NAME = {case.name: case for case in CASES}


def times(case, n, batch, lead, rng):
    """Tensors and their values, the product with rows, and what it is by the dense matrix."""
    values, tensors = case.values(rng, n, batch), case.tensors(len(batch))
    cov, rows = case.build(n, *tensors), rng.normal(size=(*lead, n))
    return tensors, values, cov.times(rows), (cov.to_dense() @ rows[..., None])[..., 0]


@each(CASES)
def test_times(case, rng):
    """Rows, and a batch of parameters, against the dense matrix."""
    sought = [times(case, 6, (), (3,), rng)]
    if case.name != "RandomWalk":
        sought.append(times(case, 6, (2,), (3, 2), rng))
    tensors, values, *outputs = zip(*sought, strict=True)
    inputs = [x for xs in tensors for x in xs]
    function = interpreted(inputs, [*outputs[0], *outputs[1]], on_unused_input="ignore")
    found = function(*(v for vs in values for v in vs))
    for product, expected in zip(found[: len(sought)], found[len(sought) :], strict=True):
        assert_allclose(product, expected, rtol=1e-11, atol=1e-13 * np.abs(expected).max())


def test_times_by_strips(rng):
    """What a structure of a user has, which defines its rows: more of them than a strip is high."""
    case = BY_NAME["RandomWalk"]
    tensors, values, *outputs = times(case, 150, (), (2, 3), rng)
    found, expected = interpreted(tensors, outputs)(*values)
    assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(NotImplementedError, match=r"Define times\(rows\)"):
        times(case, 6, (2,), (2,), rng)


def test_times_of_the_twin_kernel(rng):
    tensors, values, *outputs = times(BY_NAME["Toeplitz"], 6, (2,), (3, 2), rng)
    found, expected = interpreted(tensors, outputs, mode=BACKENDS["jax"])(*values)
    assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


# What is known of a summand, exactly

N = 6
TIME, PLACE = np.arange(N), np.array([0.0, 0.1, 0.5, 0.6, 0.7, 2.0])
SUBJECT, VISIT = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 2, 0, 1, 2, 1])
GROUP = np.array([0, 1, 0, 1, 1, 0])
SMOOTH = np.exp(-((PLACE[:, None] - PLACE) ** 2))  # singular up to rounding
ONES = np.ones((2, 2))
SUMS = {
    "smooth": [gg.cov.AR1(1.5, 0.8), gg.cov.Diagonal(0.4)],
    "irregular": [gg.cov.AR1(1.5, 0.8, time=PLACE, group=GROUP), gg.cov.Diagonal(0.4)],
    "intercept": [gg.cov.LowRank(np.eye(3)[SUBJECT]), gg.cov.AR1(0.7, -0.3)],
    "three": [gg.cov.LowRank(PLACE[:, None]), gg.cov.AR1(0.7, 0.9), gg.cov.Diagonal(PLACE + 0.2)],
    "lags": [gg.cov.AR1(1.5, 0.8), gg.cov.CompoundSymmetry(0.8, 0.3)],
    "matrix": [gg.cov.Dense(SMOOTH), gg.cov.Diagonal(0.3)],
    "stationary": [gg.cov.Toeplitz(0.8**TIME), gg.cov.Diagonal(0.5)],
    "grid": [gg.cov.Kronecker(ONES, np.diag([1.0, 2.0, 0.5])), gg.cov.Diagonal(0.5)],
    "eigen": [gg.cov.Eigenbasis.from_matrix(SMOOTH), gg.cov.Diagonal(0.5)],
    "groups": [
        gg.cov.CompoundSymmetry.from_components(0.0, 1.3, group=GROUP),
        gg.cov.Diagonal(1.1),
    ],
    "effects": [
        gg.cov.Effects(GROUP, ONES + np.eye(2), np.stack([PLACE, PLACE**2], axis=1)),
        gg.cov.Effects(SUBJECT, 0.0),
        gg.cov.Projected(np.eye(N, 3) + np.eye(N, 3, k=-3), gg.cov.AR1(0.7, 0.5)),
        gg.cov.Diagonal(PLACE + 0.2),
    ],
    # Of a path, a level each.
    "related": [
        gg.cov.Effects(TIME, 1.4, precision=2.2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1)),
        gg.cov.Diagonal(PLACE + 0.2),
    ],
    # A path, a pair and one that is zero.
    "areas": [gg.cov.ICAR([[0, 1], [1, 2], [3, 4]], 1.3, n=N), gg.cov.Diagonal(PLACE + 0.2)],
    "visits": [
        gg.cov.RepeatedMeasures(np.ones((3, 3)), SUBJECT, VISIT),
        gg.cov.RepeatedMeasures(gg.cov.AR1(0.7, 0.5, size=3), SUBJECT, VISIT),
        gg.cov.RepeatedMeasures(np.diag([0.1, 0.3, 0.2]), SUBJECT, VISIT),
    ],
    "scaled parts": [
        gg.cov.Scaled(gg.cov.AR1(1.0, 0.5), PLACE + 1),
        gg.cov.Scaled(gg.cov.Diagonal(0.3), PLACE + 1),
    ],
    "scaled": [gg.cov.Scaled(gg.cov.AR1(1.0, 0.5), PLACE + 1), gg.cov.LowRank(np.ones((N, 1)))],
}


def given(y, of, total):
    """Mean and covariance of a summand given what is not NaN of the sum, by dense algebra."""
    seen = np.flatnonzero(~np.isnan(y))
    weights = np.linalg.solve(total[np.ix_(seen, seen)], of[seen])
    return y[seen] @ weights, of - weights.T @ of[seen]


def dense(cov, n=N):
    return cov.sized(n).to_dense().eval(mode="FAST_COMPILE")


# What is summed inside of a structure: the total, the object that is asked for, its covariance.
INTERCEPT, SERIES = gg.cov.CompoundSymmetry(0.8, 1.0), gg.cov.AR1(0.7, 0.5, size=3)
NOISE, SCALE = gg.cov.Diagonal(0.3), np.array([1.0, 2.0, 0.5])
WITHIN, OUTER = INTERCEPT + SERIES + NOISE, PLACE + 1
FACTOR = np.array([[1.0, 0.3], [0.3, 2.0]])
SHORT = gg.cov.Dense(FACTOR)


def of_visits(within):
    same = SUBJECT[:, None] == SUBJECT
    return np.where(same, within[np.ix_(VISIT, VISIT)], 0)


def by_stratum(one, other):
    return np.where((SUBJECT == 1)[:, None], of_visits(other), of_visits(one))


LAGS = np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
ALIKE, DYING = np.full((3, 3), 0.8), 0.7 * 0.5**LAGS
SHARES = gg.cov.BYM2([[0, 1], [1, 2], [3, 4]], 1.3, 0.7, n=N)
INSIDE = {
    "shares": (SHARES + NOISE, SHARES.structured, dense(SHARES.structured)),
    "within": (
        gg.cov.RepeatedMeasures(WITHIN, SUBJECT, VISIT),
        INTERCEPT + SERIES,
        of_visits(ALIKE + DYING),
    ),
    "a multiple of a sum, scaled, within, beside another": (
        gg.cov.RepeatedMeasures(gg.cov.Scaled(2.0 * WITHIN, SCALE), SUBJECT, VISIT)
        + gg.cov.Diagonal(0.1),
        SERIES,
        of_visits(2 * SCALE[:, None] * DYING * SCALE),
    ),
    "a multiple of the whole": (
        3.0 * gg.cov.RepeatedMeasures(WITHIN, SUBJECT, VISIT),
        INTERCEPT,
        of_visits(3 * ALIKE),
    ),
    "the structure of a summand": (
        gg.cov.RepeatedMeasures(WITHIN, SUBJECT, VISIT),
        gg.cov.RepeatedMeasures(INTERCEPT + SERIES, SUBJECT, VISIT),
        of_visits(ALIKE + DYING),
    ),
    "scaled": (
        gg.cov.Scaled(SUMS["intercept"][0] + SUMS["smooth"][0], OUTER),
        SUMS["smooth"][0],
        OUTER[:, None] * 1.5 * 0.8 ** np.abs(np.subtract.outer(TIME, TIME)) * OUTER,
    ),
    "strata": (
        gg.cov.RepeatedMeasures(
            gg.cov.AR1([0.7, 1.4], 0.5, size=3) + NOISE,
            SUBJECT,
            VISIT,
            stratum=(SUBJECT == 1).astype(int),
        ),
        NOISE,
        0.3 * np.eye(N),
    ),
    "one of the strata's": (
        gg.cov.RepeatedMeasures(
            (of_arms := gg.cov.AR1([0.7, 1.4], 0.5, size=3)) + NOISE,
            SUBJECT,
            VISIT,
            stratum=(SUBJECT == 1).astype(int),
        ),
        of_arms,
        by_stratum(DYING, 2 * DYING),
    ),
    "a block's": (
        gg.cov.BlockDiagonal(SERIES + NOISE, gg.cov.Dense(FACTOR), gg.cov.AR1(1.1, 0.2, size=1)),
        SERIES,
        block_diag(DYING, np.zeros((3, 3))),
    ),
    "of each block, in a multiple, beside noise": (
        2.0 * gg.cov.BlockDiagonal(SERIES + NOISE, SHORT + gg.cov.LowRank(np.ones((2, 1))), [[0.4]])
        + gg.cov.Diagonal(0.1),
        gg.cov.BlockDiagonal(SERIES, SHORT, [[0.4]]),
        block_diag(2 * DYING, 2 * FACTOR, 0.8),
    ),
    "a factor": (
        gg.cov.Kronecker(FACTOR, SERIES + NOISE) + gg.cov.Diagonal(0.2),
        SERIES,
        np.kron(FACTOR, DYING),
    ),
}


@pytest.mark.parametrize("name", SUMS)
def test_mean_variance_and_draws(name, rng):
    component, total = sum(SUMS[name][:-1]), sum(SUMS[name])
    check_moments(component, dense(component), total, rng.normal(size=N))


@pytest.mark.parametrize("name", INSIDE)
def test_sums_inside(name, rng):
    """Pickled copies say what is inside of them as what was pickled does: the graphs are equal."""
    total, component, of = INSIDE[name]
    noise, outputs = check_moments(component, of, total, y := rng.normal(size=N))
    again, component = cloudpickle.loads(cloudpickle.dumps((total, component)))
    noise_again, outputs_again = moments_and_draw(component, again, y)
    assert equal_computations(outputs, outputs_again, noise, noise_again)


def moments_and_draw(component, total, y):
    """White noise, and what is known of a component."""
    y = np.where(np.isin(TIME, [1, 4]), np.nan, y)
    with pm.Model() as model:
        gg.MvNormal("y", 2.0, total, observed=y + 2)
    likelihood = gaussian_likelihood("test", model)
    moments, drawn = (
        of_component("test", likelihood, component, None, None, None, diag)
        for diag in (True, False)
    )
    outputs = [moments.mean, moments.variances, drawn.mean, drawn.draw, drawn.contradictory]
    return drawn.noise, outputs


def check_moments(component, of, total, y):
    """A draw is an affine function of white noise: its mean and covariance are known exactly."""
    noise, outputs = moments_and_draw(component, total, y)
    function = interpreted(noise, outputs)
    zeros = [np.zeros(z.type.shape) for z in noise]
    y = np.where(np.isin(TIME, [1, 4]), np.nan, y)
    mean, covariance = given(y, of, dense(total))
    *found, differs = function(*zeros)
    for x, expected in zip(found, [mean, np.diag(covariance), mean, mean], strict=True):
        assert_allclose(x, expected, rtol=1e-7, atol=1e-8)
    assert not differs
    columns = []
    for i, z in enumerate(zeros):
        for j in range(z.size):
            unit = [*zeros[:i], np.eye(z.size)[j], *zeros[i + 1 :]]
            columns.append(function(*unit)[3] - found[3])
    assert_allclose(np.transpose(columns) @ columns, covariance, rtol=1e-7, atol=1e-7)
    return noise, outputs


# From a posterior


def posterior(**draws):
    return az.from_dict({"posterior": draws})


@pytest.fixture(scope="module")
def panel():
    """Rows that miss different entries, one all of them; a smooth part, and noise by entry."""
    rng = np.random.default_rng(3)
    y = rng.normal(size=(3, N))
    y[0, 1], y[1] = np.nan, np.nan
    coords = {"series": ["a", "b", "c"], "time": TIME}
    with pm.Model(coords=coords) as model:
        rho, mean = pm.Uniform("rho"), pm.Normal("mean")
        smooth = gg.cov.AR1(1.5, rho)
        gg.MvNormal("y", mean, smooth + gg.cov.Diagonal(0.4), observed=y, dims=("series", "time"))
    model.y, model.smooth, model.rho = y, smooth, rho
    return model


@pytest.fixture
def idata():
    return posterior(rho=np.array([[0.3, 0.9]]), mean=np.array([[1.0, -0.5]]))


def of_panel(panel, rho, mean, n=N):
    """Means and variances of the smooth part of each row, (3, n)."""
    smooth = 1.5 * rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    rows = np.concatenate([panel.y - mean, np.full((3, n - N), np.nan)], axis=1)
    found = [given(row, smooth, smooth + 0.4 * np.eye(n)) for row in rows]
    return np.stack([m for m, _ in found]), np.stack([np.diag(c) for _, c in found])


def test_at_the_entries_of_the_model(panel, idata):
    options = {**QUIET, "model": panel, "component": panel.smooth}
    assert gg.predict(idata, **options) is idata
    found = idata.predictions
    assert set(found.data_vars) == {"y_component", "y_component_mean"}
    assert found["y_component"].dims == ("chain", "draw", "series", "time")
    assert found["series"].values.tolist() == ["a", "b", "c"]
    assert np.isfinite(found["y_component"]).all()
    moments = gg.predict(idata, **options, diag=True, name="f", extend_inferencedata=False)
    assert set(moments.data_vars) == {"f_mean", "f_variance"}
    for i, (rho, mean) in enumerate([(0.3, 1.0), (0.9, -0.5)]):
        means, variances = of_panel(panel, rho, mean)
        assert_allclose(found["y_component_mean"][0, i], means, rtol=1e-9, atol=1e-12)
        assert_allclose(moments["f_mean"][0, i], means, rtol=1e-9, atol=1e-12)
        assert_allclose(moments["f_variance"][0, i], variances, rtol=1e-9)


def test_imputed(panel, idata):
    """What predict draws, in the group of imputed values; of a copy by its sum."""
    options = {**QUIET, "component": panel.smooth}
    expected = gg.predict(idata, **options, model=panel, extend_inferencedata=False)
    found = gg.impute(idata, panel, **options).posterior_predictive["y_imputed_component"]
    assert found.dims == ("chain", "draw", "series", "time")
    assert_allclose(found, expected["y_component"], rtol=1e-12)
    copy = pm.observe(pm.do(panel, {"mean": 1.0}), {})
    with pytest.raises(ValueError, match="is not known, expected"):
        gg.impute(idata, copy, **options)
    smooth = gg.cov.AR1(1.5, copy["rho"])
    cov = smooth + gg.cov.Diagonal(0.4)
    options["component"] = smooth
    again = gg.impute(idata, copy, cov=cov, **options).posterior_predictive["y_imputed_component"]
    assert_allclose(again[:, :, 1], found[:, :, 1], rtol=1e-9)  # of the row without data
    with pytest.raises(TypeError, match="found `cov` without `component`"):
        gg.impute(idata, panel, cov=cov, **QUIET)


def test_a_length_that_data_say(rng, idata):
    """Of a sum that has an algorithm for a known length only, and data that may be others."""
    y = rng.normal(size=N)
    with pm.Model() as model:
        series = gg.cov.AR1(1.5, pm.Uniform("rho"))
        cov = series + gg.cov.CompoundSymmetry(0.8, 0.3)
        gg.MvNormal("y", 0.0, cov, observed=pm.Data("data", np.zeros(N + 2)))
        pm.set_data({"data": y})
    found = gg.predict(idata, model=model, component=series, diag=True, **QUIET).predictions
    for i, rho in enumerate([0.3, 0.9]):
        smooth = 1.5 * rho ** np.abs(np.subtract.outer(TIME, TIME))
        mean, covariance = given(y, smooth, smooth + 0.24 + 0.56 * np.eye(N))
        assert_allclose(found["y_component_mean"][0, i], mean, rtol=1e-9)
        assert_allclose(found["y_component_variance"][0, i], np.diag(covariance), rtol=1e-9)


def test_at_new_entries(panel, idata):
    smooth = gg.cov.AR1(1.5, panel.rho)
    joint = {"mu": panel["mean"], "cov": smooth + gg.cov.Diagonal(0.4), "new": [N, N + 1]}
    options = {**QUIET, "model": panel, "component": smooth, **joint}
    found = gg.predict(idata, **options).predictions
    moments = gg.predict(idata, **options, diag=True, extend_inferencedata=False)
    assert found["y_new_component"].shape == (1, 2, 3, 2)
    for i, (rho, mean) in enumerate([(0.3, 1.0), (0.9, -0.5)]):
        means, variances = (x[:, N:] for x in of_panel(panel, rho, mean, N + 2))
        assert_allclose(found["y_new_component_mean"][0, i], means, rtol=1e-9, atol=1e-12)
        assert_allclose(moments["y_new_component_variance"][0, i], variances, rtol=1e-9)


def test_copies_and_other_likelihoods(panel, idata):
    """The sum is known to a model that was pickled; where it is not, it is given."""
    options = {**QUIET, "extend_inferencedata": False}
    expected = gg.predict(idata, component=panel.smooth, model=panel, **options)
    copy, smooth = cloudpickle.loads(cloudpickle.dumps((panel, panel.smooth)))
    found = gg.predict(idata, component=smooth, model=copy, **options)
    assert_allclose(found["y_component"], expected["y_component"])
    other = pm.observe(pm.do(panel, {"mean": 1.0}), {})
    with pytest.raises(ValueError, match="is not known, expected"):
        gg.predict(idata, component=panel.smooth, model=other, **options)
    with pm.Model():
        rho = pm.Uniform("rho")
        smooth = gg.cov.AR1(1.5, rho, size=N)
        cov = smooth + gg.cov.Diagonal(0.4)
        pm.MvNormal("y", 0.0, cov.to_dense(), observed=panel.y[2])
        found = gg.predict(idata, component=smooth, cov=cov, **options)
        with pytest.raises(ValueError, match="`cov` is not the covariance of the fitted model"):
            gg.predict(idata, component=smooth, cov=smooth + gg.cov.Diagonal(0.5), **options)
    centred = posterior(rho=idata.posterior["rho"].values, mean=np.zeros((1, 2)))
    expected = gg.predict(centred, component=panel.smooth, model=panel, **options)
    assert_allclose(found["y_component_mean"], expected["y_component_mean"][:, :, 2], rtol=1e-9)


def test_the_whole_sum_and_a_batch(rng):
    """All summands together are the data where there are any; a covariance for each row."""
    y = rng.normal(size=(2, N))
    y[:, 3] = np.nan
    with pm.Model():
        rho = pm.Uniform("rho", shape=2)
        smooth, noise = gg.cov.AR1(1.5, rho), gg.cov.Diagonal(0.4)
        gg.MvNormal("y", 0.0, smooth + noise, observed=y)
        idata = posterior(rho=np.array([[[0.3, 0.9]]]))
        options = {**QUIET, "extend_inferencedata": False}
        whole = gg.predict(idata, component=smooth + noise, **options)
        part = gg.predict(idata, component=smooth, diag=True, **options)
    seen = ~np.isnan(y)
    assert_allclose(whole["y_component"].values[0, 0][seen], y[seen], rtol=1e-9)
    for i, r in enumerate([0.3, 0.9]):
        of = 1.5 * r ** np.abs(np.subtract.outer(TIME, TIME))
        mean, covariance = given(y[i], of, of + 0.4 * np.eye(N))
        assert_allclose(part["y_component_mean"][0, 0, i], mean, rtol=1e-9)
        assert_allclose(part["y_component_variance"][0, 0, i], np.diag(covariance), rtol=1e-9)


def test_no_root():
    """A singular summand whose structure has no other root than that of a definite one."""
    with pm.Model():
        scale = pm.HalfNormal("scale")
        block = gg.cov.Dense(ONES * scale)
        visits = gg.cov.BlockDiagonal(block, block)
        matrix = visits.to_dense()
        gg.MvNormal("y", 0.0, visits + gg.cov.Diagonal(0.5), observed=np.arange(4.0))
        idata = posterior(scale=np.ones((1, 2)))
        with pytest.raises(ValueError, match=r"gg.cov.Dense\(summand.to_dense\(\)\)"):
            gg.predict(idata, component=visits, **QUIET)
        found = gg.predict(idata, component=visits, diag=True, **QUIET)
        means = found.predictions["y_component_mean"]
        dense_sum = gg.cov.Dense(matrix) + gg.cov.Diagonal(0.5)
        found = gg.predict(idata, component=dense_sum.summands[0], cov=dense_sum, **QUIET)
        assert_allclose(found.predictions["y_component_mean"], means, rtol=1e-9)


def test_which_is_meant():
    """Blocks of one part under two scales are two components; the scaled part is one of them."""
    part, noise = gg.cov.AR1(1.0, 0.5, size=N), gg.cov.Diagonal(0.3)
    one, other = gg.cov.Scaled(part, OUTER), gg.cov.Scaled(part, 2 * OUTER)
    total = gg.cov.Scaled(part + noise, OUTER) + gg.cov.Dense(SMOOTH)
    own, others = parted("test", one, total)
    assert_allclose(dense(own[0]), dense(one))
    assert_allclose(sum(map(dense, others)), dense(total) - dense(one))
    with pytest.raises(ValueError, match=r"several summands of \['gg.cov.AR1 in gg.cov.Scaled'"):
        parted("test", part, one + other)
    assert parted("test", other, one + other)[1] == [one]
    whole = total.summands[0]
    for twice in (part + whole, whole + part, whole + one):
        with pytest.raises(ValueError, match="of `component` is not among"):
            parted("test", twice, total)
    with pytest.raises(ValueError, match=r"AR1 in gg.cov.Scaled', 'gg.cov.Diagonal', 'gg"):
        parted("test", gg.cov.AR1(1.0, 0.4), total)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"component": gg.cov.AR1(1.5, 0.5)}, ValueError, r"not among the summands \['gg.cov.AR1'"),
        ({"component": np.eye(N)}, TypeError, "`component` is a ndarray"),
        ({"mu": 0.0}, TypeError, "or of these at most cov="),
        ({"cov_new": 1.0}, TypeError, "by its own cross_cov= and cov_new="),
        ({"cov": gg.cov.Diagonal(np.ones(N + 1))}, ValueError, "for new ones beside them"),
    ],
)
def test_errors(panel, idata, options, error, message):
    with pytest.raises(error, match=message):
        gg.predict(idata, **{"component": panel.smooth, "model": panel, **QUIET, **options})
