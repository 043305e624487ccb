r"""Gaussian processes in time with a state of finite size: a filter and its reverse sweep.

y_t = h' x_t + e_t, where h' x is the sum of the first states of all processes, e_t
noise of variance s_t, and x_t = Phi_t x_{t-1} + u_t in order of time. Of a stationary process the
covariance of the state with what is seen, g, is the same at each time, and Cov(y_i, y_j) = h' Phi_i
... Phi_{j+1} g for i > j; of one that is driven, from a known state, it is the variance R_t of u_t
that is known. With X_t what is known of the state, less what was at first (minus the variance that
observations have explained, where all is stationary),

    X- = Phi_t X_{t-1} Phi_t' + R_t,    k_t = g + X- h,    d_t = h' k_t + s_t,    w_t = 1 / d_t,
    f_t = Phi_t m_{t-1},                z_t = y_t - h' f_t,
    m_t = f_t + k_t w_t z_t,            X_t = X- - k_t k_t' w_t,
    quad = sum_t w_t z_t^2,             logdet = sum_t log d_t.

Where a group begins Phi_t = 0. The reverse sweep, b_t the derivative of quad / 2 with respect to
m_t:

    alpha_t = w_t (z_t + k_t' b_t),     b_{t-1} = Phi_t' (b_t - h alpha_t),

and alpha = Sigma^-1 y. For the variances, A_t the derivative with respect to X_t, with q and l the
cotangents of quad and logdet,

    w_bar = q z (z + 2 b'k) - k'A k - l / w,    d_bar = -w^2 w_bar = s_bar,
    k_bar = 2 w (q z b - A k) + h d_bar = g_bar,
    S = A + (k_bar h' + h k_bar') / 2 = R_bar,  A_{t-1} = Phi' S Phi,
    Phi_bar = 2 S Phi X_{t-1} + 2 q (b - h alpha) m_{t-1}'.

Value and gradient: O(J^2) an observation, J states, and numbers of memory: those of Phi, of X and
k, and the means.

Sources: Kalman (1960), A new approach to linear filtering and prediction problems, eqs. 21 to 25;
Foreman-Mackey, Agol, Ambikasaran and Angus (2017), Fast and scalable Gaussian process modeling with
applications to astronomical time series, AJ 154:220, section 5 (the recursion for what is
explained).
"""

import numpy as np

from pm_gaussgrad.kernels.apart import in_place
from pm_gaussgrad.kernels.log_product import log_product
from pm_gaussgrad.kernels.state_space.transitions import starts, transitions

# Explained to within this of what there is to explain, in units of its rounding: nothing is left.
ROUNDING = 8 * 2.2e-16


def width(states):
    """Of what is saved of an observation: X by rows of its lower triangle, k, w."""
    return (states + 1) * (states + 2) // 2


def forward(
    residual, times, origin, values, noise, blocks, entry, lower, seen, order, ends, states, entries
):
    """quad, logdet, alpha, the means m_t, the transitions, and X_t, k_t and w_t.

    ``entry`` has rows and columns of what is kept of Phi, ``lower`` of R, and ``seen`` is h.
    """
    (rows, n), h = residual.shape, as_weights(seen)
    index, places = (times, origin, order, ends, blocks), (entry, lower, h)
    alone = entries == states * states
    phi, track, logdet = gains(index, places, states, alone, values, noise, residual)
    quad, alpha = np.zeros(rows, residual.dtype), np.empty((rows, n), residual.dtype)
    means = np.empty((rows, n, states), residual.dtype)
    for i in range(rows):
        quad[i] = _filter_row(residual[i], order, states, alone, entry, h, phi, track, means[i])
        _solve_row(residual[i], order, states, alone, entry, h, phi, track, means[i], alpha[i])
    return quad, logdet, alpha, means, phi, track


def as_weights(seen):
    """h as floating point numbers."""
    h = np.zeros(seen.size)
    for i in range(seen.size):
        h[i] = seen[i]
    return h


@in_place
def gains(index, places, states, alone, values, noise, like):
    """The transitions, what is kept of the variances in order of time, and log|Sigma|.

    NaN where Sigma is no covariance. Of the dtype of an array ``like`` it. A process ``alone`` has
    a transition without zeros.
    """
    times, origin, order, ends, blocks = index
    entry, lower, h = places
    phi = np.empty((order.size, entry.shape[0]), like.dtype)
    track = np.empty((order.size, width(states)), like.dtype)
    driven = np.empty((order.size, lower.shape[0]), like.dtype)
    transitions(times, origin, order, ends, blocks, values, phi, driven)
    g = np.zeros((values.shape[0], states), like.dtype)
    usable = starts(blocks, values, g) == 1
    for i in range(noise.size):
        usable = usable and noise[i] >= 0
    _filter(order, ends, states, alone, entry, lower, h, g, noise, phi, driven, track)
    return phi, track, -log_product(track[:, track.shape[1] - 1]) if usable else np.nan


