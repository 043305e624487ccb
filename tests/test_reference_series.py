"""Series at irregular times against other packages: tinygp and nlme, through ``AR1``.

Also nlme through ``Matern12``; test_reference_state_space.py has other processes.
"""

import numpy as np
import pytensor.tensor as pt
import pytest
from reference_cases import assert_normwise, read_columns, read_json, read_npz, require
from registry import interpreted

import pm_gaussgrad as gg

require("tinygp_quasisep", "gls_ovary_car1")


@pytest.mark.parametrize(("size", "suffix"), [("small", ""), ("large", "_large")])
def test_exponential_process_with_noise(size, suffix):
    """The exponential covariance of tinygp, s^2 exp(-r / l), with a variance for each point."""
    arrays = read_npz("tinygp_quasisep", "data.npz")
    x, diagonal, y = (arrays[f"{name}{suffix}"] for name in ("x", "diag", "y"))
    case = read_json("tinygp_quasisep")
    kernel, expected = case["kernels"]["exp"], case["kernels"]["exp"][size]
    length, scale, mean = pt.dscalars("length", "scale", "mean")
    noise, data = pt.tensor("noise", shape=diagonal.shape), pt.dvector("data")
    cov = gg.cov.AR1(scale**2, pt.exp(-1 / length), time=x) + gg.cov.Diagonal(noise)
    logp = gg.logp(data, mean, cov)
    wrt = [length, scale, mean, data, noise]
    function = interpreted([*wrt], [logp, *pt.grad(logp, wrt)])
    value, *slopes = function(*kernel["par"], case["mean"], y, diagonal)
    np.testing.assert_allclose(value, expected["logp"], rtol=1e-10)
    np.testing.assert_allclose(slopes[:2], expected["dpar"], rtol=1e-9)
    np.testing.assert_allclose(slopes[2], expected["dmean"], rtol=1e-9, atol=1e-9)
    assert_normwise(slopes[3][:50], expected["dy"], 1e-9)
    assert_normwise(slopes[4][:50], expected["ddiag"], 1e-9)


PROCESSES = {
    "AR1": lambda sigma, phi, time, mare: gg.cov.AR1(sigma**2, phi, time=time, group=mare),
    "Matern12": lambda sigma, phi, *where: gg.cov.Matern12(sigma, -1 / pt.log(phi), *where),
}


@pytest.fixture(scope="module", params=PROCESSES)
def ovary(request):
    """(beta, sigma, phi) -> logp and its gradient, solved regressors; the table shuffled."""
    columns = read_columns("gls_ovary_car1")
    order = np.random.default_rng(0).permutation(len(columns["Mare"]))
    time, y = (np.array(columns[name], dtype=float)[order] for name in ("Time", "follicles"))
    mare = np.array(columns["Mare"])[order]
    design = np.stack([np.ones_like(time), np.sin(2 * np.pi * time), np.cos(2 * np.pi * time)], 1)
    beta, sigma, phi = pt.dvector("beta"), *pt.dscalars("sigma", "phi")
    cov = PROCESSES[request.param](sigma, phi, time, mare)
    logp = gg.logp(y, design @ beta, cov)
    outputs = [logp, *pt.grad(logp, [beta, sigma, phi]), cov.solve(design.T) @ design]
    return interpreted([beta, sigma, phi], outputs)


def test_mares(ovary):
    """corCAR1 of nlme, by mare: maximum likelihood and restricted maximum likelihood."""
    case = read_json("gls_ovary_car1")
    for method in ("ML", "REML"):
        fit = case[method]
        beta, sigma, phi = list(fit["beta"].values()), fit["sigma"], fit["cor_par"]["Phi"]
        logp, of_beta, of_sigma, _, information = ovary(beta, sigma, phi)
        # That of nlme is corrected for the number of regressors.
        correction = 308 / 305 if method == "ML" else 1
        found = correction * np.linalg.inv(information)
        assert_normwise(found, np.array(fit["vcov_beta"]), 1e-5)
        if method == "ML":
            np.testing.assert_allclose(logp, fit["logLik"], rtol=1e-9)
            errors = np.sqrt(np.diag(fit["vcov_beta"]))
            np.testing.assert_allclose(of_beta * errors, 0, atol=1e-4)
            np.testing.assert_allclose(of_sigma * sigma, 0, atol=1e-2)
        else:
            restricted = logp - np.linalg.slogdet(information)[1] / 2 + 1.5 * np.log(2 * np.pi)
            np.testing.assert_allclose(restricted, fit["logLik"], rtol=1e-6)
