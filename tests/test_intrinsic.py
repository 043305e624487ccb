"""``ICAR`` and ``BYM2``: islands, sums of zero, scales, beside dense matrices."""

import pickle
import re

import cloudpickle
import mpmath
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.distributions.transforms import ZeroSumTransform
from registry import AS_WRITTEN, interpreted

import pm_gaussgrad as gg

# A triangle with a tail, a pair and two areas without neighbours.
PAIRS = np.array([[0, 1], [1, 2], [2, 0], [2, 3], [5, 6]])
N, PARTS, ALONE = 8, ([0, 1, 2, 3], [4], [5, 6], [7]), [4, 7]
W = np.zeros((N, N))
W[tuple(PAIRS.T)] = [1.0, 2.0, 0.5, 1.5, 0.3]
W += W.T
R = np.diag(W.sum(axis=1)) - W
INVERSE = np.linalg.pinv(R)
EYE, NOISE = np.eye(N), np.linspace(0.3, 1.0, N)


def evaluated(*outputs):
    return interpreted([], list(outputs), AS_WRITTEN)()


def less_means(y):
    means = np.zeros_like(y)
    for part in PARTS:
        means[..., part] = y[..., part].mean(axis=-1, keepdims=True)
    return y - means


def scaled_inverse():
    """By components, with a geometric mean of variances of one."""
    inverse = INVERSE.copy()
    for part in PARTS:
        if len(part) > 1:
            inverse[np.ix_(part, part)] /= np.exp(np.log(np.diag(INVERSE)[part]).mean())
    return inverse


def of_bym2(sigma, rho):
    alone = np.isin(np.arange(N), ALONE)
    return sigma**2 * (rho * scaled_inverse() + np.diag(np.where(alone, 1, 1 - rho)))


def density(y, sigma):
    """-(quad + log determinant + n log 2 pi) / 2."""
    quad = (y * np.linalg.solve(sigma, np.atleast_2d(y).T).T).sum(axis=-1)
    return -(quad + np.linalg.slogdet(2 * np.pi * sigma)[1]) / 2


@pytest.mark.parametrize("flat", [False, True])
def test_alone(flat, rng):
    """With the product of the eigenvalues that are not zero, four of them."""
    y, sigma = less_means(rng.normal(size=(2, N))), 1.3
    cov = gg.cov.ICAR(W, sigma, flat=flat)
    eigenvalues = np.linalg.eigvalsh(R)[4:] / sigma**2
    expected = (np.log(eigenvalues / (2 * np.pi)).sum() - ((y @ R) * y).sum(axis=1) / sigma**2) / 2
    found, moved, solved = evaluated(
        gg.logp(y, 0.0, cov), gg.logp(y, [[0.5], [1e-3]], cov), cov.solve(y)
    )
    assert_allclose(found, expected, rtol=1e-13)
    assert_allclose(moved, expected if flat else -np.inf, rtol=1e-10)
    assert_allclose(solved, y @ R / sigma**2, rtol=1e-12)
    assert type(pickle.loads(pickle.dumps(cov))) is gg.cov.ICAR
    assert pickle.loads(pickle.dumps(cov)).flat == flat


def test_derivatives_alone(rng):
    y, sigma = less_means(rng.normal(size=N)), pt.dscalar("sigma")
    value = pt.dvector("y")
    logp = gg.logp(value, 0.0, gg.cov.ICAR(W, sigma))
    outputs = [*pt.grad(logp, [sigma, value]), pt.grad(pt.grad(logp, sigma), sigma)]
    dsigma, dvalue, second = interpreted([sigma, value], outputs)(1.3, y)
    quad = y @ R @ y
    assert_allclose(dsigma, quad / 1.3**3 - 4 / 1.3, rtol=1e-13)
    assert_allclose(dvalue, -R @ y / 1.3**2, rtol=1e-12)
    assert_allclose(second, 4 / 1.3**2 - 3 * quad / 1.3**4, rtol=1e-12)
    information = gg.fisher_information(0.0, gg.cov.ICAR(W, sigma), sigma)
    assert_allclose(interpreted([sigma], [information])(1.3)[0], [[2 * 4 / 1.3**2]], rtol=1e-13)


