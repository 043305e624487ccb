"""The reverse sweep for the variances, of :mod:`pm_gaussgrad.kernels.state_space.filter`."""

import numpy as np

from pm_gaussgrad.kernels.apart import in_place
from pm_gaussgrad.kernels.state_space.filter import (
    as_weights,
    forecast,
    load,
    observe,
    pull_forecast,
)
from pm_gaussgrad.kernels.state_space.transitions import pull_starts, pull_transitions

# Observations whose cotangents are held at once: their memory stays in the cache.
WINDOW = 256


def pullback(
    residual,
    times,
    origin,
    values,
    noise,
    blocks,
    entry,
    lower,
    seen,
    order,
    ends,
    alpha,
    means,
    phi,
    track,
    quad_bar,
    logdet_bar,
    states,
    entries,
):
    """Cotangents of the parameters of processes, and of the noise."""
    dtype, some = quad_bar.dtype, min(WINDOW, order.size)
    values_bar, noise_bar = np.zeros(values.shape, dtype), np.zeros(noise.size, dtype)
    g_bar = np.zeros((values.shape[0], states), phi.dtype)
    steps = np.empty((some, phi.shape[1]), phi.dtype), np.empty((some, lower.shape[0]), phi.dtype)
    rows, places = (residual, alpha, means), (entry, lower, as_weights(seen))
    index, bars = (
        (times, origin, order, ends, blocks, values),
        (*steps, g_bar, noise_bar, values_bar),
    )
    _sweep(rows, quad_bar, logdet_bar, index, states, entries, places, phi, track, bars)
    pull_starts(blocks, g_bar, values_bar)
    return values_bar, noise_bar


@in_place
def _sweep(rows, quad_bar, logdet_bar, index, states, entries, places, phi, track, bars):
    """Adds the cotangents of parameters that come through transitions, those of g and noise."""
    (_, _, order, ends, _, _), (entry, lower, h) = index, places
    phi_bar, driven_bar, g_bar, noise_bar, values_bar = bars
    alone = entries == states * states
    full, slope = np.zeros((states, states)), np.zeros((states, states))
    state_bar, inner = np.zeros((states, states)), np.zeros((states, states))
    variance, half = np.zeros((states, states)), np.zeros((states, states))
    gain_bar, spare = np.zeros(states), np.zeros(states)
    of_means = np.zeros((quad_bar.size, states))
    last, end, stop = states * (states + 1) // 2, order.size, order.size
    for group in range(ends.size - 1, -1, -1):
        begin, own = ends[group - 1] if group > 0 else 0, group if g_bar.shape[0] > 1 else 0
        for t in range(end - 1, begin - 1, -1):
            start = max(0, stop - WINDOW)
            at = t - start
            load(phi, t, entry, states, alone, full)
            weight = track[t, last + states]
            weight_bar = -logdet_bar / weight
            for i in range(states):
                total = 0.0
                for j in range(states):
                    total += state_bar[i, j] * track[t, last + j]
                    slope[i, j] = 0.0
                gain_bar[i] = -2 * weight * total
                weight_bar -= total * track[t, last + i]
            given = rows, quad_bar, order[t], t, begin, states, alone, h, full, track
            weight_bar += _pull_rows(*given, of_means, gain_bar, slope, spare)
            total_bar = -weight * (weight * weight_bar)
            noise_bar[order[t] if noise_bar.size > 1 else 0] += total_bar
            _add_observed(total_bar, h, states, alone, gain_bar)
            for i in range(states):
                g_bar[own, i] += gain_bar[i]
            _pull_gain(states, alone, h, gain_bar, state_bar, inner)
            for e in range(lower.shape[0]):
                i, j = lower[e, 0], lower[e, 1]
                driven_bar[at, e] = inner[i, j] if i == j else 2 * inner[i, j]
            _pull_spread(states, alone, full, inner, half, state_bar)
            _unpack(states, track, t - 1 if t > begin else -1, variance)
            _store(slope, half, variance, entry, states, alone, phi_bar, at)
            if t == start:
                pull_transitions(*index, phi, phi_bar, driven_bar, values_bar, group, start, stop)
                stop = start
        end = begin


@in_place
def _pull_rows(
    rows,
    quad_bar,
    position,
    t,
    begin,
    states,
    alone,
    h,
    full,
    track,
    of_means,
    gain_bar,
    slope,
    own,
):
    """What rows add to the cotangents of k, Phi and w; those of their means become a step older."""
    residual, alpha, means = rows
    last, weight_bar = states * (states + 1) // 2, 0.0
    weight = track[t, last + states]
    for r in range(quad_bar.size):
        z, reach, double = residual[r, position], 0.0, 2 * quad_bar[r]
        if t > begin:
            forecast(states, full, means[r, t - 1], own)
            z -= observe(own, h, states, alone)
        scaled = double * weight * z
        for i in range(states):
            reach += of_means[r, i] * track[t, last + i]
            gain_bar[i] += scaled * of_means[r, i]
        weight_bar += double * z * (reach + z / 2)
        pull_forecast(states, alone, full, h, alpha[r, position], own, of_means[r])
        for i in range(states if t > begin else 0):
            for j in range(states):
                slope[i, j] += double * own[i] * means[r, t - 1, j]
    return weight_bar


@in_place
def _pull_gain(states, alone, h, gain_bar, state_bar, inner):
    """S = A + (k_bar h' + h k_bar') / 2."""
    for i in range(states):
        for j in range(states):
            both = 0.0 if alone else gain_bar[i] * h[j] + h[i] * gain_bar[j]
            inner[i, j] = state_bar[i, j] + both / 2
    if alone:
        for i in range(states):
            inner[i, 0] += gain_bar[i] / 2
            inner[0, i] += gain_bar[i] / 2


@in_place
def _store(slope, half, variance, entry, states, alone, phi_bar, at):
    """Fills Phi_bar, twice S Phi X added to its slope, of a step."""
    if alone:
        for i in range(states):
            for j in range(states):
                total = slope[i, j] + 2 * _row_product(half[i], variance[j], states)
                phi_bar[at, states * i + j] = total
    else:
        for e in range(entry.shape[0]):
            i, j = entry[e, 0], entry[e, 1]
            phi_bar[at, e] = slope[i, j] + 2 * _row_product(half[i], variance[j], states)


@in_place
def _row_product(left, right, states):
    """Dot product of two rows of matrices."""
    total = 0.0
    for i in range(states):
        total += left[i] * right[i]
    return total


@in_place
def _add_observed(number, h, states, alone, state):
    """Adds c h."""
    if alone:
        state[0] += number
    else:
        for i in range(states):
            state[i] += number * h[i]


@in_place
def _pull_spread(states, alone, full, inner, half, result):
    """S Phi and Phi' S Phi of a symmetric matrix."""
    for i in range(states):
        for j in range(states):
            half[i, j] = 0.0
            result[i, j] = 0.0
    for k in range(states):
        for j in range(states):
            factor = full[k, j]
            if alone or factor != 0:
                for i in range(states):
                    half[i, j] += inner[k, i] * factor
    for i in range(states):
        for k in range(states):
            factor = full[i, k]
            if alone or factor != 0:
                for j in range(states):
                    result[k, j] += factor * half[i, j]


@in_place
def _unpack(states, track, before, matrix):
    """A symmetric matrix from its lower triangle by rows; zero where nothing was before."""
    at = 0
    for i in range(states):
        for j in range(i + 1):
            value = track[before, at] if before >= 0 else 0.0
            matrix[i, j], matrix[j, i] = value, value
            at += 1
