r"""Processes with a state of finite size: transitions, what drives them, and their adjoints.

Of each kind of process k(tau) = 1' Phi(tau) g is the covariance of what is seen at two times, tau
>= 0 apart:

    EXPONENTIAL  v, r         v exp(-r tau)                                     1 state
    MATERN_3_2   v, r         v (1 + u) exp(-u), u = r tau                      2
    MATERN_5_2   v, r         v (1 + u + u^2 / 3) exp(-u)                       3
    OSCILLATOR   v, w, z      v exp(-z u) (C + z S), u = w tau                  2, ``oscillator.py``
    WAVE         a, b, c, d   exp(-c tau) (a cos(d tau) + b sin(d tau))         2
    WIENER       q            integrated 0 to 2 times, from zero at the origin  1, 2, 3
    LINEAR       F, g         1' exp(F tau) g                                   any, F by rows
    POWER        v, p         v p^tau, of tau that are whole numbers where p < 0  1

The states are the process and its derivatives in units of the rate: of the Matern processes d x /
du = N x - x with a nilpotent N, so that Phi = exp(-u) (I + N u + N^2 u^2 / 2). Exponential and
Wiener processes are driven: g = 0, and R_t is the variance of what is added in a step, exactly,
however short it is. All others are stationary: R_t = 0.

Sources: Hartikainen and Sarkka (2010), Kalman filtering and smoothing solutions to temporal
Gaussian process regression models, section 3 (Matern); Foreman-Mackey et al. (2017), AJ 154:220,
eq. 8 (the wave); Wahba (1978), Improper priors, spline smoothing and the problem of guarding
against model errors in regression, section 2 (integrated Wiener processes).
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.state_space.linear import pull_systems, systems
from pm_gaussgrad.kernels.state_space.oscillator import oscillators, pull_oscillators

EXPONENTIAL, MATERN_3_2, MATERN_5_2, OSCILLATOR, WAVE, WIENER, LINEAR, POWER = range(8)
DRIVEN = (EXPONENTIAL, WIENER)
_DIGITS = 8 * 64


def digits_of(blocks):
    """Kinds and numbers of states, up to 63, as digits of one number."""
    return sum((kind + 8 * size) * _DIGITS**k for k, (kind, size) in enumerate(blocks))


def blocks_of(digits):
    """The inverse of :func:`digits_of`: kind and number of states of each process."""
    blocks = []
    while digits:
        digits, digit = divmod(digits, _DIGITS)
        blocks.append((digit % 8, digit // 8))
    return blocks


def n_values(kind, size):
    """How many parameters a process has."""
    if kind == LINEAR:
        return size * (size + 1)
    return 4 if kind == WAVE else 3 if kind == OSCILLATOR else 1 if kind == WIENER else 2


def amplitudes(kind, size):
    """Which parameters are in units of the covariance, and proportional to it."""
    if kind == LINEAR:
        return range(size * size, size * (size + 1))
    return range(2 if kind == WAVE else 1)


def start(kind, size, values, at, g, lo):
    """g of a process, Cov(x_t, y_t); zero of one that is driven."""
    for i in range(size):
        g[lo + i] = 0.0
    if kind in (MATERN_3_2, OSCILLATOR, MATERN_5_2, POWER):
        g[lo] = values[at]
    if kind == MATERN_5_2:
        g[lo + 2] = -values[at] / 3
    if kind == WAVE:
        g[lo], g[lo + 1] = values[at], values[at + 1]
    if kind == LINEAR:
        for i in range(size):
            g[lo + i] = values[at + size * size + i]


def pull_start(kind, size, g_bar, lo, values_bar, at):
    """Adds the cotangents of a process's parameters that come through g."""
    if kind in (MATERN_3_2, OSCILLATOR, MATERN_5_2, POWER):
        values_bar[at] += g_bar[lo]
    if kind == MATERN_5_2:
        values_bar[at] -= g_bar[lo + 2] / 3
    if kind == WAVE:
        values_bar[at] += g_bar[lo]
        values_bar[at + 1] += g_bar[lo + 1]
    if kind == LINEAR:
        for i in range(size):
            values_bar[at + size * size + i] += g_bar[lo + i]