def test_members(rng):
    cov, rows = gg.cov.ICAR(W, 1.3), rng.normal(size=(2, N))
    expected = 1.3**2 * INVERSE
    dense, drawn, diagonal, product, some, twice, flat = evaluated(
        cov.to_dense(),
        cov.draw(EYE),
        cov.diagonal(),
        cov.times(rows),
        cov.rows(np.array([5, 0])),
        (2 * cov).to_dense(),
        gg.cov.ICAR(W, 1.3, flat=True).inverse_diagonal(),
    )
    for found, wanted in [
        (dense, expected),
        (drawn.T @ drawn, expected),
        (diagonal, np.diag(expected)),
        (product, rows @ expected),
        (some, expected[[5, 0]]),
        (twice, 2 * expected),
        (flat, np.diag(R) / 1.3**2),
    ]:
        assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)
    assert_allclose(
        evaluated(gg.cov.ICAR(W, scale=True).to_dense())[0], scaled_inverse(), atol=1e-13
    )


SUMS = {
    "ICAR": (lambda s: gg.cov.ICAR(W, s), lambda s: s**2 * INVERSE),
    "multiple": (lambda s: 2 * gg.cov.ICAR(W, s), lambda s: 2 * s**2 * INVERSE),
    "Projected": (
        lambda s: gg.cov.Projected(EYE[::-1] + EYE, gg.cov.ICAR(W, s)),
        lambda s: s**2 * (EYE[::-1] + EYE) @ INVERSE @ (EYE[::-1] + EYE).T,
    ),
    # One area of the second component, none of the first.
    "barely seen": (
        lambda s: gg.cov.Projected(np.outer(np.ones(N), EYE[5]), gg.cov.ICAR(W, s)),
        lambda s: s**2 * INVERSE[5, 5] * np.ones((N, N)),
    ),
    "with others": (
        lambda s: (
            gg.cov.Effects(np.arange(N) % 3, 0.6)
            + gg.cov.ICAR(W, s, scale=True)
            + gg.cov.AR1(0.4, 0.5, size=N)
            + gg.cov.ICAR(PAIRS, 0.7, n=N)
        ),
        lambda s: (
            0.6 * (np.arange(N)[:, None] % 3 == np.arange(N) % 3)
            + s**2 * scaled_inverse()
            + 0.4 * 0.5 ** abs(np.subtract.outer(np.arange(N), np.arange(N)))
            + 0.49 * np.linalg.pinv(np.diag((W > 0).sum(axis=1)) - (W > 0))
        ),
    ),
}


@pytest.mark.parametrize("name", SUMS)
def test_beside_noise(name, rng):
    """Value, gradient and what else a structure has."""
    build, dense = SUMS[name]
    sigma, noise, y = pt.dscalar("sigma"), pt.dscalar("noise"), rng.normal(size=(2, N))
    logps = [
        gg.logp(y, 0.2, build(sigma) + gg.cov.Diagonal(noise * NOISE)).sum(),
        gg.logp(y, 0.2, gg.cov.Dense(dense(sigma) + pt.diag(noise * NOISE))).sum(),
    ]
    outputs = [x for logp in logps for x in (logp, *pt.grad(logp, [sigma, noise]))]
    values = interpreted([sigma, noise], outputs)(1.3, 0.8)
    assert_allclose(values[:3], values[3:], rtol=1e-11)
    cov, expected = (build(1.3) + gg.cov.Diagonal(NOISE)).resolved, dense(1.3) + np.diag(NOISE)
    white, drawn, marginal, loo, product, again = evaluated(
        cov.whiten(cov.color(y)),
        cov.draw(np.eye(cov.noise_size(N))),
        cov.diagonal(),
        cov.inverse_diagonal(),
        cov.times(y),
        cov.to_dense(),
    )
    near = {"rtol": 1e-10, "atol": 1e-12}
    assert_allclose(white, y, **near)
    assert_allclose(drawn.T @ drawn, expected, **near)
    assert_allclose(marginal, np.diag(expected), **near)
    assert_allclose(loo, np.diag(np.linalg.inv(expected)), **near)
    assert_allclose(product, y @ expected, **near)
    assert_allclose(again, expected, **near)


