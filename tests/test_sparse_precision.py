"""Markov fields by sparse precisions: patterns, terms, gaps, and fronts of many nodes."""

import arviz as az
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from registry import AS_WRITTEN, interpreted
from sparse_patterns import definite, lattice, lower_triangle

import pm_gaussgrad as gg
from pm_gaussgrad.cov.graphs.sparse_marginal import SparseMarginal

FIELD = gg.cov.SparsePrecision
RING = np.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])


def evaluated(*outputs):
    return interpreted([], list(outputs), AS_WRITTEN)()


@pytest.fixture(scope="module")
def field():
    """On a lattice, with fronts of several columns, and its covariance."""
    matrix = definite(lattice(6, 7, corners=True), np.random.default_rng(4))
    values, *_ = lower_triangle(matrix)
    return FIELD(values, matrix), np.linalg.inv(matrix.toarray())


@pytest.mark.parametrize("format_", ["csc", "csr", "coo", "lil", "dok", "dia", "bsr"])
def test_any_format(format_):
    pattern = sp.eye_array(4).asformat(format_) + sp.csr_array(RING).asformat(format_)
    values = np.arange(1.0, 9.0)
    _, indptr, indices = FIELD(values, pattern).precision_entries()
    assert_array_equal(indptr, [0, 3, 5, 7, 8])
    assert_array_equal(indices, [0, 1, 3, 1, 2, 2, 3, 3])
    assert indptr.dtype == indices.dtype == np.int64


def test_entries_that_are_given_twice_and_zeros_that_are_stored():
    rows, columns, data = [0, 1, 1, 0, 1], [0, 1, 0, 1, 1], [1, 2, 0, 0, 3]
    pattern = sp.coo_array((data, (rows, columns)), shape=(2, 2))
    *_, indices = FIELD(np.ones(3), pattern).precision_entries()
    assert_array_equal(indices, [0, 1, 1])
    cov = FIELD.from_terms([(2.0, pattern), (1, np.eye(2, dtype=int))])
    assert_array_equal(evaluated(cov.precision_entries()[0])[0], [3.0, 0.0, 11.0])
    assert_array_equal(pattern.data, data)
    small = sp.coo_array((np.array([100, 100], np.int8), ([0, 0], [0, 0])))
    assert_array_equal(FIELD.from_terms([(1.0, small)]).inverse_diagonal().eval(), [200.0])
    [seen] = evaluated(gg.cov.Projected(small, gg.cov.Diagonal(1.0)).to_dense())
    assert_array_equal(seen, [[40000.0]])


@pytest.mark.parametrize("n", [0, 1])
def test_no_node_and_one(n):
    cov = FIELD(np.full(n, 4.0), sp.eye_array(n))
    residual = np.ones((2, n))
    quad, logdet = cov.quad_logdet(residual)
    outputs = evaluated(quad, logdet, cov.color(residual), cov.diagonal(), cov.to_dense())
    assert_allclose(outputs[0], [4.0 * n] * 2)
    assert_allclose(outputs[1], -n * np.log(4.0))
    assert_allclose(outputs[2], residual / 2)
    assert_allclose(outputs[3], np.full(n, 0.25))
    assert outputs[4].shape == (n, n)


