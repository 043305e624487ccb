r"""An autoregression of order one at any times, with noise: a filter and its reverse sweep.

With the observations of a group in order of time, x_t = phi_t x_{t-1} + u_t, y_t = x_t + e_t, phi_t
the correlation of neighbours (0 where a group begins), v the variance of x_t, s_t that of the
noise e_t. P_t is the variance of x_t given y_1, ..., y_t, m_t its mean (Kalman, 1960), and

    Q_t = v (1 - phi_t^2) + phi_t^2 P_{t-1},   d_t = Q_t + s_t,   w_t = 1 / d_t,   J_t = s_t w_t,
    z_t = y_t - phi_t m_{t-1},                 m_t = y_t - J_t z_t,        P_t = Q_t J_t,
    quad = sum_t w_t z_t^2,                    logdet = sum_t log d_t,

sums of what is not negative; without noise J = P = 0, and z_t is the innovation of the process
itself. The reverse sweep, with l_t the derivative of quad / 2 with respect to m_t,

    zeta_t = w_t z_t - J_t l_t,    l_{t-1} = -phi_t zeta_t,    alpha_t = zeta_t + l_t,

gives alpha = Sigma^-1 y; z_t and l_t are independent, so that the diagonal of Sigma^-1 is

    c_t = w_t + (1 - J_t)^2 N_t,   N_{t-1} = phi_t^2 (w_t + J_t^2 N_t),   N_t = Var(l_t).

The pullback is the same sweep for the variances, with weights q_bar for quad and l_bar for logdet.

Sources: Kalman (1960), A new approach to linear filtering and prediction problems, eqs. 21 to 25;
Jones and Boadi-Boateng (1991), Unequally spaced longitudinal data with AR(1) serial correlation,
Biometrics 47, 161-175, section 3 (groups with noise).
"""

import numpy as np

from pm_gaussgrad.kernels.decay import decay
from pm_gaussgrad.kernels.log_product import log_product

# Rows of what is saved of the observations, in order of group and time.
_PHI, _GAP, _RATE, _KEPT, _WEIGHT, _BEFORE = range(6)
# Correlations below have the slopes of zero: their inverses would leave the range of numbers.
_TINY = 2.3e-308


def _own(values, i):
    """A parameter of its own of a group or an observation, or the common one."""
    return values[i if values.size > 1 else 0]


def check_lengths(variance, correlation, noise, order, ends):
    """Raise a ValueError where parameters are neither common nor one for each."""
    groups, observations = (1, ends.size), (1, order.size)
    of_groups = variance.size in groups and correlation.size in groups
    if not (of_groups and noise.size in observations):
        raise ValueError(
            "gg.cov.AR1: the parameters have other lengths than 1 and the number of groups, or "
            "noise other than 1 and the number of observations"
        )


def _distance(correlation):
    """-log|rho|, from 1 - |rho| where that is more exact."""
    size = np.abs(np.float64(correlation))
    return -(np.log(size) if size < 0.5 else np.log1p(size - 1))


def _transitions(times, correlation, order, ends, track):
    """phi = rho^step, 1 - |phi| and d phi / d rho of each observation; phi is 0 at the first."""
    n, many = order.size, correlation.size
    step, exponent = np.zeros(n), np.empty(n)
    for t in range(1, n):
        step[t] = times[order[t]] - times[order[t - 1]]
    start = 0
    for g in range(many):
        stop, distance = ends[g] if many > 1 else n, _distance(correlation[g])
        for t in range(start, stop):
            exponent[t] = step[t] * distance if step[t] > 0 else 0.0
        start = stop
    start = 0
    for g in range(ends.size):
        if start < ends[g]:
            step[start], exponent[start] = 0, np.inf
        start = ends[g]
    power, gap = decay(exponent)
    start = 0
    for g in range(many):
        stop, rho = ends[g] if many > 1 else n, correlation[g]
        inverse = 1 / rho if np.abs(rho) > _TINY else 0.0
        for t in range(start, stop):
            phi = power[t]
            track[_PHI, t], track[_GAP, t], track[_RATE, t] = phi, gap[t], step[t] * phi * inverse
        for t in range(start, stop if rho <= _TINY else start):
            _alternate(rho, step[t], track[:, t])
        start = stop


