"""Models in which normal variables enter a normal likelihood linearly, as people write them."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.sparse
import pytensor.tensor as pt
import scipy.sparse as sp

import pm_gaussgrad as gg

rng = np.random.default_rng(3)
N, J = 14, 9
Y, X = rng.normal(size=N), rng.normal(size=N)
GROUP = np.r_[np.arange(J), rng.integers(J, size=N - J)]
OTHER = rng.integers(4, size=N)
BASIS = rng.normal(size=(N, 5))
WIDE = rng.normal(size=(N, 50))
# Of other numbers PyTensor takes the logarithm in single precision.
ONE, TWO, THREE, FIVE = np.array([1.0, 2.0, 3.0, 5.0])
SCHOOLS = np.array([28.0, 8, -3, 7, -1, 1, 18, 12]), np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


def schools_centred():
    mu, tau = pm.Normal("mu", 0, FIVE), pm.HalfNormal("tau", FIVE)
    theta = pm.Normal("theta", mu, tau, shape=8)
    pm.Normal("y", theta, SCHOOLS[1], observed=SCHOOLS[0])


def schools_not_centred():
    mu, tau = pm.Normal("mu", 0, FIVE), pm.HalfNormal("tau", FIVE)
    z = pm.Normal("z", 0, ONE, shape=8)
    theta = pm.Deterministic("theta", mu + tau * z)
    pm.Normal("y", theta, SCHOOLS[1], observed=SCHOOLS[0])


def _noise():
    return pm.HalfNormal("sigma", ONE)


def radon():
    mu, b, tau = pm.Normal("mu", 0, FIVE), pm.Normal("b", 0, TWO), pm.HalfNormal("tau", ONE)
    a = pm.Normal("a", mu, tau, shape=J)
    pm.Normal("y", a[GROUP] + b * X, _noise(), observed=Y)


def radon_not_centred():
    mu, b, tau = pm.Normal("mu", 0, FIVE), pm.Normal("b", 0, TWO), pm.HalfNormal("tau", ONE)
    z = pm.Normal("z", shape=J)
    index = pm.Data("index", GROUP)
    pm.Normal("y", mu + (tau * z)[index] + b * X, _noise(), observed=Y)


def _factor():
    sd = pm.HalfNormal.dist(ONE, size=2)
    return pm.LKJCholeskyCov("L", eta=2, n=2, sd_dist=sd)[0]


def slopes_not_centred():
    u = pm.Deterministic("u", pm.Normal("z", shape=(J, 2)) @ _factor().T)
    mean = pm.Normal("mu", 0, FIVE) + u[GROUP, 0] + (pm.Normal("b", 0, TWO) + u[GROUP, 1]) * X
    pm.Normal("y", mean, _noise(), observed=Y)


def slopes_centred():
    means = pt.stack([pm.Normal("mu", 0, FIVE), pm.Normal("b", 0, TWO)])
    u = pm.MvNormal("u", means, chol=_factor(), shape=(J, 2))
    pm.Normal("y", u[GROUP, 0] + u[GROUP, 1] * X, _noise(), observed=Y)


def slopes_transposed():
    u = pm.math.dot(_factor(), pm.Normal("z", shape=(2, J)))
    pm.Normal("y", u[0, GROUP] + u[1][GROUP] * X, _noise(), observed=Y)


def slopes_apart():
    tau = pm.HalfNormal("tau", ONE, shape=2)
    a, b = pm.Normal("a", ONE, tau[0], shape=J), pm.Normal("b", 0.0, tau[1], shape=J)
    pm.Normal("y", a[GROUP] + b[GROUP] * X, _noise(), observed=Y)


def crossed():
    tau = pm.HalfNormal("tau", ONE, shape=2)
    plate, sample = (
        pm.Normal("plate", 0.0, tau[0], shape=J),
        pm.Normal("sample", 0.0, tau[1], shape=4),
    )
    pm.Normal("y", pm.Normal("mu", 20, FIVE) + plate[GROUP] + sample[OTHER], _noise(), observed=Y)


def nested():
    tau = pm.HalfNormal("tau", ONE, shape=2)
    of_batch = pm.Normal("of_batch", pm.Normal("mu", 0, THREE), tau[0], shape=3)
    batch_of = np.arange(J) % 3
    of_cask = pm.Normal("of_cask", of_batch[batch_of], tau[1], shape=J)
    pm.Normal("y", of_cask[GROUP], _noise(), observed=Y)


def basis():
    tau = pm.HalfNormal("tau", ONE)
    w = pm.Normal("w", 0.0, tau, shape=5)
    pm.Normal("y", pm.Normal("mu", 0, THREE) + BASIS @ w, _noise(), observed=Y)


def sparse_indicators():
    table = sp.csr_matrix((np.ones(N), (np.arange(N), GROUP)), shape=(N, J))
    a = pm.Normal("a", 0, pm.HalfNormal("tau", ONE), shape=J)
    seen = pytensor.sparse.structured_dot(pytensor.sparse.as_sparse_variable(table), a[:, None])
    pm.Normal("y", seen[:, 0] + (np.eye(4)[OTHER] @ pm.Normal("b", shape=4)), _noise(), observed=Y)


def many_coefficients():
    beta = pm.Normal("beta", 0.0, pm.HalfNormal("tau", ONE), shape=50)
    x = pm.Data("x", WIDE)
    pm.Normal("y", pm.math.dot(x, beta), _noise(), observed=Y)


def own_scales():
    tau = pm.HalfNormal("tau", ONE, shape=5)
    beta = pm.Normal("beta", np.arange(5.0), tau)
    pm.Normal("y", (BASIS * beta).sum(axis=1), np.linspace(0.5, 1, N), observed=Y)


def _kernel():
    scale = pm.HalfNormal("scale", ONE)
    times = np.arange(N)
    return scale**2 * np.exp(-0.5 * (times[:, None] - times) ** 2 / 4) + 1e-6 * np.eye(N)


def process_and_trend():
    f = pm.MvNormal("f", np.zeros(N), _kernel())
    trend = pm.Normal("a", 0, THREE) + pm.Normal("b", 0, ONE) * np.arange(N)
    pm.Normal("y", f + trend, _noise(), observed=Y)


def process_rotated():
    process = pm.gp.Latent(cov_func=pm.HalfNormal("scale", ONE) ** 2 * pm.gp.cov.ExpQuad(1, 2.0))
    f = process.prior("f", np.arange(N)[:, None].astype(float))
    pm.Normal("y", f, _noise(), observed=Y)


def process_at_groups():
    f = pm.MvNormal("f", np.zeros(N), _kernel())
    pm.Normal("y", 2 * f[GROUP], _noise(), observed=Y)


def walk():
    step = pm.HalfNormal("step", ONE)
    w = pm.GaussianRandomWalk("w", 0.1, step, init_dist=pm.Normal.dist(0, TWO), steps=N - 1)
    pm.Normal("y", w, _noise(), observed=Y)


def walk_of_steps():
    steps = pm.Normal("steps", shape=N)
    pm.Normal("y", pt.cumsum(steps * pm.HalfNormal("step", ONE)), _noise(), observed=Y)


def walks():
    start = pm.Normal.dist(0, TWO)
    w = pm.GaussianRandomWalk("w", 0, pm.HalfNormal("step", ONE), init_dist=start, shape=(2, 7))
    pm.Normal("y", w.ravel()[:N], _noise(), observed=Y)


def flat_coefficients():
    b, a = pm.Flat("b", shape=2), pm.Normal("a", 0, pm.HalfNormal("tau", ONE), shape=J)
    pm.Normal("y", b[0] + b[1] * X + a[GROUP], _noise(), observed=Y)


def flat_mean_of_effects():
    mean = pm.Flat("mean")
    a = pm.Normal("a", mean, pm.HalfNormal("tau", ONE), shape=J)
    cov = gg.cov.AR1(_noise() ** 2, 0.5, size=N)
    gg.MvNormal("y", a[GROUP], cov, observed=Y)


def structured_latent():
    cov = gg.cov.AR1(pm.HalfNormal("sd", ONE) ** 2, pm.Uniform("rho", 0, 1), size=N)
    f = gg.MvNormal("f", 1.0, cov)
    pm.Normal("y", f, _noise(), observed=Y)


def structured_noise():
    cov = gg.cov.AR1(pm.HalfNormal("sd", ONE) ** 2, pm.Uniform("rho", 0, 1), size=N)
    b = pm.Normal("b", 0, TWO, shape=2)
    gg.MvNormal("y", b[0] + b[1] * X, cov, observed=Y)


def dense_noise():
    a = pm.Normal("a", 0.0, pm.HalfNormal("tau", ONE), shape=J)
    pm.MvNormal("y", a[GROUP], _kernel() + np.eye(N), observed=Y)


def zero_sum():
    a = pm.ZeroSumNormal("a", pm.HalfNormal("tau", ONE), shape=4)
    pm.Normal("y", pm.Normal("mu", 0, TWO) + a[OTHER], _noise(), observed=Y)


def stacked():
    a, b = pm.Normal("a", 0, ONE, shape=3), pm.Normal("b", ONE, pm.HalfNormal("tau", ONE), shape=2)
    both = pt.concatenate([a, -b / 2])[::-1]
    table = pm.Deterministic("table", both[:, None] + pt.zeros((5, 3)))
    pm.Normal("y", table.reshape((15,))[1:], _noise(), observed=Y)


def pairs():
    ability = pm.Normal("ability", 0.0, pm.HalfNormal("tau", ONE), shape=J)
    pm.Normal("y", ability[GROUP] - ability[(GROUP + 1) % J], _noise(), observed=Y)


def with_missing():
    a = pm.Normal("a", 0.0, pm.HalfNormal("tau", ONE), shape=J)
    data = np.where(np.arange(N) == 3, np.nan, Y)
    gg.MvNormal("y", a[GROUP], gg.cov.Diagonal(_noise() ** 2, size=N), observed=data)


def two_likelihoods():
    a, b = pm.Normal("a", 0, ONE, shape=J), pm.Normal("b", 0, ONE, shape=4)
    pm.Normal("y", a[GROUP], _noise(), observed=Y)
    pm.Normal("x", b[OTHER], 0.5, observed=X)


MODELS = [
    schools_centred, schools_not_centred, radon, radon_not_centred, slopes_not_centred,
    slopes_centred, slopes_transposed, slopes_apart, crossed, nested, basis, sparse_indicators,
    many_coefficients, own_scales, process_and_trend, process_rotated, process_at_groups, walk, walk_of_steps, walks,
    flat_coefficients, flat_mean_of_effects, structured_latent, structured_noise, dense_noise,
    zero_sum, stacked, pairs, with_missing, two_likelihoods,
]  # fmt: skip
