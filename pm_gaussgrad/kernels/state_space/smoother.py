r"""What observations say from both sides: inverse diagonals, smoothed variances, products.

With b_t of :mod:`pm_gaussgrad.kernels.state_space.filter`, of which N_t is the variance,

    diag(Sigma^-1)_t = w_t + w_t^2 k_t' N_t k_t,
    N_{t-1} = Phi_t' ((I - w_t h k_t') N_t (I - w_t k_t h') + w_t h h') Phi_t,

and of an entry that is not observed, w_t = 0, the variance given all others is, but for its noise,
h' k_t - k_t' N_t k_t. Products with Sigma take a sweep in each direction of time, with the gains
K_t that nothing explains,

    (Sigma r)_t = s_t r_t + h' (p_t + K_t r_t) + K_t' q_t,
    p_t = Phi_t (p_{t-1} + K_{t-1} r_{t-1}),    q_t = Phi_{t+1}' (q_{t+1} + h r_{t+1}).

Sources: de Jong (1989), Smoothing and interpolation with the state-space model, JASA 84, 1085-1088,
eqs. 5 to 9; Foreman-Mackey et al. (2017), AJ 154:220, section 5.
"""

import numpy as np

from pm_gaussgrad.kernels.state_space.filter import add_symmetric, gains, spread
from pm_gaussgrad.kernels.state_space.layout import lower_places, observed, places
from pm_gaussgrad.kernels.state_space.transitions import starts, transitions


def whiten(
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
    states,
    entries,
    steered,
):
    """Innovations in units of their standard deviations: (m, n) -> (m, n)."""
    layout, index = (ones, twos, threes, rest), (times, origin, order, ends, kinds)
    phi, track, _ = gains(index, layout, (states, entries, steered), values, noise)
    white = np.empty_like(rows)
    _through(rows, white, True, order, layout, states, phi, track)
    return (white,)


def color(
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
    states,
    entries,
    steered,
):
    """The inverse of :func:`whiten`."""
    layout, index = (ones, twos, threes, rest), (times, origin, order, ends, kinds)
    phi, track, _ = gains(index, layout, (states, entries, steered), values, noise)
    drawn = np.empty_like(rows)
    _through(rows, drawn, False, order, layout, states, phi, track)
    return (drawn,)


def _through(rows, result, whitens, order, layout, states, phi, track):
    """Rows to innovations, in units of their standard deviations, or back."""
    last, h = track.shape[1] - 1 - states, observed(*layout, states)
    row, column = places(*layout, phi.shape[1])
    mean, ahead = np.zeros(states), np.zeros(states)
    for r in range(rows.shape[0]):
        for t in range(order.size):
            for i in range(states):
                ahead[i] = 0.0
            for e in range(row.size):
                ahead[row[e]] += phi[t, e] * mean[column[e]]
            weight, entry, expected = track[t, last + states], rows[r, order[t]], 0.0
            for i in range(states):
                expected += h[i] * ahead[i]
            scale = np.sqrt(weight)
            z = entry - expected if whitens else entry / scale
            result[r, order[t]] = z * scale if whitens else z + expected
            for i in range(states):
                mean[i] = ahead[i] + track[t, last + i] * weight * z


def log_scales(
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
    states,
    entries,
    steered,
):
    """Logarithms of the standard deviations of the innovations, for each of any rows."""
    layout, index = (ones, twos, threes, rest), (times, origin, order, ends, kinds)
    _, track, _ = gains(index, layout, (states, entries, steered), values, noise)
    logs = np.empty_like(rows)
    for r in range(rows.shape[0]):
        for t in range(order.size):
            logs[r, order[t]] = -np.log(track[t, track.shape[1] - 1]) / 2
    return (logs,)


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
    states,
    entries,
    steered,
):
    """diag(Sigma^-1), for each of any rows."""
    layout, index = (ones, twos, threes, rest), (times, origin, order, ends, kinds)
    phi, track, _ = gains(index, layout, (states, entries, steered), values, noise)
    return (_backwards(rows, False, order, layout, states, phi, track),)


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
    states,
    entries,
    steered,
):
    """Variances of entries given all that have a finite noise, for each of any rows.

    Of entries whose noise is infinite, which observe nothing: the variance without noise.
    """
    layout, index = (ones, twos, threes, rest), (times, origin, order, ends, kinds)
    phi, track, _ = gains(index, layout, (states, entries, steered), values, noise)
    return (_backwards(rows, True, order, layout, states, phi, track),)


