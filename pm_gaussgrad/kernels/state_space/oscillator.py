r"""The damped oscillator: its transition, smooth through critical damping.

d^2 x / dt^2 + 2 zeta omega dx / dt + omega^2 x is white noise, the state (x, dx / dt / omega), of
variance v I. With u = omega t and D = zeta^2 - 1,

    Phi = E [[C + zeta S, S], [-S, C - zeta S]],   E = exp(-zeta u),   C = cosh(sqrt(D) u),
    S = sinh(sqrt(D) u) / sqrt(D),

cos and sin where D < 0. Both are entire functions of D: dC / dD = u S / 2 and
dS / dD = (u C - S) / (2 D), of which the quotient is a series where D u^2 is small.

Sources: Foreman-Mackey et al. (2017), AJ 154:220, eqs. 19 to 23 (the process); Jones (1981),
Fitting a continuous time autoregression to discrete data, section 3 (the state).
"""

import numpy as np

# |D| u^2 below which C and S are close to their limits, and their quotients are series.
_NEAR = 0.05


def oscillator(frequency, damping, step, phi, at):
    """Writes the transition of a step, by rows from ``at``."""
    u = frequency * step
    cosine, sine = _damped(u, damping)
    phi[at], phi[at + 1] = cosine + damping * sine, sine
    phi[at + 2], phi[at + 3] = -sine, cosine - damping * sine


def _damped(u, damping):
    """E C and E S."""
    distance = (damping - 1) * (damping + 1)
    if distance < 0:
        root = np.sqrt(-distance)
        decay, angle = np.exp(-damping * u), root * u
        return decay * np.cos(angle), decay * (np.sin(angle) / root if root > 0 else u)
    root = np.sqrt(distance)
    # exp(-(zeta - root) u) = exp(-u / (zeta + root)): no digits cancel however strong the damping.
    slow, fast = np.exp(-u / (damping + root)), -np.expm1(-2 * root * u)
    if root == 0:
        return slow, slow * u
    return slow * (1 - fast / 2), slow * fast / (2 * root)


def pull_oscillator(frequency, damping, step, phi, phi_bar, at):
    """Cotangents of frequency and damping."""
    u, sine = frequency * step, phi[at + 1]
    cosine = (phi[at] + phi[at + 3]) / 2
    bar_0, bar_1, bar_2, bar_3 = phi_bar[at], phi_bar[at + 1], phi_bar[at + 2], phi_bar[at + 3]
    # d Phi / d u = [[0, 1], [-1, -2 zeta]] Phi
    lower_0, lower_1 = (
        -phi[at] - 2 * damping * phi[at + 2],
        -phi[at + 1] - 2 * damping * phi[at + 3],
    )
    of_u = bar_0 * phi[at + 2] + bar_1 * phi[at + 3] + bar_2 * lower_0 + bar_3 * lower_1
    slope = damping * _sine_slope(u, (damping - 1) * (damping + 1), cosine, sine)
    diagonal, off = damping * u * sine - u * cosine, slope - u * sine
    tilt = sine + damping * off
    of_damping = bar_0 * (diagonal + tilt) + bar_3 * (diagonal - tilt) + (bar_1 - bar_2) * off
    return of_u * step, of_damping


def _sine_slope(u, distance, cosine, sine):
    """(u E C - E S) / D = 2 E dS / dD."""
    square = distance * u * u
    if np.abs(square) > _NEAR:
        return (u * cosine - sine) / distance
    above = 1 / 45360 + square / 3991680
    above = 1 / 3 + square * (1 / 30 + square * (1 / 840 + square * above))
    below = 1 / 5040 + square * (1 / 362880 + square / 39916800)
    below = 1 + square * (1 / 6 + square * (1 / 120 + square * below))
    return sine * u * u * above / below
