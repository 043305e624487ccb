"""Variables integrated out of models: densities against dense integrals, declines, recovery."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from linear_models import MODELS

import pm_gaussgrad as gg


def model_of(build, **coords):
    with pm.Model(coords=coords) as model:
        build()
    return model


def some_point(model, rng):
    return {
        name: value + rng.normal(size=np.shape(value)) * 0.3
        for name, value in model.initial_point().items()
    }


def dense_integral(model, names, point):
    """The log of the integral of a model's density over some of its variables, which is normal.

    By the gradient of the log density, which is linear in them, at unit vectors.
    """
    own = [model[name] for name in names]
    logp = model.logp(vars=[*own, *model.observed_RVs], sum=True)
    values = [model.rvs_to_values[rv] for rv in own]
    function = model.compile_fn(
        [logp, *pt.grad(logp, values)], inputs=model.value_vars, point_fn=True
    )
    start = {**model.initial_point(), **point} | {
        v.name: np.zeros_like(model.initial_point()[v.name]) for v in values
    }
    sizes = [start[v.name].size for v in values]

    def at(x):
        parts = np.split(x, np.cumsum(sizes)[:-1])
        given = {v.name: p.reshape(start[v.name].shape) for v, p in zip(values, parts, strict=True)}
        value, *gradient = function({**start, **given})
        return float(value), np.concatenate([np.ravel(g) for g in gradient])

    k = sum(sizes)
    value, gradient = at(np.zeros(k))
    precision = np.stack([gradient - at(e)[1] for e in np.eye(k)])
    precision = (precision + precision.T) / 2
    mean = np.linalg.solve(precision, gradient)
    logdet = np.linalg.slogdet(precision)[1]
    return value + 0.5 * (gradient @ mean + k * np.log(2 * np.pi) - logdet), mean


@pytest.mark.parametrize("build", MODELS, ids=lambda f: f.__name__)
def test_density_is_the_integral(build, rng):
    model = model_of(build)
    new = gg.marginalize(model)
    report = gg.marginalization_report(new)
    assert not report.declined, report
    point = some_point(new, rng)
    found = new.compile_fn(new.logp(vars=new.observed_RVs), inputs=new.value_vars)(point)
    expected, _ = dense_integral(model, report.integrated, point)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
