"""Expressions of a model evaluated at each draw of its posterior."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.op import RNGConsumerOp
from rich.progress import Progress

from pm_gaussgrad.posterior.evaluation.adaptive import AdaptiveFunction
from pm_gaussgrad.posterior.evaluation.interpreted import INTERPRETED

SAMPLE_DIMS = ("chain", "draw")


def over_draws(owner, model, idata, outputs, **options):
    """Evaluate expressions of a model's variables at each draw.

    Parameters
    ----------
    owner, model, idata, outputs, **options
        As for :func:`each_draw`.

    Returns
    -------
    list of array, shape (chain, draw, ...)
    """
    sizes = posterior_of(owner, idata).sizes
    shape = tuple(sizes[dim] for dim in SAMPLE_DIMS)
    results = None
    for index, values in each_draw(owner, model, idata, outputs, **options):
        if results is None:
            results = [np.empty((*shape, *np.shape(v)), np.asarray(v).dtype) for v in values]
        for result, v in zip(results, values, strict=True):
            result[index] = v
    return results


def each_draw(
    owner,
    model,
    idata,
    outputs,
    noise=(),
    random_seed=None,
    progressbar=True,
    compile_kwargs=None,
    pieces=((), [()]),
):
    """Expressions of a model's variables, draw by draw, for what is not to be kept of each.

    Parameters
    ----------
    owner : str
        The function that asks, for messages.
    model : pymc.Model
    idata : xarray.DataTree
        With a ``posterior`` group.
    outputs : list of TensorVariable
        Of the model's random variables, data and the noise.
    noise : sequence of TensorVariable
        Inputs of known shape, filled with new white noise at each draw.
    random_seed : int, numpy.random.Generator, optional
        Of the noise.
    progressbar : bool
    compile_kwargs : dict, optional
        For ``pytensor.function``, in place of a choice by what a draw takes.
    pieces : tuple
        Further inputs, a sequence, and their values, a sequence of tuples: the outputs for each
        of these are joined along their last dimension.

    Yields
    ------
    index : tuple of int
        Of the chain and the draw.
    values : list of array
        Of the outputs.
    """
    posterior_of(owner, idata)
    function = DrawFunction(
        owner, model, outputs, noise=noise, fixed=pieces[0], compile_kwargs=compile_kwargs
    )
    rng = np.random.default_rng(random_seed)
    yield from function.each(idata, pieces[1], rng=rng, progressbar=progressbar)


class DrawFunction:
    """Expressions of a model's variables, one function for any number of posteriors.

    It is interpreted or compiled, for one draw or several at a time, as
    :class:`~pm_gaussgrad.posterior.evaluation.adaptive.AdaptiveFunction` says.

    Parameters
    ----------
    owner : str
        The function that asks, for messages.
    model : pymc.Model
    outputs : list of TensorVariable
    noise : sequence of TensorVariable
        Inputs of known shape, filled with new white noise at each draw.
    fixed : sequence of TensorVariable
        Inputs that do not differ between draws.
    compile_kwargs : dict, optional
        For ``pytensor.function``.
    again : bool
        Whether more posteriors are to be expected.
    """

    def __init__(
        self, owner, model, outputs, *, noise=(), fixed=(), compile_kwargs=None, again=False
    ):
        self.owner, self.model, self._noise = owner, model, noise
        # Replaced at once: what is cloned does not share the random variables of the model.
        given = {rv: rv.type(name=rv.name) for rv in model.free_RVs}
        observed = {rv: model.rvs_to_values[rv] for rv in model.observed_RVs}
        outputs = clone_replace(outputs, {**given, **observed})
        upstream = set(ancestors(outputs))
        self.inputs = [x for x in given.values() if x in upstream]
        _check_given(owner, outputs, self.inputs)
        inputs = [*self.inputs, *noise, *fixed]
        self._function = AdaptiveFunction(inputs, outputs, compile_kwargs, again, len(fixed))

    def each(self, idata, fixed=((),), rng=None, progressbar=False):
        """The index of each draw of a tree, and the outputs there.

        Parameters
        ----------
        idata : xarray.DataTree
        fixed : sequence of tuple
            Values of the inputs that do not differ, for each of which the outputs are joined along
            their last dimension.
        rng : numpy.random.Generator, optional
            Of the noise.
        progressbar : bool
        """
        posterior = posterior_of(self.owner, idata)
        shape = tuple(posterior.sizes[dim] for dim in SAMPLE_DIMS)
        if not np.prod(shape):
            raise ValueError(f"{self.owner}: the posterior has no draws, expected at least one.")
        total, outputs = int(np.prod(shape)), self.over(posterior, SAMPLE_DIMS, fixed, rng)
        with Progress(disable=not progressbar, transient=True) as progress:
            task = progress.add_task(self.owner, total=total)
            for index, values in zip(np.ndindex(shape), outputs, strict=True):
                yield index, values
                progress.advance(task)

    def over(self, posterior, sample_dims, fixed=((),), rng=None):
        """The outputs at each draw of a Dataset, of which these are the leading dimensions."""
        shape = tuple(posterior.sizes[dim] for dim in sample_dims)
        count = int(np.prod(shape, dtype=int))
        draws = [x.reshape(count, *x.shape[len(shape) :]) for x in self.values(posterior)]

        def values(start, stop):
            white = [[_white(rng, z) for z in self._noise] for _ in range(start, stop)]
            return [*(x[start:stop] for x in draws), *map(np.stack, zip(*white, strict=True))]

        return self._function.over(count, values, fixed)

    def values(self, posterior):
        """Those of the model's variables, an array each, from draws or from a single point."""
        if absent := [x.name for x in self.inputs if x.name not in posterior]:
            raise ValueError(
                f"{self.owner}: the posterior lacks the variables {absent}, expected all that the "
                "likelihood depends on; keep them when sampling (var_names=)."
            )
        dims = self.model.named_vars_to_dims
        found = [_values(posterior[x.name], dims.get(x.name)) for x in self.inputs]
        return [v.astype(x.dtype, copy=False) for v, x in zip(found, self.inputs, strict=True)]