def fill(kind, size, values, first, step, start, stop, phi, at):
    """Writes Phi of steps from ``start`` to ``stop``, by rows from ``at``.

    The parameters begin at ``first``.
    """
    if kind == EXPONENTIAL:
        rate = values[first + 1]
        for t in range(start, stop):
            phi[t, at] = np.exp(-rate * step[t])
    elif kind == MATERN_3_2:
        rate = values[first + 1]
        for t in range(start, stop):
            u = rate * step[t]
            decay = np.exp(-u)
            phi[t, at], phi[t, at + 1] = decay * (1 + u), decay * u
            phi[t, at + 2], phi[t, at + 3] = -decay * u, decay * (1 - u)
    elif kind == MATERN_5_2:
        _fill_matern_5_2(values[first + 1], step, start, stop, phi, at)
    elif kind == OSCILLATOR:
        oscillators(values[first + 1], values[first + 2], step, start, stop, phi, at)
    elif kind == WAVE:
        rate, frequency = values[first + 2], values[first + 3]
        for t in range(start, stop):
            decay, angle = np.exp(-rate * step[t]), frequency * step[t]
            phi[t, at], phi[t, at + 1] = decay * np.cos(angle), decay * np.sin(angle)
            phi[t, at + 2], phi[t, at + 3] = -phi[t, at + 1], phi[t, at]
    elif kind == WIENER:
        _fill_walk(size, step, start, stop, phi, at)
    elif kind == POWER:
        for t in range(start, stop):
            phi[t, at] = _power(values[first + 1], step[t])
    else:
        systems(size, values, first, step, start, stop, phi, at)


def pull_fill(kind, size, values, first, step, start, stop, phi, phi_bar, at, values_bar):
    """Adds the cotangents of the parameters that come through Phi."""
    total = 0.0
    if kind == EXPONENTIAL:
        for t in range(start, stop):
            total -= step[t] * phi[t, at] * phi_bar[t, at]
        values_bar[first + 1] += total
    elif kind == MATERN_3_2:
        # d Phi / d u = [[0, 1], [-1, -2]] Phi
        for t in range(start, stop):
            off, lower = phi[t, at + 1], phi[t, at + 3]
            slope = (phi_bar[t, at + 1] - phi_bar[t, at + 2]) * lower - phi_bar[t, at] * off
            total += step[t] * (slope - phi_bar[t, at + 3] * (off + 2 * lower))
        values_bar[first + 1] += total
    elif kind == MATERN_5_2:
        values_bar[first + 1] += _pull_matern_5_2(step, start, stop, phi, phi_bar, at)
    elif kind == OSCILLATOR:
        own = values[first + 1], values[first + 2]
        bars = pull_oscillators(*own, step, start, stop, phi, phi_bar, at)
        values_bar[first + 1] += bars[0]
        values_bar[first + 2] += bars[1]
    elif kind == WAVE:
        for t in range(start, stop):
            even = phi_bar[t, at] + phi_bar[t, at + 3]
            odd = phi_bar[t, at + 1] - phi_bar[t, at + 2]
            values_bar[first + 2] -= step[t] * (even * phi[t, at] + odd * phi[t, at + 1])
            values_bar[first + 3] += step[t] * (odd * phi[t, at] - even * phi[t, at + 1])
    elif kind == POWER:
        for t in range(start, stop):
            if step[t] != 0:
                slope = step[t] * _power(values[first + 1], step[t] - 1)
                values_bar[first + 1] += slope * phi_bar[t, at]
    elif kind == LINEAR:
        pull_systems(size, values, first, step, start, stop, phi_bar, at, values_bar)


def drive(kind, size, values, first, step, start, stop, driven, at):
    """Writes R, by rows of its lower triangle; zero of a process that is stationary.

    At ``start``, where a group begins, it is the variance of the state itself, for a Wiener process
    after the time from its origin.
    """
    if kind == EXPONENTIAL:
        variance, rate = values[first], values[first + 1]
        driven[start, at] = variance
        for t in range(start + 1, stop):
            driven[t, at] = variance * -np.expm1(-2 * rate * step[t])
    elif kind == WIENER:
        for t in range(start, stop):
            to = at
            for i in range(size):
                for j in range(i + 1):
                    driven[t, to] = values[first] * spread_of_walk(size, i, j, step[t])
                    to += 1


