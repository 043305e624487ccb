"""Models of PyMC beside the same models accelerated: log density, gradient, structure, report.

Thirty random matrices run with the suite. For thousands of others:

    RANDOM_CASES=1000 RANDOM_START=100 pytest -n 4 tests/test_accelerate.py -k random
"""

import os

import cloudpickle
import numpy as np
import pymc as pm
import pymc.dims as pmd
import pytensor
import pytensor.tensor as pt
import pytensor.xtensor as ptx
import pytest
from numpy.testing import assert_allclose
from pymc.exceptions import ImputationWarning
from pytensor.graph.traversal import ancestors
from random_matrices import Written, random_matrix
from registry import INTERPRETED

import pm_gaussgrad as gg

START, COUNT = (
    int(os.environ.get(name, d)) for name, d in (("RANDOM_START", 0), ("RANDOM_CASES", 30))
)
RNG = np.random.default_rng(20261128)
X = np.linspace(0, 1, 8)[:, None]
ROWS = RNG.normal(size=(12, 3))
NEIGHBOURS = np.eye(6, k=1) + np.eye(6, k=-1)


def lkj(n=3):
    return pm.LKJCholeskyCov("chol", n=n, eta=2, sd_dist=pm.Exponential.dist(1.0))[0]


def regression():
    covariates = RNG.normal(size=(12, 2))
    beta = pm.Normal("beta", shape=(2, 3))
    pm.MvNormal("y", covariates @ beta, chol=lkj(), observed=ROWS)


def random_slopes():
    u = pm.MvNormal("u", np.zeros(2), chol=lkj(2), shape=(4, 2))
    group, x = np.repeat(np.arange(4), 3), RNG.normal(size=12)
    pm.Normal("y", u[group, 0] + u[group, 1] * x, 1, observed=ROWS[:, 0])


def cov_func():
    return pm.HalfNormal("eta") ** 2 * pm.gp.cov.Matern32(1, pm.HalfNormal("ell"))


def marginal_process():
    process = pm.gp.Marginal(cov_func=cov_func())
    process.marginal_likelihood("y", X=X, y=RNG.normal(size=8), sigma=pm.HalfNormal("s"))


def latent_process():
    f = pm.gp.Latent(cov_func=cov_func()).prior("f", X=X, reparameterize=False)
    pm.Poisson("y", pm.math.exp(f), observed=RNG.poisson(1, 8))


def student_process():
    f = pm.gp.TP(scale_func=cov_func(), nu=4.0).prior("f", X=X, reparameterize=False)
    pm.Normal("y", f, 1, observed=RNG.normal(size=8))


def process_on_a_grid():
    kernels = [pm.gp.cov.ExpQuad(1, pm.HalfNormal(f"ell{i}")) for i in range(2)]
    process = pm.gp.MarginalKron(cov_funcs=kernels)
    noise = pm.HalfNormal("s")
    process.marginal_likelihood("y", Xs=[X[:4], X[:3]], y=RNG.normal(size=12), sigma=noise)


def areas():
    f = pm.CAR("f", np.zeros(6), NEIGHBOURS, pm.Uniform("alpha", 0, 1), pm.HalfNormal("tau"))
    pm.Poisson("y", pm.math.exp(f), observed=RNG.poisson(1, 6))


def precision():
    Q = 2 * pt.eye(3) + pm.HalfNormal("q") * np.ones((3, 3))
    pm.MvNormal("y", 0, tau=Q, observed=ROWS)


def spherical():
    pm.MvNormal("y", pm.Normal("m"), cov=pm.HalfNormal("s") ** 2 * np.eye(3), observed=ROWS)


def factors():
    loadings, d = pm.Normal("loadings", shape=(8, 2)), pm.HalfNormal("d", shape=8)
    cov = loadings @ loadings.T + pt.diag(d**2)
    pm.MvNormal("y", np.zeros(8), cov=cov, observed=RNG.normal(size=(3, 8)))


