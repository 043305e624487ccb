"""The sparse kernels compiled: random patterns and values against dense matrices, and threads.

Two hundred cases run with the suite, a seed each. For thousands of others:

    RANDOM_CASES=10000 RANDOM_START=1000 pytest -n0 tests/test_kernels_sparse_random.py
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sparse_patterns import (
    crossed,
    definite,
    disconnected,
    lattice,
    lower_triangle,
    pedigree,
    random_pattern,
    star,
    tree,
    twice,
)
from test_kernels import compiled

from pm_gaussgrad.kernels.sparse import analysis as steps
from pm_gaussgrad.kernels.sparse import layout
from pm_gaussgrad.kernels.sparse.analysis import analyse
from pm_gaussgrad.kernels.sparse.factorise import factorise, log_determinant
from pm_gaussgrad.kernels.sparse.products import multiply, outer_products
from pm_gaussgrad.kernels.sparse.selected_inverse import selected_inverse
from pm_gaussgrad.kernels.sparse.solve import (
    multiply_root,
    multiply_root_transposed,
    solve,
    solve_root,
    solve_root_transposed,
)
from pm_gaussgrad.ops.compiled import compiled_function

pytestmark = pytest.mark.compiled

START, COUNT = (
    int(os.environ.get(name, d)) for name, d in (("RANDOM_START", 0), ("RANDOM_CASES", 200))
)
EPS = np.finfo(float).eps


def call(function, *arrays):
    return compiled_function(function)(*arrays)


def random_matrix(rng):
    """Positive definite, of any condition, in any units; and one that is not, and not finite."""
    matrix = definite(random_pattern(rng, 200), rng)
    identity = sp.eye(matrix.shape[0])
    least = np.linalg.eigvalsh(matrix.toarray())[0]
    indefinite = matrix - rng.uniform(1.1, 3) * least * identity
    if rng.integers(2):
        matrix = matrix - (1 - 10 ** rng.uniform(-7, 0)) * least * identity
    scale = 10 ** rng.uniform(-1, 1, matrix.shape[0] if rng.integers(2) else 1)
    scales = sp.diags_array(np.broadcast_to(scale, matrix.shape[0]))
    matrix, indefinite = (sp.csc_matrix(scales @ x @ scales) for x in (matrix, indefinite))
    spoilt, *_ = lower_triangle(indefinite)
    if rng.integers(2):
        spoilt, *_ = lower_triangle(matrix)
        spoilt[rng.integers(spoilt.size)] = rng.choice([np.nan, np.inf, -np.inf])
    return matrix, spoilt


def check(case):
    rng = np.random.default_rng(case)
    matrix, spoilt = random_matrix(rng)
    values, indptr, indices = lower_triangle(matrix)
    analysis = analyse(indptr, indices, compiled_function)
    dense, columns = matrix.toarray(), np.repeat(np.arange(matrix.shape[0]), np.diff(indptr))
    inverse, rows = np.linalg.inv(dense), rng.normal(size=(int(rng.integers(1, 5)), len(dense)))
    factor = call(factorise, values, analysis)
    bound = 100 * EPS * np.linalg.cond(dense)
    solved, logdet = rows @ inverse, np.linalg.slogdet(dense)[1]
    half = call(solve_root, factor, analysis, rows)
    results = [
        (call(log_determinant, factor, analysis), logdet),
        (call(solve, factor, analysis, rows), solved),
        ((half**2).sum(axis=1), (solved * rows).sum(axis=1)),
        (call(selected_inverse, factor, analysis), inverse[indices, columns]),
        (call(multiply, values, indptr, indices, rows), rows @ dense),
        (
            call(outer_products, rows, np.ones(len(rows)), indptr, indices),
            (rows.T @ rows)[indices, columns],
        ),
    ]
    for got, expected in results:
        assert np.max(np.abs(got - expected)) <= bound * (1 + np.max(np.abs(expected))), case
    with np.errstate(all="ignore"):
        nothing = call(factorise, spoilt, analysis)
    for function in (solve, solve_root, solve_root_transposed):
        assert np.isnan(call(function, nothing, analysis, rows)).all(), case
    assert np.isnan(call(selected_inverse, nothing, analysis)).all(), case
    assert np.isnan(call(log_determinant, nothing, analysis)), case


@pytest.mark.parametrize("block", range(START, START + COUNT, 100))
def test_random_patterns(block):
    """Within 100 eps times the condition number; what is not definite is NaN throughout."""
    for case in range(block, min(block + 100, START + COUNT)):
        check(case)


def large(rng):
    return [
        lattice(40, 35, corners=True),
        twice(lattice(30, 30)),
        crossed(250, 100, 1500, rng),
        pedigree(800, 200, rng),
        tree(1000, rng),
        disconnected(lattice(20, 20), star(300, 2), sp.eye(40)),
    ]


@pytest.mark.parametrize("kind", range(6))
def test_large_matrices(kind, rng):
    """Beyond the sizes from which BLAS is called, with and without supernodes."""
    matrix = definite(large(rng)[kind], rng)
    values, indptr, indices = lower_triangle(matrix)
    rows, n = rng.normal(size=(3, matrix.shape[0])), matrix.shape[0]
    analysis = analyse(indptr, indices, compiled_function)
    assert analysis[layout.SUPERNODAL] == (kind != 4)
    factor = call(factorise, values, analysis)
    lu = sp.linalg.splu(matrix, "MMD_AT_PLUS_A", 0.0, options={"SymmetricMode": True})
    logdet, inverse = np.log(lu.U.diagonal()).sum(), lu.solve(np.eye(n))
    np.testing.assert_allclose(call(log_determinant, factor, analysis), logdet, rtol=1e-12)
    np.testing.assert_allclose(call(solve, factor, analysis, rows), rows @ inverse, atol=1e-11)
    columns = np.repeat(np.arange(n), np.diff(indptr))
    found = call(selected_inverse, factor, analysis)
    np.testing.assert_allclose(found, inverse[indices, columns], rtol=1e-8, atol=1e-12)
    white = call(multiply_root_transposed, factor, analysis, rows)
    np.testing.assert_allclose((white**2).sum(axis=1), ((rows @ matrix) * rows).sum(axis=1))
    back = call(solve_root_transposed, factor, analysis, white)
    np.testing.assert_allclose(back, rows, rtol=1e-9, atol=1e-10)
    forth = call(multiply_root, factor, analysis, call(solve_root, factor, analysis, rows))
    np.testing.assert_allclose(forth, rows, rtol=1e-9, atol=1e-10)


def test_compiled_analysis_is_the_interpreted_one(rng, monkeypatch):
    """Also of patterns that are large enough to be compiled."""
    monkeypatch.setattr(steps, "_FEW_ENTRIES", 0)
    for pattern in [twice(lattice(9, 9)), star(40, 2), tree(60, rng), sp.csc_matrix((0, 0))]:
        _, indptr, indices = lower_triangle(pattern)
        assert_array_equal(analyse(indptr, indices, compiled_function), analyse(indptr, indices))


def test_threads_bit_for_bit(rng):
    """Four at a time, as one at a time."""
    matrix = definite(lattice(40, 35, corners=True), rng)
    values, indptr, indices = lower_triangle(matrix)
    analysis = analyse(indptr, indices, compiled_function)
    rows = rng.normal(size=(2, matrix.shape[0]))

    def chain(scale):
        factor = call(factorise, scale * values, analysis)
        solved = call(solve, factor, analysis, rows)
        return np.concatenate([solved.ravel(), call(selected_inverse, factor, analysis)])

    scales = np.linspace(1, 2, 8)
    alone = [chain(scale) for scale in scales]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(chain, scales), strict=True):
            assert_array_equal(one, other)


def _factored_twice(values, analysis):
    return factorise(values, analysis) + factorise(2 * values, analysis)


def test_long_functions_are_called_by_name(rng):
    """What calls them has no code of theirs."""
    values, indptr, indices = lower_triangle(definite(lattice(5, 5), rng))
    analysis = analyse(indptr, indices)
    function = compiled(_factored_twice)
    expected = (1 + np.sqrt(2)) * factorise(values, analysis)
    np.testing.assert_allclose(function(values, analysis), expected, rtol=1e-12, atol=1e-15)
    [code] = function.inspect_llvm().values()
    assert "_float641_int641" in code
    assert "potrf" not in code
