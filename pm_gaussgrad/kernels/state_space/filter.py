r"""Gaussian processes in time with a state of finite size: a filter and its reverse sweep.

y_t = 1' x_t + e_t, where 1' x is the sum of the first states of all blocks (``layout.py``), e_t
noise of variance s_t, and x_t = Phi_t x_{t-1} + u_t in order of time. Of a stationary process the
covariance of the state with what is seen, g, is the same at each time, and Cov(y_i, y_j) = 1' Phi_i
... Phi_{j+1} g for i > j; of one that is driven, from a known state, it is the variance R_t of u_t
that is known. With X_t what is known of the state, less what was at first (minus the variance that
observations have explained, where all is stationary),

    X- = Phi_t X_{t-1} Phi_t' + R_t,    k_t = g + X- 1,    d_t = 1' k_t + s_t,    w_t = 1 / d_t,
    f_t = Phi_t m_{t-1},                z_t = y_t - 1' f_t,
    m_t = f_t + k_t w_t z_t,            X_t = X- - k_t k_t' w_t,
    quad = sum_t w_t z_t^2,             logdet = sum_t log d_t.

Where a group begins Phi_t = 0. The reverse sweep, b_t the derivative of quad / 2 with respect to
m_t:

    alpha_t = w_t (z_t + k_t' b_t),     b_{t-1} = Phi_t' (b_t - 1 alpha_t),

and alpha = Sigma^-1 y. For the variances, A_t the derivative with respect to X_t, with q and l the
cotangents of quad and logdet,

    w_bar = q z (z + 2 b'k) - k'A k - l / w,    d_bar = -w^2 w_bar = s_bar,
    k_bar = 2 w (q z b - A k) + 1 d_bar = g_bar,
    S = A + (k_bar 1' + 1 k_bar') / 2 = R_bar,  A_{t-1} = Phi' S Phi,
    Phi_bar = 2 S Phi X_{t-1} + 2 q (b - 1 alpha) m_{t-1}'.

Value and gradient: O(J^2) an observation, J states, and numbers of memory: those of Phi, of X and
k, and the means.

Sources: Kalman (1960), A new approach to linear filtering and prediction problems, eqs. 21 to 25;
Foreman-Mackey, Agol, Ambikasaran and Angus (2017), Fast and scalable Gaussian process modeling with
applications to astronomical time series, AJ 154:220, section 5 (the recursion for what is
explained).
"""

import numpy as np

from pm_gaussgrad.kernels.log_product import log_product
from pm_gaussgrad.kernels.state_space.layout import (
    add_seen,
    forecast,
    n_states,
    pull_forecast,
    seen,
    spread,
)
from pm_gaussgrad.kernels.state_space.transitions import starts, transitions

# Explained to within this of what there is to explain, in units of its rounding: nothing is left.
_ROUNDING = 8 * 2.2e-16


def width(states):
    """Of what is saved of an observation: X by rows of its lower triangle, k, w."""
    return (states + 1) * (states + 2) // 2


