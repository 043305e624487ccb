"""Names and labels of what is recovered."""

import numpy as np
import pandas as pd
import xarray as xr

from pm_gaussgrad.posterior.draws import SAMPLE_DIMS, add_to_group, labelled, posterior_of


def dims_of_latent(owner, likelihood, name, latent, dims=None, coords=None):
    """Dimensions of a latent, those of the rows of the data first, and the labels of each.

    Parameters
    ----------
    owner : str
        The function that asks, for messages.
    likelihood : Likelihood
    name : str
    latent : Latent
    dims : str or sequence of str, optional
        Those of the latent itself.
    coords : dict, optional
        By default those of the model.

    Returns
    -------
    dims : tuple of str
    labels : dict of str to array
    order : dict of str to array of int
        Where along a dimension the number of each label is.
    """
    shape, rows = latent.shape, likelihood.dims[:-1]
    if dims is None:
        dims = tuple(f"{name}_dim_{len(rows) + i}" for i in range(len(shape)))
    dims = (dims,) if isinstance(dims, str) else tuple(dims)
    if len(dims) != len(shape):
        raise ValueError(
            f"{owner}: `dims` of {name!r} has {len(dims)} names, expected {len(shape)}, of the "
            f"dimensions {shape}."
        )
    given = {**likelihood.model.coords, **(coords or {})}
    labels, order = {dim: likelihood.coords[dim] for dim in rows}, {}
    for dim, size, own in zip(dims, shape, latent.labels, strict=True):
        own = np.arange(size) if own is None else np.asarray(own)
        wanted = given.get(dim)
        labels[dim] = own if wanted is None else np.asarray(wanted)
        order[dim] = _places(owner, name, dim, own, labels[dim])
    return (*rows, *dims), labels, order


def _places(owner, name, dim, own, wanted):
    """Where each label that is wanted is among those that a latent has."""
    numbers = np.arange(len(own))
    if len(wanted) == len(own):
        # Labels, or their numbers in the coordinates of the model.
        for labels in (wanted, numbers):
            places = pd.Index(own).get_indexer(pd.Index(labels))
            if (places >= 0).all():
                return places
    raise ValueError(
        f"{owner}: the dimension {dim!r} of {name!r} has the {len(wanted)} labels "
        f"{_some(wanted)}, expected the {len(own)} of the summand, {_some(own)}, or their numbers; "
        "pass coords= for it, or another name by dims=."
    )


def _some(labels) -> str:
    found = [str(x) for x in labels[:4]]
    return f"[{', '.join(found)}{', ...' if len(labels) > 4 else ''}]"


def store_latents(idata, arrays, described, extend):
    """Label arrays (chain, draw, ...) as :func:`dims_of_latent` says, in the posterior or alone."""
    posterior, named = posterior_of("gg.recover", idata), []
    for name, array in arrays.items():
        base = next(x for x in (name, name.rpartition("_")[0]) if x in described)
        dims, labels, order = described[base]
        for dim, places in order.items():
            array = array.take(places, axis=len(SAMPLE_DIMS) + dims.index(dim))
        named.append(labelled(name, array, posterior, dims, labels))
    if not extend:
        return xr.Dataset({array.name: array for array in named})
    add_to_group(idata, "posterior", *named)
    return idata
