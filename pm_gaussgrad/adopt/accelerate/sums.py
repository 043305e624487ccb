"""Sums of which something is known."""

from functools import reduce
from operator import add

from pytensor.scalar import Add

from pm_gaussgrad.adopt.accelerate.diagonals import as_diagonal, diagonal_of, is_elemwise, is_spread
from pm_gaussgrad.adopt.accelerate.factors import of_few_columns
from pm_gaussgrad.adopt.accelerate.matrices import known_structure, proves
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.sums import has_algorithm


@proves
def of_sum(matrix):
    """Of a sum of which something besides a diagonal is known."""
    if matrix.type.ndim != 2 or not is_elemwise(matrix, Add):
        return None
    noise, others = [], []
    summands = list(_summed(matrix))
    if any(is_spread(x, matrix) for x in summands):
        return None
    for x in summands:
        entries = diagonal_of(x)
        (others if entries is None else noise).append(x if entries is None else entries)
    found = [_summand(x) for x in others]
    if not found or any(x is None for x in found):
        return None
    total = reduce(add, found)
    total = total + as_diagonal(reduce(add, noise), matrix) if noise else total
    n = matrix.type.shape[-1]
    # Without one, but for that of its matrix, it is a matrix.
    return total if has_algorithm(total if n is None else of_size(total, n)) else None


def _summed(matrix):
    for x in matrix.owner.inputs:
        if is_elemwise(x, Add) and not is_spread(x, matrix):
            yield from _summed(x)
        else:
            yield x


def _summand(x):
    """One with an algorithm in sums; None where it is only a matrix."""
    low_rank = of_few_columns(x)
    return known_structure(x) if low_rank is None else low_rank
