"""Processes in time, their sums, groups and noise, against dense formulas of their own."""

import functools
import re

import arviz as az
import mpmath as mp
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from registry import AS_WRITTEN, INTERPRETED, interpreted

import pm_gaussgrad as gg
from pm_gaussgrad.kernels.state_space.reverse import WINDOW
from pm_gaussgrad.likelihood.missing import given_observed

TIMES = np.array([2.0, 0.3, 7.1, 4.0, 4.4, 1.1, 9.0])  # in no order
GROUP = np.array([0, 1, 0, 1, 1, 0, 0])
N, ORIGIN = TIMES.size, -0.5
NOISE = np.linspace(0.2, 0.5, N)


def matern12(sigma, length, s, t):
    return sigma**2 * pt.exp(-pt.abs(s - t) / length)


def matern32(sigma, length, s, t):
    u = np.sqrt(3) * pt.abs(s - t) / length
    return sigma**2 * (1 + u) * pt.exp(-u)


def matern52(sigma, length, s, t):
    lag = pt.abs(s - t)
    u = np.sqrt(5) * lag / length
    return sigma**2 * (1 + u + 5 * lag**2 / (3 * length**2)) * pt.exp(-u)


def underdamped(sigma, rho, Q, s, t):
    u, eta = 2 * np.pi * pt.abs(s - t) / rho, pt.sqrt(1 - 1 / (4 * Q**2))
    wave = pt.cos(eta * u) + pt.sin(eta * u) / (2 * eta * Q)
    return sigma**2 * pt.exp(-u / (2 * Q)) * wave


def overdamped(sigma, rho, Q, s, t):
    u, eta = 2 * np.pi * pt.abs(s - t) / rho, pt.sqrt(1 / (4 * Q**2) - 1)
    wave = pt.cosh(eta * u) + pt.sinh(eta * u) / (2 * eta * Q)
    return sigma**2 * pt.exp(-u / (2 * Q)) * wave


def rotation(sigma, period, Q0, dQ, f, s, t):
    """By S0, w0 and Q of both terms, as celerite2 documents its ``RotationTerm``."""
    total, amplitude = 0, sigma**2 / (1 + f)
    for Q, turns, share in ((0.5 + Q0 + dQ, 4, 1), (0.5 + Q0, 8, f)):
        w0 = turns * np.pi * Q / (period * pt.sqrt(4 * Q**2 - 1))
        S0 = share * amplitude / (w0 * Q)
        total += underdamped(pt.sqrt(S0 * w0 * Q), 2 * np.pi / w0, Q, s, t)
    return total


def damped_cosine(sigma, length, period, s, t):
    return sigma**2 * pt.exp(-pt.abs(s - t) / length) * pt.cos(2 * np.pi * (s - t) / period)


def carma(sigma, a0, a1, b, s, t):
    """Of A(s) = s^2 + a1 s + a0 and B(s) = 1 + b s: of z + b z', z without B."""
    lag, c = pt.abs(s - t), a1 / 2
    d = pt.sqrt(a0 - c**2)
    even, odd = 1 + b**2 * a0, 1 - b**2 * a0
    wave = even * pt.cos(d * lag) + odd * c / d * pt.sin(d * lag)
    return sigma**2 * pt.exp(-c * lag) * wave / even


def as_carma(sigma, a0, a1, b, time, group=None):
    ar, ma = pt.stack([a0, a1], axis=-1), pt.stack([b], axis=-1)
    return gg.cov.CARMA(sigma, ar, ma, time, group)


def walk(order, sigma, s, t):
    low, high = pt.minimum(s, t) - ORIGIN, pt.maximum(s, t) - ORIGIN
    of_order = {
        1: low,
        2: low**2 * (3 * high - low) / 6,
        3: low**3 * (10 * high**2 - 5 * low * high + low**2) / 120,
    }
    return sigma**2 * of_order[order]


def wiener(order):
    return functools.partial(gg.cov.Wiener, order=order, origin=ORIGIN)


