"""The reverse sweep for the variances, of :mod:`pm_gaussgrad.kernels.state_space.filter`."""

import numpy as np

from pm_gaussgrad.kernels.state_space.layout import (
    add_outer,
    add_seen,
    forecast,
    n_states,
    pull_forecast,
    pull_spread,
    seen,
)
from pm_gaussgrad.kernels.state_space.transitions import pull_starts, pull_transitions


def pullback(
    residual,
    times,
    origin,
    values,
    noise,
    kinds,
    order,
    ends,
    alpha,
    means,
    phi,
    track,
    quad_bar,
    logdet_bar,
    ones,
    twos,
    threes,
    rest,
    steered,
):
    """Cotangents of the parameters of processes, and of the noise."""
    layout = ones, twos, threes, rest
    n, entries = phi.shape
    phi_bar, driven_bar = np.zeros((n, entries), phi.dtype), np.zeros((n, steered), phi.dtype)
    values_bar, noise_bar = np.zeros(values.shape, phi.dtype), np.zeros(noise.size, phi.dtype)
    g_bar = np.zeros((values.shape[0], n_states(layout)), phi.dtype)
    bars = phi_bar, driven_bar, g_bar, noise_bar
    rows = residual, alpha, means, quad_bar, logdet_bar
    _sweep(rows, order, ends, layout, phi, track, bars)
    pull_starts(kinds, layout, g_bar, values_bar)
    pull_transitions(
        times,
        origin,
        order,
        ends,
        kinds,
        ones,
        twos,
        threes,
        rest,
        values,
        phi,
        phi_bar,
        driven_bar,
        values_bar,
    )
    return values_bar, noise_bar


def _sweep(rows, order, ends, layout, phi, track, bars):
    """Fills the cotangents of transitions and of what drives them; adds those of g and noise."""
    residual, alpha, means, quad_bar, logdet_bar = rows
    phi_bar, driven_bar, g_bar, noise_bar = bars
    states = n_states(layout)
    last, n = states * (states + 1) // 2, order.size
    variance_bar, spread_bar = np.zeros((states, states)), np.zeros((states, states))
    variance, half = np.zeros((states, states)), np.zeros((states, states))
    gain_bar, ahead, nothing = np.zeros(states), np.zeros(states), np.zeros(states)
    of_means, own, end = np.zeros((residual.shape[0], states)), np.zeros(states), n
    for group in range(ends.size - 1, -1, -1):
        begin = ends[group - 1] if group > 0 else 0
        for t in range(end - 1, begin - 1, -1):
            gain, weight = track[t, last : last + states], track[t, last + states]
            weight_bar = -logdet_bar / weight
            for i in range(states):
                total = 0.0
                for j in range(states):
                    total += variance_bar[i, j] * gain[j]
                gain_bar[i] = -2 * weight * total
                weight_bar -= total * gain[i]
            for row in range(residual.shape[0]):
                before, of_mean = means[row, t - 1] if t > begin else nothing, of_means[row]
                forecast(phi[t], layout, before, ahead)
                z, double = residual[row, order[t]] - seen(layout, ahead), 2 * quad_bar[row]
                reach = z / 2
                for i in range(states):
                    gain_bar[i] += double * weight * z * of_mean[i]
                    reach += of_mean[i] * gain[i]
                    own[i] = of_mean[i]
                weight_bar += double * z * reach
                add_seen(layout, -alpha[row, order[t]], own)
                add_outer(layout, own, before, double, phi_bar[t])
                pull_forecast(phi[t], layout, own, of_mean)
            total_bar = -weight * weight * weight_bar
            noise_bar[order[t] if noise_bar.size > 1 else 0] += total_bar
            add_seen(layout, total_bar, gain_bar)
            for i in range(states):
                g_bar[group if g_bar.shape[0] > 1 else 0, i] += gain_bar[i]
            _pull_gain(layout, variance_bar, gain_bar, spread_bar)
            _keep_driven(spread_bar, layout, driven_bar[t])
            if t > begin:
                _whole(track[t - 1], variance)
                target = variance_bar, phi_bar[t]
                pull_spread(phi[t], layout, variance, spread_bar, half, *target)
            else:
                variance_bar[:] = 0
        end = begin


def _pull_gain(layout, variance_bar, gain_bar, spread_bar):
    """S = A + (k_bar 1' + 1 k_bar') / 2."""
    states = gain_bar.size
    for i in range(states):
        for j in range(states):
            spread_bar[i, j] = variance_bar[i, j]
    for i in range(states):
        add_seen(layout, gain_bar[i] / 2, spread_bar[i])
        add_seen(layout, gain_bar[i] / 2, spread_bar[:, i])


def _whole(packed, matrix):
    """A symmetric matrix from its lower triangle by rows."""
    at = 0
    for i in range(matrix.shape[0]):
        for j in range(i + 1):
            matrix[i, j], matrix[j, i] = packed[at], packed[at]
            at += 1


def _keep_driven(spread_bar, layout, driven_bar):
    """The cotangents of R_t, of entries below the diagonal for both."""
    ones, twos, threes, _ = layout
    for k in range(ones):
        driven_bar[k] = spread_bar[k, k]
    if driven_bar.size > ones:
        at, lo = ones, ones
        for k in range(twos):
            _keep_block(spread_bar, lo + 2 * k, 2, driven_bar, at + 3 * k)
        at, lo = at + 3 * twos, lo + 2 * twos
        for k in range(threes):
            _keep_block(spread_bar, lo + 3 * k, 3, driven_bar, at + 6 * k)


def _keep_block(spread_bar, lo, size, driven_bar, at):
    for i in range(size):
        for j in range(i):
            driven_bar[at + j] = 2 * spread_bar[lo + i, lo + j]
        driven_bar[at + i] = spread_bar[lo + i, lo + i]
        at += i + 1
