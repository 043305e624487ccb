"""What all functions of a fitted model have in common: the likelihood, empty rows, errors."""

import inspect

import arviz as az
import numpy as np
import pymc as pm
import pymc.dims as pmd
import pytensor.tensor as pt
import pytensor.xtensor as ptx
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from registry import interpreted

import pm_gaussgrad as gg

N = 4
QUIET = {"progressbar": False}
STRUCTURES = {
    "ar1": lambda v, n: gg.cov.AR1(v, 0.3, size=n),
    "dense": lambda v, n: gg.cov.Dense(v * 0.3 ** np.abs(np.subtract.outer(range(n), range(n)))),
    "diagonal": lambda v, n: gg.cov.Diagonal(v, size=n),
}


def posterior():
    return az.from_dict({"posterior": {"mean": np.array([[0.1, 0.2, -0.3]])}})


def model_of(y, name="ar1", distribution=gg.MvNormal, **options):
    with pm.Model() as model:
        mean = pm.Normal("mean")
        cov = STRUCTURES[name](2.0, N)
        if distribution is gg.MvStudentT:
            gg.MvStudentT("y", 4.0, mean, cov, observed=y, **options)
        else:
            distribution("y", mean, cov, observed=y, **options)
    return model


def predict_by_positions(idata, model, **options):
    cov = gg.cov.AR1(2.0, 0.3)
    return gg.predict(
        idata, mu=model["mean"], cov=cov, new=[N, N + 1], diag=True, model=model, **options
    )


def predict_by_blocks(idata, model, **options):
    cross = 0.3 ** (N - np.arange(N))[:, None]
    return gg.predict(idata, model["mean"], cross, [1.0], diag=True, model=model, **options)


def numbers(result):
    """All that a function returned or added, but what was there before."""
    if isinstance(result, xr.DataArray):
        return [result.to_numpy()]
    groups = [g for g in result.children if g not in ("posterior", "observed_data")]
    return [v.to_numpy() for g in groups for v in result[g].dataset.data_vars.values()]


WITH_GAPS = {
    "loo_log_likelihood": gg.loo_log_likelihood,
    "whitened_residuals": gg.whitened_residuals,
    "impute": lambda *args, **kwargs: gg.impute(*args, random_seed=1, **kwargs),
    "loo_predictive": lambda *args, **kwargs: gg.loo_predictive(*args, random_seed=1, **kwargs),
    "predict_by_positions": predict_by_positions,
    "predict_by_blocks": predict_by_blocks,
}
FUNCTIONS = {**WITH_GAPS, "lfo_log_likelihood": gg.lfo_log_likelihood}


def without_a_row(*rows):
    y = np.random.default_rng(0).normal(size=(4, N))
    y[1] = np.nan
    return y.reshape(*rows, N)


# Whole rows of the data missing


@pytest.mark.parametrize(
    ("function", "name"),
    [
        *((function, "ar1") for function in FUNCTIONS),
        ("loo_log_likelihood", "dense"),
        ("loo_log_likelihood", "diagonal"),
    ],
)
def test_rows_without_data(function, name):
    """The same numbers however the rows are laid out; what is left out are the other rows'."""
    flat, nested = (
        numbers(FUNCTIONS[function](posterior(), model_of(without_a_row(*r), name), **QUIET))
        for r in ((4,), (2, 2))
    )
    for a, b in zip(flat, nested, strict=True):
        assert a.size
        assert_allclose(np.ravel(b), np.ravel(a), rtol=1e-12)
    if function.endswith("log_likelihood"):
        others = model_of(np.delete(without_a_row(4), 1, axis=0), name)
        expected = FUNCTIONS[function](posterior(), others, **QUIET).log_likelihood["y"]
        assert_allclose(flat[0], expected.values.reshape(1, 3, -1), rtol=1e-12)


