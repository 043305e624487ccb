"""Names and labels of what is put beside a posterior."""

import numpy as np
import xarray as xr

from pm_gaussgrad.posterior.draws import add_to_group, labelled, posterior_of


def dims_of_new(owner, likelihood, n_new, name, dims=None, coords=None):
    """Dimensions of new entries in the rows of an observed variable, and their labels.

    Parameters
    ----------
    owner : str
        The function that asks, for messages.
    likelihood : Likelihood
    n_new : int
    name : str
        Of the new variable.
    dims : str or sequence of str, optional
        That of the new entries, or all.
    coords : dict, optional
        By default those of the model.
    """
    sizes = (*likelihood.data.shape[:-1], n_new)
    dims = f"{name}_dim_{len(sizes) - 1}" if dims is None else dims
    dims = (dims,) if isinstance(dims, str) else tuple(dims)
    if len(dims) == 1:
        dims = (*likelihood.dims[:-1], *dims)
    if len(dims) != len(sizes):
        raise ValueError(
            f"{owner}: `dims` has {len(dims)} names, expected one, of the new entries, or "
            f"{len(sizes)}."
        )
    given = {**likelihood.coords, **likelihood.model.coords, **(coords or {})}
    labels = {}
    for dim, size in zip(dims, sizes, strict=True):
        found = given.get(dim)
        labels[dim] = np.arange(size) if found is None else np.asarray(found)
        if len(labels[dim]) != size:
            raise ValueError(
                f"{owner}: the dimension {dim!r} has {len(labels[dim])} labels, expected {size}; "
                "pass coords= for it, or give the new entries a dimension of their own."
            )
    return dims, labels


def store(idata, group, arrays, dims, coords, extend):
    """Label arrays (chain, draw, ...), by name; in the group of a tree, or as a Dataset.

    Arrays with fewer dimensions have the last ones.
    """
    posterior = posterior_of(group, idata)
    named = []
    for name, array in arrays.items():
        own = dims[len(dims) - (array.ndim - 2) :]
        named.append(labelled(name, array, posterior, own, {dim: coords[dim] for dim in own}))
    if not extend:
        return xr.Dataset({array.name: array for array in named})
    add_to_group(idata, group, *named)
    return idata