def _alternate(rho, step, transition):
    """Mends a transition where the correlation is not positive: of such there are whole powers."""
    if np.abs(rho) <= _TINY:
        transition[_RATE] = 1 if step == 1 else np.inf if 0 < step < 1 else 0
    elif step % 2 == 1:
        transition[_PHI], transition[_RATE] = -transition[_PHI], -transition[_RATE]
    elif step % 2 != 0:
        transition[_PHI] = np.nan


def _gains(times, variance, correlation, noise, order, ends):
    """What is saved of the observations, and log|Sigma|: NaN where Sigma is no covariance."""
    check_lengths(variance, correlation, noise, order, ends)
    track = np.empty((6, order.size), variance.dtype)
    _transitions(times, correlation, order, ends, track)
    s, start, usable = noise[0] if noise.size else 0.0, 0, (noise >= 0).all()
    for g in range(ends.size):
        v, posterior = _own(variance, g), 0.0
        usable = usable and v >= 0 and np.abs(_own(correlation, g)) <= 1
        for t in range(start, ends[g]):
            phi, gap = track[_PHI, t], track[_GAP, t]
            if noise.size > 1:
                s = noise[order[t]]
            predicted = v * gap * (2 - gap) + phi * phi * posterior
            weight = 1 / (predicted + s)
            kept = s * weight
            track[_KEPT, t], track[_WEIGHT, t], track[_BEFORE, t] = kept, weight, posterior
            posterior = predicted * kept
        start = ends[g]
    return track, -log_product(track[_WEIGHT]) if usable else np.nan


def _innovate(row, order, ends, track, innovation):
    """z of one row, in order of group and time; its quadratic form."""
    quad, start = 0.0, 0
    for g in range(ends.size):
        mean = 0.0
        for t in range(start, ends[g]):
            y, sign = row[order[t]], -1.0 if track[_PHI, t] < 0 else 1.0
            # By changes (sums, where phi is negative) and a correction: no digits cancel near 1.
            z = (y - sign * mean) + sign * track[_GAP, t] * mean
            innovation[t] = z
            quad += z * z * track[_WEIGHT, t]
            mean = y - track[_KEPT, t] * z
        start = ends[g]
    return quad


def forward(residual, times, variance, correlation, noise, order, ends):
    """quad, logdet, alpha, the innovations, and what is saved of the observations."""
    m, n = residual.shape
    track, logdet = _gains(times, variance, correlation, noise, order, ends)
    quad, alpha = np.zeros(m, residual.dtype), np.empty((m, n), residual.dtype)
    innovation = np.empty((m, n), residual.dtype)
    through_mean = np.empty((m, n), residual.dtype)
    for i in range(m):
        quad[i] = _innovate(residual[i], order, ends, track, innovation[i])
        start = 0
        for g in range(ends.size):
            of_mean = 0.0
            for t in range(ends[g] - 1, start - 1, -1):
                through_mean[i, t] = of_mean
                solved = innovation[i, t] * track[_WEIGHT, t] - track[_KEPT, t] * of_mean
                alpha[i, order[t]] = solved + of_mean
                of_mean = -track[_PHI, t] * solved
            start = ends[g]
    return quad, logdet, alpha, innovation, through_mean, track


def _pull_row(row, order, track, innovation, through_mean, quad_bar, bars):
    """Adds to the cotangents of d, J and phi what comes through the quadratic form of a row."""
    for t in range(order.size):
        z = innovation[t]
        solved = z * track[_WEIGHT, t]
        of_innovation = solved - track[_KEPT, t] * through_mean[t]
        bars[0, t] -= quad_bar * solved * solved
        bars[1, t] -= 2 * quad_bar * z * through_mean[t]
        if t > 0:  # where a group begins phi is constant
            before = row[order[t - 1]] - track[_KEPT, t - 1] * innovation[t - 1]
            bars[2, t] -= 2 * quad_bar * of_innovation * before


