"""``Process``: a single process of a known kind at a user's times, in a user's groups."""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.constants import check_finite, check_positive, check_within
from pm_gaussgrad.cov.protocol.labels import as_column, as_groups, as_times, in_order
from pm_gaussgrad.cov.protocol.scales import nan_unless
from pm_gaussgrad.cov.series.state_space import StateSpace


class Process(StateSpace):
    """Base of the structures that users name; what sums come to is a ``StateSpace``."""

    # Parameters that are at least zero; the others are positive.
    may_be_zero = frozenset()

    def _read(self, time, group, **parameters):
        """Users' arguments: parameters (..., 1) or (..., g), and what places them in time."""
        owner, grouped = self.label, group is not None
        given = {name: as_parameter(owner, name, x, 0) for name, x in parameters.items()}
        for name, x in given.items():
            self._check(name, x)
        given = {name: _finite(x) for name, x in given.items()}
        given = {name: x if grouped and x.type.ndim else x[..., None] for name, x in given.items()}
        if grouped:
            numbers, labels = as_groups(owner, group, **given)
        else:
            numbers, labels = np.zeros(as_column(owner, "time", time).shape, "int64"), [0]
        times = as_times(owner, time, numbers, labels)
        self._labels = labels
        return list(given.values()), (times, numbers, len(labels))

    def _check(self, name, x):
        """Raise a ValueError where a constant parameter is none of a process."""
        check_finite(self.label, name, x)
        if name in self.may_be_zero:
            check_within(self.label, name, x, 0)
        else:
            check_positive(self.label, name, x)

    def _make(self, processes, place, origin=0.0):
        """From processes, (kind, states, parameters), at what :meth:`_read` returned."""
        times, numbers, n_groups = place
        dtype = processes[0][2][0].dtype
        tensors = map(pt.constant, (numbers, *in_order(times, numbers, n_groups)))
        noise = pt.zeros(1, dtype=dtype)
        origin = pt.constant(np.asarray(origin, "float64"))
        self._set(processes, pt.constant(times), origin, noise, *tensors)


def _finite(x):
    """NaN in place of infinity, by which a slope of zero would be NaN."""
    if isinstance(x, Constant):
        return x
    return nan_unless(pt.isfinite(pt.ceil(x)), x)


def times_number(number, x):
    """A product in the precision of x, to which PyTensor does not round what is no exact number."""
    return pt.constant(number, dtype=x.dtype) * x
