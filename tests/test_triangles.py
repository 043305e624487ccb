"""Matrices of which one triangle is filled: value, gradient and all else are of the lower one.

A symmetric matrix has the same numbers by either of its triangles, and a symmetric gradient.
"""

import functools

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from registry import (
    AS_WRITTEN,
    BACKENDS,
    CASES,
    Case,
    each,
    gaps,
    interpreted,
    is_index,
    kronecker_factors,
    positive_definite,
    symmetric_part,
)

import pm_gaussgrad as gg
from pm_gaussgrad.cov.protocol.marginal import Marginal

MATRICES = [case for case in CASES if symmetric_part in case.tangents.values()] + [
    Case(
        "MarginalPrecision",
        lambda n, matrix, observed, missing: Marginal.of(
            gg.cov.Precision(matrix), observed, missing
        ),
        lambda rng, n: [positive_definite(rng, n + 2), *gaps(rng, n)],
        rejected=(-np.eye(4),),
        tangents={0: symmetric_part},
        fixed=frozenset({2}),
    ),
]
CASE = each(MATRICES)
N = 4


def _matrices(case):
    """Positions of the parameters that are symmetric matrices."""
    return sorted(i for i, project in case.tangents.items() if project is symmetric_part)


def _filled(case, values, rng, upper=0.0):
    """The same with something else in the upper triangles."""
    return [
        np.tril(v) + np.triu(upper * rng.normal(size=v.shape), 1) if i in _matrices(case) else v
        for i, v in enumerate(values)
    ]


@functools.cache
def _value_and_gradients(case, backend):
    rows, parameters = pt.matrix("rows"), case.tensors()
    value = case.build(N, *parameters).logp(rows).sum()
    wrt = [parameters[i] for i in _matrices(case)]
    return pytensor.function(
        [rows, *parameters], [value, *pt.grad(value, wrt)], mode=BACKENDS[backend]
    )


def _is_a_graph_of_parts(case, backend):
    """Those are tested themselves."""
    return backend == "jax" and case.name in ("BlockDiagonal", "MarginalPrecision")


# numba's linker runs the kernels of the first
@each(MATRICES, ["py", "jax"], unless=_is_a_graph_of_parts)
@pytest.mark.parametrize("upper", [0.0, 1.0, np.nan], ids=["zero", "other", "nan"])
def test_value_and_gradient_are_of_the_lower_triangle(case, backend, upper, rng):
    function = _value_and_gradients(case, backend)
    rows, values = rng.normal(size=(2, N)), case.values(rng, N)
    value, *gradients = function(rows, *values)
    filled = _filled(case, values, rng, upper)
    lower_value, *lower_gradients = function(rows, *filled)
    assert_allclose(lower_value, value, rtol=1e-12)
    for full, lower in zip(gradients, lower_gradients, strict=True):
        assert_allclose(full, full.T, rtol=1e-12, atol=1e-14)
        assert_allclose(lower, np.tril(full) + np.tril(full.T, -1), rtol=1e-10, atol=1e-12)


@CASE
def test_differences(case, rng):
    """The witness: fourth-order differences along directions within one triangle."""
    function = _value_and_gradients(case, "py")
    rows, values = rng.normal(size=(2, N)), _filled(case, case.values(rng, N), rng)
    gradients = function(rows, *values)[1:]
    for i, gradient in zip(_matrices(case), gradients, strict=True):
        for direction in (np.tril(rng.normal(size=gradient.shape)), np.triu(gradient + 1, 1)):

            def along(h, i=i, direction=direction):
                moved = [v + h * direction if j == i else v for j, v in enumerate(values)]
                return function(rows, *moved)[0]

            h = 1e-3
            difference = (8 * (along(h) - along(-h)) - along(2 * h) + along(-2 * h)) / (12 * h)
            assert_allclose((gradient * direction).sum(), difference, rtol=1e-7, atol=1e-7)


def _methods(cov, rows):
    outputs = {
        "to_dense": cov.to_dense(),
        "diagonal": cov.diagonal(),
        "inverse_diagonal": cov.inverse_diagonal(),
        "color": cov.color(rows),
        "whiten": cov.whiten(rows),
        "solve": cov.solve(rows),
        "logdet": cov.logdet(),
        "leave_one_out": pt.stack(cov.leave_one_out(rows)),
    }
    try:
        return outputs | {"innovations": pt.stack(cov.innovations(rows))}
    except NotImplementedError:
        return outputs


@CASE
def test_all_methods_see_the_lower_triangle(case, rng):
    rows, parameters = pt.matrix("rows"), case.tensors()
    outputs = _methods(case.build(N, *parameters), rows)
    function = interpreted([rows, *parameters], list(outputs.values()))
    residual, values = rng.normal(size=(2, N)), case.values(rng, N)
    filled = function(residual, *_filled(case, values, rng, upper=1.0))
    for name, a, b in zip(outputs, filled, function(residual, *values), strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-10, err_msg=name)


