r"""``Matern32``: the Matern process of smoothness 3/2 in time.

Definition: Sigma_ij = sigma^2 (1 + u) exp(-u), u = sqrt(3) |t_i - t_j| / l, within a group.
Storage, cost and pullback are those of :mod:`pm_gaussgrad.cov.series.state_space`, with two states.

Sources: Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, eq. 4.17;
Hartikainen and Sarkka (2010), Kalman filtering and smoothing solutions to temporal Gaussian process
regression models, section 3.
"""

from pm_gaussgrad.cov.protocol.scales import inverse_scale, times_scale
from pm_gaussgrad.cov.series.process import Process, times_number
from pm_gaussgrad.kernels.state_space.processes import MATERN_3_2


class Matern32(Process):
    r"""A Matern process of smoothness 3/2, at any times.

    :math:`\Sigma_{ij} = \sigma^2 (1 + u) e^{-u}`, :math:`u = \sqrt{3}\,|t_i - t_j| / l`, within a
    group, zero between groups. It is differentiable once.

    Parameters
    ----------
    sigma : tensor_like, shape () or (...), in units of [y]
        Standard deviation of the process; with ``group`` also (..., g), one of each.
    lengthscale : tensor_like, shape () or (...), in units of time
        Length scale l, as ``ls`` of PyMC's ``Matern32``; with ``group`` also (..., g).
    time : array_like, shape (n), in units of the length scale
        Constant: when each observation was made, in any order; finite numbers.
    group : array_like, shape (n), in units of labels, optional
        Constant: whose series each observation belongs to. Where groups have parameters of their
        own, the number of the group, 0 to g - 1.

    Raises
    ------
    TypeError
        If an argument is not real, a time is no number, or ``time`` or ``group`` is symbolic.
    ValueError
        If a constant sigma or lengthscale is not positive; if a time or a label is missing, or
        there are not as many of one as of the other; and, where a density is built, if a group has
        two observations at one time and no noise.

    Notes
    -----
    Cost of value and gradient: O(n) a row, by a Kalman filter with two states and its reverse
    sweep. Pullback: the rate :math:`\sqrt{3} / l` comes in by the transitions, with
    :math:`d\Phi / du = (N - I) \Phi`, and the variance by the covariance of the state.

    Sums of processes at the same times, in the same groups, and of noise, ``+ Diagonal(...)``,
    are one filter with the states of all. The log density is -inf where sigma or lengthscale is not
    positive.

    References
    ----------
    Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian Processes for Machine Learning. MIT
    Press, eq. 4.17.

    Hartikainen, J. and Sarkka, S. (2010). Kalman filtering and smoothing solutions to temporal
    Gaussian process regression models. IEEE MLSP, 379-384, section 3.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> gg.cov.Matern32(2.0, 1.0, time=[0, 1, 3]).to_dense().eval().round(3)
    array([[4.   , 1.933, 0.137],
           [1.933, 4.   , 0.559],
           [0.137, 0.559, 4.   ]])
    """

    def __init__(self, sigma, lengthscale, time, group=None):
        (sigma, lengthscale), place = self._read(time, group, sigma=sigma, lengthscale=lengthscale)
        rate = times_number(3**0.5, inverse_scale(lengthscale))
        self._make([(MATERN_3_2, 2, [times_scale(sigma, sigma), rate])], place)