def flat_density(y, seen, sigma, noise):
    """By the factor of H, as of a precision that is singular."""
    precision, loadings = R / sigma**2, seen / noise[:, None]
    H = precision + seen.T @ loadings
    quad = (y * y / noise).sum() - y @ loadings @ np.linalg.solve(H, loadings.T @ y)
    eigenvalues = np.linalg.eigvalsh(precision)[4:]
    logdet = np.linalg.slogdet(H)[1] - np.log(eigenvalues).sum() + np.log(noise).sum()
    return -(quad + logdet + (N - 4) * np.log(2 * np.pi)) / 2


@pytest.mark.parametrize("name", ["alone", "seen twice", "others"])
def test_flat_means_beside_noise(name, rng):
    """Value by the singular precision, gradient by differences, leave-one-out by solves."""
    seen = {"alone": EYE, "seen twice": EYE + 0.5 * np.eye(N, k=1), "others": EYE}[name]
    y, sigma = 3 + rng.normal(size=N), pt.dscalar("sigma")
    field = gg.cov.ICAR(W, sigma, flat=True)
    cov = field if name == "alone" else gg.cov.Projected(seen, field)
    cov = gg.cov.Diagonal(NOISE / 2) + cov + gg.cov.Diagonal(NOISE / 2)
    if name == "others":
        cov = cov + gg.cov.Effects(np.arange(N) % 2, 0.0)
    logp = gg.logp(y, 0.5, cov)
    outputs = [logp, pt.grad(logp, sigma), cov.resolved.solve(y), cov.resolved.inverse_diagonal()]
    function = interpreted([sigma], outputs)
    value, slope, alpha, precision = function(1.3)
    assert_allclose(value, flat_density(y - 0.5, seen, 1.3, NOISE), rtol=1e-11)
    step = 1e-4
    differences = [function(1.3 + k * step)[0] for k in (-2, -1, 1, 2)]
    expected = np.dot([1, -8, 8, -1], differences) / (12 * step)
    assert_allclose(slope, expected, rtol=1e-8)
    loadings = seen / NOISE[:, None]
    inverse = np.diag(1 / NOISE) - loadings @ np.linalg.solve(
        R / 1.3**2 + seen.T @ loadings, loadings.T
    )
    assert_allclose(alpha, inverse @ y, rtol=1e-9, atol=1e-11)
    assert_allclose(precision, np.diag(inverse), rtol=1e-10, atol=1e-12)
    # A mean that both have changes nothing.
    if name != "seen twice":
        moved = interpreted([sigma], [gg.logp(y + 7, 0.5, cov)])(1.3)[0]
        assert_allclose(moved, value, rtol=1e-11)


def test_flat_means_with_gaps(rng):
    observed, y = np.array([0, 2, 3, 4, 6, 7]), rng.normal(size=N)
    y[[1, 5]] = np.nan
    cov = gg.cov.ICAR(W, flat=True) + gg.cov.Diagonal(NOISE)
    [found] = evaluated(gg.logp(y, 0.0, cov))
    seen, noise = EYE[observed], NOISE[observed]
    H = R + seen.T @ (seen / noise[:, None])
    quad = (
        y[observed]
        @ (
            np.diag(1 / noise)
            - np.linalg.inv(H)[np.ix_(observed, observed)] / np.outer(noise, noise)
        )
        @ y[observed]
    )
    logdet = np.linalg.slogdet(H)[1] - np.log(np.linalg.eigvalsh(R)[4:]).sum() + np.log(noise).sum()
    assert_allclose(found, -(quad + logdet + 2 * np.log(2 * np.pi)) / 2, rtol=1e-11)


