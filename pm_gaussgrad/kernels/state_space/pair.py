"""The filter of one process of two states and its reverse sweep, number by number.

What :mod:`pm_gaussgrad.kernels.state_space.filter` and ``reverse`` compute of any number of states,
h = (1, 0)', in an order in which a step waits for little of the one before it:

    X-_{t+1} = Phi X-_t Phi' - (Phi k_t) (Phi k_t)' w_t + R,    k_t = g + X-_t h,
    f_{t+1} = Phi f_t + Phi k_t w_t z_t,                        z_t = y_t - h' f_t,
    b_{t-1} = Phi' (I - h w_t k_t') b_t - Phi' h w_t z_t,

where the products with Phi do not wait for w_t. Of an observation X-_t, w_t and f_t are saved: k_t
is in X-_t, and

    X_t = X-_t - k_t k_t' w_t,    m_t = f_t + k_t w_t z_t.

Of ``track`` a row is Phi_t, X-_t by rows of its lower triangle, and w_t. An array is written to
anew in each call, and fresh memory costs as much as a pass over it: it is little, and in one piece.
"""

import numpy as np

from pm_gaussgrad.kernels.apart import in_place
from pm_gaussgrad.kernels.log_product import log_product
from pm_gaussgrad.kernels.state_space.filter import ROUNDING
from pm_gaussgrad.kernels.state_space.reverse import WINDOW
from pm_gaussgrad.kernels.state_space.transitions import (
    pull_starts,
    pull_transitions,
    starts,
    transitions,
)


def forward(residual, times, origin, values, noise, blocks, lower, order, ends):
    """quad, logdet, alpha, the means f_t, the transitions, and X-_t and w_t."""
    (rows, n), dtype = residual.shape, residual.dtype
    track, driven = np.empty((n, 8), dtype), np.empty((n, lower.shape[0]), dtype)
    g = np.zeros((values.shape[0], 2), dtype)
    transitions(times, origin, order, ends, blocks, values, track, driven)
    usable = starts(blocks, values, g) == 1
    for i in range(noise.size):
        usable = usable and noise[i] >= 0
    _filter(order, ends, g, noise, driven, track)
    quad, alpha = np.zeros(rows, dtype), np.empty((rows, n), dtype)
    means = np.empty((rows, n, 2), dtype)
    for i in range(rows):
        quad[i] = _filter_row(residual[i], order, ends, g, track, means[i])
        _solve_row(residual[i], order, ends, g, track, means[i], alpha[i])
    logdet = -log_product(track[:, 7]) if usable else np.nan
    return quad, logdet, alpha, means, track


@in_place
def _filter(order, ends, g, noise, driven, track):
    """Fills X-_t and w_t."""
    begin = 0
    for group in range(ends.size):
        own = group if g.shape[0] > 1 else 0
        first, second, least = g[own, 0], g[own, 1], ROUNDING * g[own, 0]
        upper, off, last = 0.0, 0.0, 0.0
        kept, tilt, weight = 0.0, 0.0, 0.0
        for t in range(begin, ends[group]):
            a, b, c, d = track[t, 0], track[t, 1], track[t, 2], track[t, 3]
            # Phi X-, Phi k.
            aa, ab = a * upper + b * off, a * off + b * last
            ba, bb = c * upper + d * off, c * off + d * last
            ka, kb = a * kept + b * tilt, c * kept + d * tilt
            upper = (aa * a + ab * b) - ka * ka * weight
            off = (ba * a + bb * b) - kb * ka * weight
            last = (ba * c + bb * d) - kb * kb * weight
            if driven.shape[1] > 0:
                upper, off, last = upper + driven[t, 0], off + driven[t, 1], last + driven[t, 2]
            kept, tilt = first + upper, second + off
            total = kept + noise[order[t] if noise.size > 1 else 0]
            weight = 1 / total if total > least else np.nan
            track[t, 4], track[t, 5], track[t, 6], track[t, 7] = upper, off, last, weight
        begin = ends[group]


