"""Sums of processes in time with autoregressions and with random intercepts: one filter.

An ``AR1`` is a process of one state, v rho^|t_i - t_j|, at the times that it was given, or at
steps of one in the order of the table. A random intercept of each series is one, too, of rho = 1: a
state that stays as it is.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import equal_computations

from pm_gaussgrad.cov.graphs.latents import Latents
from pm_gaussgrad.cov.groups.compound_symmetry import CompoundSymmetry
from pm_gaussgrad.cov.groups.grouped_symmetry import GroupedSymmetry
from pm_gaussgrad.cov.matrices.scaled import Scaled
from pm_gaussgrad.cov.protocol.constants import constant_value
from pm_gaussgrad.cov.protocol.labels import of_each
from pm_gaussgrad.cov.protocol.scales import nan_unless
from pm_gaussgrad.cov.protocol.sums import closed_sum, closes, common_size, mends
from pm_gaussgrad.cov.series.ar1 import AR1
from pm_gaussgrad.cov.series.irregular_ar1 import IrregularAR1
from pm_gaussgrad.cov.series.noisy_ar1 import NoisyAR1
from pm_gaussgrad.cov.series.state_space import StateSpace
from pm_gaussgrad.kernels.state_space.processes import POWER

_DENSE = "for the dense sum, at a cost of n^3, write gg.cov.Dense((a + b).to_dense())"

mends(
    StateSpace,
    Scaled,
    "Scales of the observations can be those of all processes together, gg.cov.Scaled(a + b, "
    "scale).",
)


def _autoregression(variance, correlation):
    """Kind, states and parameters; NaN where it is no covariance by itself."""
    # The gradient of a comparison is that of a rounded number, zeros of its own precision.
    inside = pt.gt(pt.ceil(1 - correlation), 0) & pt.gt(pt.ceil(1 + correlation), 0)
    inside &= pt.ge(pt.floor(variance), 0)
    return POWER, 1, [nan_unless(inside, variance), correlation]


@closes(StateSpace, IrregularAR1)
def _with_autoregression(process, series):
    times, variance, correlation, noise, *index = series.parameters
    here = [process.parameters[0], *process.parameters[-3:]]
    if not equal_computations(here, [times, *index]):
        raise TypeError(
            f"{process.label} + {series.label}: `time` or `group` differ, expected the same in "
            f"both; {_DENSE}."
        )
    processes = [*process.processes(), _autoregression(variance, correlation)]
    return process.with_processes(processes, process.parameters[3] + noise)


def _as_process(series):
    times, variance, correlation, noise, *index = series.parameters
    only, origin = [_autoregression(variance, correlation)], pt.zeros((), dtype="float64")
    process = StateSpace.of_processes(only, times, origin, noise, *index)
    process._labels, process.label, process.summand = series._labels, series.label, series.summand
    return process


@closes(IrregularAR1, IrregularAR1)
@closes(IrregularAR1, GroupedSymmetry)
@closes(IrregularAR1, CompoundSymmetry)
@closes(IrregularAR1, Latents)
def _autoregression_with_others(series, other):
    return closed_sum(_as_process(series), other)


@closes(StateSpace, NoisyAR1)
@closes(StateSpace, AR1)
def _with_regular_autoregression(process, series):
    common_size(process, series)
    if not _has_unit_steps(process):
        raise TypeError(
            f"{process.label} + {series.label}: an AR1 without times is of steps of one, expected "
            f"the same times in both; pass time= and group= to gg.cov.AR1; {_DENSE}."
        )
    variance, correlation, *noise = (x[..., None] for x in series.parameters)
    processes = [*process.processes(), _autoregression(variance, correlation)]
    return process.with_processes(processes, sum(noise, start=process.parameters[3]))


def _has_unit_steps(process):
    """Whether it is one series, in order of time, with times that are one apart."""
    index = process._index()
    if index is None:
        return False
    times, group, _ = index
    return not group.any() and (np.diff(times) == 1).all()


@closes(StateSpace, GroupedSymmetry)
def _with_intercepts(process, symmetry):
    common_size(process, symmetry)
    own, common, group, _ = symmetry.parameters
    place = _place_of_groups(process, symmetry, constant_value(group))
    return _with_intercept(process, symmetry._of_observations(own), of_each(common, place))


@closes(StateSpace, CompoundSymmetry)
def _with_one_intercept(process, symmetry):
    common_size(process, symmetry)
    _place_of_groups(process, symmetry, np.zeros(process.size, dtype="int64"))
    return _with_intercept(process, *(x[..., None] for x in symmetry._components()))


@closes(StateSpace, Latents)
def _with_effects(process, latents):
    """Effects of one variance, of the levels that are the groups."""
    common_size(process, latents)
    levels = _levels_of_intercepts(latents)
    _place_of_groups(process, latents, levels)
    common = latents.terms.covariances
    return _with_intercept(process, pt.zeros(1, dtype=common.dtype), common)


def _place_of_groups(process, other, numbers):
    """Of each group of the processes, the number that it has elsewhere: (g).

    Raises a TypeError where the groups are not the same.
    """
    groups = constant_value(process.parameters[-3])
    if groups is not None and numbers is not None:
        both = np.unique(np.stack([groups, numbers]), axis=1)
        if both.shape[1] == np.unique(groups).size == np.unique(numbers).size:
            place = np.zeros(process.parameters[-1].type.shape[0], dtype="int64")
            place[both[0]] = both[1]
            return place
    raise TypeError(
        f"{process.label} + {other.label}: `group` differs, expected the same in both, and one "
        "coefficient, a level, for each group; effects of other groups, or with a design, beside "
        "processes are gg.cov.LowRank(sd * Z), Z[i, g] = 1 where observation i is of group g; "
        f"{_DENSE}."
    )


def _levels_of_intercepts(latents):
    """The level of each observation, (n); None where effects are anything but a number of each."""
    terms = latents.terms
    if terms is None or terms.levels.shape[1] != 1 or terms.levels[0, 0] != 1:
        return None
    rows, levels = terms.entries
    related = (terms.related[0] != terms.related[1]).any() or (terms.between != 1).any()
    others = terms.nodes or terms.flat.shape[1] or (terms.sums >= 0).any()
    one_each = np.array_equal(rows, np.arange(terms.size)) and (terms.loadings == 1).all()
    return None if related or others or not one_each else levels


def _with_intercept(process, own, common):
    """A variance of each observation, and a state of each group that stays as it is."""
    constant = POWER, 1, [common, pt.ones_like(common)]
    return process.with_processes([*process.processes(), constant], process.parameters[3] + own)
