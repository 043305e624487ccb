"""gg.MvStudentT: density, gradient, limits, draws, and everything else that PyMC asks of it."""

import arviz as az
import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import AS_WRITTEN, BACKENDS, CASES, INTERPRETED, each, interpreted, positive_definite
from scipy.special import psi
from scipy.stats import f, kstest, multivariate_normal, multivariate_t

import pm_gaussgrad as gg
from pm_gaussgrad.distributions.student import student_log_density
from pm_gaussgrad.ops import InvQuadLogdet, InvQuadLogdetPullback

N, M, NU = 3, 5, 4.5
EYE = np.eye(2)
SCALE = positive_definite(np.random.default_rng(1), N)
MU = np.array([1.0, -2.0, 0.5])
PARAMETERISATIONS = {
    "scale": SCALE,
    "chol": np.linalg.cholesky(SCALE),
    "tau": np.linalg.inv(SCALE),
}


# Density


@pytest.mark.parametrize("name", PARAMETERISATIONS)
@pytest.mark.parametrize("shape", [(N,), (M, N), (2, M, N)])
def test_logp_against_scipy(name, shape, rng):
    value = rng.normal(size=shape)
    dist = gg.MvStudentT.dist(NU, MU, **{name: PARAMETERISATIONS[name]}, shape=shape)
    got = pm.logp(dist, value).eval()
    assert got.shape == shape[:-1]
    assert_allclose(got, multivariate_t(MU, SCALE, NU).logpdf(value), rtol=1e-12)


# All structures come through the same two numbers; these differ in kind.
KINDS = {"AR1", "BlockDiagonal", "Dense", "LowRankPlusDiagonal", "NoisyKronecker", "ScalarDiagonal"}


@each([case for case in CASES if case.name in KINDS])
def test_value_and_gradient_against_pymc(case, rng):
    """Every structure: derivatives in the data, nu, the location and the structure's parameters."""
    n = 4
    y, nu, mu = pt.matrix("y"), pt.scalar("nu"), pt.vector("mu")
    parameters = case.tensors(n=n)
    wrt = [y, nu, mu, *case.differentiable(parameters)]
    cov = case.build(n, *parameters)
    ours = gg.student_t_logp(y, nu, mu, cov)
    theirs = pm.logp(pm.MvStudentT.dist(nu, mu=mu, scale=cov.to_dense()), y)
    inputs = [y, nu, mu, *parameters]
    numbers = [rng.normal(size=(M, n)), NU, rng.normal(size=n), *case.values(rng, n)]
    weights = rng.uniform(0.5, 1.5, size=M)

    def outputs(value):
        return [value, *pt.grad((weights * value).sum(), wrt)]

    got, expected = (
        interpreted(inputs, outputs(x), mode, on_unused_input="ignore")(*numbers)
        for x, mode in ((ours, INTERPRETED), (theirs, AS_WRITTEN))
    )
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        b = case.project(i - 4, b) if i >= 4 else b
        assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max(initial=1e-6))


def test_one_nu_a_row_and_batches_of_scales(rng):
    value, mu = rng.normal(size=(M, 2, N)), rng.normal(size=(M, 2, N))
    nu, scales = rng.uniform(1, 9, size=(M, 2)), [positive_definite(rng, N) for _ in range(2)]
    expected = [
        [multivariate_t(mu[i, b], scales[b], nu[i, b]).logpdf(value[i, b]) for b in range(2)]
        for i in range(M)
    ]
    got = gg.student_t_logp(value, nu, mu, np.stack(scales)).eval()
    assert_allclose(got, expected, rtol=1e-12)
    got = pm.logp(gg.MvStudentT.dist(nu, mu, np.stack(scales)), value).eval()
    assert_allclose(got, expected, rtol=1e-12)


