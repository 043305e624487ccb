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

from pm_gaussgrad.kernels.apart import apart

_STEPS = "float64 1", "int64", "int64"

# |D| u^2 below which quotients of differences are series.
_NEAR = 0.05


@apart("float64", "float64", *_STEPS, "float64 2", "int64", result=())
def oscillators(frequency, damping, step, first, stop, phi, at):
    """Writes the transitions of steps from ``first`` to ``stop``, by rows from ``at``."""
    distance = (damping - 1) * (damping + 1)
    root = np.sqrt(np.abs(distance))
    for t in range(first, stop):
        u = frequency * step[t]
        if distance < 0:
            decay, angle = np.exp(-damping * u), root * u
            cosine, sine = decay * np.cos(angle), decay * np.sin(angle) / root
        else:
            # exp(-(z - root) u) = exp(-u / (z + root)): no digits cancel, however damped it is.
            slow, fast = np.exp(-u / (damping + root)), -np.expm1(-2 * root * u)
            cosine = slow * (1 - fast / 2)
            sine = slow * (fast / (2 * root) if root > 0 else u)
        phi[t, at], phi[t, at + 1] = cosine + damping * sine, sine
        phi[t, at + 2], phi[t, at + 3] = -sine, cosine - damping * sine


@apart(
    "float64",
    "float64",
    *_STEPS,
    "float64 2",
    "float64 2",
    "int64",
    result=("float64", "float64"),
)
def pull_oscillators(frequency, damping, step, first, stop, phi, phi_bar, at):
    """Cotangents of frequency and damping."""
    distance, of_frequency, of_damping = (damping - 1) * (damping + 1), 0.0, 0.0
    inverse = 1 / distance if distance != 0 else 0.0
    for t in range(first, stop):
        u, upper, sine, lower = frequency * step[t], phi[t, at], phi[t, at + 1], phi[t, at + 3]
        bar, off_bar = phi_bar[t, at], phi_bar[t, at + 1] - phi_bar[t, at + 2]
        last_bar, cosine = phi_bar[t, at + 3], (upper + lower) / 2
        # d Phi / d u = [[0, 1], [-1, -2 z]] Phi, of which the second column has no new entries.
        of_u = off_bar * lower - bar * sine - last_bar * (sine + 2 * damping * lower)
        of_frequency += of_u * step[t]
        slope = damping * _sine_slope(u, distance, inverse, cosine, sine)
        diagonal, off = damping * u * sine - u * cosine, slope - u * sine
        tilt = sine + damping * off
        of_damping += bar * (diagonal + tilt) + last_bar * (diagonal - tilt) + off_bar * off
    return of_frequency, of_damping


def _sine_slope(u, distance, inverse, cosine, sine):
    """(u E C - E S) / D = 2 E dS / dD; both ways, as a branch that is not foreseen costs more."""
    square = distance * u * u
    above = 1 / 45360 + square / 3991680
    above = 1 / 3 + square * (1 / 30 + square * (1 / 840 + square * above))
    below = 1 / 5040 + square * (1 / 362880 + square / 39916800)
    below = 1 + square * (1 / 6 + square * (1 / 120 + square * below))
    near = sine * (u * u) * (above / below)
    return (u * cosine - sine) * inverse if np.abs(square) > _NEAR else near
