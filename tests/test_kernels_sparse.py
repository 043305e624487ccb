"""The sparse kernels piece by piece, interpreted, against dense matrices and SuperLU."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sparse_patterns import (
    band,
    crossed,
    definite,
    lattice,
    lower_triangle,
    patterns,
    pedigree,
    shuffled,
    star,
    superlu_fill,
    tree,
    twice,
)

from pm_gaussgrad.kernels import lapack_panels
from pm_gaussgrad.kernels.sparse import layout, panels
from pm_gaussgrad.kernels.sparse.analysis import analyse, as_written
from pm_gaussgrad.kernels.sparse.elimination_tree import (
    adjacency,
    column_counts,
    elimination_tree,
    inverse_permutation,
    linked_children,
    postorder,
)
from pm_gaussgrad.kernels.sparse.factorise import factorise, log_determinant
from pm_gaussgrad.kernels.sparse.layout import section
from pm_gaussgrad.kernels.sparse.minimum_degree import minimum_degree
from pm_gaussgrad.kernels.sparse.products import multiply, outer_products
from pm_gaussgrad.kernels.sparse.selected_inverse import selected_inverse
from pm_gaussgrad.kernels.sparse.solve import (
    multiply_root,
    multiply_root_transposed,
    solve,
    solve_root,
    solve_root_transposed,
)

KINDS = list(patterns(np.random.default_rng(0)))


@pytest.fixture(params=KINDS)
def matrix(request, rng):
    return definite(patterns(rng)[request.param], rng)


def dense_factor(matrix, order):
    return np.linalg.cholesky(matrix.toarray()[np.ix_(order, order)])


def factor_as_matrix(factor, analysis):
    """L (n, n), and where it has a place in the panels."""
    n = analysis[layout.NODES]
    lower, stored = np.zeros((n, n)), np.zeros((n, n), bool)
    first, rows = section(analysis, layout.FIRST), section(analysis, layout.ROWS)
    row_start = section(analysis, layout.ROW_START)
    for s, start in enumerate(section(analysis, layout.PANEL_START)[:-1]):
        own = np.arange(first[s], first[s + 1])
        below = np.concatenate([own, rows[row_start[s] : row_start[s + 1]]])
        panel = factor[start : start + own.size * below.size].reshape(own.size, below.size)
        lower[np.ix_(below, own)] = panel.T
        stored[np.ix_(below, own)] = True
    return np.tril(lower), stored


def test_order_is_a_permutation_that_fills_little(matrix):
    _, indptr, indices = lower_triangle(matrix)
    order = minimum_degree(*adjacency(indptr, indices))
    assert_array_equal(np.sort(order), np.arange(matrix.shape[0]))
    if order.size > 0:
        assert _fill(matrix) <= 1.1 * superlu_fill(matrix) + 3


def test_dense_nodes_come_last(rng):
    """Where they are many: those of a star with more rays than ten times the root of n."""
    n, centres = 300, 2
    start, neighbours = adjacency(*lower_triangle(star(n, centres))[1:])
    order = minimum_degree(start, neighbours)
    assert set(order[-centres:]) == set(range(centres))


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: lattice(24, 24),
        lambda rng: shuffled(lattice(24, 24), rng),
        lambda rng: lattice(16, 16, corners=True),
        lambda rng: twice(lattice(14, 14)),
        lambda rng: tree(300, rng),
        lambda rng: shuffled(band(300, 2), rng),
        lambda rng: crossed(60, 25, 200, rng),
        lambda rng: pedigree(150, 30, rng),
    ],
)
def test_fill(make, rng):
    """The other direction of a permutation is right as well, with 1.3 to 25 times the fill."""
    pattern = make(rng)
    assert _fill(pattern) <= 1.1 * superlu_fill(definite(pattern, rng))


def _fill(pattern):
    _, indptr, indices = lower_triangle(pattern)
    start, neighbours = adjacency(indptr, indices)
    order = minimum_degree(start, neighbours)
    rank = inverse_permutation(order)
    parent = elimination_tree(start, neighbours, order, rank)
    return column_counts(start, neighbours, order, rank, parent).sum()


def test_elimination_tree_and_counts(matrix, rng):
    """Of a dense factor without cancellation, in any order, and in postorder."""
    _, indptr, indices = lower_triangle(matrix)
    start, neighbours = adjacency(indptr, indices)
    order = rng.permutation(matrix.shape[0])
    for _ in range(2):
        filled = np.abs(np.tril(dense_factor(matrix, order))) > 0
        rank = inverse_permutation(order)
        parent = elimination_tree(start, neighbours, order, rank)
        expected = [
            next(iter(np.flatnonzero(c[j + 1 :]) + j + 1), -1) for j, c in enumerate(filled.T)
        ]
        assert_array_equal(parent, np.array(expected, np.int64))
        counts = column_counts(start, neighbours, order, rank, parent)
        assert_array_equal(counts, filled.sum(axis=0))
        sequence = postorder(parent, *linked_children(parent, np.arange(order.size)))
        assert_array_equal(np.sort(sequence), np.arange(order.size))
        order = order[sequence]


def test_analysis(matrix):
    """Sections fit together: every entry of the factor has a place, and those of the matrix."""
    values, indptr, indices = lower_triangle(matrix)
    analysis = analyse(indptr, indices)
    assert analysis.dtype == np.int64
    assert analysis[layout.END] == analysis.size
    order = section(analysis, layout.ORDER)
    factor = np.zeros(analysis[layout.FACTOR_SIZE])
    entry_start, entry = section(analysis, layout.ENTRY_START), section(analysis, layout.ENTRY)
    for s, start in enumerate(section(analysis, layout.PANEL_START)[:-1]):
        at = slice(entry_start[s], entry_start[s + 1])
        factor[start + section(analysis, layout.PLACE)[at]] = values[entry[at]]
    lower, stored = factor_as_matrix(factor, analysis)
    expected = matrix.toarray()[np.ix_(order, order)]
    assert_allclose(lower, np.tril(expected))
    assert stored[np.abs(dense_factor(matrix, order)) > 0].all()


def test_analysis_in_a_given_order(rng):
    matrix = definite(lattice(12, 12), rng)
    values, indptr, indices = lower_triangle(matrix)
    order = rng.permutation(144)
    analysis = analyse(indptr, indices, as_written, order)
    assert analysis[layout.FACTOR_SIZE] > analyse(indptr, indices)[layout.FACTOR_SIZE]
    got = log_determinant(factorise(values, analysis), analysis)
    assert_allclose(got, np.linalg.slogdet(matrix.toarray())[1], rtol=1e-12)


def test_factor(matrix):
    values, indptr, indices = lower_triangle(matrix)
    analysis = analyse(indptr, indices)
    factor = factorise(values, analysis)
    lower, _ = factor_as_matrix(factor, analysis)
    expected = dense_factor(matrix, section(analysis, layout.ORDER))
    assert_allclose(lower, expected, rtol=1e-10, atol=1e-13)
    assert_allclose(
        log_determinant(factor, analysis), np.linalg.slogdet(matrix.toarray())[1], atol=1e-12
    )


@pytest.mark.parametrize("m", [0, 1, 3])
def test_solves_and_products(matrix, m, rng):
    values, indptr, indices = lower_triangle(matrix)
    n, dense = matrix.shape[0], matrix.toarray()
    analysis, rows = analyse(indptr, indices), rng.normal(size=(m, n))
    factor, order = factorise(values, analysis), section(analysis, layout.ORDER)
    lower, kept = dense_factor(matrix, order), rows.copy()
    assert_allclose(solve(factor, analysis, rows), np.linalg.solve(dense, rows.T).T, atol=1e-11)
    half = solve_root(factor, analysis, rows)
    assert_allclose(half, np.linalg.solve(lower, rows[:, order].T).T, atol=1e-11)
    white = solve_root_transposed(factor, analysis, rows)
    assert_allclose(white[:, order], np.linalg.solve(lower.T, rows.T).T, atol=1e-11)
    assert_allclose(multiply_root(factor, analysis, half), rows, atol=1e-11)
    assert_allclose(multiply_root_transposed(factor, analysis, white), rows, atol=1e-11)
    assert_allclose(multiply(values, indptr, indices, rows), rows @ dense, atol=1e-12)
    assert_array_equal(rows, kept)


def test_outer_products_on_the_pattern(matrix, rng):
    """A row without weight may be anything."""
    _, indptr, indices = lower_triangle(matrix)
    rows, weights = rng.normal(size=(3, matrix.shape[0])), np.array([0.7, 0, -2.0])
    columns = np.repeat(np.arange(matrix.shape[0]), np.diff(indptr))
    expected = ((rows.T * weights) @ rows)[indices, columns]
    rows[1] = np.nan
    assert_allclose(outer_products(rows, weights, indptr, indices), expected, atol=1e-13)


def test_draws_have_the_inverse_as_covariance(matrix):
    values, indptr, indices = lower_triangle(matrix)
    analysis = analyse(indptr, indices)
    factor = factorise(values, analysis)
    roots = solve_root_transposed(factor, analysis, np.eye(matrix.shape[0]))
    assert_allclose(roots.T @ roots, np.linalg.inv(matrix.toarray()), rtol=1e-9, atol=1e-11)


def test_selected_inverse(matrix):
    values, indptr, indices = lower_triangle(matrix)
    analysis = analyse(indptr, indices)
    found = selected_inverse(factorise(values, analysis), analysis)
    columns = np.repeat(np.arange(matrix.shape[0]), np.diff(indptr))
    expected = np.linalg.inv(matrix.toarray())[indices, columns]
    assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def _all_results(values, indptr, indices):
    analysis = analyse(indptr, indices)
    factor, rows = factorise(values, analysis), np.ones((2, indptr.size - 1))
    functions = (solve, solve_root, solve_root_transposed, multiply_root, multiply_root_transposed)
    return [
        factor,
        log_determinant(factor, analysis),
        selected_inverse(factor, analysis),
        *(function(factor, analysis, rows) for function in functions),
    ]


@pytest.mark.parametrize("kind", ["diagonal", "tree", "mesh", "disconnected", "star", "full"])
@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf, "indefinite"])
def test_not_positive_definite_is_nan_throughout(kind, spoilt, rng):
    """Also the parts that do not meet the entry at fault."""
    matrix = definite(patterns(rng)[kind], rng)
    n = matrix.shape[0]
    if spoilt == "indefinite":
        least = np.linalg.eigvalsh(matrix.toarray())[0]
        values, indptr, indices = lower_triangle(matrix - 1.01 * least * sp.eye(n))
    else:
        values, indptr, indices = lower_triangle(matrix)
        values[rng.integers(values.size)] = spoilt
    with np.errstate(all="ignore"):
        for result in _all_results(values, indptr, indices):
            assert np.isnan(result).all()


def test_missing_diagonal_entries_are_zero():
    """Not positive definite, then; without a crash."""
    indptr, indices = np.array([0, 1, 1, 2]), np.array([1, 2])
    with np.errstate(all="ignore"):
        for result in _all_results(np.ones(2), indptr, indices):
            assert np.isnan(result).all()


@pytest.mark.parametrize("make", [lambda: lattice(9, 9), lambda: band(60, 1), lambda: band(60, 4)])
@pytest.mark.parametrize("units", [1e-40, 1.0, 1e40])
def test_singular_up_to_rounding_is_not_definite(make, units):
    """Of intrinsic autoregressions, in any units; a little noise makes them definite."""
    near = sp.csc_matrix(make())
    near.setdiag(0)
    near.eliminate_zeros()
    intrinsic = sp.diags_array(np.asarray(near.sum(axis=1)).ravel()) - near
    for noise, definite_too in ((0, False), (1e-15, False), (1e-9, True)):
        matrix = units * (intrinsic + noise * sp.eye(near.shape[0]))
        values, indptr, indices = lower_triangle(matrix)
        with np.errstate(all="ignore"):
            factor = factorise(values, analyse(indptr, indices))
        assert np.isfinite(factor).any() == definite_too


@pytest.mark.parametrize("columns", [1, 3, 12])
@pytest.mark.parametrize("below", [0, 1, 9])
def test_panels_by_loops_and_by_blas(columns, below, rng):
    """The same on both sides of the sizes from which BLAS is called."""
    height = columns + below
    square = rng.normal(size=(height, height))
    whole = square @ square.T + height * np.eye(height)
    panel, matrix = whole[:columns].copy(), whole[columns:, columns:].copy()
    flat, corner = panel.copy().ravel(), matrix.copy().ravel()
    assert lapack_panels.factor_panel(panel)
    lapack_panels.subtract_outer_product(panel, matrix)
    assert panels.factor_front(flat, columns, corner, below)
    upper = np.triu_indices(columns, m=height)
    assert_allclose(flat.reshape(columns, height)[upper], panel[upper], rtol=1e-10, atol=1e-12)
    assert_allclose(np.triu(corner.reshape(below, below)), np.triu(matrix), rtol=1e-9, atol=1e-12)
    inverse, memory = np.zeros((columns, height)), np.zeros((columns, below))
    rest = np.linalg.inv(whole)[columns:, columns:]
    lapack_panels.invert_panel(panel, inverse, memory)
    lapack_panels.extend_inverse(inverse, memory, rest)
    found = np.zeros(columns * height)
    panels.invert_front(flat, columns, rest.ravel(), below, found, np.zeros(columns * below))
    expected = np.linalg.inv(whole)[:columns]
    for result in (inverse, found.reshape(columns, height)):
        assert_allclose(result[upper], expected[upper], rtol=1e-8, atol=1e-12)
