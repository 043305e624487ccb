"""``RepeatedMeasures``: index data in any form, patterns, edges, sums, errors, many subjects."""

import numpy as np
import pandas as pd
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import BACKENDS, interpreted, positive_definite

import pm_gaussgrad as gg

T = 3
SUBJECT = np.array([0, 1, 2, 0, 3, 2, 4, 3])
VISIT = np.array([0, 1, 2, 2, 0, 0, 1, 2])


@pytest.fixture
def within(rng):
    return positive_definite(rng, T)


def sparse_panel(rng, n_subjects, n_visits, missing):
    """Rows of a long table in no order, without a share of the visits."""
    present = rng.uniform(size=(n_subjects, n_visits)) > missing
    present[np.arange(n_subjects), rng.integers(n_visits, size=n_subjects)] = True
    subject, visit = np.nonzero(present)
    order = rng.permutation(subject.size)
    return subject[order], visit[order]


@pytest.fixture(scope="module")
def evaluate():
    """Log density of one row of data, its gradients, and those of each subject."""
    residual, within = pt.dvector("r"), pt.dmatrix("within")
    ndims = [len(d.split()) for d in gg.cov.RepeatedMeasures.parameter_shapes.values()]
    index = [pt.tensor(dtype="int64", shape=(None,) * ndim) for ndim in ndims[1:]]
    cov = gg.cov.RepeatedMeasures.from_parameters(within, *index)
    logp = cov.logp(residual)
    outputs = [logp, *pt.grad(logp, [residual, within]), cov.subject_logp(residual)]
    function = interpreted([residual, within, *index], outputs)

    def evaluate(residual, within, subject, visit):
        cov = gg.cov.RepeatedMeasures(np.eye(len(within)), subject, visit)
        return function(residual, within, *(p.data for p in cov.parameters[1:]))

    return evaluate


def by_hand(residual, within, subject, visit):
    """The same, subject by subject."""
    logps, alpha, within_bar = [], np.zeros(len(residual)), np.zeros(within.shape)
    for label in pd.unique(subject):
        [rows] = np.nonzero(subject == label)
        at = np.ix_(visit[rows], visit[rows])
        inverse = np.linalg.inv(within[at])
        alpha[rows] = inverse @ residual[rows]
        quad, logdet = residual[rows] @ alpha[rows], np.linalg.slogdet(within[at])[1]
        logps.append(-0.5 * (quad + logdet + len(rows) * np.log(2 * np.pi)))
        within_bar[at] += 0.5 * (np.outer(alpha[rows], alpha[rows]) - inverse)
    return sum(logps), -alpha, within_bar, logps


@pytest.mark.parametrize(
    ("n_subjects", "n_visits", "missing"),
    [(1, 1, 0), (1, 4, 0), (4, 1, 0), (40, 4, 0.4), (9, 20, 0.2), (5, 40, 0.8)],
    ids=["one number", "one subject", "one visit", "patterns", "BLAS solves", "sparse"],
)
def test_against_subject_by_subject(evaluate, rng, n_subjects, n_visits, missing):
    subject, visit = sparse_panel(rng, n_subjects, n_visits, missing)
    arguments = rng.normal(size=subject.size), positive_definite(rng, n_visits), subject, visit
    for got, expected in zip(evaluate(*arguments), by_hand(*arguments), strict=True):
        assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_subjects_with_the_same_visits_share_a_pattern(within):
    parameters = gg.cov.RepeatedMeasures(within, SUBJECT, VISIT).parameters[1:]
    visits, pattern, observations, subject, place = (p.data for p in parameters)
    assert_allclose(visits, [[0, 2], [1, -1]])
    assert_allclose(pattern, [0, 0, 0, 1, 1])
    assert_allclose(observations, [[0, 3], [5, 2], [4, 7], [1, -1], [6, -1]])
    assert_allclose(subject, [0, 3, 1, 0, 2, 1, 4, 2])
    assert_allclose(place, [0, 0, 1, 1, 0, 0, 0, 1])


