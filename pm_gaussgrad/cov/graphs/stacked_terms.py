"""What sparse latents consist of: effects and fields, side by side, and the constants of both.

A field whose precision is constant but for a factor, Q = R / v, is an effect of the variance v with
the constant precision R between its levels, as far as its density goes. It is one here: log|R| is
found once, and a variance of zero is an ordinary point.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytensor.tensor as pt
import scipy.sparse as sp
from pytensor.graph.basic import Constant
from pytensor.scalar import upcast
from pytensor.tensor.variable import TensorVariable

from pm_gaussgrad.kernels.sparse.arrangement import (
    BETWEEN_COLUMN,
    BETWEEN_ROW,
    TERM_SIZE,
    TERM_START,
    arrange,
)
from pm_gaussgrad.kernels.sparse.layout import section
from pm_gaussgrad.ops.compiled import compiled_function
from pm_gaussgrad.ops.partition import assemble


@dataclass(frozen=True)
class Terms:
    """A x for n observations; the coefficients of effects come first, then the nodes of fields.

    Attributes
    ----------
    size, nodes : int
        Observations, and nodes of the fields.
    covariances : TensorVariable, shape (..., c)
        The matrices G of the effects, flattened, one after the other.
    values : TensorVariable, shape (..., q)
        Of the lower triangle of the precision of the fields.
    loadings : array, shape (a)
        The entries of A, row by row, columns ascending.
    entries : array of int, shape (2, a)
        Their rows and columns.
    between : array, shape (u)
        Of the lower triangle of the constant precision of the effects in relative form, by columns,
        in units in which its determinant is 1.
    related : array of int, shape (2, u)
        Their rows and columns.
    precision : array of int, shape (2, q)
        Rows and columns of the values, as numbers of coefficients.
    levels : array of int, shape (2, t)
        Of each term of effects: coefficients of a level, and levels.
    sums : array of int, shape (p)
        The component over which a coefficient sums to zero with others, 0, 1, ...; -1 where it does
        not.
    flat : array, shape (size, f)
        How observations see means of components that have a flat prior besides.
    """

    size: int
    nodes: int
    covariances: TensorVariable
    values: TensorVariable
    loadings: np.ndarray
    entries: np.ndarray
    between: np.ndarray
    related: np.ndarray
    precision: np.ndarray
    levels: np.ndarray
    sums: np.ndarray
    flat: np.ndarray

    @property
    def dtype(self):
        """That of the numbers that have a gradient."""
        return upcast(self.covariances.dtype, self.values.dtype)

    @property
    def effects(self) -> int:
        """How many coefficients of effects there are."""
        return int(self.levels.prod(axis=0).sum())

    @property
    def components(self) -> int:
        """How many sums are zero."""
        return int(self.sums.max(initial=-1)) + 1

    def beside(self, other):
        """The sum of both: independent of each other."""
        left, right = self.effects, other.effects
        shifts = (0, right), (left, left + self.nodes)
        entries = np.concatenate(
            [
                x.entries + [[0], [1]] * np.where(x.entries[1] < x.effects, own, of_fields)
                for x, (own, of_fields) in zip((self, other), shifts, strict=True)
            ],
            axis=1,
        )
        order = np.lexsort(entries[::-1])
        components = np.where(other.sums < 0, -1, other.sums + self.components)
        own, others = np.split(self.sums, [left]), np.split(components, [right])
        return Terms(
            self.size,
            self.nodes + other.nodes,
            _joined(self.covariances, other.covariances),
            _joined(self.values, other.values),
            np.concatenate([self.loadings, other.loadings])[order],
            entries[:, order],
            np.append(self.between, other.between),
            np.concatenate([self.related, other.related + left], axis=1),
            np.concatenate([self.precision + right, other.precision + left + self.nodes], axis=1),
            np.concatenate([self.levels, other.levels], axis=1),
            np.concatenate([own[0], others[0], own[1], others[1]]),
            np.concatenate([self.flat, other.flat], axis=1),
        )

    def keep(self, observed):
        """Those of the observations at increasing positions."""
        number = np.full(self.size, -1)
        number[observed] = np.arange(len(observed))
        rows = number[self.entries[0]]
        entries = np.stack([rows, self.entries[1]])[:, rows >= 0]
        loadings, flat = self.loadings[rows >= 0], self.flat[observed]
        return replace(self, size=len(observed), loadings=loadings, entries=entries, flat=flat)

    def _without_zeros(self):
        """Without entries of nodes that are components by themselves."""
        alone = np.bincount(self.sums[self.sums >= 0], minlength=self.components) == 1
        if not alone.any():
            return self
        zero = (self.sums >= 0) & alone[self.sums]
        number = np.append(np.cumsum(~alone) - 1, -1)
        seen = ~zero[self.entries[1]]
        return replace(
            self,
            loadings=self.loadings[seen],
            entries=self.entries[:, seen],
            sums=np.where(zero, -1, number[self.sums]),
        )

    @cached_property
    def tensors(self):
        """Covariances and values, and the constants in the order that structures declare."""
        index, *fill = arrange(
            self.size,
            self.entries,
            self.related,
            self.precision,
            self.levels,
            self.nodes,
            compiled_function,
        )
        p = self.effects + self.nodes
        constants = [
            self.loadings.astype(self.dtype),
            self.entries,
            self.between.astype(self.dtype),
            self.precision,
            self._blocks(),
            self.sums,
            index,
            # Without entries: what they say are their lengths.
            np.empty((self.size, p, 0), np.int64),
            np.empty((*fill, 0), np.int64),
        ]
        return (
            self.covariances,
            self.values,
            *(pt.constant(np.array(x, order="C")) for x in constants),
        )

    def _blocks(self):
        """Row, column and source of each entry of the covariance of the effects, (3, b)."""
        blocks, first, source = [np.empty((3, 0), np.int64)], 0, 0
        for k, count in self.levels.T:
            level, row, column = np.indices((count, k, k)).reshape(3, -1)
            own = source + row * k + column
            blocks.append(np.stack([first + level * k + row, first + level * k + column, own]))
            first, source = first + count * k, source + k * k
        return np.concatenate(blocks, axis=1)

    @classmethod
    def of_tensors(cls, tensors):
        """From :attr:`tensors`; None where their constants are symbolic, or a batch."""
        covariances, values, *constants = tensors
        if not all(isinstance(x, Constant) for x in constants) or constants[0].type.ndim > 1:
            return None
        loadings, entries, between, precision, _, centred, index, extent, _ = (
            x.data for x in constants
        )
        size, start = section(index, TERM_SIZE), section(index, TERM_START)
        levels = np.stack([size, np.diff(start) // np.maximum(size, 1)])
        related = np.stack([section(index, which) for which in (BETWEEN_ROW, BETWEEN_COLUMN)])
        n, p, _ = extent.shape
        constants = between, related, precision, levels, centred, np.empty((n, 0))
        return cls(n, int(p - start[-1]), covariances, values, loadings, entries, *constants)


def of_effects(covariance, levels, design, between):
    """Random effects.

    Parameters
    ----------
    covariance : TensorVariable, shape (..., k, k)
        G.
    levels : array of int, shape (n)
        Of each observation.
    design : array, shape (n, k)
    between : LevelPrecision
    """
    n, k = design.shape
    entries = np.stack([np.repeat(np.arange(n), k), (levels[:, None] * k + np.arange(k)).ravel()])
    flat = covariance.reshape((*covariance.shape[:-2], k * k))
    sums, means = np.full(between.size * k, -1), np.empty((n, 0))
    return _of_levels(n, flat, design.ravel(), entries, between.of_coefficients(k), k, sums, means)


def of_relative_field(matrix, variance, between, sums=None, flat=False):
    """A field with a :class:`LevelPrecision` that its variance (...) divides; see of_fields."""
    entries, sums, means = _seen(matrix, sums, flat)
    parts = variance[..., None], matrix.data, entries, between, 1, sums, means
    return _of_levels(matrix.shape[0], *parts)._without_zeros()


def _of_levels(n, covariances, loadings, entries, between, k, sums, means):
    """Effects alone, of k coefficients for each level."""
    nothing = pt.constant(np.empty(0, covariances.dtype))
    related = np.stack([between.pattern.indices, between.pattern.columns])
    own = between.unit * loadings, entries, between.pattern.values, related
    pattern, shape = np.empty((2, 0), np.int64), np.array([[k], [between.size // k]])
    return Terms(n, 0, covariances, nothing, *own, pattern, shape, sums, means)


def of_fields(matrix, values, indptr, indices, sums=None, flat=False):
    """A field with nodes in the columns of a sparse matrix by rows, and its precision.

    ``sums`` are as of :class:`Terms`; a node that is a component by itself is zero, and not seen.
    ``flat`` says whether their means have a flat prior instead, each in units of a vector of length
    one.
    """
    (n, nodes), (entries, sums, means) = matrix.shape, _seen(matrix, sums, flat)
    precision = np.stack([indices, np.repeat(np.arange(nodes), np.diff(indptr))]).astype(np.int64)
    none = np.empty((2, 0), np.int64)
    nothing = pt.constant(np.empty(0, values.dtype))
    own = matrix.data, entries, np.empty(0), none, precision, none, sums, means
    return Terms(n, nodes, nothing, values, *own)._without_zeros()


def _seen(matrix, sums, flat):
    """Rows and columns of the entries, components of the nodes, and how flat means are seen."""
    n, nodes = matrix.shape
    entries = np.stack([np.repeat(np.arange(n), np.diff(matrix.indptr)), matrix.indices])
    sums, means = np.full(nodes, -1) if sums is None else sums, np.empty((n, 0))
    if flat:
        unit = np.sqrt(1 / np.bincount(sums))[sums]
        means = (matrix @ sp.csr_array((unit, (np.arange(nodes), sums)))).toarray()
    return entries.astype(np.int64), sums, means


def _joined(left, right):
    """Vectors one after the other, (..., a), (..., b) -> (..., a + b)."""
    if left.type.ndim > 1 or right.type.ndim > 1:
        shapes = [tuple(x.shape)[:-1] for x in (left, right)]
        batch = pt.broadcast_shape(*shapes, arrays_are_shapes=True)
        left, right = (pt.broadcast_to(x, (*batch, x.shape[-1])) for x in (left, right))
    return assemble([left, right])