def test_gaps(rng):
    """A whole component among them, of which nothing is known then but its sum."""
    observed, y = np.array([0, 2, 4, 7]), rng.normal(size=N)
    y[[1, 3, 5, 6]] = np.nan
    expected = (INVERSE + np.diag(NOISE))[np.ix_(observed, observed)]
    [found] = evaluated(gg.logp(y, 0.0, gg.cov.ICAR(W) + gg.cov.Diagonal(NOISE)))
    assert_allclose(found, density(y[observed], expected), rtol=1e-12)


@pytest.mark.parametrize("noise", [1e-8, 1e8])
def test_noise_of_any_size(noise, rng):
    """What is constant in a component is noise alone; no digits are lost to the rest."""
    y = np.sqrt(noise) * rng.normal(size=N)
    [found, alpha] = evaluated(
        gg.logp(y, 0.0, cov := gg.cov.ICAR(W) + gg.cov.Diagonal(noise, size=N)),
        cov.resolved.solve(y),
    )
    # In the eigenvectors of R, of which four are constant.
    values, vectors = np.linalg.eigh(R)
    variances = noise + np.append(np.zeros(4), 1 / values[4:])
    scores = y @ vectors
    expected = -(scores**2 / variances + np.log(2 * np.pi * variances)).sum() / 2
    assert_allclose(found, expected, rtol=1e-12)
    assert_allclose(alpha, vectors @ (scores / variances), rtol=1e-7, atol=1e-12 / noise)


@pytest.mark.parametrize("noise", [1e-4, 1e-8], ids=str)
def test_roots_beside_little_noise(noise):
    """Of a covariance that is nearly singular in the direction of the means."""
    pairs = np.array([(i, i + 1) for i in range(11) if i % 4 < 3] + [(i, i + 4) for i in range(8)])
    cov = (gg.cov.ICAR(pairs, 1.0, n=12) + gg.cov.Diagonal(noise)).resolved
    outputs = [cov.to_dense(), cov.whiten(np.eye(12)), cov.color(np.eye(12))]
    matrix, white, colored = interpreted([], outputs)()
    condition = np.finfo(float).eps * np.linalg.cond(matrix)
    assert_allclose(white.T @ matrix @ white, np.eye(12), atol=100 * condition)
    assert_allclose(colored.T @ colored, matrix, atol=1e-14)


def test_shares(rng):
    """BYM2, its gradient, a batch of it, and what it is a sum of."""
    sigma, rho, y = pt.dscalar("sigma"), pt.dscalar("rho"), rng.normal(size=(2, N))
    shares = pt.constant(np.where(np.isin(np.arange(N), ALONE), 0.0, 1.0))
    dense = sigma**2 * (rho * scaled_inverse() + pt.diag(1 - rho * shares))
    logps = [
        gg.logp(y, 0.0, cov).sum() for cov in (gg.cov.BYM2(W, sigma, rho), gg.cov.Dense(dense))
    ]
    outputs = [x for logp in logps for x in (logp, *pt.grad(logp, [sigma, rho]))]
    function = interpreted([sigma, rho], outputs)
    for point in [(1.3, 0.7), (0.2, 1e-6), (1.3, 1 - 1e-6)]:
        values = function(*point)
        assert_allclose(values[:3], values[3:], rtol=1e-8)
    batch = gg.cov.BYM2(W, np.array([1.3, 0.2]), np.array([0.7, 0.1]))
    expected = [of_bym2(1.3, 0.7), of_bym2(0.2, 0.1)]
    noisy = gg.cov.BYM2(W, 1.3, 0.7) + gg.cov.Diagonal(0.4)
    logps, matrices, more, structured = evaluated(
        gg.logp(y, 0.0, batch),
        batch.to_dense(),
        noisy.resolved.to_dense(),
        gg.cov.BYM2(W, 1.3, 0.7).structured.to_dense(),
    )
    assert_allclose(matrices, expected, rtol=1e-12, atol=1e-13)
    assert_allclose(logps, [density(*pair)[0] for pair in zip(y, expected, strict=True)], 1e-12)
    assert_allclose(more, expected[0] + 0.4 * EYE, rtol=1e-12, atol=1e-13)
    assert_allclose(structured, 1.3**2 * 0.7 * scaled_inverse(), rtol=1e-12, atol=1e-13)
    again = pickle.loads(pickle.dumps(gg.cov.BYM2(W, 1.3, 0.7)))
    assert type(again) is gg.cov.BYM2
    assert again.plan().label == "gg.cov.BYM2"


