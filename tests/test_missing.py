"""Missing values: integrated out for every structure, however they come."""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from reference_cases import assert_normwise, read_json, read_npz, require
from registry import BACKENDS, CASES, REPRESENTATIVES, each, interpreted
from scipy.linalg import toeplitz
from scipy.stats import multivariate_normal

import pm_gaussgrad as gg
from pm_gaussgrad.cov.protocol.marginal import Marginal
from pm_gaussgrad.likelihood.density import log_density_of_data

N = 5
NAN = np.nan
# Rows that miss the same entries, all but one, and different entries (one row all of them).
PATTERNS = {
    "common": [[0, 1, 1, 0, 1]] * 3,
    "all but one": [[1, 1, 1, 0, 1]] * 2,
    "by row": [[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]],
}


def _structure(case, values):
    """The structure with its index data and constants as such, and its free parameters."""
    tensors = case.tensors(n=N)
    free = case.differentiable(tensors)
    tensors = [t if t in free else pt.constant(v) for t, v in zip(tensors, values, strict=True)]
    return case.build(N, *tensors), free


def _through_dense(cov, free):
    """The dense matrix, and cotangents of the parameters from one of the matrix."""
    bar = pt.matrix("bar")
    dense = cov.to_dense()
    outputs = [dense, *pt.grad((bar * dense).sum(), free, disconnected_inputs="ignore")]
    return interpreted([bar, *free], outputs, on_unused_input="ignore")


def _dense_twin(dense, mean, y, weights):
    """Log densities of rows by their submatrices, and weighted cotangents of mean and matrix."""
    logp, mean_bar, bar = np.zeros(len(y)), np.zeros(N), np.zeros((N, N))
    for i, row in enumerate(y):
        o = np.flatnonzero(~np.isnan(row))
        if o.size:
            block = dense[np.ix_(o, o)]
            logp[i] = multivariate_normal(mean[o], block).logpdf(row[o])
            alpha = np.linalg.solve(block, row[o] - mean[o])
            mean_bar[o] += weights[i] * alpha
            bar[np.ix_(o, o)] += weights[i] * (np.outer(alpha, alpha) - np.linalg.inv(block)) / 2
    return logp, mean_bar, bar


# Submatrices are those of to_dense(), whatever the structure.
ON_EACH_WAY = each(
    CASES,
    ["solves", "submatrices"],
    name="way",
    unless=lambda case, way: way == "submatrices" and case.name not in REPRESENTATIVES,
)


@ON_EACH_WAY
def test_against_the_dense_submatrix(case, way, monkeypatch, rng):
    """Rows that differ by solves for what they miss, too, as those of many entries."""
    if way == "solves":
        monkeypatch.setattr(gg.cov.Covariance, "submatrices_up_to", 0)
    values = case.draw(rng, N)
    cov, free = _structure(case, values)
    mu, parameters = pt.vector("mu", shape=(N,)), case.differentiable(values)
    mean, through_dense = rng.normal(size=N), _through_dense(cov, free)
    dense = through_dense(np.zeros((N, N)), *parameters)[0]
    outputs, twins = [], []
    for missing in PATTERNS.values():
        missing = np.array(missing, bool)
        y = np.where(missing, NAN, rng.normal(size=missing.shape))
        weights = rng.uniform(0.5, 1.5, size=len(y))
        logp = log_density_of_data(cov.structure, pt.constant(y), mu, cov.parameters)
        slopes = pt.grad((weights * logp).sum(), [mu, *free], disconnected_inputs="ignore")
        outputs += [logp, *slopes]
        *expected, bar = _dense_twin(dense, mean, y, weights)
        twins += [*expected, *through_dense(bar, *parameters)[1:]]
    got = interpreted([mu, *free], outputs)(mean, *parameters)
    each_pattern = 2 + len(free)
    for i, (a, b) in enumerate(zip(got, twins, strict=True)):
        position = i % each_pattern - 2
        a, b = (case.project(position, x) for x in (a, b)) if position >= 0 else (a, b)
        if position == -2:
            assert_allclose(a, b, rtol=1e-10)
        else:
            assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max(initial=1e-3))