@pytest.mark.parametrize("function", [gg.loo_log_likelihood, gg.lfo_log_likelihood])
def test_student_rows_without_data(function):
    y = without_a_row(2, 2)
    found = function(posterior(), model_of(y, distribution=gg.MvStudentT), **QUIET)
    others = model_of(np.delete(without_a_row(4), 1, axis=0), distribution=gg.MvStudentT)
    expected = function(posterior(), others, **QUIET).log_likelihood["y"]
    found = found.log_likelihood["y"]
    assert found.dims == ("chain", "draw", "y_observed")
    assert_allclose(found, expected.values.reshape(1, 3, -1), rtol=1e-12)


@pytest.mark.parametrize("function", WITH_GAPS)
def test_rows_without_data_among_rows_with_gaps(function):
    y = without_a_row(4)
    y[2, 0], y[3, 1:3] = np.nan, np.nan
    flat, nested = (
        numbers(WITH_GAPS[function](posterior(), model_of(data), **QUIET))
        for data in (y, y.reshape(2, 2, N))
    )
    for a, b in zip(flat, nested, strict=True):
        assert_allclose(np.ravel(b), np.ravel(a), rtol=1e-12)


# Variables whose log density is scaled


@pytest.mark.parametrize(
    ("function", "distribution"),
    [*((function, gg.MvNormal) for function in FUNCTIONS), ("loo_log_likelihood", gg.MvStudentT)],
)
def test_total_size_does_not_matter(function, distribution):
    y = without_a_row(4)
    plain, scaled = (
        numbers(
            FUNCTIONS[function](posterior(), model_of(y, distribution=distribution, **o), **QUIET)
        )
        for o in ({}, {"total_size": 40})
    )
    for a, b in zip(plain, scaled, strict=True):
        assert_allclose(b, a, rtol=1e-12)


def test_total_size_of_a_fit_without_some_observations():
    """The log density of what is left keeps its factor."""
    y = np.random.default_rng(0).normal(size=N)
    lost = y.copy()
    lost[2] = np.nan
    model, expected = (model_of(data, total_size=40) for data in (y, lost))
    wrapper = gg.refit_wrapper(gg.loo_log_likelihood(posterior(), model, **QUIET), model)
    new, _ = wrapper.sel_observations(2)
    wrapper.leave_out(new)
    values = [interpreted(m.value_vars, m.logp())(0.4) for m in (wrapper.model, expected)]
    assert_allclose(*values, rtol=1e-10)


def test_total_size_of_a_picture():
    pytest.importorskip("matplotlib").use("agg")
    y = np.zeros((3, N))
    axes = [
        gg.plot_covariance(posterior(), model_of(y, **o), **QUIET) for o in ({}, {"total_size": 30})
    ]
    a, b = (ax.images[0].get_array() for ax in axes)
    assert_allclose(b, a)


# Fits without some observations: the log density is that of the model with them missing


@pytest.mark.parametrize(
    ("rows", "distribution"), [((), gg.MvNormal), ((2, 2), gg.MvNormal), ((2,), gg.MvStudentT)]
)
def test_log_density_without_some(rows, distribution):
    y = np.random.default_rng(0).normal(size=(*rows, N))
    if distribution is gg.MvNormal:
        y[(0,) * len(rows)][1] = np.nan
    model = model_of(y, "dense", distribution)
    idata = gg.loo_log_likelihood(posterior(), model, **QUIET)
    wrapper = gg.refit_wrapper(idata, model)
    logp = interpreted(wrapper.model.value_vars, wrapper.model.logp())
    held = idata.log_likelihood["y"]
    # The last is a whole row, but what is missing of it anyway.
    for left_out in ([0], list(range(N - 1))):
        new, excluded = wrapper.sel_observations(np.array(left_out))
        wrapper.leave_out(new)
        expected = model_of(np.where(new.missing, np.nan, y), "dense", distribution)
        value = interpreted(expected.value_vars, expected.logp())(0.4)
        assert_allclose(logp(0.4), value, rtol=1e-9)
        if len(left_out) == 1:
            terms = wrapper.log_likelihood__i(excluded, posterior())
            assert_allclose(np.ravel(terms), held.values.reshape(1, 3, -1)[0, :, 0], rtol=1e-9)
    if rows:
        index = {dim: held[dim].values[-1] for dim in held.dims[2:]}
        assert wrapper.sel_observations(index)[1].units == held[0, 0].size - 1


