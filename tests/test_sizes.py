"""Sizes and shapes of variables: those of PyMC's own distributions, or an error."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.distributions.distribution import support_point
from pymc.distributions.moments import mean
from pymc.distributions.shape_utils import change_dist_size
from pytensor.graph.replace import vectorize_graph
from registry import CASES, each, interpreted, positive_definite

import pm_gaussgrad as gg

N, NU = 3, 4.5
MU = np.array([1.0, -2.0, 0.5])
SIGMA = positive_definite(np.random.default_rng(1), N)
KINDS = ["normal", "student"]


def _ours(kind, mu, matrix, nu=NU, **kwargs):
    if kind == "normal":
        return gg.MvNormal.dist(mu, matrix, **kwargs)
    return gg.MvStudentT.dist(nu, mu, matrix, **kwargs)


def _theirs(kind, mu, matrix, nu=NU, **kwargs):
    if kind == "normal":
        return pm.MvNormal.dist(mu, matrix, **kwargs)
    return pm.MvStudentT.dist(nu, mu=mu, scale=matrix, **kwargs)


def _observe(kind, name, **kwargs):
    if kind == "normal":
        return gg.MvNormal(name, MU, SIGMA, **kwargs)
    return gg.MvStudentT(name, NU, MU, SIGMA, **kwargs)


@pytest.mark.parametrize("kind", KINDS)
def test_log_density_has_the_size_of_the_variable(kind, rng):
    values = [rng.normal(size=shape) for shape in ((N,), (1, N), (4, N), (2, 4, N))]
    ours, theirs = (f(kind, MU, SIGMA, size=4) for f in (_ours, _theirs))
    got = [pm.logp(ours, value) for value in values]
    wanted = [pm.logp(theirs, value) for value in values]
    for a, b in zip(interpreted([], got)(), interpreted([], wanted)(), strict=True):
        assert a.shape == b.shape
        assert_allclose(a, b, rtol=1e-9)
    assert pm.logp(ours, pt.matrix()).type.shape == (4,)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_not_as_many_as_the_size(kind, rng):
    y = rng.normal(size=(4, N))
    dist = _ours(kind, MU, SIGMA, size=4)
    with pytest.raises(ValueError, match=r"leading dimensions \(2,\), expected \(4,\)"):
        pm.logp(dist, y[:2])
    for value in (1.0, pt.scalar()):
        with pytest.raises(TypeError, match=r"the value has 0 dimensions, expected at least 1"):
            pm.logp(dist, value)
    for value in (y[:, :1], np.ones(5)):
        with pytest.raises(ValueError, match="expected n = 3 in the last dimension"):
            pm.logp(dist, value)
    with pm.Model() as model:
        with pytest.raises(ValueError, match=r"`observed` has shape \(4, 3\), expected \(3, 3\)"):
            _observe(kind, "x", observed=y, shape=(3, N))
        _observe(kind, "y", observed=pm.Data("data", y), shape=(4, N))
    logp = model.compile_logp()
    assert np.isfinite(logp({}))
    with model:
        pm.set_data({"data": y[:2]})
    with pytest.raises(AssertionError, match=r"Got shape \(2,\), expected \(4,\)"):
        logp({})


BATCH = np.ones((5, 4, N))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "kwargs",
    [
        {"mu": BATCH, "size": (4,)},
        {"mu": BATCH, "shape": (4, N)},
        {"mu": BATCH, "shape": N},
        {"mu": BATCH, "size": (5, 3)},
        {"matrix": np.tile(SIGMA, (5, 4, 1, 1)), "size": (4,)},
    ],
    ids=["size", "shape", "one row", "another length", "covariances"],
)
def test_sizes_that_do_not_hold_the_batch(kind, kwargs):
    kwargs = {"mu": MU, "matrix": SIGMA, **kwargs}
    with pytest.raises(ValueError, match=r"the size .*expected one that holds the leading dim"):
        _ours(kind, **kwargs)


def test_one_nu_a_row_is_a_batch():
    with pytest.raises(ValueError, match=r"found \(2,\) of an argument of shape \(2,\)"):
        gg.MvStudentT.dist([3.0, 4.0], MU, SIGMA, shape=N)
    assert gg.MvStudentT.dist([3.0, 4.0], MU, SIGMA).type.shape == (2, N)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_known_when_built(kind):
    m, c = pt.vector("m"), pt.matrix("c")
    assert _ours(kind, m, c, size=(1,)).type.shape == (1, None)
    assert _ours(kind, m, c, shape=(1, N)).type.shape == (1, None)
    assert _ours(kind, pt.matrix(shape=(1, None)), SIGMA).type.broadcastable == (True, False)
    dist = _ours(kind, m, c, size=(1,)) + pt.zeros((4, N))
    assert interpreted([m, c], dist)(MU, SIGMA).shape == (4, N)


@each(CASES)
def test_every_structure_expands(case):
    """A batch that comes from the mean, made explicit; and one that comes in by vectorising."""
    n, mu = 4, pt.matrix("mu", shape=(5, 4))
    cov = case.build(n, *case.tensors(n=n))
    for dist in (gg.MvNormal.dist(mu, cov), gg.MvStudentT.dist(NU, mu, cov)):
        assert dist.type.shape == (5, n)
        expanded = change_dist_size(dist, (2,), expand=True)
        assert expanded.type.shape == (2, 5, n)
        assert expanded.owner.op.structure is dist.owner.op.structure
        batched = vectorize_graph(dist, {mu: pt.tensor("mus", shape=(7, 5, n))})
        assert batched.type.shape == (7, 5, n)
        assert support_point(batched).type.shape == (7, 5, n)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_of_expanded_variables(kind):
    mu, matrix = pt.vector("mu", shape=(N,)), pt.matrix("S", shape=(N, N))
    mus = 1e6 * np.arange(4.0)[:, None] + np.zeros(N)
    matrices = np.stack([SIGMA, SIGMA])
    alone, sized = _ours(kind, mu, matrix), _ours(kind, mu, matrix, size=(2,))
    by_row = _ours(kind, mus, matrix)
    draws = [
        vectorize_graph(alone, {mu: pt.constant(mus)}),
        vectorize_graph(sized, {mu: pt.constant(mus)}),
        vectorize_graph(by_row, {matrix: pt.constant(matrices)}),
        change_dist_size(by_row, (2,), expand=True),
        pt.expand_dims(by_row, 0),
    ]
    got = interpreted([matrix], draws, on_unused_input="ignore")(SIGMA)
    assert [x.shape for x in got] == [(4, N), (4, 2, N), (2, 4, N), (2, 4, N), (1, 4, N)]
    assert_allclose(got[1][:, 0], mus, atol=1e3)
    for rows in got[2:]:
        assert_allclose(rows, np.broadcast_to(mus, rows.shape), atol=1e3)
    value = np.zeros((1, 4, N))
    assert pm.logp(draws[-1], value).type.shape == (1, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_custom_distributions(kind, rng):
    """As PyMC resizes what it wraps."""
    mus, y = rng.normal(size=(4, N)), rng.normal(size=(4, N))
    totals = []
    for dist in (_ours, _theirs):
        with pm.Model() as model:
            pm.CustomDist(
                "y",
                mus,
                dist=lambda mu, size, dist=dist: pt.exp(dist(kind, mu, SIGMA, size=size)),
                observed=np.exp(y),
                signature="(n)->(n)",
            )
        totals.append(model.compile_logp()({}))
    assert_allclose(*totals, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_initial_values_and_means(kind):
    mus, matrices = np.arange(12.0).reshape(4, N), np.stack([SIGMA] * 4)
    arguments = [(MU, SIGMA, {"size": 4}), (mus, SIGMA, {}), (MU, matrices, {"size": (2, 4)})]
    dists = [[f(kind, mu, s, **kw) for mu, s, kw in arguments] for f in (_ours, _theirs)]
    got, wanted = (
        interpreted([], [f(x) for x in xs for f in (support_point, mean)]) for xs in dists
    )
    for a, b in zip(got(), wanted(), strict=True):
        assert a.shape == b.shape
        assert_allclose(a, b)


def test_mean_that_does_not_exist():
    got = mean(gg.MvStudentT.dist([1.0, 1.5], MU, SIGMA)).eval(mode="FAST_COMPILE")
    assert_allclose(got, [[np.nan] * N, MU])


# Dimensions of a model


KRONECKER = gg.cov.Kronecker(np.eye(3), gg.cov.AR1(1.0, 0.5, size=4))
COORDS = {"a": range(3), "b": range(4)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [None, ("a", "b")])
def test_a_grid_is_refused_with_the_way(kind, dims):
    build = {
        "normal": gg.MvNormal,
        "student": lambda name, *args, **kw: gg.MvStudentT(name, NU, *args, **kw),
    }[kind]
    with pm.Model(coords=COORDS), pytest.raises(ValueError, match=r"12, the size .*3 x 4.*ravel"):
        build("y", 0.0, KRONECKER, observed=np.ones((3, 4)), dims=dims)


def test_rows_of_grids():
    message = r"3 x 4\?.*grid.reshape\(\*grid.shape\[:-2\], 12\)"
    with pm.Model(coords={**COORDS, "row": range(5)}), pytest.raises(ValueError, match=message):
        gg.MvNormal("y", 0.0, KRONECKER, dims=("row", "a", "b"))


@pytest.mark.parametrize("latent", [False, True])
def test_dims_are_checked_when_built(latent):
    observed = {} if latent else {"observed": np.ones(3)}
    with pm.Model(coords=COORDS) as model:
        pm.Data("x", np.ones(3), dims="from data")
        for dim in ("a", "from data"):
            with pytest.raises(ValueError, match=r"value .* is for 3 observations, expected 4"):
                gg.MvNormal("y", 0.0, np.eye(4), dims=dim, **observed)
        with pytest.raises(ValueError, match=r"`observed` has shape \(5, 3\), expected \(4, 3\)"):
            gg.MvNormal("y", 0.0, np.eye(3), dims=("b", "a"), observed=np.ones((5, 3)))
        gg.MvNormal("y", 0.0, np.eye(3), dims=("b", "a"), observed=np.ones((4, 3)))
    assert [pytensor.function([], x)() for x in model["y"].shape] == [4, 3]


# float32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("matrix", [[[2.0, 0.0], [0.0, 1.0]], np.eye(2), np.eye(2, dtype="f")])
def test_variables_have_the_precision_of_pymc(kind, matrix):
    mu = np.zeros(2)
    assert _ours(kind, mu, matrix).dtype == "float64"
    with pytensor.config.change_flags(floatX="float32"):
        dist = _ours(kind, mu, matrix, size=3)
        assert dist.dtype == "float32"
        assert change_dist_size(dist, (2,)).dtype == "float32"
        assert _ours(kind, mu, matrix, dtype="float64").dtype == "float64"
        with pm.Model() as model:
            x = gg.MvNormal("x", mu, matrix)
            pm.Normal("y", x, 1.0, observed=np.ones(2))
        value, gradient = model.logp_dlogp_function(ravel_inputs=True)(np.zeros(2, "float32"))
    assert np.isfinite([value, *gradient]).all()
    assert change_dist_size(dist, (2,)).dtype == "float32"