def pull_drive(kind, size, values, first, step, begun, start, stop, driven_bar, at, values_bar):
    """Adds the cotangents of the parameters that come through R; a group ``begun`` at the start."""
    if kind == EXPONENTIAL:
        variance, rate = values[first], values[first + 1]
        of_variance, of_rate = driven_bar[start, at] if begun else 0.0, 0.0
        for t in range(start + 1 if begun else start, stop):
            slow = -2 * rate * step[t]
            of_variance -= driven_bar[t, at] * np.expm1(slow)
            of_rate += driven_bar[t, at] * 2 * variance * step[t] * np.exp(slow)
        values_bar[first] += of_variance
        values_bar[first + 1] += of_rate
    elif kind == WIENER:
        for t in range(start, stop):
            to = at
            for i in range(size):
                for j in range(i + 1):
                    spread = spread_of_walk(size, i, j, step[t])
                    values_bar[first] += driven_bar[t, to] * spread
                    to += 1


def _power(base, exponent):
    """NaN of a negative number unless the exponent is whole."""
    if base > 0 or exponent == 0:
        return base**exponent
    if base == 0:
        return 0.0 if exponent > 0 else np.inf
    if exponent != np.floor(exponent):
        return np.nan
    return (1 - 2 * (exponent % 2)) * (-base) ** exponent


def _fill_walk(size, step, start, stop, phi, at):
    for t in range(start, stop):
        for i in range(size):
            power = 1.0
            for j in range(size):
                phi[t, at + size * i + j] = power if j >= i else 0.0
                power *= step[t] / (j - i + 1) if j >= i else 1.0


def spread_of_walk(size, i, j, step):
    """Int_0^step s^(size - 1 - i) s^(size - 1 - j) / ((size - 1 - i)! (size - 1 - j)!) ds."""
    power, left = step, 2 * size - 1 - i - j
    for _ in range(left - 1):
        power *= step
    return power / (left * _factorial(size - 1 - i) * _factorial(size - 1 - j))


def _factorial(k):
    return 2.0 if k == 2 else 1.0


@apart("float64", "float64 1", "int64", "int64", "float64 2", "int64", result=())
def _fill_matern_5_2(rate, step, start, stop, phi, at):
    """exp(-u) (I + N u + N^2 u^2 / 2), N = [[1, 1, 0], [0, 1, 1], [-1, -3, -2]]."""
    for t in range(start, stop):
        u = rate * step[t]
        decay, half = np.exp(-u), u * u / 2
        phi[t, at], phi[t, at + 1] = decay * (1 + u + half), decay * (u + 2 * half)
        phi[t, at + 2], phi[t, at + 3] = decay * half, -decay * half
        phi[t, at + 4], phi[t, at + 5] = decay * (1 + u - 2 * half), decay * (u - half)
        phi[t, at + 6], phi[t, at + 7] = decay * (half - u), decay * (2 * half - 3 * u)
        phi[t, at + 8] = decay * (1 - 2 * u + half)


@apart("float64 1", "int64", "int64", "float64 2", "float64 2", "int64", result=("float64",))
def _pull_matern_5_2(step, start, stop, phi, phi_bar, at):
    """The sum of <Phi_bar, d Phi / d u> step, d Phi / d u = N Phi - Phi."""
    total = 0.0
    for t in range(start, stop):
        for j in range(at, at + 3):
            last = -phi[t, j] - 3 * phi[t, j + 3] - 3 * phi[t, j + 6]
            slope = phi_bar[t, j] * phi[t, j + 3] + phi_bar[t, j + 3] * phi[t, j + 6]
            total += step[t] * (slope + phi_bar[t, j + 6] * last)
    return total


def is_process(kind, values, first):
    """Whether parameters are those of a process: variances not negative, rates positive.

    Of what grows and of a linear system what makes no covariance shows in the filter.
    """
    if kind in (LINEAR, POWER):
        return True
    if kind == WAVE:
        return values[first + 2] >= 0
    if not values[first] >= 0:
        return False
    return kind == WIENER or (
        values[first + 1] > 0 and (kind != OSCILLATOR or values[first + 2] > 0)
    )