# The structure, its covariance of two times, and a point.
PARTS = {
    "Matern12": (gg.cov.Matern12, matern12, (1.3, 2.0)),
    "Matern32": (gg.cov.Matern32, matern32, (0.8, 3.0)),
    "Matern52": (gg.cov.Matern52, matern52, (1.1, 4.0)),
    "SHO": (gg.cov.SHO, underdamped, (1.2, 3.0, 2.0)),
    "overdamped SHO": (gg.cov.SHO, overdamped, (1.2, 3.0, 0.2)),
    "Rotation": (gg.cov.Rotation, rotation, (0.9, 3.5, 1.5, 0.6, 0.4)),
    "DampedCosine": (gg.cov.DampedCosine, damped_cosine, (1.4, 6.0, 2.5)),
    "CARMA": (as_carma, carma, (1.1, 2.0, 0.9, 0.6)),
    "Wiener": (wiener(1), functools.partial(walk, 1), (0.6,)),
    "Wiener of order 2": (wiener(2), functools.partial(walk, 2), (0.2,)),
    "Wiener of order 3": (wiener(3), functools.partial(walk, 3), (0.1,)),
}
SUMS = {
    **{name: [name] for name in PARTS},
    "three": ["Matern12", "SHO", "Matern52"],
    "oscillators": ["Wiener of order 2", "Rotation", "overdamped SHO"],
    "cosine": ["DampedCosine", "Wiener", "Matern32"],
    "moving average": ["CARMA", "Matern12"],
}


def dense_logp(y, sigma):
    """Rows of y; differentiated by PyTensor."""
    chol = pt.linalg.cholesky(sigma)
    white = pt.linalg.solve_triangular(chol, y.T, lower=True)
    logdet = 2 * pt.log(pt.diag(chol)).sum()
    return -(pt.square(white).sum(0) + logdet + N * np.log(2 * np.pi)) / 2


def both(parts, group=None):
    """Symbols of the parameters, a point, the sum of processes, and its covariance matrix."""
    theta, point, total, sigma = [], [], None, 0
    for k, name in enumerate(parts):
        build, twin, values = PARTS[name]
        if group is None:
            own = [pt.dscalar(f"x{k}{i}") for i in range(len(values))]
            each, same = own, 1.0
            point += values
        else:
            own = [pt.tensor(f"x{k}{i}", shape=(2,)) for i in range(len(values))]
            each = [x[group][:, None] for x in own]
            same = (group[:, None] == group).astype(float)
            point += [np.array([x, 1.2 * x]) for x in values]
        cov = build(*own, time=TIMES, group=group)
        total = cov if total is None else total + cov
        sigma += twin(*each, TIMES[:, None], TIMES[None]) * same
        theta += own
    return theta, point, total, sigma


def evaluated(*outputs):
    return interpreted([], list(outputs), AS_WRITTEN)()


@functools.cache
def example():
    """Three processes at a point, in groups, with noise: the structure and its matrix."""
    theta, point, total, sigma = both(SUMS["three"], GROUP)
    cov = total + gg.cov.Diagonal(NOISE)
    replaced = dict(zip(theta, map(pt.constant, point), strict=True))
    matrix = evaluated(pytensor.graph.replace.graph_replace(sigma, replaced))[0] + np.diag(NOISE)
    built = cov.resolved
    values = pytensor.graph.replace.graph_replace(list(built.parameters), replaced, strict=False)
    return built.structure.from_parameters(*values), matrix


def beside(wrt, point, logp, dense):
    """Value and gradients of both, the twin as it is written."""
    for x, mode in ((logp, INTERPRETED), (dense, AS_WRITTEN)):
        yield interpreted(wrt, [x, *pt.grad(x.sum(), wrt)], mode)(*point)


