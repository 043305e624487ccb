r"""``DampedCosine``: a cosine whose phase and amplitude are forgotten at a rate.

Definition: Sigma_ij = sigma^2 exp(-|t_i - t_j| / l) cos(2 pi (t_i - t_j) / period) within a group.
Storage, cost and pullback are those of :mod:`pm_gaussgrad.cov.series.state_space`, with two states.

Sources: Foreman-Mackey, Agol, Ambikasaran and Angus (2017), Fast and scalable Gaussian process
modeling with applications to astronomical time series, AJ 154:220, eq. 8, of b = 0.
"""

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.scales import inverse_scale, times_scale
from pm_gaussgrad.cov.series.process import Process, times_number
from pm_gaussgrad.kernels.state_space.processes import WAVE


class DampedCosine(Process):
    r"""A damped cosine, :math:`\sigma^2 e^{-|t_i - t_j| / l} \cos(2\pi (t_i - t_j) / p)`.

    Two Ornstein-Uhlenbeck processes, :math:`x_t \cos(2\pi t/p) + z_t \sin(2\pi t/p)`: a period
    whose amplitude and phase drift. Within a group; zero between groups.

    Parameters
    ----------
    sigma : tensor_like, shape () or (...), in units of [y]
        Standard deviation of the process; with ``group`` also (..., g), one of each.
    lengthscale : tensor_like, shape () or (...), in units of time
        Time l in which amplitude and phase are forgotten; with ``group`` also (..., g).
    period : tensor_like, shape () or (...), in units of time
        Period p of the cosine; with ``group`` also (..., g).
    time : array_like, shape (n), in units of the period
        Constant: when each observation was made, in any order; finite numbers.
    group : array_like, shape (n), in units of labels, optional
        Constant: whose series each observation belongs to. Where groups have parameters of their
        own, the number of the group, 0 to g - 1.

    Raises
    ------
    TypeError
        If an argument is not real, a time is no number, or ``time`` or ``group`` is symbolic.
    ValueError
        If a constant sigma, lengthscale or period is not positive; if a time or a label is missing,
        or there are not as many of one as of the other; and, where a density is built, if a group
        has two observations at one time and no noise.

    Notes
    -----
    Cost of value and gradient: O(n) a row, by a Kalman filter with two states and its reverse
    sweep. Pullback: rate and frequency come in by the transition, a rotation that shrinks, whose
    slopes are the transition itself and the same a quarter of a turn ahead. Rotations are by steps,
    not by phases of the absolute time.

    Sums of processes at the same times, in the same groups, and of noise, ``+ Diagonal(...)``, are
    one filter with the states of all. The log density is -inf where sigma, lengthscale or period is
    not positive.

    References
    ----------
    Foreman-Mackey, D., Agol, E., Ambikasaran, S. and Angus, R. (2017). Fast and scalable Gaussian
    process modeling with applications to astronomical time series. The Astronomical Journal
    154:220, eq. 8.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> gg.cov.DampedCosine(2.0, 10.0, 2.0, time=[0, 1, 3]).to_dense().eval().round(3)
    array([[ 4.   , -3.619, -2.963],
           [-3.619,  4.   ,  3.275],
           [-2.963,  3.275,  4.   ]])
    """

    def __init__(self, sigma, lengthscale, period, time, group=None):
        (sigma, lengthscale, period), place = self._read(
            time, group, sigma=sigma, lengthscale=lengthscale, period=period
        )
        variance = times_scale(sigma, sigma)
        frequency = times_number(2 * np.pi, inverse_scale(period))
        values = [variance, pt.zeros_like(variance), inverse_scale(lengthscale), frequency]
        self._make([(WAVE, 2, values)], place)
