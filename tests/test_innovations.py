"""Each observation given those before it, and given all others, against the dense matrix."""

import functools

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import AS_WRITTEN, CASES, each, interpreted, is_index

import pm_gaussgrad as gg
from pm_gaussgrad.cov import marginal
from pm_gaussgrad.cov.protocol.gaps import MissingEntries
from pm_gaussgrad.ops import inverse_diagonal

# Eigenvectors and gaps mix observations: nothing but the dense factor is causal.
WITHOUT = {"Eigenbasis", "KroneckerPair", "Marginal", "NoisyKronecker"}
WITHOUT |= {"SparseCovariance", "SparseMarginal"}  # nor are they asked for
# The index data say in which order observations come, and must be known.
SEQUENTIAL = [case for case in CASES if case.name not in WITHOUT]


def dense_conditionals(covariance, residual, given):
    """(r_i - m_i) / s_i and log s_i given the observations ``given(i)``, by brute force."""
    standardised, log_scale = np.empty_like(residual), np.empty_like(residual)
    for i in range(residual.shape[-1]):
        others = given(i)
        weights = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, i])
        variance = covariance[i, i] - covariance[i, others] @ weights
        log_scale[..., i] = np.log(variance) / 2
        deviation = residual[..., i] - residual[..., others] @ weights
        standardised[..., i] = deviation / np.sqrt(variance)
    return standardised, log_scale


def others(n):
    return lambda i: np.delete(np.arange(n), i)


def tensors_of(case, values, batch_ndim=0, n=None):
    """Symbolic parameters; index data are the constants that they are in models."""
    free = case.tensors(batch_ndim, n=n)
    return [pt.constant(v) if is_index(v) else x for x, v in zip(free, values, strict=True)]


@functools.cache
def compiled(case, method, n, batch_ndim=0):
    """One function a structure and size, and its arguments; index data do not vary."""
    rng = np.random.default_rng(n)
    values = case.values(rng, n, (2,) * batch_ndim)
    tensors = tensors_of(case, values, batch_ndim)
    residual = pt.tensor("residual", shape=(None,) * (2 + batch_ndim))
    cov = case.build(n, *tensors)
    own = [x for x, v in zip(tensors, values, strict=True) if not is_index(v)]
    arguments = [v for v in values if not is_index(v)]
    dense = interpreted(own, cov.to_dense(), AS_WRITTEN)(*arguments)
    function = interpreted([residual, *own], [*getattr(cov, method)(residual), cov.logp(residual)])

    def evaluate(residual):
        *conditionals, logp = function(residual, *arguments)
        return *conditionals, dense, logp

    return evaluate


@each(CASES)
@pytest.mark.parametrize(("n", "rows"), [(6, 3), (6, 1), (1, 2), (2, 0)])
def test_leave_one_out(case, n, rows, rng):
    residual = rng.normal(size=(rows, n))
    *actual, dense, _ = compiled(case, "leave_one_out", n)(residual)
    for found, expected in zip(actual, dense_conditionals(dense, residual, others(n)), strict=True):
        assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@each(SEQUENTIAL)
@pytest.mark.parametrize(("n", "rows"), [(6, 3), (6, 1), (1, 2), (2, 0)])
def test_innovations(case, n, rows, rng):
    residual = rng.normal(size=(rows, n))
    *actual, dense, logp = compiled(case, "innovations", n)(residual)
    for found, expected in zip(actual, dense_conditionals(dense, residual, np.arange), strict=True):
        assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    densities = -(actual[0] ** 2) / 2 - np.log(2 * np.pi) / 2 - actual[1]
    assert_allclose(densities.sum(axis=-1), logp, rtol=1e-9)


OBSERVED = np.array([0, 1, 3, 5])


@functools.cache
def compiled_with_gaps(case):
    """Of 4 of 6 entries: common to all rows, and as one of two rows that differ."""
    n, values = 6, case.values(np.random.default_rng(6), 6)
    tensors = tensors_of(case, values, n=n)
    residual = pt.dmatrix("residual")
    cov = case.build(n, *tensors)
    by_row = MissingEntries(cov, pt.constant([[2, 4], [0, n]]), n)
    outputs = [
        *marginal(cov, OBSERVED).leave_one_out(residual[:, OBSERVED]),
        *by_row.leave_one_out(residual),
        cov.to_dense(),
    ]
    own = {x: v for x, v in zip(tensors, values, strict=True) if not is_index(v)}
    function = interpreted([residual, *own], outputs)
    return lambda residual: function(residual, *own.values())