def outliers():
    s = pm.HalfNormal("s", shape=3)
    scale = s[:, None] * (np.eye(3) + 0.5) * s[None, :]
    pm.MvStudentT("y", nu=pm.Gamma("nu", 2, 0.5), mu=np.zeros(3), scale=scale, observed=ROWS)


# The model, the variable of interest, and the structure that is proved of it.
MODELS = {
    "regression": (regression, "y", "Cholesky"),
    "random slopes": (random_slopes, "u", "Cholesky"),
    "Marginal": (marginal_process, "y", "Dense"),
    "Latent": (latent_process, "f", "Dense"),
    "TP": (student_process, "f", "Dense"),
    "MarginalKron": (process_on_a_grid, "y", "NoisyKronecker"),
    "CAR": (areas, "f", "CAR"),
    "precision": (precision, "y", "Precision"),
    "spherical": (spherical, "y", "ScalarDiagonal"),
    "factors": (factors, "y", "LowRankPlusDiagonal"),
    "MvStudentT": (outliers, "y", "Scaled"),
}


def built(make):
    with pm.Model() as model:
        make()
    return model


def shifted(model):
    """A point that nothing is special about, of free parameters on their own scales."""
    rng = np.random.default_rng(5)
    return {
        name: value + 0.2 * rng.normal(size=np.shape(value))
        for name, value in model.initial_point().items()
    }


def evaluated(model, point):
    return model.compile_fn([model.logp(), model.dlogp()], mode=INTERPRETED)(point)


def kinds_in(graph):
    """Names of the structures of ours that a graph has."""
    ops = [x.owner.op for x in ancestors([graph]) if x.owner is not None]
    return {op.structure.kind.__name__ for op in ops if hasattr(op, "structure")}


@pytest.mark.parametrize("name", MODELS)
def test_same_log_density_and_gradient(name):
    make, variable, structure = MODELS[name]
    model = built(make)
    new = gg.accelerate(model)
    assert [x.name for x in new.free_RVs] == [x.name for x in model.free_RVs]
    assert kinds_in(new.logp()) == {structure}
    report = gg.acceleration_report(new)
    assert list(report.covariances) == [variable]
    assert not report.declined
    assert f"'{variable}' is now a" in str(report)
    point = shifted(model)
    expected = evaluated(model, point)
    with gg.accelerated():
        assert kinds_in(model.logp()) == {structure}
        within = evaluated(model, point)
    assert not kinds_in(model.logp())
    for found in (evaluated(new, point), within):
        assert_allclose(found[0], expected[0], rtol=1e-9)
        assert_allclose(found[1], expected[1], rtol=1e-8, atol=1e-9)


def test_again_changes_nothing():
    once = gg.accelerate(built(regression))
    twice = gg.accelerate(once)
    report = gg.acceleration_report(twice)
    assert not report.covariances
    assert not report.declined
    assert str(report) == "Nothing is evaluated differently."
    point = shifted(once)
    for a, b in zip(evaluated(once, point), evaluated(twice, point), strict=True):
        assert_allclose(a, b, rtol=0)


def test_a_model_without_normal_vectors_is_unchanged():
    with pm.Model() as model:
        pm.Normal("y", pm.Normal("m"), 1.0, observed=ROWS)
    new = gg.accelerate(model)
    assert str(gg.acceleration_report(new)) == "Nothing is evaluated differently."
    point = shifted(model)
    assert_allclose(evaluated(new, point)[0], evaluated(model, point)[0], rtol=0)


@pytest.mark.filterwarnings("ignore:Initial distribution not specified")
def test_what_stays_says_why():
    with pm.Model(coords={"a": range(3)}) as model:
        pm.MatrixNormal("m", np.zeros((2, 3)), rowcov=np.eye(2), colcov=np.eye(3))
        pm.MvGaussianRandomWalk("w", mu=np.zeros(2), chol=np.eye(2), steps=3)
        weights = pm.Data("weights", NEIGHBOURS)
        pm.CAR("f", np.zeros(6), weights, 0.5, 1.0)
    declined = gg.acceleration_report(gg.accelerate(model)).declined
    assert set(declined) == {"m", "w", "f"}
    assert "two dimensions" in declined["m"]
    assert "RandomWalkRV; sample the model as it is within" in declined["w"]
    assert "not constant" in declined["f"]


