"""Cumulative sums of independent steps, as random walks."""

import numpy as np
from pytensor.graph.basic import Constant
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from pm_gaussgrad.adopt.marginalize.linear.pieces import Matrix, product_of
from pm_gaussgrad.cov import Wiener

# Of shorter ones the columns are few.
_SHORTEST = 3


def of_steps(pieces):
    r"""The covariance of walks, where observations are sums of first steps; else None.

    Of steps with the standard deviations :math:`p s_j`, in which p is a scalar parameter, the sum
    of the first t has the variance :math:`p^2 \sum_{j \le t} s_j^2`: a Wiener process, whose time
    is that sum. Steps of several walks are in no observation together.
    """
    if len(pieces) != 1 or not isinstance(pieces[0], Matrix):
        return None
    [piece] = pieces
    if not isinstance(piece.jacobian, Constant):
        return None
    jacobian = piece.jacobian.data
    lengths = np.count_nonzero(jacobian, axis=0)
    if lengths.max(initial=0) < _SHORTEST:
        return None
    steps, group = _groups(jacobian, lengths)
    time = np.zeros(len(lengths))
    for walk in np.unique(group):
        own, seen = np.flatnonzero(steps == walk), np.flatnonzero(group == walk)
        part = jacobian[np.ix_(own, seen)]
        sizes = part[:, lengths[seen].argmax()]
        first = np.arange(len(own))[:, None] < lengths[seen]
        if not np.array_equal(part, np.where(first, sizes[:, None], 0.0)):
            return None
        time[seen] = np.append(0.0, np.cumsum(sizes**2))[lengths[seen]]
    group = None if (group == group[0]).all() else group
    return Wiener(_absolute(product_of(piece.scalars)), time, group=group)


def _groups(jacobian, lengths):
    """The walk of each step, and of each observation; of one without steps any."""
    m = len(jacobian)
    steps = connected_components(csr_array(jacobian) @ csr_array(jacobian).T, directed=False)[1]
    group = steps[np.argmax(jacobian != 0, axis=0)] if m else np.zeros(len(lengths), int)
    return steps, group


def _absolute(scale):
    return scale if isinstance(scale, float) else abs(scale)
