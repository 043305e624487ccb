r"""``BlockDiagonal``: independent groups of observations, each with a covariance of its own.

Definition: Sigma = diag(Sigma_1, ..., Sigma_b) by blocks. Storage and cost: the sum of those of
the blocks. It has no kernels: with the residual cut into r_1, ..., r_b,

    quad = sum_k r_k' Sigma_k^-1 r_k,    logdet = sum_k log|Sigma_k|,    alpha_k = Sigma_k^-1 r_k,

so that the pullback is that of each block for its slice, with the common cotangents.

Sources: Horn and Johnson (2012), Matrix Analysis, 2nd ed., section 0.9.2.
"""

from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import equal_computations

from pm_gaussgrad.cov.groups.one_block import each_inside
from pm_gaussgrad.cov.groups.together import in_order, members_of, piece_of, separated
from pm_gaussgrad.cov.matrices.dense import Dense
from pm_gaussgrad.cov.matrices.diagonal import Diagonal, ScalarDiagonal
from pm_gaussgrad.cov.protocol.base import Covariance, as_parameter, check_size
from pm_gaussgrad.cov.protocol.composite import Composite, Composition, join_last, known_size
from pm_gaussgrad.cov.protocol.marginal import marginal_of
from pm_gaussgrad.cov.protocol.sums import closes, common_size, summed
from pm_gaussgrad.ops import partition


@dataclass(frozen=True)
class BlockForm(Composition):
    """A :class:`Composition` of what is evaluated together.

    Attributes
    ----------
    members : tuple of tuple of int
        The numbers of the blocks that each part is made of.
    block_sizes : tuple of int or None
        Sizes of the blocks; None where their parameters say it.
    """

    members: tuple[tuple[int, ...], ...] = ()
    block_sizes: tuple[int | None, ...] = ()

    def _assemble(self, parts):
        return BlockDiagonal._of_form(parts, self)