@each(CASES)
def test_leave_one_out_with_gaps(case, rng):
    residual = rng.normal(size=(2, 6))
    *actual, dense = compiled_with_gaps(case)(residual)
    common, by_row = actual[:2], actual[2:]

    def expected(kept):
        inside = dense[np.ix_(kept, kept)]
        return dense_conditionals(inside, residual[:, kept], others(kept.size))

    for found, values in zip(common, expected(OBSERVED), strict=True):
        assert_allclose(found, values, rtol=1e-9, atol=1e-12)
    for row, kept in enumerate([OBSERVED, np.arange(1, 6)]):
        for found, values in zip(by_row, expected(kept), strict=True):
            assert_allclose(found[row, kept], values[row], rtol=1e-9, atol=1e-12)
            assert not np.delete(found[row], kept).any()


def _is_not_causal(case, method):
    return method == "innovations" and case.name in WITHOUT


@each(CASES, ["leave_one_out", "innovations"], "method", unless=_is_not_causal)
def test_batches_of_parameters(case, method, rng):
    """Parameters (2, ...) against residuals (3, 2, n)."""
    residual = rng.normal(size=(3, 2, 4))
    *actual, dense, _ = compiled(case, method, 4, 1)(residual)
    dense = np.broadcast_to(dense, (2, 4, 4))
    given = others(4) if method == "leave_one_out" else np.arange
    for b in range(2):
        expected = dense_conditionals(dense[b], residual[:, b], given)
        for found, values in zip(actual, expected, strict=True):
            assert_allclose(found[:, b], values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(WITHOUT))
def test_where_there_is_no_closed_form(name):
    [case] = [case for case in CASES if case.name == name]
    with pytest.raises(NotImplementedError, match=r"gg\.cov\.Dense\(cov\.to_dense\(\)\)"):
        case.build(4, *case.tensors()).innovations(pt.dvector())


def test_visits_in_any_order_of_the_table(rng):
    """Those before an observation are those above it in the table, not earlier visits."""
    within = np.array([[2.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 1.0]])
    cov = gg.cov.RepeatedMeasures(within, ["a", "b", "a", "a", "b"], [2, 1, 0, 1, 0])
    residual = rng.normal(size=5)
    actual = interpreted([], cov.innovations(residual))()
    dense = cov.to_dense().eval()
    for found, expected in zip(actual, dense_conditionals(dense, residual, np.arange), strict=True):
        assert_allclose(found, expected, rtol=1e-12)


def test_low_rank_with_tiny_noise(rng):
    """Square roots keep the variances positive, where their own update would lose them."""
    factor, noise = rng.normal(size=(40, 5)), 1e-12
    cov = gg.cov.LowRank(factor) + gg.cov.Diagonal(noise, size=40)
    log_scale = interpreted([], cov.innovations(np.zeros(40)))()[1]
    logdet = cov.logdet().eval()
    assert_allclose(2 * log_scale.sum(), logdet, rtol=1e-9)
    assert (log_scale >= np.log(noise) / 2).all()


@pytest.mark.parametrize("correlation", [1 - 1e-10, -1 / 6 + 1e-10, 0.0])
def test_compound_symmetry_at_its_limits(correlation, rng):
    residual = rng.normal(size=6)
    cov = gg.cov.CompoundSymmetry(2.0, correlation, size=6)
    white, log_scale = interpreted([], cov.innovations(residual))()
    quad, logdet = (x.eval() for x in cov.quad_logdet(residual))
    assert_allclose((white**2).sum(), quad, rtol=1e-5)
    assert_allclose(2 * log_scale.sum(), logdet, rtol=1e-9)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_gradient_of_the_inverse_diagonal(batch, rng):
    """Of a factor, against the same through the dense inverse; the upper triangle is not read."""
    values = np.tril(rng.normal(size=(*batch, 4, 4))) + 3 * np.eye(4)
    factor = pt.tensor("factor", shape=(*batch, None, None))
    lower, weights = pt.tril(factor), pt.as_tensor(np.arange(1.0, 5))
    twin = pt.diagonal(pt.linalg.inv(lower @ lower.mT), axis1=-2, axis2=-1)
    found = inverse_diagonal(factor)
    slopes = [pt.grad((weights * x).sum(), factor) for x in (found, twin)]
    outputs = interpreted([factor], [found, slopes[0], twin, slopes[1]])(values)
    assert_allclose(outputs[0], outputs[2], rtol=1e-10)
    assert_allclose(outputs[1], outputs[3], rtol=1e-9, atol=1e-12)
    with_upper = interpreted([factor], found)(values + np.triu(np.ones(4), 1))
    assert_allclose(with_upper, outputs[0])