def test_constant_of_car():
    """Left out as PyMC does, or added; its absence is said."""
    model = built(areas)
    kept, whole = gg.accelerate(model), gg.accelerate(model, normalize=True)
    assert "left out" in str(gg.acceleration_report(kept))
    assert "is added" in str(gg.acceleration_report(whole))
    constant = (np.log(NEIGHBOURS.sum(axis=1)).sum() - 6 * np.log(2 * np.pi)) / 2
    point = shifted(model)
    difference = evaluated(whole, point)[0] - evaluated(kept, point)[0]
    assert_allclose(difference, constant, rtol=1e-10)


def test_outside_of_the_domain_of_car():
    """PyMC ends it at -1, where the field of two neighbours would go on."""
    with pm.Model() as model:
        pm.CAR("f", np.zeros(3), np.ones((3, 3)) - np.eye(3), pm.Flat("alpha"), 1.0)
    point = {"f": np.ones(3), "alpha": np.array(-1.5)}
    new = gg.accelerate(model)
    assert new.compile_logp(mode=INTERPRETED)(point) == -np.inf


def test_after_sampling():
    """Draws, leave-one-out and components see the structure."""
    with pm.Model(coords={"j": range(8)}) as model:
        s = pm.HalfNormal("s")
        low = pm.Normal("low", shape=(8, 2))
        pm.MvNormal("y", 0, low @ low.T + s**2 * pt.eye(8), observed=RNG.normal(size=8), dims="j")
    new = gg.accelerate(model)
    assert new.named_vars_to_dims["y"] == ("j",)
    with new:
        idata = pm.sample_prior_predictive(5, random_seed=1)
    assert idata.prior_predictive["y"].shape == (1, 5, 8)
    posterior = idata.copy()
    posterior["posterior"] = idata.prior
    found = gg.loo_log_likelihood(posterior, model=new)
    expected = gg.loo_log_likelihood(posterior, model=model)
    assert_allclose(found.log_likelihood["y"], expected.log_likelihood["y"], rtol=1e-8)
    component = gg.acceleration_report(new).covariances["y"].summands[0]
    predicted = gg.predict(posterior, model=new, component=component, progressbar=False)
    assert predicted["predictions"].sizes["j"] == 8


def test_new_data_and_pickles():
    with pm.Model() as model:
        x = pm.Data("x", RNG.normal(size=(12, 2)))
        y = pm.Data("y_data", ROWS)
        beta = pm.Normal("beta", shape=(2, 3))
        pm.MvNormal("y", x @ beta, chol=lkj(), observed=y)
    new, point = gg.accelerate(model), shifted(model)
    for each in (model, new):
        with each:
            pm.set_data({"x": RNG.normal(size=(5, 2)) * 0 + 1, "y_data": ROWS[:5]})
    loaded = cloudpickle.loads(cloudpickle.dumps(new))
    for each in (new, loaded):
        assert_allclose(evaluated(each, point)[0], evaluated(model, point)[0], rtol=1e-10)


