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

from pm_gaussgrad.kernels.state_space.linear import linear, pull_linear
from pm_gaussgrad.kernels.state_space.oscillator import oscillator, pull_oscillator

EXPONENTIAL, MATERN_3_2, MATERN_5_2, OSCILLATOR, WAVE, WIENER, LINEAR = range(7)


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


def block_size(ones, twos, threes, rest, k):
    """States of the k-th process, of a layout."""
    if k < ones:
        return 1
    return 2 if k < ones + twos else 3 if k < ones + twos + threes else rest


def start(kind, size, values, at, g, lo):
    """g of a process, Cov(x_t, y_t); zero of one that is driven."""
    for i in range(size):
        g[lo + i] = 0.0
    if kind in (MATERN_3_2, OSCILLATOR, MATERN_5_2):
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
    if kind in (MATERN_3_2, OSCILLATOR, MATERN_5_2):
        values_bar[at] += g_bar[lo]
    if kind == MATERN_5_2:
        values_bar[at] -= g_bar[lo + 2] / 3
    if kind == WAVE:
        values_bar[at] += g_bar[lo]
        values_bar[at + 1] += g_bar[lo + 1]
    if kind == LINEAR:
        for i in range(size):
            values_bar[at + size * size + i] += g_bar[lo + i]


def transition(kind, size, values, first, step, phi, at):
    """Writes Phi of a step, by rows from ``at``; the parameters begin at ``first``."""
    if kind == EXPONENTIAL:
        phi[at] = np.exp(-values[first + 1] * step)
    elif kind == MATERN_3_2:
        u = values[first + 1] * step
        decay = np.exp(-u)
        phi[at], phi[at + 1] = decay * (1 + u), decay * u
        phi[at + 2], phi[at + 3] = -decay * u, decay * (1 - u)
    elif kind == MATERN_5_2:
        _matern_5_2(values[first + 1] * step, phi, at)
    elif kind == OSCILLATOR:
        oscillator(values[first + 1], values[first + 2], step, phi, at)
    elif kind == WAVE:
        decay, angle = np.exp(-values[first + 2] * step), values[first + 3] * step
        phi[at], phi[at + 1] = decay * np.cos(angle), decay * np.sin(angle)
        phi[at + 2], phi[at + 3] = -phi[at + 1], phi[at]
    elif kind == WIENER:
        for i in range(size):
            power = 1.0
            for j in range(size):
                phi[at + size * i + j] = power if j >= i else 0.0
                power *= step / (j - i + 1) if j >= i else 1.0
    else:
        linear(size, values, first, step, phi, at)


def pull_transition(kind, size, values, first, step, phi, phi_bar, at, values_bar):
    """Adds the cotangents of the parameters that come through Phi."""
    if kind == EXPONENTIAL:
        values_bar[first + 1] -= step * phi[at] * phi_bar[at]
    elif kind == MATERN_3_2:
        # d Phi / d u = [[0, 1], [-1, -2]] Phi, and of the first column -Phi_12, the second below it
        decay, off = phi[at] - phi[at + 1], phi[at + 1]
        slope = (phi_bar[at + 1] - phi_bar[at + 2]) * (decay - off)
        slope -= phi_bar[at] * off + phi_bar[at + 3] * (phi[at + 3] + decay)
        values_bar[first + 1] += step * slope
    elif kind == MATERN_5_2:
        values_bar[first + 1] += step * _matern_5_2_slope(phi, phi_bar, at)
    elif kind == OSCILLATOR:
        bars = pull_oscillator(values[first + 1], values[first + 2], step, phi, phi_bar, at)
        values_bar[first + 1] += bars[0]
        values_bar[first + 2] += bars[1]
    elif kind == WAVE:
        even, odd = phi_bar[at] + phi_bar[at + 3], phi_bar[at + 1] - phi_bar[at + 2]
        values_bar[first + 2] -= step * (even * phi[at] + odd * phi[at + 1])
        values_bar[first + 3] += step * (odd * phi[at] - even * phi[at + 1])
    elif kind == LINEAR:
        pull_linear(size, values, first, step, phi_bar, at, values_bar)


def drive(kind, size, values, first, step, begins, driven, at):
    """Writes R of a step, by rows of its lower triangle; zero of a process that is stationary.

    Where a group ``begins`` it is the variance of the state itself, for a Wiener process after the
    time from its origin.
    """
    if kind == EXPONENTIAL:
        share = 1.0 if begins else -np.expm1(-2 * values[first + 1] * step)
        driven[at] = values[first] * share
        return
    for i in range(size):
        for j in range(i + 1):
            walk = values[first] * _spread_of_walk(size, i, j, step) if kind == WIENER else 0.0
            driven[at] = walk
            at += 1


def pull_drive(kind, size, values, first, step, begins, driven_bar, at, values_bar):
    """Adds the cotangents of the parameters that come through R."""
    if kind == EXPONENTIAL:
        slow = -2 * values[first + 1] * step
        values_bar[first] += driven_bar[at] * (1.0 if begins else -np.expm1(slow))
        if not begins:
            values_bar[first + 1] += driven_bar[at] * values[first] * 2 * step * np.exp(slow)
    elif kind == WIENER:
        for i in range(size):
            for j in range(i + 1):
                values_bar[first] += driven_bar[at] * _spread_of_walk(size, i, j, step)
                at += 1


def _spread_of_walk(size, i, j, step):
    """Int_0^step s^(size - 1 - i) s^(size - 1 - j) / ((size - 1 - i)! (size - 1 - j)!) ds."""
    power, left = step, 2 * size - 1 - i - j
    for _ in range(left - 1):
        power *= step
    return power / (left * _factorial(size - 1 - i) * _factorial(size - 1 - j))


def _factorial(k):
    return 2.0 if k == 2 else 1.0


def _matern_5_2(u, phi, at):
    """exp(-u) (I + N u + N^2 u^2 / 2), N = [[1, 1, 0], [0, 1, 1], [-1, -3, -2]]."""
    decay, half = np.exp(-u), u * u / 2
    phi[at], phi[at + 1], phi[at + 2] = decay * (1 + u + half), decay * (u + 2 * half), decay * half
    phi[at + 3], phi[at + 4] = -decay * half, decay * (1 + u - 2 * half)
    phi[at + 5] = decay * (u - half)
    phi[at + 6], phi[at + 7] = decay * (half - u), decay * (2 * half - 3 * u)
    phi[at + 8] = decay * (1 - 2 * u + half)


def _matern_5_2_slope(phi, phi_bar, at):
    """<Phi_bar, d Phi / d u>, d Phi / d u = [[0, 1, 0], [0, 0, 1], [-1, -3, -3]] Phi."""
    total = 0.0
    for j in range(at, at + 3):
        last = -phi[j] - 3 * phi[j + 3] - 3 * phi[j + 6]
        total += phi_bar[j] * phi[j + 3] + phi_bar[j + 3] * phi[j + 6] + phi_bar[j + 6] * last
    return total


def is_process(kind, values, first):
    """Whether parameters are those of a process: variances not negative, rates positive.

    Of a wave that grows and of a linear system what makes no covariance shows in the filter.
    """
    if kind == LINEAR:
        return True
    if kind == WAVE:
        return values[first + 2] >= 0
    if not values[first] >= 0:
        return False
    return kind == WIENER or (
        values[first + 1] > 0 and (kind != OSCILLATOR or values[first + 2] > 0)
    )
