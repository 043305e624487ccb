r"""``Wiener``: a random walk in continuous time, or its first or second integral.

Definition: of order p, Sigma_ij = sigma^2 int_0^t (t_i - s)^(p-1) (t_j - s)^(p-1) ds / (p-1)!^2, t
the earlier of both times since the origin, within a group. Storage, cost and pullback are those of
:mod:`pm_gaussgrad.cov.series.state_space`, with p states.

Sources: Wahba (1978), Improper priors, spline smoothing and the problem of guarding against model
errors in regression, section 2.
"""

import numpy as np

from pm_gaussgrad.cov.protocol.arguments import as_constant
from pm_gaussgrad.cov.protocol.scales import times_scale
from pm_gaussgrad.cov.series.process import Process
from pm_gaussgrad.kernels.state_space.processes import WIENER


class Wiener(Process):
    r"""A Wiener process, integrated ``order - 1`` times, at any times from its origin.

    .. math:: \Sigma_{ij} = \sigma^2 \int_0^{\min(t_i, t_j)}
              \frac{(t_i - s)^{p-1} (t_j - s)^{p-1}}{(p-1)!^2}\, ds

    of order p and times t since the origin, within a group; zero between groups. Its derivative of
    order p is white noise. Order 1 is a random walk, :math:`\sigma^2 \min(t_i, t_j)`, order 2 an
    integrated one, of which the posterior mean is a cubic smoothing spline, order 3 a quintic one.

    Parameters
    ----------
    sigma : tensor_like, shape () or (...), in units of [y] time^(1/2 - order)
        Standard deviation that the derivative of order p - 1, for p = 1 the process itself, gains
        in one unit of time; with ``group`` also (..., g), one of each.
    time : array_like, shape (n), in units of time
        Constant: when each observation was made, in any order; not before the origin.
    order : int, default 1
        The order p, 1 to 3.
    origin : float, default 0.0
        Constant: when the process and its derivatives are zero, in all groups.
    group : array_like, shape (n), in units of labels, optional
        Constant: whose series each observation belongs to. Where groups have parameters of their
        own, the number of the group, 0 to g - 1.

    Raises
    ------
    TypeError
        If an argument is not real, a time is no number, or ``time`` or ``group`` is symbolic.
    ValueError
        If a constant sigma is not positive; if a time or a label is missing, or there are not as
        many of one as of the other; if a time is before the origin; if ``order`` is not 1, 2 or 3;
        and, where a density is built, if a group has two observations at one time and no noise.

    Notes
    -----
    Cost of value and gradient: O(n) a row, by a Kalman filter with p states and its reverse sweep.
    Pullback: the transitions are constants, and :math:`\bar\sigma` is a sum over the variances that
    the steps add, which are proportional to :math:`\sigma^2`.

    At its origin the process is zero: an observation there needs noise. A level, and of higher
    orders slopes, from which it starts are part of the mean, or ``+ LowRank`` with the powers of
    time as columns, of a large variance for the prior of a smoothing spline.

    Sums of processes at the same times, in the same groups and, of Wiener processes, of one origin,
    and of noise, ``+ Diagonal(...)``, are one filter with the states of all. The log density is
    -inf where sigma is not positive.

    References
    ----------
    Wahba, G. (1978). Improper priors, spline smoothing and the problem of guarding against model
    errors in regression. Journal of the Royal Statistical Society B 40, 364-372, section 2.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> gg.cov.Wiener(2.0, time=[1, 2, 4]).to_dense().eval()
    array([[ 4.,  4.,  4.],
           [ 4.,  8.,  8.],
           [ 4.,  8., 16.]])
    """

    def __init__(self, sigma, time, order=1, origin=0.0, group=None):
        if order not in (1, 2, 3):
            raise ValueError(
                f"{self.label}: `order` is {order!r}, expected 1, 2 or 3: a random walk, and its "
                "first and second integral."
            )
        (sigma,), place = self._read(time, group, sigma=sigma)
        origin = as_constant(self.label, "origin", origin)
        if origin.shape != () or not np.isfinite(origin):
            raise ValueError(f"{self.label}: `origin` is {origin}, expected one finite number.")
        if (early := place[0] < origin).any():
            raise ValueError(
                f"{self.label}: `time` of observation {early.argmax()} is "
                f"{place[0][early.argmax()]:g}, expected none before the origin, {origin:g}; pass "
                "an earlier origin=."
            )
        self._make([(WIENER, int(order), [times_scale(sigma, sigma)])], place, origin)
