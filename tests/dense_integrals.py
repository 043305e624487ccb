"""Integrals over variables of a model, from its own log density alone."""

import numpy as np
import pytensor.tensor as pt


def some_point(model, rng):
    """Values of the free variables near the initial point."""
    return {
        name: value + rng.normal(size=np.shape(value)) * 0.3
        for name, value in model.initial_point().items()
    }


def gradient_function(model, names, point):
    """The log density of variables and data and its gradient, as a function of their values (k)."""
    own = [model[name] for name in names]
    logp = model.logp(vars=[*own, *model.observed_RVs], sum=True)
    values = [model.rvs_to_values[rv] for rv in own]
    function = model.compile_fn(
        [logp, *pt.grad(logp, values, disconnected_inputs="ignore")],
        inputs=model.value_vars,
        on_unused_input="ignore",
    )
    initial = model.initial_point()
    start = {**initial, **point}
    shapes = [initial[v.name].shape for v in values]
    sizes = [initial[v.name].size for v in values]

    def at(x):
        parts = np.split(x, np.cumsum(sizes)[:-1])
        given = {
            v.name: part.reshape(shape)
            for v, part, shape in zip(values, parts, shapes, strict=True)
        }
        value, *gradient = function({**start, **given})
        return float(value), np.concatenate([np.ravel(g) for g in gradient])

    return at, sum(sizes)


def dense_integral(model, names, point):
    """The integral of a model's density over some of its variables, in which it is normal.

    By the gradient of the log density, which is linear in them, at unit vectors.

    Returns
    -------
    log_integral : float
    mean : array, shape (k)
    precision : array, shape (k, k)
    """
    at, k = gradient_function(model, names, point)
    value, gradient = at(np.zeros(k))
    precision = np.stack([gradient - at(e)[1] for e in np.eye(k)])
    precision = (precision + precision.T) / 2
    mean = np.linalg.solve(precision, gradient)
    logdet = np.linalg.slogdet(precision)[1]
    return value + 0.5 * (gradient @ mean + k * np.log(2 * np.pi) - logdet), mean, precision


def is_normal(model, names, point, rng):
    """Whether a log density is quadratic in some of its variables, as far as some points say."""
    at, k = gradient_function(model, names, point)
    _, origin = at(np.zeros(k))
    for _ in range(20):
        a, b = rng.normal(size=(2, k)) * 2
        terms = [at(a + b)[1], -at(a)[1], -at(b)[1], origin]
        if np.abs(sum(terms)).max() > 1e-9 * np.abs(terms).max():
            return False
    return True


def depends(model, name, parent, point):
    """Whether the log density of a variable depends on another."""
    rv, value = model[name], model.rvs_to_values[model[parent]]
    slope = pt.grad(model.logp(vars=[rv], sum=True), value, disconnected_inputs="ignore")
    function = model.compile_fn(
        slope, inputs=model.value_vars, on_unused_input="ignore", point_fn=True
    )
    # What cancels does so up to rounding.
    return bool(np.any(np.abs(function({**model.initial_point(), **point})) > 1e-10))
