r"""What observations say from both sides: inverse diagonals, smoothed variances, products.

With b_t of :mod:`pm_gaussgrad.kernels.state_space.filter`, of which N_t is the variance,

    diag(Sigma^-1)_t = w_t + w_t^2 k_t' N_t k_t,
    N_{t-1} = Phi_t' ((I - w_t 1 k_t') N_t (I - w_t k_t 1') + w_t 1 1') Phi_t,

and of an entry that is not observed, w_t = 0, the variance given all others is, but for its noise,
1' k_t - k_t' N_t k_t. Products with Sigma take a sweep in each direction of time, with the gains
K_t that nothing explains,

    (Sigma r)_t = s_t r_t + 1' (p_t + K_t r_t) + K_t' q_t,
    p_t = Phi_t (p_{t-1} + K_{t-1} r_{t-1}),    q_t = Phi_{t+1}' (q_{t+1} + 1 r_{t+1}).

Sources: de Jong (1989), Smoothing and interpolation with the state-space model, JASA 84, 1085-1088,
eqs. 5 to 9; Foreman-Mackey et al. (2017), AJ 154:220, section 5.
"""

import numpy as np

from pm_gaussgrad.kernels.state_space.filter import add_driven, gains, width
from pm_gaussgrad.kernels.state_space.layout import (
    add_seen,
    forecast,
    n_states,
    pull_forecast,
    seen,
    spread,
)
from pm_gaussgrad.kernels.state_space.transitions import starts, transitions


def inverse_diagonal(
    rows,
    times,
    origin,
    values,
    noise,
    kinds,
    order,
    ends,
    ones,
    twos,
    threes,
    rest,
    entries,
    steered,
):
    """diag(Sigma^-1), for each of any rows."""
    layout, index = (ones, twos, threes, rest), (times, origin, order, ends, kinds)
    phi, track, _ = gains(index, layout, entries, steered, values, noise)
    states, diagonal = n_states(layout), np.empty_like(rows)
    last = width(states) - 1 - states
    later, inner = np.zeros((states, states)), np.zeros((states, states))
    half, gain, pulled = np.zeros((states, states)), np.zeros(states), np.zeros(states)
    for t in range(order.size - 1, -1, -1):
        weight = track[t, last + states]
        for i in range(states):
            gain[i] = track[t, last + i]
        explained = _pulled(later, gain, pulled)
        entry = weight + weight * weight * explained
        for row in range(rows.shape[0]):
            diagonal[row, order[t]] = entry
        _earlier(phi[t], layout, later, weight, entry, pulled, inner, half)
    return (diagonal,)


def smoothed_variances(
    rows,
    times,
    origin,
    values,
    noise,
    kinds,
    order,
    ends,
    ones,
    twos,
    threes,
    rest,
    entries,
    steered,
):
    """Variances of entries given all that have a finite noise, for each of any rows.

    Of entries whose noise is infinite, which observe nothing: the variance without noise.
    """
    layout, index = (ones, twos, threes, rest), (times, origin, order, ends, kinds)
    phi, track, _ = gains(index, layout, entries, steered, values, noise)
    states, variances = n_states(layout), np.empty_like(rows)
    last = width(states) - 1 - states
    later, inner = np.zeros((states, states)), np.zeros((states, states))
    half, gain, pulled = np.zeros((states, states)), np.zeros(states), np.zeros(states)
    for t in range(order.size - 1, -1, -1):
        weight = track[t, last + states]
        for i in range(states):
            gain[i] = track[t, last + i]
        explained = _pulled(later, gain, pulled)
        for row in range(rows.shape[0]):
            variances[row, order[t]] = seen(layout, gain) - explained
        entry = weight + weight * weight * explained
        _earlier(phi[t], layout, later, weight, entry, pulled, inner, half)
    return (variances,)


def _pulled(later, gain, pulled):
    """Fills N k; k' N k."""
    total = 0.0
    for i in range(gain.size):
        pulled[i] = 0.0
        for j in range(gain.size):
            pulled[i] += later[i, j] * gain[j]
        total += gain[i] * pulled[i]
    return total


def _earlier(phi, layout, later, weight, entry, pulled, inner, half):
    """N_{t-1} in place of N_t; ``entry`` is w + w^2 k' N k."""
    states = pulled.size
    for i in range(states):
        for j in range(states):
            inner[i, j] = later[i, j]
    for i in range(states):
        add_seen(layout, -weight * pulled[i], inner[i])
        add_seen(layout, -weight * pulled[i], inner[:, i])
    _add_to_seen(layout, entry, inner)
    for i in range(states):
        pull_forecast(phi, layout, inner[i], half[i])
    for j in range(states):
        pull_forecast(phi, layout, half[:, j], later[j])


def _add_to_seen(layout, number, matrix):
    """Adds c 1 1'."""
    ones, twos, threes, rest = layout
    for k in range(ones):
        add_seen(layout, number, matrix[k])
    for k in range(twos):
        add_seen(layout, number, matrix[ones + 2 * k])
    for k in range(threes):
        add_seen(layout, number, matrix[ones + 2 * twos + 3 * k])
    if rest > 0:
        add_seen(layout, number, matrix[ones + 2 * twos + 3 * threes])


def products(
    rows,
    times,
    origin,
    values,
    noise,
    kinds,
    order,
    ends,
    ones,
    twos,
    threes,
    rest,
    entries,
    steered,
):
    """Sigma r, of each row: (m, n) -> (m, n)."""
    layout, states = (ones, twos, threes, rest), n_states((ones, twos, threes, rest))
    n, product = order.size, np.empty_like(rows)
    phi, driven = np.zeros((n, entries), values.dtype), np.zeros((n, steered), values.dtype)
    transitions(times, origin, order, ends, kinds, ones, twos, threes, rest, values, phi, driven)
    gain = np.empty((n, states))
    _unexplained(phi, driven, values, kinds, ends, layout, gain)
    state, ahead = np.zeros(states), np.zeros(states)
    for row in range(rows.shape[0]):
        state[:] = 0
        for t in range(n):
            forecast(phi[t], layout, state, ahead)
            entry = rows[row, order[t]]
            for i in range(states):
                state[i] = ahead[i] + gain[t, i] * entry
            own = noise[order[t] if noise.size > 1 else 0]
            product[row, order[t]] = own * entry + seen(layout, state)
        state[:] = 0
        for t in range(n - 1, -1, -1):
            for i in range(states):
                product[row, order[t]] += gain[t, i] * state[i]
            add_seen(layout, rows[row, order[t]], state)
            pull_forecast(phi[t], layout, state, ahead)
            for i in range(states):
                state[i] = ahead[i]
    return (product,)


def _unexplained(phi, driven, values, kinds, ends, layout, gain):
    """Fills Cov(x_t, y_t) of each observation, in order of time."""
    states = n_states(layout)
    g = np.zeros((values.shape[0], states))
    starts(kinds, layout, values, g)
    before, after = np.zeros((states, states)), np.zeros((states, states))
    half, begin = np.zeros((states, states)), 0
    for group in range(ends.size):
        for t in range(begin, ends[group]):
            spread(phi[t], layout, after, half, before)
            add_driven(driven[t], layout, before)
            for i in range(states):
                gain[t, i] = g[group if g.shape[0] > 1 else 0, i] + seen(layout, before[i])
                for j in range(states):
                    after[i, j] = before[i, j]
        begin = ends[group]
