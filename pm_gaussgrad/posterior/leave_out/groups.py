"""Groups of observations that are left out together."""

import numpy as np
import pandas as pd
from pytensor.graph.basic import Variable

from pm_gaussgrad.cov.protocol.arguments import named_dims_hint
from pm_gaussgrad.posterior.draws import SAMPLE_DIMS

# Unit rows that are solved for at a time where the covariance is not stored as a matrix.
_AT_A_TIME = 64


def as_groups(owner, group, idata, entries, cov):
    """The name of the groups' dimension, the group of each observed entry, and the labels.

    Parameters
    ----------
    owner : str
        The function that asks, for messages.
    group : array_like, shape (n), or str, or True
        Labels, or the name of the coordinate or variable that holds them, or those of ``cov``.
    idata : xarray.DataTree
    entries : ObservedEntries
        Whose positions select from the labels.
    cov : Covariance
        Of all n entries, missing or not.
    """
    if isinstance(group, Variable):
        raise TypeError(
            f"{owner}: `group` is a {type(group).__name__}, expected labels, an array"
            f"{named_dims_hint(group)}, and .eval() of a symbolic one."
        )
    if group is True:
        rows = entries.subject is not None and cov.groups() is None
        group = _of_structure(owner, entries.cov if rows else cov)
    name = group if isinstance(group, str) else getattr(group, "name", None) or "group"
    values = _found(owner, group, idata, entries) if isinstance(group, str) else group
    # Objects: among strings a missing label would become the label "nan".
    values = entries.labels_of_entries(np.asarray(values, dtype=object))
    n = entries.n
    if values.shape != (n,):
        raise ValueError(
            f"{owner}: `group` has shape {values.shape}, expected ({n},): one label for each entry "
            f"of the last dimension of {entries.name!r}."
        )
    codes, labels = pd.factorize(pd.Series(values[entries.positions]).infer_objects())
    if (codes < 0).any():
        raise ValueError(f"{owner}: `group` has missing labels, expected one for each observation.")
    if name in (*SAMPLE_DIMS, *entries.dims[:-1], entries.name):
        raise ValueError(
            f"{owner}: `group` is named {name!r}, as the variable or another dimension of the "
            "result; pass the labels as an array."
        )
    return str(name), codes, labels


def _of_structure(owner, cov):
    """The independent groups that a structure is made of, as a named Series."""
    if (found := cov.groups()) is None:
        raise ValueError(
            f"{owner}: `group` is True, expected labels for {cov.label}, which has no groups of "
            "its own, as subjects or blocks of known size are; pass a label for each observation."
        )
    name, labels = found
    return pd.Series(_as_array(labels), name=name)


def are_unions(codes, cov) -> bool:
    """Whether each group is made of groups that a structure is independent between."""
    if (found := cov.groups()) is None:
        return False
    labels = _as_array(found[1])
    return bool((pd.Series(codes).groupby(labels).nunique() == 1).all())


def _as_array(labels):
    return labels.eval() if isinstance(labels, Variable) else labels


def _found(owner, name, idata, entries):
    """The labels of that name, in the model's coordinates or in a group of the tree."""
    if name == entries.dims[-1]:
        return entries.labels
    if entries.subject is not None and name in entries.coords:
        return entries.coords[name][1]
    for group in ("constant_data", "observed_data", "posterior"):
        if group in idata.children and name in idata[group].dataset.variables:
            return idata[group].dataset[name].to_numpy()
    raise ValueError(
        f"{owner}: found no {name!r} among the coordinates of {entries.name!r} and the variables "
        "of the groups constant_data, observed_data and posterior; pass the labels as an array."
    )


def equal_sized(cov, codes):
    """Groups in the order of their sizes, and the positions of some of equal size at a time.

    Returns
    -------
    order : array of int, shape (n_groups)
    pieces : list of tuple of array, shape (g, w)
        For each piece the positions of the w entries of each of g groups.
    """
    sizes = np.bincount(codes)
    order = np.argsort(sizes, kind="stable")
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(sizes)[:-1])
    stored_as_matrix = "n n" in cov.structure.parameter_shapes.values()
    limit = codes.size if stored_as_matrix else _AT_A_TIME
    pieces, waiting = [], []
    for g in order:
        full = waiting and (len(waiting) + 1) * sizes[g] > limit
        if waiting and (full or sizes[g] != waiting[0].size):
            pieces.append((np.stack(waiting),))
            waiting = []
        waiting.append(members[g])
    return order, [*pieces, (np.stack(waiting),)]
