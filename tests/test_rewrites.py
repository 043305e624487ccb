"""Sufficient statistics of many rows, constant covariances."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.pytensorf import rewrite_pregrad
from registry import interpreted, positive_definite

import pm_gaussgrad as gg
from pm_gaussgrad.cov.matrices.precision import ConstantPrecision
from pm_gaussgrad.ops import InvQuadLogdet

N, M = 3, 40


def _row_count(graph):
    """Static number of rows that the primitive sees."""
    [node] = [
        v.owner
        for v in pytensor.graph.traversal.ancestors([graph])
        if v.owner and isinstance(v.owner.op, InvQuadLogdet)
    ][:1]
    return node.inputs[0].type.shape[0]


def _sum_both_ways(value, mu, matrix, rng):
    """The rewritten graph of the sum, and its value and gradient beside the plain rows'."""
    inputs = [x for x in (mu, matrix) if not isinstance(x, pt.TensorConstant)]
    total = gg.logp(value, mu, matrix).sum()
    rewritten = rewrite_pregrad(total)
    variable = pt.as_tensor_variable(value).type("value")
    plain = gg.logp(variable, mu, matrix).sum()
    f = interpreted(inputs, [rewritten, *pt.grad(rewritten, inputs)])
    g = interpreted([variable, *inputs], [plain, *pt.grad(plain, inputs)])
    return rewritten, f, lambda *arguments: g(value, *arguments)


@pytest.mark.parametrize("mean", ["vector", "scalar", "one row", "constant", "constant by row"])
def test_constant_rows_become_sufficient_statistics(mean, rng):
    value = rng.normal(size=(M, N)) + 100.0
    mu, number = {
        "vector": (pt.vector("mu", shape=(N,)), rng.normal(size=N)),
        "scalar": (pt.scalar("mu"), np.asarray(0.4)),
        "one row": (pt.tensor("mu", shape=(1, N)), rng.normal(size=(1, N))),
        "constant": (pt.constant(rng.normal(size=N)), None),
        "constant by row": (pt.constant(rng.normal(size=(M, N))), None),
    }[mean]
    matrix = pt.tensor("S", shape=(N, N))
    rewritten, f, plain = _sum_both_ways(value, mu, matrix, rng)
    assert _row_count(rewritten) == (N if number is None else N + 1)
    arguments = [x for x in (number, positive_definite(rng, N)) if x is not None]
    for got, expected in zip(f(*arguments), plain(*arguments), strict=True):
        assert_allclose(got, expected, rtol=1e-10)


def test_rows_with_their_own_means_stay(rng):
    value = rng.normal(size=(M, N))
    mu, matrix = pt.tensor("mu", shape=(M, N)), pt.tensor("S", shape=(N, N))
    rewritten, f, plain = _sum_both_ways(value, mu, matrix, rng)
    assert _row_count(rewritten) == M
    arguments = rng.normal(size=(M, N)), positive_definite(rng, N)
    for got, expected in zip(f(*arguments), plain(*arguments), strict=True):
        assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.parametrize("shape", [(2, M, N), (2, 1, N)])
def test_means_that_repeat_the_rows_count_every_copy(shape, rng):
    """The mean has a batch that the constant rows do not have: each copy of a row counts."""
    value = rng.normal(size=(M, N))
    mu, matrix = pt.vector("mu", shape=(N,)), pt.tensor("S", shape=(N, N))
    rows = gg.logp(value, pt.alloc(mu, *shape), matrix)
    f = interpreted([mu, matrix], [rows.sum(), rows])
    total, each = f(rng.normal(size=N), positive_definite(rng, N))
    assert each.shape == (2, M)
    assert_allclose(total, each.sum(), rtol=1e-12)


def test_values_that_broadcast_along_the_observations(rng):
    value = rng.normal(size=(M, 1))
    mu, variance = pt.vector("mu", shape=(N,)), pt.scalar("v")
    rows = gg.logp(value, mu, gg.cov.Diagonal(variance))
    total, each = interpreted([mu, variance], [rows.sum(), rows])(rng.normal(size=N), 1.5)
    assert_allclose(total, each.sum(), rtol=1e-12)


def test_few_rows_stay(rng):
    value = rng.normal(size=(2, N))
    rewritten, *_ = _sum_both_ways(value, pt.vector("mu"), pt.tensor("S", shape=(N, N)), rng)
    assert _row_count(rewritten) == 2


