"""The table of bad and borderline input: what is an error, which one, and what is -inf."""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import BACKENDS, interpreted

import pm_gaussgrad as gg

EYE = np.eye(2)
MATRIX_STRUCTURES = [gg.cov.Dense, gg.cov.Cholesky, gg.cov.Precision]


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        # wrong rank
        (lambda: gg.cov.Dense(np.ones(3)), TypeError, r"gg.cov.Dense: `matrix` has 1 dim.*least 2"),
        (lambda: gg.cov.Cholesky(1.0), TypeError, r"gg.cov.Cholesky: `chol` has 0 dim"),
        (lambda: gg.logp(1.0, 0.0, EYE), TypeError, r"gg.logp: `value` has 0 dim"),
        # not square
        (lambda: gg.cov.Dense(np.ones((3, 2))), ValueError, r"\(3, 2\), expected \(\.\.\., n, n\)"),
        (lambda: gg.cov.Precision(np.ones((3, 2))), ValueError, "pass a square matrix"),
        # sizes that disagree
        (lambda: gg.logp(np.ones(3), 0.0, EYE), ValueError, r"`value` has .*expected n = 2"),
        (lambda: gg.MvNormal.dist(np.ones(3), EYE), ValueError, "`mu` is for 3 obs.*expected 2"),
        (lambda: gg.MvNormal.dist(0, EYE, shape=(4, 3)), ValueError, "value .* is for 3 obs"),
        (lambda: gg.cov.Diagonal(np.ones(3), size=2), ValueError, "length 3, expected size = 2"),
        (lambda: gg.logp(np.ones(3), 0.0, gg.cov.Diagonal(1.0, 5)), ValueError, "expected n = 5"),
        (lambda: gg.cov.Diagonal(1.0, 5) + gg.cov.Diagonal(1.0, 3), ValueError, r"\[5, 3\] disag"),
        (
            lambda: gg.cov.Diagonal(np.ones(3), np.int64(4)),
            ValueError,
            "length 3, expected size = 4",
        ),
        (
            lambda: gg.cov.AR1(1.0, 0.5, size=np.int64(3)).logp(np.ones(2)),
            ValueError,
            "expected n = 3",
        ),
        (
            lambda: gg.cov.AR1(1.0, 0.5, size=pt.constant(3)).logp([1.0]),
            ValueError,
            "expected n = 3",
        ),
        (
            lambda: gg.cov.AR1(1.0, 0.5, size=3.0),
            TypeError,
            "`size` is a float, expected an integer",
        ),
        (lambda: gg.cov.AR1(1.0, 0.5, size=-1), ValueError, "`size` is -1"),
        # unknown size
        (lambda: gg.cov.AR1(1.0, 0.5).logdet(), ValueError, r"size=n"),
        (lambda: gg.MvNormal.dist(0, gg.cov.Diagonal(1.0)), ValueError, r"how many observations"),
        (lambda: gg.cov.Diagonal(1.0).to_dense(), ValueError, r"size=n"),
        # kinds
        (lambda: gg.cov.Dense("K"), TypeError, "is a str"),
        (lambda: gg.cov.Dense(None), TypeError, "is a NoneType"),
        (lambda: gg.cov.Dense(1j * EYE), TypeError, "complex128, expected real"),
        (lambda: gg.cov.Dense(gg.cov.Dense(EYE)), TypeError, r"pass it as `cov=`"),
        (lambda: gg.MvNormal.dist(0, chol=gg.cov.Dense(EYE)), TypeError, "expected an array"),
        # parameterisations
        (lambda: gg.MvNormal.dist(0), ValueError, "exactly one of cov=.*found none"),
        (lambda: gg.MvNormal.dist(0, EYE, tau=EYE), ValueError, r"found \['cov', 'tau'\]"),
        (lambda: gg.MvNormal.dist(0, chol=EYE, lower=False), ValueError, "Pass chol=upper"),
        # algebra
        (
            lambda: gg.MvNormal.dist(0, gg.cov.Cholesky(EYE) + gg.cov.Diagonal(1.0)),
            TypeError,
            r"has no algorithm.*to_dense\(\)",
        ),
        (lambda: gg.cov.Dense(EYE) + 1.0, TypeError, "expected another gg.cov structure"),
        (lambda: 1.0 + gg.cov.Dense(EYE), TypeError, "expected another gg.cov structure"),
        (lambda: gg.cov.Dense(EYE) * np.ones(2), TypeError, "expected a scalar"),
        (
            lambda: gg.cov.Dense(EYE) * gg.cov.Dense(EYE),
            TypeError,
            r"no algorithm.*gg\.cov\.Kronecker\(a, b\)",
        ),
    ],
)
def test_errors_say_what_was_found_and_expected(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_closed_sums():
    total = sum([gg.cov.Dense(EYE), gg.cov.Dense(2 * EYE)])
    assert isinstance(total.resolved, gg.cov.Dense)
    assert_allclose(total.to_dense().eval(), 3 * EYE)
    vector, scalar = gg.cov.Diagonal(np.array([1.0, 2.0])), gg.cov.Diagonal(0.5, size=2)
    for cov, variances in (
        (vector + vector, [2.0, 4.0]),
        (vector + scalar, [1.5, 2.5]),
        (scalar + vector, [1.5, 2.5]),
        (scalar + scalar, [1.0, 1.0]),
    ):
        assert isinstance(cov.resolved, gg.cov.Diagonal)
        assert_allclose(cov.diagonal().eval(), variances)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "matrix",
    [
        [[1.0, 2.0], [2.0, 1.0]],
        [[0.0, 0.0], [0.0, 0.0]],
        [[1.0, 1.0], [1.0, 1.0]],
        [[-1.0, 0.0], [0.0, -1.0]],
        [[np.nan, 0.0], [0.0, 1.0]],
        [[1.0, 0.0], [np.nan, 1.0]],
        [[np.inf, 0.0], [0.0, 1.0]],
        [[1.0, 0.0], [np.inf, 1.0]],
        [[1e-310, 0.0], [0.0, 1.0]],
    ],
    ids=["indefinite", "zero", "singular", "negative", "nan", "nan off", "inf", "inf off", "tiny"],
)
@pytest.mark.xdist_group("Dense")  # one worker, which compiles the function once
def test_covariance_that_is_none_gives_minus_infinity(backend, matrix):
    """In the value, never an exception and never NaN; the gradient is finite."""
    value, gradient = _logp_and_gradient(gg.cov.Dense, backend)(np.array(matrix))
    assert value == -np.inf
    np.testing.assert_array_equal(gradient, np.zeros((2, 2)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("entry", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", [(0, 0), (1, 0)])
@pytest.mark.xdist_group("Cholesky")
def test_factor_that_is_not_finite_gives_minus_infinity(backend, entry, index):
    chol = np.eye(2)
    chol[index] = entry
    value, gradient = _logp_and_gradient(gg.cov.Cholesky, backend)(chol)
    assert value == -np.inf
    np.testing.assert_array_equal(gradient, np.zeros((2, 2)))


@pytest.mark.parametrize("backend", ["py", "jax"])
@pytest.mark.parametrize("structure", [gg.cov.Cholesky, gg.cov.Diagonal])
def test_row_that_overflows(backend, structure):
    """Is -inf, and the other rows are what they are alone: value and gradient."""
    rows = pt.tensor("rows", shape=(2, 3))
    parameter = pt.tensor("parameter", shape=(3, 3) if structure is gg.cov.Cholesky else (3,))
    value = gg.logp(rows, 0.0, structure(parameter))
    function = pytensor.function(
        [rows, parameter], [value, *pt.grad(value.sum(), [rows, parameter])], mode=BACKENDS[backend]
    )
    numbers = np.linalg.cholesky(np.eye(3) + 0.3)
    numbers = numbers if structure is gg.cov.Cholesky else np.diag(numbers).copy()
    row = np.array([0.3, 0.1, -0.2])
    values, rows_bar, bar = function(np.stack([[0.1, 1e160, 0.2], row]), numbers)
    alone, alone_rows_bar, alone_bar = function(np.stack([row, row]), numbers)
    assert_allclose(values, [-np.inf, alone[1]])
    assert_allclose(rows_bar, [np.zeros(3), alone_rows_bar[1]])
    assert_allclose(bar, alone_bar / 2)


_FUNCTIONS = {}


def _logp_and_gradient(structure, backend):
    if (structure, backend) not in _FUNCTIONS:
        matrix = pt.matrix("S")
        value = gg.logp(np.array([0.3, -0.1]), 0.0, structure(matrix))
        _FUNCTIONS[structure, backend] = pytensor.function(
            [matrix], [value, pt.grad(value, matrix)], mode=BACKENDS[backend]
        )
    return _FUNCTIONS[structure, backend]


def test_model_at_a_rejected_point():
    """What samplers see: -inf and a finite gradient where sigma is far out of range."""
    with pm.Model() as model:
        x = pm.Normal("x")
        gg.MvNormal("y", 0.0, x * pt.eye(2), observed=[0.1, 0.2])
    function = model.logp_dlogp_function(ravel_inputs=True)
    value, gradient = function(np.array([-1.0]))
    assert value == -np.inf
    assert np.isfinite(gradient).all()
    value, gradient = function(np.array([1.0]))
    assert np.isfinite([value, *gradient]).all()


def test_nan_in_data_is_nan():
    """Not a fact about the covariance: of a value that is not data, as for pm.Normal, it is NaN."""
    value = pt.vector("value")
    logp = interpreted([value], gg.logp(value, 0.0, EYE))
    assert np.isnan(logp([np.nan, 0.0]))


@pytest.mark.parametrize("structure", [*MATRIX_STRUCTURES, gg.cov.Diagonal])
def test_no_observations_and_no_rows(structure):
    empty = np.zeros((0, 0)) if structure is not gg.cov.Diagonal else np.zeros(0)
    assert gg.logp(np.zeros(0), 0.0, structure(empty)).eval() == 0.0
    assert gg.logp(np.zeros((4, 0)), 0.0, structure(empty)).eval().tolist() == [0.0] * 4
    one = EYE if structure is not gg.cov.Diagonal else np.ones(2)
    assert gg.logp(np.zeros((0, 2)), 0.0, structure(one)).eval().shape == (0,)


@pytest.mark.parametrize("structure", MATRIX_STRUCTURES)
def test_one_observation_is_the_univariate_normal(structure):
    from scipy.stats import norm

    scale = {gg.cov.Dense: 2.0, gg.cov.Cholesky: np.sqrt(2.0), gg.cov.Precision: 0.5}[structure]
    got = gg.logp(np.array([0.7]), 0.2, structure(np.array([[scale]]))).eval()
    assert_allclose(got, norm(0.2, np.sqrt(2.0)).logpdf(0.7), rtol=1e-13)


def test_integers_and_float32():
    integer = gg.logp(np.array([1, 2]), 0, np.array([[2, 0], [0, 3]]))
    assert integer.dtype == "float64"
    assert_allclose(integer.eval(), gg.logp([1.0, 2.0], 0.0, np.diag([2.0, 3.0])).eval())
    single = gg.logp(np.ones(2, "float32"), np.float32(0), EYE.astype("float32"))
    assert single.dtype == "float32"
    mixed = gg.logp(np.ones(2, "float32"), 0.0, EYE)
    assert mixed.dtype == "float64"


def test_extreme_scales():
    for scale in (1e-200, 1e200):
        value = gg.logp(np.sqrt(scale) * np.ones(2), 0.0, scale * EYE).eval()
        assert_allclose(value, -1 - np.log(2 * np.pi) - np.log(scale), rtol=1e-13)


def test_data_frames_and_lists():
    frame = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]])
    with pm.Model() as model:
        gg.MvNormal("y", [0.0, 1.0], pd.DataFrame(EYE), observed=frame)
    with pm.Model() as twin:
        pm.MvNormal("y", np.array([0.0, 1.0]), EYE, observed=frame.to_numpy())
    assert_allclose(model.compile_logp()({}), twin.compile_logp()({}))


def test_lists_of_tensors():
    """As pm.MvNormal takes them."""
    a, b = pt.scalars("a", "b")
    value = gg.logp([1.0, 2.0], [a, b], [[a, 0.0], [0.0, b]])
    got = interpreted([a, b], value)(2.0, 3.0)
    assert_allclose(got, gg.logp([1.0, 2.0], [2.0, 3.0], np.diag([2.0, 3.0])).eval())


def test_batch_that_is_partly_rejected():
    matrices = pt.tensor3("S")
    value = gg.logp(np.zeros(2), 0.0, matrices)
    gradient = pt.grad(value.sum(), matrices)
    logp, bar = interpreted([matrices], [value, gradient])(np.stack([EYE, -EYE]))
    assert np.isfinite(logp[0])
    assert logp[1] == -np.inf
    assert_allclose(bar, [-0.5 * EYE, 0 * EYE])
