"""Cumulative sums of independent steps, as random walks."""

import numpy as np
from pytensor.graph.basic import Constant

from pm_gaussgrad.adopt.linear.pieces import Matrix, product_of
from pm_gaussgrad.cov import Wiener


def of_steps(pieces):
    r"""The covariance of a walk, where observations are sums of the first steps; else None.

    Of steps with the standard deviations :math:`p s_j`, in which p is a scalar parameter, the sum
    of the first t has the variance :math:`p^2 \sum_{j \le t} s_j^2`: a Wiener process, whose time
    is that sum.
    """
    if len(pieces) != 1 or not isinstance(pieces[0], Matrix):
        return None
    [piece] = pieces
    if not isinstance(piece.jacobian, Constant):
        return None
    jacobian = piece.jacobian.data
    lengths = np.count_nonzero(jacobian, axis=0)
    steps = jacobian[:, lengths.argmax()]
    first = np.arange(len(steps))[:, None] < lengths
    if not np.array_equal(jacobian, np.where(first, steps[:, None], 0.0)):
        return None
    time = np.append(0.0, np.cumsum(steps**2))[lengths]
    return Wiener(_absolute(product_of(piece.scalars)), time)


def _absolute(scale):
    return scale if isinstance(scale, float) else abs(scale)
