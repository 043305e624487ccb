"""Columns of a table that say which group an observation belongs to, and when it was made."""

import numpy as np
import pandas as pd
from pytensor.graph.basic import Variable


def as_column(owner, name, value, dtype=None):
    """Constant data, one entry an observation, as an array (n,)."""
    if isinstance(value, Variable):
        raise TypeError(
            f"{owner}: `{name}` is symbolic, expected constant data; pass a NumPy array or a "
            "column of a data frame."
        )
    if np.ma.is_masked(value):
        raise ValueError(f"{owner}: `{name}` has masked entries; drop these observations.")
    value = np.asarray(value, dtype=dtype)
    if value.ndim != 1 or value.size == 0:
        raise ValueError(
            f"{owner}: `{name}` has shape {value.shape}, expected (n,): one entry for each "
            "observation."
        )
    return value


def as_labels(owner, name, value):
    """Numbers of the groups in order of first appearance, (n,), and the labels of these."""
    # Among strings a missing label would become the label "nan".
    codes, labels = pd.factorize(as_column(owner, name, value, dtype=object))
    if missing := int((codes < 0).sum()):
        raise ValueError(
            f"{owner}: `{name}` has {missing} missing label(s), expected one for each "
            "observation; drop these observations or label them."
        )
    return codes.astype("int64"), labels


def as_groups(owner, value, n_groups=None, name="group"):
    """Numbers of the groups, (n,), and their labels.

    Parameters
    ----------
    owner : str
        Who asks, for messages.
    value : array_like, shape (n)
        A label an observation.
    n_groups : int, optional
        Where groups have parameters of their own: how many. Labels have to number them then.
    name : str
        What the user calls them.

    Raises
    ------
    ValueError
        If a label is missing, labels are no numbers of parameters where there are some, or one of
        these has no observations.
    """
    codes, labels = as_labels(owner, name, value)
    if n_groups is None:
        return codes, labels
    numbers = value.codes if isinstance(value, pd.Categorical) else np.asarray(value)
    numbers = value.cat.codes.to_numpy() if hasattr(value, "cat") else numbers
    if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= n_groups:
        raise ValueError(
            f"{owner}: there are parameters of {n_groups} groups and labels such as {labels[0]!r} "
            f"in `{name}`, expected the numbers 0 to {n_groups - 1}; number both by "
            f"np.unique({name}, return_inverse=True)[1]."
        )
    absent = np.setdiff1d(np.arange(n_groups), numbers)
    if absent.size:
        raise ValueError(
            f"{owner}: {name} {absent[0]} has a parameter and no observations, expected at least "
            f"one in each of 0 to {n_groups - 1}; number those that are left anew."
        )
    return numbers.astype("int64"), np.arange(n_groups)


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
    if value.dtype.kind in "mM":
        raise TypeError(
            f"{owner}: `time` has dtype {value.dtype}, expected numbers, in the unit that the "
            "correlation is for; for days write (time - time.min()) / np.timedelta64(1, 'D')."
        )
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
    return value.astype("float64")


def check_length(owner, size, column) -> None:
    """Raise a ValueError where a user's ``size`` is not the number of entries of a column."""
    if isinstance(size, int) and size != column.size:
        raise ValueError(
            f"{owner}: size = {size}, and there are times and labels of {column.size} "
            "observations, expected as many; leave size= out."
        )
