r"""``ArealField``: a Markov field on a map whose log determinant may have a closed form.

Definition: Sigma = Q^-1. Where Q = theta_1 M_1 + theta_2 M_2 with constant matrices, M_1 definite,
and lambda the eigenvalues of M_1^-1 M_2,

    log|Q| = log|M_1| + sum_i log(theta_1 + theta_2 lambda_i),

and |I - rho W| is the product of the 1 - rho lambda_i likewise. On maps of up to a thousand areas
the eigenvalues are found once. Then log|Q| is an expression of the parameters and one itself,
beside the values of Q: value and gradient take no factor, and no inverse. On larger maps a sparse
factor takes less than the eigenvalues would, as of every Markov field.

Source: Ord (1975), Estimation methods for models of spatial interaction.
"""

import numpy as np
import pytensor.tensor as pt
from scipy.linalg import eigvalsh
from scipy.sparse.csgraph import breadth_first_order, connected_components

from pm_gaussgrad.cov.graphs.markov_field import MarkovField
from pm_gaussgrad.cov.graphs.sparse_matrix import SparseInverse
from pm_gaussgrad.cov.protocol.scales import inverse_scale
from pm_gaussgrad.kernels import sparse_matrix as kernels

# Areas of which eigenvalues are found: some tenths of a second, a few hundred factors.
MOST = 1000
# Differences of logarithms of weights that are rounding.
_ROUNDING = 1e-9


class ArealField(MarkovField):
    """A Markov field with a closed form of log|Q|, or without.

    Parameters are those of :class:`~pm_gaussgrad.cov.SparsePrecision` and, in the last place,
    log|Q|, (1), or nothing, (0).
    """

    parameter_shapes = {**SparseInverse.parameter_shapes, "log_precision": "k"}
    forward = staticmethod(kernels.known_forward)
    pullback = staticmethod(kernels.known_pullback)

    def _set(self, values, triangle, log_precision=None):
        super()._set(values, triangle)
        nothing = pt.constant(np.empty(0, values.dtype))
        last = nothing if log_precision is None else log_precision[..., None].astype(values.dtype)
        self.parameters = (*self.parameters, last)

    @property
    def _field(self):
        """The same by a factor."""
        return MarkovField.from_parameters(*self.parameters[:-1])

    def dense_quad_logdet(self, residual):
        """quad (m) and log|Sigma| as functions of the parameters, each of its own."""
        quad = (residual @ self._matrix() * residual).sum(axis=-1)
        known = self.parameters[-1]
        if known.type.shape[-1] == 1:
            return quad, -known[0]
        factor = pt.linalg.cholesky(self._matrix(), lower=True)
        by_factor = -2 * pt.log(pt.diagonal(factor)).sum()
        return quad, pt.switch(pt.gt(known.shape[-1], 0), -known.sum(), by_factor)

    def times(self, rows):
        return self._field.times(rows)

    def keep(self, observed):
        return self._field.keep(observed)

    def information(self, tangents):
        return self._field.information(tangents[:-1])

    def scaled(self, factor):
        values, *index, known = self.parameters
        known = known - (self.size * pt.log(factor))[..., None]
        return self.from_parameters(values * inverse_scale(factor)[..., None], *index, known)


def symmetric_eigenvalues(matrix):
    """Of a sparse symmetric matrix, (n); None of a large one."""
    return None if matrix.shape[0] > MOST else eigvalsh(matrix.toarray())


def eigenvalues_of_weights(weights):
    """Of neighbours' weights that are symmetric but for scales of the rows, (n); else None.

    With W = C S C^-1, C diagonal and S symmetric, S_ij^2 = W_ij W_ji, and log c_i - log c_j is half
    the logarithm of W_ij / W_ji, along a tree and then everywhere.
    """
    n = weights.shape[0]
    if n > MOST:
        return None
    matrix = weights.toarray()
    row, column = np.nonzero(matrix)
    if (matrix[column, row] == 0).any():
        return None
    scale = _scales(weights, matrix)
    differences = np.log(matrix[row, column] / matrix[column, row]) / 2
    if np.abs(scale[row] - scale[column] - differences).max(initial=0) > _ROUNDING:
        return None
    return eigvalsh(np.sqrt(matrix * matrix.T))


def _scales(weights, matrix):
    """log c of each area, by steps along a tree of each component."""
    scale = np.zeros(len(matrix))
    _, component = connected_components(weights, directed=False)
    for root in np.unique(component, return_index=True)[1]:
        order, before = breadth_first_order(weights, root, directed=False)
        for i in order[1:]:
            j = before[i]
            scale[i] = scale[j] + np.log(matrix[i, j] / matrix[j, i]) / 2
    return scale


def log_of_products(factors):
    """The sum of the logarithms of positive factors (..., n); NaN where one is zero or negative.

    Zero up to the rounding of eigenvalues, in units of the largest.
    """
    rounding = float(np.finfo(factors.dtype).eps) * max(factors.type.shape[-1], 8)
    bound = rounding * pt.abs(factors).max(axis=-1, keepdims=True)
    positive = factors > bound
    return pt.switch(positive, pt.log(pt.switch(positive, factors, 1)), np.nan).sum(axis=-1)
