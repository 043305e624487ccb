"""The transitions of all observations, in order of time, of all processes of a sum.

They are made and pulled back apart from the filter, one process after another: what is here does
not depend on the number of states, and is compiled once for all sums.
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.state_space.layout import block_size
from pm_gaussgrad.kernels.state_space.processes import (
    drive,
    fill,
    is_process,
    n_values,
    pull_drive,
    pull_fill,
    pull_start,
    start,
)

_INDEX = ("float64 1", "float64", "int64 1", "int64 1", "int64 1")
_LAYOUT = ("int64", "int64", "int64", "int64")


@apart(*_INDEX, *_LAYOUT, "float64 2", "float64 2", "float64 2", result=())
def transitions(times, origin, order, ends, kinds, ones, twos, threes, rest, values, phi, driven):
    """Writes Phi and R of each observation but Phi where a group begins, which is to be zero."""
    step, begin, count = _steps(times, origin, order, ends), 0, driven.shape[1]
    for group in range(ends.size):
        end, own = ends[group], values[group if values.shape[0] > 1 else 0]
        first, at, by = 0, 0, 0
        for k in range(kinds.size if end > begin else 0):
            kind, size = kinds[k], block_size(ones, twos, threes, rest, k)
            fill(kind, size, own, first, step, begin + 1, end, phi, at)
            if by < count:
                drive(kind, size, own, first, step, begin, end, driven, by)
            first, at = first + n_values(kind, size), at + size * size
            by += size * (size + 1) // 2
        begin = end


@apart(*_INDEX, *_LAYOUT, *["float64 2"] * 5, result=())
def pull_transitions(
    times,
    origin,
    order,
    ends,
    kinds,
    ones,
    twos,
    threes,
    rest,
    values,
    phi,
    phi_bar,
    driven_bar,
    values_bar,
):
    """Adds the cotangents of the parameters."""
    step, begin, count = _steps(times, origin, order, ends), 0, driven_bar.shape[1]
    for group in range(ends.size):
        row, end = group if values.shape[0] > 1 else 0, ends[group]
        own, own_bar = values[row], values_bar[row]
        first, at, by = 0, 0, 0
        for k in range(kinds.size if end > begin else 0):
            kind, size = kinds[k], block_size(ones, twos, threes, rest, k)
            pull_fill(kind, size, own, first, step, begin + 1, end, phi, phi_bar, at, own_bar)
            if by < count:
                pull_drive(kind, size, own, first, step, begin, end, driven_bar, by, own_bar)
            first, at = first + n_values(kind, size), at + size * size
            by += size * (size + 1) // 2
        begin = end


def _steps(times, origin, order, ends):
    """Times since the observation before, in order; of the first of a group since the origin."""
    step, begin = np.empty(order.size), 0
    for group in range(ends.size):
        before = origin
        for t in range(begin, ends[group]):
            now = times[order[t]]
            step[t], before = now - before, now
        begin = ends[group]
    return step


def starts(kinds, layout, values, g):
    """Fills the g of all groups, or the common one, (groups, J); whether all are processes."""
    ones, twos, threes, rest = layout
    usable = True
    for group in range(values.shape[0]):
        first, lo = 0, 0
        for k in range(kinds.size):
            size = block_size(ones, twos, threes, rest, k)
            usable = usable and is_process(kinds[k], values[group], first)
            start(kinds[k], size, values[group], first, g[group], lo)
            first, lo = first + n_values(kinds[k], size), lo + size
    return usable


def pull_starts(kinds, layout, g_bar, values_bar):
    """Adds the cotangents that come through g."""
    ones, twos, threes, rest = layout
    for group in range(values_bar.shape[0]):
        first, lo = 0, 0
        for k in range(kinds.size):
            size = block_size(ones, twos, threes, rest, k)
            pull_start(kinds[k], size, g_bar[group], lo, values_bar[group], first)
            first, lo = first + n_values(kinds[k], size), lo + size
