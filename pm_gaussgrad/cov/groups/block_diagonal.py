r"""``BlockDiagonal``: independent groups of observations, each with a covariance of its own.

Definition: Sigma = diag(Sigma_1, ..., Sigma_b) by blocks. Storage and cost: the sum of those of
the blocks. It has no kernels: with the residual cut into r_1, ..., r_b,

    quad = sum_k r_k' Sigma_k^-1 r_k,    logdet = sum_k log|Sigma_k|,    alpha_k = Sigma_k^-1 r_k,

so that the pullback is that of each block for its slice, with the common cotangents.

Sources: Horn and Johnson (2012), Matrix Analysis, 2nd ed., section 0.9.2.
"""

from functools import reduce
from operator import add

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import equal_computations

from pm_gaussgrad.cov.groups.equal_blocks import in_order, together
from pm_gaussgrad.cov.matrices.dense import Dense
from pm_gaussgrad.cov.matrices.diagonal import Diagonal, ScalarDiagonal
from pm_gaussgrad.cov.protocol.base import Covariance, as_parameter, check_size
from pm_gaussgrad.cov.protocol.composite import Composite, join_last, known_size
from pm_gaussgrad.cov.protocol.marginal import marginal
from pm_gaussgrad.cov.protocol.sums import closed_sum, closes, common_size
from pm_gaussgrad.ops import partition


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
    with the same parameters by one factorisation; the graph and the time of compilation grow with
    the number of *different* structures and sizes.

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

    part_name = "block"

    def __init__(self, *blocks):
        if not blocks:
            raise TypeError("gg.cov.BlockDiagonal: found no block, expected at least one.")
        name = "gg.cov.BlockDiagonal"
        self.parts = tuple(
            b if isinstance(b, Covariance) else Dense(as_parameter(name, f"block {i}", b, 2))
            for i, b in enumerate(blocks)
        )
        self.sizes = tuple(known_size(name, f"block {i}", b) for i, b in enumerate(self.parts))

    @property
    def size(self):
        return reduce(add, self.sizes)

    def _pieces(self):
        """Blocks that are evaluated together; where they are consecutive and how to come back."""
        pieces, members = together(self.parts, self.sizes)
        known = all(isinstance(size, int) for size in self.sizes)
        return (pieces, *(in_order(members, self.sizes) if known else (None, None)))

    def _cut(self, name, value):
        """Each piece with the rows of its blocks, and the positions that restore the order."""
        value = as_parameter(self.label, name, value, 1)
        check_size(self, name, value)
        pieces, positions, restored = self._pieces()
        value = value if positions is None else value[..., positions]
        slices = partition(self.label, value, [piece.total_size for piece in pieces])
        return [(x, x.apart(rows)) for x, rows in zip(pieces, slices, strict=True)], restored

    def to_dense(self):
        return pt.linalg.block_diag(*(block.to_dense() for block in self.parts))

    def quad_logdet(self, residual):
        quads, logdets = [], []
        for piece, rows in self._cut("residual", residual)[0]:
            quad, logdet = piece.cov.quad_logdet(rows)
            quads.append(piece.added(quad))
            logdets.append(piece.logdet_of(logdet))
        return reduce(add, quads), reduce(add, logdets)

    def logdet(self):
        pieces, *_ = self._pieces()
        return reduce(add, (piece.logdet_of(piece.cov.logdet()) for piece in pieces))

    def solve(self, b):
        return self._of_rows("solve", "b", b)

    def color(self, z):
        return self._of_rows("color", "z", z)

    def whiten(self, residual):
        return self._of_rows("whiten", "residual", residual)

    def leave_one_out(self, residual):
        return self._of_rows("leave_one_out", "residual", residual)

    def innovations(self, residual):
        return self._of_rows("innovations", "residual", residual)

    def _of_rows(self, method, name, value):
        """A method of the blocks that returns rows, or a tuple of rows."""
        cut, restored = self._cut(name, value)
        results = [(piece, getattr(piece.cov, method)(rows)) for piece, rows in cut]
        if not isinstance(results[0][1], tuple):
            return _assembled(results, restored)
        several = zip(*([(piece, x) for x in result] for piece, result in results), strict=True)
        return tuple(_assembled(one, restored) for one in several)

    def diagonal(self):
        return self._of_blocks("diagonal")

    def inverse_diagonal(self):
        return self._of_blocks("inverse_diagonal")

    def _of_blocks(self, method):
        pieces, _, restored = self._pieces()
        return _assembled([(piece, getattr(piece.cov, method)()) for piece in pieces], restored)

    def keep(self, observed):
        if not all(isinstance(size, int) for size in self.sizes):
            return None
        cuts = np.cumsum(self.sizes)[:-1]
        of_blocks = np.split(observed, np.searchsorted(observed, cuts))
        starts = [0, *cuts]
        kept = [
            marginal(block, positions - start)
            for block, positions, start in zip(self.parts, of_blocks, starts, strict=True)
            if positions.size
        ]
        return BlockDiagonal(*kept) if kept else None

    def scaled(self, factor):
        return self.from_parts([block.scaled(factor) for block in self.parts], self.sizes)

    def groups(self):
        if all(isinstance(size, int) for size in self.sizes):
            return "block", np.repeat(np.arange(len(self.sizes)), self.sizes)
        return None

    def time_order(self):
        orders = [block.time_order() for block in self.parts]
        if all(order is None for order in orders) or self.groups() is None:
            return None
        starts = np.cumsum(self.sizes) - self.sizes
        whole = [np.arange(n) if o is None else o for o, n in zip(orders, self.sizes, strict=True)]
        return np.concatenate([start + o for start, o in zip(starts, whole, strict=True)])

    def rows(self, positions):
        strips, start = [], 0
        for block, size in zip(self.parts, self.sizes, strict=True):
            own = positions - start
            inside = pt.ge(own, 0) & pt.lt(own, size)
            strip = block.rows(pt.switch(inside, own, 0)) if size != 0 else pt.zeros((1, 0))
            strips.append(pt.switch(inside[:, None], strip, 0))
            start += size
        return join_last(strips)

    def information(self, tangents):
        total, start, tangents = 0, 0, self.structure.of_parts(tangents)
        for block in self.parts:
            stop = start + len(block.parameters)
            total = total + block.information(tangents[start:stop])
            start = stop
        return total


