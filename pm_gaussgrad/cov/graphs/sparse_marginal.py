r"""Some nodes of a Markov field: the observed entries of data with gaps.

Definition: Sigma_oo of Sigma = Q^-1. Its inverse Q_oo - Q_om Q_mm^-1 Q_mo, with the missing nodes m
taken out, is not sparse, and not formed. With the residual filled by its conditional means,
r_m = -Q_mm^-1 Q_mo r_o,

    quad = r'Q r,   logdet = log|Q_mm| - log|Q|,   alpha = (Q r)_o,

two sparse factors. r is the minimum of r'Q r over r_m, and held fixed in the derivative:

    values_bar = (sum_i q_bar_i r_i r_i' - l_bar (Q^-1 - Q_mm^-1)) on the pattern.

Fisher information: dSigma_oo = -(Q^-1 dQ Q^-1)_oo, so that with K = Q^-1 - Q_mm^-1, the inverse of
Q_mm among zeros, it is 1/2 tr(K dQ_a K dQ_b), column by column.

Roots: with the missing nodes eliminated first, the rows of the others in S' are those of a root of
their own precision.

The missing entries given the others have the precision Q_mm: their distribution is again a
``SparseInverse``.

Source: Rue and Held (2005), Gaussian Markov Random Fields, theorems 2.3 and 2.5.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.graphs.pattern import analysed, index_data, submatrix
from pm_gaussgrad.cov.graphs.sparse_matrix import SparseInverse
from pm_gaussgrad.cov.protocol.kriging import with_entries
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.marginal import Marginal
from pm_gaussgrad.cov.protocol.scales import finite_dense, inverse_scale, product
from pm_gaussgrad.kernels import sparse_marginal as kernels
from pm_gaussgrad.kernels.sparse.layout import ORDER, section
from pm_gaussgrad.ops import among_zeros, information_by_kernel, transform_rows


class SparseMarginal(Leaf):
    """The observed nodes of a ``SparsePrecision``; made by its ``keep``.

    Parameters
    ----------
    values, column_starts, row_indices, analysis, height
        Those of the whole, of N nodes.
    observed, missing : tensor of int, shape (n) and (k)
        Constant: positions in the whole, increasing.
    inner : tensor of int, shape (e)
        Constant: where the entries of Q_mm are in ``values``.
    inner_analysis, inner_height : tensor of int, shape (b) and (g)
        Constant: as of the whole, of Q_mm.
    """

    label = "gg.cov.SparsePrecision"
    how = "sparse Cholesky factors of the precision and of its missing part"
    parameter_shapes = {
        "values": "q",
        "column_starts": "N",
        "row_indices": "q",
        "analysis": "a",
        "height": "h",
        "observed": "n",
        "missing": "k",
        "inner": "e",
        "inner_analysis": "b",
        "inner_height": "g",
    }
    constant_parameters = frozenset(parameter_shapes) - {"values"}
    saved_shapes = {"filled": "m N", "factor": "N h", "inner_factor": "k g"}
    submatrices_up_to = 0
    forward = staticmethod(kernels.forward)
    pullback = staticmethod(kernels.pullback)
    row_transforms = {"precisions": "n"}
    precisions_kernel = staticmethod(kernels.precisions)
    information_kernel = staticmethod(kernels.information)

    @classmethod
    def of(cls, whole, indptr, indices, observed):
        """The observed nodes of a ``SparseInverse`` of this pattern."""
        missing = np.setdiff1d(np.arange(indptr.size - 1), observed, assume_unique=True)
        *pattern, inner = submatrix(indptr, indices, missing)
        data = observed, missing, inner, *analysed(*pattern)
        return cls.from_parameters(*whole.parameters, *map(pt.constant, data))

    @property
    def _whole(self):
        return SparseInverse.from_parameters(*self.parameters[:5])

    @property
    def _observed(self):
        return self.parameters[5]

    def _missing_first(self, backwards=False):
        """The whole with the missing eliminated first; then the observed, backwards or as before.

        The rows of the observed in S' have no entries elsewhere, and are a root of their own.
        None where an index is symbolic.
        """
        values, *index = self.parameters
        if not all(isinstance(x, Constant) for x in index):
            return None
        _, _, analysis, _, observed, missing, _, inner_analysis, _ = (x.data for x in index)
        order = section(analysis, ORDER)
        remaining = observed[::-1] if backwards else order[np.isin(order, observed)]
        order = np.concatenate([missing[section(inner_analysis, ORDER)], remaining])
        pattern = self._whole.pattern("whiten()")
        return SparseInverse.from_parameters(values, *index_data(*pattern, order))

    def _spread(self, rows):
        """Rows of observed entries among zeros: (..., n) -> (..., N)."""
        return among_zeros(pt.as_tensor_variable(rows), self._observed, self._whole.size)

    def _generic(self):
        """The same by solves with the whole, for each missing entry."""
        return Marginal.of(self._whole, *self.parameters[5:7])

    def to_dense(self):
        return self._generic().to_dense()

    def color(self, z):
        whole = self._missing_first()
        if whole is None:
            return self._generic().color(z)
        return whole.color(self._spread(z))[..., self._observed]

    def whiten(self, residual):
        whole = self._missing_first()
        if whole is None:
            return self._generic().whiten(residual)
        return whole.whiten(self._spread(residual))[..., self._observed]

    def innovations(self, residual):
        whole = self._missing_first(backwards=True)
        if whole is None:
            return super().innovations(residual)
        white = whole.whiten(self._spread(residual))[..., self._observed]
        return white, pt.zeros_like(white) + whole.log_scales()[..., self._observed]

    def noise_size(self, n):
        return self._whole.size

    def draw(self, z):
        return self._whole.color(z)[..., self._observed]

    def diagonal(self):
        return self._whole.diagonal()[..., self._observed]

    def inverse_diagonal(self):
        zeros = pt.zeros_like(self._whole.inverse_diagonal()[..., self._observed])
        return transform_rows(self, "precisions", zeros)

    def times(self, rows):
        return self._whole.times(self._spread(rows))[..., self._observed]

    def rows(self, positions):
        return self._whole.rows(self._observed[positions])[:, self._observed]

    def keep(self, observed):
        if not isinstance(self._observed, Constant) or not self._whole.has_constant_pattern():
            return None
        pattern = self._whole.pattern("keep()")
        return SparseMarginal.of(self._whole, *pattern, self._observed.data[observed])

    def scaled(self, factor):
        values, *index = self.parameters
        return self.from_parameters(product(inverse_scale(factor)[..., None], values), *index)

    def information(self, tangents):
        return information_by_kernel(self, tangents[0])


# Ones in the place of what is not finite need not have an inverse.
finite_dense.register(SparseMarginal, SparseMarginal.to_dense)


class MissingNodes:
    """Missing entries of a Markov field given the others, by their own precision.

    Takes the place of :class:`~pm_gaussgrad.cov.protocol.gaps.MissingEntries`.

    Parameters
    ----------
    whole : SparseInverse
    indptr, indices : array of int
        Its pattern.
    missing : array of int, shape (k)
        Increasing positions.
    """

    def __init__(self, whole, indptr, indices, missing):
        self.whole, self.missing = whole, pt.constant(missing)
        *pattern, inner = submatrix(indptr, indices, missing)
        values = whole.parameters[0][..., pt.constant(inner)]
        self.given_observed = SparseInverse.from_parameters(values, *index_data(*pattern))

    def _means(self, residual):
        given = self.whole.solve(residual[..., self.missing].set(0))
        return -self.given_observed.times(given[..., self.missing])

    def fill(self, residual):
        """Conditional means in place of the missing entries: (..., n) -> (..., n)."""
        residual = pt.as_tensor_variable(residual)
        return with_entries(residual, self.missing, self._means(residual))

    def draw(self, residual, z):
        """A conditional draw in place of the missing entries: (..., n) -> (..., n)."""
        residual, z = pt.as_tensor_variable(residual), pt.as_tensor_variable(z)
        white = self.given_observed.color(z[..., self.missing])
        return with_entries(residual, self.missing, self._means(residual) + white)

    def variances(self):
        """Conditional variances of the missing entries, zero elsewhere: shape (..., n)."""
        return among_zeros(self.given_observed.diagonal(), self.missing, self.whole.size)