@CASE
def test_constants(case, rng):
    """Folded into a factor or not. Constructors refuse them; a graph may come to have them."""
    rows, values = rng.normal(size=(2, N)), case.values(rng, N)
    expected = _value_and_gradients(case, "py")(rows, *values)[0]
    filled = _filled(case, values, rng, upper=1.0)
    constants = [pt.constant(v, dtype=v.dtype if is_index(v) else "float64") for v in filled]
    cov = case.build(N, *case.tensors()).structure.from_parameters(*constants, size=N)
    residual = pt.matrix("residual")
    got, dense = interpreted([residual], [cov.logp(residual).sum(), cov.to_dense()])(rows)
    assert_allclose(got, expected, rtol=1e-12)
    assert_allclose(dense, dense.T, rtol=1e-12, atol=1e-14)


@each([c for c in MATRICES if c.name in ("Dense", "Kronecker", "RepeatedMeasures")])
def test_second_derivatives_and_information(case, rng):
    """Parameters that fill one triangle or both have one Hessian and one Fisher information."""
    theta = pt.dvector("theta")
    rows, values = rng.normal(size=(2, N)), case.values(rng, N)
    matrices = _matrices(case)
    directions = {i: 0.2 * symmetric_part(rng.normal(size=values[i].shape)) for i in matrices}

    def outputs(part):
        parameters = [
            part(v) + theta[0] * part(np.eye(len(v))) + theta[1] * part(directions[i])
            if i in matrices
            else pt.constant(v)
            for i, v in enumerate(values)
        ]
        cov = case.build(N, *parameters)
        gradient = pt.grad(cov.logp(rows).sum(), theta)
        hessian = [pt.grad(gradient[i], theta) for i in range(2)]
        mean = pt.zeros(N) * theta[0]
        return [gradient, pt.stack(hessian), gg.fisher_information(mean, cov, theta)]

    function = interpreted([theta], [*outputs(np.tril), *outputs(np.asarray)], mode=AS_WRITTEN)
    results = function(np.array([0.3, 0.7]))
    for one, both in zip(results[:3], results[3:], strict=True):
        assert_allclose(one, both, rtol=1e-9, atol=1e-9)


def test_rounding_is_no_asymmetry(rng):
    """A product that is symmetric up to rounding has the gradient of a symmetric matrix."""
    function = interpreted([matrix := pt.matrix("matrix")], _gradient(gg.logp, matrix))
    left = rng.normal(size=(30, 30))
    product = left @ np.diag(rng.uniform(1, 2, size=30)) @ left.T + np.eye(30)
    noise = 1 + 1e-16 * rng.integers(-4, 5, size=product.shape)
    gradient = function(product * noise)
    assert_array_equal(gradient, gradient.T)
    product[3, 7] += 1e-9
    assert_array_equal(np.triu(function(product), 1), 0)


def _gradient(logp, matrix):
    return pt.grad(logp(np.linspace(-1, 1, 30), 0.0, matrix), matrix)


def test_gradient_is_that_of_pymc(rng):
    """With respect to a plain matrix, of which PyMC differentiates the lower triangle."""
    y, matrix = rng.normal(size=N), pt.matrix("matrix")
    logps = [pm.logp(d.dist(np.zeros(N), cov=matrix), y) for d in (gg.MvNormal, pm.MvNormal)]
    function = interpreted([matrix], [pt.grad(logp, matrix) for logp in logps])
    got, expected = function(
        np.tril(positive_definite(rng, N)) + np.triu(rng.normal(size=(N, N)), 1)
    )
    assert_allclose(got, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("backend", ["numba", "jax"])
def test_intermediate_matrix(backend, rng):
    """Which the kernels may overwrite, in a model that fills one triangle."""
    theta = pt.dvector("theta")
    y = rng.normal(size=N)
    index = np.tril_indices(N, -1)

    def value(both):
        matrix = pt.eye(N) + pt.zeros((N, N))[index].set(theta)
        if both:
            matrix = matrix + pt.zeros((N, N))[index[::-1]].set(theta)
        return gg.logp(y, 0.0, matrix)

    outputs = [pt.grad(value(both), theta) for both in (False, True)]
    function = pytensor.function([theta], outputs, mode=BACKENDS[backend])
    one, both = function(rng.uniform(-0.2, 0.2, size=N * (N - 1) // 2))
    assert_allclose(one, both, rtol=1e-10)


def test_batches(rng):
    """Each matrix of a batch is judged by itself."""
    matrices, rows = pt.tensor3("matrices"), rng.normal(size=(3, 2))
    gradient = pt.grad(gg.cov.Dense(matrices).logp(rows[:, None]).sum(), matrices)
    symmetric = positive_definite(rng, 2)
    got = interpreted([matrices], gradient)(np.stack([symmetric, np.tril(symmetric)]))
    assert_allclose(got[0], got[0].T)
    assert_allclose(got[1], np.tril(got[0]) + np.tril(got[0].T, -1))


def test_kronecker_of_one_filled_factor(rng):
    """Flags are the factors' own."""
    case = next(c for c in MATRICES if c.name == "Kronecker")
    function = _value_and_gradients(case, "py")
    rows, (first, second) = rng.normal(size=(2, N)), kronecker_factors(rng, N)
    _, *expected = function(rows, first, second)
    _, *got = function(rows, first, np.tril(second))
    assert_allclose(got[0], expected[0], rtol=1e-12)
    assert_allclose(got[1], np.tril(expected[1]) + np.tril(expected[1].T, -1), rtol=1e-10)
