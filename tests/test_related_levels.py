"""``Effects`` whose levels are related by a known matrix: pedigrees, trees, kinship."""

import re

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose
from reference_cases import read_columns, read_json, read_matrix, require
from registry import AS_WRITTEN, BACKENDS, interpreted

import pm_gaussgrad as gg

# Two founders, their two children, a child of these, and an animal by itself.
LEVELS = np.array(["f", "m", "a", "b", "inbred", "stray"])
PARENTS = [(2, 0, 1), (3, 0, 1), (4, 2, 3)]
N = 7
ANIMAL = np.array(["a", "inbred", "b", "a", "stray", "inbred", "b"])
CODES = np.array([2, 4, 3, 2, 5, 4, 3])
DESIGN = np.column_stack([np.ones(N), np.linspace(-1, 2, N)])
G = np.array([[1.0, 0.4], [0.4, 0.5]])
NOISE = np.linspace(0.3, 1.2, N)


def relationship():
    """A, by the tabular method."""
    matrix = np.eye(6)
    for child, sire, dam in PARENTS:
        matrix[child, :child] = (matrix[sire, :child] + matrix[dam, :child]) / 2
        matrix[:child, child] = matrix[child, :child]
        matrix[child, child] = 1 + matrix[sire, dam] / 2
    return matrix


A = relationship()
INVERSE = np.where(np.abs(np.linalg.inv(A)) > 1e-12, np.linalg.inv(A), 0)


def animals(covariance=1.3, design=None, **related):
    related = related or {"precision": sp.csr_array(INVERSE), "levels": LEVELS}
    return gg.cov.Effects(ANIMAL, covariance, design, **related)


def by_definition(covariance, design=DESIGN):
    return A[np.ix_(CODES, CODES)] * (design @ covariance @ design.T)


def evaluated(*outputs):
    return interpreted([], list(outputs), AS_WRITTEN)()


ORDER = np.array([5, 2, 0, 4, 1, 3])
TABLE = pd.DataFrame(A, LEVELS, LEVELS).iloc[ORDER, ORDER]
SPELLINGS = {
    "precision": {"precision": INVERSE, "levels": LEVELS.tolist()},
    "relationship": {"relationship": A, "levels": LEVELS},
    "sparse relationship": {"relationship": sp.coo_array(A), "levels": pd.Index(LEVELS)},
    "table": {"relationship": TABLE},
    "table of the inverse": {"precision": pd.DataFrame(INVERSE, LEVELS, LEVELS)},
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_each_spelling_is_the_same(name):
    cov = animals(G, DESIGN, **SPELLINGS[name])
    dense, kept = evaluated(cov.to_dense(), cov.keep(np.array([1, 4])).to_dense())
    assert_allclose(dense, by_definition(G), rtol=1e-12, atol=1e-13)
    assert_allclose(kept, by_definition(G)[np.ix_([1, 4], [1, 4])], rtol=1e-12, atol=1e-13)


def test_numbers_are_rows():
    numbered = gg.cov.Effects(CODES, 1.3, precision=INVERSE), animals()
    assert_allclose(*evaluated(*(x.to_dense() for x in numbered)), rtol=1e-13)


def test_members(rng):
    """Crossed with others, beside a field: products, draws, roots, leave-one-out."""
    item, walk = np.arange(N) % 3, gg.cov.AR1(1.0, 0.5)
    seen = np.eye(N, 4)
    latent = animals(G, DESIGN) + gg.cov.Effects(item, 0.6) + gg.cov.Projected(seen, walk)
    cov, rows = latent + gg.cov.Diagonal(NOISE), rng.normal(size=(2, N))
    common = by_definition(G) + 0.6 * (item[:, None] == item)
    common += seen @ 0.5 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4))) @ seen.T
    expected = common + np.diag(NOISE)
    inverse, near = np.linalg.inv(expected), {"rtol": 1e-10, "atol": 1e-12}
    dense, diagonal, product, of_latents = evaluated(
        cov.resolved.to_dense(), cov.diagonal(), cov.times(rows), latent.resolved.times(rows)
    )
    assert_allclose(dense, expected, **near)
    assert_allclose(diagonal, np.diag(expected), **near)
    assert_allclose(product, rows @ expected, **near)
    assert_allclose(of_latents, rows @ common, **near)
    drawn, root, white, out, solved = evaluated(
        cov.draw(np.eye(cov.noise_size(N))),
        cov.color(np.eye(N)),
        cov.whiten(cov.color(rows)),
        cov.inverse_diagonal(),
        cov.solve(rows),
    )
    assert_allclose(drawn.T @ drawn, expected, **near)
    assert_allclose(root.T @ root, expected, **near)
    assert_allclose(white, rows, **near)
    assert_allclose(out, np.diag(inverse), **near)
    assert_allclose(solved, rows @ inverse, **near)


