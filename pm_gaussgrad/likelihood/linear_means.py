r"""Means of rows that are linear in what all rows share, found in the graph of a mean.

    mean = K + X B + b[g]

with constants K (m, n), X (m, p) and g (m), and B (p, n) and b (G, n) that may be any expressions:
regression by a design matrix, an effect of a group that is looked up, an intercept, sums and
multiples of these. Rows of one design differ in the columns of X only.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytensor.tensor as pt
from pytensor import scalar as ps
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import Alloc, Join
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot
from pytensor.tensor.shape import SpecifyShape
from pytensor.tensor.subtensor import AdvancedSubtensor

# As many columns may looked-up effects take that are no plain sum over groups.
_MOST_COLUMNS = 256


@dataclass(frozen=True)
class LookedUp:
    """``weights * effects[codes]``: codes (m), all in use, effects (G, k), weights (m, 1)."""

    codes: np.ndarray
    effects: pt.TensorVariable
    weights: np.ndarray

    def columns(self):
        """The same as a design matrix."""
        count = self.effects.type.shape[0]
        return self.weights * (self.codes[:, None] == np.arange(count)), self.effects


@dataclass(frozen=True)
class LinearMean:
    """A mean (m, k): a constant (m, k) or (1, 1), designs X (m, p) with B (p, k), effects."""

    constant: np.ndarray
    designs: tuple = ()
    looked_up: tuple[LookedUp, ...] = ()

    def __add__(self, other):
        return LinearMean(
            self.constant + other.constant,
            self.designs + other.designs,
            self.looked_up + other.looked_up,
        )

    def times_constant(self, factor):
        """Of a factor (m or 1, k or 1); None where the product is not linear any more."""
        if factor.shape[1] == 1:  # of rows
            return LinearMean(
                self.constant * factor,
                tuple((x * factor, b) for x, b in self.designs),
                tuple(replace(e, weights=e.weights * factor) for e in self.looked_up),
            )
        if factor.shape[0] == 1:
            rescaled = self.times_shared(pt.constant(factor), constant=False)
            return replace(rescaled, constant=self.constant * factor)
        if self.looked_up or any((x != x[:1]).any() or x.shape[1] > 1 for x, _ in self.designs):
            return None
        # Rows are the same but for the factor: an own regressor for each column.
        designs = ((factor, _diagonal(x[0, 0] * b, factor.shape[1])) for x, b in self.designs)
        return LinearMean(self.constant * factor, tuple(designs))

    def times_shared(self, factor, constant=True):
        """Of an expression (1, k or 1) that all rows share."""
        rescaled = LinearMean(
            np.zeros((1, 1)),
            tuple((x, b * factor) for x, b in self.designs),
            tuple(replace(e, effects=e.effects * factor) for e in self.looked_up),
        )
        if not constant or not self.constant.any():
            return rescaled
        width = self.constant.shape[1]
        scale = factor if width == 1 else _diagonal(factor, width)
        return rescaled + LinearMean(np.zeros((1, 1)), ((self.constant, scale),))

    def of_width(self, width):
        """The same, where it has one column for all, with as many as that."""

        def widened(b):
            return pt.broadcast_to(b, (b.shape[0], width))

        return LinearMean(
            np.broadcast_to(self.constant, (self.constant.shape[0], width)),
            tuple((x, widened(b)) for x, b in self.designs),
            tuple(replace(e, effects=widened(e.effects)) for e in self.looked_up),
        )

    def among(self, before, after):
        """Columns of others, which are zero here, on both sides."""
        sides = [(0, 0), (before, after)]
        return LinearMean(
            np.pad(self.constant, sides),
            tuple((x, _padded(b, before, after)) for x, b in self.designs),
            tuple(replace(e, effects=_padded(e.effects, before, after)) for e in self.looked_up),
        )

    def design(self, m):
        """X (m, p), B (p, k) and either a sum over groups or None; None if too wide."""
        own, plain = list(self.designs), self._plain_sum_over_groups()
        if plain is None:
            if sum(e.effects.type.shape[0] for e in self.looked_up) > _MOST_COLUMNS:
                return None
            own += [e.columns() for e in self.looked_up]
        columns = [np.broadcast_to(x, (m, x.shape[1])) for x, _ in own]
        return np.hstack([np.zeros((m, 0)), *columns]), [b for _, b in own], plain

    def _plain_sum_over_groups(self):
        """The only looked-up effect, if all rows have one weight."""
        if len(self.looked_up) != 1:
            return None
        [effect] = self.looked_up
        weight = effect.weights[:1]
        if not weight.size or (effect.weights != weight).any():
            return None
        return replace(effect, effects=effect.effects * weight, weights=np.ones((1, 1)))


def _padded(b, before, after):
    """A matrix among columns of zeros."""
    sides = [pt.zeros((b.shape[0], count), dtype=b.dtype) for count in (before, after)]
    return pt.concatenate([sides[0], b, sides[1]], axis=1)


def _diagonal(row, width):
    """diag of a row (1, width or 1)."""
    return pt.eye(width, dtype=row.dtype) * row


def linear_mean(mu) -> LinearMean | None:
    """The mean (m, n) in that form, or None where it is not linear in what rows share."""
    return _linear(mu, 0, 1)


def _linear(v, row, column):
    """Of a tensor that has rows along one axis and entries along another, each or None."""
    if isinstance(v, Constant):
        return LinearMean(_as_matrix(np.asarray(v.data, dtype="float64"), row, column))
    if row is None or v.type.broadcastable[row]:
        order = ["x", "x" if column is None else column]
        dropped = [i for i in range(v.type.ndim) if i not in order]
        if any(not v.type.broadcastable[i] for i in dropped):
            return None
        return LinearMean(np.zeros((1, 1)), ((np.ones((1, 1)), v.dimshuffle(*order)),))
    if not v.dtype.startswith("float"):
        return None  # what rounds is not linear
    op = v.owner.op if v.owner else None
    rule = next((f for kind, f in _RULES.items() if isinstance(op, kind)), None)
    return rule(v, row, column) if rule else None


def _as_matrix(array, row, column):
    """An array with rows along one axis and entries along another as (m or 1, k or 1)."""
    kept = [axis for axis in (row, column) if axis is not None]
    others = [i for i in range(array.ndim) if i not in kept]
    lengths = [1 if axis is None else array.shape[axis] for axis in (row, column)]
    return array.transpose(*kept, *others).reshape(lengths)


def _of_dimshuffle(v, row, column):
    order = v.owner.op.new_order
    inner = [None if axis is None or order[axis] == "x" else order[axis] for axis in (row, column)]
    return _linear(v.owner.inputs[0], *inner)


def _of_alloc(v, row, column):
    x = v.owner.inputs[0]
    shift = v.type.ndim - x.type.ndim
    inner = [None if axis is None or axis < shift else axis - shift for axis in (row, column)]
    return _linear(x, *inner)


def _of_first_input(v, row, column):
    return _linear(v.owner.inputs[0], row, column)


def _of_lookup(v, row, column):
    base, *indices = v.owner.inputs
    is_first = v.owner.op.idx_list == (0,) and len(indices) == 1
    if not is_first or row != 0 or not isinstance(indices[0], Constant):
        return None
    [codes], count = [x.data for x in indices], base.type.shape[0]
    others = [i for i in range(1, base.type.ndim) if i != column]
    if codes.ndim != 1 or codes.dtype.kind not in "iu" or count is None or others:
        return None
    codes = codes.astype("int64")
    if ((codes < -count) | (codes >= count)).any():
        return None
    effects = base[:, None] if column is None else base
    used, codes = np.unique(np.where(codes < 0, codes + count, codes), return_inverse=True)
    effects = effects if used.size == count else effects[used]
    effect = LookedUp(codes, effects, np.ones((codes.size, 1)))
    return LinearMean(np.zeros((1, 1)), looked_up=(effect,))


def _of_dot(v, row, column):
    left, right = v.owner.inputs
    if left.type.ndim != 2 or right.type.ndim != 2:
        return None
    if row == 1:
        left, right = right.T, left.T
    of_left, width = _linear(left, 0, 1), left.type.shape[1]
    if of_left is None or of_left.looked_up or width is None:
        return None
    of_left = of_left.of_width(width)
    right = right if column is not None else right[:, :1]
    designs = tuple((x, b @ right) for x, b in of_left.designs)
    if of_left.constant.any():
        designs += ((of_left.constant, right),)
    return LinearMean(np.zeros((1, 1)), designs)


def _of_join(v, row, column):
    """Columns side by side, as ``pt.stack`` puts them."""
    widths = [x.type.shape[column] if column is not None else None for x in v.owner.inputs]
    if v.owner.op.axis != column or None in widths:
        return None
    parts = [_linear(x, row, column) for x in v.owner.inputs]
    if any(part is None for part in parts):
        return None
    total, starts = sum(widths), np.cumsum([0, *widths])
    spread = (
        part.of_width(width).among(int(start), int(total - start - width))
        for part, width, start in zip(parts, widths, starts[:-1], strict=True)
    )
    return sum(spread, start=LinearMean(np.zeros((1, 1))))


def _of_elemwise(v, row, column):
    parts = [_linear(x, row, column) for x in v.owner.inputs]
    op = v.owner.op.scalar_op
    if isinstance(op, ps.Second):
        return parts[1]
    if any(part is None for part in parts):
        return None
    if isinstance(op, ps.Cast | ps.Identity):
        return parts[0]
    if isinstance(op, ps.Neg):
        return parts[0].times_constant(-np.ones((1, 1)))
    if isinstance(op, ps.Add):
        return sum(parts[1:], start=parts[0])
    if isinstance(op, ps.Sub):
        return parts[0] + parts[1].times_constant(-np.ones((1, 1)))
    if isinstance(op, ps.Mul):
        return _product(parts)
    if isinstance(op, ps.TrueDiv):
        return _quotient(*parts)
    return None


def _is_constant(mean):
    return not mean.designs and not mean.looked_up


def _is_shared(mean):
    """Whether it is one expression that all rows share."""
    return (
        not mean.looked_up
        and not mean.constant.any()
        and len(mean.designs) == 1
        and mean.designs[0][0].shape == (1, 1)
    )


def _product(parts):
    total, *factors = sorted(parts, key=lambda mean: _is_constant(mean) + _is_shared(mean))
    for factor in factors:
        if total is None:
            return None
        if _is_constant(factor):
            total = total.times_constant(factor.constant)
        elif _is_shared(factor):
            [(weight, expression)] = factor.designs
            total = total.times_shared(expression * weight[0, 0])
        else:
            return None
    return total


def _quotient(numerator, divisor):
    if _is_constant(divisor):
        return numerator.times_constant(1 / divisor.constant)
    if _is_shared(divisor):
        [(weight, expression)] = divisor.designs
        return numerator.times_shared(1 / (expression * weight[0, 0]))
    return None


_RULES = {
    DimShuffle: _of_dimshuffle,
    Elemwise: _of_elemwise,
    Alloc: _of_alloc,
    SpecifyShape: _of_first_input,
    AdvancedSubtensor: _of_lookup,
    Dot: _of_dot,
    Join: _of_join,
}