# The diagonal of degrees, as a node without neighbours has it: a zero that is stored.
ISLAND = sp.coo_array(([1.0, 1.0, 0.0], ([0, 1, 2], [0, 1, 2])))
ERRORS = [
    (lambda: FIELD(np.ones(3), np.ones((2, 3))), ValueError, r"shape \(2, 3\), expected \(n, n\)"),
    (lambda: FIELD(np.ones(3), np.ones(3)), ValueError, r"shape \(3,\), expected \(n, n\)"),
    (lambda: FIELD(np.ones(3), np.tri(2)), ValueError, r"pass W \+ W.T"),
    (lambda: FIELD(np.ones(8), RING), ValueError, "no entry on the diagonal in row 0.*eye_array"),
    (lambda: FIELD(np.ones(5), np.ones((2, 2))), ValueError, "has 5 entries, expected 3"),
    (lambda: FIELD([1.0, np.nan, 1.0], np.ones((2, 2))), ValueError, "not finite"),
    (lambda: FIELD([1.0, 0.5, -1.0], np.ones((2, 2))), ValueError, "diagonal of Q.*at least 0"),
    (lambda: FIELD(np.ones(3), pt.dmatrix()), TypeError, "is symbolic, expected a constant"),
    (lambda: FIELD(np.ones(3), np.eye(2) * 1j), TypeError, "complex128, expected real"),
    (lambda: FIELD(np.ones(2), np.ma.masked_less(np.eye(2), 1)), ValueError, "masked entries"),
    (lambda: FIELD.from_terms([]), ValueError, "is empty, expected at least one pair"),
    (lambda: FIELD.from_terms(np.eye(2)), TypeError, "is a ndarray, expected a list of pairs"),
    (lambda: FIELD.from_terms([1.0, np.eye(2)]), TypeError, "expected a list of pairs"),
    (
        lambda: FIELD.from_terms([(1.0, np.eye(2)), (1.0, np.eye(3))]),
        ValueError,
        r"`terms\[1\]\[1\]` has shape \(3, 3\), expected \(2, 2\)",
    ),
    (
        lambda: FIELD.from_terms([(1.0, np.array([[1.0, 2.0], [3.0, 1.0]]))]),
        ValueError,
        r"`terms\[0\]\[1\]` differs from its transpose by up to 1",
    ),
    (lambda: FIELD.from_terms([(1.0, [[np.inf]])]), ValueError, "not finite"),
    (lambda: FIELD.from_terms([(1.0, RING)]), ValueError, "zero on the diagonal in row 0"),
    (lambda: FIELD.from_terms([(1.0, ISLAND)]), ValueError, "row 2.*node without neighbours"),
    (lambda: FIELD.from_terms([("a", np.eye(2))]), TypeError, r"`terms\[0\]\[0\]` is a str"),
    (
        lambda: gg.logp(np.ones(2), 0.0, FIELD([1.0, 2.0, 1.0], np.ones((2, 2)))),
        ValueError,
        "no covariance with a density",
    ),
]


