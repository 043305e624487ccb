"""Constants that can be no covariance are errors where a structure or a density is made of them."""

import numpy as np
import pymc as pm
import pytensor.sparse
import pytensor.tensor as pt
import pytest
import scipy.sparse
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal
from registry import INTERPRETED, interpreted

import pm_gaussgrad as gg
from pm_gaussgrad.cov.protocol.leaf import Leaf

K = np.array([[2.0, 0.5, 0.3], [0.5, 1.0, 0.2], [0.3, 0.2, 1.5]])
FACTOR = np.linalg.cholesky(K)
SINGULAR = np.ones((3, 3))
INDEFINITE = np.eye(3) + 2 * (1 - np.eye(3))
TWO_VISITS = ([0, 0, 1], [0, 1, 0])
ENTRY_POINTS = {
    "MvNormal": lambda name, x: gg.MvNormal.dist(0, **{name: x}),
    "MvStudentT": lambda name, x: gg.MvStudentT.dist(
        4.0, 0, **{"scale" if name == "cov" else name: x}
    ),
}
AS_ARGUMENT = [
    ("cov", FACTOR, "looks like a Cholesky factor: pass it as chol="),
    ("cov", FACTOR.T, "looks like an upper Cholesky factor: pass its transpose as chol="),
    ("cov", K + np.triu(np.ones((3, 3)), 1), r"differs from its transpose by up to 1.*K \+ K.T"),
    ("tau", FACTOR, "differs from its transpose"),
    ("chol", K, "looks like a covariance: pass it as cov="),
    ("chol", FACTOR.T, "looks like an upper Cholesky factor: pass its transpose"),
    ("chol", FACTOR + np.triu(K, 1), r"entries above the diagonal, up to 0.5.*np.tril"),
    ("cov", -K, "-2 on its diagonal, expected at least 0"),
    ("cov", INDEFINITE, r"not positive definite \(its smallest eigenvalue is -1\)"),
    ("cov", SINGULAR, "not positive definite"),
    ("tau", SINGULAR, "gg.cov.Precision: `matrix` is not positive definite"),
    ("chol", np.diag([1.0, 0.0, 1.0]), "a zero on its diagonal"),
    ("cov", np.where(K == 0.2, np.nan, K), r"2 entries that are not finite \(the first is nan\)"),
    ("chol", np.inf * np.eye(3)[:1, :1], "1 entries that are not finite"),
    ("cov", np.stack([K, INDEFINITE]), "not positive definite"),
    ("cov", np.stack([K, FACTOR]), "looks like a Cholesky factor"),
    ("cov", 2.0 * pt.constant(INDEFINITE), "not positive definite"),
]


@pytest.mark.parametrize("entry", ENTRY_POINTS)
@pytest.mark.parametrize(("name", "x", "message"), AS_ARGUMENT)
def test_arguments_that_are_no_covariance(entry, name, x, message):
    with pytest.raises(ValueError, match=message):
        ENTRY_POINTS[entry](name, x)


@pytest.mark.parametrize("entry", ENTRY_POINTS)
@pytest.mark.parametrize("name", ["cov", "chol", "tau"])
def test_sparse_arguments(entry, name):
    for sparse in (scipy.sparse.csr_matrix(K), scipy.sparse.coo_array(K)):
        with pytest.raises(TypeError, match=r"is a sparse .*expected a dense array.*toarray\(\)"):
            ENTRY_POINTS[entry](name, sparse)
    with pytest.raises(TypeError, match=r"Sparse.*expected a dense tensor; .*dense_from_sparse"):
        ENTRY_POINTS[entry](name, pytensor.sparse.csr_matrix("Q"))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: gg.cov.Diagonal(-0.5), "gg.cov.Diagonal: `variance` is -0.5, expected at least 0"),
        (lambda: gg.cov.Diagonal([1.0, -1.0]), "`variance` is -1"),
        (lambda: gg.cov.Diagonal([1.0, np.nan]), "not finite"),
        (lambda: gg.cov.AR1(-1.0, 0.5), "gg.cov.AR1: `variance` is -1"),
        (lambda: gg.cov.AR1(pt.scalar(), 1.5), "`correlation` is 1.5, expected between -1 and 1"),
        (lambda: gg.cov.CompoundSymmetry(-1.0, 0.5), "`variance` is -1"),
        (lambda: gg.cov.CompoundSymmetry(1.0, 1.1), "`correlation` is 1.1"),
        (lambda: gg.cov.CompoundSymmetry.from_components(-1.0, 2.0), "`own` is -1"),
        (lambda: gg.cov.CompoundSymmetry.from_components(1.0, np.inf), "`common` has 1 entries"),
        (lambda: gg.cov.Toeplitz([-1.0, 0.0]), "is -1, expected at least 0"),
        (lambda: gg.cov.Toeplitz([1.0, -1.2]), "autocovariance of size 1.2, expected at most"),
        (lambda: gg.cov.Toeplitz([1.0, np.nan]), "not finite"),
        (lambda: gg.cov.LowRank([[np.nan]]), "`factor` has 1 entries"),
        (lambda: gg.cov.Eigenbasis(np.eye(2), [1.0, np.inf]), "`eigenvalues` has 1 entries"),
        (lambda: gg.cov.Kronecker(K, FACTOR), r"`factors\[1\]` differs .*gg.cov.Cholesky"),
        (lambda: gg.cov.RepeatedMeasures(FACTOR[:2, :2], *TWO_VISITS), "`within` differs"),
        (lambda: gg.cov.BlockDiagonal(K, FACTOR), "differs from its transpose"),
    ],
)
def test_structures_of_what_is_wrong_by_itself(build, message):
    with pytest.raises(ValueError, match=message):
        build()