@pytest.mark.parametrize(
    "point",
    [(np.nan, 0.5), (1.0, np.nan), (0.0, 0.5), (1.0, 1.0), (1.0, 1.1), (1.0, -0.1)],
)
def test_outside_of_the_domain_there_is_no_density(point):
    sigma, rho = pt.dscalar("sigma"), pt.dscalar("rho")
    logp = gg.logp(np.ones(N), 0.0, gg.cov.BYM2(W, sigma, rho))
    value, *slopes = interpreted([sigma, rho], [logp, *pt.grad(logp, [sigma, rho])])(*point)
    assert value == -np.inf
    if not np.isnan(point).any():
        assert_allclose(slopes, 0)


@pytest.mark.parametrize("sigma", [0.0, np.nan])
def test_no_scale(sigma):
    """No density alone; beside noise a scale of zero is an ordinary point."""
    scale, y = pt.dscalar(), np.linspace(-1, 1, N)
    alone, noisy = gg.cov.ICAR(W, scale), gg.cov.ICAR(W, scale) + gg.cov.Diagonal(NOISE)
    logps = gg.logp(np.zeros(N), 0.0, alone), gg.logp(y, 0.0, noisy)
    of_alone, of_noisy = interpreted([scale], logps)(sigma)
    assert of_alone == -np.inf
    expected = -np.inf if np.isnan(sigma) else density(y, np.diag(NOISE))
    assert_allclose(of_noisy, expected, rtol=1e-12)


AREAL = {
    "ICAR": lambda s, v: gg.cov.ICAR(W, s) + gg.cov.Diagonal(v),
    "BYM2": lambda s, v: gg.cov.BYM2(W, s, v),
    "CAR": lambda s, v: gg.cov.CAR(W, v, 1 / s**2, D=W.sum(axis=1) + 1),
}


@pytest.mark.parametrize("name", AREAL)
def test_other_data(name, rng):
    """Data of the same areas in place of others, also of a model that was pickled."""
    y, others = rng.normal(size=(2, N))
    with pm.Model() as model:
        sigma = pm.HalfNormal("sigma")
        gg.MvNormal("y", 0.5, AREAL[name](sigma, 0.4), observed=pm.Data("data", y))
    again = cloudpickle.loads(cloudpickle.dumps(model))
    for each in (model, again):
        function = each.compile_logp(vars=[each["y"]], mode="FAST_COMPILE")
        for data in (y, others):
            pm.set_data({"data": data}, model=each)
            [expected] = evaluated(
                gg.logp(data, 0.5, gg.cov.Dense(AREAL[name](0.7, 0.4).resolved.to_dense()))
            )
            assert_allclose(function({"sigma_log__": np.log(0.7)}), expected, rtol=1e-12)


def in_50_digits(y, variance):
    """Log density of ICAR with noise, and its derivative by the variance of the former."""
    with mpmath.workdps(50):
        precision = mpmath.matrix(R.tolist())
        means = mpmath.zeros(N)
        for part in PARTS:
            for i in part:
                for j in part:
                    means[i, j] = mpmath.mpf(1) / len(part)
        spatial = (precision + means) ** -1 - means
        sigma = mpmath.mpf(variance) * spatial + mpmath.diag(NOISE.tolist())
        inverse, rows = sigma**-1, mpmath.matrix(y.tolist())
        alpha = inverse * rows
        quad, logdet = (rows.T * alpha)[0], mpmath.log(mpmath.det(sigma))
        through = inverse * spatial
        trace = mpmath.fsum(through[i, i] for i in range(N))
        slope = ((alpha.T * spatial * alpha)[0] - trace) / 2
        return [float(-(quad + logdet + N * mpmath.log(2 * mpmath.pi)) / 2), float(slope)]


