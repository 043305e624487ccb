"""Columns of a table that say which group an observation belongs to, and when it was made."""

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype
from pytensor.graph.basic import Constant, Variable

from pm_gaussgrad.cov.protocol.arguments import as_constant

_SEVERAL_COLUMNS = (
    "; of labels in several columns of a table pass one of their combinations, "
    "table.groupby(columns).ngroup()"
)
_OF_EACH_OBSERVATION = (
    "for a standard deviation of each observation pass a scalar variance, and the structure as "
    "gg.cov.Scaled(cov, sigma)"
)
_OF_EACH_ROW = (
    "; where rows have times of their own make one long column of them, and of the values, and say "
    "by group= whose each is"
)
# How pandas calls what is no number, and how it becomes one.
_DATES = "(pd.to_datetime(time) - pd.to_datetime(time).min()) / pd.Timedelta(days=1)"
_SPANS = "pd.to_timedelta(time) / pd.Timedelta(days=1)"
_PERIODS = "(pd.PeriodIndex(time).to_timestamp() - pd.Timestamp(2000, 1, 1)) / pd.Timedelta(days=1)"
_IN_DAYS = {
    "datetime64": _DATES,
    "datetime": _DATES,
    "date": _DATES,
    "string": _DATES,
    "timedelta64": _SPANS,
    "timedelta": _SPANS,
    "period": _PERIODS,
}


def as_column(owner, name, value, dtype=None, remedy=""):
    """Constant data, one entry an observation, as an array (n,).

    ``remedy`` is what an error about several columns ends with.
    """
    if isinstance(value, Variable):
        raise TypeError(
            f"{owner}: `{name}` is symbolic, expected constant data; pass a NumPy array or a "
            "column of a data frame."
        )
    if np.ma.is_masked(value):
        raise ValueError(f"{owner}: `{name}` has masked entries; drop these observations.")
    value = np.asarray(value, dtype=dtype)
    remedy = _OF_EACH_ROW if name == "time" else remedy
    if value.ndim != 1 or value.size == 0:
        raise ValueError(
            f"{owner}: `{name}` has shape {value.shape}, expected (n,): one entry for each "
            f"observation{remedy if value.ndim == 2 else ''}."
        )
    return value


def as_labels(owner, name, value):
    """Numbers of the groups in order of first appearance, (n,), and the labels of these."""
    # Among strings a missing label would become the label "nan".
    codes, labels = pd.factorize(as_column(owner, name, value, object, _SEVERAL_COLUMNS))
    if missing := int((codes < 0).sum()):
        raise ValueError(
            f"{owner}: `{name}` has {missing} missing label(s), expected one for each "
            "observation; drop these observations or label them."
        )
    return codes.astype("int64"), labels


def as_groups(owner, value, **parameters):
    """Numbers of the groups, (n,), and their labels.

    Parameters
    ----------
    owner : str
        Who asks, for messages.
    value : array_like, shape (n)
        A user's ``group``: a label an observation.
    **parameters : tensor, shape (..., 1) or (..., g)
        Common to all groups, or of each.

    Raises
    ------
    ValueError
        If a label is missing or parameters are of different numbers of groups; and, where groups
        have parameters of their own, if labels do not number these, or a group has no observations.
    """
    lengths = {x.type.shape[-1] for x in parameters.values()} - {1}
    known = lengths - {None}
    if len(known) > 1:
        found = ", ".join(f"`{name}` {x.type.shape}" for name, x in parameters.items())
        raise ValueError(f"{owner}: {found}, expected shapes () or (..., g), g groups.")
    if not lengths:
        return as_labels(owner, "group", value)
    return as_numbers(owner, "group", value, *known)


def as_numbers(owner, name, value, count=None):
    """Labels that are the numbers of parameters: themselves, (n,), and all numbers."""
    _, labels = as_labels(owner, name, value)
    if hasattr(value, "cat"):
        value = value.cat
    numbers = np.asarray(value.codes if hasattr(value, "codes") else value)
    hint = f"; {_OF_EACH_OBSERVATION}" if count == numbers.size else ""
    if numbers.dtype.kind not in "iub" or numbers.min() < 0 or numbers.max() >= (count or np.inf):
        last = "g - 1" if count is None else count - 1
        raise ValueError(
            f"{owner}: each {name} has parameters of its own, and labels such as {labels[0]!r}, "
            f"expected the numbers 0 to {last}; number both by "
            f"np.unique({name}, return_inverse=True)[1]{hint}."
        )
    numbers = numbers.astype("int64")  # of a comparison, False and True
    every = np.arange(numbers.max() + 1 if count is None else count)
    absent = np.setdiff1d(every, numbers)
    if absent.size:
        raise ValueError(
            f"{owner}: {name} {absent[0]} has a parameter and no observations, expected at least "
            f"one in each of 0 to {every[-1]}; number those that are left anew{hint}."
        )
    return numbers, every


