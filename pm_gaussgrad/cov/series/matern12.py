r"""``Matern12``: the Matern process of smoothness 1/2 in time, of Ornstein and Uhlenbeck.

Definition: Sigma_ij = sigma^2 exp(-u), u = |t_i - t_j| / l, within a group. Storage,
cost and pullback are those of :mod:`pm_gaussgrad.cov.series.state_space`, with one state.

Sources: Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, section 4.2.1;
Hartikainen and Sarkka (2010), Kalman filtering and smoothing solutions to temporal Gaussian process
regression models, section 3.
"""

from pm_gaussgrad.cov.protocol.scales import inverse_scale, times_scale
from pm_gaussgrad.cov.series.process import Process
from pm_gaussgrad.kernels.state_space.processes import EXPONENTIAL


class Matern12(Process):
    r"""A Matern process of smoothness 1/2, at any times.

    :math:`\Sigma_{ij} = \sigma^2 e^{-u}`, :math:`u = |t_i - t_j| / l`, within a
    group, zero between groups. It is continuous and nowhere differentiable: the Ornstein-Uhlenbeck
    process, :class:`~pm_gaussgrad.cov.AR1` at any times with :math:`\rho = e^{-1/l}`.

    Parameters
    ----------
    sigma : tensor_like, shape () or (...), in units of [y]
        Standard deviation of the process; with ``group`` also (..., g), one of each.
    lengthscale : tensor_like, shape () or (...), in units of time
        Length scale l, as ``ls`` of PyMC's ``Exponential``; with ``group`` also (..., g).
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
    Cost of value and gradient: O(n) a row, by a Kalman filter with one state and its reverse
    sweep. Pullback: with the variance of a step, :math:`\sigma^2 (1 - e^{-2u})`, and its
    transition :math:`e^{-u}`, which the sweep has cotangents of.

    Sums of processes at the same times, in the same groups, and of noise, ``+ Diagonal(...)``,
    are one filter with the states of all. The log density is -inf where sigma or lengthscale is not
    positive.

    References
    ----------
    Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian Processes for Machine Learning. MIT
    Press, section 4.2.1.

    Hartikainen, J. and Sarkka, S. (2010). Kalman filtering and smoothing solutions to temporal
    Gaussian process regression models. IEEE MLSP, 379-384, section 3.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> gg.cov.Matern12(2.0, 1.0, time=[0, 1, 3]).to_dense().eval().round(3)
    array([[4.   , 1.472, 0.199],
           [1.472, 4.   , 0.541],
           [0.199, 0.541, 4.   ]])
    """

    def __init__(self, sigma, lengthscale, time, group=None):
        (sigma, lengthscale), place = self._read(time, group, sigma=sigma, lengthscale=lengthscale)
        rate = inverse_scale(lengthscale)
        self._make([(EXPONENTIAL, 1, [times_scale(sigma, sigma), rate])], place)