@pytest.mark.parametrize(("build", "error", "message"), ERRORS)
def test_errors(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_a_symbolic_pattern_has_no_entries():
    cov = FIELD(np.ones(3) + np.eye(1, 3).ravel(), np.ones((2, 2)))
    index = [pt.lvector() for _ in range(4)]
    symbolic = FIELD.from_parameters(cov.parameters[0], *index)
    with pytest.raises(NotImplementedError, match="needs a constant pattern"):
        symbolic.precision_entries()


def test_terms_of_all_entries_and_of_few():
    """Also in batches, and with several that have entries in common."""
    n, rng = 12, np.random.default_rng(0)
    weights = definite(lattice(3, 4, corners=True), rng)
    single = [sp.coo_array(([1.0], ([i], [i])), shape=(n, n)) for i in (0, 5, 5)]
    theta = pt.dmatrix("theta")
    terms = [(theta[:, k], matrix) for k, matrix in enumerate([*single, weights])]
    cov = FIELD.from_terms(terms)
    point = rng.uniform(0.5, 2, (2, 4))
    rows = rng.normal(size=(3, 1, n))
    logp = cov.logp(rows)
    dense = gg.cov.Dense(cov.to_dense()).logp(rows)
    outputs = [x for p in (logp, dense) for x in (p, pt.grad(p.sum(), theta))]
    value, gradient, value_dense, gradient_dense = interpreted([theta], outputs)(point)
    assert_allclose(value, value_dense, rtol=1e-11)
    assert_allclose(gradient, gradient_dense, rtol=1e-10, atol=1e-10)
    expected = point[:, 3, None, None] * weights.toarray()
    expected[:, 0, 0] += point[:, 0]
    expected[:, 5, 5] += point[:, 1] + point[:, 2]
    [found] = interpreted([theta], [pt.linalg.inv(cov.to_dense())])(point)
    assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_members_with_fronts(field, rng):
    """Against the dense matrix, where the registry has columns by themselves."""
    cov, dense = field
    rows = rng.normal(size=(2, 42))
    white, scales = cov.innovations(rows)
    outputs = [cov.diagonal(), cov.times(rows), cov.whiten(cov.color(rows)), white, scales]
    diagonal, product, again, white, scales = evaluated(*outputs)
    assert_allclose(diagonal, np.diag(dense), rtol=1e-11)
    assert_allclose(product, rows @ dense, rtol=1e-11, atol=1e-12)
    assert_allclose(again, rows, rtol=1e-11, atol=1e-12)
    factor = np.linalg.cholesky(dense)
    assert_allclose(white, np.linalg.solve(factor, rows.T).T, rtol=1e-9, atol=1e-11)
    assert_allclose(scales, np.log(np.diag(factor)) + np.zeros((2, 1)), rtol=1e-9, atol=1e-11)


def test_information_with_fronts(field, rng):
    cov, dense = field
    tangents = rng.normal(size=(3, cov.parameters[0].type.shape[0]))
    _, indptr, indices = cov.precision_entries()
    moves = np.zeros((3, 42, 42))
    moves[:, indices, np.repeat(np.arange(42), np.diff(indptr))] = tangents
    moves += np.swapaxes(np.tril(moves, -1), 1, 2)
    expected = np.einsum("aij,bji->ab", dense @ moves, dense @ moves) / 2
    assert_allclose(evaluated(cov.information([pt.constant(tangents)]))[0], expected, rtol=1e-11)
    observed = np.flatnonzero(rng.uniform(size=42) < 0.6)
    inner = dense[np.ix_(observed, observed)]
    moved = (-dense @ moves @ dense)[:, observed][:, :, observed]
    solved = np.linalg.solve(inner, moved)
    expected = np.einsum("aij,bji->ab", solved, solved) / 2
    found = evaluated(cov.keep(observed).information([pt.constant(tangents)]))[0]
    assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_gaps(field, share, rng):
    """Some, most, all and none missing: values and members of what is observed."""
    cov, dense = field
    observed = np.sort(rng.permutation(42)[: 42 - round(42 * share)])
    rows = rng.normal(size=(2, observed.size))
    kept = SparseMarginal.of(cov, *cov.pattern("keep()"), observed)
    inner = dense[np.ix_(observed, observed)]
    quad, logdet = kept.quad_logdet(rows)
    outputs = [quad, logdet, kept.solve(rows), kept.times(rows), kept.inverse_diagonal()]
    outputs += [kept.whiten(rows), kept.whiten(kept.color(rows)), *kept.innovations(rows)]
    quad, logdet, solved, product, precisions, white, again, ahead, scales = evaluated(*outputs)
    expected = np.linalg.solve(inner, rows.T).T
    assert_allclose(quad, (rows * expected).sum(axis=1), rtol=1e-11)
    assert_allclose(logdet, np.linalg.slogdet(inner)[1], rtol=1e-11, atol=1e-11)
    assert_allclose(solved, expected, rtol=1e-10, atol=1e-11)
    assert_allclose(product, rows @ inner, rtol=1e-10, atol=1e-11)
    assert_allclose(precisions, np.diag(np.linalg.inv(inner)), rtol=1e-11)
    assert_allclose((white**2).sum(axis=1), quad, rtol=1e-10)
    assert_allclose(again, rows, rtol=1e-10, atol=1e-11)
    factor = np.linalg.cholesky(inner)
    assert_allclose(ahead, np.linalg.solve(factor, rows.T).T, rtol=1e-9, atol=1e-10)
    assert_allclose(scales, np.log(np.diag(factor)) + np.zeros((2, 1)), rtol=1e-9, atol=1e-10)


def test_gaps_of_gaps(field):
    cov, dense = field
    observed = np.arange(0, 42, 2)
    kept = gg.cov.marginal(gg.cov.marginal(cov, observed), np.arange(5, 20))
    at = observed[5:20]
    assert isinstance(kept, SparseMarginal)
    assert_allclose(evaluated(kept.to_dense())[0], dense[np.ix_(at, at)], rtol=1e-10, atol=1e-12)


def test_missing_given_observed(field, rng):
    cov, dense = field
    missing = np.array([0, 3, 4, 11, 40])
    observed = np.setdiff1d(np.arange(42), missing)
    rows = rng.normal(size=(3, 42))
    entries = cov.conditional(missing)
    filled, variances = evaluated(entries.fill(rows), entries.variances())
    weights = np.linalg.solve(dense[np.ix_(observed, observed)], dense[np.ix_(observed, missing)])
    assert_array_equal(filled[:, observed], rows[:, observed])
    assert_allclose(filled[:, missing], rows[:, observed] @ weights, rtol=1e-9, atol=1e-11)
    rest = dense[np.ix_(missing, missing)] - dense[np.ix_(missing, observed)] @ weights
    assert_allclose(variances[missing], np.diag(rest), rtol=1e-10)
    assert not variances[observed].any()
    units = np.zeros((5, 42))
    units[:, missing] = np.eye(5)
    drawn, mean = evaluated(entries.draw(rows[:1], units), entries.fill(rows[:1]))
    root = (drawn - mean)[:, missing]
    assert_allclose(root.T @ root, rest, rtol=1e-9, atol=1e-12)


def test_imputed_and_predicted():
    """In a model with gaps, at two draws of the posterior."""
    data = np.array([0.5, np.nan, 0.2, -0.3])
    with pm.Model() as model:
        tau = pm.HalfNormal("tau")
        cov = FIELD.from_terms([(3.0 * tau, np.eye(4)), (-tau, RING)])
        gg.MvNormal("y", 0.0, cov, observed=data)
    idata = az.from_dict({"posterior": {"tau": np.array([[1.0, 4.0]])}})
    idata = gg.impute(idata, model, progressbar=False, random_seed=1)
    imputed = idata.posterior_predictive["y_imputed"].values[0]
    assert_array_equal(imputed[:, [0, 2, 3]], np.tile(data[[0, 2, 3]], (2, 1)))
    deviations = (imputed[:, 1] - (0.5 + 0.2) / 3) * np.sqrt([3.0, 12.0])
    assert (np.abs(deviations) < 4).all()
    logp = model.compile_logp(mode=AS_WRITTEN)
    found = logp({"tau_log__": 0.0}) - logp({"tau_log__": 1.0})
    dense = np.linalg.inv(3 * np.eye(4) - RING)[np.ix_([0, 2, 3], [0, 2, 3])]
    y = data[[0, 2, 3]]

    def density(scale):
        quad = scale * y @ np.linalg.solve(dense, y)
        return 1.5 * np.log(scale) - quad / 2 - scale**2 / 2 + np.log(scale)

    assert_allclose(found, density(1.0) - density(np.e), rtol=1e-10)


def test_a_prior_of_a_field():
    """Under counts: the density of the latent field, with the one of the data."""
    with pm.Model() as model:
        field = gg.MvNormal("field", 0.0, FIELD.from_terms([(2.5, np.eye(4)), (-1.0, RING)]))
        pm.Poisson("counts", pt.exp(field), observed=[1, 0, 2, 1])
    at = np.array([0.1, -0.2, 0.3, 0.4])
    [prior] = model.compile_fn(model.logp(vars=[model["field"]], sum=False), mode=AS_WRITTEN)(
        {"field": at}
    )
    precision = 2.5 * np.eye(4) - RING
    expected = np.linalg.slogdet(precision)[1] - 4 * np.log(2 * np.pi) - at @ precision @ at
    assert_allclose(prior, expected / 2, rtol=1e-12)


def test_draws(field):
    cov, dense = field
    drawn = pm.draw(gg.MvNormal.dist(0.0, cov), 20_000, mode=AS_WRITTEN, random_seed=2)
    scale = np.sqrt(np.diag(dense))
    error = (np.cov(drawn.T) - dense) / scale[:, None] / scale
    assert np.abs(error).max() < 6 / np.sqrt(20_000)
