"""Coefficients that are integrated out, with a prior or a flat one, against dense algebra."""

import pickle

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import AS_WRITTEN, BACKENDS, interpreted
from scipy.linalg import lstsq

import pm_gaussgrad as gg

N = 6
RNG = np.random.default_rng(20)
X = np.stack([np.ones(N), RNG.normal(size=N)], axis=1)
Y = RNG.normal(size=N)
ROWS = RNG.normal(size=(3, N))
GROUP = [0, 0, 1, 1, 2, 2]
KERNEL = np.exp(-0.5 * np.subtract.outer(np.arange(N), np.arange(N)) ** 2)
EDGES = [[0, 1], [1, 2], [3, 4], [4, 5]]
# What coefficients are beside, of two parameters.
BASES = {
    "AR1": lambda v, r: gg.cov.AR1(v, r, size=N),
    "noise": lambda v, r: gg.cov.Diagonal(v * np.arange(1.0, N + 1) + r),
    "Dense": lambda v, r: gg.cov.Dense(v * KERNEL + r * np.eye(N)),
    "Effects": lambda v, r: gg.cov.Effects(GROUP, v) + gg.cov.Diagonal(r),
    "LowRank": lambda v, r: gg.cov.LowRank(pt.sqrt(v) * X[:, 1:] ** 2) + gg.cov.AR1(1.0, r),
    "ICAR": lambda v, r: gg.cov.ICAR(EDGES, pt.sqrt(v), n=N) + gg.cov.Diagonal(r),
    "Scaled": lambda v, r: gg.cov.Scaled(gg.cov.AR1(1.0, r), pt.sqrt(v) * np.arange(1.0, N + 1)),
}
AT = 1.3, 0.4


def projected(sigma, design):
    """P and log|X'Sigma^-1 X|."""
    inverse = np.linalg.inv(sigma)
    inner = design.T @ inverse @ design
    left = inverse @ design
    return inverse - left @ np.linalg.solve(inner, left.T), np.linalg.slogdet(inner)[1]


def restricted(y, sigma, design):
    """The restricted log likelihood of rows, as lme4 and nlme report it."""
    (n, p), (inverse, logdet) = design.shape, projected(sigma, design)
    quad = np.einsum("...i,ij,...j", y, inverse, y)
    return -((n - p) * np.log(2 * np.pi) + np.linalg.slogdet(sigma)[1] + logdet + quad) / 2


def symbolic_restricted(y, sigma, design):
    """The same in PyTensor, for its derivatives."""
    inverse = pt.linalg.inv(sigma)
    inner = design.T @ inverse @ design
    rest = y - design @ (pt.linalg.inv(inner) @ (design.T @ (inverse @ y)))
    logdets = pt.linalg.slogdet(sigma)[1] + pt.linalg.slogdet(inner)[1]
    constant = (design.shape[0] - design.shape[1]) * np.log(2 * np.pi)
    return -(constant + logdets + y @ inverse @ rest) / 2


@pytest.fixture(scope="module")
def flat_densities():
    v, r, design = pt.dscalar("v"), pt.dscalar("r"), pt.dmatrix("X")
    outputs = []
    for base in BASES.values():
        cov = base(v, r)
        own = gg.logp(Y, 0.3, cov + gg.cov.Linear(design, "flat"))
        dense = symbolic_restricted(pt.constant(Y - 0.3), cov.to_dense(), design)
        outputs += [x for logp in (own, dense) for x in (logp, *pt.grad(logp, [v, r, design]))]
    found = interpreted([v, r, design], outputs)(*AT, X)
    return {name: found[8 * i : 8 * i + 8] for i, name in enumerate(BASES)}


