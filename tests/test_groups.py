"""The same structure in every group: ``group=`` and ``time=``, and independent noise on series."""

import arviz as az
import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pytensor.graph.traversal import ancestors
from registry import AS_WRITTEN, interpreted
from scipy.stats import multivariate_normal

import pm_gaussgrad as gg
from pm_gaussgrad.cov.series.irregular_ar1 import IrregularAR1
from pm_gaussgrad.kernels.decay import decay


def panel(rng, n=14, n_groups=4, digits=2):
    """Groups and times in no order, each group twice at least."""
    group = rng.permutation(np.concatenate([np.tile(np.arange(n_groups), 2)] * 4)[:n])
    return group, rng.permutation(np.round(rng.uniform(0, 9, n), digits))


def dense_ar1(variance, correlation, noise, time, group):
    lag = np.abs(np.subtract.outer(time, time))
    same = np.equal.outer(group, group)
    process = np.where(same, variance * np.float64(correlation) ** np.where(same, lag, 0), 0)
    return process + np.diag(noise + np.zeros(len(time)))


def gradients(cov, parameters, y):
    logp = cov.logp(y)
    return [logp, *pt.grad((logp * np.linspace(1, -0.5, len(y))).sum(), parameters)]


@pytest.mark.parametrize("noisy", [False, True])
def test_parameters_by_group(noisy, rng):
    group, time = panel(rng)
    n, rows = len(group), rng.normal(size=(2, len(group)))
    variance, correlation = pt.tensor("v", shape=(4,)), pt.tensor("rho", shape=(4,))
    noise = pt.tensor("s", shape=(n,))
    cov = gg.cov.AR1(variance, correlation, time=time, group=group)
    inputs = [variance, correlation]
    values = [rng.uniform(0.5, 2, 4), rng.uniform(0.1, 0.9, 4)]
    if noisy:
        cov = cov + gg.cov.Diagonal(noise)
        inputs, values = [*inputs, noise], [*values, rng.uniform(0.1, 1, n)]
    twin = gg.cov.Dense(cov.to_dense())
    outputs = [*gradients(cov, inputs, rows), *gradients(twin, inputs, rows), cov.to_dense()]
    *found, dense = interpreted(inputs, outputs)(*values)
    half = len(found) // 2
    for got, expected in zip(found[:half], found[half:], strict=True):
        assert_allclose(got, expected, rtol=1e-10, atol=1e-10)
    of = (x[group] for x in values[:2])
    assert_allclose(dense, dense_ar1(*of, values[2] if noisy else 0, time, group), rtol=1e-13)


@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.6])
def test_whole_steps(correlation, rng):
    """Negative correlations alternate with the time; a correlation of zero has its derivative."""
    group, time = rng.integers(0, 3, 12), rng.permutation(12) / 2 * 2 + 0.5
    rho, y = pt.dscalar("rho"), rng.normal(size=(1, 12))
    cov = gg.cov.AR1(1.3, rho, time=time, group=group)
    twin = gg.cov.Dense(cov.to_dense())
    found = interpreted([rho], [*gradients(cov, [rho], y), *gradients(twin, [rho], y)])(correlation)
    for got, expected in zip(found[:2], found[2:], strict=True):
        assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.parametrize("correlation", [1e-9, -1e-12, 1e-17, -1e-300, 0.0])
def test_slopes_next_to_a_correlation_of_zero(correlation, rng):
    """There the covariance is diagonal, and the slope that of the first neighbours."""
    y, rho = rng.normal(size=8), pt.dscalar("rho")
    series = gg.cov.AR1(1.3, rho) + gg.cov.Diagonal(0.2), gg.cov.AR1(1.5, rho, time=np.arange(8))
    slopes = [pt.grad(cov.logp(y), rho) for cov in series]
    products = (y[1:] * y[:-1]).sum() / 1.5**2
    found = interpreted([rho], slopes)(correlation)
    assert_allclose(found, [1.3 * products, 1.5 * products], rtol=1e-7)


