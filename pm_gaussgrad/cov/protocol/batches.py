"""A vector where a scalar is declared: a batch of covariances, which may not have been meant.

Variances that differ between observations are a ``Scaled``. What tells the two apart is the value:
of a batch of covariances it has a leading dimension.
"""

from math import prod

from pm_gaussgrad.ops.form import named_parameters

_REMEDY = (
    "for a standard deviation of each observation or visit pass a scalar variance, and the "
    "structure as gg.cov.Scaled(cov, sigma)"
)


def check_batch(cov, name, value) -> None:
    """Raise a ValueError where a value cannot have, or cannot mean, a batch of covariances.

    A single row of n entries does not mean a batch that is as long as it, or as the visits or
    the block whose covariance it is; rows mean a batch of as many, whatever n is.
    """
    if cov.batch_ndim != 1:
        return
    ends = value.type.shape[-1], cov.size, *getattr(cov, "sizes", ())
    ends = [end for end in ends if isinstance(end, int)]
    for parameter, shape, count, own in _vectors(cov.structure, cov.parameters):
        if value.type.ndim == 1:
            refused = count is not None and count in [*ends, *own]
            batch = f"for the batch give the value a leading dimension, {name}[None]"
        else:
            refused = None not in (count, m := value.type.shape[-2]) and m not in (1, count)
            batch = f"a batch takes a value of shape (..., {count}, n)"
        if refused:
            raise ValueError(
                f"{cov.label}: `{parameter}` has shape {shape}, a batch of {count} covariances, "
                f"and `{name}` has shape {value.type.shape}, expected the parameters of one "
                f"covariance; {_REMEDY}; {batch}."
            )


def vector_hint(structure, parameters) -> str:
    """What to write in place of a vector, as a sentence; nothing where there is none."""
    found = next(_vectors(structure, parameters), None)
    if found is None:
        return ""
    parameter, shape, *_ = found
    return f" `{parameter}` of shape {shape} is a batch of covariances; {_REMEDY}."


def _vectors(structure, parameters):
    """Parameters with a batch that a scalar could have been meant for.

    Scalars, and small matrices that structures of scalars are formed to; for each its name, its
    shape, the length of the batch and of the matrix where they are known.
    """
    for name, dims, x in named_parameters(structure, parameters):
        dims = dims.split()
        start = x.type.ndim - len(dims)
        leading, own = x.type.shape[:start], x.type.shape[start:]
        small = len(dims) == 2 or (None not in own and prod(own) == 1)
        if leading and leading[-1] != 1 and "n" not in dims and small:
            yield name, x.type.shape, leading[-1], own
