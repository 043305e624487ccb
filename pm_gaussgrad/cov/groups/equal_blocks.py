"""Blocks of one structure and size, evaluated together: a graph that does not grow with them.

Equal blocks with the same parameters are rows of one covariance; with parameters of their own they
are a batch of it. What blocks have in common is seen in the parameters themselves, which are the
tensors of the graph.
"""

from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.protocol.base import Covariance
from pm_gaussgrad.ops import assemble
from pm_gaussgrad.ops.form import Form


@dataclass(frozen=True)
class Together:
    """One block, or several of one form and size.

    Attributes
    ----------
    cov : Covariance
        That of the block; of several, of each or a batch of them.
    count : int
        How many.
    size
        Number of observations of one block.
    """

    cov: Covariance
    count: int
    size: object

    @property
    def total_size(self):
        """Number of observations of all."""
        return self.size if self.count == 1 else self.count * self.size

    def apart(self, rows):
        """The rows of each: (..., count n) -> (..., count, n)."""
        return rows if self.count == 1 else pt.split_dims(rows, (self.count, self.size), axis=-1)

    def joined(self, rows):
        """The way back; what is the same for all may lack their dimension."""
        if self.count == 1:
            return rows
        if self._shared and rows.type.ndim == 1:
            return pt.tile(rows, self.count)
        return pt.join_dims(rows, start_axis=rows.type.ndim - 2, n_axes=2)

    def added(self, quad):
        """The sum over blocks of what each row has: (..., count) -> (...)."""
        return quad if self.count == 1 else quad.sum(axis=-1)

    def logdet_of(self, logdet):
        """The sum over blocks of the log determinants."""
        if self.count == 1:
            return logdet
        return self.count * logdet if self._shared else logdet.sum()

    @property
    def _shared(self) -> bool:
        return self.count > 1 and self.cov.batch_ndim == 0


def together(parts, sizes):
    """Blocks that are evaluated together, and the blocks in the order of these.

    Parameters
    ----------
    parts : tuple of Covariance
    sizes : tuple of int or scalar tensor

    Returns
    -------
    list of Together
    list of list of int
        The numbers of the blocks of each.
    """
    found = {}
    for i, (part, size) in enumerate(zip(parts, sizes, strict=True)):
        found.setdefault(_kind(part, size) or i, []).append(i)
    members = list(found.values())
    return [_one(parts, sizes, numbers) for numbers in members], members


def _kind(part, size):
    """What blocks have in common that are evaluated together; None for a block by itself."""
    form = part.structure
    if not isinstance(form, Form) or not isinstance(size, int) or size == 0:
        return None
    for dims, p in zip(form.parameter_shapes.values(), part.parameters, strict=True):
        if p.type.ndim != len(dims.split()) or None in p.type.shape:
            return None
    index = (_identity(p) for p in part.parameters if not p.dtype.startswith("float"))
    return form, size, tuple(p.type for p in part.parameters), tuple(index)


def _identity(p):
    """Equal for parameters that are known to have the same value."""
    return (p.dtype, p.data.shape, p.data.tobytes()) if isinstance(p, Constant) else p


def _one(parts, sizes, numbers):
    first, size, count = parts[numbers[0]], sizes[numbers[0]], len(numbers)
    if count == 1:
        return Together(first, 1, size)
    each = list(zip(*(parts[i].parameters for i in numbers), strict=True))
    same = [len({_identity(p) for p in own}) == 1 for own in each]
    if all(same):
        return Together(first, count, size)
    batch = [
        own[0] if not p.dtype.startswith("float") else own[0][None] if is_same else _stacked(own)
        for p, own, is_same in zip(first.parameters, each, same, strict=True)
    ]
    return Together(first.structure.from_parameters(*batch, size=size), count, size)


def _stacked(arrays):
    """Arrays of one known shape: (...) each -> (count, ...).

    Its pullback cuts into blocks: PyTensor would take apart what indexes a batch, and compute the
    batch once for each entry.
    """
    side_by_side = assemble([x.flatten() if x.type.ndim else x[None] for x in arrays])
    return pt.split_dims(side_by_side, (len(arrays), *arrays[0].type.shape), axis=0)


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
