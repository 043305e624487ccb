"""Coefficients with a flat prior against the restricted likelihoods of other packages.

lme4 and nlme report it as ``gg.logp`` does, with -(n - p) / 2 log 2 pi; metafor and geoR add
log|X'X| / 2. Each is at the estimates of the package, also beside dense algebra. What was
integrated out, recovered, are the packages' estimates and predictions.
"""

import arviz as az
import numpy as np
import pymc as pm
import pytest
from reference_cases import (
    assert_normwise,
    each_of,
    read_columns,
    read_json,
    read_matrix,
    require,
)
from registry import interpreted
from scipy.spatial.distance import cdist

import pm_gaussgrad as gg

MODELS = {
    "lmm_dyestuff": [("Batch", ["1"])],
    "lmm_sleepstudy": [("Subject", ["1", "Days"])],
    "lmm_penicillin_crossed": [("plate", ["1"]), ("sample", ["1"])],
    "lmm_orthodont": [("Subject", ["1"])],
}
require(*MODELS, "gls_orthodont_cs", "gls_ovary_car1", "meta_konstantopoulos_3level", "sm_lme_R")
require("phylo_primates5")


def numbers(columns, *names):
    return [np.array(columns[name], float) for name in names]


def mixed(name, fit):
    """Data, design and covariance of a model of lme4 at its estimates."""
    columns, (theta, sigma) = read_columns(name), (list(fit["theta"].values()), fit["sigma"])
    effects = []
    for group, names in MODELS[name]:
        k = len(names)
        factor = np.zeros((k, k))
        factor.T[np.triu_indices(k)] = [theta.pop(0) for _ in range(k * (k + 1) // 2)]
        design = [np.ones(len(columns[group])) if x == "1" else columns[x] for x in names]
        design = np.column_stack(design).astype(float)
        effects.append(gg.cov.Effects(columns[group], sigma**2 * factor @ factor.T, design))
    y, X = read_matrix(name, "y.csv")[:, 0], read_matrix(name, "X.csv")
    return y, X, sum(effects) + gg.cov.Diagonal(sigma**2)


def orthodont(fit):
    columns = read_columns("gls_orthodont_cs")
    y, age = numbers(columns, "distance", "age")
    female = np.array([x == "Female" for x in columns["Sex"]], float)
    X = np.column_stack([np.ones(len(y)), female, age - 11, female * (age - 11)])
    own = fit["sigma"] ** 2, fit["cor_par"]["Rho"]
    return y, X, gg.cov.CompoundSymmetry(*own, group=columns["Subject"])


def ovary(fit):
    columns = read_columns("gls_ovary_car1")
    y, time = numbers(columns, "follicles", "Time")
    angle = 2 * np.pi * time
    X = np.column_stack([np.ones(len(y)), np.sin(angle), np.cos(angle)])
    own = fit["sigma"] ** 2, fit["cor_par"]["Phi"]
    return y, X, gg.cov.AR1(*own, time=time, group=columns["Mare"])


def meta(fit):
    columns = read_columns("meta_konstantopoulos_3level")
    y, known = numbers(columns, "yi", "vi")
    schools = [f"{a} {b}" for a, b in zip(columns["district"], columns["school"], strict=True)]
    between, within = fit["sigma2"]
    cov = gg.cov.Effects(columns["district"], between) + gg.cov.Effects(schools, within)
    return y, np.ones((len(y), 1)), cov + gg.cov.Diagonal(known)


def primates(fit):
    x, y = numbers(read_columns("phylo_primates5"), "X", "Y")
    tree = read_matrix("phylo_primates5", "vcv.csv")
    return y, np.column_stack([np.ones(5), x]), gg.cov.Dense(fit["sigma2"] * tree)


def spatial(name, fit):
    """geoR: exponential, and Matern of 3/2 without a factor in the distance."""
    columns = read_columns(name)
    x, other, y = numbers(columns, *columns)
    distance = cdist(np.c_[x, other], np.c_[x, other]) / fit["phi"]
    kernel = np.exp(-distance) * (1 + distance * name.endswith("matern15"))
    return (
        y,
        np.ones((len(y), 1)),
        gg.cov.Dense(fit["sigmasq"] * kernel) + gg.cov.Diagonal(fit["nugget"] + 1e-300),
    )


def by_distance(points, correlation, fit):
    """nlme's structures with a nugget, which is a share of the variance."""
    own, variance = fit["cor_par"], fit["sigma"] ** 2
    kernel = correlation(cdist(points, points) / own["range"])
    share = own["nugget"]
    return gg.cov.Dense((1 - share) * variance * kernel) + gg.cov.Diagonal(share * variance)


def meuse(fit):
    x, other, y, sd = numbers(read_columns("gls_meuse_exp"), "x", "y", "lz", "sd")
    cov = by_distance(np.c_[x, other], lambda d: np.exp(-d), fit)
    return y, np.column_stack([np.ones(len(y)), sd]), cov


def wheat(fit):
    """A coefficient of each of 56 varieties."""
    columns = read_columns("gls_wheat2_spher")
    x, other, y = numbers(columns, "latitude", "longitude", "yield")
    variety = np.array(columns["variety"])
    X = (variety[:, None] == np.unique(variety)).astype(float)
    return y, X, by_distance(np.c_[x, other], spherical, fit)


def spherical(distance):
    return np.where(distance < 1, 1 - 1.5 * distance + 0.5 * distance**3, 0)


def dense(y, X, cov):
    sigma = cov.to_dense().eval()
    inverse = np.linalg.inv(sigma)
    inner = X.T @ inverse @ X
    rest = y - X @ np.linalg.solve(inner, X.T @ inverse @ y)
    logdets = np.linalg.slogdet(sigma)[1] + np.linalg.slogdet(inner)[1]
    quad = rest @ inverse @ rest
    return -((len(y) - X.shape[1]) * np.log(2 * np.pi) + logdets + quad) / 2


def agrees(y, X, cov, expected, rtol, adds=False):
    """Whether the public route gives the number of a package, which adds log|X'X| / 2 or not."""
    logp = gg.logp(y, 0.0, gg.cov.Linear(X, "flat") + cov)
    value = interpreted([], [logp])()[0]
    np.testing.assert_allclose(value, dense(y, X, cov), rtol=1e-9)
    constant = np.linalg.slogdet(X.T @ X)[1] / 2 if adds else 0
    np.testing.assert_allclose(value + constant, np.ravel(expected)[0], rtol=rtol)


@pytest.mark.parametrize("name", MODELS)
def test_lme4(name):
    fit = read_json(name)["REML"]
    agrees(*mixed(name, fit), fit["logLik"], 1e-9)


@pytest.mark.parametrize(
    ("name", "make"), [("gls_orthodont_cs", orthodont), ("gls_ovary_car1", ovary)]
)
def test_nlme(name, make):
    fit = read_json(name)["REML"]
    agrees(*make(fit), fit["logLik"], 1e-6)


def test_metafor():
    fit = read_json("meta_konstantopoulos_3level")["REML"]
    agrees(*meta(fit), fit["logLik"], 1e-9, adds=True)


def test_ape():
    fit = read_json("phylo_primates5")["BM_REML"]
    agrees(*primates(fit), fit["logLik"], 1e-9)


@each_of("name", ["geor_s100_exponential"], "geor_s100_exponential")
def test_geor_exponential(name):
    fit = read_json(name)["REML"]
    agrees(*spatial(name, fit), fit["loglik"], 1e-8, adds=True)


@each_of("name", ["geor_elevation_matern15"], "geor_elevation_matern15")
def test_geor_matern(name):
    fit = read_json(name)["REML"]
    agrees(*spatial(name, fit), fit["loglik"], 1e-8, adds=True)


@each_of("make", [meuse, wheat], "gls_meuse_exp", "gls_wheat2_spher")
def test_nlme_spatial(make):
    fit = read_json({meuse: "gls_meuse_exp", wheat: "gls_wheat2_spher"}[make])["REML"]
    agrees(*make(fit), fit["logLik"], 1e-6)


def recovered(y, mu, summands, cov):
    """Moments of what was integrated out."""
    idata = az.from_dict({"posterior": {"unused": np.zeros((1, 1))}})
    with pm.Model() as model:
        pm.Normal("unused")
        gg.MvNormal("y", mu, sum(summands.values()) + cov, observed=y)
    found = gg.recover(idata, model, summands, moments=True, progressbar=False)
    return found.posterior.isel(chain=0, draw=0)


def test_recovered_coefficients_and_effects_of_lme4():
    """The estimates, their covariance and the predicted effects of sleepstudy."""
    name = "lmm_sleepstudy"
    fit = read_json(name)["ML"]
    y, X, cov = mixed(name, fit)
    effects, noise = cov.summands
    own = {"beta": gg.cov.Linear(X, "flat"), "u": effects}
    found = recovered(y, 0.0, own, noise)
    np.testing.assert_allclose(found["beta_mean"], list(fit["beta"].values()), rtol=1e-8)
    variances = np.diag(np.reshape(fit["vcov_beta"], (2, 2)))
    np.testing.assert_allclose(found["beta_variance"], variances, rtol=1e-8)
    for row in fit["ranef"]["Subject"]:
        level = found["u_mean"].sel(u_dim_0=row["level"])
        assert_normwise(level, [row["(Intercept)"], row["Days"]], 1e-6)


def lme_of(case):
    columns = read_columns("sm_lme_R", f"{case}.csv")
    data = {key: np.array(x, float) for key, x in columns.items()}
    parts = [[x for k, x in data.items() if k.startswith(p)] for p in ("exog_fe", "exog_re")]
    return data["groups"], data["endog"], *(np.column_stack(x) for x in parts)


LME = [f"lme{i:02}" for i in range(0, 12, 2)]


@pytest.mark.parametrize("method", ["ml_drf", "reml_drf"])
@pytest.mark.parametrize("case", LME)
def test_predicted_effects_of_lme4(case, method):
    """Conditional means and variances of the effects of the first group.

    lme4's are given the coefficients, with flat ones of which the means are the same: the printed
    ones have seven digits.
    """
    group, y, X, Z = lme_of(case)
    fit = read_json("sm_lme_R")["cases"][case]["results"][method]
    covariance, [scale] = np.atleast_2d(fit["cov_re"]), fit["scale"]
    own = {"u": gg.cov.Effects(group, covariance, Z)}
    found = recovered(y, X @ np.array(fit["coef"]), own, gg.cov.Diagonal(scale))
    first = found.sel(u_dim_0=group[0])
    variance = np.diag(np.atleast_2d(fit["ranef_condvar"]))
    np.testing.assert_allclose(first["u_mean"], fit["ranef_mean"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(first["u_variance"], variance, rtol=1e-6, atol=1e-6)
    if method == "ml_drf":
        return
    own["b"] = gg.cov.Linear(X, "flat")
    found = recovered(y, 0.0, own, gg.cov.Diagonal(scale))
    mean = found["u_mean"].sel(u_dim_0=group[0])
    np.testing.assert_allclose(mean, fit["ranef_mean"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["b_mean"], fit["coef"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["b_variance"], np.diag(np.atleast_2d(fit["vcov"])), rtol=1e-5)
    cov = gg.cov.Linear(X, "flat") + own["u"] + gg.cov.Diagonal(scale)
    [logp] = interpreted([], [gg.logp(y, 0.0, cov)])()
    np.testing.assert_allclose(logp, fit["loglike"], atol=1e-3)