def _values(variable, dims):
    """Draws of a variable, its dimensions in the model's order."""
    named = dims is not None and set(dims) <= set(variable.dims)
    sample = [dim for dim in SAMPLE_DIMS if dim in variable.dims]
    return variable.transpose(*sample, *(dims if named else [...])).to_numpy()


def _check_given(owner, outputs, inputs):
    """Raise a ValueError where anything random is left that the posterior does not give."""
    for variable in ancestors(outputs, blockers=inputs):
        node = variable.owner
        if node and variable not in inputs and isinstance(node.op, RNGConsumerOp):
            name = variable.name or f"of a {type(node.op).__name__}"
            raise ValueError(
                f"{owner}: an expression depends on the random variable {name}, which is none of "
                "the fitted model, expected those of the model alone."
            )


def _white(rng, z):
    """New white noise for an input."""
    return rng.standard_normal(z.type.shape).astype(z.dtype, copy=False)


def evaluated_size(size) -> int:
    """A size that may be symbolic, known from data and constants."""
    return size if isinstance(size, int) else int(size.eval(mode=INTERPRETED))


def white_noise(rows, size, dtype):
    """An input of :func:`over_draws` for white noise, shape (*rows, size)."""
    return pt.tensor("z", shape=(*rows, evaluated_size(size)), dtype=dtype)


def posterior_of(owner, idata):
    """The posterior of a tree, as a Dataset with chains and draws."""
    if not isinstance(idata, xr.DataTree):
        swapped = isinstance(idata, pm.Model)
        raise TypeError(
            f"{owner}: `idata` is a {type(idata).__name__}, expected an xarray.DataTree as "
            f"pm.sample returns it{'; the draws come first, then the model' if swapped else ''}."
        )
    if "posterior" not in idata.children:
        raise ValueError(
            f"{owner}: `idata` has the groups {sorted(idata.children)}, expected `posterior`; "
            "sample first, as by pm.sample."
        )
    posterior = idata["posterior"].to_dataset()
    if not set(SAMPLE_DIMS) <= set(posterior.sizes):
        raise ValueError(
            f"{owner}: the posterior has dimensions {sorted(posterior.sizes)}, expected `chain` "
            "and `draw`."
        )
    return posterior


def labelled(name, array, posterior, dims, coords):
    """An array (chain, draw, ...) with the posterior's labels and those of the observations."""
    sample = {dim: posterior.coords[dim] for dim in SAMPLE_DIMS if dim in posterior.coords}
    return xr.DataArray(array, {**sample, **coords}, (*SAMPLE_DIMS, *dims), name=name)


def add_to_group(idata, group, *arrays):
    """Put arrays into a group of a tree, in place of those with their names.

    Raises
    ------
    ValueError
        If other variables of the group have other labels along the same dimensions.
    """
    added = xr.Dataset({array.name: array for array in arrays})
    if group not in idata.children:
        idata[group] = xr.DataTree(added)
        return
    held = idata[group].to_dataset().drop_vars(added.data_vars, errors="ignore")
    kept = {dim for variable in held.data_vars.values() for dim in variable.dims}
    held = held.drop_dims([dim for dim in held.sizes if dim not in kept], errors="ignore")
    for dim in kept & set(added.dims):
        if not held.get_index(dim).equals(added.get_index(dim)):
            raise ValueError(
                f"The group `{group}` has other labels along {dim!r} than {sorted(added.data_vars)}"
                f", for {sorted(held.data_vars)}; remove it first (del idata[{group!r}]), or name "
                "the new dimension otherwise."
            )
    idata[group] = xr.DataTree(held.assign_coords(added.coords).assign(added.data_vars))
