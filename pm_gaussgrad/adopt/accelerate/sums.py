"""Sums of which something is known."""

from functools import reduce
from operator import add

from pytensor.scalar import Add

from pm_gaussgrad.adopt.accelerate.diagonals import as_diagonal, diagonal_of, is_elemwise
from pm_gaussgrad.adopt.accelerate.factors import of_few_columns
from pm_gaussgrad.adopt.accelerate.matrices import known_structure, proves


@proves
def of_sum(matrix):
    """Of a sum of which something besides a diagonal is known."""
    if matrix.type.ndim != 2 or not is_elemwise(matrix, Add):
        return None
    noise, others = [], []
    for x in _summed(matrix):
        entries = diagonal_of(x)
        (others if entries is None else noise).append(x if entries is None else entries)
    found = [_summand(x) for x in others]
    if not found or any(x is None for x in found):
        return None
    total = reduce(add, found)
    return total + as_diagonal(reduce(add, noise), matrix) if noise else total


def _summed(matrix):
    for x in matrix.owner.inputs:
        # What is broadcast into a matrix is not a summand of it.
        if is_elemwise(x, Add) and not any(x.type.broadcastable):
            yield from _summed(x)
        else:
            yield x


def _summand(x):
    """One with an algorithm in sums; None where it is only a matrix, or broadcast into one."""
    if any(x.type.broadcastable):
        return None
    low_rank = of_few_columns(x)
    return known_structure(x) if low_rank is None else low_rank