ALONE = [
    (lambda: gg.cov.Diagonal(0.0), "`variance` has the entry 0"),
    (lambda: gg.cov.Diagonal(1.0) * 0.0, "`variance` has the entry 0"),
    (lambda: gg.cov.LowRank(np.ones((3, 1))) + gg.cov.Diagonal(0.0), "`variance` has the entry 0"),
    (lambda: gg.cov.AR1(0.0, 0.5), "`variance` has the entry 0"),
    (lambda: gg.cov.AR1(pt.scalar(), -1.0), r"`1 - \|correlation\|` has the entry 0"),
    (lambda: gg.cov.CompoundSymmetry(2.0, 1.0), "`1 - correlation` has the entry 0"),
    (lambda: gg.cov.CompoundSymmetry(pt.scalar(), -0.5), r"`1 \+ 2 \* correlation` has the entr"),
    (lambda: gg.cov.CompoundSymmetry.from_components(1.0, -0.4), r"`own \+ 3 \* common` has"),
    (lambda: gg.cov.Toeplitz([1.0, 0.9, 0.0]), "the constants `first_column` make no covariance"),
    (lambda: gg.cov.Eigenbasis.from_matrix(SINGULAR), "`eigenvalues` has the entry"),
    (lambda: gg.cov.Kronecker(SINGULAR), r"`factors\[0\]` is not positive definite"),
    (lambda: gg.cov.Kronecker(SINGULAR) + gg.cov.Diagonal(0.0), "`eigenvalues of the sum` has"),
    (lambda: gg.cov.BlockDiagonal(K[:1, :1], SINGULAR[:2, :2]), "not positive definite"),
    (lambda: gg.cov.RepeatedMeasures(SINGULAR[:2, :2], *TWO_VISITS), "`within` is not positive"),
    (
        lambda: gg.cov.RepeatedMeasures(INDEFINITE, [0, 0, 1], [0, 2, 1]),
        r"`within at visits \[0, 2\]` is not positive",
    ),
]


@pytest.mark.parametrize(("build", "message"), ALONE)
def test_densities_of_what_only_a_sum_would_mend(build, message):
    """Built as a summand without a word; refused where there is a density."""
    cov, y = build(), np.zeros(3)
    for density in (
        lambda: gg.logp(y, 0.0, cov),
        lambda: gg.student_t_logp(y, 3.0, 0.0, cov),
        lambda: gg.MvNormal.dist(0.0, cov, shape=3),
        lambda: gg.MvStudentT.dist(3.0, 0.0, cov, shape=3),
        lambda: gg.condition(y, 0.0, cov, 0.0, np.zeros((3, 1)), np.eye(1)),
    ):
        with pytest.raises(ValueError, match=message):
            density()


@pytest.mark.parametrize(
    "build",
    [
        lambda noise: gg.cov.CompoundSymmetry(2.0, 1.0) + noise,
        lambda noise: gg.cov.Eigenbasis.from_matrix(SINGULAR) + noise,
        lambda noise: gg.cov.Kronecker(SINGULAR) + noise,
        lambda noise: gg.cov.Kronecker(gg.cov.AR1(1.0, 1.0, size=3)) + noise,
        lambda noise: gg.cov.Toeplitz([1.0, 1.0, 1.0]) + noise,
        lambda noise: gg.cov.LowRank(np.ones((3, 1))) + noise,
        lambda noise: (
            gg.cov.BlockDiagonal(gg.cov.Diagonal(0.0, size=1), K[:2, :2] * 0)
            + gg.cov.BlockDiagonal(gg.cov.Diagonal(1.0, size=1), K[:2, :2])
        ),
        lambda noise: gg.cov.RepeatedMeasures(SINGULAR[:2, :2], *TWO_VISITS) + noise,
        # Of the pairs of visits that nobody has, none is looked at.
        lambda noise: gg.cov.RepeatedMeasures(INDEFINITE, [0, 1, 2], [0, 1, 2]),
    ],
)
def test_sums_mend_singular_summands(build):
    for noise in (gg.cov.Diagonal(0.5, size=3), gg.cov.Diagonal(pt.constant(0.5), size=3)):
        density = gg.logp(np.ones(3), 0.0, build(noise))
        assert np.isfinite(interpreted([], density)())
    gg.MvNormal.dist(0.0, build(gg.cov.Diagonal(pt.scalar(), size=3)), shape=3)