@pytest.mark.parametrize("name", SUMS)
def test_value_and_gradient_in_groups(name, rng):
    """Of two rows, with noise of each observation, by all parameters, noise and data."""
    theta, point, total, sigma = both(SUMS[name], GROUP)
    y, noise = pt.dmatrix("y"), pt.tensor("noise", shape=(N,))
    wrt = [*theta, noise, y]
    logp = gg.logp(y, 0.0, total + gg.cov.Diagonal(noise))
    dense = dense_logp(y, sigma + pt.diag(noise))
    at = [*point, NOISE, rng.normal(size=(2, N))]
    for a, b in zip(*beside(wrt, at, logp, dense), strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", SUMS)
def test_one_series_without_noise(name, rng):
    theta, point, cov, sigma = both(SUMS[name])
    y = rng.normal(size=(1, N))
    found, expected = beside(theta, point, gg.logp(y, 0.0, cov), dense_logp(pt.constant(y), sigma))
    # Smooth paths at close times: the condition number is up to 1e6.
    for a, b in zip(found, expected, strict=True):
        assert_allclose(a, b, rtol=1e-8)


@pytest.mark.parametrize("name", ["Matern12", "SHO", "Wiener of order 2", "three"])
def test_groups_of_any_length(name, rng):
    """As each alone: cotangents are added up some observations at a time, wherever groups begin."""
    lengths = [3, WINDOW + 44, 1, WINDOW, 90]
    group, times = np.repeat(np.arange(5), lengths), rng.uniform(0, 50, sum(lengths))
    y, theta, point = rng.normal(size=times.size), [], []

    def logp(own, number):
        theta_of, total = iter(theta), gg.cov.Diagonal(0.1, size=own.sum())
        for part in SUMS[name]:
            build, _, values = PARTS[part]
            given = [next(theta_of) for _ in values]
            total = build(*given, time=times[own], group=number) + total
        return gg.logp(y[own], 0.0, total)

    for k, part in enumerate(SUMS[name]):
        values = PARTS[part][2]
        theta += [pt.dscalar(f"x{k}{i}") for i in range(len(values))]
        point += values
    found = logp(np.full(times.size, True), group)
    each = sum(logp(group == g, None) for g in range(5))
    for a, b in zip(*beside(theta, point, found, each), strict=True):
        assert_allclose(a, b, rtol=1e-10)


def test_members(rng):
    cov, sigma = example()
    residual, rows, eye = rng.normal(size=N), rng.normal(size=(2, N)), np.eye(N)
    dense, diagonal, some, times, solved, logdet, inverse, drawn, white = evaluated(
        cov.to_dense(),
        cov.diagonal(),
        cov.rows(pt.constant([2, 4])),
        cov.times(rows),
        cov.solve(residual),
        cov.logdet(),
        cov.inverse_diagonal(),
        cov.color(eye),
        cov.whiten(eye),
    )
    assert_allclose(dense, sigma, rtol=1e-12, atol=1e-14)
    assert_allclose(diagonal, np.diag(sigma), rtol=1e-12)
    assert_allclose(some, sigma[[2, 4]], rtol=1e-12, atol=1e-14)
    assert_allclose(times, rows @ sigma, rtol=1e-11)
    assert_allclose(solved, np.linalg.solve(sigma, residual), rtol=1e-11)
    assert_allclose(logdet, np.linalg.slogdet(sigma)[1], rtol=1e-12)
    assert_allclose(inverse, np.diag(np.linalg.inv(sigma)), rtol=1e-11)
    assert_allclose(drawn.T @ drawn, sigma, rtol=1e-11, atol=1e-12)
    assert_allclose(white @ white.T, np.linalg.inv(sigma), rtol=1e-10, atol=1e-11)


def test_one_step_ahead(rng):
    """Innovations are of what is earlier in time, in the order of the table."""
    cov, sigma = example()
    y = rng.normal(size=N)
    white, scales = evaluated(*cov.innovations(y))
    for i in range(N):
        past = np.flatnonzero(TIMES[i] > TIMES)
        weights = np.linalg.solve(sigma[np.ix_(past, past)], sigma[past, i])
        variance = sigma[i, i] - weights @ sigma[past, i]
        assert_allclose(white[i], (y[i] - weights @ y[past]) / np.sqrt(variance), rtol=1e-10)
        assert_allclose(scales[i], np.log(variance) / 2, rtol=1e-10, atol=1e-12)


def test_gaps_are_left_out(rng):
    """Rows that miss different entries, and one that misses all."""
    cov, sigma = example()
    y = rng.normal(size=(3, N))
    y[0, [0, 4]], y[1, 3], y[2] = np.nan, np.nan, np.nan
    found = evaluated(gg.logp(y, 0.0, cov))[0]
    for row, value in zip(y, found, strict=True):
        seen = np.flatnonzero(~np.isnan(row))
        inner, r = sigma[np.ix_(seen, seen)], row[seen]
        quad = r @ np.linalg.solve(inner, r) + np.linalg.slogdet(inner)[1]
        assert_allclose(value, -(quad + seen.size * np.log(2 * np.pi)) / 2, rtol=1e-12)


def test_marginal():
    cov, sigma = example()
    kept = np.array([0, 2, 3, 6])
    some = gg.cov.marginal(cov, kept)
    assert_allclose(evaluated(some.to_dense())[0], sigma[np.ix_(kept, kept)], rtol=1e-12)


@pytest.mark.parametrize("apart", [0.0, 1e-9, 1e-4])
@pytest.mark.parametrize(
    "build",
    [
        lambda time, group: (
            gg.cov.Matern52(1e3, 2.0, time, group) + gg.cov.SHO(1, 2, 30, time, group)
        ),
        lambda time, group: gg.cov.Wiener(2.0, time, order=2, group=group),
    ],
    ids=["stationary", "from its origin"],
)
def test_draws_of_what_is_near_in_time(build, apart):
    """A component is drawn at times that are equal or nearly so, and where it begins."""
    time = np.array([1.0, 1 + apart, 1 + 2 * apart, 0.0, 2.0, 0.0])
    cov = build(time, list("aaaaab"))
    drawn, sigma = evaluated(cov.draw_semidefinite(pt.constant(np.eye(time.size))), cov.to_dense())
    assert_allclose(drawn.T @ drawn, sigma, rtol=1e-10, atol=1e-12 * sigma.max())


def test_components_at_times_of_observations(fitted):
    """New times may be those of data, and each other's."""
    model, idata = fitted
    every = np.append(TIMES, [TIMES[0], TIMES[0], 11.0])
    trend = gg.cov.Matern52(1.0, model["length"], every)
    found = gg.predict(
        idata,
        mu=0.5,
        cov=trend + gg.cov.SHO(0.8, 2.0, 3.0, every) + gg.cov.Diagonal(model["noise"] ** 2),
        new=np.arange(N, N + 3),
        component=trend,
        model=model,
        name="found",
        extend_inferencedata=False,
        progressbar=False,
        random_seed=3,
    )["found"].to_numpy()
    assert np.isfinite(found).all()
    assert_allclose(found[..., 0], found[..., 1], atol=1e-5)


def test_conditional(rng):
    """Means, variances and, as draws are linear in white noise, the covariance of draws."""
    cov, sigma = example()
    new, residual = np.array([1, 2, 5]), rng.normal(size=N)
    old = np.setdiff1d(np.arange(N), new)
    entries = given_observed(cov, np.isin(np.arange(N), new))
    width = int(cov.noise_size(N))
    filled, variances, draws = evaluated(
        entries.fill(pt.constant(residual)),
        entries.variances(),
        entries.draw(
            pt.constant(residual), pt.constant(np.vstack([np.zeros(width), np.eye(width)]))
        ),
    )
    weights = np.linalg.solve(sigma[np.ix_(old, old)], sigma[np.ix_(old, new)])
    spread = sigma[np.ix_(new, new)] - weights.T @ sigma[np.ix_(old, new)]
    assert_allclose(filled[new], residual[old] @ weights, rtol=1e-10)
    assert_array_equal(filled[old], residual[old])
    assert_allclose(variances[new], np.diag(spread), rtol=1e-10)
    moved = draws[1:, new] - draws[0, new]
    assert_allclose(moved.T @ moved, spread, rtol=1e-10, atol=1e-11)


def test_repeated_times(rng):
    """Made twice with noise; without it an error that says which."""
    time, y = np.array([1.0, 3.0, 1.0, 2.5]), rng.normal(size=4)
    process = gg.cov.Matern52(1.0, 2.0, time) + gg.cov.SHO(0.7, 1.5, 3.0, time)
    noisy = process + gg.cov.Diagonal(0.3)
    found, sigma = evaluated(gg.logp(y, 0.0, noisy), noisy.to_dense())
    quad = y @ np.linalg.solve(sigma, y) + np.linalg.slogdet(sigma)[1]
    assert_allclose(found, -(quad + 4 * np.log(2 * np.pi)) / 2, rtol=1e-12)
    assert_allclose(sigma[0, 2], 1.49, rtol=1e-12)
    with pytest.raises(
        ValueError, match=r"two observations at time 1 and no noise.*add independent"
    ):
        gg.logp(y, 0.0, process)
    # Noise of the others does not help.
    some = process + gg.cov.Diagonal(np.array([0.0, 1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="two observations at time 1"):
        gg.logp(y, 0.0, some)
    gg.cov.Matern52(1.0, 2.0, time, group=["a", "a", "b", "b"]).check_constants()


@pytest.fixture(scope="module")
def fitted():
    """A model of two processes and noise, two draws of its parameters, and what is not yet seen."""
    rng = np.random.default_rng(8)
    every = np.append(TIMES, [0.7, 5.0, 11.0])
    with pm.Model() as model:
        length, noise = pm.HalfNormal("length"), pm.HalfNormal("noise")
        trend, cycle = gg.cov.Matern52(1.0, length, TIMES), gg.cov.SHO(0.8, 2.0, 3.0, TIMES)
        y = rng.normal(size=N)
        gg.MvNormal("y", 0.5, trend + cycle + gg.cov.Diagonal(noise**2), observed=y)
    lengths, noises = np.array([[2.0, 4.0]]), np.array([[0.3, 0.5]])
    idata = az.from_dict({"posterior": {"length": lengths, "noise": noises}})
    model.y, model.trend, model.every = y, trend, every
    return model, idata


@pytest.mark.parametrize("component", [False, True], ids=["new observations", "component"])
def test_prediction(fitted, component):
    """At new times, of all and of one process, at each draw."""
    model, idata = fitted
    every, new = model.every, np.arange(N, N + 3)
    trend = gg.cov.Matern52(1.0, model["length"], every)
    whole = trend + gg.cov.SHO(0.8, 2.0, 3.0, every) + gg.cov.Diagonal(model["noise"] ** 2)
    options = {"component": trend} if component else {}
    given = {"mu": 0.5, "cov": whole, "new": new, "diag": True, "model": model, "name": "found"}
    gg.predict(idata := idata.copy(), **given, **options, progressbar=False)
    found = idata.predictions
    s, t = every[:, None], every[None]
    for draw, (length, noise) in enumerate([(2.0, 0.3), (4.0, 0.5)]):
        smooth, wave = evaluated(matern52(1.0, length, s, t), underdamped(0.8, 2.0, 3.0, s, t))
        sigma = smooth + wave + noise**2 * np.eye(every.size)
        part = smooth if component else sigma
        weights = np.linalg.solve(sigma[:N, :N], part[:N, N:])
        mean = (0.0 if component else 0.5) + (model.y - 0.5) @ weights
        spread = np.diag(part[N:, N:] - weights.T @ part[:N, N:])
        assert_allclose(found["found_mean"].values[0, draw], mean, rtol=1e-9)
        assert_allclose(found["found_variance"].values[0, draw], spread, rtol=1e-9)


def sizes_of(cov):
    sigma, y = evaluated(cov.to_dense())[0], np.random.default_rng(4).normal(size=cov.size)
    quad = y @ np.linalg.solve(sigma, y) + np.linalg.slogdet(sigma)[1]
    return gg.logp(y, 0.0, cov), -(quad + y.size * np.log(2 * np.pi)) / 2


SERIES = gg.cov.Matern32(1.2, 2.0, TIMES)
NOISY = SERIES + gg.cov.Diagonal(0.2)
WITHIN = {
    "Scaled": lambda: gg.cov.Scaled(NOISY, np.linspace(1, 2, N)),
    "Scaled with noise": lambda: (
        gg.cov.Scaled(SERIES, np.linspace(1, 2, N)) + gg.cov.Diagonal(NOISE)
    ),
    "LowRank": lambda: gg.cov.LowRank(np.vander(TIMES / 9, 2)) + NOISY,
    "LowRank without noise": lambda: gg.cov.LowRank(np.vander(TIMES / 9, 2)) + SERIES,
    "Dense": lambda: gg.cov.Dense(np.eye(N)) + SERIES,
    "blocks": lambda: gg.cov.BlockDiagonal(NOISY, gg.cov.Wiener(1.0, TIMES)),
    "blocks with noise": lambda: gg.cov.BlockDiagonal(SERIES, SERIES) + gg.cov.Diagonal(0.3),
    "factor": lambda: gg.cov.Kronecker(np.eye(2) + 0.3, NOISY),
    "factor with noise": lambda: gg.cov.Kronecker(SERIES, np.eye(2) + 0.3) + gg.cov.Diagonal(0.3),
    "within": lambda: gg.cov.RepeatedMeasures(
        SERIES, np.repeat([0, 1], N)[1:], np.tile(np.arange(N), 2)[1:]
    ),
    "multiple": lambda: 2 * (SERIES + gg.cov.SHO(1.0, 2.0, 0.4, TIMES)) + gg.cov.Diagonal(0.2),
}


@pytest.mark.parametrize("name", WITHIN)
def test_in_other_structures(name):
    found, expected = sizes_of(WITHIN[name]())
    assert_allclose(evaluated(found)[0], expected, rtol=1e-11)


def informations(names):
    """Of all parameters and the noise in groups: symbols, a point, by the kernel and densely."""
    theta, point, total, _ = both(SUMS[names], GROUP)
    noise = pt.tensor("noise", shape=(N,))
    theta, cov = [*theta, noise], total + gg.cov.Diagonal(noise)
    dense = gg.cov.Dense(cov.to_dense())
    found = [gg.fisher_information(0.0, x, theta) for x in (cov, dense)]
    return theta, [*point, NOISE], found


@pytest.mark.parametrize("name", ["three", "oscillators", "cosine", "moving average"])
def test_fisher_information(name):
    theta, point, outputs = informations(name)
    found, expected = interpreted(theta, outputs, AS_WRITTEN)(*point)
    assert_allclose(found, expected, rtol=1e-10, atol=1e-12 * np.abs(expected).max())


@pytest.mark.compiled
def test_fisher_information_compiled():
    """The kernel, in an interpreted graph."""
    theta, point, outputs = informations("Matern12")
    found, expected = interpreted(theta, outputs, AS_WRITTEN)(*point)
    assert_allclose(found, expected, rtol=1e-10, atol=1e-12 * np.abs(expected).max())


def critical_logp(y, time, noise, sigma, rho, Q):
    """In arithmetic of 60 digits; of Q = 1/2 by the limit."""
    n = len(y)
    w, matrix = 2 * mp.pi / rho, mp.matrix(n, n)
    eta = mp.sqrt(mp.mpc(1 - 1 / (4 * Q**2)))
    for i in range(n):
        for j in range(n):
            u = w * abs(mp.mpf(time[i]) - mp.mpf(time[j]))
            sine = u if eta == 0 else mp.sin(eta * u) / eta
            wave = mp.cos(eta * u) + sine / (2 * Q)
            matrix[i, j] = mp.re(sigma**2 * mp.exp(-u / (2 * Q)) * wave) + noise * (i == j)
    residual = mp.matrix([mp.mpf(x) for x in y])
    quad = (residual.T * mp.lu_solve(matrix, residual))[0]
    return -(quad + mp.log(mp.det(matrix)) + n * mp.log(2 * mp.pi)) / 2


@pytest.mark.parametrize("off", [0.0, 1e-12, -1e-12, 1e-5, -1e-5])
def test_critical_damping(off):
    """Value and gradient at Q = 1/2 and close to it, against 60 digits."""
    time, y, noise = [0.0, 0.3, 1.7, 2.0], [0.4, -0.3, 1.1, 0.2], 0.125
    theta = [pt.dscalar(name) for name in ("sigma", "rho", "Q")]
    cov = gg.cov.SHO(*theta, time) + gg.cov.Diagonal(noise)
    logp = gg.logp(y, 0.0, cov)
    point = 1.25, 3.5, 0.5 + off
    found = interpreted(theta, [logp, *pt.grad(logp, theta)])(*point)
    with mp.workdps(60):
        of_theta = functools.partial(critical_logp, y, time, noise)
        exact = [mp.mpf(x) for x in point]
        expected = [of_theta(*exact)]
        for k in range(3):
            shifted = (
                of_theta(*[x + h if i == k else x for i, x in enumerate(exact)])
                for h in (mp.mpf(10) ** -20, -(mp.mpf(10) ** -20))
            )
            up, down = shifted
            expected.append((up - down) / (2 * mp.mpf(10) ** -20))
    assert_allclose(found, [float(x) for x in expected], rtol=1e-12)


@pytest.mark.parametrize("name", ["Matern12", "Matern32", "Matern52", "SHO", "DampedCosine"])
def test_far_and_equal_times(name, rng):
    """Steps of nothing and of a million length scales: pairs that are independent of others."""
    build, twin, point = PARTS[name]
    time, y = np.array([0.0, 2e6, 0.0, 2e6, 2e6 + 0.5, 1.5, 0.25]), rng.normal(size=N)
    point = (*point[:1], 1.0, *point[2:])
    theta = [pt.dscalar(f"x{i}") for i in range(len(point))]
    sigma = twin(*theta, time[:, None] % 2e6, time % 2e6)
    sigma *= (time[:, None] >= 1e6) == (time >= 1e6)
    dense = dense_logp(pt.constant(y[None]), sigma + 0.3 * np.eye(N))
    logp = gg.logp(y[None], 0.0, build(*theta, time) + gg.cov.Diagonal(0.3))
    for a, b in zip(*beside(theta, point, logp, dense), strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", PARTS)
def test_what_is_no_process_has_no_density(name):
    """Each parameter in turn; the gradient is zero."""
    build, _, point = PARTS[name]
    theta = [pt.dscalar(f"x{i}") for i in range(len(point))]
    y = pt.dvector("y")
    logp = gg.logp(y, 0.0, build(*theta, TIMES) + gg.cov.Diagonal(0.2))
    function = interpreted([*theta, y], [logp, *pt.grad(logp, [*theta, y])])
    wrongs = [(k, wrong) for k in range(len(point)) for wrong in (np.nan, 0.0, -1.0)]
    if name == "Rotation":  # excess and share of the harmonic may be zero
        wrongs = [(k, wrong) for k, wrong in wrongs if k < 3 or wrong != 0]
    if name == "CARMA":  # moving averages may be any number
        wrongs = [(k, wrong) for k, wrong in wrongs if k < 3 or np.isnan(wrong)]
    for k, wrong in [(0, np.inf), *wrongs]:
        values = function(*[wrong if i == k else x for i, x in enumerate(point)], np.ones(N))
        assert values[0] == -np.inf
        for slope in values[1:]:
            assert_array_equal(slope, np.zeros_like(slope))


def test_zero_shares_of_a_rotation(rng):
    """Without excess and harmonic it is one oscillator, of a damped period."""
    y, Q0, period = rng.normal(size=N), 1.5, 3.0
    f, dQ = pt.dscalars("f", "dQ")
    noise = gg.cov.Diagonal(0.2)
    logp = gg.logp(y, 0.0, gg.cov.Rotation(1.3, period, Q0, dQ, f, TIMES) + noise)
    rho = period * np.sqrt(1 - 1 / (4 * 2.0**2))
    alone = evaluated(gg.logp(y, 0.0, gg.cov.SHO(1.3, rho, 2.0, TIMES) + noise))[0]
    value, *slopes = interpreted([f, dQ], [logp, *pt.grad(logp, [f, dQ])])(0.0, 0.0)
    assert_allclose(value, alone, rtol=1e-12)
    assert np.isfinite(slopes).all()
    assert np.all(np.array(slopes) != 0)


MISTAKES = {
    "negative": (lambda: gg.cov.Matern32(-1.0, 1.0, [0, 1]), "`sigma` has the entry -1"),
    "zero": (lambda: gg.cov.SHO(1.0, 1.0, 0.0, [0, 1]), "`Q` has the entry 0"),
    "share": (
        lambda: gg.cov.Rotation(1.0, 1.0, 1.0, 0.0, -0.5, [0, 1]),
        "`f` is -0.5, expected at least 0",
    ),
    "not finite": (lambda: gg.cov.Matern12(np.nan, 1.0, [0, 1]), "`sigma` has 1 entries"),
    "lengths": (
        lambda: gg.cov.Matern12(1.0, 1.0, [0, 1, 2], group=["a", "b"]),
        "`time` has 3 entries and `group` 2",
    ),
    "missing time": (lambda: gg.cov.Matern12(1.0, 1.0, [0, np.nan]), "`time` of observation 1"),
    "labels": (
        lambda: gg.cov.Matern52([1.0, 2.0], 1.0, [0, 1], group=["a", "b"]),
        "expected the numbers 0 to 1",
    ),
    "early": (
        lambda: gg.cov.Wiener(1.0, [2.0, 0.5], origin=1.0),
        "`time` of observation 1 is 0.5, expected none before the origin, 1; pass an earlier",
    ),
    "order": (lambda: gg.cov.Wiener(1.0, [0, 1], order=4), "`order` is 4, expected 1, 2 or 3"),
    "origin": (lambda: gg.cov.Wiener(1.0, [0, 1], origin=np.inf), "`origin` is inf"),
    "at the origin": (
        lambda: gg.logp(np.zeros(2), 0.0, gg.cov.Wiener(1.0, [0, 1])),
        "an observation without noise at the origin, 0",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    build, message = MISTAKES[name]
    with pytest.raises(ValueError, match=r"gg\.cov\..*" + re.escape(message)):
        build()


def test_symbolic_times_are_refused():
    with pytest.raises(TypeError, match="`time` is symbolic, expected constant data"):
        gg.cov.SHO(1.0, 1.0, 1.0, pt.dvector("time"))


def test_sums_are_of_the_same_times():
    """The origin of a walk matters to another walk alone."""
    matern, later = gg.cov.Matern32(1.0, 1.0, [1, 2, 4]), gg.cov.Matern32(1.0, 1.0, [1, 3, 4])
    walks = [gg.cov.Wiener(1.0, [1, 2, 4], origin=origin) for origin in (0, -1)]
    for pair in ((matern, later), walks):
        with pytest.raises(TypeError, match=r"`time`, `group` or the origins .* differ"):
            sum(pair).plan()
    for pair in ((matern, walks[1]), (walks[1], matern)):
        dense = evaluated(sum(pair).to_dense(), sum(pair).resolved.to_dense())
        assert_array_equal(*dense)
        assert_allclose(dense[0][0, 0], 3.0, rtol=1e-14)


def test_processes_of_other_steps_are_functions_of_the_lag():
    """At equal steps, of which those of another process may be others, a sum is Toeplitz."""
    near, far = (gg.cov.Matern32(1.0, 1.0, step * np.arange(4)) for step in (1.0, 2.5))
    assert "Levinson" in str((near + far).plan())
    dense = evaluated((near + far).resolved.to_dense(), near.to_dense() + far.to_dense())
    assert_allclose(*dense, rtol=1e-13)


@pytest.mark.parametrize("name", PARTS)
def test_single_precision(name, rng):
    """Parameters in single precision have gradients in it."""
    build, _, point = PARTS[name]
    y, values = rng.normal(size=N).astype("float32"), []
    for dtype in ("float32", "float64"):
        theta = [pt.scalar(f"x{i}", dtype=dtype) for i in range(len(point))]
        noise = gg.cov.Diagonal(np.asarray(0.25, dtype))
        cov = build(*theta, TIMES)
        logp = gg.logp(y.astype(dtype), np.asarray(0.0, dtype), cov + noise)
        outputs = [logp, *pt.grad(logp, theta)]
        assert {x.dtype for x in (cov, *outputs[1:])} == {dtype}
        values.append(interpreted(theta, outputs, AS_WRITTEN)(*np.asarray(point, dtype)))
    for a, b in zip(*values, strict=True):
        assert_allclose(a, b, rtol=2e-3)


@pytest.mark.compiled
def test_compiled(rng):
    """A sum on numba's linker beside the interpreted one."""
    theta, point, total, _ = both(["Wiener of order 2", "Matern52"], GROUP)
    logp = gg.logp(rng.normal(size=N), 0.0, total + gg.cov.Diagonal(NOISE))
    outputs = [logp, *pt.grad(logp, theta)]
    compiled, beside = (
        pytensor.function(theta, outputs, mode=mode)(*point) for mode in ("NUMBA", INTERPRETED)
    )
    for a, b in zip(compiled, beside, strict=True):
        assert_allclose(a, b, rtol=1e-10)