def value_and_slopes(sigma, y, directions):
    alpha, inverse = np.linalg.solve(sigma, y), np.linalg.inv(sigma)
    bar = (np.outer(alpha, alpha) - inverse) / 2
    value = -(y @ alpha + np.linalg.slogdet(2 * np.pi * sigma)[1]) / 2
    return value, [(bar * direction).sum() for direction in directions]


@pytest.mark.parametrize(
    ("covariance", "backend"),
    [
        (G, "py"),
        (G, "jax"),
        (np.diag([0.7, 0.0]), "py"),
        (np.outer([1, -0.5], [1, -0.5]), "py"),
        (0 * G, "py"),
    ],
    ids=["definite", "by JAX", "no slopes", "in step", "none"],
)
def test_value_and_gradient(covariance, backend):
    """Singular covariances are ordinary points; JAX calls the kernels back."""
    matrix, noise, y = pt.dmatrix(), pt.dscalar(), np.linspace(-1, 2, N)
    logp = gg.logp(y, 0.0, animals(matrix, DESIGN) + gg.cov.Diagonal(noise))
    outputs = [logp, *pt.grad(logp, [matrix, noise])]
    function = pytensor.function([matrix, noise], outputs, mode=BACKENDS[backend])
    value, slopes, slope = function(covariance, 0.4)
    sigma = by_definition(covariance) + 0.4 * np.eye(N)
    units = [by_definition(x.reshape(2, 2)) for x in np.eye(4)]
    expected, directions = value_and_slopes(sigma, y, [*units, np.eye(N)])
    assert_allclose(value, expected, rtol=1e-12)
    symmetric = np.reshape(directions[:4], (2, 2))
    assert_allclose(slopes, (symmetric + symmetric.T) / 2, rtol=1e-10, atol=1e-12)
    assert_allclose(slope, directions[4], rtol=1e-11)


def test_batches_and_second_derivatives(rng):
    variances, rows = np.array([0.5, 2.0]), rng.normal(size=(3, 2, N))
    cov = animals(variances[:, None, None]) + gg.cov.Diagonal(NOISE)
    dense, solved, product = evaluated(cov.resolved.to_dense(), cov.solve(rows), cov.times(rows))
    expected = [v * A[np.ix_(CODES, CODES)] + np.diag(NOISE) for v in variances]
    assert_allclose(dense, expected, rtol=1e-11, atol=1e-13)
    assert_allclose(product, np.einsum("abi,bij->abj", rows, expected), rtol=1e-10)
    assert_allclose(solved, np.linalg.solve(dense, rows[..., None])[..., 0], rtol=1e-10)
    v, y = pt.dscalar(), rng.normal(size=N)
    slope = pt.grad(gg.logp(y, 0.0, animals(v) + gg.cov.Diagonal(NOISE)), v)
    second, step = interpreted([v], [pt.grad(slope, v), slope]), 1e-4
    ahead, behind = second(0.7 + step)[1], second(0.7 - step)[1]
    assert_allclose(second(0.7)[0], (ahead - behind) / (2 * step), rtol=1e-6)


def test_single_precision(rng):
    v = pt.fscalar()
    y = rng.normal(size=N).astype("float32")
    noise = pt.constant(NOISE.astype("float32"))
    logp = gg.logp(y, np.float32(0), animals(v) + gg.cov.Diagonal(noise))
    assert logp.dtype == "float32"
    unit = A[np.ix_(CODES, CODES)]
    for at in (0.0, 0.7):
        value, slope = interpreted([v], [logp, pt.grad(logp, v)])(np.float32(at))
        expected, [direction] = value_and_slopes(at * unit + np.diag(NOISE), y, [unit])
        assert_allclose([value, slope], [expected, direction], rtol=2e-5)


def test_a_model_and_its_draws():
    """An animal model: the density, and draws with the covariance of relatives."""
    y = np.linspace(-1, 2, N)
    with pm.Model() as model:
        genetic, noise = pm.HalfNormal("genetic"), pm.HalfNormal("noise")
        cov = animals(genetic**2) + gg.cov.Diagonal(noise**2)
        gg.MvNormal("y", 0.5, cov, observed=y)
    point = {"genetic_log__": np.log(0.8), "noise_log__": np.log(0.5)}
    sigma = 0.64 * A[np.ix_(CODES, CODES)] + 0.25 * np.eye(N)
    expected, _ = value_and_slopes(sigma, y - 0.5, [])
    value = model.compile_logp(vars=[model["y"]], mode="FAST_COMPILE")(point)
    assert_allclose(value, expected, rtol=1e-12)


