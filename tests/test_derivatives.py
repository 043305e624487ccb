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
from pytensor.graph.basic import equal_computations
from pytensor.graph.replace import graph_replace
from registry import AS_WRITTEN, CASES, INTERPRETED, REPRESENTATIVES, each, is_index

import pm_gaussgrad as gg
from pm_gaussgrad.cov import marginal

N = 4
WITH_GAPS = np.array([0.3, np.nan, -1.1, 0.7])
ROWS = {
    "whole": np.array([0.3, 0.4, -1.1, 0.7]),
    "gaps": WITH_GAPS,
    "rows that differ": np.stack([WITH_GAPS, WITH_GAPS[::-1], [np.nan] * 4]),
}


def _scaled(case, w):
    """The structure with every parameter that has a gradient w times as large."""
    constants = [pt.constant(x) for x in case.values(np.random.default_rng(1), N)]
    free = case.differentiable(constants)
    cov = case.build(N, *(x * w if x in free else x for x in constants))
    return cov.structure.from_parameters(*cov.parameters, size=N)


def _named(*names):
    return each([case for case in CASES if case.name in names])


def _second(f, w, forward):
    """In reverse mode, and in forward mode of the first derivative."""
    first = pt.grad(f, w)
    reverse = pt.grad(first, w)
    return [reverse, pushforward(first, w, pt.ones_like(w))] if forward else [reverse]


def _is_the_same_by_a_computed_variable(function_of, forward=True):
    """Whether second derivatives by w = exp(t) are those by a root variable, with w in its place.

    Graphs are compared: nothing has to be compiled. What they evaluate to is tested below, and by
    root variables for every structure in ``test_op``.
    """
    root, w = pt.dscalar("root"), pt.exp(pt.dscalar("t"))
    by_root, by_computed = (_second(function_of(x) + x**4, x, forward) for x in (root, w))
    moved = graph_replace(by_root, {root: w})
    return equal_computations(moved, by_computed)


@each(CASES)
def test_density_by_a_computed_variable(case):
    """Forward mode is by pullbacks of the same pullbacks, so of one structure of each kind."""
    mu, data = 0.1 * np.arange(N), ROWS["whole"]
    assert _is_the_same_by_a_computed_variable(
        lambda w: gg.logp(data, w * mu, _scaled(case, w)).sum(), case.name in REPRESENTATIVES
    )


@pytest.mark.parametrize(("name", "rows"), [("AR1", "gaps"), ("Diagonal", "rows that differ")])
def test_density_with_gaps_by_a_computed_variable(name, rows):
    [case] = [c for c in CASES if c.name == name]
    assert _is_the_same_by_a_computed_variable(
        lambda w: gg.logp(ROWS[rows], 0.0, _scaled(case, w)).sum()
    )


@_named("Cholesky", "AR1", "BlockDiagonal")
def test_solve_by_a_computed_variable(case, rng):
    rows, weights = rng.normal(size=(2, N)), rng.normal(size=(2, N))
    assert _is_the_same_by_a_computed_variable(
        lambda w: (_scaled(case, w).solve(w * rows) * weights).sum()
    )


def test_student_by_a_computed_variable():
    [case] = [c for c in CASES if c.name == "Dense"]
    assert _is_the_same_by_a_computed_variable(
        lambda w: gg.student_t_logp(ROWS["whole"], 3 * w, 0.0, _scaled(case, w))
    )


@_named("Dense")
def test_values_by_a_computed_variable(case):
    """First to third derivatives, and forward mode, against PyTensor's own Ops."""
    t = pt.dscalar("t")
    w = pt.exp(t)
    cov, data = _scaled(case, w), ROWS["whole"]
    dense = cov.to_dense()
    factor = pt.linalg.cholesky((dense + dense.mT) / 2)
    white = pt.linalg.solve_triangular(factor, data, lower=True, b_ndim=1)
    twin = -0.5 * (white**2).sum() - pt.log(pt.diagonal(factor)).sum()
    one = pt.ones_like(w)
    got, expected = [], []
    for f, derivatives in ((gg.logp(data, 0.0, cov) + w**4, got), (twin + w**4, expected)):
        first = pt.grad(f, w)
        second = pt.grad(first, w)
        derivatives += [first, second, pt.grad(second, w)]
        derivatives += [pushforward(f, w, one), pushforward(first, w, one)]
    numbers = np.array(pytensor.function([t], got + expected, mode=AS_WRITTEN)(0.05))
    assert_allclose(numbers[: len(got)], numbers[len(got) :], rtol=1e-8)


def test_hessian_and_jacobian_by_a_computed_mean():
    """Loops over the entries of z = 2 x, a whole vector."""
    x, data = pt.dvector("x"), ROWS["gaps"]
    z = 2 * x
    cov = np.eye(N) + 0.4
    logp = gg.logp(data, z, cov).sum()
    observed = np.flatnonzero(~np.isnan(data))
    block = np.ix_(observed, observed)
    information = np.zeros((N, N))
    information[block] = np.linalg.inv(cov[block])
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


@_named("AR1", "Marginal")
def test_verify_grad(case, rng):
    """PyTensor's own check by differences, of the density and of a solve."""
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


@_named("AR1", "Eigenbasis", "Kronecker", "Precision")
def test_solve_gradient_with_gaps_at_any_scale(case, rng):
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
