"""Which blocks are evaluated together, and as what.

Blocks of one form and size are rows of one covariance, or a batch
(:mod:`pm_gaussgrad.cov.groups.equal_blocks`). Of a structure that names in ``grouped_by`` one of
independent groups, blocks with parameters of their own and blocks of *many* sizes are one of these:
a loop inside a kernel has less to do than a batch, and each size takes its time to compile.
"""

from itertools import chain

import numpy as np

from pm_gaussgrad.cov.groups.equal_blocks import EqualBlocks, kind
from pm_gaussgrad.ops.stacking import common

# Kinds of blocks of one family up to which each kind is by itself.
FEW = 3


def members_of(blocks, sizes):
    """The numbers of the blocks that are evaluated together, in order of the first of each."""
    families = {}
    for i, (block, size) in enumerate(zip(blocks, sizes, strict=True)):
        known = kind(block, size)
        family = block.grouped_by() if known else None
        families.setdefault(family or known or i, {}).setdefault(known or i, []).append(i)
    found = []
    for family, kinds in families.items():
        several = isinstance(family, type) and len(kinds) > FEW
        found += [sorted(chain(*kinds.values()))] if several else kinds.values()
    return tuple(sorted(map(tuple, found)))


def piece_of(blocks, sizes, numbers):
    """One covariance of the blocks of these numbers, one after the other."""
    own, own_sizes = [blocks[i] for i in numbers], [sizes[i] for i in numbers]
    if len(own) == 1:
        return own[0]
    equal = len({kind(block, size) for block, size in zip(own, own_sizes, strict=True)}) == 1
    family = own[0].grouped_by()
    if equal and (family is None or _share_parameters(own)):
        return EqualBlocks.of(own, own_sizes[0])
    return family.side_by_side(own, own_sizes)


def _share_parameters(blocks) -> bool:
    each = zip(*(block.parameters for block in blocks), strict=True)
    return all(common(of_blocks) is not None for of_blocks in each)


def separated(part, sizes):
    """Each of the blocks that a part is made of."""
    if len(sizes) == 1:
        return [part]
    if isinstance(part, EqualBlocks):
        return part.blocks()
    stops = np.cumsum(sizes)
    return [part.piece(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]


def in_order(members, sizes):
    """Positions of the observations of blocks in another order, and the way back; None if sorted.

    Parameters
    ----------
    members : list of list of int
        Numbers of blocks.
    sizes : tuple of int
    """
    order = [i for numbers in members for i in numbers]
    if order == sorted(order):
        return None, None
    starts = np.cumsum([0, *sizes])
    positions = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in order])
    return positions, np.argsort(positions)