@pytest.mark.parametrize("shift", [0.1, 0.7, 1e9 + 0.3, -4.3])
def test_whole_steps_between_rounded_times(shift, rng):
    """2.7 - 1.7 is not 1, and is meant to be."""
    group = np.tile([0, 1], 6)
    time, rho = rng.permutation(12) + shift + 0.25 * group, pt.dscalar("rho")
    cov = gg.cov.AR1(1.3, rho, time=time, group=group)
    outputs = [cov.logp(np.ones(12)), cov.to_dense()]
    logp, dense = interpreted([rho], outputs)(-0.6)
    whole = np.round(time - shift - 0.25 * group)
    expected = dense_ar1(1.3, -0.6, 0, whole, group)
    assert_allclose(dense, expected, rtol=1e-12)
    assert_allclose(logp, multivariate_normal.logpdf(np.ones(12), cov=expected), rtol=1e-10)


def test_times_that_differ_are_not_made_equal():
    time = 1e9 + np.array([0.0, 1e-7, 2e-7])
    found = gg.cov.AR1(1.0, 0.5, time=time).parameters[0].data
    np.testing.assert_array_equal(found, time)


def test_order_of_the_table_is_the_users(rng):
    """Whatever comes out for an observation stands where the observation stands."""
    group, time = panel(rng)
    n, y, order = len(group), rng.normal(size=14), np.random.default_rng(1).permutation(14)

    def results(group, time, y):
        cov = gg.cov.AR1(1.2, 0.4, time=time, group=group) + gg.cov.Diagonal(0.3)
        outputs = cov.solve(y), cov.inverse_diagonal(), *cov.innovations(y), *cov.leave_one_out(y)
        return interpreted([], outputs, AS_WRITTEN)()

    for found, shuffled in zip(
        results(group, time, y), results(group[order], time[order], y[order]), strict=True
    ):
        assert_allclose(found[order], shuffled, rtol=1e-12)
    assert n == 14


def test_without_times_rows_follow_one_another(rng):
    group = np.array(["b", "a", "b", "a", "b"])
    cov = gg.cov.AR1(1.0, 0.5, group=group)
    expected = dense_ar1(1.0, 0.5, 0, np.array([0, 0, 1, 1, 2]), group)
    assert_allclose(interpreted([], cov.to_dense(), AS_WRITTEN)(), expected)


def test_symmetry_by_group(rng):
    """Random intercepts with variances of each group, shuffled, singletons among them."""
    group = rng.permutation(np.repeat(np.arange(4), [1, 2, 3, 8]))
    rows = rng.normal(size=(2, 14))
    variance, correlation = pt.tensor("v", shape=(4,)), pt.dscalar("rho")
    cov = gg.cov.CompoundSymmetry(variance, correlation, group=group)
    cov = cov + gg.cov.Diagonal(0.2, size=14)
    twin = gg.cov.Dense(cov.to_dense())
    inputs, values = [variance, correlation], [rng.uniform(0.5, 2, 4), -0.1]
    outputs = [*gradients(cov, inputs, rows), *gradients(twin, inputs, rows), cov.to_dense()]
    *found, dense = interpreted(inputs, outputs)(*values)
    for got, expected in zip(found[:3], found[3:], strict=True):
        assert_allclose(got, expected, rtol=1e-10, atol=1e-10)
    same = np.equal.outer(group, group)
    expected = values[0][group] * (-0.1 * same + 1.1 * np.eye(14)) + 0.2 * np.eye(14)
    assert_allclose(dense, expected, rtol=1e-13)


def test_random_intercept_is_a_repeated_measure(rng):
    """Against a panel of the same subjects, whose kernels are others."""
    subject = np.array(list("abcabcabca"))
    visit = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3])
    own, common = pt.dscalars("own", "common")
    y = rng.normal(size=(3, 10))
    by_group = gg.cov.CompoundSymmetry.from_components(own, common, group=subject)
    within = gg.cov.CompoundSymmetry.from_components(own, common, size=4)
    panel = gg.cov.RepeatedMeasures(within, subject, visit)
    inputs = [own, common]
    found = interpreted(inputs, [*gradients(by_group, inputs, y), *gradients(panel, inputs, y)])
    a, b = np.split(np.array(found(0.7, 0.9), dtype=object), 2)
    for got, expected in zip(a, b, strict=True):
        assert_allclose(got, expected, rtol=1e-12)