def _assembled(results, restored):
    """The results of pieces side by side, in the order of the observations."""
    whole = join_last([piece.joined(rows) for piece, rows in results])
    return whole if restored is None else whole[..., restored]


def _add_blocks(left, others, label):
    """Block by block, with the block in the message where that sum is not closed."""
    parts = []
    for i, (block, other) in enumerate(zip(left.parts, others, strict=True)):
        try:
            parts.append(closed_sum(block, other))
        except TypeError as error:
            raise TypeError(f"gg.cov.BlockDiagonal + {label}, block {i}: {error}") from error
    return BlockDiagonal.from_parts(parts, left.sizes)


@closes(BlockDiagonal, Diagonal)
def _plus_diagonal(left, right):
    check_size(left, "variance", right.parameters[0])
    variances = partition("gg.cov.BlockDiagonal + gg.cov.Diagonal", right.parameters[0], left.sizes)
    return _add_blocks(left, map(Diagonal, variances), right.label)


@closes(BlockDiagonal, ScalarDiagonal)
def _plus_scalar_diagonal(left, right):
    common_size(left, right)
    noise = [ScalarDiagonal.from_parameters(*right.parameters, size=size) for size in left.sizes]
    return _add_blocks(left, noise, right.label)


def _same(size, other) -> bool:
    if isinstance(size, int) or isinstance(other, int):
        return size == other if isinstance(size, int) and isinstance(other, int) else False
    return equal_computations([size], [other])


@closes(BlockDiagonal, BlockDiagonal)
def _sum(left, right):
    same_count = len(left.sizes) == len(right.sizes)
    if not (same_count and all(map(_same, left.sizes, right.sizes))):
        raise TypeError(
            f"gg.cov.BlockDiagonal + gg.cov.BlockDiagonal: sizes {left.sizes} and {right.sizes}, "
            "expected the same, known as integers; for the dense sum, at a cost of n^3, write "
            "gg.cov.Dense(a.to_dense() + b.to_dense())."
        )
    return _add_blocks(left, right.parts, right.label)