@pytest.mark.parametrize(
    "label",
    [
        lambda s: s * 10 - 3,
        lambda s: s + 0.5,
        lambda s: np.array(["ann", "bob", "cyd", "dee", "eve"])[s],
        lambda s: pd.Series(s).map(dict(enumerate("abcde"))),
        lambda s: pd.Categorical.from_codes(4 - s, list("edcba")),
        lambda s: [("eve", 7, 1.5, "x", None.__class__.__name__)[i] for i in s],
    ],
    ids=["int", "float", "string", "series", "categorical", "mixed"],
)
def test_any_labels(within, label):
    expected = gg.cov.RepeatedMeasures(within, SUBJECT, VISIT)
    got = gg.cov.RepeatedMeasures(within, label(SUBJECT), pd.Series(VISIT))
    for a, b in zip(got.parameters, expected.parameters, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_the_order_of_rows_does_not_matter(evaluate, within, rng):
    order, residual = rng.permutation(SUBJECT.size), rng.normal(size=SUBJECT.size)
    logp, residual_bar, within_bar, _ = evaluate(residual, within, SUBJECT, VISIT)
    moved = evaluate(residual[order], within, SUBJECT[order], VISIT[order])
    for got, expected in zip(moved, (logp, residual_bar[order], within_bar), strict=False):
        assert_allclose(got, expected, rtol=1e-13)


def test_pairs_of_visits_that_nobody_has_do_not_matter(evaluate, rng):
    """Nobody has visits 0 and 1: their covariance is not identified, and not read."""
    residual, bad = rng.normal(size=SUBJECT.size), np.eye(T)
    bad[1, 0] = bad[0, 1] = 7.0
    logp, _, within_bar, _ = evaluate(residual, bad, SUBJECT, VISIT)
    assert_allclose(logp, evaluate(residual, np.eye(T), SUBJECT, VISIT)[0])
    assert within_bar[0, 1] == within_bar[1, 2] == 0


def test_lower_triangle_is_read_and_has_the_gradient(evaluate, within, rng):
    residual = rng.normal(size=SUBJECT.size)
    garbage = np.tril(within) + np.triu(rng.normal(size=(T, T)), 1)
    got = evaluate(residual, garbage, SUBJECT, VISIT)
    expected = list(evaluate(residual, within, SUBJECT, VISIT))
    assert_allclose(expected[2], expected[2].T)
    expected[2] = np.tril(expected[2]) + np.tril(expected[2], -1)
    for a, b in zip(got, expected, strict=True):
        assert_allclose(a, b, rtol=1e-13)


def test_more_subjects_of_a_pattern_than_are_worked_on_at_once(evaluate, within, rng):
    """Both sides of the boundaries between chunks: their counts add up."""
    for n_subjects in (64, 65, 150):
        subject, visit = np.repeat(np.arange(n_subjects), 2), np.tile([0, 2], n_subjects)
        residual = rng.normal(size=subject.size)
        got = evaluate(residual, within, subject, visit)
        for a, b in zip(got, by_hand(residual, within, subject, visit), strict=True):
            assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_one_bad_pattern_rejects_the_point(evaluate, rng):
    bad = np.eye(T)
    bad[2, 2] = -1
    logp, *_ = evaluate(rng.normal(size=SUBJECT.size), bad, SUBJECT, VISIT)
    assert logp == -np.inf


def test_within_may_be_a_structure():
    cov = gg.cov.RepeatedMeasures(gg.cov.Diagonal([1.0, 2.0, 3.0]), SUBJECT, VISIT)
    assert_allclose(interpreted([], cov.diagonal())(), np.array([1.0, 2.0, 3.0])[VISIT])
    cov = gg.cov.RepeatedMeasures(gg.cov.Diagonal(2.0, size=T), SUBJECT, VISIT)
    assert_allclose(interpreted([], cov.to_dense())(), 2 * np.eye(SUBJECT.size))


def test_sums(within):
    cov = gg.cov.RepeatedMeasures(within, SUBJECT, VISIT)
    other = gg.cov.RepeatedMeasures(np.eye(T), SUBJECT, VISIT)
    noise = gg.cov.Diagonal(0.5)
    for total in (cov + other, noise + cov):
        assert isinstance(total.resolved, gg.cov.RepeatedMeasures)
    sums = [(cov + other).to_dense(), (noise + cov).to_dense(), cov.to_dense()]
    with_other, with_noise, alone = interpreted([], sums)()
    assert_allclose(with_other, alone + np.eye(SUBJECT.size))
    assert_allclose(with_noise, alone + 0.5 * np.eye(SUBJECT.size))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones(3), [0], [0]), TypeError, r"`within` has 1 dimension"),
        ((np.ones((3, 2)), [0], [0]), ValueError, r"\(3, 2\), expected \(\.\.\., n, n\)"),
        ((gg.cov.Diagonal(1.0), [0], [0]), ValueError, r"visits is not known.*size=T"),
        ((np.eye(2), pt.lvector("s"), [0]), TypeError, r"`subject` is symbolic"),
        ((np.eye(2), [0], pt.lvector("v")), TypeError, r"`visit` is symbolic.*data frame"),
        ((np.eye(2), [[0, 1]], [0, 1]), ValueError, r"`subject` has shape \(1, 2\)"),
        ((np.eye(2), [], []), ValueError, r"`subject` has shape \(0,\), expected \(n,\)"),
        ((np.eye(2), [0, 1], [0]), ValueError, "2 entries and `visit` 1, expected one of each"),
        ((np.eye(2), ["a", None], [0, 1]), ValueError, r"1 missing label\(s\)"),
        ((np.eye(2), [0.0, np.nan], [0, 1]), ValueError, r"1 missing label\(s\)"),
        ((np.eye(2), [0, 1], [0.0, 1.0]), TypeError, "dtype float64, expected integers.*np.unique"),
        ((np.eye(2), [0, 1], ["a", "b"]), TypeError, "expected integers 0 to T - 1"),
        ((np.eye(2), [0, 1], [1, 2]), ValueError, "from 1 to 2, expected 0 to 1.*from 0"),
        ((np.eye(2), [0, 1], [-1, 0]), ValueError, "from -1 to 0"),
        ((pt.dmatrix(), [0, 1], [-1, 0]), ValueError, "expected 0 to T - 1"),
        ((np.eye(2), [4, 5, 4], [1, 1, 1]), ValueError, "observation 2 repeats the visit 1"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        gg.cov.RepeatedMeasures(*arguments)


def test_errors_of_sums(within):
    cov = gg.cov.RepeatedMeasures(within, SUBJECT, VISIT)
    with pytest.raises(TypeError, match="`subject` or `visit` differ"):
        (cov + gg.cov.RepeatedMeasures(within, SUBJECT, T - 1 - VISIT)).plan()
    with pytest.raises(TypeError, match=r"no algorithm.*combines with gg.cov.Diagonal\(scalar\)"):
        (cov + gg.cov.Diagonal(np.ones(SUBJECT.size))).plan()


def test_visits_beyond_a_matrix_of_unknown_size():
    """An error, or no density where errors cannot be raised; never another visit's number."""
    within = pt.dmatrix("within")
    logp = gg.cov.RepeatedMeasures(within, SUBJECT, VISIT).logp(np.ones(SUBJECT.size))
    with pytest.raises(ValueError, match="beyond the last row of `within`"):
        interpreted([within], logp)(np.eye(2))
    assert pytensor.function([within], logp, mode=BACKENDS["jax"])(np.eye(2)) == -np.inf


def test_many_subjects_without_a_dense_matrix(rng):
    """40,000 observations, of which the matrix would take 12 GB."""
    subject, visit = sparse_panel(rng, 10_000, 5, 0.2)
    within, z = pt.dmatrix("within"), rng.normal(size=subject.size)
    cov = gg.cov.RepeatedMeasures(within, subject, visit)
    logp, y = cov.logp(z), cov.color(z)
    outputs = [logp, cov.subject_logp(z).sum(), pt.grad(logp, within), y, cov.whiten(y)]
    outputs += [cov.diagonal().min(), (cov.inverse_diagonal() * cov.diagonal()).min()]
    logp, by_subject, gradient, y, whitened, *least = interpreted([within], outputs)(
        positive_definite(rng, 5)
    )
    assert_allclose(logp, by_subject, rtol=1e-12)
    assert np.isfinite(gradient).all()
    assert_allclose(whitened, z, atol=1e-12)
    assert least[0] > 0
    assert least[1] >= 1 - 1e-12


@pytest.mark.parametrize(
    ("subject", "visit"),
    [
        (["a", np.nan, "b"], [0, 1, 1]),
        (np.ma.array([0, 0, 1], mask=[0, 1, 0]), [0, 1, 1]),
        ([0, 0, 1], np.ma.array([0, 1, 1], mask=[0, 1, 0])),
    ],
)
def test_missing_labels_are_refused(subject, visit):
    with pytest.raises(ValueError, match=r"missing label|masked"):
        gg.cov.RepeatedMeasures(np.eye(2), subject, visit)


def test_noise_of_another_size_is_refused():
    cov = gg.cov.RepeatedMeasures(np.eye(2), [0, 0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match=r"sizes \[3, 4\] disagree"):
        cov + gg.cov.Diagonal(1.0, size=4)


def test_a_covariance_for_each_stratum(rng):
    """Arms of a trial: against the two panels apart, by matrices and by a batch of a structure."""
    arm = np.array([0, 1, 0])[np.unique(SUBJECT, return_inverse=True)[1] % 3]
    variance, y = pt.tensor("v", shape=(2,)), rng.normal(size=SUBJECT.size)
    within = gg.cov.AR1(variance, np.array([0.3, 0.6]), size=T)
    together = gg.cov.RepeatedMeasures(within, SUBJECT, VISIT, stratum=arm)
    matrices = gg.cov.RepeatedMeasures(within.to_dense(), SUBJECT, VISIT, stratum=arm)
    apart = [
        gg.logp(
            y[arm == a],
            0,
            gg.cov.RepeatedMeasures(
                gg.cov.AR1(variance[a], rho, size=T), SUBJECT[arm == a], VISIT[arm == a]
            ),
        )
        for a, rho in enumerate([0.3, 0.6])
    ]
    logps = [gg.logp(y, 0, together), gg.logp(y, 0, matrices), sum(apart)]
    outputs = [x for logp in logps for x in (logp, pt.grad(logp, variance))]
    found = interpreted([variance], outputs)([1.2, 0.7])
    for got, expected in zip(found[:4], found[4:] * 2, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_strata_of_unknown_number(rng):
    """A parameter with ``dims=`` has no static length: the labels say how many strata there are."""
    arm, variance = np.equal(SUBJECT, SUBJECT[0]).astype(int), pt.dvector("v")
    cov = gg.cov.RepeatedMeasures(gg.cov.AR1(variance, 0.3, size=T), SUBJECT, VISIT, stratum=arm)
    y = rng.normal(size=SUBJECT.size)
    logp = gg.logp(y, 0, cov)
    found = interpreted([variance], [logp, pt.grad(logp, variance), cov.diagonal()])([1.2, 0.7])
    scale = np.sqrt([1.2, 0.7])[arm]
    unit = gg.cov.RepeatedMeasures(gg.cov.AR1(1.0, 0.3, size=T), SUBJECT, VISIT)
    expected = interpreted([], gg.logp(y / scale, 0, unit))() - np.log(scale).sum()
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)
    assert found[1].shape == (2,)
    np.testing.assert_allclose(found[2], scale**2)


@pytest.mark.parametrize(
    ("within", "stratum", "message"),
    [
        (np.eye(3), [0, 1, 1], r"expected \(..., a, t, t\)"),
        (np.stack([np.eye(3)] * 2), ["a", "b", "b"], "expected the numbers 0 to 1"),
        (np.stack([np.eye(3)] * 2), [0, 0, 0], "stratum 1 has a parameter and no observations"),
        (np.stack([np.eye(3)] * 2), [0, 1, 0], "observation 1 is in several strata"),
        (np.stack([np.eye(3)] * 2), [0, 1], "`stratum` has 2 entries"),
    ],
)
def test_errors_of_strata(within, stratum, message):
    with pytest.raises(ValueError, match=message):
        gg.cov.RepeatedMeasures(within, ["a", "b", "b"], [0, 0, 1], stratum=stratum)
