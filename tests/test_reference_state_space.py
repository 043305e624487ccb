"""Processes in time against other packages and arithmetic with 120 digits.

tinygp's quasi-separable kernels on 50 and 3,000 points, Stan's automatic differentiation of a dense
celerite covariance of 60, and the same in 120 digits on 40. General terms of celerite and products
of processes have no names for users; kinds of the kernel are what they are.
"""

import numpy as np
import pytensor.tensor as pt
import pytest
from reference_cases import assert_normwise, read_json, read_matrix, read_npz, require
from registry import interpreted

import pm_gaussgrad as gg
from pm_gaussgrad.cov.series.state_space import StateSpace
from pm_gaussgrad.kernels.state_space.processes import LINEAR, WAVE

require("tinygp_quasisep", "stan_autodiff/celerite_60", "highprec")


def of_kind(kind, size, values, time):
    """A process by the parameters that the kernel has."""
    times, origin, _, noise, *_, group, order, ends = gg.cov.Matern12(1.0, 1.0, time).parameters
    index = group, order, ends
    values = [pt.as_tensor_variable(x)[None] for x in values]
    return StateSpace.of_processes([(kind, size, values)], times, origin, noise, *index)


def celerite(a, b, c, d, time):
    return of_kind(WAVE, 2, (a, b, c, d), time)


def matern_times_cosine(scale, sigma, period, time):
    """Of a product F is the Kronecker sum of those of both, g the product."""
    rate, turn, eye = np.sqrt(3) / scale, 2 * np.pi / period, np.eye(2)
    matern, wave = np.array([[0.0, 1.0], [-1.0, -2.0]]), np.array([[0.0, 1.0], [-1.0, 0.0]])
    system = rate * np.kron(matern, eye) + turn * np.kron(eye, wave)
    entries = [system[i, j] for i in range(4) for j in range(4)]
    return of_kind(LINEAR, 4, [*entries, sigma**2, 0.0, 0.0, 0.0], time)


# By tinygp's parameters, lengths before standard deviations.
KERNELS = {
    "exp": lambda ls, s, x: gg.cov.Matern12(s, ls, x),
    "matern32": lambda ls, s, x: gg.cov.Matern32(s, ls, x),
    "matern52": lambda ls, s, x: gg.cov.Matern52(s, ls, x),
    "cosine_exp": lambda ls, s, period, x: gg.cov.DampedCosine(s, ls, period, x),
    "celerite": celerite,
    "sho": lambda w, Q, s, x: gg.cov.SHO(s, 2 * np.pi / w, Q, x),
    "sho_overdamped": lambda w, Q, s, x: gg.cov.SHO(s, 2 * np.pi / w, Q, x),
    "matern52_plus_sho": lambda ls, s, w, Q, s2, x: (
        gg.cov.Matern52(s, ls, x) + gg.cov.SHO(s2, 2 * np.pi / w, Q, x)
    ),
    "matern32_times_cosine": matern_times_cosine,
}


# Interpreted, the exponentials of the product take half a minute.
CASES = [(name, size) for name in KERNELS for size in ("small", "large")][:-1]


@pytest.mark.parametrize(("name", "size"), CASES)
def test_tinygp(name, size):
    """Value and derivatives by parameters, mean, data and variances of the noise."""
    arrays, case = read_npz("tinygp_quasisep", "data.npz"), read_json("tinygp_quasisep")
    suffix = "" if size == "small" else "_large"
    x, diagonal, y = (arrays[f"{array}{suffix}"] for array in ("x", "diag", "y"))
    kernel, expected = case["kernels"][name], case["kernels"][name][size]
    theta = [pt.dscalar(f"p{i}") for i in range(len(kernel["par"]))]
    mean, data = pt.dscalar("mean"), pt.dvector("data")
    noise = pt.tensor("noise", shape=diagonal.shape)
    logp = gg.logp(data, mean, KERNELS[name](*theta, x) + gg.cov.Diagonal(noise))
    wrt = [*theta, mean, data, noise]
    function = interpreted(wrt, [logp, *pt.grad(logp, wrt)])
    value, *slopes = function(*kernel["par"], case["mean"], y, diagonal)
    *of_theta, of_mean, of_data, of_noise = slopes
    np.testing.assert_allclose(value, expected["logp"], rtol=1e-10)
    np.testing.assert_allclose(of_theta, expected["dpar"], rtol=1e-8)
    np.testing.assert_allclose(of_mean, expected["dmean"], rtol=1e-8)
    assert_normwise(of_data[:50], expected["dy"], 1e-9)
    assert_normwise(of_noise[:50], expected["ddiag"], 1e-9)


def two_terms(time, y):
    """A wave, an exponential and noise: (mean, theta) -> log density and its gradient."""
    mean, theta = pt.dscalar("mean"), pt.dvector("theta")
    a, b, c, d, a2, c2, s = (theta[i] for i in range(7))
    cov = celerite(a, b, c, d, time) + gg.cov.Matern12(pt.sqrt(a2), 1 / c2, time)
    logp = gg.logp(y, mean, cov + gg.cov.Diagonal(s**2))
    return interpreted([mean, theta], [logp, *pt.grad(logp, [mean, theta])])


def test_stan():
    case = "stan_autodiff/celerite_60"
    expected, distance = read_json(case), read_matrix(case, "D.csv")
    function = two_terms(distance[0], read_matrix(case, "y.csv")[:, 0])
    value, of_mean, of_theta = function(expected["beta"], expected["theta"])
    np.testing.assert_allclose(value, expected["logp"], rtol=1e-10)
    np.testing.assert_allclose(of_mean, expected["dbeta"], rtol=1e-8)
    np.testing.assert_allclose(of_theta, expected["dtheta"], rtol=1e-8)


def test_high_precision():
    case = read_npz("highprec", "param_celerite_n40.npz")
    value, _, of_theta = two_terms(case["t"], case["y"] - case["mu"])(0.0, case["theta"])
    np.testing.assert_allclose(value, case["logp"], rtol=1e-13)
    np.testing.assert_allclose(of_theta, case["dtheta"], rtol=1e-11)
