r"""``Rotation``: two damped oscillators, of a period and of half of it.

Definition: the sum of two :class:`~pm_gaussgrad.cov.SHO` within a group,

    Q_1 = 1/2 + Q0 + dQ, w_1 = 4 pi Q_1 / (period sqrt(4 Q_1^2 - 1)),  variance sigma^2 / (1 + f),
    Q_2 = 1/2 + Q0,      w_2 = 8 pi Q_2 / (period sqrt(4 Q_2^2 - 1)),  variance sigma^2 f / (1 + f).

With a = Q0 + dQ, 4 Q_1^2 - 1 = 4 a (a + 1), in which no digits cancel. Storage, cost and pullback
are those of :mod:`pm_gaussgrad.cov.series.state_space`, with four states.

Sources: Foreman-Mackey et al. (2017), Fast and scalable Gaussian process modeling with applications
to astronomical time series, AJ 154:220, eqs. 19 to 23; the parameters are those of celerite2's
``RotationTerm``.
"""

import functools
import operator

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.scales import as_positive, nan_unless
from pm_gaussgrad.cov.series.process import Process, times_number
from pm_gaussgrad.kernels.state_space.processes import OSCILLATOR


class Rotation(Process):
    r"""Two oscillators, of a period and of half of it: what rotates with spots on it.

    A sum of two :class:`~pm_gaussgrad.cov.SHO`, whose damped periods are ``period`` and
    ``period / 2``, with the variances :math:`\sigma^2 / (1 + f)` and
    :math:`\sigma^2 f / (1 + f)` and the quality factors :math:`1/2 + Q_0 + \delta Q` and
    :math:`1/2 + Q_0`, within a group; zero between groups.

    Parameters
    ----------
    sigma : tensor_like, shape () or (...), in units of [y]
        Standard deviation of the process; with ``group`` also (..., g), one of each.
    period : tensor_like, shape () or (...), in units of time
        Period of the first oscillation, as it is seen: damped; with ``group`` also (..., g).
    Q0 : tensor_like, shape () or (...), in units of 1
        Quality factor of the second oscillation, less 1/2; with ``group`` also (..., g).
    dQ : tensor_like, shape () or (...), in units of 1
        How much larger that of the first is, at least 0; with ``group`` also (..., g).
    f : tensor_like, shape () or (...), in units of 1
        Variance of the second oscillation in units of that of the first, at least 0; with
        ``group`` also (..., g).
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
        If a constant sigma, period or Q0 is not positive, or a constant dQ or f negative; if a time
        or a label is missing, or there are not as many of one as of the other; and, where a density
        is built, if a group has two observations at one time and no noise.

    Notes
    -----
    Cost of value and gradient: O(n) a row, by a Kalman filter with four states and its reverse
    sweep; pullback as of :class:`~pm_gaussgrad.cov.SHO`.

    Sums of processes at the same times, in the same groups, and of noise, ``+ Diagonal(...)``,
    are one filter with the states of all. The log density is -inf where sigma, period or Q0 is not
    positive, and where dQ or f is negative.

    References
    ----------
    Foreman-Mackey, D., Agol, E., Ambikasaran, S. and Angus, R. (2017). Fast and scalable Gaussian
    process modeling with applications to astronomical time series. The Astronomical Journal
    154:220, eqs. 19 to 23.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> gg.cov.Rotation(2.0, 4.0, 1.5, 0.5, 0.5, time=[0, 1, 3]).to_dense().eval().round(3)
    array([[ 4.   , -0.197, -0.325],
           [-0.197,  4.   , -1.141],
           [-0.325, -1.141,  4.   ]])
    """

    may_be_zero = frozenset({"dQ", "f"})

    def __init__(self, sigma, period, Q0, dQ, f, time, group=None):
        (sigma, period, second, excess, share), place = self._read(
            time, group, sigma=sigma, period=period, Q0=Q0, dQ=dQ, f=f
        )
        positive = [as_positive(x) for x in (sigma, period, second)]
        usable, given = zip(*positive, _not_negative(excess), _not_negative(share), strict=True)
        (sigma, period, second, excess, share) = given
        variance, turn = sigma**2 / (1 + share), times_number(2 * np.pi, 1 / period)
        proper = nan_unless(functools.reduce(operator.and_, usable), variance)
        self._make(
            [
                _oscillation(proper, turn, second + excess),
                _oscillation(share * variance, 2 * turn, second),
            ],
            place,
        )


def _oscillation(variance, frequency, above):
    """Of a damped frequency, and a quality factor that is so much above 1/2."""
    quality = 0.5 + above
    undamped = frequency * quality / pt.sqrt(above * (above + 1))
    return OSCILLATOR, 2, [variance, undamped, 1 / (2 * quality)]


def _not_negative(x):
    """Where it is not negative, and itself with ones elsewhere."""
    usable = pt.ge(pt.floor(x), 0)
    return usable, pt.switch(usable, x, 1)