# Groups of the structure's own


def test_groups_of_subjects():
    subject, visit = ["b", "a", "b", "c", "a"], [0, 0, 1, 1, 1]
    y = np.random.default_rng(1).normal(size=5)
    y[3] = np.nan
    with pm.Model() as model:
        mean = pm.Normal("mean")
        within = gg.cov.CompoundSymmetry(2.0, 0.5, size=2)
        gg.MvNormal("y", mean, gg.cov.RepeatedMeasures(within, subject, visit), observed=y)
    by_structure, by_label = (
        gg.loo_log_likelihood(posterior(), model, group=g, **QUIET).log_likelihood["y"]
        for g in (True, subject)
    )
    assert by_structure.dims == ("chain", "draw", "subject")
    assert_allclose(by_structure, by_label)
    assert list(by_structure["subject"].values) == [0, 1]  # all of "c" is missing


def test_groups_of_blocks():
    y = np.random.default_rng(1).normal(size=5)
    with pm.Model() as model:
        mean = pm.Normal("mean")
        gg.MvNormal(
            "y", mean, gg.cov.BlockDiagonal(gg.cov.AR1(1.0, 0.2, size=3), np.eye(2)), observed=y
        )
    by_structure, by_label = (
        gg.loo_log_likelihood(posterior(), model, group=g, **QUIET).log_likelihood["y"]
        for g in (True, [0, 0, 0, 1, 1])
    )
    assert by_structure.dims == ("chain", "draw", "block")
    assert_allclose(by_structure, by_label)


def test_no_groups_of_the_structure():
    message = "`group` is True, expected labels for gg.cov.AR1"
    with pytest.raises(ValueError, match=message):
        gg.loo_log_likelihood(posterior(), model_of(np.zeros(N)), group=True, **QUIET)


# Errors

TAKE_DRAWS_AND_MODEL = [
    gg.loo,
    gg.loo_log_likelihood,
    gg.lfo_log_likelihood,
    gg.loo_predictive,
    gg.impute,
    gg.whitened_residuals,
    gg.plot_covariance,
    gg.refit_wrapper,
    gg.predict,
]


@pytest.mark.parametrize("function", TAKE_DRAWS_AND_MODEL, ids=lambda f: f.__name__)
def test_swapped_arguments(function):
    model = model_of(without_a_row(4))
    with pytest.raises(TypeError, match=f"gg.{function.__name__}: .* the draws come first, then"):
        function(model, posterior())
    for arguments in ((model,), (model, None)):  # without a model on the context stack
        with pytest.raises(TypeError, match=r"`idata` is a Model.*the draws come first, then"):
            function(*arguments)


def latent_model():
    with pm.Model() as model:
        f = gg.MvNormal("f", 0.0, gg.cov.AR1(1.0, 0.5, size=3))
        pm.Poisson("y", pm.math.exp(f), observed=[1, 2, 3])
    return model


@pytest.mark.parametrize("var_name", [None, "f"])
@pytest.mark.parametrize("function", TAKE_DRAWS_AND_MODEL, ids=lambda f: f.__name__)
def test_latent_variables(function, var_name):
    options = {"var_name": var_name, "model": latent_model()}
    if function is gg.predict:
        options |= {"mu": 0, "cov": gg.cov.AR1(1.0, 0.5, size=4), "new": [3]}
    with pytest.raises(ValueError, match=r"'f' is a latent variable.*`var_name`.*gg\.condition\(f"):
        function(posterior(), **options)