def forward(
    residual,
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
    """quad, logdet, alpha, the means m_t, the transitions, and X_t, k_t and w_t."""
    layout, (rows, n) = (ones, twos, threes, rest), residual.shape
    index = times, origin, order, ends, kinds
    phi, track, logdet = gains(index, layout, entries, steered, values, noise)
    quad, alpha = np.zeros(rows, residual.dtype), np.empty((rows, n), residual.dtype)
    means = np.empty((rows, n, n_states(layout)), residual.dtype)
    for i in range(rows):
        quad[i] = _filter_row(residual[i], order, layout, phi, track, means[i])
        _solve_row(residual[i], order, layout, phi, track, means[i], alpha[i])
    return quad, logdet, alpha, means, phi, track


def gains(index, layout, entries, steered, values, noise):
    """The transitions, what is kept of the variances in order of time, and log|Sigma|.

    NaN where Sigma is no covariance.
    """
    times, origin, order, ends, kinds = index
    ones, twos, threes, rest = layout
    n, states = order.size, n_states(layout)
    phi = np.zeros((n, entries), values.dtype)
    track = np.empty((n, width(states)), values.dtype)
    driven = np.zeros((n, steered), values.dtype)
    transitions(times, origin, order, ends, kinds, ones, twos, threes, rest, values, phi, driven)
    first = np.zeros((values.shape[0], states), values.dtype)
    usable = starts(kinds, layout, values, first) and (noise >= 0).all()
    after, before = np.zeros((states, states)), np.zeros((states, states))
    half, last, begin = np.zeros((states, states)), states * (states + 1) // 2, 0
    for group in range(ends.size):
        g = first[group if first.shape[0] > 1 else 0]
        least = _ROUNDING * seen(layout, g)
        for t in range(begin, ends[group]):
            spread(phi[t], layout, after, half, before)
            add_driven(driven[t], layout, before)
            for i in range(states):
                track[t, last + i] = g[i] + seen(layout, before[i])
            total = seen(layout, track[t, last:]) + noise[order[t] if noise.size > 1 else 0]
            weight = 1 / total if total > least else np.nan
            track[t, last + states] = weight
            _explain(before, track[t], last, weight, after)
        begin = ends[group]
    return phi, track, -log_product(track[:, last + states]) if usable else np.nan


def add_driven(driven, layout, matrix):
    """Adds R_t: of blocks of one state, and, where there are any, of two and of three."""
    ones, twos, threes, _ = layout
    for k in range(ones):
        matrix[k, k] += driven[k]
    if driven.size > ones:
        at, lo = ones, ones
        for k in range(twos):
            _add_block(driven, at + 3 * k, lo + 2 * k, 2, matrix)
        at, lo = at + 3 * twos, lo + 2 * twos
        for k in range(threes):
            _add_block(driven, at + 6 * k, lo + 3 * k, 3, matrix)


def _add_block(driven, at, lo, size, matrix):
    for i in range(size):
        for j in range(i):
            matrix[lo + i, lo + j] += driven[at + j]
            matrix[lo + j, lo + i] += driven[at + j]
        matrix[lo + i, lo + i] += driven[at + i]
        at += i + 1


def _explain(before, track, last, weight, after):
    """X_t = X- - k k' w, kept in ``track`` and as a whole matrix."""
    at = 0
    for i in range(before.shape[0]):
        gain = track[last + i] * weight
        for j in range(i + 1):
            value = before[i, j] - gain * track[last + j]
            after[i, j], after[j, i], track[at] = value, value, value
            at += 1


def _filter_row(row, order, layout, phi, track, means):
    """Fills the means of one row, in order of time; its quadratic form."""
    states = n_states(layout)
    quad, last = 0.0, track.shape[1] - 1 - states
    mean, ahead = np.zeros(states), np.zeros(states)
    for t in range(order.size):
        forecast(phi[t], layout, mean, ahead)
        z = row[order[t]] - seen(layout, ahead)
        pull = z * track[t, last + states]
        quad += z * pull
        for i in range(states):
            mean[i] = ahead[i] + track[t, last + i] * pull
            means[t, i] = mean[i]
    return quad


def _solve_row(row, order, layout, phi, track, means, alpha):
    """Fills alpha of one row, in the order of the table."""
    states = n_states(layout)
    last = track.shape[1] - 1 - states
    of_mean, ahead = np.zeros(states), np.zeros(states)
    nothing = np.zeros(states)
    for t in range(order.size - 1, -1, -1):
        forecast(phi[t], layout, means[t - 1] if t > 0 else nothing, ahead)
        total = row[order[t]] - seen(layout, ahead)
        for i in range(states):
            total += track[t, last + i] * of_mean[i]
        solved = total * track[t, last + states]
        alpha[order[t]] = solved
        for i in range(states):
            ahead[i] = of_mean[i]
        add_seen(layout, -solved, ahead)
        pull_forecast(phi[t], layout, ahead, of_mean)


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
    entries,
    steered,
):
    """Innovations in units of their standard deviations: (m, n) -> (m, n)."""
    layout, index = (ones, twos, threes, rest), (times, origin, order, ends, kinds)
    phi, track, _ = gains(index, layout, entries, steered, values, noise)
    states, white = n_states(layout), np.empty_like(rows)
    last, mean, ahead = width(states) - 1 - states, np.zeros(states), np.zeros(states)
    for row in range(rows.shape[0]):
        for t in range(order.size):
            forecast(phi[t], layout, mean, ahead)
            z, weight = rows[row, order[t]] - seen(layout, ahead), track[t, last + states]
            white[row, order[t]] = z * np.sqrt(weight)
            for i in range(states):
                mean[i] = ahead[i] + track[t, last + i] * weight * z
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
    entries,
    steered,
):
    """The inverse of :func:`whiten`."""
    layout, index = (ones, twos, threes, rest), (times, origin, order, ends, kinds)
    phi, track, _ = gains(index, layout, entries, steered, values, noise)
    states, drawn = n_states(layout), np.empty_like(rows)
    last, mean, ahead = width(states) - 1 - states, np.zeros(states), np.zeros(states)
    for row in range(rows.shape[0]):
        for t in range(order.size):
            forecast(phi[t], layout, mean, ahead)
            weight = track[t, last + states]
            z = rows[row, order[t]] / np.sqrt(weight)
            drawn[row, order[t]] = z + seen(layout, ahead)
            for i in range(states):
                mean[i] = ahead[i] + track[t, last + i] * weight * z
    return (drawn,)


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
    entries,
    steered,
):
    """Logarithms of the standard deviations of the innovations, for each of any rows."""
    layout, index = (ones, twos, threes, rest), (times, origin, order, ends, kinds)
    _, track, _ = gains(index, layout, entries, steered, values, noise)
    logs = np.empty_like(rows)
    for row in range(rows.shape[0]):
        for t in range(order.size):
            logs[row, order[t]] = -np.log(track[t, track.shape[1] - 1]) / 2
    return (logs,)