def test_sums_with_noise_keep_what_they_know(rng):
    """A series with noise of unknown length, with noise for each point, and with gaps."""
    y, noise = rng.normal(size=9), rng.uniform(0.1, 1, 9)
    scalar = gg.cov.AR1(1.3, -0.4) + gg.cov.Diagonal(0.5)
    several = gg.cov.AR1(1.3, -0.4) + gg.cov.Diagonal(noise) + gg.cov.Diagonal(0.5)
    twice = scalar + gg.cov.Diagonal(noise)
    dense = dense_ar1(1.3, -0.4, 0.5, np.arange(9), np.zeros(9))
    gappy = np.where(np.arange(9) == 4, np.nan, y)
    kept = np.delete(np.arange(9), 4)
    outputs = [
        gg.logp(y, 0, scalar),
        gg.logp(y, 0, several),
        gg.logp(y, 0, twice),
        gg.logp(gappy, 0, scalar),
        gg.logp(
            y[kept], 0, gg.cov.marginal(gg.cov.AR1(1.3, -0.4, size=9), kept) + gg.cov.Diagonal(0.5)
        ),
        gg.logp(y, 0, dense),
        gg.logp(y, 0, dense + np.diag(noise)),
        gg.logp(y[kept], 0, dense[np.ix_(kept, kept)]),
    ]
    found = interpreted([], outputs, AS_WRITTEN)()
    assert_allclose(
        [found[i] for i in (0, 1, 2, 3, 4)], [found[i] for i in (5, 6, 6, 7, 7)], rtol=1e-12
    )


def test_the_length_of_a_sum_is_that_of_its_series():
    series = gg.cov.AR1(1.0, 0.5) + gg.cov.Diagonal(0.1)
    with pytest.raises(ValueError, match=r"as in gg\.cov\.AR1\(\.\.\., size=n\)"):
        series.to_dense()


def test_replicates_need_noise(rng):
    """Two observations of one group at one time: with noise a covariance, without none."""
    time, group = [1.0, 1.0, 2.0], ["a", "a", "b"]
    exact = gg.cov.AR1(1.0, 0.5, time=time, group=group)
    with pytest.raises(ValueError, match="group a has two observations at time 1 and no noise"):
        gg.MvNormal.dist(0, exact)
    noisy = exact + gg.cov.Diagonal(0.5)
    gg.MvNormal.dist(0, noisy)
    dense = dense_ar1(1.0, 0.5, 0.5, np.array(time), np.array(group))
    found = interpreted([], [gg.logp(np.ones(3), 0, c) for c in (noisy, dense)], AS_WRITTEN)()
    assert_allclose(*found, rtol=1e-14)
    one_of_two = gg.cov.Diagonal(np.array([0.5, 0.0, 0.0]))  # in either order
    for cov in (exact + one_of_two, gg.cov.AR1(1.0, 0.5, time=[1, 2, 1]) + one_of_two):
        densities = [gg.logp(np.ones(3), 0, c) for c in (cov, gg.cov.Dense(cov.to_dense()))]
        assert_allclose(*interpreted([], densities, AS_WRITTEN)(), rtol=1e-14)
    # One of them without noise is the process itself; of two the matrix is singular.
    several = gg.cov.AR1(1.0, 0.5, time=[1.0, 1.0, 1.0])
    gg.MvNormal.dist(0, several + gg.cov.Diagonal(np.array([0.5, 0.0, 0.2])))
    with pytest.raises(ValueError, match="two observations at time 1 and no noise"):
        gg.MvNormal.dist(0, several + gg.cov.Diagonal(np.array([0.0, 0.5, 0.0])))
    v = pt.dscalar("v")
    logp = interpreted([v], gg.logp(np.ones(3), 0, exact + gg.cov.Diagonal(v, size=3)), AS_WRITTEN)
    assert logp(0.0) == -np.inf


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"time": [0, np.nan, 2], "group": ["a", "b", "b"]},
            ValueError,
            "observation 1, in group b, is nan",
        ),
        ({"time": [0, 1], "group": ["a", "b", "b"]}, ValueError, "2 entries and `group` 3"),
        ({"group": ["a", None, "b"]}, ValueError, "1 missing label"),
        ({"group": [[0, 1]]}, ValueError, r"shape \(1, 2\)"),
        ({"time": pd.date_range("2020", periods=3)}, TypeError, r"pd.Timedelta\(days=1\)"),
        ({"time": ["x", "y"]}, TypeError, "expected numbers"),
        ({"time": pt.dvector("t")}, TypeError, "`time` is symbolic"),
        ({"time": [0, 1, 2], "size": 4}, ValueError, "size = 4"),
        ({"correlation": -0.5, "time": [0, 0.5]}, ValueError, "whole distances in time"),
        (
            {"variance": np.ones(2), "group": ["a", "b", "b"]},
            ValueError,
            "expected the numbers 0 to 1",
        ),
        (
            {"variance": np.ones(3), "group": [0, 2, 2]},
            ValueError,
            "group 1 has a parameter and no",
        ),
        (
            {"variance": np.ones(3), "correlation": np.full(2, 0.1), "group": [0, 1]},
            ValueError,
            "shapes",
        ),
        ({"variance": -1.0, "group": [0, 1]}, ValueError, "`variance` is -1"),
    ],
)
def test_errors_say_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        gg.cov.AR1(**{"variance": 1.0, "correlation": 0.5, **arguments})


