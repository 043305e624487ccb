"""The log density of a multivariate normal from its two numbers."""

import numpy as np
import pytensor.tensor as pt

LOG_2PI = float(np.log(2 * np.pi))


def gaussian_log_density(quad, logdet, n):
    """-(quad + logdet + n log 2 pi) / 2; -inf where logdet is not finite or quad overflows.

    A quad that is NaN stays NaN: that is a fact of the data or of the mean.
    """
    value = -0.5 * (quad + logdet + pt.as_tensor(n).astype(quad.dtype) * LOG_2PI)
    usable = pt.isfinite(logdet) & ~pt.isinf(quad)
    return pt.switch(usable, value, -np.inf).astype(quad.dtype)
