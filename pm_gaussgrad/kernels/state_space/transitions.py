"""The transitions of all observations, in order of time, of all processes of a sum.

They are made and pulled back apart from the filter, one process after another: what is here does
not depend on the number of states, and is compiled once for all sums.
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.state_space.processes import (
    EXPONENTIAL,
    WIENER,
    drive,
    fill,
    is_process,
    n_values,
    pull_drive,
    pull_fill,
    pull_start,
    start,
)

_INDEX = ("float64 1", "float64", "int64 1", "int64 1", "int64 2")


@apart(*_INDEX, "float64 2", "float64 2", "float64 2", result=())
def transitions(times, origin, order, ends, blocks, values, phi, driven):
    """Writes Phi and R of each observation; Phi is zero where a group begins."""
    step, begin = _steps(times, origin, order, ends, 0, 0, order.size), 0
    for group in range(ends.size):
        end, own = ends[group], values[group if values.shape[0] > 1 else 0]
        first, at, by = 0, 0, 0
        for k in range(blocks.shape[0] if end > begin else 0):
            kind, size = blocks[k, 0], blocks[k, 1]
            for i in range(size * size):
                phi[begin, at + i] = 0.0
            fill(kind, size, own, first, step, begin + 1, end, phi, at)
            if kind in (EXPONENTIAL, WIENER):
                drive(kind, size, own, first, step, begin, end, driven, by)
                by += size * (size + 1) // 2
            first, at = first + n_values(kind, size), at + size * size
        begin = end


@apart(*_INDEX, *["float64 2"] * 5, *["int64"] * 3, result=())
def pull_transitions(
    times,
    origin,
    order,
    ends,
    blocks,
    values,
    phi,
    phi_bar,
    driven_bar,
    values_bar,
    group,
    start,
    stop,
):
    """Adds the cotangents of the parameters that come through some observations.

    Those from ``start``, which is of ``group``, to ``stop``; the first row of the cotangents is
    that of ``start``.
    """
    begin = ends[group - 1] if group > 0 else 0
    step = _steps(times, origin, order, ends, group, start, stop)
    for number in range(group, ends.size):
        if begin >= stop:
            break
        row, end = number if values.shape[0] > 1 else 0, min(ends[number], stop) - start
        own, own_bar, low = values[row], values_bar[row], max(begin - start, 0)
        later = low if begin < start else low + 1
        first, at, by = 0, 0, 0
        for k in range(blocks.shape[0] if end > low else 0):
            kind, size = blocks[k, 0], blocks[k, 1]
            made = phi[start:stop]
            pull_fill(kind, size, own, first, step, later, end, made, phi_bar, at, own_bar)
            if kind in (EXPONENTIAL, WIENER):
                begun = begin >= start
                pull_drive(kind, size, own, first, step, begun, low, end, driven_bar, by, own_bar)
                by += size * (size + 1) // 2
            first, at = first + n_values(kind, size), at + size * size
        begin = ends[number]


def _steps(times, origin, order, ends, group, start, stop):
    """Times since the observation before, in order; of the first of a group since the origin.

    From ``start``, which is of ``group``, to ``stop``.
    """
    step, t = np.empty(stop - start), start
    begin = ends[group - 1] if group > 0 else 0
    while t < stop:
        before = times[order[t - 1]] if t > begin else origin
        while t < min(ends[group], stop):
            now = times[order[t]]
            step[t - start], before, t = now - before, now, t + 1
        begin, group = ends[group], group + 1
    return step


@apart("int64 2", "float64 2", "float64 2", result=("int64",))
def starts(blocks, values, g):
    """Fills the g of all groups, or the common one, (groups, J); whether all are processes."""
    usable = 1
    for group in range(values.shape[0]):
        first, lo = 0, 0
        for k in range(blocks.shape[0]):
            kind, size = blocks[k, 0], blocks[k, 1]
            usable = usable if is_process(kind, values[group], first) else 0
            start(kind, size, values[group], first, g[group], lo)
            first, lo = first + n_values(kind, size), lo + size
    return usable


@apart("int64 2", "float64 2", "float64 2", result=())
def pull_starts(blocks, g_bar, values_bar):
    """Adds the cotangents that come through g."""
    for group in range(values_bar.shape[0]):
        first, lo = 0, 0
        for k in range(blocks.shape[0]):
            kind, size = blocks[k, 0], blocks[k, 1]
            pull_start(kind, size, g_bar[group], lo, values_bar[group], first)
            first, lo = first + n_values(kind, size), lo + size