# Of these some observations have a structure as the whole has, at its cost.
CLOSED = {
    *("AR1", "BlockDiagonal", "ComponentSymmetry", "CompoundSymmetry", "Dense", "Diagonal"),
    *("LowRankPlusDiagonal", "LowRankPlusScalar", "RepeatedMeasures", "ScalarDiagonal"),
    *("SpacedAR1", "IrregularAR1", "RegularAR1", "NoisyAR1", "GroupedSymmetry", "StateSpace"),
    *(
        "Woodbury",
        "ScaledAR1",
        "SparsePrecision",
        "SparseMarginal",
        "SparseLatents",
        "MixedEffects",
    ),
}


def test_what_is_closed_under_gaps(rng):
    found = set()
    for case in CASES:
        cov, _ = _structure(case, case.values(rng, N))
        if not isinstance(gg.cov.marginal(cov, [0, 1, 3]), Marginal):
            found.add(case.name)
    assert found == CLOSED


def test_weekly_co2_with_gaps():
    """statsmodels' exact likelihood of a regression with AR(1) errors and missing weeks."""
    case = "sm_co2_weekly_missing_ar1"
    require(case)
    data, points = read_npz(case, "data.npz"), read_json(case)["points"]
    y, X = data["y"], data["X"]
    beta, phi, sigma2 = pt.vector("beta", shape=(4,)), pt.scalar("phi"), pt.scalar("sigma2")
    wrt, variance = [beta, phi, sigma2], sigma2 / (1 - phi**2)
    structures = [
        gg.cov.AR1(variance, phi),
        gg.cov.Toeplitz(variance * phi ** np.arange(len(y))),
        gg.cov.Dense(variance * phi ** toeplitz(np.arange(len(y)))),
    ]
    for cov in structures:
        logp = gg.logp(y, X @ beta, cov)
        function = interpreted(wrt, [logp, *pt.grad(logp, wrt)])
        for point in points:
            par = point["par"]
            value, *score = function(par[:4], par[4], par[5])
            assert_allclose(value, point["logp"], rtol=1e-10)
            assert_normwise(np.hstack(score), point["score_complex_step"], 1e-8)


VALUES = np.array([0.3, NAN, -1.2, 0.4, NAN])
DATES = pd.date_range("2020-01-01", periods=N)
KINDS = {
    "array": lambda: VALUES,
    "list": lambda: VALUES.tolist(),
    "masked": lambda: np.ma.masked_array([0.3, -99, -1.2, 0.4, 7], mask=np.isnan(VALUES)),
    "series": lambda: pd.Series(VALUES, index=DATES),
    "nullable": lambda: pd.Series([0.3, None, -1.2, 0.4, None], dtype="Float64"),
    "labelled": lambda: xr.DataArray(VALUES, dims="day"),
    "shared": lambda: pytensor.shared(VALUES),
}


def _model(observed):
    with pm.Model(coords={"day": DATES}) as model:
        sigma, rho = pm.HalfNormal("sigma"), pm.Uniform("rho")
        gg.MvNormal("y", 0.1, gg.cov.AR1(sigma**2, rho), observed=observed, dims="day")
    return model


def _expected_logp(y, sigma=1.0, rho=0.5):
    o = np.flatnonzero(~np.isnan(y))
    cov = sigma**2 * rho ** np.abs(np.subtract.outer(o, o))
    return multivariate_normal(np.full(o.size, 0.1), cov).logpdf(y[o])


