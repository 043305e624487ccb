"""Blocks, and Kronecker products."""

from pytensor.tensor.linalg.constructors import BlockDiagonal as StackedBlocks
from pytensor.tensor.linalg.products import KroneckerProduct

from pm_gaussgrad.adopt.accelerate.graphs import op_of
from pm_gaussgrad.adopt.accelerate.matrices import proves, structure_of
from pm_gaussgrad.cov import BlockDiagonal, Kronecker


@proves
def of_blocks(matrix):
    """Of square blocks of known sizes."""
    if matrix.type.ndim != 2 or not isinstance(op_of(matrix), StackedBlocks):
        return None
    blocks = matrix.owner.inputs
    return BlockDiagonal(*map(structure_of, blocks)) if all(map(_is_square, blocks)) else None


@proves
def of_factors(matrix):
    """Of a Kronecker product, of as many factors as there are."""
    if matrix.type.ndim != 2:
        return None
    factors = list(_factors(matrix))
    square = len(factors) > 1 and all(map(_is_square, factors))
    return Kronecker(*map(structure_of, factors)) if square else None


def _factors(matrix):
    if not isinstance(op_of(matrix), KroneckerProduct):
        yield matrix
        return
    for factor in matrix.owner.inputs:
        yield from _factors(factor)


def _is_square(x) -> bool:
    return x.type.ndim == 2 and x.type.shape[0] == x.type.shape[1] is not None
