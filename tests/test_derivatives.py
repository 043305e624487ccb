"""Derivatives by variables that are themselves computed: first to third, reverse and forward mode.

A pullback that hands out cotangents of copies of its inputs is right for first derivatives and for
all by root variables; by a computed variable the next derivative then is silently zero, and the
Gaussian part of a sum is dropped.
"""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pytensor.gradient import hessian, jacobian, pushforward, verify_grad
from registry import AS_WRITTEN, CASES, INTERPRETED, each, is_index

import pm_gaussgrad as gg
from pm_gaussgrad.cov import marginal

N = 4
WITH_GAPS = np.array([0.3, np.nan, -1.1, 0.7])
ROWS = {
    "whole": np.array([0.3, 0.4, -1.1, 0.7]),
    "gaps": WITH_GAPS,
    "rows that differ": np.stack([WITH_GAPS, WITH_GAPS[::-1], [np.nan] * 4]),
}


def _scaled(case, rng, w):
    """The structure with every parameter that has a gradient w times as large."""
    constants = [pt.constant(x) for x in case.values(rng, N)]
    free = case.differentiable(constants)
    cov = case.build(N, *(x * w if x in free else x for x in constants))
    return cov.structure.from_parameters(*cov.parameters, size=N)


def _dense_terms(cov, data, mu):
    """Of each row that has observations: quad, logdet and their number, by PyTensor's own Ops."""
    for row in np.atleast_2d(data):
        observed = np.flatnonzero(~np.isnan(row))
        if observed.size:
            dense = cov.to_dense()[observed, :][:, observed]
            factor = pt.linalg.cholesky((dense + dense.mT) / 2)
            residual = row[observed] - mu[observed]
            white = pt.linalg.solve_triangular(factor, residual, lower=True, b_ndim=1)
            yield (white**2).sum(), 2 * pt.log(pt.diagonal(factor)).sum(), observed.size


@each(CASES)
@pytest.mark.parametrize("rows", ROWS)
def test_by_a_computed_variable(case, rows, python_linker, rng):
    """w = exp(t) scales the parameters; every derivative is by w."""
    t = pt.dscalar("t")
    w = pt.exp(t)
    cov, data = _scaled(case, rng, w), ROWS[rows]
    mu = 0.1 * np.arange(N)
    value = gg.logp(data, mu, cov).sum() + gg.student_t_logp(data, 3.0, mu, cov).sum()
    twin = 0
    for quad, logdet, n in _dense_terms(cov, data, mu):
        twin += -0.5 * (quad + logdet + n * np.log(2 * np.pi))
        twin += pt.gammaln((3 + n) / 2) - pt.gammaln(1.5) - n / 2 * np.log(3 * np.pi)
        twin += -0.5 * logdet - (3 + n) / 2 * pt.log1p(quad / 3)
    got, expected = (_derivatives(f + w**4, w) for f in (value, twin))
    function = pytensor.function([t], got + expected, mode=AS_WRITTEN)
    numbers = np.array(function(0.05))
    assert_allclose(numbers[: len(got)], numbers[len(got) :], rtol=1e-8)


def _derivatives(f, w):
    first = pt.grad(f, w)
    second = pt.grad(first, w)
    one = pt.ones_like(w)
    return [first, second, pt.grad(second, w), pushforward(f, w, one), pushforward(first, w, one)]


