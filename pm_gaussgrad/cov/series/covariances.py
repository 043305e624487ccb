"""Covariances of what is seen of a process at two times, as formulas: the definition.

They are those of the transitions in :mod:`pm_gaussgrad.kernels.state_space.processes`, which has
the parameters of each kind, and the sources.
"""

import math

import pytensor.tensor as pt

from pm_gaussgrad.cov.series.both_ways import power
from pm_gaussgrad.kernels.state_space.processes import (
    EXPONENTIAL,
    MATERN_3_2,
    MATERN_5_2,
    OSCILLATOR,
    POWER,
    WAVE,
    WIENER,
)

# As in the kernel, |D| u^2 below which a series takes the place of quotients.
_NEAR = 0.05


def covariance(kind, size, values, first, second):
    """Of two times since the origin; all arguments are broadcast.

    Parameters
    ----------
    kind, size : int
        Of the process, and number of its states.
    values : list of TensorVariable
        Its parameters.
    first, second : TensorVariable
    """
    lag = pt.abs(first - second)
    if kind == WIENER:
        return values[0] * _of_walk(size, pt.minimum(first, second), lag)
    if kind == EXPONENTIAL:
        return values[0] * pt.exp(-values[1] * lag)
    if kind == MATERN_3_2:
        u = values[1] * lag
        return values[0] * (1 + u) * pt.exp(-u)
    if kind == MATERN_5_2:
        u = values[1] * lag
        return values[0] * (1 + u + u**2 / 3) * pt.exp(-u)
    if kind == OSCILLATOR:
        return values[0] * _of_oscillator(values[1] * lag, values[2])
    if kind == WAVE:
        even, odd, rate, frequency = values
        wave = even * pt.cos(frequency * lag) + odd * pt.sin(frequency * lag)
        return pt.exp(-rate * lag) * wave
    if kind == POWER:
        return values[0] * power(values[1], lag)
    return _of_system(size, values, lag)


def _of_oscillator(u, damping):
    """exp(-z u) (C + z S), by the larger of two exponentials, by waves, and by a series between."""
    distance = (damping - 1) * (damping + 1) + pt.zeros_like(u)
    square = distance * u**2
    is_near, is_strong = pt.lt(pt.abs(square), _NEAR), pt.gt(distance, 0)
    root = pt.sqrt(pt.switch(is_near, 1, pt.abs(distance)))
    decay, angle = pt.exp(-damping * u), root * u
    waves = decay * (pt.cos(angle) + damping * pt.sin(angle) / root)
    slow, fast = pt.exp(-u / (damping + root)), pt.exp(-(damping + root) * u)
    strong = ((slow + fast) + damping * (slow - fast) / root) / 2
    small = pt.switch(is_near, square, 0)
    cosine, sine = pt.ones_like(small), pt.ones_like(small)
    for k in range(7, 0, -1):
        cosine = 1 + small * cosine / (2 * k * (2 * k - 1))
        sine = 1 + small * sine / (2 * k * (2 * k + 1))
    sine *= u
    near = decay * (cosine + damping * sine)
    return pt.switch(is_near, near, pt.switch(is_strong, strong, waves))


def _of_walk(size, early, lag):
    """Int_0^early (s + lag)^(size - 1) s^(size - 1) ds / (size - 1)!^2."""
    power = size - 1
    # Powers by products: that of nothing is one, with a slope of zero.
    terms = (
        math.comb(power, k)
        * math.prod([lag] * (power - k) + [early] * (power + k + 1), start=1.0)
        / (power + k + 1)
        for k in range(size)
    )
    return sum(terms) / math.factorial(power) ** 2


def _of_system(size, values, lag):
    """1' exp(F lag) g."""
    values = [x + pt.zeros_like(lag) for x in values]
    system = pt.stack(values[: size * size], axis=-1)
    system = pt.split_dims(system, (size, size), axis=-1) * lag[..., None, None]
    return (pt.linalg.expm(system)[..., 0, :] * pt.stack(values[size * size :], axis=-1)).sum(-1)