def test_nu_broadcasts_over_one_value():
    nu = np.array([1.0, 3.0, 30.0])
    got = gg.student_t_logp(MU, nu, 0.0, SCALE).eval()
    assert_allclose(got, [multivariate_t(np.zeros(N), SCALE, k).logpdf(MU) for k in nu], rtol=1e-12)


def test_as_many_observations_as_each_row_has(rng):
    """The density is a function of quad, logdet, n and nu, each of which may vary by row."""
    quad, logdet, n = rng.uniform(0, 9, size=5), rng.normal(size=5), np.arange(5)
    tensors = pt.vector("quad"), pt.vector("logdet"), pt.lvector("n"), pt.scalar("nu")
    got = interpreted(tensors, student_log_density(*tensors))(quad, logdet, n, NU)
    assert got[0] == -logdet[0] / 2 - (NU / 2) * np.log1p(quad[0] / NU)
    for k in range(1, 5):
        factor = np.exp(logdet[k] / k)
        row = np.r_[np.sqrt(quad[k] * factor), np.zeros(k - 1)]
        expected = multivariate_t(np.zeros(k), factor * np.eye(k), NU).logpdf(row)
        assert_allclose(got[k], expected, rtol=1e-12)


# Limits and precision


@pytest.fixture(scope="module")
def from_parts():
    """The log density and its derivatives with respect to quad, nu and n."""
    quad, n, nu = pt.scalars("quad", "n", "nu")
    value = student_log_density(quad, pt.constant(0.0), n, nu)
    return interpreted([quad, n, nu], [value, *pt.grad(value, [quad, nu, n])])


# quad, n, nu; log density for logdet 0 and its derivative with respect to nu, to 60 digits.
EXACT = [
    (0.3, 1, 0.01, -4.7367864584388413, 96.468962412608672),
    (2.5, 1, 1.0, -2.3974928543447682, 0.2810514105979756),
    (4.0, 3, 2.5, -5.1457008970740326, 0.12234463358520774),
    (7.0, 10, 19.0, -12.82044650758549, 0.0062448373531898095),
    (12.0, 10, 10000.0, -15.189785212068099, 3.9976006415126474e-8),
    (9.0, 7, 100000000.0, -10.932569757432709, 2.4999999449999938e-16),
    (480.0, 501, 100000000.0, -700.38820653804015, 1.4024982049842987e-14),
    (200000.0, 1000, 30.0, -4134.1998893004009, -2.120662714608492),
    (1e60, 4, 3.0, -482.86265502746391, -67.494913312153982),
    (5.0, 3, 1000000000000.0, -5.2568155996145182, 5.0000000000516667e-25),
]


@pytest.mark.parametrize(("quad", "n", "nu", "logp", "dnu"), EXACT)
def test_no_digits_are_lost(from_parts, quad, n, nu, logp, dnu):
    """Differences of log Gamma functions of 1e8 would have seven digits after the point."""
    got = from_parts(quad, n, nu)
    assert_allclose(got[0], logp, rtol=2e-15)
    assert_allclose(got[1], -0.5 * (nu + n) / (nu + quad), rtol=1e-15)
    # By the scale of log nu, on which it is a number like the log density.
    assert_allclose(got[2] * nu, dnu * nu, rtol=1e-13, atol=1e-15 * max(n, quad))
    dn = 0.5 * (psi((nu + n) / 2) - np.log(nu * np.pi) - np.log1p(quad / nu))
    assert_allclose(got[3], dn, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("nu", "rtol"), [(1e8, 1e-7), (1e15, 1e-14), (np.inf, 1e-15)])
def test_many_degrees_of_freedom_are_the_normal(nu, rtol, rng):
    y = rng.normal(size=(M, N))
    matrix, mu = pt.matrix("S"), pt.vector("mu")
    values = gg.student_t_logp(y, nu, mu, matrix), gg.logp(y, mu, matrix)
    ours, normal = (
        interpreted([mu, matrix], [v, *pt.grad(v.sum(), [mu, matrix])])(MU, SCALE) for v in values
    )
    for a, b in zip(ours, normal, strict=True):
        assert_allclose(a, b, rtol=rtol, atol=4 * rtol * np.abs(b).max())


