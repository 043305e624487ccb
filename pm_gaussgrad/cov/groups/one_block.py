"""A covariance of one block, zero elsewhere: a component of a ``BlockDiagonal``.

It has no inverse and no density. Products, variances and draws are those of the block, among zeros.
"""

from dataclasses import dataclass
from functools import partial

import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.composite import Composite, Composition, join_last
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.terms import Inside, made_of


@dataclass(frozen=True)
class OneForm(Composition):
    """A :class:`Composition` of one block among others.

    Attributes
    ----------
    number : int
        Which one it is.
    block_sizes : tuple of int
        Of all.
    """

    number: int
    block_sizes: tuple[int, ...]

    def _assemble(self, parts):
        return OneBlock.of(parts[0], self.number, self.block_sizes)


class OneBlock(Composite):
    """Zero but for one block."""

    label = "gg.cov.BlockDiagonal"
    part_name = "block"

    @classmethod
    def of(cls, cov, number, block_sizes) -> "OneBlock":
        """From the covariance of the block, its number, and the sizes of all blocks."""
        size = block_sizes[number]
        made = cls.from_parts([of_size(cov, size)], [size])
        made.number, made.block_sizes = number, tuple(block_sizes)
        return made

    @property
    def structure(self):
        """Hashable, with ``from_parameters``."""
        whole = super().structure
        parts = whole.kind, whole.structures, whole.sizes, whole.places
        return OneForm(*parts, self.number, self.block_sizes)

    @property
    def size(self):
        return sum(self.block_sizes)

    @property
    def _start(self):
        return sum(self.block_sizes[: self.number])

    def _placed(self, rows):
        """Rows of the block among zeros: (..., size of the block) -> (..., n)."""
        after = self.size - self._start - self.sizes[0]
        lead = [rows.shape[axis] for axis in range(rows.type.ndim - 1)]
        around = [pt.zeros((*lead, count), dtype=rows.dtype) for count in (self._start, after)]
        return join_last([around[0], rows, around[1]])

    def to_dense(self):
        return self._placed(self._placed(self.parts[0].to_dense()).mT).mT

    def diagonal(self):
        return self._placed(self.parts[0].diagonal())

    def times(self, rows):
        own = pt.as_tensor_variable(rows)[..., self._start : self._start + self.sizes[0]]
        return self._placed(self.parts[0].times(own))

    def rows(self, positions):
        own = positions - self._start
        inside = pt.ge(own, 0) & pt.lt(own, self.sizes[0])
        strip = self.parts[0].rows(pt.switch(inside, own, 0))
        return self._placed(pt.switch(inside[:, None], strip, 0))

    def noise_size(self, n):
        return self.parts[0].noise_size(self.sizes[0])

    def draw_semidefinite(self, z):
        return self._placed(self.parts[0].draw_semidefinite(z))

    def scaled(self, factor):
        return self.of(self.parts[0].scaled(factor), self.number, self.block_sizes)


def in_block(cov, number, block_sizes) -> OneBlock:
    """A covariance as one block, which keeps what it is made of."""
    around = partial(in_block, number=number, block_sizes=block_sizes)
    return made_of(OneBlock.of(cov, number, block_sizes), cov, around)


def each_inside(blocks, block_sizes) -> tuple[Inside, ...] | None:
    """Blocks as they were given, as terms of the whole; None where a size is not known."""
    if not all(isinstance(size, int) for size in block_sizes):
        return None
    places = (partial(in_block, number=i, block_sizes=block_sizes) for i in range(len(blocks)))
    return tuple(map(Inside, blocks, places))
