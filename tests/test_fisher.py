"""Fisher information against the dense formula, moments of the score, and second derivatives."""

import functools
import itertools

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pytensor.graph.replace import vectorize_graph
from registry import AS_WRITTEN, BACKENDS, CASES, INTERPRETED, each, interpreted, positive_definite

import pm_gaussgrad as gg
from pm_gaussgrad.cov import Covariance
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.strips import by_strips
from pm_gaussgrad.ops.tangents import forward_derivative

POINT = np.array([0.1, 0.2, -0.1])
JAX_CASES = {"Dense", "LowRankPlusDiagonal", "NoisyKronecker", "RepeatedMeasures", "Toeplitz"}


def _varied(case, parameters, a, b):
    """Nonlinear in a scalar and a vector, so that no two directions are alike."""
    free = case.differentiable(parameters)
    return [
        (1 + a) * p + b[0] * p**2 + 0.3 * b[1] * pt.exp(a) * p if p in free else p
        for p in parameters
    ]


def _symbols():
    return pt.dscalar("a"), pt.tensor("b", shape=(2,), dtype="float64")


def _derivatives(function, point, h=1e-3):
    """4th-order differences of each output, shape (p, ...)."""
    steps = []
    for unit in h * np.eye(point.size):
        values = [function(point + k * unit) for k in (-2, -1, 1, 2)]
        steps.append(
            [(w[0] - 8 * w[1] + 8 * w[2] - w[3]) / (12 * h) for w in zip(*values, strict=True)]
        )
    return [np.array(x) for x in zip(*steps, strict=True)]


def _slepian_bangs(dmu, dcov, cov):
    """The definition, with dmu (p, n) and dcov (p, n, n)."""
    inverse = np.linalg.inv(cov)
    solved = inverse @ dcov
    return dmu @ inverse @ dmu.T + np.einsum("aij,bji->ab", solved, solved) / 2


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_structure(case, rng):
    """In closed form, and by differences of mean and matrix."""
    a, b = _symbols()
    parameters = case.tensors()
    x = pt.dvector("x")
    mu = b[1] * x + a**2
    cov = case.build(x.shape[0], *_varied(case, parameters, a, b))
    information = gg.fisher_information(mu, cov, [a, b])
    # What rewriting makes of it: below, of known lengths.
    outputs = [information, mu, cov.to_dense()]
    function = interpreted([a, b, x, *parameters], outputs, AS_WRITTEN, on_unused_input="ignore")
    for n in (4, 1):
        rest = [np.linspace(0.5, 1, n), *case.values(rng, n)]

        def at(theta, rest=rest):
            _, mean, matrix = function(theta[0], theta[1:], *rest)
            return mean, (matrix + matrix.T) / 2

        got = function(POINT[0], POINT[1:], *rest)[0]
        expected = _slepian_bangs(*_derivatives(at, POINT), at(POINT)[1])
        assert_allclose(got, expected, rtol=1e-8, atol=1e-8)
        assert_allclose(got, got.T, rtol=1e-13)


