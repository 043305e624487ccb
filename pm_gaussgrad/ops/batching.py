"""Rows and batches: how leading dimensions of data and parameters meet the core Op."""

import pytensor.tensor as pt
from pytensor.tensor.blockwise import Blockwise

from pm_gaussgrad.ops.inv_quad_logdet import InvQuadLogdet


def _batch_ndim(structure, parameters) -> int:
    """Number of leading dimensions in which some parameter really varies."""
    batch_ndim = 0
    for (name, dims), p in zip(structure.parameter_shapes.items(), parameters, strict=True):
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


def quad_logdet_alpha(structure, residual, parameters):
    """Apply the primitive with batches: residual (..., n) -> quad (...), logdet, alpha (..., n).

    Batch dimensions of the parameters align with the trailing batch dimensions of the
    residual, as NumPy broadcasts. All other dimensions of the residual become rows that
    share one factorisation.
    """
    parameters = [pt.as_tensor_variable(p) for p in parameters]
    batch_ndim = _batch_ndim(structure, parameters)
    cores = [len(dims.split()) for dims in structure.parameter_shapes.values()]
    parameters = [
        _drop_leading(p, core + batch_ndim) for p, core in zip(parameters, cores, strict=True)
    ]
    residual = pt.atleast_Nd(residual, n=batch_ndim + 1)
    n_rows = residual.type.ndim - 1 - batch_ndim
    row_shape = [residual.shape[i] for i in range(n_rows)]
    last = n_rows + batch_ndim

    # (rows..., batch..., n) -> (batch..., m, n)
    by_batch = residual.transpose(*range(n_rows, last), *range(n_rows), last)
    if n_rows == 0:
        rows = pt.expand_dims(by_batch, batch_ndim)
    elif n_rows == 1:
        rows = by_batch
    else:
        rows = pt.join_dims(by_batch, start_axis=batch_ndim, n_axes=n_rows)

    op = InvQuadLogdet(structure)
    op = Blockwise(op) if batch_ndim else op
    quad, logdet, alpha, *_ = op.make_node(rows, *parameters).outputs

    # and back
    if n_rows == 0:
        return quad[..., 0], logdet, alpha[..., 0, :]
    if n_rows > 1:
        quad = pt.split_dims(quad, row_shape, axis=batch_ndim)
        alpha = pt.split_dims(alpha, row_shape, axis=batch_ndim)
    rows_first = (*range(batch_ndim, last), *range(batch_ndim))
    return quad.transpose(*rows_first), logdet, alpha.transpose(*rows_first, last)