def as_times(owner, value, group, labels):
    """Times as floats, (n,).

    Raises
    ------
    TypeError
        If they are no numbers.
    ValueError
        If there are others than observations, or one is not finite.
    """
    value = as_column(owner, "time", value)
    if (kind := infer_dtype(value, skipna=True)) in _IN_DAYS:
        raise TypeError(
            f"{owner}: `time` is of {kind}, such as {str(value[0])!r}, expected numbers, in the "
            f"unit of time of the parameters; for days write {_IN_DAYS[kind]}."
        )
    if value.dtype.kind == "O":
        value = as_constant(owner, "time", np.where(pd.isna(value), np.nan, value))
    if value.dtype.kind not in "iuf":
        raise TypeError(f"{owner}: `time` has dtype {value.dtype}, expected numbers.")
    if value.size != group.size:
        raise ValueError(
            f"{owner}: `time` has {value.size} entries and `group` {group.size}, expected one of "
            "each for each observation."
        )
    broken = ~np.isfinite(value)
    if broken.any():
        i = int(broken.argmax())
        raise ValueError(
            f"{owner}: `time` of observation {i}, in group {labels[group[i]]}, is {value[i]}, "
            "expected a number; drop this observation."
        )
    return _without_rounding(value.astype("float64"), group)


def _without_rounding(times, group):
    """Times (n,) whose distances are whole, where those of a group are whole but for rounding.

    A column such as 0.7, 1.7, 2.7 is meant to have whole steps, and 2.7 - 1.7 is not 1.
    """
    first = np.unique(group, return_index=True)[1][group]
    steps = times - times[first]
    whole, resolution = np.round(steps), np.spacing(np.abs(times).max())
    if np.abs(steps - whole).max() > 2 * resolution:
        return times
    # Multiples of a power of two, sums of which are exact.
    unit = max(resolution, 2.0**-20)
    exact = np.round(times[first] / unit) * unit + whole
    apart = [len(np.unique(np.stack([group, t]), axis=1).T) for t in (times, exact)]
    return exact if apart[0] == apart[1] else times


def of_each(values, index):
    """Common parameters, (..., 1), as they are; of those of each, (..., g), the entries (n,)."""
    static = values.type.shape[-1]
    if static == 1:
        return values
    return values[..., index if static is not None else index % values.shape[-1]]


def some_of_each(values, start, stop):
    """Common parameters, (..., 1), as they are; of those of each the ones from start to stop."""
    return values if values.type.shape[-1] == 1 else values[..., start:stop]


def check_length(owner, size, column) -> None:
    """Raise a ValueError where a user's ``size`` is not the number of entries of a column."""
    if isinstance(size, int) and size != column.size:
        raise ValueError(
            f"{owner}: size = {size}, and there are times and labels of {column.size} "
            "observations, expected as many; leave size= out."
        )


def in_order(times, numbers, n_groups):
    """Observations by group and time, (n), and where each group ends there, (n_groups)."""
    ends = np.bincount(numbers, minlength=n_groups).cumsum()
    return np.lexsort((times, numbers)), ends


def constant_index(times, group, order):
    """Times, groups and order as arrays; None where they are symbolic or a batch."""
    known = all(isinstance(x, Constant) for x in (times, group, order))
    return [x.data for x in (times, group, order)] if known and times.type.ndim == 1 else None


def check_repeats(owner, labels, times, group, order, noise) -> None:
    """Raise a ValueError where two observations of a group without noise have one time.

    Parameters
    ----------
    owner : str
        Who is named.
    labels : sequence, optional
        Of the groups; by default their numbers.
    times, group, order : array, shape (n)
        ``order`` by group and time.
    noise : array, shape (..., n)
        Variances.
    """
    for of_batch in noise.reshape(-1, order.size):
        exact = order[of_batch[order] == 0]
        same = (np.diff(group[exact]) == 0) & (np.diff(times[exact]) == 0)
        if not same.any():
            continue
        i = exact[1:][same][0]
        name = group[i] if labels is None else labels[group[i]]
        raise ValueError(
            f"{owner}: group {name} has two observations at time {times[i]:g} and no noise, "
            "expected each time at most once, as the covariance would be singular; add "
            "independent noise, + gg.cov.Diagonal(variance)."
        )
