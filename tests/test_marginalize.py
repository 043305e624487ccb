"""Variables integrated out of models: densities against dense integrals, declines, recovery."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from linear_models import MODELS

import pm_gaussgrad as gg
from pm_gaussgrad.posterior.recover.attached import attached


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
    """The integral of a model's density over some of its variables, in which it is normal.

    By the gradient of the log density, which is linear in them, at unit vectors.

    Returns
    -------
    log_integral : float
    mean : array, shape (k)
    precision : array, shape (k, k)
    """
    own = [model[name] for name in names]
    logp = model.logp(vars=[*own, *model.observed_RVs], sum=True)
    values = [model.rvs_to_values[rv] for rv in own]
    function = model.compile_fn(
        [logp, *pt.grad(logp, values)], inputs=model.value_vars, point_fn=True
    )
    initial = model.initial_point()
    start = {**initial, **point} | {v.name: np.zeros_like(initial[v.name]) for v in values}
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
    return value + 0.5 * (gradient @ mean + k * np.log(2 * np.pi) - logdet), mean, precision


def recovered(model, new, names, point):
    """Means and the covariance of what is recovered at a point, in the space of values."""
    outputs, noise = attached(new).expressions(new, moments=True)
    own = [outputs[name] for name in names]
    means = [outputs[f"{name}_mean"] for name in names]
    given = [*new.rvs_to_values.values()]
    free = [v for v in new.value_vars if v in given]
    whole = new.replace_rvs_by_values([*own, *means])
    for i, name in enumerate(2 * names):
        transform = model.rvs_to_transforms[model[name]]
        if transform is not None:
            whole[i] = transform.forward(whole[i])
    whole = [
        pt.concatenate([x.ravel() for x in part]) for part in (whole[: len(own)], whole[len(own) :])
    ]
    function = pytensor.function([*free, *noise], whole, on_unused_input="ignore")
    start = [point[v.name] for v in free]
    zeros = [np.zeros(z.type.shape) for z in noise]
    drawn, mean = function(*start, *zeros)
    np.testing.assert_allclose(drawn, mean, rtol=1e-8, atol=1e-10)
    columns = []
    for i, z in enumerate(zeros):
        for place in np.ndindex(*z.shape):
            unit = z.copy()
            unit[place] = 1.0
            columns.append(function(*start, *zeros[:i], unit, *zeros[i + 1 :])[0] - drawn)
    return mean, np.transpose(columns)


@pytest.mark.parametrize("build", MODELS, ids=lambda f: f.__name__)
def test_density_and_recovered_variables_are_those_of_the_dense_integral(build, rng):
    model = model_of(build)
    new = gg.marginalize(model)
    report = gg.marginalization_report(new)
    assert not report.declined, report
    point, names = some_point(new, rng), list(report.integrated)
    density = new.compile_fn(new.logp(vars=new.observed_RVs), inputs=new.value_vars)(point)
    expected, mean, precision = dense_integral(model, names, point)
    np.testing.assert_allclose(density, expected, rtol=1e-9)
    found, root = recovered(model, new, names, point)
    np.testing.assert_allclose(found, mean, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(root @ root.T @ precision, np.eye(mean.size), atol=1e-6)
