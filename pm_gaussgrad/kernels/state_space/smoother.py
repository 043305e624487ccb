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

from pm_gaussgrad.kernels.state_space.filter import add_symmetric, as_weights, gains, spread
from pm_gaussgrad.kernels.state_space.transitions import starts, transitions


def whiten(rows, times, origin, values, noise, blocks, entry, lower, seen, order, ends, states):
    """Innovations in units of their standard deviations: (m, n) -> (m, n)."""
    h, index = as_weights(seen), (times, origin, order, ends, blocks)
    places = entry, lower, h
    phi, track, _ = gains(index, places, states, False, values, noise, rows)
    white = np.empty_like(rows)
    _through(rows, white, True, order, entry, h, states, phi, track)
    return (white,)


def color(rows, times, origin, values, noise, blocks, entry, lower, seen, order, ends, states):
    """The inverse of :func:`whiten`."""
    h, index = as_weights(seen), (times, origin, order, ends, blocks)
    places = entry, lower, h
    phi, track, _ = gains(index, places, states, False, values, noise, rows)
    drawn = np.empty_like(rows)
    _through(rows, drawn, False, order, entry, h, states, phi, track)
    return (drawn,)


def _through(rows, result, whitens, order, entry, h, states, phi, track):
    """Rows to innovations, in units of their standard deviations, or back."""
    last = track.shape[1] - 1 - states
    mean, ahead = np.zeros(states), np.zeros(states)
    for r in range(rows.shape[0]):
        for t in range(order.size):
            for i in range(states):
                ahead[i] = 0.0
            for e in range(entry.shape[0]):
                ahead[entry[e, 0]] += phi[t, e] * mean[entry[e, 1]]
            weight, value, expected = track[t, last + states], rows[r, order[t]], 0.0
            for i in range(states):
                expected += h[i] * ahead[i]
            scale = np.sqrt(weight)
            z = value - expected if whitens else value / scale
            result[r, order[t]] = z * scale if whitens else z + expected
            for i in range(states):
                mean[i] = ahead[i] + track[t, last + i] * weight * z


def log_scales(rows, times, origin, values, noise, blocks, entry, lower, seen, order, ends, states):
    """Logarithms of the standard deviations of the innovations, for each of any rows."""
    index, places = (times, origin, order, ends, blocks), (entry, lower, as_weights(seen))
    _, track, _ = gains(index, places, states, False, values, noise, rows)
    logs = np.empty_like(rows)
    for r in range(rows.shape[0]):
        for t in range(order.size):
            logs[r, order[t]] = -np.log(track[t, track.shape[1] - 1]) / 2
    return (logs,)


def inverse_diagonal(
    rows, times, origin, values, noise, blocks, entry, lower, seen, order, ends, states
):
    """diag(Sigma^-1), for each of any rows."""
    h, index = as_weights(seen), (times, origin, order, ends, blocks)
    places = entry, lower, h
    phi, track, _ = gains(index, places, states, False, values, noise, rows)
    return (_backwards(rows, False, order, entry, h, states, phi, track),)


def smoothed_variances(
    rows, times, origin, values, noise, blocks, entry, lower, seen, order, ends, states
):
    """Variances of entries given all that have a finite noise, for each of any rows.

    Of entries whose noise is infinite, which observe nothing: the variance without noise.
    """
    h, index = as_weights(seen), (times, origin, order, ends, blocks)
    places = entry, lower, h
    phi, track, _ = gains(index, places, states, False, values, noise, rows)
    return (_backwards(rows, True, order, entry, h, states, phi, track),)


def _backwards(rows, smooths, order, entry, h, states, phi, track):
    """Smoothed variances, or the diagonal of the inverse, for each of any rows."""
    last, result = track.shape[1] - 1 - states, np.empty_like(rows)
    full, half = np.zeros((states, states)), np.zeros((states, states))
    later, inner, pulled = np.zeros((states, states)), np.zeros((states, states)), np.zeros(states)
    for t in range(order.size - 1, -1, -1):
        for e in range(entry.shape[0]):
            full[entry[e, 1], entry[e, 0]] = phi[t, e]
        weight, explained, total = track[t, last + states], 0.0, 0.0
        for i in range(states):
            pulled[i] = 0.0
            for j in range(states):
                pulled[i] += later[i, j] * track[t, last + j]
            explained += pulled[i] * track[t, last + i]
            total += h[i] * track[t, last + i]
        own = weight + weight * (weight * explained)
        for r in range(rows.shape[0]):
            result[r, order[t]] = total - explained if smooths else own
        for i in range(states):
            for j in range(states):
                both = h[i] * pulled[j] + pulled[i] * h[j]
                inner[i, j] = later[i, j] - weight * both + own * h[i] * h[j]
        spread(states, False, full, inner, half, later)
    return result


def products(rows, times, origin, values, noise, blocks, entry, lower, seen, order, ends, states):
    """Sigma r, of each row: (m, n) -> (m, n)."""
    n, product, h = order.size, np.empty_like(rows), as_weights(seen)
    phi = np.zeros((n, entry.shape[0]), rows.dtype)
    driven = np.zeros((n, lower.shape[0]), rows.dtype)
    transitions(times, origin, order, ends, blocks, values, phi, driven)
    g, gain = np.zeros((values.shape[0], states), rows.dtype), np.empty((n, states))
    starts(blocks, values, g)
    _unexplained(phi, driven, g, h, ends, entry, lower, gain)
    state, ahead = np.zeros(states), np.zeros(states)
    for r in range(rows.shape[0]):
        state[:] = 0
        for t in range(n):
            ahead[:] = 0
            for e in range(entry.shape[0]):
                ahead[entry[e, 0]] += phi[t, e] * state[entry[e, 1]]
            value = rows[r, order[t]]
            total = noise[order[t] if noise.size > 1 else 0] * value
            for i in range(states):
                state[i] = ahead[i] + gain[t, i] * value
                total += h[i] * state[i]
            product[r, order[t]] = total
        state[:] = 0
        for t in range(n - 1, -1, -1):
            ahead[:] = 0
            for i in range(states):
                product[r, order[t]] += gain[t, i] * state[i]
                state[i] += h[i] * rows[r, order[t]]
            for e in range(entry.shape[0]):
                ahead[entry[e, 1]] += phi[t, e] * state[entry[e, 0]]
            for i in range(states):
                state[i] = ahead[i]
    return (product,)


def _unexplained(phi, driven, g, h, ends, entry, lower, gain):
    """Fills Cov(x_t, y_t) of each observation, in order of time."""
    states = h.size
    full, half = np.zeros((states, states)), np.zeros((states, states))
    before, after = np.zeros((states, states)), np.zeros((states, states))
    begin = 0
    for group in range(ends.size):
        own = group if g.shape[0] > 1 else 0
        for t in range(begin, ends[group]):
            for e in range(entry.shape[0]):
                full[entry[e, 0], entry[e, 1]] = phi[t, e]
            spread(states, False, full, after, half, before)
            for e in range(lower.shape[0]):
                add_symmetric(driven[t, e], lower[e, 0], lower[e, 1], before)
            for i in range(states):
                gain[t, i] = g[own, i]
                for j in range(states):
                    gain[t, i] += before[i, j] * h[j]
                    after[i, j] = before[i, j]
        begin = ends[group]
