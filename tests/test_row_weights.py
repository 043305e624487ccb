"""Rows with known multiples of one covariance: one factorisation, and statistics."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.pytensorf import rewrite_pregrad
from registry import AS_WRITTEN, interpreted
from scipy.stats import multivariate_normal

import pm_gaussgrad as gg
from pm_gaussgrad.likelihood.data import mark_data
from pm_gaussgrad.likelihood.density import as_covariance
from pm_gaussgrad.ops import InvQuadLogdet
from pm_gaussgrad.ops.remembered import Remembered

M, N, P = 30, 3, 2
RNG = np.random.default_rng(3)
WEIGHTS, X, Y = RNG.uniform(0.5, 2, M), RNG.normal(size=(M, P)), RNG.normal(size=(M, N))
CHOL, SLOPES = pt.matrix("chol", shape=(N, N)), pt.matrix("slopes", shape=(P, N))
POINT = np.eye(N) + 0.3 * np.tril(RNG.normal(size=(N, N))), RNG.normal(size=(P, N))
SPELLINGS = {
    "covariance": lambda w: {"cov": w[:, None, None] * (CHOL @ CHOL.T)},
    "divided": lambda w: {"cov": CHOL @ CHOL.T / (1 / w[:, None, None])},
    "twice": lambda w: {"cov": (w[:, None, None] * 2.0) * (CHOL @ CHOL.T / 2.0)},
    "factor": lambda w: {"chol": pt.sqrt(w)[:, None, None] * CHOL},
    "divided factor": lambda w: {"chol": CHOL / pt.sqrt(1 / w)[:, None, None]},
    "precision": lambda w: {"tau": pt.linalg.inv(CHOL @ CHOL.T) / w[:, None, None]},
}


def _total(spelling, weights, y=Y, x=X):
    cov = as_covariance(**SPELLINGS[spelling](pt.as_tensor(weights)))
    return gg.logp(y, pt.as_tensor(x) @ SLOPES, cov).sum()


def _expected(weights, y=Y, x=X):
    chol, slopes = POINT
    rows = zip(y, x @ slopes, weights, strict=True)
    return sum(multivariate_normal(mu, w * chol @ chol.T).logpdf(row) for row, mu, w in rows)


def _with_gradient(total, **kwargs):
    return interpreted([CHOL, SLOPES], [total, *pt.grad(total, [CHOL, SLOPES])], **kwargs)


def _primitives(function):
    nodes = function.maker.fgraph.apply_nodes
    return [n for n in nodes if isinstance(getattr(n.op, "core_op", n.op), InvQuadLogdet)]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_weighted_rows_become_few(spelling):
    few = _with_gradient(rewrite_pregrad(_total(spelling, WEIGHTS)))
    assert [node.inputs[0].type.shape for node in _primitives(few)] == [(N + P, N)]
    plain = _with_gradient(_total(spelling, WEIGHTS), mode=AS_WRITTEN)
    assert_allclose(few(*POINT)[0], _expected(WEIGHTS), rtol=1e-12)
    for ours, theirs in zip(few(*POINT), plain(*POINT), strict=True):
        assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_weights_in_data_containers(spelling):
    """They may change, in value and number, and become none."""
    weights, y, x = (pytensor.shared(v.copy()) for v in (WEIGHTS, Y, X))
    mark_data(weights, y, x)
    few = interpreted([CHOL, SLOPES], rewrite_pregrad(_total(spelling, weights, y, x)))
    for m in (M, 2 * M // 3):
        for container, values in ((weights, WEIGHTS[::-1]), (y, Y), (x, X)):
            container.set_value(values[:m])
        for _ in range(3):
            assert_allclose(few(*POINT), _expected(WEIGHTS[::-1][:m], Y[:m], X[:m]), rtol=1e-12)
    rows = {
        len(op._entries[0].outputs[-1])
        for op in (node.op for node in few.maker.fgraph.apply_nodes)
        if isinstance(op, Remembered) and len(op._entries[0].outputs) > 1
    }
    assert rows == {N + P}
    for none in (0.0, -1.0, np.inf, np.nan):
        weights.get_value(borrow=True)[3] = none
        for _ in range(3):
            assert few(*POINT) == -np.inf


@pytest.mark.parametrize("none", [0.0, -1.0, np.inf, np.nan])
def test_weights_that_are_none(none):
    """As the covariances that they make."""
    weights = np.where(np.arange(M) == 3, none, WEIGHTS)
    for spelling in ("covariance", "factor"):
        total = rewrite_pregrad(_total(spelling, weights))
        assert interpreted([CHOL, SLOPES], total)(*POINT) == -np.inf


def test_means_that_are_not_linear_share_the_factorisation():
    weights = WEIGHTS[:, None, None]
    cov = gg.cov.Dense(weights * (CHOL @ CHOL.T))
    total = gg.logp(Y, pt.tanh(X @ SLOPES), cov).sum()
    function, plain = _with_gradient(rewrite_pregrad(total)), _with_gradient(total, mode=AS_WRITTEN)
    assert [node.inputs[1].type.ndim for node in _primitives(function)] == [2]
    for ours, theirs in zip(function(*POINT), plain(*POINT), strict=True):
        assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_other_batches_stay():
    """Weights that are parameters, that vary by entry, covariances of rows that are repeated."""
    free = pt.vector("free", shape=(M,))
    one = free[:, None, None] * np.eye(N)
    two = pt.as_tensor(RNG.uniform(1, 2, (M, N, 1))) * np.eye(N)
    three = pt.as_tensor(WEIGHTS[:, None, None]) * np.eye(N)
    for cov, y in ((one, Y), (two, Y), (three, Y[:1]), (three, Y[0])):
        total = gg.logp(y, 0.0, cov)
        function = interpreted([free], [total.sum(), total], on_unused_input="ignore")
        value, rows = function(WEIGHTS)
        assert_allclose(value, rows.sum(), rtol=1e-12)
        assert all(node.inputs[1].type.ndim == 3 for node in _primitives(function))


def test_a_model_with_weights_has_rows_and_few_rows():
    with pm.Model() as model:
        chol, *_ = pm.LKJCholeskyCov("chol", eta=2, n=N, sd_dist=pm.Exponential.dist(1.0))
        mean = pm.Normal("mean", shape=N)
        factor = np.sqrt(WEIGHTS)[:, None, None]
        gg.MvNormal("y", mean, chol=factor * chol, observed=pm.Data("data", Y))
    logp = model.compile_logp(vars=model["y"], mode=interpreted([], []).maker.mode)
    [rows] = model.logp(vars=[model["y"]], sum=False)
    point = model.initial_point()
    by_row = model.compile_fn(rows, inputs=model.value_vars, mode=logp.f.maker.mode)(point)
    assert by_row.shape == (M,)
    for _ in range(3):
        assert_allclose(logp(point), by_row.sum(), rtol=1e-12)
