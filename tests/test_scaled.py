"""``Scaled``: D S D of every structure, what remains of its kind, sums, and vectors for scalars."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import AS_WRITTEN, BACKENDS, CASES, INTERPRETED, interpreted, positive_definite

import pm_gaussgrad as gg
from pm_gaussgrad.cov.protocol.marginal import Marginal
from pm_gaussgrad.ops import InvQuadLogdet

N = 4
SCALES = np.array([0.5, 2.0, 1.5, 0.8])
EXTRA = [  # summands and sums that are no rows of the registry by themselves
    ("ConstantDense", lambda: gg.cov.Dense(positive_definite(np.random.default_rng(3), N))),
    ("ConstantPrecision", lambda: gg.cov.Precision(positive_definite(np.random.default_rng(3), N))),
    ("Scaled", lambda: gg.cov.Scaled(gg.cov.AR1(1.3, 0.4), SCALES[::-1].copy())),
    ("IrregularAR1", lambda: gg.cov.AR1(1.3, 0.4, time=[2, 0, 5, 1], group=[0, 1, 0, 1])),
]


def _built(case):
    values = case.draw(np.random.default_rng(1), N)
    return case.build(N, *(pt.constant(v) for v in values))


STRUCTURES = [
    *(pytest.param(lambda c=case: _built(c), id=case.name) for case in CASES),
    *(pytest.param(build, id=name) for name, build in EXTRA),
]


@pytest.mark.parametrize("build", STRUCTURES)
def test_every_structure(build, rng):
    """Members, gaps and the gradient of the scale, beside dense algebra."""
    scale, rows, kept = pt.vector("scale", shape=(N,)), rng.normal(size=(2, N)), [0, 2, 3]
    cov = gg.cov.Scaled(build(), scale)
    logp = cov.logp(rows)
    outputs = {
        "matrix": cov.to_dense(),
        "logp": logp,
        "gradient": pt.grad(logp.sum(), scale),
        "solved": cov.solve(rows),
        "logdet": cov.logdet(),
        "diagonal": cov.diagonal(),
        "inverse_diagonal": cov.inverse_diagonal(),
        "left_out": pt.stack(cov.leave_one_out(rows)),
        "again": cov.whiten(cov.color(rows)),
        "root": cov.color(np.eye(N)),
        "wider": cov.draw(np.eye(cov.noise_size(N))),
        "kept": gg.cov.marginal(cov, kept).to_dense(),
        "tripled": (3 * cov).diagonal(),
    }
    found = pytensor.function([scale], list(outputs.values()), mode=AS_WRITTEN)(SCALES)
    got = dict(zip(outputs, found, strict=True))
    matrix = np.outer(SCALES, SCALES) * build().to_dense().eval(mode=AS_WRITTEN)
    inverse, logdet = np.linalg.inv(matrix), np.linalg.slogdet(matrix)[1]
    alpha, precision = rows @ inverse, np.diag(inverse)
    scales = np.broadcast_to(-np.log(precision) / 2, alpha.shape)
    expected = {
        "matrix": matrix,
        "logp": -0.5 * ((rows * alpha).sum(axis=1) + logdet + N * np.log(2 * np.pi)),
        "gradient": ((rows * alpha).sum(axis=0) - len(rows)) / SCALES,
        "solved": alpha,
        "logdet": logdet,
        "diagonal": np.diag(matrix),
        "inverse_diagonal": precision,
        "left_out": [alpha / np.sqrt(precision), scales],
        "again": rows,
        "kept": matrix[np.ix_(kept, kept)],
        "tripled": 3 * np.diag(matrix),
    }
    for root in (got.pop("root"), got.pop("wider")):
        assert_allclose(root.T @ root, matrix, rtol=1e-10, atol=1e-10)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert_allclose(got[name], value, rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (lambda: gg.cov.Diagonal(np.full(N, 2.0)), gg.cov.Diagonal),
        (lambda: gg.cov.Dense(pt.eye(N) * 2.0), gg.cov.Dense),
        (lambda: gg.cov.Precision(pt.eye(N) * 2.0), gg.cov.Precision),
        (lambda: gg.cov.Cholesky(np.eye(N)), gg.cov.Scaled),
        (lambda: gg.cov.LowRank(np.ones((N, 1))), gg.cov.LowRank),
        (lambda: np.eye(N), gg.cov.Scaled),
        (lambda: gg.cov.Scaled(gg.cov.AR1(1.0, 0.5), np.ones(N)), gg.cov.Scaled),
    ],
)
def test_what_remains_of_its_kind(build, kind):
    cov = gg.cov.Scaled(build(), pt.vector("scale"))
    assert type(cov) is kind
    assert not isinstance(getattr(cov, "cov", None), gg.cov.Scaled)


@pytest.mark.parametrize(
    "build",
    [
        lambda: gg.cov.Diagonal(2.0),
        lambda: gg.cov.Cholesky(np.eye(N)),
        lambda: gg.cov.Precision(pt.eye(N) * 2.0),
        lambda: gg.cov.LowRank(np.ones((N, 1))) + gg.cov.Diagonal(1.0),
        lambda: np.eye(N),
        lambda: gg.cov.AR1(1.0, 0.5),
    ],
)
def test_scales_that_are_not_positive(build, rng):
    """-inf and a gradient of zero, though D S D is a covariance for negative scales."""
    scale, rows = pt.vector("scale", shape=(N,)), rng.normal(size=(2, N))
    cov, gaps = gg.cov.Scaled(build(), scale), rows.copy()
    gaps[0, 3] = gaps[1, 2] = np.nan
    logps = [gg.logp(y, 0.0, cov) for y in (rows, gaps)]
    logps.append(Marginal.of(cov, pt.constant([0, 1, 3]), pt.constant([2])).logp(rows[:, :3]))
    bars = pt.grad(sum(logp.sum() for logp in logps), scale)
    function = interpreted([scale], [*logps, bars])
    assert np.isfinite(np.concatenate([np.ravel(x) for x in function(SCALES)])).all()
    for bad in (0.0, -1.0, np.nan):
        *values, bars = function(np.where(np.arange(N) == 1, bad, SCALES))
        assert (np.stack(values) == -np.inf).all()
        assert (bars == 0).all()


def test_constant_matrices_stay_factored(rng):
    scale, matrix = pt.vector("scale"), positive_definite(rng, N)
    logp = gg.logp(rng.normal(size=N), 0.0, gg.cov.Scaled(matrix, pt.exp(scale)))
    nodes = interpreted([scale], logp).maker.fgraph.apply_nodes
    found = {n.op.structure.__name__ for n in nodes if isinstance(n.op, InvQuadLogdet)}
    assert found == {"Cholesky"}


def test_value_and_gradient_share_one_evaluation(rng):
    """PyTensor moves what is around a switch, and sees the copies of the two as different."""
    v, scale = pt.scalar("v"), pt.vector("scale", shape=(N,))
    for shape in ((N,), (3, N)):
        logp = gg.logp(rng.normal(size=shape), 0.0, gg.cov.Scaled(gg.cov.AR1(v, 0.5), scale))
        outputs = [logp, *pt.grad(logp.sum(), [v, scale])]
        nodes = interpreted([v, scale], outputs).maker.fgraph.apply_nodes
        assert sum(isinstance(n.op, InvQuadLogdet) for n in nodes) == 1


def test_conditioning_in_the_way_of_a_constant_matrix(rng):
    """Filled in and drawn as by the dense matrix, what is observed untouched."""
    matrix, missing = positive_definite(rng, N), np.array([0, 2])
    ways = [gg.cov.Scaled(matrix, pt.constant(SCALES) * 1.0)]
    ways.append(gg.cov.Dense(pt.constant(matrix * np.outer(SCALES, SCALES)) * 1.0))
    residual, z = pt.constant(rng.normal(size=(3, N))), pt.zeros((3, N))
    ours, dense = (
        interpreted([], [c.fill(residual), c.draw(residual, z), c.variances()])()
        for c in (way.conditional(missing) for way in ways)
    )
    for own, expected in zip(ours, dense, strict=True):
        assert_allclose(own, expected, rtol=1e-12, atol=1e-14)
    assert (ours[0][:, [1, 3]] == residual.data[:, [1, 3]]).all()


def test_sums(rng):
    """With noise and factors by what the structure closes with, and with the same scale."""
    scale, v = pt.constant(SCALES), rng.uniform(0.5, 2, N)
    series, factor = gg.cov.AR1(1.3, 0.4), rng.normal(size=(N, 2))
    scaled = gg.cov.Scaled(series, scale)
    low_rank = gg.cov.Scaled(gg.cov.LowRank(factor), scale)
    parts = {
        "series": 1.3 * 0.4 ** np.abs(np.subtract.outer(np.arange(N), np.arange(N))),
        "factor": factor @ factor.T,
    }
    outer = np.outer(SCALES, SCALES)
    for total, expected in (
        (scaled + gg.cov.Diagonal(v), outer * parts["series"] + np.diag(v)),
        (gg.cov.Diagonal(0.3) + scaled, outer * parts["series"] + 0.3 * np.eye(N)),
        (scaled + gg.cov.Scaled(gg.cov.Diagonal(v), scale), outer * (parts["series"] + np.diag(v))),
        (low_rank + gg.cov.Diagonal(v), outer * parts["factor"] + np.diag(v)),
        (
            gg.cov.Scaled(gg.cov.Toeplitz(v), scale) + gg.cov.Scaled(gg.cov.Toeplitz(v), scale),
            2 * outer * v[np.abs(np.subtract.outer(np.arange(N), np.arange(N)))],
        ),
    ):
        assert_allclose(total.to_dense().eval(mode=INTERPRETED), expected, rtol=1e-12)
    other = gg.cov.Scaled(gg.cov.AR1(1.0, 0.5), 2 * SCALES)
    for left, right, message in (
        (gg.cov.Scaled(gg.cov.Toeplitz(v), scale), gg.cov.Scaled(gg.cov.Toeplitz(v), v), "differ"),
        (gg.cov.Scaled(gg.cov.Toeplitz(v), scale), gg.cov.Diagonal(v), "Toeplitz"),
        (scaled, other, "scales differ"),
    ):
        with pytest.raises(TypeError, match=message):
            (left + right).plan()


def test_a_scale_for_each_visit(rng):
    """Within subjects and in factors, formed there; also one of each stratum."""
    scale, rows = pt.matrix("scale", shape=(2, 3)), rng.normal(size=(2, 6))
    subject, visit, arm = [0, 1, 0, 2, 1, 0], [0, 1, 2, 0, 0, 1], [0, 1, 0, 1, 1, 0]
    series = gg.cov.AR1(1.0, 0.4, size=3)
    within = gg.cov.Scaled(series, scale)
    by_arm = gg.cov.RepeatedMeasures(within, subject, visit, stratum=arm)
    common = gg.cov.RepeatedMeasures(gg.cov.Scaled(series, scale[0]), subject, visit)
    product = gg.cov.Kronecker(gg.cov.Scaled(series, scale[0]), np.eye(2))
    covs = [by_arm, common, product]
    values = rng.uniform(0.5, 2, (2, 3))
    logps = [cov.logp(rows).sum() for cov in covs]
    gradient = pt.grad(logps[0], scale)
    *dense, got = interpreted([scale], [*(c.to_dense() for c in covs), pt.stack(logps)])(values)
    correlation = 0.4 ** np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    same = np.equal.outer(subject, subject) * correlation[np.ix_(visit, visit)]
    for matrix, s in zip(dense, (values[arm, visit], values[0, visit]), strict=False):
        assert_allclose(matrix, same * np.outer(s, s))
    assert_allclose(dense[2], np.kron(np.outer(values[0], values[0]) * correlation, np.eye(2)))
    twins = interpreted([], [gg.logp(rows, 0.0, x).sum() for x in dense])()
    assert_allclose(got, twins, rtol=1e-12)
    values[1, 0] = -values[1, 0]
    rejected, bars = interpreted([scale], [logps[0], gradient])(values)
    assert rejected == -np.inf
    assert (bars == 0).all()


@pytest.mark.parametrize("batched", ["scale", "cov", "both"])
def test_batches(batched, rng):
    """Of scales, of the covariance, or of both; rows before them."""
    v, scale = rng.uniform(0.5, 2, 3), rng.uniform(0.5, 2, (3, N))
    v = v[:1].reshape(()) if batched == "scale" else v
    scale = scale[:1] if batched == "cov" else scale
    cov, rows = gg.cov.Scaled(gg.cov.AR1(v, 0.4), scale), rng.normal(size=(2, 3, N))
    outputs = [gg.logp(rows, 0.0, cov), cov.solve(rows), cov.logdet(), cov.diagonal()]
    logp, solved, logdet, diagonal, dense = interpreted([], [*outputs, cov.to_dense()])()
    dense = np.broadcast_to(dense, (3, N, N))
    twin, expected = interpreted([], [gg.logp(rows, 0.0, dense), gg.cov.Dense(dense).solve(rows)])()
    assert_allclose(logp, twin, rtol=1e-12)
    assert_allclose(solved, expected, rtol=1e-11)
    assert_allclose(logdet, np.linalg.slogdet(dense)[1], rtol=1e-11)
    assert_allclose(diagonal, np.diagonal(dense, axis1=-2, axis2=-1))


def test_log_linear_standard_deviations(rng):
    """As people write it, with a covariate, data that miss entries, and predictive draws."""
    covariates, y = rng.normal(size=(7, 2)), rng.normal(size=7)
    y[3] = np.nan
    with pm.Model() as model:
        rho = pm.Uniform("rho", -1, 1)
        effect = pm.Normal("effect", shape=2)
        sigma = pt.exp(covariates @ effect)
        gg.MvNormal("y", 0.0, gg.cov.Scaled(gg.cov.AR1(1.0, rho), sigma), observed=y)
    point = {"rho_interval__": np.array(0.3), "effect": np.array([0.4, -0.2])}
    names = [v.name for v in model.value_vars]
    logp = model.logp(vars=model.observed_RVs, sum=True)
    function = pytensor.function(
        model.value_vars, [logp, *pt.grad(logp, model.value_vars)], mode=INTERPRETED
    )
    value, *gradient = function(*(point[name] for name in names))
    lags = np.abs(np.subtract.outer(np.arange(7), np.arange(7)))
    seen = ~np.isnan(y)

    def expected(theta, effect):
        s = np.exp(covariates @ effect)
        matrix = (s[:, None] * (2 / (1 + np.exp(-theta)) - 1) ** lags * s)[np.ix_(seen, seen)]
        # By elimination, which takes complex numbers.
        quad = y[seen] @ np.linalg.solve(matrix, y[seen])
        return -0.5 * (quad + np.log(np.linalg.det(matrix)) + seen.sum() * np.log(2 * np.pi))

    at = point["rho_interval__"], point["effect"]
    assert_allclose(value, expected(*at), rtol=1e-12)
    slopes = [np.imag(expected(at[0] + 1e-30j, at[1])) / 1e-30]
    slopes += [np.imag(expected(at[0], at[1] + 1e-30j * e)) / 1e-30 for e in np.eye(2)]
    found = dict(zip(names, gradient, strict=True))
    assert_allclose([found["rho_interval__"], *found["effect"]], slopes, rtol=1e-10)
    with model:
        draws = pm.draw(model["y"], 3, mode=INTERPRETED, random_seed=1)
    assert draws.shape == (3, 7)
    assert np.isfinite(draws).all()


def test_long_rows_that_miss_different_entries(rng):
    """One series in groups, as of the structure that is scaled."""
    n = 40
    s, rows = pt.vector("s", shape=(n,)), rng.normal(size=(3, n))
    rows[rng.uniform(size=rows.shape) < 0.2] = np.nan
    cov = gg.cov.Scaled(gg.cov.AR1(1.3, 0.4), s)
    logps = [gg.logp(rows, 0.0, c).sum() for c in (cov, gg.cov.Dense(cov.to_dense()))]
    outputs = [x for logp in logps for x in (logp, pt.grad(logp, s))]
    value, gradient, *twin = interpreted([s], outputs)(rng.uniform(0.5, 2, n))
    assert_allclose(value, twin[0], rtol=1e-12)
    assert_allclose(gradient, twin[1], rtol=1e-9, atol=1e-10)


@pytest.mark.compiled
@pytest.mark.parametrize("backend", ["numba", "jax"])
def test_backends(backend, rng):
    rho, scale = pt.scalar("rho"), pt.vector("scale", shape=(N,))
    cov, y = gg.cov.Scaled(gg.cov.AR1(1.0, rho), scale), rng.normal(size=(2, N))
    logp = gg.logp(y, 0.0, cov)
    outputs = [logp, *pt.grad(logp.sum(), [rho, scale])]
    function = pytensor.function([rho, scale], outputs, mode=BACKENDS[backend])
    reference = interpreted([rho, scale], outputs)
    for values in (SCALES, -SCALES):
        for own, expected in zip(function(0.3, values), reference(0.3, values), strict=True):
            assert_allclose(own, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((gg.cov.AR1(1.0, 0.5), 2.0), TypeError, r"`scale` is a scalar.*sigma\*\*2 \* cov"),
        ((gg.cov.AR1(1.0, 0.5, size=3), [1.0, 2.0]), ValueError, r"expected \(\.\.\., 3\)"),
        ((gg.cov.AR1(1.0, 0.5), [1.0, -2.0]), ValueError, "gg.cov.Scaled: `scale` .* entry -2"),
        ((gg.cov.Diagonal(1.0), [1.0, 0.0]), ValueError, "gg.cov.Scaled: `scale` .* entry 0"),
        ((gg.cov.AR1(1.0, 0.5), [1.0, np.nan]), ValueError, "gg.cov.Scaled: .* not finite"),
        ((1.0, [1.0]), TypeError, "gg.cov.Scaled: `cov` has 0 dimension"),
        ((gg.cov.AR1(1.0, 0.5), gg.cov.Diagonal(1.0)), TypeError, "`scale` is a gg.cov.Diagonal"),
    ],
)
def test_arguments_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        gg.cov.Scaled(*arguments)


V = np.full(N, 1.2)
SUBJECT, VISIT = [0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 0, 1]
VECTORS = {
    "observations": (lambda v: gg.cov.AR1(v, 0.5, size=N), N),
    "sum": (lambda v: gg.cov.AR1(v, 0.5, size=N) + gg.cov.Diagonal(1.0, size=N), N),
    "times": (lambda v: gg.cov.AR1(v, 0.5, time=np.arange(N)), N),
    "block": (lambda v: gg.cov.BlockDiagonal(gg.cov.AR1(v, 0.5, size=N), np.eye(2)), N + 2),
    "visits": (
        lambda v: gg.cov.RepeatedMeasures(gg.cov.AR1(v, 0.5, size=N), SUBJECT, VISIT),
        len(VISIT),
    ),
    "factor": (lambda v: gg.cov.Kronecker(gg.cov.AR1(v, 0.5, size=N), np.eye(2)), 2 * N),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_where_scalars_are_declared(name, rng):
    """An error that names Scaled where the value has no batch; with a batch as ever."""
    build, n = VECTORS[name]
    cov = build(V)
    for density in (
        lambda y: gg.logp(y, 0.0, cov),
        lambda y: gg.student_t_logp(y, 4.0, 0.0, cov),
        lambda y: gg.MvNormal.dist(0.0, cov, shape=np.shape(y)),
    ):
        for rows in ((), (3,)):
            with pytest.raises(ValueError, match=r"gg\.cov\.Scaled\(cov, sigma\)"):
                density(rng.normal(size=(*rows, n)))
        density(rng.normal(size=(N, n)))


@pytest.mark.parametrize("known", [True, False])
def test_vectors_in_models(known, rng):
    """Also of a length that only the dims of the model know."""
    with pm.Model(coords={"row": range(N)}):
        v = pm.HalfNormal("v", **({"shape": N} if known else {"dims": "row"}))
        for name, kwargs in {"y": {"observed": rng.normal(size=N)}, "z": {"dims": "row"}}.items():
            with pytest.raises(ValueError, match=r"gg\.cov\.Scaled\(cov, sigma\)"):
                gg.MvNormal(name, 0.0, gg.cov.AR1(v, 0.5, size=N), **kwargs)
        gg.MvNormal("batch", 0.0, gg.cov.AR1(v, 0.5, size=N), observed=np.zeros((N, N)))


def test_one_row_and_as_many_covariances():
    """The batch spelling: a leading dimension of the value."""
    y, v = np.arange(float(N)), np.linspace(0.5, 2, N)
    one = gg.logp(y[None], 0.0, gg.cov.AR1(v, 0.5)).eval(mode=INTERPRETED)
    each = [gg.logp(y, 0.0, gg.cov.AR1(x, 0.5)).eval(mode=INTERPRETED) for x in v]
    assert_allclose(one, each, rtol=1e-13)


@pytest.mark.parametrize("structure", [gg.cov.AR1, gg.cov.CompoundSymmetry])
@pytest.mark.parametrize("labels", [[0, 0, 0, 1], ["a", "a", "b", "b"]])
def test_vectors_as_long_as_the_table_of_groups(structure, labels):
    with pytest.raises(ValueError, match=r"gg\.cov\.Scaled\(cov, sigma\)"):
        structure(V, 0.5, group=labels)