def test_rounding_is_no_error():
    """Inverses that are symmetric but for rounding, eigenvalues that are zero but for it."""
    ill = np.linalg.inv(np.vander(np.linspace(0, 1, 6)) @ np.vander(np.linspace(0, 1, 6)).T)
    assert (ill != ill.T).any()
    gg.MvNormal.dist(0, tau=ill)
    gg.cov.Diagonal([1.0, -1e-17])
    gg.cov.Dense(K + 1e-12 * np.triu(np.ones((3, 3)), 1))


def test_what_is_rebuilt_is_not_checked():
    """Constants cost their check once: PyMC rebuilds structures at every turn."""
    bad = pt.constant(INDEFINITE)
    rebuilt = gg.cov.Dense.from_parameters(bad)
    assert rebuilt.parameters == (bad,)
    assert interpreted([], rebuilt.logp(np.ones(3)))() == -np.inf


def test_large_matrices_are_compared_with_their_transpose_only():
    large = np.ones((2100, 2100))
    gg.MvNormal.dist(0, large)
    large[2099, 300] = 2
    with pytest.raises(ValueError, match="differs from its transpose by up to 1,"):
        gg.cov.Dense(large)


def test_symbolic_parameters_have_density_zero():
    """Out of range is -inf while sampling, as ever."""
    v, rho = pt.scalars("v", "rho")
    with pm.Model() as model:
        sigma = pm.Flat("sigma")
        gg.MvNormal("y", 0, gg.cov.Diagonal(sigma), observed=np.ones(3))
    assert interpreted(model.value_vars, model.logp())(-1.0) == -np.inf
    logp = interpreted([v, rho], gg.logp(np.ones(3), 0.0, gg.cov.CompoundSymmetry(v, rho)))
    assert_array_equal([logp(1.0, 1.5), logp(-1.0, 0.5), logp(1.0, -0.6)], [-np.inf] * 3)


def test_draws_of_no_covariance_are_an_error():
    """Never NaN without a word, where a prior lets parameters out of their range."""
    for cov in (lambda x: gg.cov.Diagonal(x), lambda x: gg.cov.AR1(1.0, 1 - x), lambda x: x * K):
        with pm.Model():
            x = pm.Normal("x", -5.0, 1e-3)
            y = gg.MvNormal("y", 0.0, cov(x), shape=3)
        with pytest.raises(ValueError, match=r"draws are not finite.*restrict their priors"):
            pm.draw(y, mode=INTERPRETED)


def _forward_of_labels(residual, variances, label):
    quad, logdet, alpha = np.zeros(residual.shape[0], residual.dtype), 0.0, np.empty_like(residual)
    for i in range(label.size):
        logdet += np.log(variances[label[i]])
        alpha[:, i] = residual[:, i] / variances[label[i]]
        quad += residual[:, i] * alpha[:, i]
    return quad, logdet, alpha


def _pullback_of_labels(variances, label, alpha, quad_bar, logdet_bar):
    bar = np.zeros_like(variances)
    for i in range(label.size):
        bar[label[i]] += logdet_bar / variances[label[i]] - (quad_bar * alpha[:, i] ** 2).sum()
    return (bar,)


class VariancePerLabel(Leaf):
    """Without checks of its own."""

    parameter_shapes = {"variances": "g", "label": "n"}
    constant_parameters = frozenset({"label"})
    forward = staticmethod(_forward_of_labels)
    pullback = staticmethod(_pullback_of_labels)

    def __init__(self, variances, label):
        self.parameters = pt.as_tensor(variances), pt.as_tensor(label)


def test_index_data_of_a_structure_without_checks_of_its_own():
    """Its kernel is what knows: it is given the labels as the integers that they are."""
    label = np.array([1, 0, 1])
    cov = VariancePerLabel(np.array([1.0, 4.0]), label)
    logp = interpreted([], gg.logp(np.ones(3), 0.0, cov))()
    expected = scipy.stats.norm.logpdf(np.ones(3), scale=[2, 1, 2]).sum()
    assert_allclose(logp, expected, rtol=1e-13)
    with pytest.raises(ValueError, match="the constants `variances`, `label` make no covariance"):
        gg.logp(np.ones(3), 0.0, VariancePerLabel(np.array([1.0, -4.0]), label))
