"""Log densities that Stan tests itself against, in the unit tests of its mathematics library.

Multivariate normal (covariance, precision, Cholesky factor), matrix normal, and a dynamic linear
model written out as one dense normal. Where Stan prints few digits its literal has the tolerance
stated there; the stored dense value has 1e-12.
"""

import numpy as np
import pytest
from reference_cases import assert_normwise, read_json, require
from test_reference_peers import STRUCTURES, as_argument, densities_of_rows, row

import pm_gaussgrad as gg

require("peer_stan_math")

STAN = read_json("peer_stan_math")
DLM = {case["name"]: case for case in STAN["gaussian_dlm_obs"]}
NORMAL = {case["name"]: case for case in STAN["multi_normal"]}


@pytest.fixture(scope="module")
def rows():
    return densities_of_rows()


@pytest.mark.parametrize("name", NORMAL)
@pytest.mark.parametrize("kind", STRUCTURES)
def test_multi_normal(rows, kind, name):
    case = NORMAL[name]
    logp = rows[kind](np.array(case["y"]), np.array(case["mu"]), as_argument(kind, case["Sigma"]))
    np.testing.assert_allclose(logp[0].sum(), case["logp_sum"], rtol=1e-6)
    np.testing.assert_allclose(logp[0].sum(), case["check_dense"], rtol=1e-12)


@pytest.fixture(scope="module")
def gradients(rows):
    case = NORMAL["NotVectorized"]
    y, mu = np.array(case["y"]), np.array(case["mu"])
    return {kind: f(y, mu, as_argument(kind, case["Sigma"])) for kind, f in rows.items()}


@pytest.mark.parametrize("kind", STRUCTURES)
def test_multi_normal_gradient_of_the_mean(gradients, kind):
    assert_normwise(gradients[kind][1], [STAN["gradient_rstan"]["dmu"]], 1e-12)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_multi_normal_gradient_of_the_matrix(gradients, kind):
    by_cov = np.array(STAN["gradient_rstan"]["dSigma"])
    covariance = np.array(NORMAL["NotVectorized"]["Sigma"], dtype=float)
    expected = {
        "cov": by_cov,
        "chol": np.tril(2 * by_cov @ np.linalg.cholesky(covariance)),
        "tau": -covariance @ by_cov @ covariance,
    }
    assert_normwise(gradients[kind][2], expected[kind], 1e-12)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_matrix_normal_prec(rows, kind):
    """The true value: the literal in Stan's own test swaps two exponents."""
    case = STAN["matrix_normal_prec"]
    precision = np.kron(case["Sigma_rowprec"], case["D_colprec"])
    y, mu = row(np.ravel(case["y"])), row(np.ravel(case["mu"]))
    matrix = precision if kind == "tau" else as_argument(kind, np.linalg.inv(precision))
    [logp] = rows[kind](y, mu, matrix)[0]
    np.testing.assert_allclose(logp, case["logp_correct_dense"], rtol=1e-12)
    assert abs(logp - case["logp_upstream_literal"]) > 8


@pytest.mark.parametrize("stored", ["logp", "dense_logp"])
@pytest.mark.parametrize("name", DLM)
@pytest.mark.parametrize("kind", STRUCTURES)
def test_gaussian_dlm_obs(rows, kind, name, stored):
    """The observations stacked by time, with the mean and covariance that the model implies."""
    case = DLM[name]
    y, mu = row(np.ravel(case["y"], order="F")), row(case["dense_mean"])
    logp = rows[kind](y, mu, as_argument(kind, case["dense_Sigma"]))[0]
    np.testing.assert_allclose(logp, [case[stored]], rtol=1e-9)


def test_all_error_behaviours_are_covered():
    """The six behaviours of the reference, one test each in test_reference_peers.py."""
    assert len(STAN["error_behaviour"]) == 6


def test_one_row_known_to_be_one_broadcasts_over_three_means():
    """Stan refuses; here a length known to be one broadcasts, as everywhere in PyTensor."""
    case = NORMAL["NotVectorized"]
    y, mu = np.array(case["y"]), np.repeat(case["mu"], 3, axis=0)
    logp = gg.logp(y, mu, np.array(case["Sigma"], dtype=float)).eval()
    np.testing.assert_allclose(logp, case["check_dense"] * np.ones(3))
