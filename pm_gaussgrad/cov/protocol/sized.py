"""Covariances of known size, where parameters alone do not say it."""

import pytensor.tensor as pt


def of_size(cov, n):
    """The same covariance, which knows that its size is n.

    Parameters
    ----------
    cov : Covariance
    n : int or scalar tensor
    """
    if cov.size is not None and (isinstance(cov.size, int) or not isinstance(n, int)):
        return cov
    structure = cov.structure
    sized = [
        _with_length(p, dims.split(), n)
        for dims, p in zip(structure.parameter_shapes.values(), cov.parameters, strict=True)
    ]
    return structure.from_parameters(*sized, size=n)


def _with_length(parameter, dims, n):
    """A parameter whose dimensions called n are known to be n."""
    if "n" not in dims or not isinstance(n, int):
        return parameter
    core = [n if dim == "n" else None for dim in dims]
    return pt.specify_shape(parameter, (*[None] * (parameter.type.ndim - len(core)), *core))