def test_one_degree_of_freedom_is_the_cauchy(rng):
    y = rng.normal(size=(M, N))
    quad = (y @ np.linalg.inv(SCALE) * y).sum(axis=1)
    # Gamma(2) / (Gamma(1/2) pi^(3/2)) = 1 / pi^2 in three dimensions.
    expected = -2 * np.log(np.pi) - 0.5 * np.linalg.slogdet(SCALE)[1] - 2 * np.log1p(quad)
    assert_allclose(gg.student_t_logp(y, 1, 0.0, SCALE).eval(), expected, rtol=1e-13)


def test_one_observation_is_the_univariate_student_t(rng):
    y, nu, mu, sigma = pt.vector("y"), *pt.scalars("nu", "mu", "sigma")
    ours = gg.student_t_logp(y[:, None], nu, mu, sigma[None, None] ** 2)
    theirs = pm.logp(pm.StudentT.dist(nu, mu=mu, sigma=sigma), y)
    numbers = rng.normal(size=M), 2.5, 0.3, 1.7
    wrt = [y, nu, mu, sigma]
    got, expected = (
        interpreted(wrt, [x, *pt.grad(x.sum(), wrt)])(*numbers) for x in (ours, theirs)
    )
    for a, b in zip(got, expected, strict=True):
        assert_allclose(a, b, rtol=1e-10)


def test_no_observations_and_no_rows():
    empty = np.zeros((0, 0))
    assert gg.student_t_logp(np.zeros(0), NU, 0.0, empty).eval() == 0.0
    assert gg.student_t_logp(np.zeros((0, 2)), NU, 0.0, EYE).eval().shape == (0,)


@pytest.mark.parametrize("nu", [1e-100, 1.0, 30.0, 1e8])
def test_residuals_far_out(nu, rng):
    """Finite where the square of the residual is: growth is logarithmic."""
    r = pt.vector("r")
    value = gg.student_t_logp(r, nu, 0.0, EYE)
    function = interpreted([r], [value, pt.grad(value, r)])
    size = 1e150 if nu >= 1 else 1e100
    (near, _), (far, gradient) = (function(size * s * np.ones(2)) for s in (0.1, 1.0))
    assert_allclose(near - far, (nu + 2) * np.log(10), rtol=1e-12)
    assert_allclose(gradient, -(nu + 2) / (2 * size) * np.ones(2), rtol=1e-12)
    overflown, gradient = function(1e200 * np.ones(2))
    assert overflown == -np.inf
    np.testing.assert_array_equal(gradient, [0.0, 0.0])


def test_integers_and_float32():
    integer = gg.student_t_logp(np.array([1, 2]), 3, 0, np.array([[2, 0], [0, 3]]))
    assert integer.dtype == "float64"
    assert_allclose(
        integer.eval(), multivariate_t(np.zeros(2), np.diag([2.0, 3.0]), 3).logpdf([1, 2])
    )
    single = np.ones(2, "float32"), NU, np.float32(0), EYE.astype("float32")
    got = gg.student_t_logp(*single)
    assert got.dtype == "float32"
    assert_allclose(got.eval(), multivariate_t(np.zeros(2), EYE, NU).logpdf(np.ones(2)), rtol=1e-6)


def test_second_derivatives(rng):
    """Through the pullback's own pullback, in nu, the data and a parameter of the scale."""
    r, nu, v = pt.vector("r"), pt.scalar("nu"), pt.scalar("v")
    wrt = [nu, v, r]
    numbers = rng.normal(size=N), NU, 1.3
    ours = gg.student_t_logp(r, nu, 0.0, gg.cov.AR1(v, 0.5))
    lags = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
    theirs = pm.logp(pm.MvStudentT.dist(nu, mu=np.zeros(N), scale=v * 0.5**lags), r)
    results = []
    for value in (ours, theirs):
        outputs = [pt.grad(g.sum(), wrt) for g in pt.grad(value, wrt)]
        results.append(
            interpreted([r, nu, v], [g for row in outputs for g in row], mode=AS_WRITTEN)(*numbers)
        )
    for a, b in zip(*results, strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-12)


