"""Constants are checked once: when a structure is made of them, and when a density is.

A structure refuses what is wrong by itself: entries that are not finite, a matrix that differs
from its transpose, a factor that is not triangular, a negative variance. Whether there is an
inverse is asked where a density is built, because a sum may mend a singular summand. Symbolic
parameters are not looked at: there the log density is -inf.

Costs: O(n^2) for a matrix, and its factorisation, up to a work of that of n = 2000; beyond it
the density, which factors a constant matrix anyway, says -inf.
"""

import numpy as np
from pytensor import function
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Constant
from pytensor.tensor.random.type import RandomType

from pm_gaussgrad.ops import InvQuadLogdet

# Multiplications that a check may take: those of a matrix of n = 2000.
_WORK = 2000**3
# Rows of a matrix that are compared with its columns at a time.
_STRIP = 256


def constant_value(x):
    """The numbers of a tensor that depends on constants alone; None of any other."""
    if isinstance(x, Constant):
        return np.asarray(x.data)
    waiting, seen = [x], set()
    while waiting:
        variable = waiting.pop()
        if variable.owner is None and not isinstance(variable, Constant):
            return None
        if isinstance(variable.type, RandomType):
            return None
        if variable not in seen:
            seen.add(variable)
            waiting += variable.owner.inputs if variable.owner else []
    return np.asarray(function([], x, mode=Mode("py", "fast_compile"))())


def _tolerance(array) -> float:
    """Relative errors that are rounding."""
    return float(np.sqrt(np.finfo(array.dtype).eps))


def check_finite(owner, name, x) -> None:
    """Raise a ValueError where a constant has entries that are not finite."""
    if not isinstance(x, Constant):
        return
    broken = ~np.isfinite(x.data)
    if broken.any():
        raise ValueError(
            f"{owner}: `{name}` has {np.count_nonzero(broken)} entries that are not finite (the "
            f"first is {x.data[broken][0]}), expected numbers; fill them in."
        )


def check_within(owner, name, x, low=-np.inf, high=np.inf, remedy="") -> None:
    """Raise a ValueError where a constant is not in [low, high], beyond rounding."""
    if not isinstance(x, Constant):
        return
    check_finite(owner, name, x)
    several = x.data.size > 1
    slack = _tolerance(x.data) * np.abs(x.data).max() if several else 0
    outside = (x.data < low - slack) | (x.data > high + slack)
    if outside.any():
        bounds = f"at least {low:g}" if high == np.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"{owner}: `{name}` is {x.data[outside][0]:g}, expected {bounds}{remedy}.")


def check_variance(owner, name, x) -> None:
    """Raise a ValueError where a constant is a negative variance."""
    check_within(owner, name, x, 0, remedy="; a variance is the square of a standard deviation")


def check_symmetric(owner, name, x) -> None:
    """Raise a ValueError where a constant (..., n, n) is known to be no covariance or precision.

    Its entries are not finite, it differs from its transpose, or its diagonal is negative.
    """
    if not isinstance(x, Constant):
        return
    check_finite(owner, name, x)
    for index in np.ndindex(x.data.shape[:-2]):
        matrix = x.data[index]
        asymmetry, largest = _largest_asymmetry(matrix), np.abs(matrix).max(initial=0)
        if asymmetry > _tolerance(matrix) * largest:
            raise ValueError(
                f"{owner}: `{name}` differs from its transpose by up to {asymmetry:.3g}, expected "
                f"a symmetric matrix; {_instead_of_symmetric(matrix)}."
            )
        smallest = np.diagonal(matrix).min(initial=0)
        if smallest < -_tolerance(matrix) * largest:
            raise ValueError(
                f"{owner}: `{name}` has {smallest:.3g} on its diagonal, expected at least 0, "
                "as of every covariance and precision; its sign may be wrong."
            )


def check_semidefinite(owner, name, x, remedy) -> None:
    """:func:`check_symmetric`, and that a small constant (..., k, k) has no negative eigenvalue."""
    check_symmetric(owner, name, x)
    if not isinstance(x, Constant) or x.data.size == 0:
        return
    values = np.linalg.eigvalsh(x.data)
    beyond = values[..., 0] + _tolerance(x.data) * np.abs(values).max(axis=-1)
    if (beyond < 0).any():
        raise ValueError(
            f"{owner}: `{name}` has an eigenvalue of {values.min():.3g}, expected a positive "
            f"semidefinite matrix; {remedy}."
        )


def _largest_asymmetry(matrix):
    strips = [slice(i, i + _STRIP) for i in range(0, len(matrix), _STRIP)]
    return max((np.abs(matrix[s] - matrix[:, s].T).max() for s in strips), default=0.0)


