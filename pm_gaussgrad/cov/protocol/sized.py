"""Covariances of known size, where parameters alone do not say it."""

import functools

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
    sized = cov.sized(n)
    # What it was made of is still known.
    sized.inside = cov.inside
    return sized


def with_size(cov, n):
    """Rebuilt from its tensors, which say it too."""
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


def with_known_shape(to_dense):
    """``to_dense`` with the static shape that follows from the size.

    PyTensor forgets sizes of one, as in the product of a (1, 1) and a matrix of unknown shape.
    """

    @functools.wraps(to_dense)
    def of_known_shape(self):
        matrix, n = to_dense(self), self.size
        if not isinstance(n, int) or matrix.type.shape[-2:] == (n, n):
            return matrix
        return pt.specify_shape(matrix, (*[None] * (matrix.type.ndim - 2), n, n))

    return of_known_shape


def as_known_size(cov) -> int:
    """The size of a structure whose pattern depends on it."""
    if isinstance(cov.size, int):
        return cov.size
    raise ValueError(
        f"{cov.label}: the number of observations is not known, expected an integer, as the "
        "pattern of a sparse precision matrix depends on it; pass size=n."
    )