# Against another package

require("phylo_primates5")
SPECIES = ["Homo", "Pongo", "Macaca", "Ateles", "Galago"]
# Each with its parent and the branch to it; the root is zero.
BRANCHES = [
    ("Homo", "great apes", 0.21),
    ("Pongo", "great apes", 0.21),
    ("great apes", "Old World", 0.28),
    ("Macaca", "Old World", 0.49),
    ("Old World", "simians", 0.13),
    ("Ateles", "simians", 0.62),
    ("simians", "root", 0.38),
    ("Galago", "root", 1.0),
]


def tree():
    """The precision of a Brownian motion along the branches, and its nodes."""
    nodes = [child for child, _, _ in BRANCHES]
    precision = np.zeros((9, 9))
    for child, parent, length in BRANCHES:
        step = np.zeros(9)
        step[nodes.index(child)] = 1
        step[nodes.index(parent) if parent in nodes else 8] -= 1
        precision += np.outer(step, step) / length
    return {"precision": sp.csc_array(precision[:8, :8]), "levels": nodes}


@pytest.mark.parametrize("form", ["matrix", "tree"])
def test_primates(form):
    """Brownian motion with Pagel's lambda, nlme's values and derivatives.

    By the covariance of the species, and by a sparse precision of them and their ancestors.
    """
    expected = read_json("phylo_primates5")
    columns = read_columns("phylo_primates5")
    x, y = (np.array(columns[name], float) for name in "XY")
    matrix = {"relationship": read_matrix("phylo_primates5", "vcv.csv"), "levels": SPECIES}
    wrt = [intercept, slope, s2, share] = pt.dscalars("intercept", "slope", "s2", "share")
    related = matrix if form == "matrix" else tree()
    shared = gg.cov.Effects(SPECIES, s2 * share, **related)
    cov = shared + gg.cov.Diagonal(s2 * (1 - share))
    logp = gg.logp(y, intercept + slope * x, cov)
    point = expected["point_pagel"]
    value, *slopes = interpreted(wrt, [logp, *pt.grad(logp, wrt)])(*point["par"])
    assert_allclose(value, point["logp"], rtol=1e-9)
    assert_allclose(slopes, point["grad"], rtol=1e-5)


# Errors

WRONG = [
    ({"precision": INVERSE, "relationship": A}, TypeError, "each is the inverse of the other"),
    ({"levels": LEVELS}, TypeError, "`levels` are given without a matrix"),
    ({"precision": INVERSE}, TypeError, "`group` has labels such as 'a', expected the numbers"),
    ({"precision": INVERSE[:2], "levels": LEVELS}, ValueError, "a column for each level"),
    ({"precision": INVERSE, "levels": LEVELS[:5]}, ValueError, "5 entries, 5 of them different"),
    ({"precision": INVERSE, "levels": [*LEVELS[:5], "a"]}, ValueError, "5 of them different"),
    ({"precision": INVERSE, "levels": [*LEVELS[:5], "x"]}, ValueError, "the first is 'stray'"),
    ({"precision": -INVERSE, "levels": LEVELS}, ValueError, "pass it as relationship="),
    ({"precision": np.triu(INVERSE), "levels": LEVELS}, ValueError, "a symmetric pattern"),
    ({"precision": np.full((6, 6), np.nan), "levels": LEVELS}, ValueError, "not finite"),
    ({"precision": np.diag([1.0] * 5 + [0.0]), "levels": LEVELS}, ValueError, "in row 5"),
    ({"precision": pt.dmatrix(), "levels": LEVELS}, TypeError, "`precision` is symbolic"),
    ({"relationship": np.ones((6, 6)), "levels": LEVELS}, ValueError, "give both one label"),
    ({"relationship": -A, "levels": LEVELS}, ValueError, "pass it as precision="),
    ({"relationship": TABLE.iloc[:, ::-1]}, ValueError, "index and columns differ"),
]


@pytest.mark.parametrize(("related", "error", "message"), WRONG)
def test_wrong_arguments(related, error, message):
    with pytest.raises(error, match=re.escape(message)) as raised:
        animals(**related)
    assert str(raised.value).startswith("gg.cov.Effects: ")


def test_numbers_beyond_the_rows():
    with pytest.raises(ValueError, match="the first is 6"):
        gg.cov.Effects([0, 6], 1.0, precision=INVERSE)


def test_an_intrinsic_autoregression_is_another_structure():
    laplacian = [[1.0, -1.0], [-1.0, 1.0]]
    with pytest.raises(ValueError, match=r"gg\.cov\.Projected\(Z, gg\.cov\.ICAR\(W, sigma\)\)"):
        gg.cov.Effects([0, 1], 1.0, precision=laplacian)