@each(CASES)
@pytest.mark.parametrize("gaps", [False, True])
def test_quad_logdet_and_solve_by_a_computed_variable(case, gaps, python_linker, rng):
    t = pt.dscalar("t")
    w = pt.exp(t)
    cov = _scaled(case, rng, w)
    cov = marginal(cov, [0, 2, 3]) if gaps else cov
    dense = cov.to_dense()
    rows, weights = (rng.normal(size=(2, 3 if gaps else N)) for _ in range(2))
    # The residual depends on the same variable.
    residual = rows * w
    quad, logdet = cov.quad_logdet(residual)
    solved = pt.linalg.solve((dense + dense.mT) / 2, residual.T).T
    factor = pt.linalg.cholesky((dense + dense.mT) / 2)
    pairs = [
        (quad.sum(), (solved * residual).sum()),
        (logdet.sum(), 2 * pt.log(pt.diagonal(factor)).sum()),
        ((cov.solve(residual) * weights).sum(), (solved * weights).sum()),
    ]
    got, expected = (
        [d for pair in pairs for d in _derivatives(pair[side] + w**4, w)] for side in (0, 1)
    )
    numbers = np.array(pytensor.function([t], got + expected, mode=AS_WRITTEN)(0.05))
    assert_allclose(numbers[: len(got)], numbers[len(got) :], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("rows", ROWS)
def test_hessian_and_jacobian_by_a_computed_mean(rows, python_linker):
    """Loops over the entries of z = 2 x, a whole vector."""
    x, data = pt.dvector("x"), ROWS[rows]
    z = 2 * x
    cov = np.eye(N) + 0.4
    logp = gg.logp(data, z, cov).sum()
    present = [np.flatnonzero(~np.isnan(row)) for row in np.atleast_2d(data)]
    information = np.zeros((N, N))
    for observed in present:
        block = np.ix_(observed, observed)
        information[block] += np.linalg.inv(cov[block])
    tangent = np.array([0.5, -1.0, 2.0, 0.3])
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        outputs = [
            hessian(logp + (z**3).sum(), z),
            jacobian(pt.grad(logp, z), z),
            pushforward(pt.grad(logp, z), z, pt.constant(tangent)),
        ]
        whole, of_gradient, product = pytensor.function([x], outputs)(np.arange(4.0))
    cubic = np.diag(12 * np.arange(4.0))
    assert_allclose(whole, cubic - information, rtol=1e-10, atol=1e-12)
    assert_allclose(of_gradient, -information, rtol=1e-10, atol=1e-12)
    assert_allclose(product, -information @ tangent, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["AR1", "LowRankPlusDiagonal", "Marginal"])
def test_verify_grad(name, rng):
    """PyTensor's own check by differences, of the density and of a solve."""
    [case] = [c for c in CASES if c.name == name]
    values = case.values(rng, N)
    index = {i: pt.constant(x) for i, x in enumerate(values) if is_index(x)}

    def build(*free):
        remaining = iter(free)
        return case.build(
            N, *(index[i] if i in index else 1.0 * next(remaining) for i in range(len(values)))
        )

    def density(residual, *free):
        return build(*free).logp(2 * residual).sum()

    def solve(residual, *free):
        return build(*free).solve(2 * residual)

    point = [rng.normal(size=(2, N)), *(x for x in values if not is_index(x))]
    for f in (density, solve):
        verify_grad(f, point, rng=rng, mode=INTERPRETED)


@each(CASES)
def test_solve_gradient_with_gaps_at_any_scale(case, python_linker, rng):
    """Residual and cotangent as unequal as 1e12: the gradient of their product stays as it is."""
    parameters = case.tensors(n=N)
    cov = marginal(case.build(N, *parameters), [0, 2, 3])
    residual, weights = pt.dmatrices("residual", "weights")
    free = case.differentiable(parameters)
    gradient = pt.grad((cov.solve(residual) * weights).sum(), free)
    dense = cov.to_dense()
    solved = pt.linalg.solve((dense + dense.mT) / 2, residual.T).T
    twin = pt.grad((solved * weights).sum(), free)
    function = pytensor.function(
        [residual, weights, *parameters], gradient + twin, mode=AS_WRITTEN, on_unused_input="ignore"
    )
    values = case.values(rng, N)
    rows, cotangents = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    expected = function(rows, cotangents, *values)
    for got, by_twin in zip(expected, expected[len(free) :], strict=False):
        assert_allclose(got, by_twin, rtol=1e-10, atol=1e-10)
    for scale in (1e-12, 1e-4, 1e8, 1e12):
        unequal = function(rows * scale, cotangents / scale, *values)
        for got, same in zip(unequal[: len(free)], expected, strict=False):
            assert_allclose(got, same, rtol=1e-12, atol=1e-12 * np.abs(same).max())
