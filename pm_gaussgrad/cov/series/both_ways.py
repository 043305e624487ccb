"""What decays from observation to observation, forwards and backwards in time."""

import pytensor.tensor as pt

from pm_gaussgrad.ops import linear_recurrence


def both_ways(decay, rows):
    """R r for each row r, R_ij the product of the decays between i and j: O(n) a row.

    Parameters
    ----------
    decay : TensorVariable, shape (..., n) or (..., 1)
        From the observation before to each; of the first it does not matter.
    rows : TensorVariable, shape (..., n)
        In order of time.
    """
    decay, rows = decay + pt.zeros_like(rows), rows + pt.zeros_like(decay)
    ahead = linear_recurrence(decay, rows)
    turned = pt.concatenate([pt.zeros_like(decay[..., :1]), decay[..., :0:-1]], axis=-1)
    back = linear_recurrence(turned, rows[..., ::-1])[..., ::-1]
    return ahead + (back - rows)


def decays(times, correlation, group, order):
    """From the observation before, in order of group and time, to each: (..., n); 0 to a first one.

    Parameters
    ----------
    times : TensorVariable, shape (..., n)
    correlation : TensorVariable, shape (..., n) or (..., 1)
        At a distance of 1 in time.
    group, order : TensorVariable of int, shape (n)
    """
    times, correlation = ((x + pt.zeros_like(times))[..., order] for x in (times, correlation))
    lag, same = times - _before(times), pt.eq(group[order], _before(group[order]))
    return pt.switch(same, power(correlation, pt.switch(same, lag, 0)), 0)


def _before(x):
    """Of each entry the one before it; of the first itself."""
    return pt.concatenate([x[..., :1], x[..., :-1]], axis=-1)


def power(correlation, lag):
    """rho^lag for lags of any size; where it has two derivatives at rho = 0, they are right."""
    simple = pt.eq(lag, 0) | pt.eq(lag, 1)
    several = pt.switch(pt.eq(lag, 1), correlation, correlation ** pt.switch(simple, 2, lag))
    return pt.switch(pt.eq(lag, 0), 1, several)
