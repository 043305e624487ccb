"""``Effects``, ``Projected`` and noise: sums, members, models and errors."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose
from registry import AS_WRITTEN, interpreted
from scipy.stats import multivariate_normal

import pm_gaussgrad as gg
from pm_gaussgrad.cov.graphs.latents import CONSTANTS, Latents
from pm_gaussgrad.cov.graphs.sparse_latents import SparseLatents
from pm_gaussgrad.kernels.sparse.arrangement import SYSTEM
from pm_gaussgrad.kernels.sparse.layout import SUPERNODAL, section
from pm_gaussgrad.ops.inv_quad_logdet import InvQuadLogdet, InvQuadLogdetPullback

N = 7
SUBJECT, ITEM = np.array(list("abacbca")), np.array([0, 1, 1, 0, 2, 2, 0])
DESIGN = np.column_stack([np.ones(N), np.linspace(-1, 2, N)])
SLOPES = np.array([[1.0, 0.4], [0.4, 0.5]])
SEEN = sp.coo_array(([1.0, 0.5, 0.5, 2.0, 1.0], ([0, 1, 1, 4, 6], [2, 0, 1, 3, 3])), shape=(N, 4))
VARIANCES = np.linspace(0.3, 1.2, N)


def evaluated(*outputs):
    return interpreted([], outputs, AS_WRITTEN)()


def path(n):
    """The precision of a path, as values on a pattern."""
    pattern = sp.eye(n) + sp.eye(n, k=1) + sp.eye(n, k=-1)
    values = np.where(np.arange(2 * n - 1) % 2, -1.0, 2.5)
    return gg.cov.SparsePrecision(values, pattern)


FIELDS = {
    "AR1": gg.cov.AR1(1.5, -0.6),
    "Diagonal": gg.cov.Diagonal([0.5, 1.0, 2.0, 0.1]),
    "scalar": gg.cov.Diagonal(0.7),
    "SparsePrecision": path(4),
    "scaled": 2 * path(4),
}
SUMMANDS = {
    "subjects": gg.cov.Effects(SUBJECT, SLOPES, DESIGN),
    "items": gg.cov.Effects(ITEM, 0.7),
    **{name: gg.cov.Projected(SEEN, latent) for name, latent in FIELDS.items()},
}


def by_definition(name):
    if name == "items":
        return 0.7 * (ITEM[:, None] == ITEM)
    if name == "subjects":
        return (SUBJECT[:, None] == SUBJECT) * (DESIGN @ SLOPES @ DESIGN.T)
    [latent] = evaluated(FIELDS[name].sized(4).to_dense())
    return SEEN.toarray() @ latent @ SEEN.toarray().T


@pytest.mark.parametrize("name", SUMMANDS)
def test_each_is_what_it_says(name, rng):
    cov, expected, rows = SUMMANDS[name], by_definition(name), rng.normal(size=(2, N))
    white = pt.eye(cov.noise_size(N))
    outputs = [cov.to_dense(), cov.diagonal(), cov.draw(white), cov.times(rows)]
    dense, diagonal, drawn, product = evaluated(
        *outputs,
    )
    assert cov.size == N
    assert_allclose(dense, expected, rtol=1e-12, atol=1e-14)
    assert_allclose(diagonal, np.diag(expected), rtol=1e-12, atol=1e-14)
    assert_allclose(drawn.T @ drawn, expected, rtol=1e-12, atol=1e-14)
    assert_allclose(product, rows @ expected, rtol=1e-12, atol=1e-13)
    kept, twice = evaluated(cov.keep(np.array([0, 4, 6])).to_dense(), (2 * cov).to_dense())
    assert_allclose(kept, expected[np.ix_([0, 4, 6], [0, 4, 6])], rtol=1e-12, atol=1e-14)
    assert_allclose(twice, 2 * expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("names", [["subjects"], ["items", "AR1"], list(SUMMANDS)], ids=len)
def test_sums_in_any_order(names, rng):
    """One structure, whatever the order, and with the noise in parts."""
    parts = [SUMMANDS[name] for name in names]
    expected = sum(map(by_definition, names)) + np.diag(VARIANCES + 0.2)
    noise = [gg.cov.Diagonal(VARIANCES), gg.cov.Diagonal(0.2)]
    rows = rng.normal(size=(2, N))
    solved = np.linalg.solve(expected, rows.T).T
    for _ in range(3):
        summands = [[*parts, *noise][i] for i in rng.permutation(len(parts) + 2)]
        cov = sum(summands)
        assert type(cov.resolved) is SparseLatents
        dense, found, logdet = evaluated(cov.resolved.to_dense(), cov.solve(rows), cov.logdet())
        assert_allclose(dense, expected, rtol=1e-11, atol=1e-13)
        assert_allclose(found, solved, rtol=1e-10, atol=1e-12)
        assert_allclose(logdet, np.linalg.slogdet(expected)[1], rtol=1e-11)
    halves = sum(parts[:1]) + noise[0], sum(parts[1:]) + noise[1] if parts[1:] else noise[1]
    [dense] = evaluated((halves[0].resolved + halves[1]).resolved.to_dense())
    assert_allclose(dense, expected, rtol=1e-11, atol=1e-13)


def test_among_other_structures(rng):
    """Beside factors, under a scale, and as a block: with the algorithm of each."""
    cov = SUMMANDS["subjects"] + SUMMANDS["AR1"] + gg.cov.Diagonal(VARIANCES)
    factor, scale = rng.normal(size=(N, 2)), rng.uniform(0.5, 2, N)
    rows, own = rng.normal(size=N), by_definition("subjects") + by_definition("AR1")
    own += np.diag(VARIANCES)
    wholes = {
        gg.cov.LowRank(factor) + cov: own + factor @ factor.T,
        gg.cov.Scaled(cov, scale): own * scale * scale[:, None],
        gg.cov.BlockDiagonal(cov, gg.cov.Diagonal([0.5])): sp.block_diag([own, [[0.5]]]).toarray(),
    }
    for whole, expected in wholes.items():
        y = np.resize(rows, len(expected))
        quad, logdet = evaluated(*whole.quad_logdet(y))
        assert_allclose(quad, y @ np.linalg.solve(expected, y), rtol=1e-10)
        assert_allclose(logdet, np.linalg.slogdet(expected)[1], rtol=1e-10)


def test_fields_that_are_observed_themselves(rng):
    """A field, a series and effects beside noise, in any order; without noise there is no sum."""
    series, field = gg.cov.AR1(1.0, 0.5), path(N)
    parts = [series, field, SUMMANDS["items"], gg.cov.Diagonal(0.2), gg.cov.Diagonal(VARIANCES)]
    dense = [x.sized(N).to_dense() for x in parts]
    expected, rows = sum(evaluated(*dense)), rng.normal(size=(2, N))
    for order in (parts, parts[::-1], [parts[i] for i in (0, 3, 2, 1, 4)]):
        cov = sum(order)
        assert type(cov.resolved) is SparseLatents
        assert_allclose(evaluated(cov.solve(rows))[0], np.linalg.solve(expected, rows.T).T, 1e-10)
    seen = np.array([0, 2, 3, 6])  # without the others a series or a field is no field
    kept = expected[np.ix_(seen, seen)]
    [solved] = evaluated(gg.cov.marginal(sum(parts), seen).solve(rows[:, seen]))
    assert_allclose(solved, np.linalg.solve(kept, rows[:, seen].T).T, 1e-10)
    assert type((field + gg.cov.Diagonal(0.2)).resolved) is SparseLatents
    with pytest.raises(TypeError, match=r"gg\.cov\.Effects beside a gg\.cov\.Diagonal"):
        (field + SUMMANDS["items"]).plan()


def test_gradient_by_what_a_model_has():
    """Through LKJ factors, precisions and a scalar noise, against the dense matrix."""
    chol, rho, noise, theta = pt.dmatrix(), pt.dscalar(), pt.dscalar(), pt.dscalar()
    lattice = gg.cov.SparsePrecision.from_terms(
        [(theta, np.eye(4)), (1.0, path(4).to_dense().eval())]
    )
    cov = (
        gg.cov.Effects(SUBJECT, chol @ chol.T, DESIGN)
        + gg.cov.Effects(ITEM, noise**2)
        + gg.cov.Projected(SEEN, gg.cov.AR1(theta, rho))
        + gg.cov.Projected(SEEN.toarray()[:, ::-1], lattice)
        + gg.cov.Diagonal(noise)
    )
    y, wrt = np.linspace(-1, 2, N), [chol, rho, noise, theta]
    values = []
    for logp in (gg.logp(y, 0.0, cov), gg.logp(y, 0.0, gg.cov.Dense(cov.to_dense()))):
        function = interpreted(wrt, [logp, *pt.grad(logp, wrt)])
        values.append(function(np.array([[1.0, 0.0], [0.5, 0.3]]), 0.4, 0.6, 1.3))
    for found, expected in zip(*values, strict=True):
        assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_the_lower_triangle_is_read():
    """Of a matrix that is not symmetric, value and slope; of a symmetric one the slope is, too."""
    matrix = pt.dmatrix()
    logp = gg.logp(
        np.linspace(-1, 2, N), 0.0, gg.cov.Effects(SUBJECT, matrix, DESIGN) + gg.cov.Diagonal(0.5)
    )
    function = interpreted([matrix], [logp, pt.grad(logp, matrix)])
    value, slope = function(SLOPES)
    assert_allclose(slope, slope.T, rtol=1e-12)
    of_lower, folded = function(np.tril(SLOPES))
    assert_allclose(of_lower, value, rtol=1e-12)
    assert_allclose(folded, np.tril(slope) + np.tril(slope, -1), rtol=1e-12)


def test_zero_variance_is_an_ordinary_point():
    """The density is that without the effects, and its slope that of dense algebra."""
    v = pt.dscalar()
    cov = gg.cov.Effects(SUBJECT, v) + SUMMANDS["items"] + gg.cov.Diagonal(VARIANCES)
    y = np.linspace(-1, 2, N)
    logp = gg.logp(y, 0.0, cov)
    found, slope = interpreted([v], [logp, pt.grad(logp, v)])(0.0)
    sigma, same = by_definition("items") + np.diag(VARIANCES), SUBJECT[:, None] == SUBJECT
    alpha, inverse = np.linalg.solve(sigma, y), np.linalg.inv(sigma)
    logdet = np.linalg.slogdet(sigma)[1]
    assert_allclose(found, -(y @ alpha + logdet + N * np.log(2 * np.pi)) / 2, rtol=1e-12)
    assert_allclose(slope, (alpha @ same @ alpha - (inverse * same).sum()) / 2, rtol=1e-12)


def test_latents_without_a_precision():
    """The edge of their parameters gives -inf, with a gradient of zero."""
    v, rho = wrt = pt.dscalars("v", "rho")
    latents = gg.cov.AR1(v, rho), gg.cov.Diagonal(v + 0 * rho)
    logps = [
        gg.logp(np.ones(N), 0.0, gg.cov.Projected(SEEN, latent) + gg.cov.Diagonal(1.0))
        for latent in latents
    ]
    function = interpreted(wrt, [*logps, *(pt.grad(x, y) for x in logps for y in wrt)])
    assert_allclose(function(0.0, 0.5), [-np.inf, -np.inf, 0, 0, 0, 0])
    assert_allclose(function(1.0, 1.0)[::2][:2], [-np.inf, 0])
    assert_allclose(function(1.0, 1.0)[3], 0)
    assert function(-1.0, 2.0)[0] == -np.inf  # the variances of the steps are positive


def test_batches_of_covariances(rng):
    """A batch of each summand, broadcast against the others."""
    slopes = np.stack([SLOPES, 2 * SLOPES])
    cov = gg.cov.Effects(SUBJECT, slopes, DESIGN) + SUMMANDS["AR1"] + gg.cov.Diagonal(VARIANCES)
    rows = rng.normal(size=(3, 2, N))
    dense, solved, drawn = evaluated(
        cov.to_dense(), cov.solve(rows), cov.draw(np.eye(cov.noise_size(N))[:, None])
    )
    assert_allclose(solved, np.linalg.solve(dense, rows[..., None])[..., 0], rtol=1e-10)
    assert_allclose(np.einsum("zbi,zbj->bij", drawn, drawn), dense, rtol=1e-10, atol=1e-13)


def test_a_model(rng):
    """Draws of effects alone, and the density at a point."""
    observed = rng.normal(size=N)
    with pm.Model() as model:
        spread, noise = pm.HalfNormal("spread"), pm.HalfNormal("noise")
        cov = gg.cov.Effects(SUBJECT, spread**2) + gg.cov.Diagonal(noise**2)
        gg.MvNormal("y", 1.0, cov, observed=observed)
    alone = gg.MvNormal.dist(0.0, gg.cov.Effects(ITEM, 2.0))
    drawn = pm.draw(alone, 4, random_seed=1)
    assert_allclose(drawn[:, ITEM == 0].std(axis=1), 0, atol=1e-12)
    point = {"spread_log__": np.log(0.7), "noise_log__": np.log(0.5)}
    value = model.compile_logp(vars=[model["y"]])(point)
    sigma = 0.49 * (SUBJECT[:, None] == SUBJECT) + 0.25 * np.eye(N)
    assert_allclose(value, multivariate_normal(np.ones(N), sigma).logpdf(observed), rtol=1e-10)


def test_what_it_is_called():
    cov = SUMMANDS["items"] + SUMMANDS["AR1"] + gg.cov.Diagonal(0.1)
    assert str(cov.plan()).startswith("gg.cov.Effects + gg.cov.Projected + gg.cov.Diagonal: sparse")
    assert type((SUMMANDS["items"] + SUMMANDS["AR1"]).resolved) is Latents


@pytest.mark.parametrize("structure", [gg.cov.AR1(1.5, 0.6, size=5), gg.cov.AR1(1.5, -0.9, size=1)])
def test_precision_entries(structure):
    values, indptr, indices = structure.precision_entries()
    dense, values = evaluated(structure.to_dense(), values)
    lower = sp.csc_array((values, indices, indptr)).toarray()
    assert_allclose(lower, np.tril(np.linalg.inv(dense)), rtol=1e-12, atol=1e-12)


def test_columns_of_a_table():
    """Of several kinds, which NumPy holds as objects; and sparse ones."""
    treated = np.arange(N) % 2 == 0
    expected = by_definition("items") / 0.7 * (1 + np.outer(treated, treated))
    table = pd.DataFrame({"one": pd.array(np.ones(N), dtype="Float64"), "treated": treated})
    for design in (table, sp.csr_array(table.to_numpy(float)), pt.constant(table.to_numpy(float))):
        [dense] = evaluated(gg.cov.Effects(ITEM, np.eye(2), design).to_dense())
        assert_allclose(dense, expected)
    latent = gg.cov.Diagonal(np.ones(2))
    [dense] = evaluated(gg.cov.Projected(table, latent).to_dense())
    assert_allclose(dense, 1 + np.outer(treated, treated))


# Errors

ALONE = [("logp", 1), ("solve", 1), ("whiten", 1), ("inverse_diagonal", 0), ("logdet", 0)]


@pytest.mark.parametrize(("member", "arguments"), ALONE)
@pytest.mark.parametrize("cov", [SUMMANDS["items"], SUMMANDS["AR1"] + SUMMANDS["items"]])
def test_alone_there_is_no_density(cov, member, arguments):
    with pytest.raises(NotImplementedError, match=re.escape("+ gg.cov.Diagonal(variance)")):
        getattr(cov.resolved, member)(*[np.zeros(N)] * arguments)


WRONG = [
    (lambda: gg.cov.Projected(pt.dmatrix(), path(4)), TypeError, "`A` is symbolic"),
    (lambda: gg.cov.Projected(np.ones(4), path(4)), TypeError, "`A` has shape (4,)"),
    (lambda: gg.cov.Projected(np.ones((2, 4)) * 1j, path(4)), TypeError, "complex128"),
    (lambda: gg.cov.Projected(np.full((2, 4), np.nan), path(4)), ValueError, "8 entries"),
    (lambda: gg.cov.Projected(np.ma.masked_less(np.eye(4), 1), path(4)), ValueError, "masked"),
    (lambda: gg.cov.Projected(SEEN, path(5)), ValueError, "a column of A for each latent"),
    (lambda: gg.cov.Projected(SEEN, np.eye(4)), TypeError, "`latent` is a ndarray"),
    (
        lambda: gg.cov.Projected(SEEN, gg.cov.Dense(np.eye(4))),
        TypeError,
        "gg.cov.Projected: `latent` is a gg.cov.Dense, which has no sparse precision matrix",
    ),
    (
        lambda: gg.cov.Projected(SEEN, path(4) + gg.cov.Diagonal(1.0, size=4)),
        TypeError,
        "project each summand by itself",
    ),
    (
        lambda: gg.cov.Effects(SUBJECT, [[1.0, 2.0], [2.0, 1.0]], DESIGN),
        ValueError,
        "gg.cov.Effects: `covariance` has an eigenvalue of -1",
    ),
    (lambda: gg.cov.Effects([[0, 1]] * N, 1.0), ValueError, "table.groupby(columns).ngroup()"),
    (lambda: gg.cov.Effects(pt.dvector(), 1.0), TypeError, "`group` is symbolic"),
    (lambda: gg.cov.Effects(["a", None], 1.0), ValueError, "1 missing label"),
    (lambda: gg.cov.Effects(SUBJECT, -1.0), ValueError, "`covariance` is -1"),
    (lambda: gg.cov.Effects(SUBJECT, [1.0, 2.0]), TypeError, "(..., 1, 1)"),
    (lambda: gg.cov.Effects(SUBJECT, 1.0, DESIGN), TypeError, "v * np.eye(2)"),
    (lambda: gg.cov.Effects(SUBJECT, [1.0, 2.0], DESIGN), TypeError, "pt.diag(variances)"),
    (lambda: gg.cov.Effects(SUBJECT, np.eye(3), DESIGN), TypeError, "expected (2, 2)"),
    (lambda: gg.cov.Effects(SUBJECT, np.triu(SLOPES), DESIGN), ValueError, "its transpose"),
    (lambda: gg.cov.Effects(SUBJECT, 1.0, DESIGN[:, 0]), ValueError, "design[:, None]"),
    (lambda: gg.cov.Effects(SUBJECT, 1.0, DESIGN[:3, :1]), ValueError, "expected (7, k)"),
    (lambda: gg.cov.Effects(SUBJECT, 1.0, pt.dmatrix()), TypeError, "`design` is symbolic"),
    (lambda: gg.cov.Effects(SUBJECT, 1.0, np.full((N, 1), np.inf)), ValueError, "7 entries"),
    (lambda: gg.cov.Effects(SUBJECT, 1.0, np.ma.masked_less(DESIGN, 0)), ValueError, "masked"),
    (lambda: gg.cov.Effects(SUBJECT, 1.0, [["a"]] * N), TypeError, "`design` is a list"),
    (
        lambda: (SUMMANDS["items"] + gg.cov.Toeplitz(0.5 ** np.arange(N))).plan(),
        TypeError,
        "LowRank(pt.sqrt(v) * Z)",
    ),
    (lambda: SUMMANDS["items"] + gg.cov.Effects(["a"], 1.0), ValueError, "sizes [7, 1] disagree"),
]


@pytest.mark.parametrize(("build", "error", "message"), WRONG)
def test_wrong_arguments(build, error, message):
    with pytest.raises(error, match=re.escape(message)):
        build()


def test_an_indefinite_field_names_what_the_user_gave():
    field = gg.cov.SparsePrecision([1.0, 2.0, 1.0], np.ones((2, 2)))
    with pytest.raises(ValueError, match="the constants `covariances`, `values`, `variance` make"):
        gg.logp(np.zeros(2), 0.0, gg.cov.Projected(np.eye(2), field) + gg.cov.Diagonal(1.0))


@pytest.mark.parametrize("noise", [0.0, np.append(np.ones(N - 1), 0.0)], ids=np.ndim)
def test_no_noise_is_an_error_where_a_density_is_built(noise):
    with pytest.raises(ValueError, match="`variance` has the entry 0"):
        gg.logp(np.zeros(N), 0.0, SUMMANDS["items"] + gg.cov.Diagonal(noise))


@pytest.mark.compiled
def test_four_threads_bit_for_bit_as_one(rng):
    """Value and pullback, with the memory that fronts take, from the first call on."""
    n, cov = 900, gg.cov.Diagonal(1.0)
    for count in (60, 45):
        cov = cov + gg.cov.Effects(rng.permutation(n) % count, 0.5)
    forward = InvQuadLogdet(cov.structure)
    backward = InvQuadLogdetPullback(cov.structure)
    covariances, values, variance, *constants = (x.eval() for x in cov.parameters)
    index = dict(zip(CONSTANTS, constants, strict=True))["index"]
    assert section(index, SYSTEM)[SUPERNODAL]
    rows, bars = rng.normal(size=(1, n)), (np.array([-0.5]), np.array(-0.5))

    def evaluated(scale):
        parameters = scale * covariances, values, scale * variance, *constants
        _, _, *kept = results = forward.evaluate(rows, *parameters)
        results += backward.evaluate(rows, *parameters, *kept, *bars)
        return [x.tobytes() for x in results]

    scales = np.repeat(rng.uniform(0.5, 2, size=8), 5)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(evaluated, scales))
    assert together == [evaluated(scale) for scale in scales]


@pytest.mark.compiled
def test_many_levels_on_numba(rng):
    """A mixed model of 600 rows, as it is sampled: value and gradient, and without a variance."""
    n, first, second = 600, rng.integers(150, size=600), rng.integers(40, size=600)
    design, y = np.column_stack([np.ones(n), rng.normal(size=n)]), rng.normal(size=n)
    slopes, variance, noise = pt.dmatrix("slopes"), pt.dscalar("variance"), pt.dscalar("noise")
    cov = gg.cov.Effects(first, slopes, design) + gg.cov.Effects(second, variance)
    wrt = [slopes, variance, noise]
    logp = gg.logp(y, 0.0, cov + gg.cov.Diagonal(noise))
    function = pytensor.function(wrt, [logp, *pt.grad(logp, wrt)], mode="NUMBA")
    of_first = (first[:, None] == first), design
    for covariance, v in ((SLOPES, 0.7), (np.diag([0.4, 0.0]), 0.0)):
        sigma = of_first[0] * (design @ covariance @ design.T) + v * (second[:, None] == second)
        sigma += 0.5 * np.eye(n)
        inverse = np.linalg.inv(sigma)
        alpha = inverse @ y
        bar = (np.outer(alpha, alpha) - inverse) / 2
        expected = [
            -(y @ alpha + np.linalg.slogdet(sigma)[1] + n * np.log(2 * np.pi)) / 2,
            design.T @ (bar * of_first[0]) @ design,
            (bar * (second[:, None] == second)).sum(),
            np.trace(bar),
        ]
        for found, of_it in zip(function(covariance, v, 0.5), expected, strict=True):
            assert_allclose(found, of_it, rtol=1e-10, atol=1e-10)
