r"""Fisher information of processes in time, of what each observation tells beyond those before it.

With the letters of :mod:`pm_gaussgrad.kernels.state_space.filter`, in which innovations z_t are
independent with variances d_t, and derivatives in p directions a,

    I_ab = sum_t 1/2 w_t^2 (d_a d_t) (d_b d_t) + w_t E[(d_a z_t) (d_b z_t)].

Derivatives of the variances obey the derivative of the filter,

    d_a X- = S + S' + d_a R_t,    S = (d_a Phi X_{t-1} + Phi d_a X_{t-1} / 2) Phi',
    d_a k = d_a g + d_a X- h,     d_a d = h' d_a k + d_a s,    K = k w, d_a K = w (d_a k - K d_a d),
    d_a X = d_a X- - w (d_a k k' + k d_a k') + K K' d_a d.

Those of means are linear in the innovations: with u_a = d_a Phi m_{t-1} + Phi d_a m_{t-1},

    d_a z = -h' u_a,    d_a m_t = u_a - K h' u_a + d_a K z_t,

so that the second moments of m and all d_a m, ((p + 1) J)^2 numbers, are one more recursion. Slopes
of transitions are read off their adjoints, an entry at a time. O(p^2 J^3) an observation, in memory
of p^2 J^2 beside what the filter keeps.

Sources: Cavanaugh and Shumway (1996), On computing the expected Fisher information matrix for
state-space model parameters, Statistics and Probability Letters 26, 347-355, section 2 (the sum
over innovations).
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.state_space.filter import as_weights, gains, load
from pm_gaussgrad.kernels.state_space.processes import (
    EXPONENTIAL,
    WIENER,
    n_values,
    pull_drive,
    pull_fill,
    pull_start,
)


def information(
    tangents, times, origin, values, noise, blocks, entry, lower, seen, order, ends, states
):
    """Of p directions of the processes' parameters and of the noise, (p, c r + s) -> (p, p)."""
    own, variances = np.asarray(values, np.float64), np.asarray(noise, np.float64)
    moves, h = np.asarray(tangents, np.float64), as_weights(seen)
    index, places = (times, origin, order, ends, blocks), (entry, lower, h)
    phi, track, logdet = gains(index, places, states, False, own, variances, own)
    p = moves.shape[0]
    found = np.full((p, p), 0.0 if np.isfinite(logdet) else np.nan)
    phi_dot, driven_dot = np.zeros((p, entry.shape[0])), np.zeros((p, lower.shape[0]))
    start_dot, noise_dot, begin = np.zeros((p, states)), np.zeros(p), 0
    for group in range(ends.size):
        row, end = group if own.shape[0] > 1 else 0, ends[group]
        at, parameters = row * own.shape[1], own[row]
        _start_slopes(blocks, parameters, moves, at, start_dot)
        explained, moment = _nothing_known(p, states)
        for t in range(begin, end):
            step = times[order[t]] - (origin if t == begin else times[order[t - 1]])
            if t < begin + 2 or step != times[order[t - 1]] - times[order[t - 2]]:
                given = blocks, parameters, moves, at, step, int(t == begin)
                _step_slopes(*given, phi[t : t + 1], phi_dot, driven_dot)
            for a in range(p):
                noise_dot[a] = moves[a, own.size + (order[t] if variances.size > 1 else 0)]
            before = track[t - 1] if t > begin else np.zeros(track.shape[1])
            dots = phi_dot, driven_dot, start_dot, noise_dot
            _advance(phi, t, places, dots, before, track[t], explained, moment, found)
        begin = end
    return (found,)


def _nothing_known(p, states):
    """Derivatives of what is explained, and second moments of the means and their derivatives."""
    return np.zeros((p, states, states)), np.zeros(((p + 1) * states, (p + 1) * states))