def test_categories_number_parameters():
    """Labels that number parameters may be the codes of a categorical, or a comparison."""
    group = pd.Categorical(["b", "a", "b"], categories=["a", "b"])
    variance = np.array([1.0, 4.0])
    for labels in (group, pd.Series(group), group.codes, group == "b"):
        cov = gg.cov.CompoundSymmetry(variance, 0.5, group=labels)
        assert_allclose(interpreted([], cov.diagonal(), AS_WRITTEN)(), [4, 1, 4])


def test_graphs_do_not_grow_with_the_groups(rng):
    """One kernel whatever the number of groups: what is compiled is the same."""

    def nodes(n_groups):
        group = np.repeat(np.arange(n_groups), 3)
        y, time = rng.normal(size=group.size), rng.uniform(size=group.size)
        v, rho = pt.dscalars("v", "rho")
        logp = gg.logp(y, 0, gg.cov.AR1(v, rho, time=time, group=group) + gg.cov.Diagonal(v))
        return len(list(ancestors([logp, *pt.grad(logp, [v, rho])])))

    assert nodes(2) == nodes(200)


def test_wide_and_long_layout_are_one_density(rng):
    """Rows of a wide table with NaN, and the same panel as a long table by subject and time."""
    wide = rng.normal(size=(5, 6))
    wide[rng.uniform(size=wide.shape) < 0.3] = np.nan
    subject, week = np.nonzero(~np.isnan(wide))
    v, rho, s = pt.dscalars("v", "rho", "s")
    of_rows = gg.logp(wide, 0.1, gg.cov.AR1(v, rho, size=6) + gg.cov.Diagonal(s, size=6)).sum()
    by_group = gg.cov.AR1(v, rho, time=week, group=subject) + gg.cov.Diagonal(s, size=week.size)
    of_table = gg.logp(wide[subject, week], 0.1, by_group)
    inputs = [v, rho, s]
    outputs = [x for logp in (of_rows, of_table) for x in (logp, *pt.grad(logp, inputs))]
    found = interpreted(inputs, outputs)(1.2, 0.6, 0.4)
    assert_allclose(found[:4], found[4:], rtol=1e-10)


def test_after_sampling(rng):
    """Gaps, leave-one-out and by subject, whitening: as of the dense matrix."""
    group, time = panel(rng)
    y = np.where(np.arange(14) == 3, np.nan, rng.normal(size=14))
    found = []
    for dense in (False, True):
        with pm.Model() as model:
            rho = pm.Uniform("rho")
            cov = gg.cov.AR1(1.0, rho, time=time, group=group) + gg.cov.Diagonal(0.5)
            gg.MvNormal("y", 0, gg.cov.Dense(cov.to_dense()) if dense else cov, observed=y)
        idata = az.from_dict({"posterior": {"rho": np.array([[0.2, 0.7]])}})
        labels = group if dense else True
        by_subject = gg.loo_log_likelihood(idata.copy(), model, group=labels, progressbar=False)
        pointwise = gg.loo_log_likelihood(idata, model, progressbar=False)
        gg.impute(idata, model, progressbar=False, random_seed=1)
        imputed = idata.posterior_predictive["y_imputed"].values
        np.testing.assert_array_equal(np.delete(imputed - y, 3, axis=-1), 0)
        assert np.isfinite(imputed).all()
        found += [pointwise.log_likelihood["y"], by_subject.log_likelihood["y"]]
    for got, expected in zip(found[:2], found[2:], strict=True):
        assert_allclose(got, expected, rtol=1e-10)
    assert found[1].shape == (1, 2, 4)


