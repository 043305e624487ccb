r"""The covariance of linear maps of bases, by structures.

What a sum of pieces comes to is a part: effects of groups, variances of single observations, a
factor, or a covariance of its own. Parts of one kind are put together, and the sum of all that
there is finds its algorithm as sums do.
"""

from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.adopt.marginalize.linear.pieces import Base, Matrix, Term, product_of

# Coefficients of a group, and entries of bases in it, at most.
_MOST = 6


@dataclass(frozen=True, eq=False)
class EffectsPart:
    """Coefficients of groups: ``design @ L @ e[group]``, of e independent.

    Attributes
    ----------
    group : array of int, shape (n)
        0, 1, ..., in the order of their first observation.
    design : array, shape (n, k)
        Constant.
    loadings : list of (row, column, tensor)
        Entries of L (k, q), those for one place added up.
    width : int
        The number of columns q.
    owners : tuple of str
    """

    group: np.ndarray
    design: np.ndarray
    loadings: list
    width: int
    owners: tuple

    @property
    def levels(self):
        return int(self.group.max(initial=-1)) + 1

    def loading_matrix(self):
        """L, shape (k, q)."""
        rows = [[np.float64(0.0)] * self.width for _ in range(self.design.shape[1])]
        for row, column, value in self.loadings:
            rows[row][column] = rows[row][column] + value
        return pt.stack([pt.stack([pt.as_tensor(x) for x in row]) for row in rows])

    def covariance(self):
        """That of the coefficients of a group: L L', shape (k, k), or a variance of one."""
        matrix = self.loading_matrix()
        if matrix.type.shape == (1, 1):
            return matrix[0, 0] ** 2
        return matrix @ matrix.T

    def factor(self):
        """The same as the columns of a factor, shape (n, levels q)."""
        n, k = self.design.shape
        places = np.zeros((n, self.levels, k))
        places[np.arange(n), self.group] = self.design
        columns = pt.constant(places.reshape(n * self.levels, k)) @ self.loading_matrix()
        return columns.reshape((n, self.levels * self.width))


@dataclass(frozen=True, eq=False)
class VariancePart:
    """Independent contributions to single observations: shape (n)."""

    variance: pt.TensorVariable
    owners: tuple


@dataclass(frozen=True, eq=False)
class FactorPart:
    """A factor, shape (n, m)."""

    factor: pt.TensorVariable
    owners: tuple
    width: int


def of_white(base: Base, pieces, n):
    """The part that independent entries come to."""
    if all(isinstance(piece, Term) for piece in pieces):
        found = _variances(base, pieces) or _effects(base, pieces, n)
        if found is not None:
            return found
    return FactorPart(jacobian_of(pieces).T, (base.owner,), base.size)


def of_rows(base: Base, pieces, n):
    """The part that rows of correlated entries come to, in terms of their root."""
    if len(base.shape) > 1 and all(isinstance(piece, Term) for piece in pieces):
        found = _effects(base, pieces, n)
        if found is not None:
            return found
    k = base.shape[-1]
    jacobian = jacobian_of(pieces).T.reshape((n * (base.size // k), k))
    return FactorPart((jacobian @ base.factor()).reshape((n, base.size)), (base.owner,), base.size)


def jacobian_of(pieces):
    """That of a sum of pieces, shape (m, n)."""
    total = None
    for piece in pieces:
        matrix: Matrix = piece.to_matrix()
        scaled = matrix.jacobian
        if matrix.scalars:
            scaled = scaled * product_of(matrix.scalars)
        total = scaled if total is None else total + scaled
    return total


def _variances(base, pieces):
    """Where each entry of the base is in at most one observation, alone there."""
    [first, *more] = pieces
    used = first.index[first.weight != 0]
    if more or np.unique(used).size < used.size:
        return None
    scale = first.weight * product_of(first.scalars)
    scale = scale if first.array is None else scale * first.array
    return VariancePart(pt.as_tensor(scale) ** 2, (base.owner,))


def _effects(base, pieces, n):
    """Effects, where observations see entries of one group each; None where they do not."""
    if any(term.array is not None for term in pieces):
        return None
    groups = _groups(base, pieces)
    if base.cov is not None and np.unique(groups).size < base.size // base.shape[-1]:
        return None  # rows that are independent are in one observation
    slots = _slots(base, groups)
    width = int(slots.max(initial=0)) + 1
    keys, columns = [], []
    for term in pieces:
        seen = term.weight != 0
        for slot in np.unique(slots[term.index[seen]]):
            weight = np.where(seen & (slots[term.index] == slot), term.weight, 0.0)
            keys.append((int(slot), term.scalars))
            columns.append(weight)
    design, rows = distinct(columns)
    if width > _MOST or design.shape[1] > _MOST:
        return None
    loadings = [
        (row, slot, product_of(scalars)) for row, (slot, scalars) in zip(rows, keys, strict=True)
    ]
    if base.cov is not None:
        loadings, width = _through_root(loadings, base.factor()), base.shape[-1]
    return EffectsPart(_observed_groups(groups, pieces, n), design, loadings, width, (base.owner,))


def _through_root(loadings, root):
    """L R for L, of a root (k, k)."""
    k = root.type.shape[-1]
    return [(row, j, value * root[slot, j]) for row, slot, value in loadings for j in range(k)]


def _groups(base, pieces):
    """The group of each entry: what is in one observation, or one row of the base, is in one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    m, n = base.size, pieces[0].index.size
    rows = [np.arange(m)] if base.cov is not None else []
    nodes = [m + n + np.arange(m) // base.shape[-1]] if base.cov is not None else []
    for term in pieces:
        seen = np.flatnonzero(term.weight)
        rows.append(term.index[seen])
        nodes.append(m + seen)
    rows, nodes = np.concatenate(rows), np.concatenate(nodes)
    size = 2 * m + n
    links = coo_array((np.ones(rows.size), (rows, nodes)), shape=(size, size))
    return connected_components(links, directed=False)[1][:m]


def _slots(base, groups):
    """The place of each entry within its group."""
    if base.cov is not None:
        return np.arange(base.size) % base.shape[-1]
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    place = np.arange(order.size) - np.repeat(starts, np.diff(starts, append=order.size))
    slots = np.empty_like(order)
    slots[order] = place
    return slots


def _observed_groups(groups, pieces, n):
    """The group of each observation; of those that see nothing the first."""
    found = np.full(n, -1)
    for term in pieces:
        found = np.where(term.weight != 0, groups[term.index], found)
    found = np.where(found < 0, found.max(initial=0), found)
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    rank = np.empty(first.size, int)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[inverse]


def distinct(columns) -> tuple:
    """A matrix of the columns that differ, and which of them each is."""
    held, rows = {}, []
    for column in columns:
        rows.append(held.setdefault(column.tobytes(), len(held)))
    kept = dict(zip(rows, columns, strict=True))
    return np.column_stack([kept[i] for i in range(len(held))]), rows