def _advance(phi, t, places, dots, before, now, explained, moment, found):
    """One observation: adds its information, and moves the derivatives and moments on."""
    entry, lower, h = places
    phi_dot, driven_dot, start_dot, noise_dot = dots
    p, states = start_dot.shape
    full, last = np.zeros((states, states)), now.size - 1 - states
    load(phi, t, entry, states, False, full)
    weight, gain, known = now[last + states], now[last : last + states], np.zeros((states, states))
    for i in range(states):
        for j in range(i + 1):
            known[i, j] = known[j, i] = before[i * (i + 1) // 2 + j]
    full_dot, jump = np.zeros((p, states, states)), np.zeros((p + 1) * states)
    total_dot, gain_dot = np.zeros(p), np.zeros(states)
    for i in range(states):
        jump[i] = gain[i] * weight
    for a in range(p):
        for e in range(entry.shape[0]):
            full_dot[a, entry[e, 0], entry[e, 1]] = phi_dot[a, e]
        _spread_slope(full, full_dot[a], known, lower, driven_dot[a], explained[a])
        total = noise_dot[a]
        for i in range(states):
            gain_dot[i] = start_dot[a, i]
            for j in range(states):
                gain_dot[i] += explained[a, i, j] * h[j]
            total += h[i] * gain_dot[i]
        total_dot[a] = total
        for i in range(states):
            jump[(a + 1) * states + i] = weight * (gain_dot[i] - gain[i] * weight * total)
            for j in range(states):
                both = gain_dot[i] * gain[j] + gain[i] * gain_dot[j]
                explained[a, i, j] -= weight * (both - gain[i] * weight * gain[j] * total)
    _move_moments(full, full_dot, moment)
    for a in range(p):
        for b in range(p):
            means = 0.0
            for i in range(states):
                for j in range(states):
                    pair = moment[(a + 1) * states + i, (b + 1) * states + j]
                    means += h[i] * pair * h[j]
            found[a, b] += weight * (weight * total_dot[a] * total_dot[b] / 2 + means)
    _observe_moments(h, jump, 1 / weight, moment)


def _spread_slope(full, full_dot, known, lower, driven_dot, explained):
    """The derivative of Phi X Phi' + R in place of that of X."""
    states = full.shape[0]
    half, spread = np.zeros((states, states)), np.zeros((states, states))
    for i in range(states):
        for j in range(states):
            for k in range(states):
                half[i, j] += full_dot[i, k] * known[k, j] + full[i, k] * explained[k, j] / 2
    for i in range(states):
        for j in range(states):
            for k in range(states):
                spread[i, j] += half[i, k] * full[j, k]
    for i in range(states):
        for j in range(states):
            explained[i, j] = spread[i, j] + spread[j, i]
    for e in range(lower.shape[0]):
        i, j = lower[e, 0], lower[e, 1]
        explained[i, j] += driven_dot[e]
        if i != j:
            explained[j, i] += driven_dot[e]


def _move_moments(full, full_dot, moment):
    """Second moments of f and all u_a in place of those of m and all d_a m."""
    size = moment.shape[0]
    half, turned = np.zeros((size, size)), np.empty((size, size))
    _move_rows(full, full_dot, moment, half)
    for i in range(size):
        for j in range(size):
            turned[i, j], moment[i, j] = half[j, i], 0.0
    _move_rows(full, full_dot, turned, moment)


def _move_rows(full, full_dot, rows, result):
    """Adds Phi m to the first rows, and d_a Phi m + Phi d_a m to those of each direction."""
    p, states = full_dot.shape[:2]
    for a in range(p + 1):
        for i in range(states):
            to = a * states + i
            for j in range(states):
                if full[i, j] != 0:
                    for c in range(rows.shape[1]):
                        result[to, c] += full[i, j] * rows[a * states + j, c]
                if a > 0 and full_dot[a - 1, i, j] != 0:
                    for c in range(rows.shape[1]):
                        result[to, c] += full_dot[a - 1, i, j] * rows[j, c]


def _observe_moments(h, jump, total, moment):
    """Second moments after an observation: u_a - K h' u_a + d_a K z, z of variance ``total``."""
    states, size = h.size, moment.shape[0]
    for a in range(1, size // states):
        for c in range(size):
            across = 0.0
            for i in range(states):
                across += h[i] * moment[a * states + i, c]
            for i in range(states):
                moment[a * states + i, c] -= jump[i] * across
    for a in range(1, size // states):
        for c in range(size):
            down = 0.0
            for i in range(states):
                down += moment[c, a * states + i] * h[i]
            for i in range(states):
                moment[c, a * states + i] -= down * jump[i]
    for i in range(size):
        for j in range(size):
            moment[i, j] += jump[i] * total * jump[j]


@apart("int64 2", "float64 1", "float64 2", "int64", "float64 2", result=())
def _start_slopes(blocks, values, moves, at, start_dot):
    """Derivatives of g in all directions, in which those of a group's values are from ``at`` on."""
    first, lo, unit = 0, 0, np.zeros(start_dot.shape[1])
    for k in range(blocks.shape[0]):
        kind, size = blocks[k, 0], blocks[k, 1]
        for i in range(lo, lo + size):
            slope = np.zeros(values.size)
            unit[i] = 1.0
            pull_start(kind, size, unit, lo, slope, first)
            unit[i] = 0.0
            _along(slope, moves, at, start_dot, i)
        first, lo = first + n_values(kind, size), lo + size


@apart(
    "int64 2",
    "float64 1",
    "float64 2",
    "int64",
    "float64",
    "int64",
    "float64 2",
    "float64 2",
    "float64 2",
    result=(),
)
def _step_slopes(blocks, values, moves, at, step, begins, phi, phi_dot, driven_dot):
    """Derivatives of the transition of a step, in a row, and of what is added in it."""
    steps, unit, driven = np.zeros(1), np.zeros(phi.shape), np.zeros((1, driven_dot.shape[1]))
    steps[0] = step
    first, to, by = 0, 0, 0
    for k in range(blocks.shape[0]):
        kind, size = blocks[k, 0], blocks[k, 1]
        for e in range(to, to + size * size):
            slope = np.zeros(values.size)
            if begins == 0:
                unit[0, e] = 1.0
                pull_fill(kind, size, values, first, steps, 0, 1, phi, unit, to, slope)
                unit[0, e] = 0.0
            _along(slope, moves, at, phi_dot, e)
        if kind in (EXPONENTIAL, WIENER):
            for e in range(by, by + size * (size + 1) // 2):
                slope, begun = np.zeros(values.size), begins == 1
                driven[0, e] = 1.0
                pull_drive(kind, size, values, first, steps, begun, 0, 1, driven, by, slope)
                driven[0, e] = 0.0
                _along(slope, moves, at, driven_dot, e)
            by += size * (size + 1) // 2
        first, to = first + n_values(kind, size), to + size * size


def _along(slope, moves, at, dots, column):
    """Derivatives in all directions from a slope by the parameters."""
    for a in range(moves.shape[0]):
        total = 0.0
        for i in range(slope.size):
            total += slope[i] * moves[a, at + i]
        dots[a, column] = total