@in_place
def _filter_row(values, order, ends, g, track, means):
    """Fills the means of one row, in order of time; its quadratic form."""
    quad, begin = 0.0, 0
    for group in range(ends.size):
        own = group if g.shape[0] > 1 else 0
        ahead, slope = 0.0, 0.0
        gain, tilt, z = 0.0, 0.0, 0.0
        for t in range(begin, ends[group]):
            a, b, c, d = track[t, 0], track[t, 1], track[t, 2], track[t, 3]
            ka, kb = a * gain + b * tilt, c * gain + d * tilt
            ahead, slope = (a * ahead + b * slope) + ka * z, (c * ahead + d * slope) + kb * z
            weight = track[t, 7]
            z = values[order[t]] - ahead
            quad += z * z * weight
            gain, tilt = (g[own, 0] + track[t, 4]) * weight, (g[own, 1] + track[t, 5]) * weight
            means[t, 0], means[t, 1] = ahead, slope
        begin = ends[group]
    return quad


@in_place
def _solve_row(values, order, ends, g, track, means, alpha):
    """Fills alpha of one row, in the order of the table."""
    end = order.size
    for group in range(ends.size - 1, -1, -1):
        begin, own = ends[group - 1] if group > 0 else 0, group if g.shape[0] > 1 else 0
        up, down = 0.0, 0.0
        for t in range(end - 1, begin - 1, -1):
            a, b, c, d = track[t, 0], track[t, 1], track[t, 2], track[t, 3]
            weight = track[t, 7]
            gain, tilt = (g[own, 0] + track[t, 4]) * weight, (g[own, 1] + track[t, 5]) * weight
            white = (values[order[t]] - means[t, 0]) * weight
            alpha[order[t]] = white + (gain * up + tilt * down)
            up, down = (
                (a - a * gain) * up + (c - a * tilt) * down - a * white,
                (b - b * gain) * up + (d - b * tilt) * down - b * white,
            )
        end = begin


def pullback(
    residual,
    times,
    origin,
    values,
    noise,
    blocks,
    lower,
    order,
    ends,
    alpha,
    means,
    track,
    quad_bar,
    logdet_bar,
):
    """Cotangents of the parameters of a process, and of the noise."""
    dtype, some = quad_bar.dtype, min(WINDOW, order.size)
    values_bar, noise_bar = np.zeros(values.shape, dtype), np.zeros(noise.size, dtype)
    steps = np.empty((some, 4), track.dtype), np.empty((some, lower.shape[0]), track.dtype)
    g, g_bar = (
        np.zeros((values.shape[0], 2), track.dtype),
        np.zeros((values.shape[0], 2), track.dtype),
    )
    starts(blocks, values, g)
    rows, bars = (residual, alpha, means), (*steps, g_bar, noise_bar, values_bar)
    index = times, origin, order, ends, blocks, values
    _sweep(rows, quad_bar, logdet_bar, index, g, track, bars)
    pull_starts(blocks, g_bar, values_bar)
    return values_bar, noise_bar


@in_place
def _sweep(rows, quad_bar, logdet_bar, index, g, track, bars):
    """Adds the cotangents of parameters that come through transitions, those of g and noise."""
    _, _, order, ends, _, _ = index
    phi_bar, driven_bar, g_bar, noise_bar, values_bar = bars
    of_means, end, stop = np.zeros((quad_bar.size, 2)), order.size, order.size
    for group in range(ends.size - 1, -1, -1):
        begin, own = ends[group - 1] if group > 0 else 0, group if g.shape[0] > 1 else 0
        first, second, of_first, of_second, of_noise = g[own, 0], g[own, 1], 0.0, 0.0, 0.0
        upper, off, last = 0.0, 0.0, 0.0
        of_means[:] = 0.0
        for t in range(end - 1, begin - 1, -1):
            start = max(0, stop - WINDOW)
            at, weight = t - start, track[t, 7]
            gain, tilt = first + track[t, 4], second + track[t, 5]
            # A k, and the cotangents of k, of w and of Phi.
            a0, a1 = upper * gain + off * tilt, off * gain + last * tilt
            before = _before(track, t, begin, first, second)
            given = rows, quad_bar, order, t, begin, gain, tilt, track, before
            of_rows, of_phi = _pull_rows(*given, of_means)
            of_weight = of_rows[0] - (gain * a0 + tilt * a1)
            of_total = weight * (logdet_bar - weight * of_weight)
            of_gain, of_tilt = 2 * weight * (of_rows[1] - a0), 2 * weight * (of_rows[2] - a1)
            of_gain += of_total
            if noise_bar.size > 1:
                noise_bar[order[t]] += of_total
            of_noise += of_total
            of_first, of_second = of_first + of_gain, of_second + of_tilt
            upper, off = upper + of_gain, off + of_tilt / 2
            if driven_bar.shape[1] > 0:
                driven_bar[at, 0], driven_bar[at, 1], driven_bar[at, 2] = upper, 2 * off, last
            symmetric = upper, off, last
            upper, off, last = _pull_spread(track, t, symmetric, before, of_phi, phi_bar, at)
            if t == start:
                made = phi_bar, driven_bar, values_bar
                pull_transitions(*index, track, *made, group, start, stop)
                stop = start
        g_bar[own, 0] += of_first
        g_bar[own, 1] += of_second
        if noise_bar.size == 1:
            noise_bar[0] += of_noise
        end = begin