@pytest.mark.filterwarnings("ignore:`pymc.dims`")
def test_named_dimensions():
    """Likelihoods of pymc.dims within the context; its variables as parameters and means."""
    y = RNG.normal(size=4)
    with pm.Model(coords={"a": range(4), "b": range(4)}) as model:
        s, m = pmd.HalfNormal("s"), pmd.Normal("m", dims="a")
        cov = s * ptx.as_xtensor(np.eye(4) + 0.3, dims=("a", "b"))
        observed = ptx.as_xtensor(y, dims=("a",))
        pmd.MvNormal("y", mu=m, cov=cov, core_dims=("a", "b"), observed=observed)
    with pm.Model(coords={"a": range(4)}) as ours:
        s, m = pmd.HalfNormal("s"), pmd.Normal("m", dims="a")
        gg.MvNormal("y", m, gg.cov.Dense(np.eye(4) + 0.3) * s, observed=y, dims="a")
    assert "gg.accelerated()" in gg.acceleration_report(gg.accelerate(model)).declined["y"]
    point = shifted(model)
    expected = evaluated(model, point)
    with gg.accelerated():
        assert kinds_in(model.logp()) == {"Dense"}
        found = evaluated(model, point)
    for each in (found, evaluated(ours, point)):
        assert_allclose(each[0], expected[0], rtol=1e-10)
        assert_allclose(each[1], expected[1], rtol=1e-9)


def test_everywhere_and_not():
    model = built(spherical)
    gg.accelerated.on()
    try:
        assert kinds_in(model.logp())
        with gg.accelerated(False):
            assert not kinds_in(model.logp())
    finally:
        gg.accelerated.off()
    assert not kinds_in(model.logp())


def test_no_report_without_acceleration():
    with pytest.raises(ValueError, match=r"the one that gg\.accelerate returned"):
        gg.acceleration_report(built(spherical))
    with pytest.raises(TypeError, match=r"expected a pymc\.Model"):
        gg.accelerate(3)


def both(cov, w, value, within):
    """Log density and gradients at the point by PyMC, and by what is proved of the matrix.

    That is of the graph as it was written, or ``within`` the context, of one that was rewritten.
    """
    used = set(ancestors([cov]))
    point = {x.name: at for x, at in zip(w.parameters, w.point, strict=True) if x in used}
    with pm.Model() as model:
        for name, at in point.items():
            if (at > 0).all():
                pm.HalfFlat(name, shape=at.shape, default_transform=None)
            else:
                pm.Flat(name, shape=at.shape)
        replaced = {x: model[x.name] for x in w.parameters if x in used}
        cov = pytensor.graph.replace.graph_replace([cov], replaced, strict=False)[0]
        pm.MvNormal("y", np.zeros(value.shape[-1]), cov=cov, observed=value)
    new = gg.accelerate(model)
    expected, report = evaluated(model, point), gg.acceleration_report(new)
    with gg.accelerated(within):
        return expected, evaluated(model if within else new, point), report


def structures(cov):
    """What is proved of a matrix as it is written, and as PyMC rewrites it."""
    with pm.Model() as model:
        pm.MvNormal("y", 0, cov=cov, observed=np.zeros(cov.type.shape[-1]))
    with gg.accelerated():
        return kinds_in(gg.accelerate(model).logp()), kinds_in(model.logp())


def test_numbers_are_in_all_entries():
    """What is repeated over a matrix is no diagonal, though of shape (1, 1) it looks like one."""
    d = pt.diag(pt.dvector(shape=(4,)))
    blocks = pt.linalg.kron(pt.dscalar() * pt.eye(2), np.eye(2) + 0.5)
    low_rank = pt.dmatrix(shape=(4, 1))
    for number in (0.5, np.array([[0.5]]), pt.dscalar(), pt.dmatrix(shape=(1, 1))):
        for matrix in (d, blocks, low_rank @ low_rank.T + d):
            assert structures(matrix + number) == ({"Dense"}, {"Dense"})


