"""Sums of covariances that have a closed form, and the error for those that do not."""

from collections.abc import Callable

from pm_gaussgrad.cov.base import Covariance
from pm_gaussgrad.cov.dense import Dense
from pm_gaussgrad.cov.diagonal import Diagonal, ScalarDiagonal

_RULES: dict[tuple[type, type], Callable[[Covariance, Covariance], Covariance]] = {}


def closes(left: type, right: type):
    """Register the decorated function as the sum of two kinds of structure."""

    def register(rule):
        _RULES[left, right] = rule
        return rule

    return register


def closed_sum(left: Covariance, right: Covariance) -> Covariance:
    """The structure of ``left + right``.

    Raises
    ------
    TypeError
        If the sum has no closed form; the message lists the sums that have one.
    """
    if not isinstance(right, Covariance):
        raise TypeError(
            f"{left.label} + {type(right).__name__}: expected another gg.cov "
            "structure; for independent noise add gg.cov.Diagonal(variance), for a matrix "
            "gg.cov.Dense(matrix)."
        )
    if rule := _RULES.get((type(left), type(right))):
        return rule(left, right)
    if rule := _RULES.get((type(right), type(left))):
        return rule(right, left)
    names = sorted({f"{a.label} + {b.label}" for a, b in _RULES})
    raise TypeError(
        f"{left.label} + {right.label} has no closed form here, and "
        f"nothing is made dense unasked. Sums with a closed form: {', '.join(names)}. For the "
        "dense sum, at a cost of n^3, write gg.cov.Dense(a.to_dense() + b.to_dense())."
    )


@closes(Dense, Dense)
def _dense_dense(left, right):
    return Dense(left.parameters[0] + right.parameters[0])


@closes(Diagonal, Diagonal)
def _diagonal_diagonal(left, right):
    return Diagonal(left.parameters[0] + right.parameters[0])


@closes(Diagonal, ScalarDiagonal)
def _diagonal_scalar(left, right):
    return Diagonal(left.parameters[0] + right.parameters[0][..., None])


@closes(ScalarDiagonal, ScalarDiagonal)
def _scalar_scalar(left, right):
    size = left.size if left.size is not None else right.size
    return ScalarDiagonal.from_parameters(left.parameters[0] + right.parameters[0], size=size)