def _instead_of_symmetric(matrix) -> str:
    if not np.triu(matrix, 1).any():
        return (
            "it looks like a Cholesky factor: pass it as chol=, or as gg.cov.Cholesky; of a "
            "covariance whose lower triangle alone is filled, pass K + np.tril(K, -1).T"
        )
    if not np.tril(matrix, -1).any():
        return (
            "it looks like an upper Cholesky factor: pass its transpose as chol=, or as "
            "gg.cov.Cholesky; of a covariance whose upper triangle alone is filled, pass "
            "K + np.triu(K, 1).T"
        )
    return "if the differences are noise, pass (K + K.T) / 2"


def check_lower(owner, name, x) -> None:
    """Raise a ValueError where a constant (..., n, n) is not lower triangular, or not finite."""
    if not isinstance(x, Constant):
        return
    check_finite(owner, name, x)
    for index in np.ndindex(x.data.shape[:-2]):
        matrix = x.data[index]
        above = np.abs(np.triu(matrix, 1)).max(initial=0)
        if above <= _tolerance(matrix) * np.abs(matrix).max(initial=0):
            continue
        if not np.tril(matrix, -1).any():
            remedy = "it looks like an upper Cholesky factor: pass its transpose"
        elif _largest_asymmetry(matrix) <= _tolerance(matrix) * np.abs(matrix).max():
            remedy = "it looks like a covariance: pass it as cov=, or as gg.cov.Dense"
        else:
            remedy = "pass np.tril(L) if what is above the diagonal has no meaning"
        raise ValueError(
            f"{owner}: `{name}` has entries above the diagonal, up to {above:.3g}, expected a "
            f"lower triangular factor; {remedy}."
        )


def check_positive(owner, name, x, remedy="pass positive numbers") -> None:
    """Raise a ValueError where a tensor of constants has an entry that is not positive."""
    value = constant_value(x)
    if value is not None and not (value > 0).all():
        raise ValueError(
            f"{owner}: `{name}` has the entry {value[~(value > 0)][0]:g}, expected numbers above 0 "
            f"where there is a density; {remedy}."
        )


def check_factor(owner, name, x) -> None:
    """Raise a ValueError where a constant triangular factor (..., n, n) is singular."""
    value = constant_value(x)
    if value is not None and not np.diagonal(value, axis1=-2, axis2=-1).all():
        raise ValueError(
            f"{owner}: `{name}` has a zero on its diagonal, expected a factor that has an inverse: "
            "the covariance would be singular."
        )


def check_matrix(owner, name, x, factor) -> None:
    """Raise a ValueError where constants (..., n, n) are not positive definite.

    ``factor(matrix)`` returns their Cholesky factors, NaN where there is none.
    """
    value = constant_value(x)
    if value is None or value.size * value.shape[-1] > _WORK:
        return
    broken = ~np.isfinite(factor(value)).all(axis=(-2, -1))
    if broken.any():
        smallest = np.linalg.eigvalsh(value[broken][0]).min()
        raise ValueError(
            f"{owner}: `{name}` is not positive definite (its smallest eigenvalue is "
            f"{smallest:.3g}), expected a matrix that has an inverse and a density. "
            "If it is singular but for rounding, add noise to its diagonal, as in "
            "K + 1e-8 * np.eye(n)."
        )


def _like(rows, value):
    """An array of the dtype of others, but for index data."""
    return np.asarray(value, rows.dtype if value.dtype.kind == "f" else None)


def check_kernel(cov, n) -> None:
    """Raise a ValueError where a structure of constants has no log determinant, by its kernel."""
    values = [constant_value(p) for p in cov.parameters]
    if n is None or n**3 > _WORK or any(value is None for value in values):
        return
    cores = [len(dims.split()) for dims in cov.structure.parameter_shapes.values()]
    batches = [v.shape[: v.ndim - core] for v, core in zip(values, cores, strict=True)]
    batch = np.broadcast_shapes(*batches)
    spread = [
        np.broadcast_to(v, batch + v.shape[v.ndim - core :])
        for v, core in zip(values, cores, strict=True)
    ]
    kernel = InvQuadLogdet(cov.structure)
    no_rows = np.zeros((0, n), np.result_type(*(v for v in values if v.dtype.kind == "f")))
    for index in np.ndindex(batch):
        logdet = kernel.evaluate(no_rows, *(_like(no_rows, v[index]) for v in spread))[1]
        if not np.isfinite(logdet):
            own = getattr(cov, "named_in_errors", cov.structure.parameter_shapes)
            names = ", ".join(f"`{name}`" for name in own)
            raise ValueError(
                f"{cov.label}: the constants {names} make no covariance with a density, "
                "expected a positive definite one; if it is singular but for rounding, add "
                "independent noise."
            )