WITH_NAMES = {
    "mu": lambda x: gg.logp(np.ones(3), x, np.eye(3)),
    "cov": lambda x: gg.logp(np.ones(3), 0, _named_diagonal(x)),
    "chol": lambda x: gg.MvNormal.dist(0, chol=_named_diagonal(x)),
    "tau": lambda x: gg.MvNormal.dist(0, tau=_named_diagonal(x)),
    "nu": lambda x: gg.MvStudentT.dist(x.sum(), 0, np.eye(3)),
    "value": lambda x: gg.logp(x, 0, np.eye(3)),
    "parameter": lambda x: gg.cov.AR1(1.0, x.sum(), size=3).to_dense(),
    "entry": lambda x: gg.cov.Dense([[x.sum(), 0.0], [0.0, x.sum()]]).to_dense(),
    "factor": lambda x: gg.cov.Kronecker(np.eye(2), _named_diagonal(x)).to_dense(),
    "within": lambda x: gg.cov.RepeatedMeasures(_named_diagonal(x), [0, 0], [0, 1]).to_dense(),
    "scalar": lambda x: (gg.cov.AR1(1.0, 0.5, size=3) * x.sum()).to_dense(),
    "residual": lambda x: gg.cov.AR1(1.0, 0.5, size=3).solve(x),
    "condition": lambda x: gg.condition(x, 0, np.eye(3), 0, np.ones((3, 1)), np.eye(1))[0],
}


def _named_diagonal(x):
    return x * (ptx.as_xtensor(np.eye(3), dims=("k", "l")) if hasattr(x, "dims") else np.eye(3))


@pytest.mark.filterwarnings("ignore:`pymc.dims`")
@pytest.mark.parametrize("use", WITH_NAMES)
def test_variables_with_named_dimensions(use):
    """They are those without names, in the order of their dimensions."""
    values = pt.constant(np.array([0.1, 0.2, 0.3]))
    named, plain = (WITH_NAMES[use](x) for x in (ptx.as_xtensor(values, dims=("k",)), values))
    assert_allclose(pm.draw(named, random_seed=1), pm.draw(plain, random_seed=1), rtol=1e-12)


# Neither parameters nor means: data and indices, which are constant.
WITHOUT_NAMES = {
    "size": lambda x: gg.cov.AR1(1.0, 0.5, size=x),
    "observed": lambda x: gg.MvNormal("z", 0, np.eye(3), observed=x),
    "group": lambda x: gg.loo_log_likelihood(posterior(), model_of(np.zeros(N)), group=x),
    "new of predict": lambda x: gg.predict(
        posterior(), mu=0, cov=gg.cov.AR1(1.0, 0.3), new=x, model=model_of(np.zeros(N))
    ),
}


@pytest.mark.filterwarnings("ignore:`pymc.dims`")
@pytest.mark.parametrize("use", WITHOUT_NAMES)
def test_index_data_with_named_dimensions(use):
    with pm.Model(coords={"k": range(3)}):
        x = pmd.Normal("x", dims="k")
        with pytest.raises(TypeError, match=r"XTensor|list|object") as error:
            WITHOUT_NAMES[use](x)
    assert "of a variable of pymc.dims pass `.values`" in str(error.value)


OF_A_POSTERIOR = {
    *("condition", "impute", "lfo_log_likelihood", "loo", "loo_log_likelihood", "loo_predictive"),
    *("plot_covariance", "plot_residual_acf", "plot_residual_qq", "predict", "refit_wrapper"),
    *("loo_log_lik_fn", "whitened_residuals"),
}


@pytest.mark.parametrize("name", sorted(OF_A_POSTERIOR))
def test_every_argument_may_be_given_by_name(name):
    parameters = inspect.signature(getattr(gg, name)).parameters.values()
    assert not [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
