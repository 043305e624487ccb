"""What sparse latents consist of: effects and fields, side by side, and the constants of both."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytensor.tensor as pt
import scipy.sparse as sp
from pytensor.graph.basic import Constant
from pytensor.scalar import upcast
from pytensor.tensor.variable import TensorVariable

from pm_gaussgrad.kernels.sparse.arrangement import TERM_SIZE, TERM_START, arrange
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
    precision : array of int, shape (2, q)
        Rows and columns of the values, as numbers of coefficients.
    levels : array of int, shape (2, t)
        Of each term of effects: coefficients of a level, and levels.
    sums : array of int, shape (nodes)
        The component over which a node sums to zero with others, 0, 1, ...; -1 where it does not.
    flat : array, shape (size, f)
        How observations see means of components that have a flat prior besides.
    """

    size: int
    nodes: int
    covariances: TensorVariable
    values: TensorVariable
    loadings: np.ndarray
    entries: np.ndarray
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
        return Terms(
            self.size,
            self.nodes + other.nodes,
            _joined(self.covariances, other.covariances),
            _joined(self.values, other.values),
            np.concatenate([self.loadings, other.loadings])[order],
            entries[:, order],
            np.concatenate([self.precision + right, other.precision + left + self.nodes], axis=1),
            np.concatenate([self.levels, other.levels], axis=1),
            np.append(self.sums, np.where(other.sums < 0, -1, other.sums + self.components)),
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
            self.size, self.entries, self.precision, self.levels, self.nodes, compiled_function
        )
        p = self.effects + self.nodes
        constants = [
            self.loadings.astype(self.dtype),
            self.entries,
            self.precision,
            self._blocks(),
            np.append(np.full(self.effects, -1), self.sums),
            index,
            # Without entries: what they say are their lengths.
            np.empty((self.size, p, 0), np.int64),
            np.empty((*fill, 0), np.int64),
        ]
        return (
            self.covariances,
            self.values,
            *(pt.constant(np.ascontiguousarray(x)) for x in constants),
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
        covariances, values, loadings, entries, precision, _, centred, index, extent, _ = tensors
        constants = (loadings, entries, precision, centred, index, extent)
        if not all(isinstance(x, Constant) for x in constants) or loadings.type.ndim > 1:
            return None
        loadings, entries, precision, centred, index, extent = (x.data for x in constants)
        size, start = section(index, TERM_SIZE), section(index, TERM_START)
        levels = np.stack([size, np.diff(start) // np.maximum(size, 1)])
        n, p, _ = extent.shape
        constants = loadings, entries, precision, levels, centred[start[-1] :], np.empty((n, 0))
        return cls(n, int(p - start[-1]), covariances, values, *constants)


def of_effects(size, covariance, levels, count, design):
    """Random effects: G (..., k, k), the level (n) of each observation, and the design (n, k)."""
    n, k = design.shape
    entries = np.stack([np.repeat(np.arange(n), k), (levels[:, None] * k + np.arange(k)).ravel()])
    flat = covariance.reshape((*covariance.shape[:-2], k * k))
    nothing = pt.constant(np.empty(0, covariance.dtype))
    pattern, shape = np.empty((2, 0), np.int64), np.array([[k], [count]])
    sums, means = np.empty(0, np.int64), np.empty((size, 0))
    return Terms(n, 0, flat, nothing, design.ravel(), entries, pattern, shape, sums, means)


def of_fields(matrix, values, indptr, indices, sums=None, flat=False):
    """A field with nodes in the columns of a sparse matrix by rows, and its precision.

    ``sums`` are as of :class:`Terms`; a node that is a component by itself is zero, and not seen.
    ``flat`` says whether their means have a flat prior instead, each in units of a vector of length
    one.
    """
    n, nodes = matrix.shape
    entries = np.stack([np.repeat(np.arange(n), np.diff(matrix.indptr)), matrix.indices])
    precision = np.stack([indices, np.repeat(np.arange(nodes), np.diff(indptr))])
    none = np.empty((2, 0), np.int64)
    nothing = pt.constant(np.empty(0, values.dtype))
    own = (x.astype(np.int64) for x in (entries, precision))
    sums, means = np.full(nodes, -1) if sums is None else sums, np.empty((n, 0))
    if flat:
        unit = np.sqrt(1 / np.bincount(sums))[sums]
        means = (matrix @ sp.csr_array((unit, (np.arange(nodes), sums)))).toarray()
    return Terms(n, nodes, nothing, values, matrix.data, *own, none, sums, means)._without_zeros()


def _joined(left, right):
    """Vectors one after the other, (..., a), (..., b) -> (..., a + b)."""
    if left.type.ndim > 1 or right.type.ndim > 1:
        shapes = [tuple(x.shape)[:-1] for x in (left, right)]
        batch = pt.broadcast_shape(*shapes, arrays_are_shapes=True)
        left, right = (pt.broadcast_to(x, (*batch, x.shape[-1])) for x in (left, right))
    return assemble([left, right])
