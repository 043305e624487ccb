"""The precision of differences between neighbours, R = D - W, which does not see their means.

On each component of the graph R is singular in one direction, the constants. With its root, an area
with the most neighbours, *pinned*, R_k = R + k e e', k the sum of its weights, it is definite, and

    log|R|* = sum over components of (log|R_k| - log k + log n_c),    R^+ = C R_k^-1 C,

|.|* the product of the eigenvalues that are not zero, C taking out means (the matrix-tree theorem).
An area without neighbours is a component by itself, where R is zero and R_k one.

Sources: Rue and Held (2005), Gaussian Markov Random Fields, section 3.3; Freni-Sterrantino,
Ventrucci and Rue (2018), A note on intrinsic conditional autoregressive models for disconnected
graphs.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytensor.tensor as pt
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from pm_gaussgrad.cov.graphs.latents import without_means
from pm_gaussgrad.cov.graphs.pattern import index_data, lower_triangle
from pm_gaussgrad.cov.graphs.sparse_matrix import SparseInverse
from pm_gaussgrad.cov.protocol.constants import constant_value


@dataclass(frozen=True, eq=False)
class Differences:
    """R of a map, pinned.

    Attributes
    ----------
    weights : sparse array, shape (n, n)
    component : array of int, shape (n)
        0, 1, ...
    """

    weights: sp.csc_array
    component: np.ndarray

    @classmethod
    def of(cls, weights):
        """Of symmetric weights of neighbours."""
        _, component = connected_components(weights, directed=False)
        return cls(weights, component.astype(np.int64))

    @cached_property
    def sizes(self):
        """Areas of each component."""
        return np.bincount(self.component)

    @cached_property
    def alone(self):
        """Which areas have no neighbours, (n)."""
        return self.sizes[self.component] == 1

    @cached_property
    def _pins(self):
        """Where the root of each component is, and k."""
        degrees = np.asarray(self.weights.sum(axis=1)).ravel()
        order = np.lexsort((-degrees, self.component))
        first = np.searchsorted(self.component[order], np.arange(self.sizes.size))
        roots = order[first]
        return roots, np.where(self.sizes == 1, 1.0, degrees[roots]), degrees

    @cached_property
    def pinned(self):
        """The lower triangle of R_k."""
        roots, pins, diagonal = self._pins
        diagonal = diagonal.copy()
        diagonal[roots] += pins
        return lower_triangle("R", "W", sp.diags_array(diagonal, format="csc") - self.weights)

    @cached_property
    def index(self):
        """The constants of R_k as a sparse structure."""
        return index_data(self.pinned.indptr, self.pinned.indices)

    @cached_property
    def log_determinant_of_pinned(self) -> float:
        """log|R_k|."""
        field = SparseInverse.from_parameters(pt.constant(self.pinned.values), *self.index)
        return -float(constant_value(field.logdet()))

    @property
    def log_determinant(self) -> float:
        """log|R|*."""
        _, pins, _ = self._pins
        return float(np.log(self.sizes / pins).sum()) + self.log_determinant_of_pinned

    def variances(self):
        """The diagonal of R^+, (n)."""
        field = SparseInverse.from_parameters(pt.constant(self.pinned.values), *self.index)
        return constant_value(variances_without_means(field, pt.constant(self.component)))

    def scaled(self):
        """With weights such that the geometric mean of the variances of each component is one."""
        if self.alone.all():
            return self
        logs = np.zeros(self.alone.size)
        logs[~self.alone] = np.log(self.variances()[~self.alone])
        means = np.exp(np.bincount(self.component, logs) / self.sizes)
        factors = sp.diags_array(means[self.component], format="csc")
        return replace(self, weights=sp.csc_array(factors @ self.weights))


def variances_without_means(field, component):
    """diag(C Q^-1 C) of a field, whose components are not connected, (..., n)."""
    sizes = pt.zeros(component.shape[0])[component].inc(1.0)[component]
    means = field.times(1 / pt.sqrt(sizes).astype(field.dtype)) / pt.sqrt(sizes)
    of_means = means - without_means(means, component)
    return field.diagonal() - 2 * means + of_means