def test_several_leading_dimensions(rng):
    value = rng.normal(size=(4, 10, N))
    mu, matrix = pt.vector("mu", shape=(N,)), pt.tensor("S", shape=(N, N))
    rewritten, f, plain = _sum_both_ways(value, mu, matrix, rng)
    assert _row_count(rewritten) == N + 1
    arguments = rng.normal(size=N), positive_definite(rng, N)
    for got, expected in zip(f(*arguments), plain(*arguments), strict=True):
        assert_allclose(got, expected, rtol=1e-10)


def test_partial_sums_and_batches_of_covariances_stay(rng):
    value = pt.constant(rng.normal(size=(M, 2, N)))
    matrix = pt.constant(np.stack([positive_definite(rng, N) for _ in range(2)]))
    by_row = gg.logp(value, 0.0, matrix)
    total, partial = by_row.sum(), gg.logp(value, 0.0, matrix[0]).sum(axis=0)
    f = interpreted([], [by_row, total, partial])
    rows, got, columns = f()
    assert rows.shape == (M, 2)
    assert_allclose(got, rows.sum(), rtol=1e-12)
    assert_allclose(columns[0], rows[:, 0].sum(), rtol=1e-12)


def test_not_positive_definite_sum_is_minus_infinity(rng):
    matrix = pt.matrix("S")
    total = gg.logp(rng.normal(size=(M, N)), 0.0, matrix).sum()
    f = interpreted([matrix], [rewrite_pregrad(total)])
    assert f(-np.eye(N))[0] == -np.inf


def test_model_logp_is_reduced_and_rows_stay_available(rng):
    """Found by itself in a model; pm.compute_log_likelihood still sees the rows."""
    y = rng.normal(size=(M, N))
    with pm.Model() as model:
        mu = pm.Normal("mu", shape=N)
        chol, _, _ = pm.LKJCholeskyCov("chol", eta=2, n=N, sd_dist=pm.Exponential.dist(1.0))
        gg.MvNormal("y", mu, chol=chol, observed=y)
    assert _row_count(rewrite_pregrad(model.logp())) == N + 1
    [rows] = model.logp(vars=[model["y"]], sum=False)
    point = model.initial_point()
    values = model.compile_fn(rows, inputs=model.value_vars, point_fn=True)(point)
    total = model.compile_logp(vars=[model["y"]])(point)
    assert values.shape == (M,)
    assert_allclose(values.sum(), total, rtol=1e-12)


@pytest.mark.parametrize("given", ["observed", "shape", "dims", "size"])
def test_sum_is_found_however_the_shape_is_given(given, rng):
    """The size of the variable is checked beside the rows, not between them and their sum."""
    kwargs = {"shape": {"shape": (M, N)}, "dims": {"dims": ("row", "entry")}, "size": {"size": M}}
    with pm.Model(coords={"row": range(M), "entry": range(N)}) as model:
        mu = pm.Normal("mu", shape=N)
        y = rng.normal(size=(M, N))
        gg.MvNormal("y", mu, np.eye(N), observed=y, **kwargs.get(given, {}))
    assert _row_count(rewrite_pregrad(model.logp(vars=[model["y"]]))) == N + 1


@pytest.mark.parametrize(
    ("structure", "folded"),
    [(gg.cov.Dense, gg.cov.Cholesky), (gg.cov.Precision, ConstantPrecision)],
)
@pytest.mark.parametrize("batch", [(), (2,)])
def test_constant_covariances_are_factored_when_compiled(structure, folded, batch, rng):
    matrices = np.stack([positive_definite(rng, N) for _ in range(2)])
    matrix = matrices if batch else matrices[0]
    residual = pt.tensor("r", shape=(4, *batch, N))
    value = structure(matrix).logp(residual).sum()
    f = interpreted([residual], [value, pt.grad(value, residual)])
    ops = [getattr(node.op, "core_op", node.op) for node in f.maker.fgraph.apply_nodes]
    kinds = {op.structure.kind for op in ops if isinstance(op, InvQuadLogdet)}
    assert kinds == {folded}

    free = pt.tensor("S", shape=matrix.shape)
    expected = structure(free).logp(residual).sum()
    g = interpreted([residual, free], [expected, pt.grad(expected, residual)])
    r = rng.normal(size=(4, *batch, N))
    for got, wanted in zip(f(r), g(r, matrix), strict=True):
        assert_allclose(got, wanted, rtol=1e-11)


def test_constant_covariance_that_is_not_positive_definite():
    r = pt.vector("r", shape=(2,))
    for structure in (gg.cov.Dense, gg.cov.Precision):
        value = structure(np.array([[1.0, 2.0], [2.0, 1.0]])).logp(r)
        logp, gradient = interpreted([r], [value, pt.grad(value, r)])([0.1, 0.2])
        assert logp == -np.inf
        np.testing.assert_array_equal(gradient, [0.0, 0.0])