class TestModels:
    """What PyMC makes of data with missing values."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_however_they_come(self, kind):
        model = _model(KINDS[kind]())
        assert [rv.name for rv in model.free_RVs] == ["sigma", "rho"]
        logp = model.compile_logp(vars=model.observed_RVs, sum=False)
        [value] = logp({"sigma_log__": 0.0, "rho_interval__": 0.0})
        assert_allclose(value, _expected_logp(VALUES), rtol=1e-12)

    def test_pm_data_that_comes_to_have_gaps(self):
        with pm.Model() as model:
            data = pm.Data("data", np.zeros(N))
            gg.MvNormal("y", 0.1, gg.cov.AR1(1.0, 0.5), observed=data)
        before = model.compile_logp()
        assert_allclose(before({}), _expected_logp(np.zeros(N)))
        with model:
            pm.set_data({"data": VALUES})
        with_gaps = model.compile_logp()
        assert_allclose(with_gaps({}), _expected_logp(VALUES))
        # A compiled density has its pattern; others are not silently read by it.
        assert np.isnan(before({}))
        with model:
            pm.set_data({"data": np.where(np.arange(N) == 1, 0.0, VALUES)})
        assert np.isnan(with_gaps({}))

    def test_frames_of_rows(self):
        rows = np.array([VALUES, VALUES[::-1], np.full(N, NAN)])
        with pm.Model() as model:
            gg.MvNormal("y", 0.1, gg.cov.AR1(1.0, 0.5), observed=pd.DataFrame(rows))
        [value] = model.compile_logp(sum=False)({})
        assert_allclose(value, [_expected_logp(VALUES), _expected_logp(VALUES[::-1]), 0])

    def test_after_sampling(self):
        model = _model(VALUES)
        with model:
            idata = pm.sample(
                tune=50, draws=20, chains=1, nuts_sampler="pymc", progressbar=False, random_seed=1
            )
            pm.compute_log_likelihood(idata, progressbar=False)
            pm.sample_posterior_predictive(
                idata, extend_inferencedata=True, progressbar=False, random_seed=1
            )
        assert_allclose(idata["observed_data"]["y"], VALUES)
        draw = idata["posterior"].isel(chain=0, draw=3)
        expected = _expected_logp(VALUES, float(draw["sigma"]), float(draw["rho"]))
        assert_allclose(idata["log_likelihood"]["y"].isel(chain=0, draw=3), expected)
        predicted = idata["posterior_predictive"]["y"]
        assert predicted.dims == ("chain", "draw", "day")
        assert np.isfinite(predicted).all()

    def test_nothing_observed(self):
        model = _model(np.full(N, NAN))
        [value] = model.compile_logp(vars=model.observed_RVs, sum=False)(model.initial_point())
        assert value == 0

    def test_rejected_points(self):
        """-inf, with a finite gradient, as without gaps."""
        with pm.Model() as model:
            rho = pm.Flat("rho")
            gg.MvNormal("y", 0.0, gg.cov.AR1(1.0, rho), observed=VALUES)
        value, gradient = model.logp_dlogp_function(ravel_inputs=True)(np.array([1.5]))
        assert value == -np.inf
        assert_allclose(gradient, 0)


@pytest.mark.parametrize("backend", ["numba", "jax"])
def test_backends(backend, rng):
    """Rows that miss different entries; a batch of covariances where it is quick to compile."""
    variance = [1.0, 2.0] if backend == "jax" else 1.0
    rho, mu = pt.scalar("rho"), pt.vector("mu", shape=(N,))
    logp = gg.logp(np.array([VALUES, VALUES[::-1]]), mu, gg.cov.AR1(variance, rho))
    outputs = [logp, *pt.grad(logp.sum(), [rho, mu])]
    arguments = [0.3, rng.normal(size=N)]
    got, expected = (
        pytensor.function([rho, mu], outputs, mode=BACKENDS[name])(*arguments)
        for name in (backend, "py")
    )
    for a, b in zip(got, expected, strict=True):
        assert_allclose(a, b, rtol=1e-10)


def test_batches(rng):
    """A common pattern, with as many covariances as rows or fewer dimensions of data."""
    rho = pt.vector("rho", shape=(2,))
    cov = gg.cov.AR1(1.0, rho)
    together = [gg.logp(y, 0.1, cov) for y in (VALUES, np.array([VALUES] * 2))]
    function = interpreted([rho], [*together, pt.grad(sum(x.sum() for x in together), rho)])
    *got, gradient = function([0.3, -0.6])
    for i, r in enumerate((0.3, -0.6)):
        expected = _expected_logp(VALUES, rho=r)
        assert_allclose([x[i] for x in got], expected)
        ahead, behind = (_expected_logp(VALUES, rho=r + h) for h in (1e-5, -1e-5))
        assert_allclose(gradient[i], 2 * (ahead - behind) / 2e-5, rtol=1e-7)


@pytest.mark.parametrize("y", [VALUES, np.array([VALUES, VALUES[::-1]])], ids=["common", "by row"])
def test_second_derivatives(y):
    """The dense formula of the observed entries, differentiated twice."""
    rho = pt.scalar("rho")
    dense = rho ** toeplitz(np.arange(N))
    twin = 0
    for row in np.atleast_2d(y):
        o = np.flatnonzero(~np.isnan(row))
        twin += gg.logp(row[o], 0.1, dense[o[:, None], o])
    logp = gg.logp(y, 0.1, gg.cov.AR1(1.0, rho)).sum()
    second = [pt.grad(pt.grad(f, rho), rho) for f in (logp, twin)]
    got, expected = interpreted([rho], second)(0.4)
    assert_allclose(got, expected, rtol=1e-8)


def test_rebuilt_where_only_positions_say_the_size():
    whole = gg.cov.AR1(1.0, 0.5, size=pt.lscalar("n"))
    cov = Marginal.of(whole, pt.constant([0, 2]), pt.constant([1]))
    again = cov.structure.from_parameters(*cov.parameters)
    assert_allclose(interpreted([], again.to_dense())(), [[1, 0.25], [0.25, 1]])


def test_rows_without_weight_have_no_gradient():
    y, mu = np.array([VALUES, VALUES[::-1]]), pt.dmatrix("mu")
    logp = gg.logp(y, mu, gg.cov.AR1(1.0, 0.5))
    gradient = interpreted([mu], pt.grad((logp * np.array([1.0, 0.0])).sum(), mu))(
        np.zeros(y.shape)
    )
    assert gradient[0].any()
    assert not gradient[1].any()


def test_sizes_that_disagree():
    """Not a submatrix of a covariance for other observations."""
    with pm.Model() as model:
        mean = pm.Data("mean", np.zeros(N))
        with pytest.raises(ValueError, match="is for 5 observations, expected 4"):
            gg.MvNormal("x", mean, gg.cov.AR1(1.0, 0.5, size=4), observed=VALUES)
        data = pytensor.shared(VALUES)
        with pytest.raises(ValueError, match="is for 5 observations, expected 4"):
            gg.MvNormal("x", mean, np.eye(4), observed=data)
        data.set_value(VALUES[:4])
        gg.MvNormal("y", mean, np.eye(4), observed=data)
        data.set_value(VALUES)
    with pytest.raises(ValueError, match=r"5 entries.* the covariance is for 4"):
        model.compile_logp()
    with pytest.raises(ValueError, match=r"5 entries.* the mean is for 4"):
        gg.logp(VALUES, np.zeros(4), gg.cov.AR1(1.0, 0.5))


def test_masked_values_of_the_density():
    masked = np.ma.masked_array([0.3, -99, -1.2, 0.4, 7], mask=np.isnan(VALUES))
    logp = gg.logp(masked, 0.1, gg.cov.AR1(1.0, 0.5))
    assert_allclose(logp.eval(mode="FAST_COMPILE"), _expected_logp(VALUES))
    with pytest.raises(ValueError, match=r"gg\.logp: `mu` has masked entries"):
        gg.logp(VALUES, masked, gg.cov.AR1(1.0, 0.5))


def test_rows_with_everything_or_nothing():
    rows = np.array([np.arange(N), np.full(N, NAN)])
    logp = gg.logp(rows, 0.1, gg.cov.AR1(1.0, 0.5))
    assert_allclose(logp.eval(mode="FAST_COMPILE"), [_expected_logp(rows[0]), 0])


ROWS = np.array([VALUES, VALUES[::-1], np.full(N, NAN), np.arange(N)])
HIDDEN = np.ma.masked_array(np.nan_to_num(ROWS, nan=-99.0), mask=np.isnan(ROWS))
COV = gg.cov.AR1(1.0, 0.5, size=N)


def _masked_constant(data=HIDDEN):
    """What PyMC makes of a masked array where it does not look for masks."""
    return pt.tensor(shape=(None,) * data.ndim).type.filter_variable(data)


def _observed(build, data):
    with pm.Model() as model:
        build(data)
    return model


def _observe_later(build, data):
    with pm.Model() as model:
        build(None)
    return pm.observe(model, {"y": data})


LIKELIHOODS = {
    "normal": lambda **kw: gg.MvNormal("y", 0.1, COV, **kw),
    "student": lambda **kw: gg.MvStudentT("y", 4.0, 0.1, COV, **kw),
    "mixture": lambda **kw: pm.Mixture(
        "y", [0.3, 0.7], [gg.MvNormal.dist(m, COV) for m in (0.1, 2.0)], **kw
    ),
    "mixture of a batch": lambda **kw: pm.Mixture(
        "y", [0.3, 0.7], gg.MvNormal.dist([[0.1] * N, [2.0] * N], COV), **kw
    ),
    "custom": lambda **kw: pm.CustomDist(
        "y",
        np.full(N, 0.1),
        dist=lambda mu, size: gg.MvNormal.dist(mu, COV, size=size),
        signature="(n)->(n)",
        **kw,
    ),
}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_masks_are_read_on_every_way_in(likelihood):
    """As constants, observed now or later: the same density as with NaN, and that of the parts."""

    def build(data):
        kwargs = {"shape": HIDDEN.shape} if data is None else {"observed": data}
        return LIKELIHOODS[likelihood](**kwargs)

    ways = [
        _observed(build, pt.constant(ROWS)),
        _observed(build, _masked_constant()),
        _observe_later(build, ROWS),
        _observe_later(build, HIDDEN),
    ]
    got = []
    for model in ways:
        assert model.free_RVs == []
        got += model.logp(sum=False)
    got = interpreted([], got)()
    if likelihood in ("normal", "custom"):
        expected = [_expected_logp(VALUES), _expected_logp(VALUES[::-1]), 0]
        assert_allclose(got[0][:3], expected, rtol=1e-12)
    assert np.isfinite(got[0]).all()
    for other in got[1:]:
        assert_allclose(other, got[0], rtol=1e-14)


def test_masks_after_sampling():
    """What comes later reads the same data."""
    found = []
    for data in (HIDDEN, ROWS):
        model = _observe_later(
            lambda _: gg.MvNormal("y", pm.Normal("mu"), COV, shape=HIDDEN.shape), data
        )
        posterior = xr.Dataset({"mu": (("chain", "draw"), [[0.1, -0.4]])})
        idata = xr.DataTree.from_dict({"posterior": posterior})
        gg.loo_log_likelihood(idata, model, progressbar=False)
        found.append(idata["log_likelihood"]["y"])
    assert found[0].sizes["y_observed"] == (~HIDDEN.mask).sum()
    assert_allclose(*found, rtol=1e-14)


def test_masked_constants():
    """In densities as data; anywhere else they are refused."""
    constant = _masked_constant()
    for density in (gg.logp, lambda y, *args: gg.student_t_logp(y, 4.0, *args)):
        got, expected = (density(y, 0.1, COV).eval(mode="FAST_COMPILE") for y in (constant, ROWS))
        assert_allclose(got, expected, rtol=1e-14)
    dist = gg.MvNormal.dist(0.1, COV, shape=ROWS.shape)
    assert_allclose(
        pm.logp(dist, constant).eval(mode="FAST_COMPILE"),
        pm.logp(dist, pt.constant(ROWS)).eval(mode="FAST_COMPILE"),
    )
    with pytest.raises(ValueError, match=r"gg\.logp: `mu` has masked entries"):
        gg.logp(ROWS, constant, COV)
    with pytest.raises(ValueError, match=r"AR1: `variance` has masked entries"):
        gg.cov.AR1(_masked_constant(np.ma.masked_array([1.0, 2.0], mask=[0, 1])), 0.5)
    # A parent that was observed, or set, with gaps.
    with pm.Model() as model:
        parent = pm.Normal("parent", shape=N)
        gg.MvNormal("y", parent, COV, observed=np.ones(N))
    masked = HIDDEN[0]
    observed = pm.observe(model, {"parent": masked})
    done = pm.do(model, {"parent": masked}, make_interventions_shared=False)
    for with_gaps in (observed, done):
        with pytest.raises(ValueError, match=r"AR1: the mean.* has masked entries"):
            with_gaps.logp(vars=[with_gaps["y"]])


def test_nothing_observed_under_a_batch(rng):
    """The shape that a value with data has."""
    variances, mus = rng.uniform(1, 2, size=(2, N)), rng.normal(size=(2, N))
    batches = [
        lambda y: gg.logp(y, 0.1, gg.cov.Diagonal(variances)),
        lambda y: gg.logp(y, mus, COV),
        lambda y: gg.student_t_logp(y, [3.0, 4.0], 0.1, COV),
        lambda y: gg.logp(y, 0.1, COV),
    ]
    nothing, rows = np.full(N, NAN), np.full((4, 1, N), NAN)
    got = interpreted([], [f(y) for f in batches for y in (nothing, rows)])()
    assert [x.shape for x in got] == [*[(2,), (4, 2)] * 3, (), (4, 1)]
    for x in got:
        assert_allclose(x, 0)
