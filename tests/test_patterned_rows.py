"""Rows that miss different entries of a covariance of few: one factor for each pattern."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import BACKENDS, interpreted, positive_definite
from scipy.stats import multivariate_normal

import pm_gaussgrad as gg
from pm_gaussgrad.ops.patterned_rows import PatternedRows, PatternedRowsPullback

N, M = 4, 9
NAN = np.nan


def _panel(rng, n=N, m=M):
    """Rows of which one has nothing, one everything, and some the same."""
    y = rng.normal(size=(m, n))
    y[rng.random(size=y.shape) < 0.3] = NAN
    y[0], y[1], y[2] = NAN, rng.normal(size=n), np.where(np.isnan(y[3]), NAN, 0.4)
    return y


def _row_densities(y, mu, matrix):
    observed = ~np.isnan(y)
    return np.array(
        [
            multivariate_normal(mu[o], matrix[np.ix_(o, o)]).logpdf(row[o]) if o.any() else 0.0
            for row, o in zip(y, observed, strict=True)
        ]
    )


def _has_the_op(function):
    return any(isinstance(n.op, PatternedRows) for n in function.maker.fgraph.apply_nodes)


@pytest.mark.parametrize("backend", BACKENDS)
def test_against_scipy_and_differences(backend, rng):
    y, weights = _panel(rng), rng.uniform(0.5, 1.5, size=M)
    mu, matrix = pt.vector("mu", shape=(N,)), pt.matrix("matrix", shape=(N, N))
    logp = gg.logp(y, mu, matrix)
    outputs = [logp, *pt.grad((weights * logp).sum(), [mu, matrix])]
    function = pytensor.function([mu, matrix], outputs, mode=BACKENDS[backend])
    assert _has_the_op(function)
    at = rng.normal(size=N), positive_definite(rng, N)
    value, of_mu, of_matrix = map(np.asarray, function(*at))
    assert_allclose(value, _row_densities(y, *at), rtol=1e-11)
    directions = rng.normal(size=N), positive_definite(rng, N)
    step, slope = 1e-5, 0.0
    for times, factor in ((1, 8), (2, -1)):  # of fourth order
        for sign in (1, -1):
            moved = [x + sign * times * step * d for x, d in zip(at, directions, strict=True)]
            slope += sign * factor * (weights @ _row_densities(y, *moved)) / (12 * step)
    assert_allclose(of_mu @ directions[0] + (of_matrix * directions[1]).sum(), slope, rtol=1e-8)


def test_wide_panel_is_the_long_table(rng):
    """One row a subject with NaN, or one row an observation of ``RepeatedMeasures``."""
    y = _panel(rng, 5, 40)
    subject, visit = np.nonzero(~np.isnan(y))
    within, mu = pt.matrix("within", shape=(5, 5)), pt.vector("mu", shape=(5,))
    long = gg.logp(y[subject, visit], mu[visit], gg.cov.RepeatedMeasures(within, subject, visit))
    both = [gg.logp(y, mu, within).sum(), long]
    outputs = [x for logp in both for x in (logp, *pt.grad(logp, [mu, within]))]
    got = interpreted([mu, within], outputs)(rng.normal(size=5), positive_definite(rng, 5))
    for wide, of_long in zip(got[:3], got[3:], strict=True):
        assert_allclose(wide, of_long, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("n", [32, 33])
def test_many_entries_are_solved_for(n, rng):
    """A factor for each pattern costs n^3, whatever the structure."""
    y = _panel(rng, n, 4)
    variance = pt.scalar("variance")
    function = interpreted([variance], gg.logp(y, 0.0, gg.cov.AR1(variance, 0.6)))
    assert _has_the_op(function) == (n <= 32)
    matrix = 1.3 * 0.6 ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    assert_allclose(function(1.3), _row_densities(y, np.zeros(n), matrix), rtol=1e-11)


def test_rows_are_rejected_by_their_own_submatrix():
    """Indefinite, but not where the third entry is missing."""
    y = np.array([[0.3, -0.2, NAN], [NAN, 0.1, 0.4], [0.5, NAN, NAN]])
    matrix = pt.matrix("matrix", shape=(3, 3))
    logp = gg.logp(y, 0.0, matrix)
    indefinite = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 3.0], [0.1, 3.0, 1.0]])
    for backend in ("py", "jax"):
        finite = pt.switch(pt.isinf(logp), 0, logp).sum()
        function = pytensor.function(
            [matrix], [logp, pt.grad(finite, matrix)], mode=BACKENDS[backend]
        )
        value, slope = map(np.asarray, function(indefinite))
        assert_allclose(value[::2], _row_densities(y[::2], np.zeros(3), indefinite), rtol=1e-12)
        assert value[1] == -np.inf
        assert np.isfinite(slope).all()
        assert (slope[:2, :2] != 0).all()
        assert (slope[2] == 0).all()


def test_a_row_that_overflows_leaves_the_others_alone(rng):
    y = _panel(rng)
    y[1, 2] = 1e200
    matrix = pt.matrix("matrix", shape=(N, N))
    logp = gg.logp(y, 0.0, matrix)
    weighted = pt.switch(pt.isinf(logp), 0, logp).sum()
    at = positive_definite(rng, N)
    value, slope = interpreted([matrix], [logp, pt.grad(weighted, matrix)])(at)
    others = np.arange(M) != 1
    alone = gg.logp(y[others], 0.0, matrix)
    expected = interpreted([matrix], [alone, pt.grad(alone.sum(), matrix)])(at)
    assert value[1] == -np.inf
    assert_allclose(value[others], expected[0], rtol=1e-13)
    assert_allclose(slope, expected[1], rtol=1e-12)


@pytest.mark.compiled
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled_for_any_layout_and_precision(dtype, rng):
    entries, pattern = np.array([[0, 2, 3], [1, -1, -1]]), np.array([0, 1, 0])
    rows, matrix = rng.normal(size=(3, N)), positive_definite(rng, N)
    bars = rng.normal(size=(2, 3))

    def results(rows, matrix, bars):
        outputs = PatternedRows().evaluate(rows, matrix, entries, pattern)
        pull = PatternedRowsPullback()
        return *outputs, *pull.evaluate(entries, pattern, *outputs[2:], bars[0], bars[1])

    expected = results(rows, matrix, bars)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    for view in (np.asfortranarray, lambda x: np.repeat(x, 2, axis=-1)[..., ::2]):
        got = results(*(view(x.astype(dtype)) for x in (rows, matrix, bars)))
        for a, b in zip(got, expected, strict=True):
            assert a.dtype == dtype
            assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_jax_differentiates_it(rng):
    """Samplers on JAX take the gradient of the JAX form, through alpha, too."""
    import jax
    from pymc.sampling.jax import get_jaxified_graph

    y = _panel(rng)
    free = pt.tensor("free", shape=(N, N), dtype="float64")
    cov = gg.cov.Dense(free @ free.T + np.eye(N))
    alpha = PatternedRows()(
        np.nan_to_num(y), cov.to_dense(), np.array([[0, 1, 2], [1, 3, -1]]), np.arange(M) % 2
    )[2]
    value = gg.logp(y, 0.0, cov).sum() + (alpha**2).sum()
    at = rng.normal(size=(N, N))
    function = get_jaxified_graph([free], [value])
    got = jax.grad(lambda x: function(x)[0])(at)
    assert_allclose(got, interpreted([free], pt.grad(value, free))(at), rtol=1e-9, atol=1e-10)


def test_by_rows_of_shared_data_and_other_shapes(rng):
    """In a model with dims, of data that are replaced, and of a panel of panels."""
    y = _panel(rng)
    data = pytensor.shared(y)
    with pm.Model(coords={"subject": range(M), "visit": range(N)}) as model:
        scale = pm.HalfNormal("scale")
        cov = scale**2 * (0.5 * np.eye(N) + 0.5)
        gg.MvNormal("y", 0.0, cov, observed=data, dims=("subject", "visit"))
    logp = model.compile_logp()
    at = {"scale_log__": np.log(0.8)}
    prior = pm.logp(pm.HalfNormal.dist(), 0.8).eval() + np.log(0.8)
    matrix = 0.64 * (0.5 * np.eye(N) + 0.5)
    expected = _row_densities(y, np.zeros(N), matrix)
    assert_allclose(logp(at), prior + expected.sum(), rtol=1e-11)
    data.set_value(2 * y)
    doubled = _row_densities(2 * y, np.zeros(N), matrix).sum()
    assert_allclose(logp(at), prior + doubled, rtol=1e-11)
    stacked = gg.logp(y.reshape(3, 3, N), 0.0, matrix)
    assert_allclose(interpreted([], stacked)(), expected.reshape(3, 3), rtol=1e-11)
