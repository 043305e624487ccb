r"""Graph rewrites: sufficient statistics of many rows, constant covariances.

**Many rows.** Let Y (m, n) be constant and the mean mu common to its rows. With the column
means ybar and the scatter S = (Y - ybar)'(Y - ybar) = C' C,

    sum_i (y_i - mu)' Sigma^-1 (y_i - mu) = tr(Sigma^-1 S) + m (ybar - mu)' Sigma^-1 (ybar - mu)
                                          = sum_j c_j' Sigma^-1 c_j + |sqrt(m) (ybar - mu)|^2_Sigma^-1

so the m rows are replaced by the rows c_j of the triangular factor C of Y - ybar (QR, computed
once, when the graph is rewritten; at most n of them) and one more. The rewrite acts on the
sum of a log density, in the canonicalisation that PyMC runs before it takes gradients; the
log densities of single rows are untouched. (Anderson, 2003, An Introduction to Multivariate
Statistical Analysis, section 3.2.)

**Constant covariances.** A constant matrix is replaced by its constant Cholesky factor
(``Dense``) or by itself and its constant log determinant (``Precision``): O(n^2) an evaluation.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.rewriting import inline_ofg_node
from pytensor.graph.basic import Constant
from pytensor.graph.rewriting.basic import copy_stack_trace, node_rewriter
from pytensor.tensor.basic import Alloc, get_underlying_scalar_constant_value
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.math import Sum
from pytensor.tensor.rewriting.basic import (
    register_canonicalize,
    register_specialize,
    register_stabilize,
)

from pm_gaussgrad.cov.base import gaussian_log_density
from pm_gaussgrad.density import GaussianLogDensity


def _common_row(mu):
    """The mean (n,) that all rows share, or None where rows may differ."""
    if mu.type.ndim <= 1:
        return mu
    if all(mu.type.broadcastable[:-1]):
        return mu.squeeze(axis=tuple(range(mu.type.ndim - 1)))
    if mu.owner and isinstance(mu.owner.op, Alloc) and mu.owner.inputs[0].type.ndim <= 1:
        value = mu.owner.inputs[0]
        return value if value.type.ndim == 1 else None
    return None