V3, S, B = pt.tensor("v", shape=(3,)), pt.dscalar("s"), pt.dscalar("b")
SLOPES = np.array([1.0, 2.0, 3.0])
LINEAR = np.array([[1.0, 0.5, 0.2], [0.0, 1.0, -0.4], [0.3, 0.0, 1.0]])
# Each as mean and covariance: sums, one variable many times, products, slices and linear maps.
EXPRESSIONS = {
    "sum in the mean": lambda: (V3 + B * SLOPES, np.eye(3)),
    "sum in a parameter": lambda: (B * SLOPES, gg.cov.Diagonal(V3 + S)),
    "sum of structures": lambda: (0.0, gg.cov.Toeplitz(V3) + gg.cov.Diagonal(S)),
    "in itself": lambda: (V3 + V3 - B, gg.cov.Diagonal(V3 + V3)),
    "alone and in a sum": lambda: (V3, gg.cov.AR1(V3[0] + S, V3[2] - 0.1 * B, size=3)),
    "products": lambda: (V3 * V3 * B, gg.cov.Diagonal(S * V3)),
    "slices": lambda: (V3[::-1] + V3, gg.cov.Diagonal(V3[[0, 0, 1]] + pt.stack([S, S, B]))),
    "linear maps": lambda: (
        LINEAR @ V3 + S,
        gg.cov.LowRank((LINEAR @ V3 + B)[:, None]) + gg.cov.Diagonal(S + V3),
    ),
    "matrix": lambda: (S + B, V3[:, None] * V3 + pt.diag(V3 + S) + B * np.eye(3)),
    "differences": lambda: (V3 - V3 + S - B, gg.cov.CompoundSymmetry(S + B, S - 0.2 * B, size=3)),
    "blocks": lambda: (
        V3 + S,
        gg.cov.BlockDiagonal(
            gg.cov.Diagonal(S + B, size=1), gg.cov.AR1(V3[0] + S, V3[2] + V3[2], size=2)
        ),
    ),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_of_parameters(name):
    """Every occurrence of every parameter counts, by differences of mean and matrix."""
    mean, cov = EXPRESSIONS[name]()
    structure = cov if isinstance(cov, gg.cov.Covariance) else gg.cov.Dense(cov)
    mean = pt.as_tensor(mean) + pt.zeros(3)
    outputs = [gg.fisher_information(mean, cov, [V3, S, B]), mean, structure.to_dense()]
    function = interpreted([V3, S, B], outputs, AS_WRITTEN, on_unused_input="ignore")
    point = np.array([1.5, 0.7, 0.2, 0.6, 0.9])

    def at(theta):
        return function(theta[:3], theta[3], theta[4])[1:]

    expected = _slepian_bangs(*_derivatives(at, point), at(point)[1])
    assert_allclose(function(point[:3], point[3], point[4])[0], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_random_expressions(seed):
    """Forward mode of random graphs of sums, products, slices and maps, by differences."""
    rng = np.random.default_rng(seed)
    nodes = [V3, S, B]
    for _ in range(6):
        left, right = (nodes[i] for i in rng.integers(0, len(nodes), 2))
        made = [
            left + right,
            left - right,
            left * right,
            left + left,
            pt.exp(-left),
            pt.dot(LINEAR, left + pt.zeros(3)),
            (left + pt.zeros(3))[[2, 0, 0]] + right,
        ]
        nodes.append(made[rng.integers(len(made))])
    output, dots = sum(nodes[-3:]) + pt.zeros(3), [x.type() for x in (V3, S, B)]
    outputs = [forward_derivative(output, [V3, S, B], dots), output]
    function = interpreted([V3, S, B, *dots], outputs, AS_WRITTEN, on_unused_input="ignore")
    point, direction = rng.uniform(0.2, 1, 5), rng.normal(size=5)

    def parts(x):
        return x[:3], x[3], x[4]

    def along(step):
        return function(*parts(point + step[0] * direction), *parts(direction))[1:]

    [[expected]] = _derivatives(along, np.zeros(1))
    got = function(*parts(point), *parts(direction))[0]
    assert_allclose(got, expected, rtol=1e-8, atol=1e-8 * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_known_and_unknown_lengths_of_one(case, rng):
    """One observation: every length known, none, and those of the first parameter alone."""
    a, b = _symbols()
    values = case.values(rng, 1)
    known, unknown = case.tensors(n=1), case.tensors()
    expected = None
    for parameters in (unknown, known, [known[0], *unknown[1:]]):
        # Size 1 in a block of its own, which it is given by the others.
        cov = gg.cov.BlockDiagonal(
            case.build(1, *_varied(case, parameters, a, b)), gg.cov.Diagonal(a + b[0], size=2)
        )
        information = gg.fisher_information(b[1] * np.arange(3), cov, [a, b])
        mode = INTERPRETED if parameters is known else AS_WRITTEN
        function = interpreted([a, b, *parameters], information, mode)
        got = function(POINT[0], POINT[1:], *values)
        assert_allclose(got, got if expected is None else expected, rtol=1e-12, atol=1e-13)
        expected = got


def test_blocks_of_one_with_noise():
    """A low-rank block of one observation, whose noise is a slice."""
    w, factor, d = pt.dscalar("w"), pt.tensor("u", shape=(1, 2)), pt.tensor("d", shape=(4,))
    blocks = gg.cov.LowRank(factor) + gg.cov.Diagonal(w, size=1), gg.cov.Diagonal(w, size=3)
    cov = gg.cov.BlockDiagonal(*blocks) + gg.cov.Diagonal(d)
    got = interpreted([factor, d, w], gg.fisher_information(0.0, cov, [factor, d, w]))(
        np.ones((1, 2)), np.ones(4), 1.0
    )
    # Variances u u' + d_1 + w = 4, and d_i + w = 2.
    slopes = np.zeros((4, 7))
    slopes[0, :2], slopes[:, 6], slopes[range(4), range(2, 6)] = 2, 1, 1
    slopes /= np.array([[4.0], [2], [2], [2]])
    assert_allclose(got, slopes.T @ slopes / 2, rtol=1e-12, atol=1e-14)


def _directions(rng, parameters, values, constant):
    """Two random directions of each parameter, None for index data."""
    return [
        None if x in constant else pt.constant(rng.normal(size=(2, *v.shape)))
        for x, v in zip(parameters, values, strict=True)
    ]


def _whole_formula(case, cov, tangents):
    """The trace of products of whole matrices."""
    moves = [
        forward_derivative(
            cov.to_dense(),
            case.differentiable(cov.parameters),
            [x[i] for x in tangents if x is not None],
        )
        for i in range(2)
    ]
    inverse = pt.linalg.inv(cov.to_dense())
    products = [inverse @ (move + move.mT) / 2 for move in moves]
    return pt.stack([[(x * y.mT).sum() / 2 for y in products] for x in products])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_structure_by_strips(case, rng, monkeypatch):
    """Without its closed form: rows of the matrix and solves. Of two rows a strip, with a rest."""
    monkeypatch.setattr("pm_gaussgrad.cov.protocol.strips._FEWEST", 2)
    n = 5
    values = case.values(rng, n)
    parameters = case.tensors(n=n)
    cov = case.build(n, *parameters)
    constant = set(parameters) - set(case.differentiable(parameters))
    tangents = _directions(rng, parameters, values, constant)
    positions = np.array([3, 0, 3])
    dense, strip = cov.to_dense(), cov.rows(pt.constant(positions))
    outputs = [by_strips(cov, tangents), _whole_formula(case, cov, tangents), strip, dense]
    got, expected, rows, matrix = interpreted(parameters, outputs, AS_WRITTEN)(*values)
    assert_allclose(got, expected, rtol=1e-10, atol=1e-11)
    assert_allclose(rows, matrix[positions], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("gaps", [False, True])
def test_strips_of_a_long_series(gaps):
    """Of 64 rows and a rest; the memory of the largest array is that of a strip, not n^2."""
    v, c = pt.dscalars("v", "c")
    n = 200
    cov, observed = gg.cov.AR1(v, c, size=n), np.delete(np.arange(n), [3, 40, 41] if gaps else [])
    information = by_strips(
        gg.cov.marginal(cov, observed), list(map(pt.constant, np.eye(2))) + [None] * gaps
    )
    dense = gg.cov.Dense(gg.cov.AR1(v, c, size=n).to_dense()[observed][:, observed])
    whole = gg.fisher_information(0.0, dense, [v, c])
    function = interpreted([v, c], [information, whole], AS_WRITTEN)
    assert_allclose(*function(1.3, 0.6), rtol=1e-9)


def test_every_exported_structure_has_a_closed_form():
    """None of this package's takes the general way unnoticed; what has no other is named."""
    for case in CASES:
        kind = type(case.build(2, *case.tensors()).resolved)
        has_none = kind.information is Covariance.information
        by_strips = {"Marginal", "Woodbury"}
        assert has_none == (case.name in by_strips), kind


class Unheard(Leaf):
    """A structure that this package has not heard of: v times the identity."""

    parameter_shapes = {"variance": "", "length": "n"}
    constant_parameters = frozenset({"length"})

    def __init__(self, variance, n):
        self.parameters = pt.as_tensor(variance), pt.zeros(n)

    forward = staticmethod(
        lambda residual, variance: (
            (residual**2).sum(axis=1) / variance,
            np.log(variance) * residual.shape[1],
            residual / variance,
        )
    )
    pullback = staticmethod(
        lambda residual, variance, quad_bar, logdet_bar: (
            logdet_bar * residual.shape[1] / variance
            - (quad_bar * (residual**2).sum(axis=1)).sum() / variance**2,
        )
    )

    def to_dense(self):
        return self.parameters[0] * pt.eye(self.size)


def test_structures_without_a_form_are_told_so():
    """Not made dense: an error, until there are rows; alone and as a block."""
    v = pt.dscalar("v")
    for cov in (Unheard(v, 3), gg.cov.BlockDiagonal(Unheard(v, 3))):
        with pytest.raises(NotImplementedError, match=r"rows\(positions\).*to_dense\(\)"):
            gg.fisher_information(0.0, cov, v)


class Heard(Unheard):
    """The same with rows."""

    def rows(self, positions):
        return self.parameters[0] * pt.eq(positions[:, None], pt.arange(self.size))


def test_structures_with_rows():
    v = pt.dscalar("v")
    cov = gg.cov.BlockDiagonal(Heard(v, 3), Heard(v + v, 2))
    information = interpreted([v], gg.fisher_information(v, cov, v), AS_WRITTEN)
    assert_allclose(information(2.0), [[3 / 2 + 2 / 4 + 5 / 8]], rtol=1e-12)


# Mean X beta and a covariance with two parameters, n = 6, for draws and second derivatives.
N = 6
MODELS = {
    "Dense": lambda v, c: gg.cov.Dense(
        v * pt.exp(-c * np.abs(np.subtract.outer(np.arange(N), np.arange(N))))
    ),
    "AR1": lambda v, c: gg.cov.AR1(v, c, size=N),
    "CompoundSymmetry": lambda v, c: gg.cov.CompoundSymmetry(v, c, size=N),
    "Toeplitz": lambda v, c: gg.cov.Toeplitz(v * c ** np.arange(N) + 0.3 * np.eye(N)[0]),
    "LowRank": lambda v, c: gg.cov.LowRank(v * np.eye(N)[:, :2] + c) + gg.cov.Diagonal(v, size=N),
    "NoisyKronecker": lambda v, c: (
        gg.cov.Kronecker(gg.cov.AR1(v, c, size=3), gg.cov.AR1(1.0, c, size=2)) + gg.cov.Diagonal(v)
    ),
    "RepeatedMeasures": lambda v, c: gg.cov.RepeatedMeasures(
        gg.cov.AR1(v, c, size=3), [0, 0, 0, 1, 1, 2], [0, 1, 2, 0, 2, 1]
    ),
}
DESIGN = np.column_stack([np.ones(N), np.linspace(-1, 1, N)])
THETA = np.array([0.5, -1.0, 1.4, 0.6])  # beta, v, c


EACH_MODEL = pytest.mark.parametrize("name", MODELS)


@functools.cache  # a fixture of the module would compile its kernels
def _regression(name):
    """theta, its information, log density of a row and a covariance."""
    theta = pt.tensor("theta", shape=(4,), dtype="float64")
    mu, cov = DESIGN @ theta[:2], MODELS[name](theta[2], theta[3])
    y = pt.tensor("y", shape=(N,), dtype="float64")
    information = interpreted([theta], [gg.fisher_information(mu, cov, theta), cov.to_dense()])
    return theta, y, gg.logp(y, mu, cov), *information(THETA)


@EACH_MODEL
def test_second_moments_of_the_score(name):
    """E[score score'] exactly: of degree 4 in y, so 3 Gauss-Hermite nodes a coordinate will do."""
    theta, y, logp, information, dense = _regression(name)
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    white = np.array(list(itertools.product(nodes, repeat=N)))
    weights = np.prod(list(itertools.product(weights / weights.sum(), repeat=N)), axis=1)
    rows = DESIGN @ THETA[:2] + white @ np.linalg.cholesky(dense).T
    many = pt.tensor("many", shape=(None, N), dtype="float64")
    scores = interpreted([theta, many], vectorize_graph(pt.grad(logp, theta), {y: many}))
    score = scores(THETA, rows)
    assert_allclose(weights @ score, 0, atol=1e-9)
    assert_allclose(score.T * weights @ score, information, rtol=1e-9, atol=1e-9)


@EACH_MODEL
def test_expectation_of_second_derivatives(name):
    """-E[Hessian] exactly: it is quadratic in y, so 2 n points with the right moments will do."""
    theta, y, logp, information, dense = _regression(name)
    unit = pt.dvector("unit")
    column = pt.grad(pt.grad(logp, theta) @ unit, theta)
    function = interpreted([theta, y, unit], column, mode=AS_WRITTEN)
    spread = np.sqrt(N) * np.linalg.cholesky(dense).T
    rows = DESIGN @ THETA[:2] + np.concatenate([spread, -spread])
    hessians = [[function(THETA, row, unit) for unit in np.eye(THETA.size)] for row in rows]
    expected = -np.mean(hessians, axis=0)
    assert_allclose(information, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["matrix", "precision"])
def test_a_matrix_as_the_parameter(name, rng):
    """The covariance of the score of a matrix that is read as symmetric, by Isserlis' theorem."""
    matrix = pt.dmatrix("matrix")
    cov = gg.cov.Dense(matrix) if name == "matrix" else gg.cov.Precision(matrix)
    information = interpreted([matrix], gg.fisher_information(0.0, cov, matrix))
    value = positive_definite(rng, 3)
    inner = np.linalg.inv(value)
    expected = np.einsum("ik,jl->ijkl", inner, inner) + np.einsum("il,jk->ijkl", inner, inner)
    assert_allclose(information(value), expected.reshape(9, 9) / 4, rtol=1e-12)


def test_parameters_of_nothing(rng):
    """Rows and columns of zeros, in their place, whatever the shapes; a shape is no derivative."""
    v, beta = pt.dscalar("v"), pt.dvector("beta")
    nothing, length = pt.dmatrix("nothing"), pt.dvector("length")
    cov = gg.cov.Diagonal(v, size=length.shape[0])
    both = gg.fisher_information(DESIGN @ beta, cov, [nothing, v, length, beta])
    alone = gg.fisher_information(DESIGN @ beta, cov, [v, beta])
    function = interpreted([v, beta, nothing, length], [both, alone], on_unused_input="ignore")
    got, own = function(1.7, [0.1, 0.2], np.ones((2, 2)), np.ones(N))
    places = [4, 11, 12]
    assert got.shape == (13, 13)
    assert_allclose(got[np.ix_(places, places)], own, rtol=1e-14)
    got[np.ix_(places, places)] = 0
    assert (got == 0).all()
    none = gg.fisher_information(0.0, gg.cov.Diagonal(1.0, size=2), [v, beta])
    assert_allclose(
        interpreted([v, beta], none, on_unused_input="ignore")(1.0, np.ones(2)), np.zeros((3, 3))
    )


def test_rows_share_the_covariance(rng):
    """m rows count m times in the term of the covariance, and each with its mean."""
    v, beta = pt.dscalar("v"), pt.dscalar("beta")
    x = rng.normal(size=(3, 4))
    cov = gg.cov.AR1(v, 0.4)
    rows = [gg.fisher_information(beta * x[i], cov, [beta, v]) for i in range(3)]
    together = gg.fisher_information(beta * x, cov, [beta, v])
    leading = gg.fisher_information((beta * x)[:, None, :], cov, [beta, v])
    repeated = gg.fisher_information(beta * x[0], cov, [beta, v], rows=5)
    common = gg.fisher_information(beta, gg.cov.AR1(v, 0.4, size=4), [beta, v], rows=5)
    ones = gg.fisher_information(beta * np.ones((5, 4)), cov, [beta, v])
    function = interpreted([beta, v], [*rows, together, leading, repeated, common, ones])
    *single, total, same, five, from_scalar, from_ones = function(0.3, 1.2)
    assert_allclose(total, sum(single), rtol=1e-13)
    assert_allclose(same, total, rtol=1e-13)
    assert_allclose(five, 5 * single[0], rtol=1e-13)
    assert_allclose(from_scalar, from_ones, rtol=1e-13)


def test_not_positive_definite_is_nan():
    v = pt.dscalar("v")
    for cov in (gg.cov.Dense(v * np.eye(2)), gg.cov.Cholesky(pt.sqrt(v) * np.eye(2))):
        assert np.isnan(interpreted([v], gg.fisher_information(0.0, cov, v))(-1.0)).all()


@pytest.mark.parametrize("backend", ["numba", "jax"])
def test_backends(backend):
    beta, v = pt.dscalars("beta", "v")
    information = gg.fisher_information(beta * np.arange(3.0), gg.cov.AR1(v, 0.6), [beta, v])
    function = pytensor.function([beta, v], information, mode=BACKENDS[backend])
    got = function(0.2, 1.3)
    t = np.arange(3)
    inverse = np.linalg.inv(1.3 * 0.6 ** np.abs(np.subtract.outer(t, t)))
    assert_allclose(got, np.diag([t @ inverse @ t, 1.5 / 1.3**2]), rtol=1e-12, atol=1e-14)


@each([case for case in CASES if case.name in JAX_CASES])
def test_jax_compiles_known_shapes(case, rng):
    n = 4
    a, b = _symbols()
    parameters = case.tensors(n=n)
    cov = case.build(n, *_varied(case, parameters, a, b))
    information = gg.fisher_information(b[1] * np.arange(n), cov, [a, b])
    inputs = [a, b, *parameters]
    point = [POINT[0], POINT[1:], *case.values(rng, n)]
    got = pytensor.function(inputs, information, mode=BACKENDS["jax"])(*point)
    assert_allclose(got, interpreted(inputs, information)(*point), rtol=1e-10, atol=1e-11)


V = pt.dscalar("v")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((0.0, gg.cov.Diagonal(V), V), ValueError, "pass a mean of shape"),
        ((np.zeros(3), gg.cov.AR1(V, 0.1, size=4), V), ValueError, r"expected n = 4"),
        ((np.zeros((2, 3)), gg.cov.Diagonal(V), V, 2), ValueError, "already|thereby says"),
        ((np.zeros(2), gg.cov.Diagonal(V), [V, V]), ValueError, "each once"),
        ((np.zeros(2), gg.cov.Diagonal(V), []), ValueError, "one or more"),
        ((np.zeros(2), gg.cov.Diagonal(V), 1.0), TypeError, "expected a floating tensor"),
        ((np.zeros(2), gg.cov.Diagonal(V), pt.iscalar()), TypeError, "tensor of int32"),
        ((np.zeros(2), V * np.ones((3, 2, 2)), V), TypeError, "call it for each"),
        ((np.zeros(2), np.ones((2, 3)), V), ValueError, "square"),
        ((gg.cov.Diagonal(V), gg.cov.Diagonal(V), V), TypeError, "`mu` is a gg.cov.Diagonal"),
        ((np.zeros(2), gg.cov.Diagonal(V), V, 2.5), TypeError, "expected an integer"),
        ((V * np.ones(2), gg.cov.LowRank(V * np.ones((2, 1))), V), NotImplementedError, "singular"),
    ],
)
def test_errors(arguments, error, words):
    with pytest.raises(error, match=words):
        gg.fisher_information(*arguments)
