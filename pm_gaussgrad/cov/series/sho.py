r"""``SHO``: a damped oscillator that is driven by white noise."""

import numpy as np

from pm_gaussgrad.cov.protocol.scales import inverse_scale, times_scale
from pm_gaussgrad.cov.series.process import Process
from pm_gaussgrad.kernels.state_space.processes import OSCILLATOR


class SHO(Process):
    def __init__(self, sigma, rho, Q, time, group=None):
        (sigma, rho, quality), place = self._read(time, group, sigma=sigma, rho=rho, Q=Q)
        frequency, damping = 2 * np.pi * inverse_scale(rho), inverse_scale(quality) / 2
        self._make([(OSCILLATOR, 2, [times_scale(sigma, sigma), frequency, damping])], place)
