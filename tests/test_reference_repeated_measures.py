"""Longitudinal data against statsmodels, lme4 and nlme, through ``RepeatedMeasures``.

Mixed models have their random effects integrated out: within = Z G Z' + s I, a row of Z for
each visit. Where the regressors of the random effects are not a matter of visits, each distinct
row of Z is a visit, and the data sets have as many patterns as subjects. One compiled function
gives the log density, its gradients with respect to the mean and ``within``, and what
generalised least squares are made of.
"""

from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
import pytest
from reference_cases import (
    assert_normwise,
    read_columns,
    read_json,
    read_matrix,
    read_npz,
    require,
)
from registry import interpreted
from test_reference_lmm import reml

import pm_gaussgrad as gg

LME4 = {"lmm_dyestuff": "Batch", "lmm_sleepstudy": "Subject", "lmm_orthodont": "Subject"}
LME_R = [f"lme{number:02}" for number in range(0, 12, 2)]
require(*LME4, "sm_dietox_mixedlm", "sm_lme_R", "gls_orthodont_cs", "gls_ovary_car1")


@dataclass(frozen=True)
class Panel:
    """Responses, regressors of the mean, and who was measured when."""

    y: np.ndarray
    design: np.ndarray
    subject: np.ndarray
    visit: np.ndarray
    of_visits: np.ndarray

    @property
    def index(self):
        n_visits = len(self.of_visits)
        cov = gg.cov.RepeatedMeasures(np.eye(n_visits), self.subject, self.visit)
        return [p.data for p in cov.parameters[1:]]

    def within(self, G, scale):
        """Covariance over the visits, with the random effects integrated out."""
        return self.of_visits @ G @ self.of_visits.T + scale * np.eye(len(self.of_visits))


def panel(y, design, subject, random):
    """Visits from the rows of the random effects' design, repetitions of a row told apart."""
    subject = np.unique(np.asarray(subject), return_inverse=True)[1]
    seen, occurrence = {}, []
    for key in zip(subject, map(tuple, random), strict=True):
        occurrence.append(seen.get(key, 0))
        seen[key] = occurrence[-1] + 1
    rows = np.column_stack([random, occurrence])
    distinct, visit = np.unique(rows, axis=0, return_inverse=True)
    return Panel(y, design, subject, visit.ravel(), distinct[:, :-1])


@pytest.fixture(scope="module")
def evaluate():
    y, design, beta, within = pt.dvector("y"), pt.dmatrix("X'"), pt.dvector("beta"), pt.dmatrix("W")
    ndims = [len(d.split()) for d in gg.cov.RepeatedMeasures.parameter_shapes.values()]
    index = [pt.tensor(dtype="int64", shape=(None,) * ndim) for ndim in ndims[1:]]
    cov = gg.cov.RepeatedMeasures.from_parameters(within, *index)
    logp = gg.logp(y, pt.dot(beta, design), cov)
    solved = cov.solve(design)
    outputs = {
        "logp": logp,
        "beta_bar": pt.grad(logp, beta),
        "within_bar": pt.grad(logp, within),
        "gls": [pt.dot(design, solved.T), pt.dot(solved, y), *cov.quad_logdet(y)],
        "weighted residual": cov.solve(y - pt.dot(beta, design)),
    }
    flat = [*list(outputs.values())[:3], *outputs["gls"], outputs["weighted residual"]]
    function = interpreted([y, design, beta, within, *index], flat)

    def evaluate(data, beta, within):
        values = function(data.y, data.design.T.copy(), np.asarray(beta), within, *data.index)
        return dict(zip(outputs, [*values[:3], values[3:7], values[7]], strict=True))

    return evaluate


# statsmodels: growth of 72 pigs, random intercepts and slopes over twelve weeks


@pytest.fixture(scope="module")
def dietox():
    data = read_npz("sm_dietox_mixedlm", "data.npz")
    return panel(data["y"], data["X"], data["group"], data["Z_re"])


def test_dietox_at_the_estimates(dietox, evaluate):
    expected = read_json("sm_dietox_mixedlm")["ML"]
    within = dietox.within(np.array(expected["cov_re"]), expected["scale"])
    logp = evaluate(dietox, expected["fe"], within)["logp"]
    np.testing.assert_allclose(logp, expected["loglik"], rtol=1e-9)


def test_dietox_value_and_gradient(dietox, evaluate):
    expected = read_json("sm_dietox_mixedlm")["point"]
    within = dietox.within(np.array(expected["cov_re"]), expected["scale"])
    got = evaluate(dietox, expected["fe"], within)
    np.testing.assert_allclose(got["logp"], expected["logp_dense"], rtol=1e-9)
    np.testing.assert_allclose(got["beta_bar"], expected["dfe"], rtol=1e-9)
    G_bar = dietox.of_visits.T @ got["within_bar"] @ dietox.of_visits
    assert_normwise(G_bar, expected["dcov_re_full"], 1e-9)
    np.testing.assert_allclose(np.trace(got["within_bar"]), expected["dscale"], rtol=1e-9)


# nlme and lme4, as kept by statsmodels: six simulated data sets, printed to seven digits


def lme_r(name):
    columns = {
        k: np.array(v, dtype=float) for k, v in read_columns("sm_lme_R", f"{name}.csv").items()
    }
    fixed, random = (
        np.column_stack([v for k, v in columns.items() if k.startswith(prefix)])
        for prefix in ("exog_fe", "exog_re")
    )
    return panel(columns["endog"], fixed, columns["groups"], random)


