r"""A sparse symmetric matrix Q on a constant pattern, as a covariance and as a precision.

Definition: Sigma = Q, or Sigma = Q^-1. Storage: the q entries of the lower triangle of Q, and the
analysis of the pattern (:mod:`pm_gaussgrad.kernels.sparse`). Value: one sparse Cholesky factor,
P Q P' = L L'. Gradient: the entries of Q^-1 on the pattern. With the covariance Q^-1

    quad_i = r_i' Q r_i,   logdet = -log|Q|,   alpha = R Q,
    values_bar = (sum_i q_bar_i r_i r_i' - l_bar Q^-1) on the pattern,

with the covariance Q

    quad_i = |L^-1 P r_i|^2,   logdet = log|Q|,   alpha = R Q^-1,
    values_bar = (l_bar Q^-1 - sum_i q_bar_i alpha_i alpha_i') on the pattern,

where an entry below the diagonal stands for two, and counts twice. Each is what the other needs
for its products, so that ``times`` of one is ``solve`` of the other. The root S = P'L P, S S' = Q,
is with its rows and columns in the order of the nodes; S'^-1 is that of Q^-1.

Fisher information: with W_a = S^-1 dQ_a S'^-1 it is 1/2 tr(W_a W_b) of both, column by column.

Sources: Rue and Held (2005), Gaussian Markov Random Fields, sections 2.1 and 2.4; Erisman and
Tinney (1975), On computing certain elements of the inverse of a sparse matrix; Giles (2008),
Collected matrix derivative results, sections 2.2 and 2.3.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.products import unit_rows
from pm_gaussgrad.cov.protocol.scales import finite_dense, inverse_scale, product
from pm_gaussgrad.kernels import sparse_matrix as kernels
from pm_gaussgrad.ops import information_by_kernel, transform_rows


class SparseMatrix(Leaf):
    """What both have in common.

    Parameters
    ----------
    values : tensor, shape (q)
        The lower triangle of Q by columns, rows ascending, the diagonal first.
    column_starts : tensor of int, shape (n)
        Constant: where columns begin, and so where the diagonal is.
    row_indices : tensor of int, shape (q)
        Constant: the row of each entry.
    analysis : tensor of int, shape (a)
        Constant: see :mod:`pm_gaussgrad.kernels.sparse.layout`.
    height : tensor of int, shape (h)
        Constant, of which the length matters: how high columns of the factor are on average.
    """

    label = "gg.cov.SparsePrecision"
    how = "sparse Cholesky factorisation, entries of its inverse on the pattern"
    parameter_shapes = {
        "values": "q",
        "column_starts": "n",
        "row_indices": "q",
        "analysis": "a",
        "height": "h",
    }
    constant_parameters = frozenset(parameter_shapes) - {"values"}
    named_in_errors = ("values",)
    saved_shapes = {"factor": "n h"}
    submatrices_up_to = 0
    information_kernel = staticmethod(kernels.information)

    def has_constant_pattern(self):
        """Whether the pattern is known, as it is where a constructor has made the structure."""
        return all(isinstance(x, Constant) for x in self.parameters[1:3])

    def pattern(self, member):
        """Where columns begin and the rows of the entries, as arrays; ``member`` needs them."""
        if not self.has_constant_pattern():
            raise NotImplementedError(
                f"{self.label}: {member} needs a constant pattern, and this one is symbolic."
            )
        _, column_starts, row_indices, *_ = self.parameters
        return np.append(column_starts.data, row_indices.data.size), row_indices.data

    def _of_diagonal(self):
        """The diagonal of Q, (..., n)."""
        return self.parameters[0][..., self.parameters[1]]

    def _of_nodes(self, transform):
        """A row transform that ignores its rows, (..., n)."""
        return transform_rows(self, transform, pt.zeros_like(self._of_diagonal()))

    def _matrix(self):
        """Q, (..., n, n)."""
        values, column_starts, row_indices, *_ = self.parameters
        entries = pt.cumsum(pt.ones_like(row_indices)) - 1
        columns = pt.searchsorted(column_starts, entries, side="right") - 1
        n = column_starts.shape[0]
        matrix = pt.zeros((*tuple(values.shape)[:-1], n, n), dtype=values.dtype)
        lower = matrix[..., row_indices, columns].set(values)
        return lower + lower.mT * (1 - pt.eye(n, dtype=values.dtype))

    def rows(self, positions):
        return self.times(unit_rows(positions, self.size, self.dtype))

    def information(self, tangents):
        # d log|Q^-1| turns a sign, which the square of W forgets.
        return information_by_kernel(self, tangents[0])


class SparseInverse(SparseMatrix):
    """The covariance Q^-1."""

    forward = staticmethod(kernels.precision_forward)
    pullback = staticmethod(kernels.precision_pullback)
    row_transforms = {"color": "n", "whiten": "n", "variances": "n", "log_precisions": "n"}
    color_kernel = staticmethod(kernels.inverse_root_transposed)
    whiten_kernel = staticmethod(kernels.root_transposed)
    variances_kernel = staticmethod(kernels.diagonal_of_inverse)
    log_precisions_kernel = staticmethod(kernels.log_roots)

    def to_dense(self):
        return pt.linalg.inv(self._matrix())

    def log_scales(self):
        """The logarithms of the standard deviations of nodes given those eliminated after them."""
        return -self._of_nodes("log_precisions")

    def times(self, rows):
        return SparseCovariance.from_parameters(*self.parameters).solve(rows)

    def diagonal(self):
        return self._of_nodes("variances")

    def inverse_diagonal(self):
        return self._of_diagonal()

    def scaled(self, factor):
        values, *index = self.parameters
        return self.from_parameters(product(inverse_scale(factor)[..., None], values), *index)


# Ones in the place of what is not finite need not have an inverse.
finite_dense.register(SparseInverse, SparseInverse.to_dense)


class SparseCovariance(SparseMatrix):
    """The covariance Q."""

    forward = staticmethod(kernels.covariance_forward)
    pullback = staticmethod(kernels.covariance_pullback)
    row_transforms = {"color": "n", "whiten": "n", "precisions": "n"}
    color_kernel = staticmethod(kernels.root)
    whiten_kernel = staticmethod(kernels.inverse_root)
    precisions_kernel = staticmethod(kernels.diagonal_of_inverse)

    def to_dense(self):
        return self._matrix()

    def times(self, rows):
        return SparseInverse.from_parameters(*self.parameters).solve(rows)

    def diagonal(self):
        return self._of_diagonal()

    def inverse_diagonal(self):
        return self._of_nodes("precisions")

    def scaled(self, factor):
        values, *index = self.parameters
        return self.from_parameters(product(factor[..., None], values), *index)