# Backends, and points that are rejected


@pytest.fixture(scope="module", params=BACKENDS)
def by_row(request):
    """Rows of data with degrees of freedom of their own under one scale matrix; gradients."""
    y, nu, mu, matrix = pt.matrix("y"), pt.vector("nu"), pt.vector("mu"), pt.matrix("S")
    value = gg.student_t_logp(y, nu, mu, matrix)
    wrt = [y, nu, mu, matrix]
    return pytensor.function(wrt, [value, *pt.grad(value.sum(), wrt)], mode=BACKENDS[request.param])


def test_backends_agree_with_scipy(by_row, rng):
    y, nu = rng.normal(size=(4, N)), np.array([0.7, 1.0, 6.0, 1e8])
    value, *gradient = by_row(y, nu, MU, SCALE)
    residual = y - MU
    alpha = residual @ np.linalg.inv(SCALE)
    weight = (nu + N) / (nu + (alpha * residual).sum(axis=1))
    # SciPy's own differences of log Gamma lose digits for the last nu.
    expected = [multivariate_t(MU, SCALE, k).logpdf(row) for k, row in zip(nu, y, strict=True)]
    assert_allclose(value[:3], expected[:3], rtol=1e-12)
    assert_allclose(value[3], multivariate_normal(MU, SCALE).logpdf(y[3]), rtol=1e-7)
    assert_allclose(gradient[0], -weight[:, None] * alpha, rtol=1e-11)
    assert_allclose(gradient[2], weight @ alpha, rtol=1e-11)
    inner = (weight[:, None] * alpha).T @ alpha
    assert_allclose(gradient[3], (inner - 4 * np.linalg.inv(SCALE)) / 2, rtol=1e-10)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, -np.inf, 1e-320])
def test_nu_that_is_not_positive_gives_minus_infinity(by_row, bad):
    """In the value, without an exception; the other row is as ever, the gradient its own."""
    y, nu = np.ones((2, N)), np.array([bad, NU])
    value, *gradient = by_row(y, nu, MU, SCALE)
    alone, *expected = by_row(y[1:], nu[1:], MU, SCALE)
    assert value[0] == -np.inf
    assert value[1] == alone[0]
    np.testing.assert_array_equal(gradient[0], [np.zeros(N), expected[0][0]])
    np.testing.assert_array_equal(gradient[1], [0.0, expected[1][0]])
    assert_allclose(gradient[2], expected[2], rtol=1e-14)


@pytest.mark.parametrize("entry", [-9.0, 0.0, np.nan, np.inf])
def test_scale_that_is_none_gives_minus_infinity(by_row, entry):
    matrix = SCALE.copy()
    matrix[1, 1] = entry
    value, *gradient = by_row(np.ones((2, N)), np.array([1.0, NU]), MU, matrix)
    np.testing.assert_array_equal(value, [-np.inf, -np.inf])
    for g in gradient:
        np.testing.assert_array_equal(g, np.zeros_like(g))


def test_nan_in_data_is_nan():
    """Not a fact about the parameters: the log density is NaN, as for gg.MvNormal."""
    value = pt.vector("value")
    logp = interpreted([value], gg.student_t_logp(value, NU, 0.0, EYE))
    assert np.isnan(logp([np.nan, 0.0]))


