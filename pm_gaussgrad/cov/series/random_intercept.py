"""A level of each series beside processes in time: one state more, which stands still.

What the observations of a group have in common, ``CompoundSymmetry(..., group=)`` or
``Effects(group, variance)``, and processes in the same groups are one filter: the level is an
exponential process without a rate, and what is each observation's own is noise.

Sources: Diggle, Heagerty, Liang and Zeger (2002), Analysis of Longitudinal Data, 2nd ed., section
5.3.3 (random intercept, serial correlation and measurement error).
"""

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.graphs.effects import Effects
from pm_gaussgrad.cov.groups.compound_symmetry import CompoundSymmetry
from pm_gaussgrad.cov.groups.grouped_symmetry import GroupedSymmetry
from pm_gaussgrad.cov.protocol.constants import constant_value
from pm_gaussgrad.cov.protocol.labels import of_each
from pm_gaussgrad.cov.protocol.sums import closes, common_size
from pm_gaussgrad.cov.series.state_space import StateSpace
from pm_gaussgrad.kernels.state_space.processes import EXPONENTIAL

_OTHERS = (
    "effects of other groups, or with a design, beside them are gg.cov.LowRank(sd * Z), Z[i, g] = "
    "1 where observation i is of group g; for the dense sum, at a cost of n^3, write "
    "gg.cov.Dense(a.to_dense() + b.to_dense())."
)


@closes(StateSpace, GroupedSymmetry)
def _sum_with_symmetry(process, symmetry):
    common_size(process, symmetry)
    own, common, group, _ = symmetry.parameters
    place = _same_groups(process, symmetry.label, constant_value(group))
    return _with_levels(process, of_each(own, group), of_each(common, place))


@closes(StateSpace, CompoundSymmetry)
def _sum_with_one_group(process, symmetry):
    common_size(process, symmetry)
    _same_groups(process, symmetry.label, np.zeros(process.size, "int64"))
    own, common = symmetry._components()
    return _with_levels(process, own[..., None], common[..., None])


@closes(StateSpace, Effects)
def _sum_with_effects(process, effects):
    common_size(process, effects)
    terms = effects.terms
    rows, columns = terms.related
    alone = terms.levels[0, 0] == 1 and (terms.loadings == 1).all()
    if not alone or (rows != columns).any() or (terms.between != 1).any():
        raise _different(process, effects.label)
    _same_groups(process, effects.label, terms.entries[1])
    variance = terms.covariances
    return _with_levels(process, pt.zeros_like(variance), variance)


def _same_groups(process, label, numbers):
    """Of each group of the processes, the number that it has elsewhere.

    Raises a TypeError where the groups are not the same.
    """
    groups = constant_value(process.parameters[-3])
    if groups is None or numbers is None or groups.shape != np.shape(numbers):
        raise _different(process, label)
    place = np.zeros(process.parameters[-1].type.shape[0], dtype="int64")
    place[groups] = numbers
    both = np.unique(np.stack([groups, numbers]), axis=1)[0].size
    if not both == np.unique(groups).size == np.unique(numbers).size:
        raise _different(process, label)
    return place


def _different(process, label):
    return TypeError(
        f"{process.label} + {label}: `group` differs, expected the same in both, and one "
        f"coefficient, a level, for each group; {_OTHERS}"
    )


def _with_levels(process, own, common):
    # Rates are positive: of the least, exp(-rate * step) is one.
    rate = pt.full_like(common, np.finfo(common.dtype).tiny)
    level = EXPONENTIAL, 1, [common, rate]
    return process._with([*process.processes(), level], process.parameters[3] + own)
