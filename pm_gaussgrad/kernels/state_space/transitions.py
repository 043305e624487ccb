"""The transitions of all observations, in order of time, of all processes of a sum.

They are made and pulled back apart from the filter, one process after another within a step; what
depends on the numbers of states alone is compiled for any. Where steps are equal, as of regular
series, a transition is copied from the one before.
"""

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.state_space.processes import (
    block_size,
    drive,
    is_process,
    n_values,
    pull_drive,
    pull_start,
    pull_transition,
    start,
    transition,
)

_INDEX = ("float64 1", "float64", "int64 1", "int64 1", "int64 1")
_LAYOUT = ("int64", "int64", "int64", "int64")


@apart(*_INDEX, *_LAYOUT, "float64 2", "float64 2", "float64 2", result=())
def transitions(times, origin, order, ends, kinds, ones, twos, threes, rest, values, phi, driven):
    """Fills Phi and R of each observation; Phi is zero where a group begins."""
    begin, wide = 0, driven.shape[1] > ones
    for group in range(ends.size):
        own = values[group if values.shape[0] > 1 else 0]
        step = -1.0
        for t in range(begin, ends[group]):
            begins, before = t == begin, step
            step = times[order[t]] - (origin if begins else times[order[t - 1]])
            if step == before and t > begin + 1:
                phi[t], driven[t] = phi[t - 1], driven[t - 1]
                continue
            first, at, by = 0, 0, 0
            for k in range(kinds.size):
                kind, size = kinds[k], block_size(ones, twos, threes, rest, k)
                if not begins:
                    transition(kind, size, own, first, step, phi[t], at)
                if size == 1 or (wide and size < 4):
                    drive(kind, size, own, first, step, begins, driven[t], by)
                    by += size * (size + 1) // 2
                first, at = first + n_values(kind, size), at + size * size
        begin = ends[group]


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
    """Adds the cotangents of the parameters; of equal steps all at once."""
    begin, wide = 0, driven_bar.shape[1] > ones
    for group in range(ends.size):
        row = group if values.shape[0] > 1 else 0
        own, own_bar = values[row], values_bar[row]
        for t in range(ends[group] - 1, begin - 1, -1):
            begins = t == begin
            step = times[order[t]] - (origin if begins else times[order[t - 1]])
            if t > begin + 1 and step == times[order[t - 1]] - times[order[t - 2]]:
                for j in range(phi_bar.shape[1]):
                    phi_bar[t - 1, j] += phi_bar[t, j]
                for j in range(driven_bar.shape[1]):
                    driven_bar[t - 1, j] += driven_bar[t, j]
                continue
            first, at, by = 0, 0, 0
            for k in range(kinds.size):
                kind, size = kinds[k], block_size(ones, twos, threes, rest, k)
                if not begins:
                    transition_bar = phi[t], phi_bar[t]
                    pull_transition(kind, size, own, first, step, *transition_bar, at, own_bar)
                if size == 1 or (wide and size < 4):
                    pull_drive(kind, size, own, first, step, begins, driven_bar[t], by, own_bar)
                    by += size * (size + 1) // 2
                first, at = first + n_values(kind, size), at + size * size
        begin = ends[group]


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
