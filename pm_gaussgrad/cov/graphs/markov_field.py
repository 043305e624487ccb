r"""``MarkovField``: a covariance Q^-1 with its pattern known, and what follows from that.

Gaps, conditional distributions and one step ahead. Base of ``SparsePrecision`` and of the areal
models, which differ in how they make the values.

One step ahead: with the last observation eliminated first, S'r are the innovations.

Source: Rue and Held (2005), Gaussian Markov Random Fields, sections 2.2 to 2.4.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.graphs.pattern import index_data
from pm_gaussgrad.cov.graphs.sparse_marginal import MissingNodes, SparseMarginal
from pm_gaussgrad.cov.graphs.sparse_matrix import SparseInverse
from pm_gaussgrad.cov.protocol.constants import check_finite, check_within


class MarkovField(SparseInverse):
    """A Gaussian Markov random field; see :class:`~pm_gaussgrad.cov.SparsePrecision`."""

    label = "gg.cov.SparsePrecision"

    def _set(self, values, triangle):
        check_finite(self.label, "values", values)
        if isinstance(values, Constant):
            diagonal = pt.constant(values.data[..., triangle.indptr[:-1]])
            remedy = ", as of every precision; its sign may be wrong"
            check_within(self.label, "the diagonal of Q", diagonal, 0, remedy=remedy)
        self.parameters = (values, *index_data(triangle.indptr, triangle.indices))

    def precision_entries(self):
        """Q by its lower triangle: values (..., q), and the constant indptr and indices of it.

        Returns
        -------
        values : TensorVariable, shape (..., q)
        indptr : array of int64, shape (n + 1)
        indices : array of int64, shape (q)
            By columns, rows ascending, the diagonal present.
        """
        return self.parameters[0], *self.pattern("precision_entries()")

    def innovations(self, residual):
        indptr, indices = self.pattern("innovations()")
        backwards = np.arange(indptr.size - 2, -1, -1)
        index = index_data(indptr, indices, order=backwards)
        ahead = SparseInverse.from_parameters(self.parameters[0], *index)
        white = ahead.whiten(residual)
        return white, pt.zeros_like(white) + ahead.log_scales()

    def keep(self, observed):
        if not self.has_constant_pattern():
            return None
        return SparseMarginal.of(self, *self.pattern("keep()"), observed)

    def conditional(self, missing):
        if not self.has_constant_pattern():
            return None
        return MissingNodes(self, *self.pattern("conditional()"), missing)