# Errors


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: gg.student_t_logp(1.0, 3, 0.0, EYE), TypeError, r"student_t_logp: `value` has 0"),
        (lambda: gg.student_t_logp(np.ones(3), 3, 0.0, EYE), ValueError, "expected n = 2"),
        (lambda: gg.student_t_logp([1.0], 3, 0.0, None), ValueError, "one of scale=.*found none"),
        (lambda: gg.student_t_logp([1.0], "a", 0.0, EYE), TypeError, "`nu` is a str"),
        (
            lambda: gg.MvStudentT.dist(3),
            ValueError,
            "gg.MvStudentT: pass exactly one of scale=.*none",
        ),
        (lambda: gg.MvStudentT.dist(3, 0, EYE, tau=EYE), ValueError, r"\['scale', 'tau'\]"),
        (lambda: gg.MvStudentT.dist(3, 0, EYE, Sigma=EYE), ValueError, "scale and Sigma are names"),
        (
            lambda: gg.MvStudentT.dist(3, 0, chol=EYE, lower=False),
            ValueError,
            "MvStudentT.*`lower`",
        ),
        (lambda: gg.MvStudentT.dist(1j, 0, EYE), TypeError, "`nu` has dtype complex128"),
        (lambda: gg.MvStudentT.dist(3, gg.cov.Dense(EYE), EYE), TypeError, "`mu` is.*`scale=`"),
        (
            lambda: gg.MvStudentT.dist(3, np.ones(3), EYE),
            ValueError,
            r"gg.MvStudentT: `mu` is for 3 obs.*size of `scale`",
        ),
        (lambda: gg.MvStudentT.dist(3, 0, EYE, shape=(4, 3)), ValueError, "value .* is for 3 obs"),
        (
            lambda: gg.MvStudentT.dist(3, 0, gg.cov.Diagonal(1.0)),
            ValueError,
            "gg.MvStudentT: neither mu nor .*how many observations",
        ),
    ],
)
def test_errors_say_what_was_found_and_expected(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("name", ["Dense", "AR1"])
def test_missing_values_are_integrated_out(same, name, rng):
    """The marginal has the same nu and the part of the scale matrix; also where rows differ."""
    y = rng.normal(size=(4, N))
    missing = np.tile([False, True, False], (4, 1)) if same else np.tri(4, N, -1, dtype=bool)
    y[missing] = np.nan
    scale = {"Dense": SCALE, "AR1": gg.cov.AR1(1.5, 0.5)}[name]
    matrix = (
        SCALE if name == "Dense" else 1.5 * 0.5 ** np.abs(np.subtract.outer(range(N), range(N)))
    )
    with pm.Model() as model:
        nu = pm.Gamma("nu", 2, 0.1)
        gg.MvStudentT("y", nu, MU, scale, observed=y)
    assert [v.name for v in model.free_RVs] == ["nu"]
    [by_row] = model.logp(vars=[model["y"]], sum=False)
    function = interpreted(model.value_vars, [by_row, pt.grad(by_row.sum(), model.value_vars[0])])
    got, slope = function(np.log(NU))

    def exact(log_nu):
        return [
            multivariate_t(MU[~m], matrix[np.ix_(~m, ~m)], np.exp(log_nu)).logpdf(row[~m])
            if not m.all()
            else 0.0
            for row, m in zip(y, missing, strict=True)
        ]

    assert_allclose(got, exact(np.log(NU)), rtol=1e-12)
    h = 1e-3
    values = [np.sum(exact(np.log(NU) + k * h)) for k in (-2, -1, 1, 2)]
    assert_allclose(slope, np.dot(values, [1, -8, 8, -1]) / (12 * h), rtol=1e-8)


# Draws


@each(CASES)
def test_draws_have_the_covariance(case, rng):
    """20,000 draws: mean and covariance nu / (nu - 2) Sigma, every entry within 5 standard errors.

    The variance of a sample covariance of an elliptical distribution has the excess kurtosis in
    it, 2 / (nu - 4) of a common factor. (Muirhead, 1982, section 1.6.)
    """
    n, draws, nu = 3, 20_000, 12.0
    scale = case.build(n, *map(pt.constant, case.values(rng, n)))
    x = pm.draw(
        gg.MvStudentT.dist(nu, MU, scale, shape=(draws, n)), random_seed=3, mode=INTERPRETED
    )
    matrix = scale.to_dense().eval(mode=INTERPRETED)
    sigma, kappa = nu / (nu - 2) * matrix, 2 / (nu - 4)
    assert x.shape == (draws, n)
    assert_allclose((x.mean(axis=0) - MU) / np.sqrt(np.diag(sigma) / draws), 0, atol=5)
    products = np.outer(np.diag(sigma), np.diag(sigma))
    spread = np.sqrt(((1 + kappa) * (products + sigma**2) + kappa * sigma**2) / draws)
    assert_allclose((np.cov(x.T) - sigma) / spread, 0, atol=5)


def test_every_row_has_its_own_chi_square():
    """quad / n of a row is distributed as F(n, nu), and those of two rows are independent."""
    nu, shape = 3.0, (2, 10_000, N)
    x = pm.draw(gg.MvStudentT.dist(nu, MU, SCALE, shape=shape), random_seed=5) - MU
    quad = (x @ np.linalg.inv(SCALE) * x).sum(axis=-1)
    assert quad.shape == shape[:-1]
    assert kstest(quad.ravel() / N, f(N, nu).cdf).pvalue > 1e-3
    ranks = quad.argsort(axis=1).argsort(axis=1)
    assert abs(np.corrcoef(ranks)[0, 1]) < 4 / np.sqrt(shape[1])
    assert abs(np.corrcoef(ranks[0, 1:], ranks[0, :-1])[0, 1]) < 4 / np.sqrt(shape[1])


def test_draws_of_batches_use_their_own():
    """Scales and degrees of freedom by column; of infinitely many the draws are normal."""
    scales, nu = np.stack([0.01 * np.eye(N), 100.0 * np.eye(N)]), np.array([np.inf, 5.0])
    dist = gg.MvStudentT.dist(nu, np.zeros((2, N)), scales, shape=(4000, 2, N))
    x = pm.draw(dist, random_seed=1)
    quad = (x**2).sum(axis=-1) / [0.01, 100.0]
    assert kstest(quad[:, 0] / N, f(N, 1e9).cdf).pvalue > 1e-3
    assert kstest(quad[:, 1] / N, f(N, 5.0).cdf).pvalue > 1e-3
    assert pm.draw(gg.MvStudentT.dist(nu, 0.0, SCALE), random_seed=1).shape == (2, N)


# Models


def _model(distribution=gg.MvStudentT, shared=False, structure=lambda v: v * SCALE):
    """A latent vector, rows around it, a scale with a parameter, and nu."""
    y = np.random.default_rng(7).normal(size=(M, N))
    with pm.Model(coords={"row": range(M), "time": ["a", "b", "c"]}) as model:
        scale, nu = pm.HalfNormal("scale"), pm.Gamma("nu", 2, 0.1)
        # pm.MvStudentT takes the number 5.0 in single precision.
        mu = distribution("mu", np.array(5.0), mu=np.zeros(N), scale=SCALE, dims="time")
        if shared:
            data = pm.Data("data", y)
            distribution("y", nu, mu=mu, scale=structure(scale), observed=data, shape=data.shape)
        else:
            distribution("y", nu, mu=mu, scale=structure(scale), observed=y, dims=("row", "time"))
    return model


def test_model_agrees_with_pymc(rng):
    ours, theirs = _model(), _model(pm.MvStudentT)
    point = ours.initial_point()
    assert_allclose(point["mu"], np.zeros(N))
    assert [v.name for v in ours.value_vars] == [v.name for v in theirs.value_vars]
    point = {name: value + 0.3 * rng.normal(size=value.shape) for name, value in point.items()}
    copied = cloudpickle.loads(cloudpickle.dumps(ours))
    assert_allclose(copied.compile_logp()(point), theirs.compile_logp()(point), rtol=1e-12)
    assert_allclose(ours.compile_dlogp()(point), theirs.compile_dlogp()(point), rtol=1e-10)


STRUCTURES = {
    "Dense": lambda v: v * SCALE,
    "AR1": lambda v: gg.cov.AR1(v, 0.5),
    "BlockDiagonal": lambda v: gg.cov.BlockDiagonal(v * EYE, gg.cov.Diagonal(v, size=1)),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_predictive_draws_and_log_likelihood(name):
    """From a posterior group, per row, against SciPy; new data change the shapes."""
    rng = np.random.default_rng(2)
    posterior = {
        "scale": rng.uniform(1, 2, size=(1, 4)),
        "nu": rng.uniform(1, 9, size=(1, 4)),
        "mu": rng.normal(size=(1, 4, N)),
    }
    model = _model(shared=True, structure=STRUCTURES[name])
    idata = az.from_dict({"posterior": posterior}, dims={"mu": ["time"]})
    with pytensor.config.change_flags(mode="FAST_COMPILE"), model:
        pm.compute_log_likelihood(idata, progressbar=False)
        predictive = pm.sample_posterior_predictive(idata, random_seed=1, progressbar=False)
        got, data = idata.log_likelihood["y"], model["data"].get_value()
        pm.set_data({"data": np.zeros((2, N))})
        fresh = pm.sample_posterior_predictive(
            idata, random_seed=1, progressbar=False, predictions=True
        )
    assert got.shape == (1, 4, M)
    one = STRUCTURES[name](1.0)
    one = (
        one
        if isinstance(one, np.ndarray)
        else one.structure.from_parameters(*one.parameters, size=N).to_dense().eval()
    )
    for d in range(4):
        scale, nu, mu = (posterior[k][0, d] for k in ("scale", "nu", "mu"))
        assert_allclose(got[0, d], multivariate_t(mu, scale * one, nu).logpdf(data), rtol=1e-10)
    assert predictive.posterior_predictive["y"].shape == (1, 4, M, N)
    assert fresh.predictions["y"].shape == (1, 4, 2, N)


def test_prior_predictive_dims_do_and_observe():
    model = _model()
    with model:
        prior = pm.sample_prior_predictive(4, random_seed=1)
    assert prior.prior_predictive["y"].dims == ("chain", "draw", "row", "time")
    done = pm.do(model, {"mu": MU, "nu": NU})
    data = np.asarray(model.rvs_to_values[model["y"]].data)
    total = done.compile_logp(vars=[done["y"]])({"scale_log__": np.array(0.0)})
    assert_allclose(total, multivariate_t(MU, SCALE, NU).logpdf(data).sum(), rtol=1e-12)
    observed = pm.observe(model, {"mu": MU})
    assert {v.name for v in observed.observed_RVs} == {"mu", "y"}


def test_printing_graph_and_support_point():
    model = _model()
    assert "y ~ MvStudentT(nu, mu, f(scale))" in model.str_repr()
    assert "MvStudentT" in model.str_repr(formatting="latex")
    with pytensor.config.change_flags(cxx=""):  # or else shapes are evaluated by compiled C
        assert "MvStudentT" in model.to_graphviz().source
    with pm.Model() as rows:
        gg.MvStudentT("x", NU, MU, SCALE, shape=(M, N))
        gg.MvStudentT("by_nu", np.ones(2), MU, SCALE)
    assert_allclose(rows.initial_point()["x"], np.tile(MU, (M, 1)))
    assert_allclose(rows.initial_point()["by_nu"], np.tile(MU, (2, 1)))


def test_resized_variable_keeps_its_structure():
    from pymc.distributions.shape_utils import change_dist_size

    dist = gg.MvStudentT.dist(NU, MU, gg.cov.Diagonal(2.0))
    resized = change_dist_size(dist, (4,))
    assert resized.owner.op.structure is dist.owner.op.structure
    assert pm.draw(resized, random_seed=1).shape == (4, N)
    assert pm.draw(change_dist_size(resized, (2,), expand=True), random_seed=1).shape == (2, 4, N)


def test_the_gradient_audit_knows_it():
    table = gg.gradient.audit(_model(structure=STRUCTURES["AR1"]))
    assert set(table.verdict) == {"agree"}


def test_value_and_gradient_share_one_factorisation(rng):
    model = _model()
    function = model.logp_dlogp_function(ravel_inputs=True, mode=INTERPRETED)
    nodes = function._pytensor_function.maker.fgraph.apply_nodes
    ops = [type(node.op) for node in nodes]
    # The latent vector has a constant scale matrix, which needs no pullback.
    assert ops.count(InvQuadLogdet) == 2
    assert ops.count(InvQuadLogdetPullback) == 1


def test_vectorised_over_draws_keeps_one_factorisation(rng):
    """Batches of data, nu and locations under one scale matrix are rows, not many matrices."""
    from pytensor.graph.replace import vectorize_graph
    from pytensor.tensor.blockwise import Blockwise

    value, nu, mu, matrix = pt.matrix("y"), pt.scalar("nu"), pt.vector("mu"), pt.matrix("S")
    values, nus, mus = pt.tensor3("ys"), pt.vector("nus"), pt.matrix("mus")
    log_density = gg.student_t_logp(value, nu, mu, matrix)
    [batched] = vectorize_graph([log_density], {value: values, nu: nus, mu: mus})
    function = interpreted([values, nus, mus, matrix], batched)
    assert not any(isinstance(node.op, Blockwise) for node in function.maker.fgraph.apply_nodes)
    numbers = rng.normal(size=(4, M, N)), rng.uniform(1, 9, size=4), rng.normal(size=(4, N))
    expected = [multivariate_t(m, SCALE, k).logpdf(y) for y, k, m in zip(*numbers, strict=True)]
    assert_allclose(function(*numbers, SCALE), expected, rtol=1e-12)
    matrices = pt.tensor3("Ss")
    [batched] = vectorize_graph([log_density], {nu: nus, mu: mus, matrix: matrices})
    function = interpreted([value, nus, mus, matrices], batched)
    scales = np.stack([positive_definite(rng, N) for _ in range(4)])
    y, k, m = numbers[0][0], *numbers[1:]
    expected = [multivariate_t(m[i], scales[i], k[i]).logpdf(y) for i in range(4)]
    assert_allclose(function(y, k, m, scales), expected, rtol=1e-12)


# Sampling


@pytest.mark.sampling
def test_posterior_is_that_of_quadrature():
    """Location and degrees of freedom of rows with outliers: four standard errors of the means."""
    rng = np.random.default_rng(9)
    lags = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
    matrix = 0.5**lags
    y = multivariate_t(np.ones(N), matrix, 3, seed=rng).rvs(40)
    with pm.Model():
        mean, nu = pm.Normal("mean", 0, 2), pm.Gamma("nu", 2, 0.5)
        gg.MvStudentT("y", nu, mean, gg.cov.AR1(1.0, 0.5), observed=y)
        # As users do, not by the interpreted functions of the other tests.
        with pytensor.config.change_flags(linker="auto"):
            idata = pm.sample(600, tune=400, chains=2, cores=1, random_seed=4, progressbar=False)
    means, nus = np.linspace(0, 2, 81), np.linspace(0.05, 15, 150)
    logp = np.array(
        [
            multivariate_t(np.zeros(N), matrix, k).logpdf(y - means[:, None, None]).sum(1)
            for k in nus
        ]
    )
    logp += np.log(nus)[:, None] - 0.5 * nus[:, None] - means**2 / 8
    weights = np.exp(logp - logp.max())
    for name, grid in (("mean", means), ("nu", nus[:, None])):
        draws = idata.posterior[name]
        expected = (weights * grid).sum() / weights.sum()
        assert abs(float(draws.mean()) - expected) < 4 * float(az.mcse(draws))