def test_scales_of_both_signs():
    """With them it is a covariance, too; a structure has scales that are proved not to be."""
    C = np.eye(3) + 0.5
    for prior, structure in (
        (lambda: pm.Normal("s", shape=3), "Dense"),
        (lambda: pm.Normal("s", shape=3) - 1, "Dense"),
        (lambda: pm.HalfNormal("s", shape=3)[[2, 0, 1]], "Scaled"),
        (lambda: pt.exp(pm.Normal("s", shape=2))[[0, 1, 1]] * pm.Uniform("u", 0, 9), "Scaled"),
        (lambda: pt.sqrt(pm.InverseGamma("s", 3, 1, shape=3) + 0.5), "Scaled"),
        (lambda: pt.stack([pm.LogNormal("s"), 1.0, pm.Gamma("g", 2, 1) / 2]), "Scaled"),
    ):
        with pm.Model() as model:
            s = prior()
            pm.MvNormal("y", 0, s[:, None] * C * s, observed=ROWS)
        new = gg.accelerate(model)
        assert kinds_in(new.logp()) == {structure}
        with gg.accelerated():
            assert kinds_in(model.logp()) == {structure}
    point = {"s": np.array([-1.0, 2.0, 3.0])}
    model = built(signed)
    found, expected = (evaluated(x, point) for x in (gg.accelerate(model), model))
    assert_allclose(found[0], expected[0], rtol=1e-10)
    assert_allclose(found[1], expected[1], rtol=1e-9)


def test_sums_without_an_algorithm_are_matrices():
    product = pt.linalg.kron(pt.dscalar() * pt.eye(2), np.eye(2) + 0.5)
    assert structures(product + pt.diag(pt.dvector(shape=(4,)))) == ({"Dense"}, {"Dense"})


def signed():
    s = pm.Normal("s", shape=3)
    pm.MvNormal("y", 0, s[:, None] * (np.eye(3) + 0.5) * s, observed=ROWS)


def test_triangles_of_few_columns_are_factors():
    """Loadings of which the upper triangle is zero."""
    places = np.tril_indices(5, m=2)
    loadings = pt.zeros((5, 2))[places].set(pt.dvector(shape=(len(places[0]),)))
    cov = loadings @ loadings.T + pt.diag(pt.dvector(shape=(5,)))
    assert structures(cov) == ({"LowRankPlusDiagonal"}, {"LowRankPlusDiagonal"})
    unknown = loadings[:, : pt.iscalar()]
    assert structures(unknown @ unknown.T + np.eye(5)) == ({"Dense"}, {"Dense"})


def test_variables_in_others_are_for_the_context():
    """Those of minibatches, of data with gaps, of mixtures; the report says so."""
    gaps = np.where(ROWS > 1, np.nan, ROWS)
    with pm.Model() as model:
        m = pm.Normal("m")
        pm.MvNormal("batch", m, np.eye(3) + 0.5, observed=ROWS, total_size=100)
        with pytest.warns(ImputationWarning):
            pm.MvNormal("gaps", m, np.eye(3) + 0.5, observed=gaps)
        kinds = [pm.MvNormal.dist(i * m, np.eye(3) + 0.5) for i in (1, 2)]
        pm.Mixture("mixed", [0.3, 0.7], kinds, observed=ROWS)
    declined = gg.acceleration_report(gg.accelerate(model)).declined
    assert set(declined) == {"batch", "gaps_unobserved", "gaps_observed", "mixed"}
    assert all("within gg.accelerated()" in why for why in declined.values())
    point = shifted(model)
    expected = evaluated(model, point)
    with gg.accelerated():
        found = evaluated(model, point)
    assert_allclose(found[0], expected[0], rtol=1e-10)
    assert_allclose(found[1], expected[1], rtol=1e-9, atol=1e-10)


@pytest.mark.filterwarnings("ignore:grad method was asked")  # for what is multiplied by zero
@pytest.mark.parametrize("seed", range(START, START + COUNT))
def test_random_matrix(seed):
    """As written and by what is proved: one log density, one gradient."""
    rng = np.random.default_rng([20261128, seed])
    n = int(rng.integers(1, 8))
    w = Written(rng)
    cov = random_matrix(w, n)
    expected, found, report = both(cov, w, rng.normal(size=(2, n)), within=seed % 2 == 1)
    assert_allclose(found[0], expected[0], rtol=1e-9, atol=1e-9, err_msg=str(report))
    scale = np.abs(expected[1]).max(initial=1.0)
    assert_allclose(found[1] / scale, expected[1] / scale, atol=1e-9, err_msg=str(report))