@pytest.mark.parametrize("name", BASES)
def test_flat_coefficients_beside(name, flat_densities):
    """Value, and slopes by the parameters and by the design."""
    own, dense = flat_densities[name][:4], flat_densities[name][4:]
    for got, expected in zip(own, dense, strict=True):
        assert_allclose(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("backend", ["jax", pytest.param("numba", marks=pytest.mark.compiled)])
def test_flat_coefficients_compiled(backend):
    v, r = pt.dscalars("v", "r")
    logp = gg.logp(Y, 0.0, gg.cov.Linear(X, "flat") + BASES["AR1"](v, r))
    function = pytensor.function([v, r], [logp, *pt.grad(logp, [v, r])], mode=BACKENDS[backend])
    dense = symbolic_restricted(pt.constant(Y), BASES["AR1"](v, r).to_dense(), pt.constant(X))
    expected = interpreted([v, r], [dense, *pt.grad(dense, [v, r])])
    for got, value in zip(function(*AT), expected(*AT), strict=True):
        assert_allclose(got, value, rtol=1e-10)


def test_a_flat_prior_is_the_limit_of_wide_ones():
    """Times (2 pi v)^(p / 2)."""
    base, v = BASES["AR1"](*AT), 1e9
    wide = gg.logp(Y, 0.0, base + gg.cov.Linear(X, v)) + np.log(2 * np.pi * v)
    flat = gg.logp(Y, 0.0, base + gg.cov.Linear(X, "flat"))
    wide, flat = interpreted([], [wide, flat])()
    assert_allclose(wide, flat, rtol=1e-8)


def test_flat_coefficients_of_rows_and_batches():
    """Each row has its own; a batch of parameters and rows that share them."""
    v, r = np.array([0.8, 1.3, 2.0]), np.array([0.1, 0.4, 0.7])
    flat = gg.cov.Linear(X, "flat")
    outputs = [
        gg.logp(ROWS, 0.0, flat + gg.cov.AR1(*AT)),
        gg.logp(ROWS, 0.0, flat + gg.cov.AR1(v, r)),
        (flat + gg.cov.AR1(v, r)).inverse_diagonal(),
        (flat + gg.cov.AR1(v, r)).solve(ROWS),
    ]
    shared, own, inverse, alpha = interpreted([], outputs)()
    sigmas = [gg.cov.AR1(*at, size=N).to_dense().eval() for at in [AT, *zip(v, r, strict=True)]]
    assert_allclose(shared, restricted(ROWS, sigmas[0], X), rtol=1e-11)
    for i, sigma in enumerate(sigmas[1:]):
        precision, _ = projected(sigma, X)
        assert_allclose(own[i], restricted(ROWS[i], sigma, X), rtol=1e-11)
        assert_allclose(inverse[i], np.diag(precision), rtol=1e-10)
        assert_allclose(alpha[i], precision @ ROWS[i], rtol=1e-10)


PRIORS = {
    "one": (0.7, 0.7 * np.eye(2)),
    "zero": (0.0, np.zeros((2, 2))),
    "each": (np.array([0.7, 0.0]), np.diag([0.7, 0.0])),
    "matrix": (np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([[1.0, 0.3], [0.3, 0.5]])),
    "singular": (np.ones((2, 2)), np.ones((2, 2))),
}


def test_gaussian_coefficients():
    """Beside an AR1: matrices and densities, singular priors among them."""
    base, outputs = BASES["AR1"](*AT), []
    for prior, _ in PRIORS.values():
        cov = gg.cov.Linear(X, prior) + base
        outputs += [cov.to_dense(), gg.logp(Y, 0.0, cov)]
    sigma, *found = interpreted([], [base.to_dense(), *outputs])()
    for i, (_, prior) in enumerate(PRIORS.values()):
        whole = sigma + X @ prior @ X.T
        assert_allclose(found[2 * i], whole, rtol=1e-12)
        rest = np.linalg.slogdet(2 * np.pi * whole)[1] + Y @ np.linalg.solve(whole, Y)
        assert_allclose(found[2 * i + 1], -rest / 2, rtol=1e-11)


@pytest.mark.parametrize("at", [[0.7, 0.2], [0.7, 0.0], [0.0, 0.0]], ids=str)
def test_variances_of_zero_are_ordinary(at):
    """Slopes, too."""
    prior = pt.dvector("v")
    base = BASES["AR1"](*AT)
    logp = gg.logp(Y, 0.0, gg.cov.Linear(X, prior) + base)
    dense = pm.logp(pm.MvNormal.dist(np.zeros(N), base.to_dense() + X * prior @ X.T), Y)
    outputs = [logp, pt.grad(logp, prior), dense, pt.grad(dense, prior)]
    value, slope, *expected = interpreted([prior], outputs)(at)
    assert_allclose(value, expected[0], rtol=1e-11)
    assert_allclose(slope, expected[1], rtol=1e-9)


SYMBOLIC = {
    "positive definite": np.array([[1.0, 0.3], [0.3, 0.5]]),
    "rank one": 0.7 * np.outer([1.0, 0.6], [1.0, 0.6]),
    "first is zero": np.diag([0.0, 0.4]),
    "zero": np.zeros((2, 2)),
}


@pytest.mark.parametrize("name", SYMBOLIC)
@pytest.mark.parametrize(
    "backend", ["py", "jax", pytest.param("numba", marks=pytest.mark.compiled)]
)
def test_a_symbolic_matrix_of_a_prior(name, backend):
    """Singular ones are ordinary points, also of slopes."""
    prior = pt.dmatrix("V")
    logp = gg.logp(Y, 0.0, gg.cov.Linear(X, prior) + BASES["AR1"](*AT))
    at = SYMBOLIC[name]
    outputs = [logp, pt.grad(logp, prior)]
    value, slope = pytensor.function([prior], outputs, mode=BACKENDS[backend])(at)
    sigma = BASES["AR1"](*AT).to_dense().eval() + X @ at @ X.T
    inverse = np.linalg.inv(sigma)
    expected = -(np.linalg.slogdet(2 * np.pi * sigma)[1] + Y @ inverse @ Y) / 2
    assert_allclose(value, expected, rtol=1e-11)
    alpha = X.T @ inverse @ Y
    assert_allclose(slope, (np.outer(alpha, alpha) - X.T @ inverse @ X) / 2, rtol=1e-9)


def test_a_prior_that_is_no_covariance():
    """The density is zero, and so is its slope."""
    prior = pt.dmatrix("V")
    logp = gg.logp(Y, 0.0, gg.cov.Linear(X, prior) + BASES["AR1"](*AT))
    function = interpreted([prior], [logp, pt.grad(logp, prior)])
    for at in ([[1.0, 2.0], [2.0, 1.0]], [[0.0, 0.1], [0.1, 1.0]], [[np.nan, 0.0], [0.0, 1.0]]):
        value, slope = function(at)
        assert value == -np.inf
        assert not slope.any()


def test_batches_of_priors():
    priors = np.stack(list(SYMBOLIC.values()))
    prior = pt.dtensor3("V")
    logp = gg.logp(Y, 0.0, gg.cov.Linear(X, prior) + BASES["AR1"](*AT))
    values, slopes = interpreted([prior], [logp, pt.grad(logp.sum(), prior)])(priors)
    one = pt.dmatrix("V")
    logp = gg.logp(Y, 0.0, gg.cov.Linear(X, one) + BASES["AR1"](*AT))
    function = interpreted([one], [logp, pt.grad(logp, one)])
    for value, slope, at in zip(values, slopes, priors, strict=True):
        expected = function(at)
        assert_allclose(value, expected[0], rtol=1e-12)
        assert_allclose(slope, expected[1], rtol=1e-10)


GAPS = {
    "one pattern": np.where(np.arange(N) == 2, np.nan, ROWS),
    "rows that differ": np.where(np.eye(3, N, k=1, dtype=bool), np.nan, ROWS),
}


@pytest.mark.parametrize("base", ["AR1", "Effects"])
@pytest.mark.parametrize("gaps", GAPS)
def test_gaps(gaps, base):
    y, (v, r) = GAPS[gaps], pt.dscalars("v", "r")
    logp = gg.logp(y, 0.0, gg.cov.Linear(X, "flat") + BASES[base](v, r)).sum()
    found = interpreted([v, r], [logp, *pt.grad(logp, [v, r]), BASES[base](v, r).to_dense()])
    value, *slopes, _ = found(*AT)

    def dense(*at):
        total, sigma = 0.0, found(*at)[-1]
        for row in y:
            seen = np.flatnonzero(~np.isnan(row))
            total += restricted(row[seen], sigma[np.ix_(seen, seen)], X[seen])
        return total

    assert_allclose(value, dense(*AT), rtol=1e-10)
    for slope, step in zip(slopes, 1e-4 * np.eye(2), strict=True):
        difference = (dense(*(AT + step)) - dense(*(AT - step))) / 2e-4
        assert_allclose(slope, difference, rtol=1e-5, atol=1e-7)


LEVELS = np.stack([np.ones(N), np.arange(N) >= 3], axis=1).astype(float)


@pytest.mark.parametrize(
    "backend", ["py", "jax", pytest.param("numba", marks=pytest.mark.compiled)]
)
def test_dependent_columns_of_a_symbolic_design(backend):
    """No density, where rounding would leave one; the gradient is zero."""
    design, v = pt.dmatrix("X"), pt.dscalar("v")
    logp = gg.logp(Y, 0.0, gg.cov.Linear(design, "flat") + gg.cov.AR1(v, 0.4, size=N))
    outputs = [logp, *pt.grad(logp, [design, v])]
    function = pytensor.function([design, v], outputs, mode=BACKENDS[backend])
    assert np.isfinite(function(np.append(X, LEVELS[:, 1:], axis=1), 1.3)[0])
    for last in (X.sum(axis=1), X @ [0.3, -1.7], X[:, 0], np.zeros(N)):
        value, *slopes = function(np.append(X, last[:, None], axis=1), 1.3)
        assert value == -np.inf
        assert not any(x.any() for x in slopes)


def test_gaps_that_leave_a_coefficient_unknown():
    """Of one row among others; a row without observations has nothing to be known from."""
    gone = np.where(np.arange(N) < 3, np.nan, Y)
    other = np.where(np.arange(N) == 4, np.nan, Y)
    cov = gg.cov.Linear(LEVELS, "flat") + BASES["AR1"](*AT)
    for y in (gone, np.stack([gone, other])):
        with pytest.raises(ValueError, match="have the rank 1 for the 3 observations"):
            gg.logp(y, 0.0, cov)
    nothing, rest = gg.logp(np.stack([np.full(N, np.nan), other]), 0.0, cov).eval(mode=AS_WRITTEN)
    assert nothing == 0
    seen, sigma = np.arange(N) != 4, BASES["AR1"](*AT).to_dense().eval()
    expected = restricted(Y[seen], sigma[np.ix_(seen, seen)], LEVELS[seen])
    assert_allclose(rest, expected, rtol=1e-10)


def test_leave_one_out():
    """Each observation given all others: normal about what these say of the coefficients."""
    cov = gg.cov.Linear(X, "flat") + BASES["AR1"](*AT)
    sigma, (white, scale) = interpreted([], [cov.proper.to_dense(), *cov.leave_one_out(Y)]), (0, 0)
    sigma, white, scale = sigma()
    for i in range(N):
        rest = np.delete(np.arange(N), i)
        joint = restricted(Y, sigma, X)
        without = restricted(Y[rest], sigma[np.ix_(rest, rest)], X[rest])
        logp = -(np.log(2 * np.pi) + white[i] ** 2) / 2 - scale[i]
        assert_allclose(logp, joint - without, rtol=1e-9)


def test_what_alone_identifies_a_coefficient_is_left_out():
    """It has no distribution given all others, whatever rounding leaves; the others have theirs."""
    last = np.eye(N)[-1]
    for column in (last, last + 0.3, last - 0.37):
        design = np.stack([np.ones(N), column], axis=1)
        cov = gg.cov.Linear(design, "flat") + BASES["AR1"](*AT)
        outputs = [cov.inverse_diagonal(), cov.proper.to_dense(), *cov.leave_one_out(Y)]
        found, sigma, white, scale = interpreted([], outputs)()
        assert_allclose(found[:-1], np.diag(projected(sigma, design)[0])[:-1], rtol=1e-9)
        assert found[-1] == 0
        assert np.isnan(white[-1] + scale[-1])
        assert np.isfinite(white[:-1] + scale[:-1]).all()


def test_fisher_information():
    """With P in the place of the inverse; the mean has none where the coefficients are its."""
    v, r, m = pt.dscalars("v", "r", "m")
    base = BASES["Effects"](v, r)
    slopes = [pytensor.gradient.jacobian(base.to_dense().ravel(), x) for x in (v, r)]
    mu = m * (X[:, 1] + np.arange(N) ** 2)
    own = gg.fisher_information(mu, gg.cov.Linear(X, "flat") + base, [m, v, r])
    information, sigma, *slopes = interpreted([m, v, r], [own, base.to_dense(), *slopes])(0.5, *AT)
    precision, _ = projected(sigma, X)
    squares = np.arange(N) ** 2
    assert_allclose(information[0, 0], squares @ precision @ squares, rtol=1e-9)
    one, other = (precision @ slope.reshape(N, N) for slope in slopes)
    for (i, j), expected in {(1, 1): one @ one, (1, 2): one @ other, (2, 2): other @ other}.items():
        assert_allclose(information[i, j], np.trace(expected) / 2, rtol=1e-9)


def test_beside_flat_means():
    """Of two components of a map, and a slope."""
    field = gg.cov.ICAR(EDGES, 1.2, flat=True, n=N)
    cov = field + gg.cov.Linear(X[:, 1:], "flat") + gg.cov.Diagonal(0.5)
    proper = gg.cov.ICAR(EDGES, 1.2, n=N) + gg.cov.Diagonal(0.5)
    means = np.kron(np.eye(2), np.ones((3, 1))) / np.sqrt(3)
    value, sigma = interpreted([], [gg.logp(Y, 0.0, cov), proper.to_dense()])()
    assert_allclose(value, restricted(Y, sigma, np.append(means, X[:, 1:], axis=1)), rtol=1e-10)
    with pytest.raises(ValueError, match="have the rank 2 for the 6"):
        gg.logp(Y, 0.0, field + gg.cov.Linear(X[:, :1], "flat") + gg.cov.Diagonal(0.5))


def test_new_entries():
    """Universal kriging, with the coefficients of one more regressor in the mean."""
    new, y = [1, 4], ROWS[0]
    old = np.setdiff1d(np.arange(N), new)
    with pm.Model() as model:
        slope = pm.Normal("slope")
        cov = gg.cov.Linear(X, "flat") + gg.cov.Dense(KERNEL + 0.1 * np.eye(N))
        own = gg.cov.marginal(cov, old)
        gg.MvNormal("y", slope * np.arange(4.0), own, observed=y[old])
    idata = az_posterior(slope=np.full((1, 400), 0.5))
    mu = np.zeros(N)
    mu[old] = np.arange(4.0)
    found = gg.predict(
        idata, mu=slope * mu, cov=cov, new=new, model=model, progressbar=False, random_seed=2
    ).predictions
    sigma = KERNEL + 0.1 * np.eye(N)
    precision, _ = projected(sigma, X)
    block = precision[np.ix_(new, new)]
    residual = y[old] - 0.5 * np.arange(4.0)
    mean = -np.linalg.solve(block, precision[np.ix_(new, old)] @ residual)
    assert_allclose(found["y_new_mean"][0, 0], mean, rtol=1e-8)
    variance = np.diag(np.linalg.inv(block))
    assert_allclose(found["y_new_variance"][0, 0], variance, rtol=1e-8)
    # Textbook form: what the observations say, and what is not known of the coefficients.
    weights = np.linalg.inv(sigma[np.ix_(old, old)])
    cross, design = sigma[np.ix_(new, old)], X[old]
    inner = np.linalg.inv(design.T @ weights @ design)
    best = inner @ design.T @ weights @ residual
    assert_allclose(mean, X[new] @ best + cross @ weights @ (residual - design @ best), rtol=1e-9)
    more = X[new] - cross @ weights @ design
    simple = np.diag(sigma)[new] - np.diag(cross @ weights @ cross.T)
    assert_allclose(variance, simple + np.diag(more @ inner @ more.T), rtol=1e-9)
    draws = found["y_new"].to_numpy()[0]
    assert_allclose(draws.mean(axis=0), mean, atol=4 * np.sqrt(variance.max() / 400))
    assert_allclose(draws.var(axis=0), variance, rtol=4 * np.sqrt(2 / 400))


def az_posterior(**values):
    import arviz as az

    return az.from_dict({"posterior": values})


def test_components_beside_flat_coefficients():
    """A smooth part: mean and variance by P."""
    smooth = gg.cov.Dense(KERNEL)
    with pm.Model() as model:
        v = pm.HalfNormal("v")
        cov = smooth + gg.cov.Linear(X, "flat") + gg.cov.Diagonal(v)
        gg.MvNormal("y", 0.0, cov, observed=Y)
    idata = az_posterior(v=np.full((1, 1), 0.3))
    options = {"component": smooth, "model": model, "progressbar": False}
    found = gg.predict(idata, diag=True, **options).predictions
    precision, _ = projected(KERNEL + 0.3 * np.eye(N), X)
    assert_allclose(found["y_component_mean"][0, 0], KERNEL @ precision @ Y, rtol=1e-8)
    variance = np.diag(KERNEL - KERNEL @ precision @ KERNEL)
    assert_allclose(found["y_component_variance"][0, 0], variance, rtol=1e-7)
    assert "y_component" in gg.predict(idata, **options).predictions


def test_what_is_known_of_the_columns():
    table = pd.DataFrame(X, columns=["level", "slope"])
    gaussian, flat = gg.cov.Linear(table, 2.0), gg.cov.Linear(table, "flat")
    for cov in (gaussian, flat):
        again = pickle.loads(pickle.dumps(cov))
        assert list(again.columns) == ["level", "slope"]
        assert_allclose(again.design.eval(), X)
    both = pickle.loads(pickle.dumps((flat + BASES["AR1"](*AT)).resolved))
    logp = interpreted([], [both.logp(Y)])()[0]
    assert_allclose(logp, restricted(Y, BASES["AR1"](*AT).to_dense().eval(), X), rtol=1e-11)
    assert "restricted likelihood" in str((flat + BASES["AR1"](*AT)).plan())
    with pytest.raises(ValueError, match=r"\['level', 'twice'\] of `design` have the rank 1"):
        gg.cov.Linear(table.assign(twice=2.0), "flat")


FLAT = gg.cov.Linear(X, "flat")
WITH_NOISE = FLAT + gg.cov.Diagonal(1.0)
WRONG = [
    (lambda: gg.cov.Linear(X, "uniform"), ValueError, '"flat"'),
    (lambda: gg.cov.Linear(X), TypeError, "prior"),
    (lambda: gg.cov.Linear(X[:, 0], 1.0), TypeError, "one column a coefficient"),
    (lambda: gg.cov.Linear(X, np.ones(3)), ValueError, "of 2 coefficients"),
    (lambda: gg.cov.Linear(X, -1.0), ValueError, "`prior` is -1"),
    (lambda: gg.cov.Linear(X, -np.eye(2)), ValueError, "`prior`"),
    (lambda: gg.cov.Linear(X, np.array([[1, 2], [2, 1]])), ValueError, "eigenvalue"),
    (lambda: gg.cov.Linear(X[:1], "flat"), ValueError, "rank 1 for the 1 observations"),
    (lambda: gg.cov.Linear(X * np.nan, "flat"), ValueError, "not finite"),
    (lambda: FLAT.to_dense(), NotImplementedError, "gg.recover"),
    (lambda: gg.logp(Y, 0, FLAT), NotImplementedError, "add the covariance"),
    (lambda: WITH_NOISE.resolved.whiten(Y), NotImplementedError, "no covariance"),
    (lambda: WITH_NOISE.resolved.innovations(Y), NotImplementedError, "first observations"),
    (lambda: gg.student_t_logp(Y, 3.0, 0.0, WITH_NOISE), ValueError, "flat prior"),
    (
        lambda: gg.condition(Y, 0.0, WITH_NOISE, 0.0, np.ones((N, 1)), np.eye(1)),
        ValueError,
        "by positions",
    ),
    (
        lambda: gg.logp(np.append(Y[:1], np.full(N - 1, np.nan)), 0.0, WITH_NOISE),
        ValueError,
        "for the 1 observations",
    ),
]


@pytest.mark.parametrize(("make", "kind", "text"), WRONG, ids=[text for _, _, text in WRONG])
def test_errors(make, kind, text):
    with pytest.raises(kind, match=text):
        make()


def test_no_draws():
    """An error when they are taken, and not when a model is made."""
    with pm.Model():
        y = gg.MvNormal("y", 0.0, WITH_NOISE, observed=Y)
    with pytest.raises(NotImplementedError, match="no covariance"):
        y.eval(mode=AS_WRITTEN)


def test_after_sampling_and_audit():
    """Leave-one-out and imputed values of a model with gaps; three witnesses of its gradient."""
    y = np.where(np.arange(N) == 2, np.nan, Y)
    with pm.Model() as model:
        v = pm.HalfNormal("v")
        cov = gg.cov.Linear(X, "flat") + gg.cov.AR1(v, 0.4)
        gg.MvNormal("y", 0.0, cov, observed=y)
    audit = gg.gradient.audit(model)
    assert_allclose(audit["gradient"], audit["dense_autodiff"], rtol=1e-9)
    assert (audit["verdict"] == "agree").all()
    idata = az_posterior(v=np.full((1, 2), 1.3))
    found = gg.loo_log_likelihood(idata, model, progressbar=False).log_likelihood["y"][0, 0]
    seen = np.flatnonzero(~np.isnan(y))
    sigma = gg.cov.AR1(1.3, 0.4, size=N).to_dense().eval()

    def dense(rows):
        return restricted(y[rows], sigma[np.ix_(rows, rows)], X[rows])

    for i, value in zip(seen, found, strict=True):
        assert_allclose(value, dense(seen) - dense(seen[seen != i]), rtol=1e-9)
    filled = gg.impute(idata, model, progressbar=False).posterior_predictive["y_imputed"][0, 0]
    assert_allclose(filled[seen], y[seen])
    assert np.isfinite(filled[2])


def test_nearly_collinear_columns():
    """Years and a constant: coefficients are those of least squares."""
    design = np.stack([np.ones(N), 2000.0 + np.arange(N)], axis=1)
    cov = gg.cov.Linear(design, "flat") + gg.cov.Diagonal(1.0)
    quad, _ = interpreted([], cov.quad_logdet(Y))()
    assert_allclose(quad, lstsq(design, Y)[1], rtol=1e-9)
