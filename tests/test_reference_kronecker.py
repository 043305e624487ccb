"""Matrix normal densities of SciPy's and Stan's unit tests, by the Kronecker structure."""

import numpy as np
from numpy.testing import assert_allclose
from reference_cases import read_json, require
from registry import interpreted

import pm_gaussgrad as gg

require("peer_scipy")

SCIPY = read_json("peer_scipy")["matrix_normal"]


def _logp(values, mean, *factors):
    """Log densities of matrices (m, rows, columns), row-major."""
    values = np.asarray(values, dtype=float).reshape(len(values), -1)
    cov = gg.cov.Kronecker(*(np.asarray(factor, dtype=float) for factor in factors))
    return interpreted([], gg.logp(values, np.ravel(mean), cov))()


def test_scipy_matrix_normal():
    """U over rows, V over columns: U x V for a matrix flattened row by row."""
    cases = SCIPY["cases"]
    logp = _logp([x["X"] for x in cases], SCIPY["mean"], SCIPY["U_row"], SCIPY["V_col"])
    assert_allclose(logp, [case["logp_scipy"] for case in cases], rtol=1e-12)
    assert_allclose(logp, [case["logp_vec_mvn"] for case in cases], rtol=1e-12)


def test_scipy_matrix_normal_by_columns():
    """Flattened column by column, the factors change places."""
    cases = SCIPY["cases"]
    columns = [np.transpose(case["X"]) for case in cases]
    logp = _logp(columns, np.transpose(SCIPY["mean"]), SCIPY["V_col"], SCIPY["U_row"])
    assert_allclose(logp, [case["logp_scipy"] for case in cases], rtol=1e-12)


def test_stan_matrix_normal_prec():
    """The true value: the literal in Stan's own test swaps the exponents of two determinants."""
    require("peer_stan_math")
    case = read_json("peer_stan_math")["matrix_normal_prec"]
    factors = (np.linalg.inv(case[name]) for name in ("Sigma_rowprec", "D_colprec"))
    [logp] = _logp([case["y"]], case["mu"], *factors)
    assert_allclose(logp, case["logp_correct_dense"], rtol=1e-12)
    assert_allclose(logp, case["logp_check_kron"], rtol=1e-12)
    assert abs(logp - case["logp_upstream_literal"]) > 8