class BlockDiagonal(Composite):
    r"""Independent groups of observations, :math:`\Sigma = \operatorname{diag}(\Sigma_1, \dots)`.

    Parameters
    ----------
    *blocks : gg.cov structure, or tensor_like, shape (..., n, n), in units of [y]^2
        Covariances of consecutive groups of observations, in the order of the observations; a
        matrix is a :class:`Dense`. Sizes must be known: a structure of scalars needs ``size=``,
        an integer.

    Raises
    ------
    TypeError
        If there is no block, or one is not real or has too few dimensions.
    ValueError
        If the size of a block is unknown.

    Notes
    -----
    Cost: the sum of the blocks'. Blocks of one structure and size are evaluated together, those
    with the same parameters by one factorisation, and so are blocks of any sizes of a structure
    that has a form of independent groups. The graph and the time of compilation grow with the
    number of *kinds* of blocks, not with that of blocks.

    Of each block the pullback sees its slice of the residual:
    :math:`\bar\Sigma_k = \bar l\,\Sigma_k^{-1} - \sum_i \bar q_i\,\alpha_{ik} \alpha_{ik}^\top`.
    The log density is -inf where one of the blocks is not positive definite.

    References
    ----------
    Horn, R. A. and Johnson, C. R. (2012). Matrix Analysis, 2nd ed., section 0.9.2.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> gg.cov.BlockDiagonal(gg.cov.AR1(2.0, 0.5, size=2), [[3.0]]).to_dense().eval()
    array([[2., 1., 0.],
           [1., 2., 0.],
           [0., 0., 3.]])
    """

    how = "block by block"
    part_name = "block"

    def __init__(self, *blocks):
        if not blocks:
            raise TypeError("gg.cov.BlockDiagonal: found no block, expected at least one.")
        name = "gg.cov.BlockDiagonal"
        blocks = [
            b if isinstance(b, Covariance) else Dense(as_parameter(name, f"block {i}", b, 2))
            for i, b in enumerate(blocks)
        ]
        self.block_sizes = tuple(known_size(name, f"block {i}", b) for i, b in enumerate(blocks))
        self.blocks = tuple(block.resolved for block in blocks)
        self.inside = each_inside(blocks, self.block_sizes)

    @classmethod
    def _of_blocks(cls, blocks, sizes):
        """From blocks of sizes that are known already."""
        made = object.__new__(cls)
        made.blocks, made.block_sizes = tuple(blocks), tuple(sizes)
        return made

    @classmethod
    def _of_form(cls, parts, form):
        """From what is evaluated together."""
        made = object.__new__(cls)
        made.members, made.parts = form.members, tuple(parts)
        one = {numbers[0]: part for numbers, part in zip(form.members, parts, strict=True)}
        made.block_sizes = tuple(
            one[i].size if size is None else size for i, size in enumerate(form.block_sizes)
        )
        return made

    @cached_property
    def blocks(self):
        """The covariances of consecutive groups of observations."""
        found = {}
        for part, numbers in zip(self.parts, self.members, strict=True):
            sizes = [self.block_sizes[i] for i in numbers]
            found |= zip(numbers, separated(part, sizes), strict=True)
        return tuple(found[i] for i in range(len(found)))

    @cached_property
    def members(self):
        """The numbers of the blocks that are evaluated together."""
        return members_of(self.blocks, self.block_sizes)

    @cached_property
    def parts(self):
        """One covariance for blocks that are evaluated together."""
        return tuple(piece_of(self.blocks, self.block_sizes, numbers) for numbers in self.members)

    @cached_property
    def sizes(self):
        """Numbers of observations of the parts."""
        return tuple(reduce(add, (self.block_sizes[i] for i in own)) for own in self.members)

    @property
    def structure(self):
        """Hashable, with ``from_parameters``."""
        own = super().structure
        sizes = tuple(size if isinstance(size, int) else None for size in self.block_sizes)
        return BlockForm(own.kind, own.structures, own.sizes, own.places, self.members, sizes)

    @property
    def size(self):
        return reduce(add, self.block_sizes)

    @property
    def _sized(self) -> bool:
        return all(isinstance(size, int) for size in self.block_sizes)

    @cached_property
    def _order(self):
        """Where the observations of the parts are, and how to come back; None if in order."""
        return in_order(self.members, self.block_sizes) if self._sized else (None, None)

    def _cut(self, name, value):
        """Each part with the rows of its blocks."""
        value = as_parameter(self.label, name, value, 1)
        check_size(self, name, value)
        positions, _ = self._order
        value = value if positions is None else value[..., positions]
        return zip(self.parts, partition(self.label, value, self.sizes), strict=True)

    def _assembled(self, of_parts):
        """Rows of the parts side by side, in the order of the observations."""
        whole, (_, restored) = join_last(of_parts), self._order
        return whole if restored is None else whole[..., restored]

    def to_dense(self):
        return pt.linalg.block_diag(*(block.to_dense() for block in self.blocks))

    def quad_logdet(self, residual):
        found = [part.quad_logdet(rows) for part, rows in self._cut("residual", residual)]
        quads, logdets = zip(*found, strict=True)
        return reduce(add, quads), reduce(add, logdets)

    def logdet(self):
        return reduce(add, (part.logdet() for part in self.parts))

    def solve(self, b):
        return self._of_rows("solve", "b", b)

    def color(self, z):
        return self._of_rows("color", "z", z)

    def whiten(self, residual):
        return self._of_rows("whiten", "residual", residual)

    def times(self, rows):
        return self._of_rows("times", "rows", rows)

    def leave_one_out(self, residual):
        return self._of_rows("leave_one_out", "residual", residual)

    def innovations(self, residual):
        return self._of_rows("innovations", "residual", residual)

    def _of_rows(self, method, name, value):
        """A method of the parts that returns rows, or a tuple of rows."""
        found = [getattr(part, method)(rows) for part, rows in self._cut(name, value)]
        if not isinstance(found[0], tuple):
            return self._assembled(found)
        return tuple(map(self._assembled, zip(*found, strict=True)))

    def diagonal(self):
        return self._assembled([part.diagonal() for part in self.parts])

    def inverse_diagonal(self):
        return self._assembled([part.inverse_diagonal() for part in self.parts])

    def check_constants(self, n=None):
        for block, size in zip(self.blocks, self.block_sizes, strict=True):
            block.check_constants(size if isinstance(size, int) else None)

    def keep(self, observed):
        if not self._sized:
            return None
        cuts = np.cumsum(self.block_sizes)[:-1]
        of_blocks = np.split(observed, np.searchsorted(observed, cuts))
        kept = [
            (marginal_of(block, positions - start, size).resolved, positions.size)
            for block, positions, start, size in zip(
                self.blocks, of_blocks, [0, *cuts], self.block_sizes, strict=True
            )
            if positions.size
        ]
        return BlockDiagonal._of_blocks(*zip(*kept, strict=True)) if kept else None

    def scaled(self, factor):
        scaled = [block.scaled(factor) for block in self.blocks]
        return BlockDiagonal._of_blocks(scaled, self.block_sizes)

    def groups(self):
        if self._sized:
            return "block", np.repeat(np.arange(len(self.block_sizes)), self.block_sizes)
        return None

    def time_order(self):
        orders = [block.time_order() for block in self.blocks]
        if all(order is None for order in orders) or self.groups() is None:
            return None
        sizes = self.block_sizes
        starts = np.cumsum(sizes) - sizes
        whole = [np.arange(n) if o is None else o for o, n in zip(orders, sizes, strict=True)]
        return np.concatenate([start + o for start, o in zip(starts, whole, strict=True)])

    def rows(self, positions):
        strips, start = [], 0
        for block, size in zip(self.blocks, self.block_sizes, strict=True):
            own = positions - start
            inside = pt.ge(own, 0) & pt.lt(own, size)
            strip = block.rows(pt.switch(inside, own, 0)) if size != 0 else pt.zeros((1, 0))
            strips.append(pt.switch(inside[:, None], strip, 0))
            start += size
        return join_last(strips)

    def information(self, tangents):
        total, start, tangents = 0, 0, self.structure.of_parts(tangents)
        for part in self.parts:
            stop = start + len(part.parameters)
            total = total + part.information(tangents[start:stop])
            start = stop
        return total

    def __repr__(self):
        return f"{self.label}({', '.join(map(repr, self.blocks))})"


