r"""Linear maps of independent normal variables, as sums of pieces.

A map takes the entries e of a base (m numbers) to an array of some shape S. Its pieces are

- ``Term``: :math:`y_s = w_s\, p\, a_s\, e_{I(s)}`, with constant I and w, a product p of scalar
  parameters, and an array a of parameters or none: what indexing, reshaping, stacking and
  scaling come to;
- ``Matrix``: :math:`y_s = p \sum_j J_{js} e_j`, any map, by its Jacobian.

Both forms are closed under linear operations; a sum of a few terms is written out.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.protocol.base import Covariance

# Larger matrices are not made of terms.
LARGEST = 40_000_000


@dataclass(frozen=True, eq=False)
class Base:
    """Normal variables of mean zero, of which others are linear functions.

    Attributes
    ----------
    leaf : TensorVariable
        Shape (*batch, k).
    owner : str
        The variable of the model that they are of.
    cov : Covariance, or None
        Of size k, that of each row; None where all entries are independent with variance 1.
    root : TensorVariable, shape (k, k), or None
        R with R R' = cov, where the model has one.
    flat : bool
        Whether the prior is flat, and there is no covariance.
    """

    leaf: pt.TensorVariable
    owner: str
    cov: Covariance | None = None
    root: pt.TensorVariable | None = None
    flat: bool = False

    def factor(self):
        """R with R R' = cov, shape (k, k)."""
        return pt.linalg.cholesky(self.cov.to_dense()) if self.root is None else self.root

    @property
    def shape(self):
        return self.leaf.type.shape

    @property
    def size(self):
        return int(np.prod(self.shape, dtype=int))


class NonLinearError(Exception):
    """An expression is not linear in what these variables are.

    Attributes
    ----------
    owners : frozenset of str
    reason : str
    factors : frozenset of str
        What they are multiplied by, where that is all.
    """

    def __init__(self, owners, reason, factors=()):
        self.owners, self.reason = frozenset(owners), reason
        self.factors = frozenset(factors)
        super().__init__(reason)


class TooLargeError(Exception):
    """A matrix that has no structure would be too large to be formed.

    Attributes
    ----------
    owner : str
        The variable that it is of.
    """

    def __init__(self, owner):
        self.owner = owner
        super().__init__(owner)


@dataclass(frozen=True, eq=False)
class Term:
    """One entry of the base for each entry of the result."""

    base: Base
    index: np.ndarray
    weight: np.ndarray
    scalars: tuple = ()
    array: pt.TensorVariable | None = None

    @property
    def shape(self):
        return self.index.shape

    def broadcast(self, shape):
        array = None if self.array is None else pt.broadcast_to(self.array, shape)
        index, weight = (np.broadcast_to(x, shape) for x in (self.index, self.weight))
        return replace(self, index=index, weight=weight, array=array)

    def times_known(self, value):
        return replace(self, weight=self.weight * value)

    def times_scalar(self, scalar):
        return replace(self, scalars=(*self.scalars, scalar))

    def times_array(self, array):
        return replace(self, array=array if self.array is None else self.array * array)

    def to_matrix(self, axes=()):
        """Its Jacobian, summed over axes of the result."""
        kept = [i for i in range(self.index.ndim) if i not in axes]
        shape = (self.base.size, *(self.shape[i] for i in kept))
        if np.prod(shape, dtype=float) > LARGEST:
            raise TooLargeError(self.base.owner)
        grid = np.indices(self.shape, sparse=True)
        places = tuple(
            np.broadcast_to(x, self.shape) for x in (self.index, *(grid[i] for i in kept))
        )
        if self.array is None:
            jacobian = np.zeros(shape)
            np.add.at(jacobian, places, self.weight)
            return Matrix(self.base, pt.constant(jacobian), self.scalars)
        places = tuple(np.ravel(x) for x in places)
        values = (self.array * self.weight).ravel()
        return Matrix(self.base, pt.zeros(shape)[places].inc(values), self.scalars)

    def with_jacobian(self, jacobian):
        """A map of the same base and scalars."""
        return Matrix(self.base, jacobian, self.scalars)

    @property
    def is_identity(self):
        """Whether it is the base itself, or a scalar multiple of it."""
        entries = np.arange(self.base.size)
        same = self.index.size == self.base.size and (self.index.ravel() == entries).all()
        return same and self.array is None and bool((self.weight == self.weight.flat[0]).all())


@dataclass(frozen=True, eq=False)
class Matrix:
    """A linear map by its Jacobian, the entries of the base ahead: shape (m, *S)."""

    base: Base
    jacobian: pt.TensorVariable
    scalars: tuple = ()

    @property
    def shape(self):
        """That of the result; None where it is not known."""
        shape = self.jacobian.type.shape[1:]
        return None if None in shape else shape

    def broadcast(self, shape):
        jacobian, full = self.jacobian, (self.base.size, *shape)
        if jacobian.type.shape == full:
            return self
        ahead = tuple(range(1, 1 + len(full) - jacobian.type.ndim))
        if isinstance(jacobian, Constant):
            whole = np.broadcast_to(np.expand_dims(jacobian.data, ahead), full)
            return replace(self, jacobian=pt.constant(whole))
        return replace(self, jacobian=pt.broadcast_to(pt.expand_dims(jacobian, ahead), full))

    def times_known(self, value):
        return replace(self, jacobian=fold_product(self.jacobian, value))

    def times_scalar(self, scalar):
        return replace(self, scalars=(*self.scalars, scalar))

    def times_array(self, array):
        return replace(self, jacobian=self.jacobian * array)

    def to_matrix(self):
        return self


def fold_product(x, value):
    """A product with a known array, a constant where both are."""
    return pt.constant(x.data * value) if isinstance(x, Constant) else x * value


def product_of(scalars):
    """Of scalar parameters; 1.0 of none."""
    # A Python number would be a constant in single precision, if it can be.
    product = None
    for scalar in scalars:
        product = scalar if product is None else product * scalar
    return np.float64(1.0) if product is None else product


@dataclass(frozen=True, eq=False)
class Affine:
    """An expression as an offset, None for zero, and pieces of linear maps."""

    offset: pt.TensorVariable | None
    pieces: tuple = ()

    @property
    def owners(self):
        return frozenset(piece.base.owner for piece in self.pieces)
