"""Long rows that miss different entries: one long structure where there is one."""

import arviz as az
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.pytensorf import rewrite_pregrad
from pytensor.graph.traversal import ancestors
from registry import interpreted

import pm_gaussgrad as gg
from pm_gaussgrad.cov.groups.grouped_symmetry import GroupedSymmetry
from pm_gaussgrad.cov.series.irregular_ar1 import IrregularAR1
from pm_gaussgrad.likelihood.rows_apart import RowsApart
from pm_gaussgrad.ops import InvQuadLogdet

N = 40
GROUP, TIMES = np.arange(N) % 3, np.linspace(0, 60, N) ** 1.1
NOISE, LAGS = np.linspace(0.2, 1, N), np.abs(np.subtract.outer(range(5), range(5)))


def own(v):
    """A parameter of each of three groups."""
    return pt.stack([v, 2 * v, v])


STRUCTURES = {
    "AR1": (lambda v, r: gg.cov.AR1(v, r, size=N), IrregularAR1),
    "AR1 with gaps": (
        lambda v, r: gg.cov.marginal(gg.cov.AR1(v, r, size=N + 2), np.r_[0:5, 7 : N + 2]),
        IrregularAR1,
    ),
    "AR1 + scalar": (lambda v, r: gg.cov.AR1(v, r) + gg.cov.Diagonal(0.3, size=N), IrregularAR1),
    "AR1 + vector": (lambda v, r: gg.cov.AR1(v, r) + gg.cov.Diagonal(NOISE), IrregularAR1),
    "AR1 by group": (
        lambda v, r: gg.cov.AR1(own(v), r, time=TIMES, group=GROUP) + gg.cov.Diagonal(0.1, size=N),
        IrregularAR1,
    ),
    "CompoundSymmetry": (lambda v, r: gg.cov.CompoundSymmetry(v, r, size=N), GroupedSymmetry),
    "components": (
        lambda v, r: gg.cov.CompoundSymmetry.from_components(v, r, size=N),
        GroupedSymmetry,
    ),
    "symmetry by group": (
        lambda v, r: gg.cov.CompoundSymmetry(own(v), r, group=GROUP),
        GroupedSymmetry,
    ),
    "Diagonal": (lambda v, r: gg.cov.Diagonal(v * r * NOISE), gg.cov.Diagonal),
    "scalar": (lambda v, r: gg.cov.Diagonal(v * r, size=N), gg.cov.Diagonal),
    "RepeatedMeasures": (
        lambda v, r: gg.cov.RepeatedMeasures(v * r**LAGS, np.arange(N) // 5, np.arange(N) % 5),
        gg.cov.RepeatedMeasures,
    ),
}


def gappy_rows(rng):
    """Five rows that miss different entries, one of them all."""
    y = rng.normal(size=(5, N))
    y[rng.uniform(size=y.shape) < 0.15] = np.nan
    y[3] = np.nan
    return y


@pytest.mark.parametrize(("build", "kind"), STRUCTURES.values(), ids=STRUCTURES)
def test_sum_and_single_rows(build, kind, rng):
    """Against each row by itself, of the dense matrix; before and after rewriting."""
    y, mean = gappy_rows(rng), pt.dvector("mean")
    v, r = pt.dscalars("v", "r")
    inputs, cov = [v, r, mean], build(v, r)
    rows = gg.logp(y, mean * np.ones((5, N)), cov)
    there, dense = [np.flatnonzero(~np.isnan(row)) for row in y], cov.to_dense()
    expected = [
        gg.logp(row[at], mean[at], dense[at[:, None], at])
        for row, at in zip(y, there, strict=True)
        if at.size
    ]
    rewritten = rewrite_pregrad(rows.sum())
    forms = {
        node.owner.op.structure.kind
        for node in ancestors([rewritten])
        if node.owner and isinstance(node.owner.op, InvQuadLogdet)
    }
    assert forms
    assert all(issubclass(form, kind) for form in forms)
    outputs = [rewritten, *pt.grad(rewritten, inputs), *pt.grad(rows.sum(), inputs)]
    weights = np.array([1.0, 1.0, 1.0, 1.0, 2.0])
    outputs += [*pt.grad(sum(expected), inputs), rows, *expected]
    # Rows that do not count alike are not one row.
    outputs += pt.grad((weights * rows).sum() - rows[4], inputs)
    found = interpreted(inputs, outputs)(1.3, 0.4, rng.normal(size=N))
    total, after, before, gradient = found[0], found[1:4], found[4:7], found[7:10]
    of_rows, alone, single = found[10], found[11:-3], found[-3:]
    assert of_rows[3] == 0
    assert_allclose(np.delete(of_rows, 3), alone, rtol=1e-11)
    assert_allclose(total, sum(alone), rtol=1e-11)
    for expected, *found in zip(gradient, after, before, single, strict=True):
        for got in found:
            assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def test_only_sums_of_all_rows_are_one_row(rng):
    v = pt.dscalar("v")
    rows = gg.logp(gappy_rows(rng), 0, gg.cov.AR1(v, 0.5, size=N))
    for kept in (rows.reshape((1, 5)).sum(axis=0).sum(), rows.max(), (rows * 2).sum()):
        assert np.isfinite(interpreted([v], kept)(1.0))
    assert any(x.owner and isinstance(x.owner.op, RowsApart) for x in ancestors([rows]))


def test_shared_data_that_miss_others_have_no_density(rng):
    y = gappy_rows(rng)
    with pm.Model() as model:
        data = pm.Data("data", np.zeros(y.shape))
        data.set_value(y)
        sigma = pm.HalfNormal("sigma")
        gg.MvNormal("y", 0, gg.cov.AR1(sigma**2, 0.5, size=N), observed=data)
        logp = model.compile_logp(vars=model.observed_RVs, mode=None)
        point = model.initial_point()
        assert np.isfinite(logp(point))
        other = y.copy()
        other[0, np.flatnonzero(np.isnan(y[0]))[0]] = 0
        data.set_value(other)
        assert np.isnan(logp(point))
        data.set_value(np.where(np.isnan(y), np.nan, y + 1))
        assert np.isfinite(logp(point))


@pytest.mark.parametrize("likelihood", [gg.MvNormal, gg.MvStudentT])
def test_after_sampling(rng, likelihood):
    """Leave-one-out and one step ahead, as of each row by itself."""
    y = gappy_rows(rng)
    extra = () if likelihood is gg.MvNormal else (4.0,)

    def terms(y, function):
        with pm.Model() as model:
            rho = pm.Uniform("rho")
            cov = gg.cov.AR1(1.0, rho, size=N) + gg.cov.Diagonal(0.5, size=N)
            likelihood("y", *extra, 0, cov, observed=y)
        idata = az.from_dict({"posterior": {"rho": np.array([[0.2, 0.7]])}})
        return function(idata, model, progressbar=False).log_likelihood["y"]

    for function in (gg.loo_log_likelihood, gg.lfo_log_likelihood):
        alone = [terms(row, function) for row in np.delete(y, 3, axis=0)]
        assert_allclose(terms(y, function), np.concatenate(alone, axis=-1), rtol=1e-9)
