r"""``SHO``: a damped oscillator that is driven by white noise.

Definition: d^2 x / dt^2 + (w / Q) dx / dt + w^2 x is white noise, w = 2 pi / rho, of such strength
that x has the variance sigma^2; Sigma_ij is the covariance of x at t_i and t_j of a group. Storage,
cost and pullback are those of :mod:`pm_gaussgrad.cov.series.state_space`, with two states; the
transition, smooth through Q = 1/2, is that of :mod:`pm_gaussgrad.kernels.state_space.oscillator`.

Sources: Foreman-Mackey, Agol, Ambikasaran and Angus (2017), Fast and scalable Gaussian process
modeling with applications to astronomical time series, AJ 154:220, eqs. 19 to 23.
"""

import numpy as np

from pm_gaussgrad.cov.protocol.scales import inverse_scale, times_scale
from pm_gaussgrad.cov.series.process import Process, times_number
from pm_gaussgrad.kernels.state_space.processes import OSCILLATOR


class SHO(Process):
    r"""A damped harmonic oscillator that is driven by white noise, at any times.

    With :math:`\omega = 2\pi/\rho`, :math:`u = \omega |t_i - t_j|` and
    :math:`\eta = \sqrt{1 - 1/(4 Q^2)}`,

    .. math:: \Sigma_{ij} = \sigma^2 e^{-u / (2Q)} \left(\cos \eta u
              + \frac{\sin \eta u}{2 \eta Q}\right)

    within a group, zero between groups: hyperbolic functions where :math:`Q < 1/2`, and
    :math:`\sigma^2 (1 + u) e^{-u}`, a Matern 3/2, at :math:`Q = 1/2`.

    Parameters
    ----------
    sigma : tensor_like, shape () or (...), in units of [y]
        Standard deviation of the process; with ``group`` also (..., g), one of each.
    rho : tensor_like, shape () or (...), in units of time
        Undamped period :math:`\rho`; with ``group`` also (..., g).
    Q : tensor_like, shape () or (...), in units of 1
        Quality factor: below 1/2 the process is overdamped, above it oscillates, for about Q
        periods; with ``group`` also (..., g).
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
        If a constant sigma, rho or Q is not positive; if a time or a label is missing, or there are
        not as many of one as of the other; and, where a density is built, if a group has two
        observations at one time and no noise.

    Notes
    -----
    Cost of value and gradient: O(n) a row, by a Kalman filter with two states and its reverse
    sweep. Pullback: the transition is an entire function of :math:`1/(4Q^2) - 1`, whose slope is a
    quotient of differences away from zero and a series near it, so that the gradient is exact
    through critical damping.

    Sums of processes at the same times, in the same groups, and of noise, ``+ Diagonal(...)``,
    are one filter with the states of all. The log density is -inf where sigma, rho or Q is not
    positive.

    ``sigma``, ``rho`` and ``Q`` are those of celerite2's ``SHOTerm``; its ``tau``, the time scale
    of the damping, is :math:`\rho\, Q / \pi`.

    References
    ----------
    Foreman-Mackey, D., Agol, E., Ambikasaran, S. and Angus, R. (2017). Fast and scalable Gaussian
    process modeling with applications to astronomical time series. The Astronomical Journal
    154:220, eqs. 19 to 23.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> gg.cov.SHO(2.0, 4.0, 1.0, time=[0, 1, 3]).to_dense().eval().round(3)
    array([[ 4.   ,  1.411, -0.4  ],
           [ 1.411,  4.   , -0.563],
           [-0.4  , -0.563,  4.   ]])
    """

    def __init__(self, sigma, rho, Q, time, group=None):
        (sigma, rho, quality), place = self._read(time, group, sigma=sigma, rho=rho, Q=Q)
        frequency = times_number(2 * np.pi, inverse_scale(rho))
        damping = inverse_scale(quality) / 2
        self._make([(OSCILLATOR, 2, [times_scale(sigma, sigma), frequency, damping])], place)