@pytest.mark.parametrize("variance", [0.0, 1e-8, 1.7, 1e6])
def test_against_50_digits(variance, rng):
    """From no spatial variance to a million times that of the noise."""
    v, y = pt.dscalar(), rng.normal(size=N)
    logp = gg.logp(y, 0.0, v * gg.cov.ICAR(W) + gg.cov.Diagonal(NOISE))
    found = interpreted([v], [logp, pt.grad(logp, v)])(variance)
    assert_allclose(found, in_50_digits(y, variance), rtol=1e-13 * max(1, variance**0.5))


def test_no_spatial_share():
    """At zero areas are independent: value and slopes are those of dense algebra."""
    sigma, rho, y = pt.dscalar("sigma"), pt.dscalar("rho"), np.linspace(-1, 1, N)
    logp = gg.logp(y, 0.0, gg.cov.BYM2(W, sigma, rho))
    value, *slopes = interpreted([sigma, rho], [logp, *pt.grad(logp, [sigma, rho])])(1.3, 0.0)
    assert_allclose(value, density(y, 1.69 * EYE), rtol=1e-13)
    bar = (np.outer(y, y) / 1.69 - EYE) / 1.69 / 2
    by_rho = of_bym2(1.3, 1.0) - of_bym2(1.3, 0.0)  # it is linear
    assert_allclose(slopes, [2.6 * np.trace(bar), (bar * by_rho).sum()], rtol=1e-12)
    assert_allclose(evaluated(gg.cov.BYM2(W, 1.3, 0.0).to_dense())[0], 1.69 * EYE)


@pytest.mark.parametrize("n", [1, 3])
def test_areas_without_neighbours_alone(n):
    """Zero in an ICAR, independent in a BYM2."""
    none = np.empty((0, 2), int)
    noisy, shares, alone = evaluated(
        (gg.cov.ICAR(none, n=n) + gg.cov.Diagonal(0.5, size=n)).resolved.to_dense(),
        gg.cov.BYM2(none, 2.0, 0.3, n=n).to_dense(),
        gg.logp(np.zeros(n), 0.0, gg.cov.ICAR(none, n=n)),
    )
    assert_allclose(noisy, 0.5 * np.eye(n))
    assert_allclose(shares, 4 * np.eye(n))
    assert alone == 0


def test_single_precision():
    y, sigma, rho = np.linspace(-1, 1, N).astype("float32"), pt.fscalar(), pt.fscalar()
    for cov in (
        gg.cov.BYM2(W, sigma, rho),
        gg.cov.ICAR(W, sigma) + gg.cov.Diagonal(pt.specify_shape(rho * np.ones(N, "float32"), N)),
    ):
        logp = gg.logp(y, pt.zeros(N, dtype="float32"), cov)
        assert logp.dtype == "float32"
        found = interpreted([sigma, rho], [logp, *pt.grad(logp, [sigma, rho])])(1.5, 0.5)
        assert np.isfinite(found).all()


