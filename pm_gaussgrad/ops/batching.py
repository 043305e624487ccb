"""Rows and batches: how leading dimensions of data and parameters meet the core Op."""

import math

import pytensor.tensor as pt

from pm_gaussgrad.ops.batched import Batched
from pm_gaussgrad.ops.form import named_parameters
from pm_gaussgrad.ops.inv_quad_logdet import InvQuadLogdet, RowTransform


def count_batch_dims(structure, parameters) -> int:
    """Number of leading dimensions in which some parameter really varies."""
    batch_ndim = 0
    for name, dims, p in named_parameters(structure, parameters):
        core = dims.split()
        if p.type.ndim < len(core):
            raise TypeError(
                f"{structure.label}: `{name}` has {p.type.ndim} dimension(s), expected "
                f"at least {len(core)}: (..., {', '.join(core)})."
            )
        leading = p.type.broadcastable[: p.type.ndim - len(core)]
        varying = [len(leading) - i for i, is_one in enumerate(leading) if not is_one]
        batch_ndim = max(batch_ndim, *varying, 0)
    return batch_ndim


def _drop_leading(parameter, ndim):
    """Drop leading dimensions of length one until at most ``ndim`` are left."""
    excess = parameter.type.ndim - ndim
    return parameter.squeeze(axis=tuple(range(excess))) if excess > 0 else parameter


def _core_parameters(structure, parameters):
    """Parameters without leading dimensions of length one, and their number of batch dimensions."""
    parameters = [pt.as_tensor_variable(p) for p in parameters]
    batch_ndim = count_batch_dims(structure, parameters)
    cores = [len(dims.split()) for dims in structure.parameter_shapes.values()]
    dropped = [
        _drop_leading(p, core + batch_ndim) for p, core in zip(parameters, cores, strict=True)
    ]
    return dropped, batch_ndim


def lengths(x):
    """The lengths of all dimensions, ints where they are known."""
    return [x.shape[i] if size is None else size for i, size in enumerate(x.type.shape)]


def join_dims(x, axis, count):
    """Some dimensions as one: at once what ``pt.join_dims`` becomes when graphs are rewritten.

    Lengths that are not known are found only where no other length is zero.
    """
    own, stop = lengths(x), axis + count
    joined = -1 if None in x.type.shape[axis:stop] else math.prod(own[axis:stop])
    return x.reshape((*own[:axis], joined, *own[stop:]))


def split_dims(x, into, axis):
    """One dimension as those of the lengths ``into``, likewise."""
    own = lengths(x)
    return x.reshape((*own[:axis], *into, *own[axis + 1 :]))


def rows_last(x, batch_ndim):
    """(rows..., batch..., k) -> (batch..., m, k), and the way back for (batch..., m, ...)."""
    x = pt.atleast_Nd(x, n=batch_ndim + 1)
    n_rows = x.type.ndim - 1 - batch_ndim
    row_shape = lengths(x)[:n_rows]
    last = n_rows + batch_ndim

    by_batch = x.transpose(*range(n_rows, last), *range(n_rows), last)
    if n_rows == 0:
        rows = pt.expand_dims(by_batch, batch_ndim)
    elif n_rows == 1:
        rows = by_batch
    else:
        rows = join_dims(by_batch, batch_ndim, n_rows)

    def restore(y):
        if n_rows == 0:
            return y.squeeze(axis=batch_ndim)
        if n_rows > 1:
            y = split_dims(y, row_shape, batch_ndim)
        core = range(last, y.type.ndim)
        return y.transpose(*range(batch_ndim, last), *range(batch_ndim), *core)

    return rows, restore


def _apply(op, batch_ndim, *inputs):
    op = Batched(op) if batch_ndim else op
    return op.make_node(*inputs).outputs


def quad_logdet_alpha(structure, residual, parameters):
    """Apply the primitive with batches: residual (..., n) -> quad (...), logdet, alpha (..., n).

    Batch dimensions of the parameters align with the trailing batch dimensions of the
    residual, as NumPy broadcasts. All other dimensions of the residual become rows that
    share one factorisation.
    """
    parameters, batch_ndim = _core_parameters(structure, parameters)
    rows, restore = rows_last(residual, batch_ndim)
    quad, logdet, alpha, *_ = _apply(InvQuadLogdet(structure), batch_ndim, rows, *parameters)
    return restore(quad), logdet, restore(alpha)


def transform_rows(cov, transform, x):
    """Apply a kernel of a structure to rows, with batches: (..., k) -> (..., n), without gradient.

    Dimensions align as in :func:`quad_logdet_alpha`.
    """
    parameters, batch_ndim = _core_parameters(cov.structure, cov.parameters)
    rows, restore = rows_last(pt.as_tensor_variable(x), batch_ndim)
    [transformed] = _apply(RowTransform(cov.structure, transform), batch_ndim, rows, *parameters)
    return restore(transformed)
