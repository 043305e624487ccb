"""Shapes of values, means and covariances: what is known of them, and whether they agree."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.distributions.shape_utils import (
    convert_dims,
    implicit_size_from_params,
    maybe_resize,
    rv_size_is_none,
    shape_from_dims,
)
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import graph_inputs
from pytensor.tensor.basic import infer_static_shape
from pytensor.tensor.sharedvar import TensorSharedVariable

_AS_WRITTEN = Mode(linker="py", optimizer=None)


def batch_shape(size, arguments, ndims):
    """Leading dimensions of the draws, a vector: the size, or else those of the arguments."""
    if rv_size_is_none(size):
        return implicit_size_from_params(*arguments, ndims_params=ndims)
    return size


def check_batches(owner, size, arguments, ndims, hint=""):
    """Raise a ValueError where an argument is known to have a batch that the size does not hold.

    ``hint`` is a sentence that follows.
    """
    if rv_size_is_none(size):
        return
    sizes = infer_static_shape(tuple(size))[1]
    for argument, ndim in zip(arguments, ndims, strict=True):
        batch = argument.type.shape[: argument.type.ndim - ndim]
        aligned = zip(batch[::-1], sizes[::-1], strict=False)
        if len(batch) > len(sizes) or any(
            b not in (None, 1, s) and s is not None for b, s in aligned
        ):
            raise ValueError(
                f"{owner}: the size (the shape without its last dimension) is {sizes}, expected "
                f"one that holds the leading dimensions of every argument; found {batch} of an "
                f"argument of shape {argument.type.shape}. Leave out size= and shape=, or pass all "
                f"leading dimensions.{hint}"
            )


def as_value(owner, value, mu):
    """The value of a variable, after checking its last dimension against that of the mean."""
    found, expected = value.type.shape, mu.type.shape[-1]
    if not found:
        raise TypeError(
            f"{owner}: the value has 0 dimensions, expected at least 1: (..., n), rows of n "
            "entries."
        )
    if None not in (found[-1], expected) and found[-1] != expected:
        raise ValueError(
            f"{owner}: the value has shape {found}, expected n = {expected} in the last dimension."
        )
    return value


def resized(owner, logp, size):
    """A log density of the variable's own size, to which it broadcasts, as PyMC's are."""
    if rv_size_is_none(size):
        return logp
    sizes = infer_static_shape(tuple(size))[1]
    found = logp.type.shape[max(logp.type.ndim - len(sizes), 0) :]
    aligned = list(zip(found[::-1], sizes[::-1], strict=False))
    if any(None not in pair and pair[0] not in (1, pair[1]) for pair in aligned):
        raise ValueError(
            f"{owner}: value, mean and covariance have the leading dimensions {found}, expected "
            f"{sizes}, the size of the variable. Pass as many rows as `shape` says; where their "
            "number is to change, leave out `shape` or derive it from pm.Data."
        )
    if found == sizes:
        return logp
    return maybe_resize(logp, size)


def check_observed(owner, observed, dims, kwargs):
    """Raise a ValueError where data do not have the shape that ``shape``, or ``dims``, say."""
    if isinstance(observed, Variable) and not isinstance(observed, Constant):
        return
    source, shape = "shape", kwargs.get("shape")
    if shape is None and kwargs.get("size") is None and dims is not None:
        source, shape = "dims", shape_from_dims(convert_dims(dims), pm.modelcontext(None))
    if not isinstance(shape, list | tuple):
        return
    found = observed.type.shape if isinstance(observed, Constant) else np.shape(observed)
    lengths = tuple(map(_current, shape))
    # Of another number of dimensions, or to be broadcast: as PyMC sees it.
    pairs = list(zip(found, lengths, strict=False))
    if len(found) == len(lengths) and any(f not in (1, n) and n is not None for f, n in pairs):
        raise ValueError(
            f"{owner}: `observed` has shape {found}, expected {lengths}, which `{source}` says; "
            "they must agree."
        )


def _last(shape):
    """The last entry of a user's shape, if it is known to have one."""
    if shape is None:
        return None
    if isinstance(shape, int | np.integer):
        return int(shape)
    if isinstance(shape, pt.TensorVariable):
        return shape[-1] if shape.type.ndim else shape
    return shape[-1] if len(shape) else None


def _current(size) -> int | None:
    """A length, if it is known: a number, or an expression of constants and of shared data.

    Of shared data, such as the lengths of a model's dims, it is the value at present.
    """
    if isinstance(size, int | np.integer):
        return int(size)
    if not isinstance(size, Variable):
        return None
    if not all(isinstance(x, Constant | TensorSharedVariable) for x in graph_inputs([size])):
        return None
    return int(pytensor.function([], size, mode=_AS_WRITTEN)())


def _is_of_data(size) -> bool:
    """Whether a length is that of shared data, which others may take the place of."""
    inputs = graph_inputs([size]) if isinstance(size, Variable) else ()
    return any(isinstance(x, TensorSharedVariable) and x.type.ndim for x in inputs)


def expand_mean(mu, cov, shape, owner="gg.MvNormal", name="cov"):
    """The mean with its last dimension of length n, after checking n against all that know it."""
    last = _last(shape)
    size_of_mean = mu.type.shape[-1] if mu.type.ndim and mu.type.shape[-1] != 1 else None
    known = [
        (label, size)
        for label, size in (
            (f"`{name}` ({cov.label})", cov.size if isinstance(cov.size, int) else None),
            ("`mu`", size_of_mean),
            ("the value (`observed`, `shape` or `dims`)", _current(last)),
        )
        if size is not None
    ]
    for label, size in known[1:]:
        if size != known[0][1]:
            raise ValueError(
                f"{owner}: {label} is for {size} observations, expected {known[0][1]}, the "
                f"size of {known[0][0]}. The last dimension of the value, of mu and of the "
                "covariance must agree; leading dimensions are rows."
                + _grid_hint(shape, known[0][1])
            )
    n = known[0][1] if known else cov.size if cov.size is not None else last
    if not isinstance(cov.size, int) and _is_of_data(last):
        n = last  # not the length at present
    if mu.type.ndim and mu.type.shape[-1] != 1:
        return mu
    if n is None:
        raise ValueError(
            f"{owner}: neither mu nor {cov.label} says how many observations there are; pass "
            "shape=, dims= or observed=, or size= to the covariance."
        )
    return pt.full((n,), mu) if mu.type.ndim == 0 else pt.broadcast_to(mu, (*mu.shape[:-1], n))


def _grid_hint(shape, n) -> str:
    """What to do with a value whose last dimensions are a grid of n entries, or nothing."""
    lengths = [_current(x) for x in shape] if isinstance(shape, list | tuple) else []
    for k in range(2, len(lengths) + 1):
        grid = lengths[-k:]
        if None not in grid and np.prod(grid) == n:
            one = " x ".join(map(str, grid))
            flat = "grid.ravel()" if k == len(lengths) else f"grid.reshape(*grid.shape[:-{k}], {n})"
            return (
                f" Is the value a grid of {one}? Its entries are one dimension: pass {flat}, in "
                f"the order of the covariance, and one of the dims, of length {n}, for them."
            )
    return ""