@in_place
def _filter(order, ends, states, alone, entry, lower, h, g, noise, phi, driven, track):
    """Fills X_t, k_t and w_t."""
    full, half = np.zeros((states, states)), np.zeros((states, states))
    before, after = np.zeros((states, states)), np.zeros((states, states))
    gain, begin = np.zeros(states), 0
    for group in range(ends.size):
        own, least = group if g.shape[0] > 1 else 0, 0.0
        for i in range(states):
            least += ROUNDING * h[i] * g[own, i]
        for t in range(begin, ends[group]):
            load(phi, t, entry, states, alone, full)
            spread(states, alone, full, after, half, before)
            for e in range(lower.shape[0]):
                add_symmetric(driven[t, e], lower[e, 0], lower[e, 1], before)
            total = noise[order[t] if noise.size > 1 else 0]
            for i in range(states):
                gain[i] = g[own, i] + observe(before[i], h, states, alone)
            total += observe(gain, h, states, alone)
            weight, at = 1 / total if total > least else np.nan, 0
            for i in range(states):
                for j in range(i + 1):
                    value = before[i, j] - gain[i] * weight * gain[j]
                    after[i, j], after[j, i], track[t, at] = value, value, value
                    at += 1
            for i in range(states):
                track[t, at + i] = gain[i]
            track[t, at + states] = weight
        begin = ends[group]


@in_place
def load(phi, t, entry, states, alone, full):
    """Writes Phi of a step into a square matrix, which is zero elsewhere."""
    if alone:
        for i in range(states):
            for j in range(states):
                full[i, j] = phi[t, states * i + j]
    else:
        for e in range(entry.shape[0]):
            full[entry[e, 0], entry[e, 1]] = phi[t, e]


@in_place
def observe(state, h, states, alone):
    """h' x."""
    if alone:
        return state[0]
    total = 0.0
    for i in range(states):
        total += h[i] * state[i]
    return total


@in_place
def spread(states, alone, full, matrix, half, result):
    """Phi M Phi' of a symmetric matrix; ``half`` is memory for Phi M.

    By rows, that are added to one another: several entries at once.
    """
    for i in range(states):
        for j in range(states):
            half[i, j] = 0.0
            result[i, j] = 0.0
        for k in range(states):
            factor = full[i, k]
            if alone or factor != 0:
                for j in range(states):
                    half[i, j] += factor * matrix[k, j]
    for i in range(states):
        for k in range(states):
            factor = full[i, k]
            if alone or factor != 0:
                for j in range(states):
                    result[i, j] += factor * half[j, k]


@in_place
def add_symmetric(number, i, j, matrix):
    """Adds to entry i, j of a symmetric matrix."""
    matrix[i, j] += number
    if i != j:
        matrix[j, i] += number


@in_place
def forecast(states, full, mean, ahead):
    """Phi m."""
    for i in range(states):
        total = 0.0
        for j in range(states):
            total += full[i, j] * mean[j]
        ahead[i] = total


@in_place
def _filter_row(values, order, states, alone, entry, h, phi, track, means):
    """Fills the means of one row, in order of time; its quadratic form."""
    full, mean, ahead = np.zeros((states, states)), np.zeros(states), np.zeros(states)
    quad, last = 0.0, states * (states + 1) // 2
    for t in range(order.size):
        load(phi, t, entry, states, alone, full)
        forecast(states, full, mean, ahead)
        z = values[order[t]] - observe(ahead, h, states, alone)
        pull = z * track[t, last + states]
        quad += z * pull
        for i in range(states):
            mean[i] = ahead[i] + track[t, last + i] * pull
            means[t, i] = mean[i]
    return quad


@in_place
def _solve_row(values, order, states, alone, entry, h, phi, track, means, alpha):
    """Fills alpha of one row, in the order of the table."""
    full, of_mean, own = np.zeros((states, states)), np.zeros(states), np.zeros(states)
    last = states * (states + 1) // 2
    for t in range(order.size - 1, -1, -1):
        load(phi, t, entry, states, alone, full)
        total = values[order[t]]
        if t > 0:
            forecast(states, full, means[t - 1], own)
            total -= observe(own, h, states, alone)
        for i in range(states):
            total += track[t, last + i] * of_mean[i]
        solved = total * track[t, last + states]
        alpha[order[t]] = solved
        pull_forecast(states, alone, full, h, solved, own, of_mean)


@in_place
def pull_forecast(states, alone, full, h, solved, own, of_mean):
    """Phi' (b - h alpha) in place of b; ``own`` is memory for what is in brackets."""
    for i in range(states):
        own[i] = of_mean[i] if alone else of_mean[i] - h[i] * solved
    if alone:
        own[0] -= solved
    for j in range(states):
        total = 0.0
        for i in range(states):
            total += full[i, j] * own[i]
        of_mean[j] = total
