"""Variables integrated out of models: densities against dense integrals, declines, recovery."""

import arviz as az
import bambi as bmb
import cloudpickle
import linear_models
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from dense_integrals import dense_integral, some_point
from linear_models import GROUP, MODELS, OTHER, J, N, X, Y

import pm_gaussgrad as gg
from pm_gaussgrad.adopt.marginalize import covariance
from pm_gaussgrad.adopt.marginalize.linear import pieces
from pm_gaussgrad.adopt.marginalize.select import TOO_LARGE
from pm_gaussgrad.posterior.recover.attached import attached


def model_of(build, **coords):
    with pm.Model(coords=coords) as model:
        build()
    return model


def recovered(model, new, names, point):
    """Means and the covariance of what is recovered at a point, in the space of values."""
    outputs, noise = attached(new).expressions(new, moments=True)
    own = [outputs[name] for name in names]
    means = [outputs[f"{name}_mean"] for name in names]
    given = [*new.rvs_to_values.values()]
    free = [v for v in new.value_vars if v in given]
    whole = new.replace_rvs_by_values([*own, *means])
    for i, name in enumerate(2 * names):
        transform = model.rvs_to_transforms[model[name]]
        if transform is not None:
            whole[i] = transform.forward(whole[i])
    whole = [
        pt.concatenate([x.ravel() for x in part]) for part in (whole[: len(own)], whole[len(own) :])
    ]
    function = pytensor.function([*free, *noise], whole, on_unused_input="ignore")
    start = [point[v.name] for v in free]
    zeros = [np.zeros(z.type.shape) for z in noise]
    drawn, mean = function(*start, *zeros)
    np.testing.assert_allclose(drawn, mean, rtol=1e-8, atol=1e-10)
    columns = []
    for i, z in enumerate(zeros):
        for place in np.ndindex(*z.shape):
            unit = z.copy()
            unit[place] = 1.0
            columns.append(function(*start, *zeros[:i], unit, *zeros[i + 1 :])[0] - drawn)
    return mean, np.transpose(columns)


@pytest.mark.parametrize("build", MODELS, ids=lambda f: f.__name__)
def test_density_and_recovered_variables_are_those_of_the_dense_integral(build, rng):
    agrees_with_the_dense_integral(model_of(build), rng)