def pullback(
    residual,
    variance,
    correlation,
    noise,
    order,
    ends,
    innovation,
    through_mean,
    track,
    quad_bar,
    logdet_bar,
):
    """Cotangents of variance, correlation and noise."""
    variance_bar = np.zeros(variance.size, variance.dtype)
    correlation_bar = np.zeros(correlation.size, correlation.dtype)
    noise_bar = np.zeros(noise.size, noise.dtype)
    bars = np.zeros((3, order.size))
    for i in range(residual.shape[0]):
        saved = innovation[i], through_mean[i]
        _pull_row(residual[i], order, track, *saved, quad_bar[i], bars)
    start = 0
    for g in range(ends.size):
        v, through_posterior = _own(variance, g), 0.0
        of_variance, of_correlation = 0.0, 0.0
        for t in range(ends[g] - 1, start - 1, -1):
            phi, gap, posterior = track[_PHI, t], track[_GAP, t], track[_BEFORE, t]
            kept, weight = track[_KEPT, t], track[_WEIGHT, t]
            shrinkage = gap * (2 - gap)
            predicted = v * shrinkage + phi * phi * posterior
            of_kept = bars[1, t] + through_posterior * predicted
            of_total = bars[0, t] + logdet_bar * weight - of_kept * kept * weight
            noise_bar[order[t] if noise.size > 1 else 0] += of_kept * weight + of_total
            of_predicted = through_posterior * kept + of_total
            of_variance += of_predicted * shrinkage
            of_phi = bars[2, t] + 2 * phi * of_predicted * (posterior - v)
            of_correlation += of_phi * track[_RATE, t]
            through_posterior = phi * phi * of_predicted
        variance_bar[g if variance.size > 1 else 0] += of_variance
        correlation_bar[g if correlation.size > 1 else 0] += of_correlation
        start = ends[g]
    return variance_bar, correlation_bar, noise_bar


def whiten(rows, times, variance, correlation, noise, order, ends):
    """Innovations in units of their standard deviations: (m, n) -> (m, n)."""
    track, _ = _gains(times, variance, correlation, noise, order, ends)
    white, innovation = np.empty_like(rows), np.empty(rows.shape[1], rows.dtype)
    for i in range(rows.shape[0]):
        _innovate(rows[i], order, ends, track, innovation)
        for t in range(order.size):
            white[i, order[t]] = innovation[t] * np.sqrt(track[_WEIGHT, t])
    return (white,)


def color(rows, times, variance, correlation, noise, order, ends):
    """The inverse of :func:`whiten`."""
    track, _ = _gains(times, variance, correlation, noise, order, ends)
    drawn = np.empty_like(rows)
    for i in range(rows.shape[0]):
        mean = 0.0  # where a group begins phi is zero
        for t in range(order.size):
            innovation = rows[i, order[t]] / np.sqrt(track[_WEIGHT, t])
            y = track[_PHI, t] * mean + innovation
            drawn[i, order[t]] = y
            mean = y - track[_KEPT, t] * innovation
    return (drawn,)


def log_scales(rows, times, variance, correlation, noise, order, ends):
    """Logarithms of the standard deviations of the innovations, for each of any rows."""
    track, _ = _gains(times, variance, correlation, noise, order, ends)
    logs = np.empty_like(rows)
    for i in range(rows.shape[0]):
        for t in range(order.size):
            logs[i, order[t]] = -np.log(track[_WEIGHT, t]) / 2
    return (logs,)


def inverse_diagonal(rows, times, variance, correlation, noise, order, ends):
    """diag(Sigma^-1), for each of any rows."""
    track, _ = _gains(times, variance, correlation, noise, order, ends)
    diagonal = np.empty_like(rows)
    for i in range(rows.shape[0]):
        later = 0.0
        for t in range(order.size - 1, -1, -1):
            phi, kept, weight = track[_PHI, t], track[_KEPT, t], track[_WEIGHT, t]
            diagonal[i, order[t]] = weight + (1 - kept) ** 2 * later
            later = phi * phi * (weight + kept * kept * later)
    return (diagonal,)


def states(rows, times, variance, correlation, noise, order, ends):
    """What Fisher information is made of, by group and time: phi, d phi / d rho, J, w, P, N.

    Of any six rows: (6, n) -> (6, n).
    """
    track, _ = _gains(times, variance, correlation, noise, order, ends)
    result = np.empty_like(rows)
    for i, row in enumerate((_PHI, _RATE, _KEPT, _WEIGHT, _BEFORE)):
        result[i] = track[row]
    later = 0.0
    for t in range(order.size - 1, -1, -1):
        phi, kept = track[_PHI, t], track[_KEPT, t]
        result[5, t] = later
        later = phi * phi * (track[_WEIGHT, t] + kept * kept * later)
    return (result,)