@in_place
def _before(track, t, begin, first, second):
    """X_{t-1} and k_{t-1} w_{t-1}; zero where a group begins."""
    if t == begin:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    upper, off, last, weight = track[t - 1, 4], track[t - 1, 5], track[t - 1, 6], track[t - 1, 7]
    gain, tilt = first + upper, second + off
    upper, off, last = (
        upper - gain * weight * gain,
        off - tilt * weight * gain,
        last - tilt * weight * tilt,
    )
    return upper, off, last, gain * weight, tilt * weight


@in_place
def _pull_rows(rows, quad_bar, order, t, begin, gain, tilt, track, before, of_means):
    """What rows add to the cotangents of w, of k / (2 w) and of Phi; b becomes a step older."""
    residual, alpha, means = rows
    _, _, _, earlier_gain, earlier_tilt = before
    a, b, c, d = track[t, 0], track[t, 1], track[t, 2], track[t, 3]
    of_weight = of_gain = of_tilt = 0.0
    p00 = p01 = p10 = p11 = 0.0
    for r in range(quad_bar.size):
        z, q = residual[r, order[t]] - means[r, t, 0], quad_bar[r]
        up, down = of_means[r, 0], of_means[r, 1]
        of_weight += q * z * (z + 2 * (up * gain + down * tilt))
        of_gain, of_tilt = of_gain + q * z * up, of_tilt + q * z * down
        up = up - alpha[r, order[t]]
        of_means[r, 0], of_means[r, 1] = a * up + c * down, b * up + d * down
        if t > begin:
            mean, slope = means[r, t - 1, 0], means[r, t - 1, 1]
            z = residual[r, order[t - 1]] - mean
            mean, slope = 2 * q * (mean + earlier_gain * z), 2 * q * (slope + earlier_tilt * z)
            p00, p01 = p00 + up * mean, p01 + up * slope
            p10, p11 = p10 + down * mean, p11 + down * slope
    return (of_weight, of_gain, of_tilt), (p00, p01, p10, p11)


@in_place
def _pull_spread(track, t, symmetric, before, of_phi, phi_bar, at):
    """Fills Phi_bar, to which rows add ``of_phi``; Phi' S Phi."""
    (upper, off, last), (x00, x10, x11, _, _) = symmetric, before
    a, b, c, d = track[t, 0], track[t, 1], track[t, 2], track[t, 3]
    h00, h01 = upper * a + off * c, upper * b + off * d
    h10, h11 = off * a + last * c, off * b + last * d
    phi_bar[at, 0] = of_phi[0] + 2 * (h00 * x00 + h01 * x10)
    phi_bar[at, 1] = of_phi[1] + 2 * (h00 * x10 + h01 * x11)
    phi_bar[at, 2] = of_phi[2] + 2 * (h10 * x00 + h11 * x10)
    phi_bar[at, 3] = of_phi[3] + 2 * (h10 * x10 + h11 * x11)
    return a * h00 + c * h10, b * h00 + d * h10, b * h01 + d * h11