def agrees_with_the_dense_integral(model, rng):
    new = gg.marginalize(model)
    report = gg.marginalization_report(new)
    assert not report.declined, report
    point, names = some_point(new, rng), list(report.integrated)
    density = new.compile_fn(new.logp(vars=new.observed_RVs), inputs=new.value_vars)(point)
    expected, mean, precision = dense_integral(model, names, point)
    np.testing.assert_allclose(density, expected, rtol=1e-9)
    found, root = recovered(model, new, names, point)
    np.testing.assert_allclose(found, mean, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(root @ root.T @ precision, np.eye(mean.size), atol=1e-6)


def test_a_model_that_bambi_built(rng):
    """Effects of groups, not centred, under names that no variable would have."""
    table = pd.DataFrame({"y": Y, "x": X, "subject": [f"s{g}" for g in GROUP]})
    written = bmb.Model("y ~ x + (x|subject)", table)
    written.build()
    model = written.backend.model
    agrees_with_the_dense_integral(model, rng)
    assert "1|subject_offset" in gg.marginalization_report(gg.marginalize(model)).integrated
    with gg.accelerated():
        assert not gg.acceleration_report(gg.accelerate(model)).covariances


EFFECTS, FACTOR, DENSE = "gg.cov.Effects", "gg.cov.LowRank", "gg.cov.Dense"
PLANS = {
    "schools_centred": FACTOR,
    "radon": EFFECTS,
    "slopes_not_centred": EFFECTS,
    "slopes_centred": EFFECTS,
    "slopes_transposed": EFFECTS,
    "slopes_apart": EFFECTS,
    "crossed": EFFECTS,
    "nested": EFFECTS,
    "basis": FACTOR,
    "sparse_indicators": EFFECTS,
    "many_coefficients": DENSE,
    "process_rotated": DENSE,
    "walk": "gg.cov.Wiener",
    "walk_of_steps": "gg.cov.Wiener",
    "walks": "gg.cov.Wiener",
    "structured_latent": "gg.cov.AR1",
    "flat_mean_of_effects": "gg.cov.Linear",
}


@pytest.mark.parametrize("name", PLANS)
def test_structure_is_chosen_by_cost(name):
    build = next(f for f in MODELS if f.__name__ == name)
    report = gg.marginalization_report(gg.marginalize(model_of(build)))
    label = report.plans["y"].label
    assert PLANS[name] in label
    assert (DENSE in label) == (PLANS[name] == DENSE)
    assert not report.notes
    assert str(report.plans["y"]).splitlines()[0] in str(report)


def test_a_large_dense_matrix_is_noted():
    design = np.random.default_rng(1).normal(size=(201, 220))
    with pm.Model() as model:
        pm.Normal("y", design @ pm.Normal("b", shape=220), observed=np.zeros(201))
    [note] = gg.marginalization_report(gg.marginalize(model)).notes
    assert "'y' is evaluated by a dense matrix of 201 rows" in note


def test_matrices_that_are_too_large_are_not_formed(monkeypatch):
    limit = 15 * 9
    for module in (covariance, pieces):
        monkeypatch.setattr(module, "LARGEST", limit)
    for build in (linear_models.pairs, linear_models.many_coefficients):
        report = gg.marginalization_report(gg.marginalize(model_of(build)))
        assert len(report.declined) == (build is linear_models.many_coefficients)
        assert set(report.declined.values()) <= {TOO_LARGE}


def test_effects_of_one_grouping_are_together():
    report = gg.marginalization_report(gg.marginalize(model_of(linear_models.slopes_apart)))
    assert report.integrated == dict.fromkeys("ab", "effects of 9 groups, 2 coefficients each")


def shared():
    a = pm.Normal("a", shape=J)
    pm.Normal("y", a[GROUP], observed=Y)
    pm.Normal("x", 2 * a[GROUP], observed=X)


def shared_mean():
    mean = pm.Normal("mean")
    pm.Normal("y", pm.Normal("a", mean, shape=J)[GROUP], observed=Y)
    pm.Normal("x", pm.Normal("b", mean, shape=4)[OTHER], observed=X)


def exponential():
    a, b = pm.Normal("a", shape=J), pm.Normal("b")
    pm.Normal("y", pt.exp(a)[GROUP] + b, observed=Y)


def counts():
    pm.Poisson("y", pt.exp(pm.Normal("a", shape=J)[GROUP]), observed=np.ones(N, int))


def rows():
    pm.Normal("y", pm.Normal("a", shape=J), observed=np.zeros((2, J)))


def potential():
    a = pm.Normal("a", shape=J)
    pm.Potential("p", -(a.sum() ** 2))
    pm.Normal("y", a[GROUP], observed=Y)


def log_scale():
    a, s = pm.Normal("a", shape=J), pm.Normal("s")
    pm.Normal("y", a[GROUP], pt.exp(s), observed=Y)


def log_scale_of_effects():
    s = pm.Normal("s")
    pm.Normal("y", pm.Normal("a", 0, pt.exp(s), shape=J)[GROUP], observed=Y)


def product():
    a, s = pm.Normal("a", shape=J), pm.Normal("s")
    pm.Normal("y", s * a[GROUP], observed=Y)


def square():
    pm.Normal("y", pm.Normal("a", shape=J)[GROUP] ** 2, observed=Y)


def above_what_stays():
    a = pm.Normal("a", shape=J)
    pm.Normal("y", a[GROUP], pm.Gamma("s", pt.exp(a[0]), 1), observed=Y)


def ordered():
    a = pm.Normal("a", shape=J, transform=pm.distributions.transforms.ordered, initval=np.arange(J))
    pm.Normal("y", a[GROUP], observed=Y)


def data_used():
    a = pm.Normal("a", shape=J)
    pm.Deterministic("rest", pm.Normal("y", a[GROUP], observed=Y) - a[GROUP])


def no_data():
    pm.Normal("a", shape=J)


def not_entering():
    a = pm.Normal("a", shape=J)
    pm.Normal("y", a[GROUP] * 0 + pm.Normal("b"), observed=Y)


DECLINED = {
    shared: {"a": "it is shared by 'x' and 'y'"},
    shared_mean: {"mean": "it is shared by"},
    exponential: {"a": "enters through exp, which is not linear"},
    counts: {"a": "the likelihood 'y' is Poisson, not normal"},
    rows: {"a": "the likelihood 'y' has 2 dimensions, one is expected"},
    potential: {"a": "the potential 'p' depends on it"},
    log_scale: {"s": "the covariance of 'y' depends on it"},
    log_scale_of_effects: {"s": "the scale of 'a' depends on it"},
    product: {"s": "is multiplied by 'a', which is integrated out given it"},
    square: {"a": "enters through pow, which is not linear"},
    above_what_stays: {"a": "the prior of 's', which stays, depends on it"},
    ordered: {"a": "it has the transform 'ordered'"},
    data_used: {"a": "the observations of 'y' are used by 'rest'"},
    no_data: {"a": "no likelihood depends on it"},
    not_entering: {"a": "it does not enter 'y'"},
}


@pytest.mark.parametrize("build", DECLINED, ids=lambda f: f.__name__)
def test_what_cannot_be_integrated_out_stays_for_its_reason(build, rng):
    model = model_of(build)
    new = gg.marginalize(model)
    report = gg.marginalization_report(new)
    assert report.declined.keys() == DECLINED[build].keys()
    for name, reason in DECLINED[build].items():
        assert reason in report.declined[name]
        assert reason in str(report)
        if build is product:  # the other of both stays where this is asked for
            asked = gg.marginalization_report(gg.marginalize(model, [name]))
            assert set(asked.integrated) == {name}
            continue
        with pytest.raises(ValueError, match=f"\\n    {name}: "):
            gg.marginalize(model, [name])
    kept = {rv.name for rv in model.free_RVs} - set(report.integrated)
    assert kept == {rv.name for rv in new.free_RVs}
    if not report.integrated:
        assert "Nothing was integrated out." in str(report)
        point = some_point(model, rng)
        before, after = (m.compile_logp()(point) for m in (model, new))
        np.testing.assert_array_equal(before, after)


@pytest.fixture(scope="module")
def labelled():
    """A model with names of dimensions and labels, and the marginalised one."""
    schools = [f"school {i}" for i in range(J)]
    with pm.Model(coords={"school": schools, "row": np.arange(N) + 5}) as model:
        index = pm.Data("index", GROUP, dims="row")
        x = pm.Data("x", X, dims="row")
        tau, sigma = pm.HalfNormal("tau", initval=0.7), pm.HalfNormal("sigma")
        level = pm.Deterministic("level", tau * 2)
        effect = pm.Normal("effect", level, tau, dims="school")
        pm.Deterministic("exponential", pt.exp(effect), dims="school")
        pm.Normal("y", effect[index] + pm.Normal("slope") * x, sigma, observed=Y, dims="row")
    return model, gg.marginalize(model)


def test_the_rest_of_a_model_stays_as_it_is(labelled):
    model, new = labelled
    assert [rv.name for rv in new.free_RVs] == ["tau", "sigma"]
    assert [rv.name for rv in new.observed_RVs] == ["y"]
    assert [x.name for x in new.deterministics] == ["level"]
    assert {x.name for x in new.data_vars} == {"index", "x"}
    assert new.coords == model.coords
    assert new.named_vars_to_dims["y"] == ("row",)
    assert [new.rvs_to_transforms[rv].name for rv in new.free_RVs] == ["log", "log"]
    assert new.initial_point()["tau_log__"] == model.initial_point()["tau_log__"] == np.log(0.7)
    assert {"effect", "slope", "exponential"} <= set(model.named_vars)
    assert not {"effect", "slope", "exponential"} & set(new.named_vars)
    assert model["y"].owner.op is not new["y"].owner.op


def test_recovered_draws_have_names_dimensions_and_labels(labelled):
    model, new = labelled
    draws = {"tau": np.full((2, 3), 0.8), "sigma": np.full((2, 3), 0.5)}
    idata = az.from_dict({"posterior": draws})
    found = gg.recover(idata, new, progressbar=False, random_seed=2)
    assert found is idata
    posterior = idata["posterior"]
    assert posterior["effect"].dims == ("chain", "draw", "school")
    assert list(posterior["effect"]["school"].values) == list(model.coords["school"])
    assert posterior["slope"].dims == ("chain", "draw")
    np.testing.assert_allclose(posterior["exponential"], np.exp(posterior["effect"]))
    assert np.unique(posterior["slope"]).size == 6


def test_seeded_draws_are_repeated_and_may_be_kept_apart(labelled):
    _, new = labelled
    idata = az.from_dict({"posterior": {"tau": np.ones((1, 2)), "sigma": np.ones((1, 2))}})
    options = {"extend_inferencedata": False, "progressbar": False}
    found = [gg.recover(idata, new, random_seed=s, **options) for s in (1, 1, 2)]
    assert found[0].identical(found[1])
    assert not found[0].equals(found[2])
    assert "slope" not in idata["posterior"]
    assert "slope_mean" in gg.recover(idata, new, moments=True, **options)


def test_other_data_than_the_covariance_was_made_of_are_an_error(labelled):
    model, _ = labelled
    new = gg.marginalize(model)
    assert set(gg.marginalization_report(new).constants) == {"index", "x"}
    with new:
        pm.set_data({"index": GROUP[::-1]})
    with pytest.raises(ValueError, match="'index' is not what it was when the model was margin"):
        new.compile_logp()(new.initial_point())
    with new:
        pm.set_data({"index": GROUP[:3]}, coords={"row": np.arange(3)})
    with pytest.raises(ValueError, match="'index' is not what it was when the model was margin"):
        new.compile_logp()(new.initial_point())


def test_regressors_may_be_set_where_nothing_has_to_be_constant():
    model = model_of(linear_models.many_coefficients)
    new = gg.marginalize(model)
    assert not gg.marginalization_report(new).constants
    other = np.random.default_rng(1).normal(size=(N, 50))
    point = new.initial_point()
    for m in (model, new):
        with m:
            pm.set_data({"x": other})
    density = new.compile_fn(new.logp(vars=new.observed_RVs), inputs=new.value_vars)(point)
    np.testing.assert_allclose(density, dense_integral(model, ["beta"], point)[0], rtol=1e-9)


def test_only_what_is_asked_for_is_integrated_out():
    model = model_of(linear_models.radon)
    for variables in ("a", ["a"], [model["a"]]):
        new = gg.marginalize(model, variables)
        assert {rv.name for rv in new.free_RVs} == {"mu", "b", "tau", "sigma"}


def test_a_pickled_model_is_recovered(labelled):
    _, new = labelled
    copy = cloudpickle.loads(cloudpickle.dumps(new))
    idata = az.from_dict({"posterior": {"tau": np.ones((1, 1)), "sigma": np.ones((1, 1))}})
    options = {"extend_inferencedata": False, "progressbar": False, "random_seed": 1}
    found = [gg.recover(idata, m, **options) for m in (copy, new)]
    xr.testing.assert_allclose(*found, rtol=1e-10)


def test_errors_say_what_is_expected(labelled):
    model, new = labelled
    with pytest.raises(TypeError, match=r"gg\.marginalize: `model` is a dict"):
        gg.marginalize({})
    with pytest.raises(ValueError, match="`variables` holds 'level', expected names of free"):
        gg.marginalize(model, ["level"])
    with pytest.raises(ValueError, match="the model has no report"):
        gg.marginalization_report(model)
    with pytest.raises(ValueError, match=r"\n    tau: its prior is HalfNormal, not normal"):
        gg.marginalize(model, ["tau"])
    assert repr(gg.marginalization_report(new)) == str(gg.marginalization_report(new))


@pytest.mark.compiled
@pytest.mark.parametrize("backend", ["numba", "jax"])
def test_backends_have_the_density_of_the_integral(backend, rng):
    model = model_of(linear_models.radon_not_centred)
    new = gg.marginalize(model)
    point = some_point(new, rng)
    outputs = [new.logp(vars=new.observed_RVs), new.dlogp()]
    function = new.compile_fn(outputs, inputs=new.value_vars, mode=backend.upper(), point_fn=True)
    density, gradient = function(point)
    assert np.isfinite(gradient).all()
    names = gg.marginalization_report(new).integrated
    np.testing.assert_allclose(density, dense_integral(model, names, point)[0], rtol=1e-9)
    if backend == "numba":
        with new:
            pm.set_data({"index": GROUP[::-1]})
        with pytest.raises(ValueError, match="'index' is not what it was"):
            function(point)


def test_a_mean_of_another_length_than_the_data_is_an_error():
    with pm.Model() as model:
        index = pm.Data("index", GROUP)
        pm.Normal("y", pm.Normal("a", shape=J)[index], observed=Y)
        pm.set_data({"index": GROUP[:3]})
    with pytest.raises(ValueError, match=r"the mean of 'y' has shape \(3,\), expected \(14,\)"):
        gg.marginalize(model)
