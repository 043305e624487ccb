"""Repeated measures: subjects at some of the visits, against one likelihood a missing pattern."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.replace import clone_replace

import pm_gaussgrad as gg
from benchmarks.case import At, Case, Problem, compile_value_and_gradient, of_models

SEED = 20260101


def _panel(n_visits, n_subjects, missing=0.2):
    """Who was measured when, as columns of a long table."""
    rng = np.random.default_rng(SEED)
    present = rng.uniform(size=(n_subjects, n_visits)) > missing
    present[np.arange(n_subjects), rng.integers(n_visits, size=n_subjects)] = True
    subject, visit = np.nonzero(present)
    return subject, visit, rng.standard_normal(subject.size)


def _by_pattern(subject, visit, y):
    """Visits of each pattern, and the data of its subjects, a row each."""
    table = np.full((subject.max() + 1, visit.max() + 1), np.nan)
    table[subject, visit] = y
    present = np.isfinite(table)
    patterns, pattern = np.unique(present, axis=0, return_inverse=True)
    for p, visits in enumerate(patterns):
        yield np.nonzero(visits)[0], table[pattern.ravel() == p][:, visits]


def _panel_model(n, likelihood):
    """Means of the visits, AR(1) and noise; a likelihood of the means and the covariance."""
    lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    with pm.Model() as model:
        mean = pm.Normal("mean", shape=n)
        sigma, tau = pm.HalfNormal("sigma"), pm.HalfNormal("tau")
        rho = pm.Uniform("rho")
        likelihood(mean, sigma**2 * rho**lags + tau**2 * np.eye(n))
    return model


def repeated_measures(n, rows):
    """A trial with n visits and as many subjects as rows, one model on either side."""
    subject, visit, y = _panel(n, rows)

    def ours(mean, within):
        cov = gg.cov.RepeatedMeasures(within, subject, visit)
        gg.MvNormal("y", mean[visit], cov, observed=y)

    def peer(mean, within):
        for i, (visits, data) in enumerate(_by_pattern(subject, visit, y)):
            cov = pt.as_tensor(within)[visits[:, None], visits]
            pm.MvNormal(f"y_{i}", mean[visits], cov, observed=data)

    return of_models(lambda likelihood: _panel_model(n, likelihood), ours, peer)


def pattern_by_pattern(n, rows):
    """The same trial, the peer compiled once and called for each pattern.

    One model with all of the patterns is what a user would write, but does not compile in
    usable time. The calls cost the peer some 10 microseconds each, which such a model saves.
    """
    subject, visit, y = _panel(n, rows)
    problem = repeated_measures(n, rows)

    def peer():
        visits, data = pt.lvector("visits"), pt.dmatrix("data")
        likelihoods = []

        def likelihood(mean, within):
            cov = pt.as_tensor(within)[visits[:, None], visits]
            likelihoods.append(pm.logp(pm.MvNormal.dist(mean[visits], cov), data).sum())

        model = _panel_model(n, likelihood)
        prior = model.logp_dlogp_function(ravel_inputs=True)
        [logp] = model.replace_rvs_by_values(likelihoods)
        point = pt.dvector("point")
        ends = np.cumsum([n, 1, 1, 1])
        parts = [point[:n], *(point[end - 1] for end in ends[1:])]
        logp = clone_replace(logp, dict(zip(model.value_vars, parts, strict=True)))
        one_pattern = compile_value_and_gradient([point, visits, data], logp, [point])
        patterns = list(_by_pattern(subject, visit, y))

        def value_and_gradient(at):
            value, gradient = prior(at)
            for pattern in patterns:
                more, slope = one_pattern(at, *pattern)
                value, gradient = value + more, gradient + slope
            return value, gradient

        return value_and_gradient

    return Problem(problem.ours, peer, problem.arguments)


# The peer takes minutes to compile the 14 patterns of 20 subjects at 8 visits, and did not get
# through the 45 of 100 subjects; 2000 have 130. At 4 visits there are 15, whatever the subjects.
CASES = (
    Case(
        name="repeated",
        title="repeated measures at 8 visits, a fifth of them missing",
        peer="pm.MvNormal, called for each pattern",
        build=pattern_by_pattern,
        exponent=1,
        sizes=(
            At(8, 500),
            At(8, 2_000, bar=5.0),
            At(8, 5_000, peer=False),
            At(8, 50_000, peer=False),
        ),
    ),
    Case(
        name="repeated 4",
        title="repeated measures at 4 visits, a fifth of them missing",
        peer="pm.MvNormal, one a pattern",
        build=repeated_measures,
        sizes=(At(4, 20), At(4, 2_000)),
    ),
)