def _backwards(rows, smooths, order, layout, states, phi, track):
    """Smoothed variances, or the diagonal of the inverse, for each of any rows."""
    last, h, result = track.shape[1] - 1 - states, observed(*layout, states), np.empty_like(rows)
    row, column = places(*layout, phi.shape[1])
    full, half = np.zeros((states, states)), np.zeros((states, states))
    later, inner, pulled = np.zeros((states, states)), np.zeros((states, states)), np.zeros(states)
    for t in range(order.size - 1, -1, -1):
        for e in range(row.size):
            full[column[e], row[e]] = phi[t, e]
        weight, explained, total = track[t, last + states], 0.0, 0.0
        for i in range(states):
            pulled[i] = 0.0
            for j in range(states):
                pulled[i] += later[i, j] * track[t, last + j]
            explained += pulled[i] * track[t, last + i]
            total += h[i] * track[t, last + i]
        entry = weight + weight * (weight * explained)
        for r in range(rows.shape[0]):
            result[r, order[t]] = total - explained if smooths else entry
        for i in range(states):
            for j in range(states):
                both = h[i] * pulled[j] + pulled[i] * h[j]
                inner[i, j] = later[i, j] - weight * both + entry * h[i] * h[j]
        spread(states, full, inner, half, later)
    return result


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
    states,
    entries,
    steered,
):
    """Sigma r, of each row: (m, n) -> (m, n)."""
    layout = ones, twos, threes, rest
    n, product, h = order.size, np.empty_like(rows), observed(*layout, states)
    phi, driven = np.zeros((n, entries), values.dtype), np.zeros((n, steered), values.dtype)
    transitions(times, origin, order, ends, kinds, *layout, values, phi, driven)
    g, gain = np.zeros((values.shape[0], states)), np.empty((n, states))
    starts(kinds, layout, values, g)
    _unexplained(phi, driven, g, h, ends, layout, gain)
    row, column = places(*layout, entries)
    state, ahead = np.zeros(states), np.zeros(states)
    for r in range(rows.shape[0]):
        state[:] = 0
        for t in range(n):
            ahead[:] = 0
            for e in range(entries):
                ahead[row[e]] += phi[t, e] * state[column[e]]
            entry = rows[r, order[t]]
            total = noise[order[t] if noise.size > 1 else 0] * entry
            for i in range(states):
                state[i] = ahead[i] + gain[t, i] * entry
                total += h[i] * state[i]
            product[r, order[t]] = total
        state[:] = 0
        for t in range(n - 1, -1, -1):
            ahead[:] = 0
            for i in range(states):
                product[r, order[t]] += gain[t, i] * state[i]
                state[i] += h[i] * rows[r, order[t]]
            for e in range(entries):
                ahead[column[e]] += phi[t, e] * state[row[e]]
            for i in range(states):
                state[i] = ahead[i]
    return (product,)


def _unexplained(phi, driven, g, h, ends, layout, gain):
    """Fills Cov(x_t, y_t) of each observation, in order of time."""
    states = h.size
    row, column = places(*layout, phi.shape[1])
    lower_row, lower_column = lower_places(*layout, driven.shape[1])
    full, half = np.zeros((states, states)), np.zeros((states, states))
    before, after = np.zeros((states, states)), np.zeros((states, states))
    begin = 0
    for group in range(ends.size):
        own = group if g.shape[0] > 1 else 0
        for t in range(begin, ends[group]):
            for e in range(row.size):
                full[row[e], column[e]] = phi[t, e]
            spread(states, full, after, half, before)
            for e in range(lower_row.size):
                add_symmetric(driven[t, e], lower_row[e], lower_column[e], before)
            for i in range(states):
                gain[t, i] = g[own, i]
                for j in range(states):
                    gain[t, i] += before[i, j] * h[j]
                    after[i, j] = before[i, j]
        begin = ends[group]
