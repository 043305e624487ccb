r"""``Matern32``: the Matern process of smoothness 3/2 in time.

Definition: Sigma_ij = sigma^2 (1 + u) exp(-u), u = sqrt(3) |t_i - t_j| / l. Storage, cost and pullback
are those of :mod:`pm_gaussgrad.cov.series.state_space`, with two states.

Sources: Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, eq. 4.17; Hartikainen and
Sarkka (2010), Kalman filtering and smoothing solutions to temporal Gaussian process regression models,
section 3.
"""

from pm_gaussgrad.cov.protocol.scales import inverse_scale, times_scale
from pm_gaussgrad.cov.series.process import Process
from pm_gaussgrad.kernels.state_space.processes import MATERN_3_2


class Matern32(Process):
    def __init__(self, sigma, lengthscale, time, group=None):
        (sigma, lengthscale), place = self._read(time, group, sigma=sigma, lengthscale=lengthscale)
        rate = 3**0.5 * inverse_scale(lengthscale)
        self._make([(MATERN_3_2, 2, [times_scale(sigma, sigma), rate])], place)