@pytest.mark.parametrize("name", LME_R)
def test_lme_in_r(name, evaluate):
    data = lme_r(name)
    for method, fit in read_json("sm_lme_R")["cases"][name]["results"].items():
        G, [scale] = np.atleast_2d(fit["cov_re"]), fit["scale"]
        got = evaluate(data, fit["coef"], data.within(G, scale))
        restricted = method.startswith("reml")
        logp = reml(got["gls"], *data.design.shape) if restricted else got["logp"]
        np.testing.assert_allclose(logp, *fit["loglike"], rtol=0, atol=1e-3)
        if exact := fit.get("dense_logp_at_printed_values"):
            np.testing.assert_allclose(got["logp"], exact, rtol=1e-10)
        if "ranef_mean" in fit:
            # E[b | y] = G Z' alpha, of the first subject
            first = data.subject == 0
            rows = data.of_visits[data.visit[first]]
            effects = G @ rows.T @ got["weighted residual"][first]
            np.testing.assert_allclose(effects, fit["ranef_mean"], rtol=2e-5)


# lme4


@pytest.mark.parametrize("name", LME4)
def test_lme4(name, evaluate):
    """G = sigma^2 L L' with L = L(theta); gradients stored with respect to beta, theta, sigma."""
    columns, expected = read_columns(name), read_json(name)
    design, y = read_matrix(name, "X.csv"), read_matrix(name, "y.csv")[:, 0]
    random = np.ones((len(y), 1))
    if name == "lmm_sleepstudy":
        random = np.column_stack([random, np.array(columns["Days"], dtype=float)])
    data = panel(y, design, columns[LME4[name]], random)
    q = random.shape[1]
    # Lower triangle by column, as in lme4.
    basis = [np.outer(np.eye(q)[i], np.eye(q)[j]) for j in range(q) for i in range(j, q)]

    def at(beta, theta, sigma):
        L = np.tensordot(np.atleast_1d(theta), basis, axes=1)
        return L, evaluate(data, np.atleast_1d(beta), data.within(sigma**2 * L @ L.T, sigma**2))

    fit = expected["ML"]
    beta, theta = (np.array(list(fit[key].values())) for key in ("beta", "theta"))
    np.testing.assert_allclose(at(beta, theta, fit["sigma"])[1]["logp"], fit["logLik"], rtol=1e-9)

    point = expected["dense_point"]
    L, got = at(point["beta"], point["theta"], point["sigma"])
    np.testing.assert_allclose(got["logp"], point["logp"], rtol=1e-9)
    G_bar = data.of_visits.T @ got["within_bar"] @ data.of_visits
    theta_bar = [2 * point["sigma"] ** 2 * (G_bar * (B @ L.T)).sum() for B in basis]
    sigma_bar = 2 * point["sigma"] * ((G_bar * (L @ L.T)).sum() + np.trace(got["within_bar"]))
    gradient = np.concatenate([got["beta_bar"], theta_bar, [sigma_bar]])
    np.testing.assert_allclose(gradient, point["grad_beta_theta_sigma"], rtol=1e-6)


# nlme: compound symmetry, and an exponential correlation at irregular times


def orthodont():
    columns = read_columns("gls_orthodont_cs")
    age = np.array(columns["age"], dtype=float)
    female = np.array(columns["Sex"]) == "Female"
    design = np.column_stack([np.ones(len(age)), female, age - 11, female * (age - 11)])
    y = np.array(columns["distance"], dtype=float)
    data = panel(y, design, columns["Subject"], age[:, None])
    same = np.eye(len(data.of_visits))
    return data, lambda fit: same + fit["cor_par"]["Rho"] * (1 - same)


def ovary():
    columns = read_columns("gls_ovary_car1")
    time = np.array(columns["Time"], dtype=float)
    design = np.column_stack(
        [np.ones(len(time)), np.sin(2 * np.pi * time), np.cos(2 * np.pi * time)]
    )
    y = np.array(columns["follicles"], dtype=float)
    data = panel(y, design, columns["Mare"], time[:, None])
    lags = np.abs(data.of_visits - data.of_visits.T)
    return data, lambda fit: fit["cor_par"]["Phi"] ** lags


@pytest.mark.parametrize(
    ("case", "load"), [("gls_orthodont_cs", orthodont), ("gls_ovary_car1", ovary)]
)
def test_generalised_least_squares(case, load, evaluate):
    data, correlation = load()
    expected = read_json(case)
    fit = expected["ML"]
    beta = np.array(list(fit["beta"].values()))
    got = evaluate(data, beta, fit["sigma"] ** 2 * correlation(fit))
    np.testing.assert_allclose(got["logp"], fit["logLik"], rtol=1e-9)
    np.testing.assert_allclose(got["logp"], expected["dense_logp_at_ML"], rtol=1e-9)

    fit = expected["REML"]
    beta = np.array(list(fit["beta"].values()))
    got = evaluate(data, beta, fit["sigma"] ** 2 * correlation(fit))
    np.testing.assert_allclose(reml(got["gls"], *data.design.shape), fit["logLik"], rtol=1e-6)
    information, score, _, _ = got["gls"]
    np.testing.assert_allclose(np.linalg.solve(information, score), beta, rtol=1e-6)
    assert_normwise(np.linalg.inv(information), fit["vcov_beta"], 1e-6)


def test_orthodont_covariance():
    data, correlation = orthodont()
    fit = read_json("gls_orthodont_cs")["ML"]
    within = fit["sigma"] ** 2 * correlation(fit)
    dense = gg.cov.RepeatedMeasures(within, data.subject, data.visit).to_dense()
    expected = read_matrix("gls_orthodont_cs", "Sigma_at_ML.csv")
    assert_normwise(interpreted([], dense)(), expected, 1e-9)
