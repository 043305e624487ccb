"""``Eigenbasis``: repeated and vanishing eigenvalues, rotation beforehand, constants, errors."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import interpreted, positive_definite, symmetric_part

import pm_gaussgrad as gg

N = 6
# Eigenvalues 2, 2, 2 and 0, 0, 0.
REPEATED = np.kron(np.eye(3), np.ones((2, 2)))
BASIS = gg.cov.Eigenbasis.from_matrix(REPEATED)


def _variance_components(basis=BASIS):
    a, s = pt.dscalar("a"), pt.dscalar("s")
    return [a, s], a * basis + gg.cov.Diagonal(s)


def test_gradient_at_repeated_eigenvalues(rng):
    """d logp / da = (alpha' K alpha - tr(Sigma^-1 K)) / 2, from the dense inverse."""
    y = rng.normal(size=N)
    parameters, cov = _variance_components()
    logp = cov.logp(y)
    value, *gradient = interpreted(parameters, [logp, *pt.grad(logp, parameters)])(0.8, 0.3)
    sigma = 0.8 * REPEATED + 0.3 * np.eye(N)
    inverse = np.linalg.inv(sigma)
    alpha = inverse @ y
    quad_logdet = y @ alpha + np.linalg.slogdet(sigma)[1]
    assert_allclose(value, -0.5 * (quad_logdet + N * np.log(2 * np.pi)), rtol=1e-13)
    expected = [
        (alpha @ REPEATED @ alpha - np.trace(inverse @ REPEATED)) / 2,
        (alpha @ alpha - np.trace(inverse)) / 2,
    ]
    assert_allclose(gradient, expected, rtol=1e-12)


def test_singular_matrix_is_a_summand_only():
    """Its eigenvalues are kept as they come: tiny, of either sign, or zero."""
    assert_allclose(BASIS.eigenvalues.data, [0, 0, 0, 2, 2, 2], atol=1e-14)
    singular = gg.cov.Eigenbasis(np.eye(2), [0.0, 1.0])
    negative = gg.cov.Eigenbasis(np.eye(2), [-1e-17, 1.0])
    noisy = singular + gg.cov.Diagonal(0.5)
    values = interpreted([], [x.logp(np.ones(2)) for x in (singular, negative, noisy)])()
    assert values[:2] == [-np.inf, -np.inf]
    assert np.isfinite(values[2])


@pytest.fixture(scope="module")
def regression():
    """Variance components with coefficients: as they are, and rotated beforehand."""
    rng = np.random.default_rng(3)
    design, y = rng.normal(size=(N, 2)), rng.normal(size=N)
    models = []
    for rotated in (False, True):
        with pm.Model() as model:
            beta = pm.Normal("beta", shape=2)
            a, s = pm.HalfNormal("a"), pm.HalfNormal("s")
            cov = a * BASIS + gg.cov.Diagonal(s)
            if rotated:
                mu = BASIS.rotate(design, axis=0) @ beta
                gg.MvNormal("y", mu, cov.rotated(), observed=BASIS.rotate(y))
            else:
                gg.MvNormal("y", design @ beta, cov, observed=y)
        models.append(model)
    return models


def _value_and_gradient(model):
    logp = model.logp()
    wrt = model.continuous_value_vars
    return interpreted(model.value_vars, [logp, *pt.grad(logp, wrt)])


def test_rotated_model_is_the_same_model(regression):
    functions = [_value_and_gradient(model) for model in regression]
    point = [np.array([0.4, -0.3]), np.array(-0.2), np.array(0.3)]
    plain, rotated = (function(*point) for function in functions)
    for got, expected in zip(rotated, plain, strict=True):
        assert_allclose(got, expected, rtol=1e-12)


def test_rotated_model_evaluates_in_linear_time(regression):
    """Constant data and design are rotated once: no n x n array is left in its function."""
    plain, rotated = (_largest_array(_value_and_gradient(model)) for model in regression)
    assert plain == N * N
    assert rotated == 2 * N  # the design


def _largest_array(function):
    shapes = [x.type.shape for x in function.maker.fgraph.variables]
    assert all(None not in shape for shape in shapes)
    return max(int(np.prod(shape)) for shape in shapes)


def test_rotation_is_orthogonal_and_keeps_kinds(rng):
    rows, columns = rng.normal(size=(3, N)), rng.normal(size=(N, 2))
    vectors = BASIS.eigenvectors.data
    assert_allclose(BASIS.rotate(rows), rows @ vectors)
    assert_allclose(BASIS.rotate(columns, axis=0), vectors.T @ columns)
    for x in (rows[0], rows, rows.reshape(3, 1, N)):
        assert_allclose(BASIS.rotate(x), x @ vectors)
        assert_allclose(BASIS.unrotate(BASIS.rotate(x)), x, atol=1e-14)
    assert isinstance(BASIS.rotate(rows[0]), np.ndarray)
    assert np.isnan(BASIS.rotate(np.full(N, np.nan))).all()  # a row of which nothing is known
    tensor = pt.dmatrix("columns")
    there = BASIS.rotate(tensor, axis=0)
    back = BASIS.unrotate(there, axis=0)
    got = interpreted([tensor], [there, back])(columns)
    assert_allclose(got[0], vectors.T @ columns)
    assert_allclose(got[1], columns, atol=1e-14)


def test_rotation_by_batches_of_vectors(rng):
    vectors = np.stack([np.linalg.eigh(positive_definite(rng, 3))[1] for _ in range(2)])
    basis, x = gg.cov.Eigenbasis(vectors, np.ones((2, 3))), rng.normal(size=(2, 3))
    expected = np.einsum("bij,bi->bj", vectors, x)
    assert_allclose(basis.rotate(x), expected)
    assert_allclose(interpreted([], basis.rotate(pt.constant(x)))(), expected)


def test_matrices_are_symmetric_to_rounding(rng):
    """Each of a batch is decomposed by its symmetric part."""
    matrices = np.stack([positive_definite(rng, 3) for _ in range(2)])
    matrices[:, 0, 1] *= 1 + 1e-9
    dense = gg.cov.Eigenbasis.from_matrix(matrices).to_dense()
    assert_allclose(interpreted([], dense)(), symmetric_part(matrices), rtol=1e-13)


def test_functions_of_a_matrix(rng):
    """A simultaneous autoregression: Sigma = ((I - rho W)'(I - rho W))^-1 with a symmetric W."""
    weights = positive_definite(rng, 4) / 8
    basis = gg.cov.Eigenbasis.from_matrix(weights)
    cov = gg.cov.Eigenbasis(basis.eigenvectors, 1 / (1 - 0.3 * basis.eigenvalues) ** 2)
    factor = np.eye(4) - 0.3 * weights
    assert_allclose(interpreted([], cov.to_dense())(), np.linalg.inv(factor @ factor), rtol=1e-12)


def test_sums_of_the_same_vectors(rng):
    vectors, data = BASIS.eigenvectors, BASIS.eigenvectors.data
    other = gg.cov.Eigenbasis(data.copy(), np.arange(1.0, N + 1))
    total = 2 * BASIS + other + gg.cov.Diagonal(0.5)
    assert type(total.resolved) is gg.cov.Eigenbasis
    assert total.eigenvectors is vectors
    expected = 2 * BASIS.eigenvalues.data + np.arange(1.0, N + 1) + 0.5
    assert_allclose(interpreted([], total.eigenvalues)(), expected)
    given = pt.dmatrix("V")
    same = gg.cov.Eigenbasis(given, np.ones(N)) + gg.cov.Eigenbasis(given, np.ones(N))
    assert same.eigenvectors is given


def test_sums_that_do_not_close(rng):
    other = gg.cov.Eigenbasis.from_matrix(positive_definite(rng, N))
    with pytest.raises(TypeError, match=r"eigenvectors differ.*do not commute"):
        (BASIS + other).plan()
    with pytest.raises(TypeError, match="has no algorithm"):
        (BASIS + gg.cov.Diagonal(np.ones(N))).plan()
    with pytest.raises(ValueError, match="disagree"):
        BASIS + gg.cov.Diagonal(1.0, size=3)


def test_constant_vectors_are_not_copied():
    """Fortran-ordered vectors are put in order once; functions refer to that one array."""
    basis = gg.cov.Eigenbasis(np.asfortranarray(BASIS.eigenvectors.data), np.ones(N))
    data = basis.eigenvectors.data
    assert data.flags.c_contiguous
    y = pt.dvector("y")
    graph = interpreted([y], basis.logp(y)).maker.fgraph
    constants = [x.data for x in graph.variables if isinstance(x, pt.TensorConstant)]
    assert any(np.shares_memory(x, data) for x in constants)


def test_vectors_may_be_data_or_inputs_but_not_random(rng):
    with pm.Model():
        data = pm.Data("V", BASIS.eigenvectors.data)
        gg.cov.Eigenbasis(data, np.ones(N))
        gg.cov.Eigenbasis(data[:, ::-1], np.ones(N))
        x = pm.Normal("x", shape=(N, N))
        for vectors in (x, pm.Deterministic("orthogonal", pt.linalg.qr(x)[0])):
            with pytest.raises(NotImplementedError, match=r"depends on x.*gg.cov.Dense"):
                gg.cov.Eigenbasis(vectors, np.ones(N))
    angle = pt.dscalar("angle")
    turn = pt.stacklists([[pt.cos(angle), -pt.sin(angle)], [pt.sin(angle), pt.cos(angle)]])
    with pytest.raises(NotImplementedError, match="depends on angle"):
        gg.cov.Eigenbasis(turn, np.ones(2))
    given = pt.dmatrix("given")
    logp = gg.cov.Eigenbasis(given, np.ones(N)).logp(np.ones(N))
    with pytest.raises(pytensor.gradient.DisconnectedInputError):
        pt.grad(logp, given)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: gg.cov.Eigenbasis(np.ones(3), np.ones(3)), TypeError, "at least 2"),
        (lambda: gg.cov.Eigenbasis(np.eye(3), 1.0), TypeError, "at least 1"),
        (lambda: gg.cov.Eigenbasis(np.eye(3)[:2], np.ones(3)), ValueError, "square"),
        (lambda: gg.cov.Eigenbasis(np.eye(3), np.ones(4)), ValueError, "expected n = 3"),
        (lambda: gg.cov.Eigenbasis(2 * np.eye(3), np.ones(3)), ValueError, "not orthonormal"),
        (lambda: gg.cov.Eigenbasis(np.nan * np.eye(3), np.ones(3)), ValueError, "orthonormal"),
        (lambda: gg.cov.Eigenbasis.from_matrix(np.tri(3)), ValueError, "symmetric"),
        (lambda: gg.cov.Eigenbasis.from_matrix(np.eye(3)[:2]), ValueError, "square"),
        (lambda: gg.cov.Eigenbasis.from_matrix(np.nan * np.eye(3)), ValueError, "finite"),
        (lambda: gg.cov.Eigenbasis.from_matrix(pt.dmatrix()), NotImplementedError, "Dense"),
        (lambda: BASIS.rotate(np.ones((N, 2))), ValueError, "axis="),
        (lambda: BASIS.rotate([np.nan, *np.ones(N - 1)]), ValueError, "missing values"),
        (lambda: BASIS.unrotate(pt.constant([np.nan, *np.ones(N - 1)])), ValueError, "missing"),
    ],
)
def test_errors(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_rotation_of_integers():
    """Dummies and doses are integers."""
    basis = gg.cov.Eigenbasis.from_matrix([[2.0, 1.0], [1.0, 2.0]])
    design = np.array([[1, 0], [1, 1]])
    rotated = basis.rotate(design, axis=0)
    assert_allclose(rotated, basis.rotate(design.astype(float), axis=0))
    with pytest.raises(ValueError, match="not orthonormal"):
        gg.cov.Eigenbasis(np.ones((2, 2), dtype=int), [1.0, 2.0])
