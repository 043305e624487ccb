"""Products by entries: multiples and scales."""

from functools import reduce
from operator import mul

from pytensor.graph.basic import Constant
from pytensor.scalar import Mul

from pm_gaussgrad.adopt.accelerate.diagonals import as_scalar, is_elemwise, laid_out
from pm_gaussgrad.adopt.accelerate.graphs import are_same
from pm_gaussgrad.adopt.accelerate.matrices import known_structure, proves, structure_of
from pm_gaussgrad.adopt.accelerate.positive import is_never_negative
from pm_gaussgrad.cov import Scaled


@proves
def of_product(matrix):
    """Of a product by entries: multiples, and scales s_i s_j."""
    if matrix.type.ndim != 2 or not is_elemwise(matrix, Mul):
        return None
    numbers, scales, rest = [], ([], []), []
    for x in _multiplied(matrix):
        if (number := as_scalar(x)) is not None:
            numbers.append(number)
        elif (vector := laid_out(x)) is not None:
            scales[vector[1]].append(vector[0])
        else:
            rest.append(x)
    negative = any(isinstance(x, Constant) and not x.data > 0 for x in numbers)
    if len(rest) != 1 or negative or not _are_same_vectors(*scales):
        return None
    if not numbers and not scales[0]:
        return None
    # With scales of both signs it is a covariance as well, which is none of `Scaled`.
    if not all(map(is_never_negative, scales[0])):
        return None
    found = structure_of(rest[0]) if scales[0] else known_structure(rest[0])
    if found is None:
        return None
    found = Scaled(found, _product(scales[0])) if scales[0] else found
    return _product(numbers) * found if numbers else found


def _multiplied(matrix):
    """What a product by entries is of, products in it included; outer products as both vectors."""
    for x in matrix.owner.inputs:
        if is_elemwise(x, Mul) and x.type.ndim == 2:
            yield from _multiplied(x)
        else:
            yield x


def _are_same_vectors(rows, columns) -> bool:
    """Whether one is the other, in any order."""
    left = list(columns)
    for x in rows:
        match = [i for i, y in enumerate(left) if are_same(x, y)]
        if not match:
            return False
        del left[match[0]]
    return not left


def _product(tensors):
    return reduce(mul, tensors)