def test_latent_variables(rng):
    """A BYM2 under counts, and an ICAR that is kept to its sum of zero."""
    counts = rng.poisson(3, N)
    ring = np.stack([np.arange(N), np.roll(np.arange(N), 1)], axis=1)
    with pm.Model() as model:
        sigma, rho = pm.HalfNormal("sigma"), pm.Beta("rho", 2, 2)
        effects = gg.MvNormal("effects", 0.0, gg.cov.BYM2(W, sigma, rho))
        zero = ZeroSumTransform([-1])
        phi = gg.MvNormal("phi", 0.0, gg.cov.ICAR(ring, sigma, n=N), transform=zero)
        pm.Poisson("counts", pm.math.exp(1 + effects + phi), observed=counts)
    gradient = model.compile_dlogp(mode="FAST_COMPILE")(model.initial_point())
    assert gradient.shape == (2 + N + N - 1,)
    assert np.isfinite(gradient).all()
    drawn = pm.draw(
        gg.MvNormal.dist(0.0, gg.cov.ICAR(W, 2.0)), 5, random_seed=1, mode="FAST_COMPILE"
    )
    assert_allclose(drawn, less_means(drawn), atol=1e-12)
    assert (drawn[:, ALONE] == 0).all()


@pytest.mark.parametrize("noise", [False, True])
def test_flat_means_in_a_model(noise, rng):
    """Observed and as a prior; draws are an error when they are taken."""
    cov = gg.cov.ICAR(W, flat=True)
    cov = cov + gg.cov.Diagonal(NOISE) if noise else cov
    with pm.Model() as model:
        effect = gg.MvNormal("effect", 0.0, cov)
        gg.MvNormal("y", effect, cov, observed=rng.normal(size=N))
    assert np.isfinite(model.compile_dlogp(mode="FAST_COMPILE")(model.initial_point())).all()
    with pytest.raises(NotImplementedError, match="a density and no covariance"):
        pm.draw(effect, mode="FAST_COMPILE")


WRONG = [
    (lambda: gg.cov.ICAR(W, -1.0), ValueError, "gg.cov.ICAR: `sigma` is -1, expected at least 0"),
    (lambda: gg.cov.ICAR(np.triu(W)), ValueError, "gg.cov.ICAR: `W` differs from its transpose"),
    (lambda: gg.cov.BYM2(pt.dmatrix(), 1.0, 0.5), TypeError, "gg.cov.BYM2: `W` is symbolic"),
    (lambda: gg.cov.BYM2(W, 1.0, 1.5), ValueError, "`rho` is 1.5, expected between 0 and 1"),
    (lambda: gg.cov.BYM2(W, -1.0, 0.5), ValueError, "gg.cov.BYM2: `sigma` is -1"),
    (
        lambda: gg.logp(np.ones(N), 0.0, gg.cov.BYM2(W, 1.0, 1.0)),
        ValueError,
        "gg.cov.BYM2: `variance` has the entry 0",
    ),
    (
        lambda: gg.cov.ICAR(W, flat=True).to_dense(),
        NotImplementedError,
        "gg.cov.ICAR: means with a flat",
    ),
    (
        lambda: gg.cov.ICAR(W, flat=True).color(EYE),
        NotImplementedError,
        "gg.cov.ICAR: means with a flat",
    ),
    (
        lambda: (gg.cov.ICAR(W, flat=True) + gg.cov.Diagonal(NOISE)).resolved.to_dense(),
        NotImplementedError,
        "a density and no covariance",
    ),
    (
        lambda: gg.cov.Projected(EYE, gg.cov.ICAR(W, flat=True)).draw(EYE),
        NotImplementedError,
        "gg.cov.Projected: means with a flat prior",
    ),
    (
        lambda: gg.logp(
            np.ones(3),
            0.0,
            gg.cov.Projected(EYE[:3], gg.cov.ICAR(W, flat=True)) + gg.cov.Diagonal(1.0),
        ),
        ValueError,
        "do not identify 3 of 4 flat means",
    ),
    (lambda: gg.cov.ICAR(W).whiten(np.ones(N)), NotImplementedError, "+ gg.cov.Diagonal(variance)"),
    (lambda: gg.cov.ICAR(W).inverse_diagonal(), NotImplementedError, "flat=True"),
]


@pytest.mark.parametrize(("build", "error", "message"), WRONG)
def test_wrong_arguments(build, error, message):
    with pytest.raises(error, match=re.escape(message)):
        build()
