"""Log densities that SciPy tests itself against; Stan's are in test_reference_peers_stan.py.

Multivariate normal (covariance, precision, Cholesky factor), matrix normal, singular covariances
and wrong arguments. Where a library prints few digits its literal has the tolerance stated there;
the stored dense value has 1e-12.
"""

import numpy as np
import pytensor.tensor as pt
import pytest
from reference_cases import read_json, require
from registry import interpreted

import pm_gaussgrad as gg

require("peer_scipy")

SCIPY = read_json("peer_scipy")
MNORMT, MATRIX_NORMAL = SCIPY["mnormt"], SCIPY["matrix_normal"]
STRUCTURES = {"cov": gg.cov.Dense, "chol": gg.cov.Cholesky, "tau": gg.cov.Precision}


def as_argument(kind, covariance):
    """The covariance as the argument ``cov``, ``chol`` or ``tau``."""
    conversion = {"cov": np.asarray, "chol": np.linalg.cholesky, "tau": np.linalg.inv}
    return conversion[kind](np.asarray(covariance, dtype=float))


def densities_of_rows():
    """``(y (m, n), mu (m, n), matrix (n, n)) -> logp (m,), dmu, dmatrix`` by structure."""
    functions = {}
    for kind, structure in STRUCTURES.items():
        y, mu, matrix = pt.dmatrix("y"), pt.dmatrix("mu"), pt.dmatrix(kind)
        logp = gg.logp(y, mu, structure(matrix))
        outputs = [logp, *pt.grad(logp.sum(), [mu, matrix])]
        functions[kind] = interpreted([y, mu, matrix], outputs)
    return functions


@pytest.fixture(scope="module")
def rows():
    return densities_of_rows()


@pytest.fixture(scope="module")
def whitened():
    """Rows of ``L^-1 (y - mu)'`` and ``log|U|`` for a row covariance U = L L'."""
    residual, matrix = pt.dmatrix("residual"), pt.dmatrix("matrix")
    cov = gg.cov.Dense(matrix)
    return interpreted([residual, matrix], [cov.whiten(residual), cov.logdet()])


def row(vector):
    return np.array(vector, dtype=float)[None, :]


@pytest.mark.parametrize("kind", STRUCTURES)
def test_mnormt_density(rows, kind):
    y = np.array(MNORMT["y"])
    mu = np.broadcast_to(np.array(MNORMT["mu"], dtype=float), y.shape)
    logp = rows[kind](y, mu, as_argument(kind, MNORMT["Sigma"]))[0]
    np.testing.assert_allclose(np.exp(logp), MNORMT["pdf"], rtol=0, atol=MNORMT["atol"])
    np.testing.assert_allclose(logp, MNORMT["logp_dense"], rtol=1e-12)


@pytest.mark.parametrize("case", MATRIX_NORMAL["cases"], ids=range(len(MATRIX_NORMAL["cases"])))
@pytest.mark.parametrize("kind", STRUCTURES)
def test_matrix_normal_as_one_dense_normal(rows, kind, case):
    covariance = np.kron(MATRIX_NORMAL["U_row"], MATRIX_NORMAL["V_col"])
    y, mu = row(np.ravel(case["X"])), row(np.ravel(MATRIX_NORMAL["mean"]))
    logp = rows[kind](y, mu, as_argument(kind, covariance))[0]
    np.testing.assert_allclose(logp, [case["logp_scipy"]], rtol=1e-12)


@pytest.mark.parametrize("case", MATRIX_NORMAL["cases"], ids=range(len(MATRIX_NORMAL["cases"])))
def test_matrix_normal_as_rows(rows, whitened, case):
    """L^-1 (X - M) has independent rows with covariance V, where U = L L'."""
    residual = np.array(case["X"]) - np.array(MATRIX_NORMAL["mean"])
    white, logdet = whitened(residual.T, np.array(MATRIX_NORMAL["U_row"]))
    white = white.T
    logp = rows["cov"](white, np.zeros_like(white), np.array(MATRIX_NORMAL["V_col"]))[0].sum()
    logp -= white.shape[1] * logdet / 2
    np.testing.assert_allclose(logp, case["logp_scipy"], rtol=1e-12)