def _add_blocks(left, others, label):
    """Block by block, with the block in the message where that sum is not closed."""
    parts = []
    for i, (block, other) in enumerate(zip(left.blocks, others, strict=True)):
        try:
            parts.append(summed(block, other).resolved)
        except TypeError as error:
            raise TypeError(f"gg.cov.BlockDiagonal + {label}, block {i}: {error}") from error
    return BlockDiagonal._of_blocks(parts, left.block_sizes)


@closes(BlockDiagonal, Diagonal)
def _plus_diagonal(left, right):
    check_size(left, "variance", right.parameters[0])
    [variance], sizes = right.parameters, left.block_sizes
    if left._sized:  # slices are seen to be parts of one
        stops = np.cumsum(sizes).tolist()
        of_blocks = [variance[..., stop - n : stop] for stop, n in zip(stops, sizes, strict=True)]
    else:
        of_blocks = partition("gg.cov.BlockDiagonal + gg.cov.Diagonal", variance, sizes)
    return _add_blocks(left, map(Diagonal, of_blocks), right.label)


@closes(BlockDiagonal, ScalarDiagonal)
def _plus_scalar_diagonal(left, right):
    common_size(left, right)
    [variance] = right.parameters
    noise = [ScalarDiagonal.from_parameters(variance, size=size) for size in left.block_sizes]
    return _add_blocks(left, noise, right.label)


def _same(size, other) -> bool:
    if isinstance(size, int) or isinstance(other, int):
        return size == other if isinstance(size, int) and isinstance(other, int) else False
    return equal_computations([size], [other])


@closes(BlockDiagonal, BlockDiagonal)
def _sum(left, right):
    sizes, others = left.block_sizes, right.block_sizes
    if not (len(sizes) == len(others) and all(map(_same, sizes, others))):
        raise TypeError(
            f"gg.cov.BlockDiagonal + gg.cov.BlockDiagonal: sizes {sizes} and {others}, "
            "expected the same, known as integers; for the dense sum, at a cost of n^3, write "
            "gg.cov.Dense(a.to_dense() + b.to_dense())."
        )
    return _add_blocks(left, right.blocks, right.label)
