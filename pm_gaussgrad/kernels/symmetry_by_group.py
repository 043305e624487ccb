"""One variance and one covariance in each of several groups, whose members come in any order.

Letters as in ``GroupedSymmetry``: a group of k has the eigenvalue ``own`` k - 1 times and
b = own + k common once, along the vector of ones.
"""

import numpy as np


def _of(values, g):
    """The parameter of a group, its own or the common one."""
    return values[g if values.size > 1 else 0]


def check_lengths(own, common, count):
    """Raise a ValueError where parameters are neither common nor one of each group."""
    if not (own.size in (1, count.size) and common.size in (1, count.size)):
        raise ValueError(
            "gg.cov.CompoundSymmetry: the parameters have other lengths than 1 and the number of "
            "groups"
        )


def forward(residual, own, common, group, count):
    """quad, logdet, alpha, and the two parts of quad of each group."""
    check_lengths(own, common, count)
    (m, n), n_groups = residual.shape, count.size
    alpha = np.empty((m, n), residual.dtype)
    quad_within = np.zeros((m, n_groups), residual.dtype)
    quad_between = np.zeros((m, n_groups), residual.dtype)
    between, logdet = np.ones(n_groups, own.dtype), 0.0
    for g in range(n_groups):
        if count[g] > 0:
            between[g] = _of(own, g) + count[g] * _of(common, g)
            logdet += np.log(between[g])
        if count[g] > 1:
            logdet += (count[g] - 1) * np.log(_of(own, g))
    for i in range(m):
        means, rests = np.zeros(n_groups, residual.dtype), np.zeros(n_groups, residual.dtype)
        for j in range(n):
            means[group[j]] += residual[i, j]
        for g in range(n_groups):
            means[g] /= max(count[g], 1)
            quad_between[i, g] = count[g] * means[g] ** 2 / between[g]
        for j in range(n):
            alpha[i, j] = residual[i, j] - means[group[j]]
            rests[group[j]] += alpha[i, j]
        for j in range(n):
            # Less the rounding error of the mean, which 1 / own would magnify.
            g = group[j]
            solved = 0.0
            if count[g] > 1:
                centered = alpha[i, j] - rests[g] / count[g]
                solved = centered / _of(own, g)
                quad_within[i, g] += centered * solved
            alpha[i, j] = solved + means[g] / between[g]
    quad = quad_within.sum(axis=1) + quad_between.sum(axis=1)
    return quad, logdet, alpha, quad_within, quad_between


def pullback(own, common, count, quad_within, quad_between, quad_bar, logdet_bar):
    """Cotangents of the components."""
    own_bar, common_bar = np.zeros(own.size, own.dtype), np.zeros(common.size, common.dtype)
    for g in range(count.size):
        k = count[g]
        if k == 0:
            continue
        within, between = logdet_bar * (k - 1), logdet_bar
        for i in range(quad_bar.size):
            within -= quad_bar[i] * quad_within[i, g]
            between -= quad_bar[i] * quad_between[i, g]
        through_between = between / (_of(own, g) + k * _of(common, g))
        own_bar[g if own.size > 1 else 0] += through_between
        if k > 1:
            own_bar[g if own.size > 1 else 0] += within / _of(own, g)
        common_bar[g if common.size > 1 else 0] += k * through_between
    return own_bar, common_bar


def _given_before(own, common, before):
    """Of an observation given others of its group: the weight of their sum, and its variance."""
    if before == 0:
        return 0.0, own + common
    level = own + before * common
    return common / level, own * ((level + common) / level)


def _in_turn(rows, own, common, group, count, inverse):
    """Whitened rows, each observation given those before it in its group; or the inverse map."""
    check_lengths(own, common, count)
    result = np.empty_like(rows)
    for i in range(rows.shape[0]):
        sums, seen = np.zeros(count.size, rows.dtype), np.zeros(count.size, np.int64)
        for j in range(rows.shape[1]):
            g = group[j]
            weight, variance = _given_before(_of(own, g), _of(common, g), seen[g])
            if inverse:
                result[i, j] = weight * sums[g] + np.sqrt(variance) * rows[i, j]
                sums[g] += result[i, j]
            else:
                result[i, j] = (rows[i, j] - weight * sums[g]) / np.sqrt(variance)
                sums[g] += rows[i, j]
            seen[g] += 1
    return (result,)


def whiten(rows, own, common, group, count):
    """Each observation given those before it in its group, in standard units."""
    return _in_turn(rows, own, common, group, count, False)


def color(rows, own, common, group, count):
    """The inverse of :func:`whiten`."""
    return _in_turn(rows, own, common, group, count, True)


def log_scales(rows, own, common, group, count):
    """Logarithms of the standard deviations of :func:`whiten`, for each of any rows."""
    check_lengths(own, common, count)
    logs, seen = np.empty_like(rows), np.zeros(count.size, np.int64)
    for j in range(rows.shape[1]):
        g = group[j]
        variance = _given_before(_of(own, g), _of(common, g), seen[g])[1]
        seen[g] += 1
        for i in range(rows.shape[0]):
            logs[i, j] = np.log(variance) / 2
    return (logs,)
