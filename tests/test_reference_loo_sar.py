"""Leave-one-out estimates against numbers of brms and loo (R), and against refits."""

import arviz as az
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from reference_cases import read_columns, read_json, read_matrix, require

import pm_gaussgrad as gg

require("loo_sar_crime")

SAR = "loo_sar_crime"

# The spatial lag model y = rho W y + X beta + e of crime in Columbus: in closed form
# y ~ N(A^-1 X beta, (A'A / sigma^2)^-1) with A = I - rho W.


@pytest.fixture(scope="module")
def crime():
    """The stored draws with the pointwise densities at each."""
    columns = {k: np.array(v, dtype=float) for k, v in read_columns(SAR).items()}
    weights = read_matrix(SAR, "W.csv")
    names = read_json(SAR)["draw_columns"]
    draws = read_matrix(SAR, "draws.csv").reshape(4, 1000, len(names))
    with pm.Model() as model:
        intercept, income, value, rho = (pm.Flat(name) for name in names[:-1])
        sigma = pm.HalfFlat("sigma")
        trend = intercept + income * columns["INC"] + value * columns["HOVAL"]
        lag = pt.eye(49) - rho * weights
        cov = gg.cov.Precision(lag.T @ lag / sigma**2)
        gg.MvNormal("crime", pt.linalg.solve(lag, trend), cov, observed=columns["CRIME"])
    posterior = {name: draws[..., i] for i, name in enumerate(names)}
    idata = az.from_dict({"posterior": posterior})
    return gg.loo_log_likelihood(idata, model, progressbar=False), model


@pytest.fixture(scope="module")
def elpd(crime):
    return az.loo(crime[0], pointwise=True, reff=1.0)


def test_pointwise_densities(crime):
    found = crime[0].log_likelihood["crime"].values.reshape(4000, 49)
    assert_allclose(found[:400], read_matrix(SAR, "pointwise_loglik_first400.csv"), rtol=1e-9)
    assert_allclose(found[:20], read_matrix(SAR, "pointwise_partition_first20.csv"), rtol=1e-9)


def test_joint_density_is_the_sum_one_step_ahead(crime):
    idata, model = crime
    first = az.from_dict({"posterior": idata.posterior.isel(chain=[0], draw=slice(20))})
    gg.lfo_log_likelihood(first, model, progressbar=False)
    joint = first.log_likelihood["crime"].sum("crime_dim_0")
    assert_allclose(joint.values.ravel(), read_json(SAR)["joint_loglik_first20"], rtol=1e-9)


# Observations 4 and 10 are influential: their weights have no finite variance, k > 0.7.
INFLUENTIAL = [3, 9]
ORDINARY = np.setdiff1d(np.arange(49), INFLUENTIAL)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")
def test_smoothed_importance_sampling(elpd):
    expected = read_json(SAR)["psis_loo"]
    pointwise, k = elpd.elpd_i.values, elpd.pareto_k.values
    assert_allclose(pointwise[ORDINARY], np.array(expected["pointwise"])[ORDINARY], atol=0.05)
    assert_allclose(
        pointwise[ORDINARY].sum(), sum(expected["pointwise"][i] for i in ORDINARY), atol=0.05
    )
    assert sorted(np.flatnonzero(k > 0.7)) == INFLUENTIAL
    assert_allclose(k, expected["pareto_k"], atol=0.05)
    assert_allclose(elpd.se, expected["se"], atol=0.1)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")
def test_against_refits(elpd):
    """Fitted again without each observation in turn, the two influential ones left out."""
    exact = read_json(SAR)["exact_loo"]
    gap = np.abs(elpd.elpd_i.values - exact["pointwise"])
    assert (gap[ORDINARY] < 4 * np.array(exact["mcse_pointwise"])[ORDINARY]).all()
    without_4 = np.delete(elpd.elpd_i.values, 3).sum()
    assert_allclose(without_4, np.delete(exact["pointwise"], 3).sum(), atol=0.3)