@pytest.mark.parametrize("case", SCIPY["singular"], ids=lambda case: f"rank{case['rank']}")
def test_singular_covariance_has_log_density_minus_infinity(rows, case):
    y = row(case["y"])
    logp, dmu, dmatrix = rows["cov"](y, np.zeros_like(y), np.array(case["Sigma"]))
    np.testing.assert_array_equal(logp, [-np.inf])
    np.testing.assert_array_equal(dmu, 0)
    np.testing.assert_array_equal(dmatrix, 0)


# Wrong arguments: where Stan reports a domain error the density is -inf or NaN, without an
# exception in a sampler; where it reports an invalid argument there is a Python error.

Y, MU = np.array([[2.0, -2.0, 11.0]]), np.array([[1.0, -1.0, 3.0]])
COVARIANCE = np.array(MNORMT["Sigma"], dtype=float)


@pytest.mark.parametrize("kind", ["cov", "tau"])
def test_only_the_lower_triangle_is_read(rows, kind):
    """A covariance that is not symmetric is an error in Stan; here its upper half is not read."""
    lopsided = as_argument(kind, COVARIANCE).copy()
    symmetric = np.tril(lopsided) + np.tril(lopsided, -1).T
    lopsided[0, 1] += 0.5
    np.testing.assert_array_equal(rows[kind](Y, MU, lopsided)[0], rows[kind](Y, MU, symmetric)[0])


@pytest.mark.parametrize("entry", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("kind", STRUCTURES)
def test_a_mean_that_is_not_finite_has_no_density(rows, kind, entry):
    mu = MU.copy()
    mu[0, 0] = entry
    [logp] = rows[kind](Y, mu, as_argument(kind, COVARIANCE))[0]
    assert np.isnan(logp) or logp == -np.inf


@pytest.mark.parametrize("entry", [np.inf, -np.inf, np.nan])
def test_a_covariance_that_is_not_finite_has_log_density_minus_infinity(rows, entry):
    covariance = COVARIANCE.copy()
    covariance[1, 1] = entry
    [logp] = rows["cov"](Y, MU, covariance)[0]
    assert logp == -np.inf


@pytest.mark.parametrize("kind", ["cov", "tau"])
def test_not_positive_definite_has_log_density_minus_infinity(rows, kind):
    logp, dmu, dmatrix = rows[kind](Y[:, :2], MU[:, :2], np.array([[0.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_array_equal(logp, [-np.inf])
    np.testing.assert_array_equal(dmu, 0)
    np.testing.assert_array_equal(dmatrix, 0)


def test_lengths_of_value_and_mean_that_disagree_are_an_error():
    with pytest.raises(ValueError, match="shape"):
        gg.logp(Y[0, :2], MU[0], COVARIANCE)


def test_a_covariance_of_another_size_is_an_error():
    with pytest.raises(ValueError, match="expected n = 3 in the last dimension"):
        gg.logp(Y[0, :2], MU[0, :2], COVARIANCE).eval()


@pytest.mark.parametrize(("kind", "structure"), STRUCTURES.items())
def test_a_matrix_that_is_not_square_is_an_error(kind, structure):
    with pytest.raises(ValueError, match="square"):
        structure(COVARIANCE[:2])


@pytest.mark.parametrize("kind", STRUCTURES)
def test_a_matrix_found_not_square_at_run_time_is_an_error(rows, kind):
    with pytest.raises(ValueError, match="disagree in n"):
        rows[kind](Y, MU, as_argument(kind, COVARIANCE)[:2])


@pytest.mark.parametrize("count", [1, 2])
def test_row_counts_that_disagree_are_an_error_at_run_time(rows, count):
    # Which error it is depends on which of PyTensor's own checks comes first.
    with pytest.raises((ValueError, AssertionError), match=r"shape|broadcast"):
        rows["cov"](np.repeat(Y, count, axis=0), np.repeat(MU, 3, axis=0), COVARIANCE)


def test_two_rows_and_three_means_are_an_error():
    with pytest.raises(ValueError, match="shape"):
        gg.logp(np.repeat(Y, 2, axis=0), np.repeat(MU, 3, axis=0), COVARIANCE)
