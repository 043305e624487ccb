r"""Means of rows that are linear in what all rows share, found in the graph of a mean.

    mean = K + X B + b[g]

with K (m, n), X (m, p) and g (m) constants or data, and B (p, n) and b (G, n) that may be any
expressions: regression by a design matrix, an effect of a group that is looked up, an intercept,
sums and multiples of these. Rows of one design differ in the columns of X only. What is constant is
an array here; what depends on shared data and constants alone is a tensor, of which only static
shapes are known, as the data may change.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytensor.tensor as pt
from pytensor import scalar as ps
from pytensor.graph.basic import Constant
from pytensor.raise_op import CheckAndRaise
from pytensor.tensor.basic import Alloc, Join
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot
from pytensor.tensor.shape import SpecifyShape
from pytensor.tensor.subtensor import AdvancedSubtensor

from pm_gaussgrad.likelihood.data import (
    broadcast,
    is_data,
    length,
    may_be_nonzero,
    may_differ_by_row,
    side_by_side,
    static_length,
)

# As many columns may looked-up effects take that are no plain sum over groups.
_MOST_COLUMNS = 256
_MOST_COLUMNS_OF_DATA = 64  # which are written out where the rows are not finite

Known = np.ndarray | pt.TensorVariable


@dataclass(frozen=True)
class LookedUp:
    """``weights * effects[codes]``: codes (m), effects (G, k), weights (m or 1, 1).

    Constant codes are all in use, those that are data are checked when they are computed.
    """

    codes: Known
    effects: pt.TensorVariable
    weights: Known

    @property
    def most_columns(self):
        return _MOST_COLUMNS if isinstance(self.codes, np.ndarray) else _MOST_COLUMNS_OF_DATA

    def columns(self):
        """The same as a design matrix."""
        groups = np.arange(self.effects.type.shape[0])
        if isinstance(self.codes, np.ndarray):
            return self.weights * (self.codes[:, None] == groups), self.effects
        return self.weights * pt.eq(self.codes[:, None], groups), self.effects


@dataclass(frozen=True)
class LinearMean:
    """A mean (m, k): a constant (m, k) or (1, 1), designs X (m, p) with B (p, k), effects."""

    constant: Known
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
        none = not isinstance(factor, np.ndarray) and not may_be_nonzero(self.constant)
        constant = self.constant if none else self.constant * factor
        if static_length(factor, 1) == 1:  # of rows
            return LinearMean(
                constant,
                tuple((x * factor, b) for x, b in self.designs),
                tuple(replace(e, weights=e.weights * factor) for e in self.looked_up),
            )
        if static_length(factor, 0) == 1:
            rescaled = self.times_shared(pt.as_tensor_variable(factor), constant=False)
            return replace(rescaled, constant=constant)
        columns = (x for x, _ in self.designs)
        if self.looked_up or any(may_differ_by_row(x) or static_length(x, 1) != 1 for x in columns):
            return None
        # Rows are the same but for the factor: an own regressor for each column.
        designs = ((factor, _diagonal(x[0, 0] * b, length(factor, 1))) for x, b in self.designs)
        return LinearMean(constant, tuple(designs))

    def times_shared(self, factor, constant=True):
        """Of an expression (1, k or 1) that all rows share."""
        rescaled = LinearMean(
            np.zeros((1, 1)),
            tuple((x, b * factor) for x, b in self.designs),
            tuple(replace(e, effects=e.effects * factor) for e in self.looked_up),
        )
        if not constant or not may_be_nonzero(self.constant):
            return rescaled
        width = length(self.constant, 1)
        scale = factor if static_length(self.constant, 1) == 1 else _diagonal(factor, width)
        return rescaled + LinearMean(np.zeros((1, 1)), ((self.constant, scale),))

    def of_width(self, width):
        """The same, where it has one column for all, with as many as that."""

        def widened(b):
            return pt.broadcast_to(b, (b.shape[0], width))

        return LinearMean(
            broadcast(self.constant, (self.constant.shape[0], width)),
            tuple((x, widened(b)) for x, b in self.designs),
            tuple(replace(e, effects=widened(e.effects)) for e in self.looked_up),
        )

    def among(self, before, after):
        """Columns of others, which are zero here, on both sides."""
        return LinearMean(
            _padded(self.constant, before, after),
            tuple((x, _padded(b, before, after)) for x, b in self.designs),
            tuple(replace(e, effects=_padded(e.effects, before, after)) for e in self.looked_up),
        )

    def design(self, m):
        """X (m, p) or None, B (p, k) and a sum over groups or None; None if too wide."""
        own, plain = list(self.designs), self._plain_sum_over_groups()
        if plain is None:
            most = min((e.most_columns for e in self.looked_up), default=0)
            if sum(e.effects.type.shape[0] for e in self.looked_up) > most:
                return None
            own += [e.columns() for e in self.looked_up]
        columns = [broadcast(x, (m, length(x, 1))) for x, _ in own]
        return side_by_side([*columns]) if own else None, [b for _, b in own], plain

    def _plain_sum_over_groups(self):
        """The only looked-up effect, if all rows have one weight."""
        if len(self.looked_up) != 1:
            return None
        [effect] = self.looked_up
        weight = effect.weights[:1]
        if static_length(weight, 0) == 0 or may_differ_by_row(effect.weights):
            return None
        return replace(effect, effects=effect.effects * weight, weights=np.ones((1, 1)))


def _padded(b, before, after):
    """A matrix among columns of zeros."""
    if isinstance(b, np.ndarray):
        return np.pad(b, [(0, 0), (before, after)])
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
    if is_data(v):
        return _of_data(v, row, column)
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


def _of_data(v, row, column):
    """Of an expression of data."""
    order = ["x" if axis is None else axis for axis in (row, column)]
    if any(i not in order and not v.type.broadcastable[i] for i in range(v.type.ndim)):
        return None
    return LinearMean(v.dimshuffle(*order).astype("float64"))


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
    if not is_first or row != 0:
        return None
    [codes], count = indices, base.type.shape[0]
    others = [i for i in range(1, base.type.ndim) if i != column]
    if codes.type.ndim != 1 or np.dtype(codes.dtype).kind not in "iu" or count is None or others:
        return None
    if is_data(codes):
        effects = base[:, None] if column is None else base
        effect = LookedUp(_checked(codes, count), effects, np.ones((1, 1)))
        return LinearMean(np.zeros((1, 1)), looked_up=(effect,))
    if not isinstance(codes, Constant):
        return None
    codes = codes.data.astype("int64")
    if ((codes < -count) | (codes >= count)).any():
        return None
    effects = base[:, None] if column is None else base
    used, codes = np.unique(np.where(codes < 0, codes + count, codes), return_inverse=True)
    effects = effects if used.size == count else effects[used]
    effect = LookedUp(codes, effects, np.ones((codes.size, 1)))
    return LinearMean(np.zeros((1, 1)), looked_up=(effect,))


def _checked(codes, count):
    """Positions from 0 to count, of which some may count from the end."""
    codes = codes.astype("int64")
    inside = (pt.ge(codes, -count) & pt.lt(codes, count)).all()
    error = CheckAndRaise(
        IndexError, f"index out of bounds: a position of a group is not below {count}."
    )
    return error(pt.switch(pt.lt(codes, 0), codes + count, codes), inside)


def _of_dot(v, row, column):
    left, right = v.owner.inputs
    if left.type.ndim != 2 or right.type.ndim != 2:
        return None
    if row == 1:
        left, right = right.T, left.T
    of_left, width = _linear(left, 0, 1), left.type.shape[1] or right.type.shape[0]
    if of_left is None or of_left.looked_up:
        return None
    if width is not None:
        of_left = of_left.of_width(width)
    elif of_left.designs or static_length(of_left.constant, 1) == 1:
        return None
    right = right if column is not None else right[:, :1]
    designs = tuple((x, b @ right) for x, b in of_left.designs)
    if may_be_nonzero(of_left.constant):
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
        and not may_be_nonzero(mean.constant)
        and len(mean.designs) == 1
        and all(static_length(mean.designs[0][0], axis) == 1 for axis in (0, 1))
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