@pytest.mark.parametrize("noise", [0.0, 1e-10, 1.0, 1e10])
def test_precision_at_any_ratio_of_noise(noise, rng):
    """No digits cancel: against 60 digits, near correlations of one as well."""
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 60
    time, n = rng.uniform(0, 1e-6, 12).cumsum(), 12
    y = rng.normal(size=n)
    cov = gg.cov.AR1(1.0, 0.5, time=time) + gg.cov.Diagonal(noise)
    found = interpreted([], cov.quad_logdet(y), AS_WRITTEN)()
    matrix = mpmath.matrix(n, n)
    for i in range(n):
        for j in range(n):
            lag = abs(mpmath.mpf(float(time[i])) - mpmath.mpf(float(time[j])))
            matrix[i, j] = mpmath.mpf(0.5) ** lag + (mpmath.mpf(noise) if i == j else 0)
    solved = mpmath.lu_solve(matrix, mpmath.matrix(y.tolist()))
    quad = sum(mpmath.mpf(float(a)) * b for a, b in zip(y, solved, strict=True))
    # A step is a difference of times, which are rounded.
    slack = 4 * np.finfo(float).eps * n * (1 + time.max() / np.diff(time).min())
    assert_allclose(found, [float(quad), float(mpmath.log(mpmath.det(matrix)))], rtol=slack)


def test_decay_to_the_last_digits():
    x = np.concatenate(
        [10.0 ** np.arange(-300, 3, 0.37), np.linspace(0, 40, 4001), [0, 1e9, np.inf]]
    )
    power, rest = decay(x)
    assert_allclose(rest, -np.expm1(-x), rtol=5e-16, atol=0)
    assert_allclose(power, np.exp(-x), rtol=5e-16, atol=1e-307)


def test_a_series_is_rebuilt_from_its_tensors(rng):
    cov = gg.cov.AR1(1.0, 0.5, time=[3.0, 1.0], group=["a", "a"])
    rebuilt = IrregularAR1.from_parameters(*cov.parameters)
    assert_allclose(
        *interpreted([], [cov.to_dense(), rebuilt.to_dense()], AS_WRITTEN)(), rtol=1e-15
    )


def test_fisher_information_without_a_matrix(rng):
    """Against the trace formula in NumPy, with parameters of groups and replicates in time."""
    group, time = panel(rng, digits=0)
    n = len(group)
    parameters = pt.tensor("parameters", shape=(4 + 4 + n,))
    variance, correlation, noise = parameters[:4], parameters[4:8], parameters[8:]
    series = gg.cov.AR1(variance, correlation, time=time, group=group)
    cov = series + gg.cov.Diagonal(noise)
    values = np.concatenate(
        [rng.uniform(0.5, 2, 4), rng.uniform(0.1, 0.9, 4), rng.uniform(0.1, 1, n)]
    )
    information = gg.fisher_information(np.zeros(n), cov, parameters)
    found = interpreted([parameters], information)(values)

    def dense(x):
        return dense_ar1(x[:4][group], x[4:8][group], x[8:], time, group)

    steps = 1e-4 * np.eye(values.size)
    # Central differences of order four.
    slopes = [
        (
            8 * (dense(values + h) - dense(values - h))
            - dense(values + 2 * h)
            + dense(values - 2 * h)
        )
        / (12 * 1e-4)
        for h in steps
    ]
    solved = [np.linalg.solve(dense(values), slope) for slope in slopes]
    expected = [[np.trace(a @ b) / 2 for b in solved] for a in solved]
    assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
