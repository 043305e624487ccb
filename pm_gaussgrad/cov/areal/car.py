r"""``CAR``: the proper conditional autoregression.

Definition: Sigma = Q^-1, Q = tau (D - alpha W), W symmetric with weights of neighbours, D diagonal,
the sums of the rows of W by default. Storage, cost and pullback are those of a Markov field,
:mod:`pm_gaussgrad.cov.graphs.sparse_matrix`.

Sources: Besag (1974), Spatial interaction and the statistical analysis of lattice systems, section
5; Gelfand and Vounatsou (2003), Proper multivariate conditional autoregressive models.
"""

import numpy as np
import scipy.sparse as sp

from pm_gaussgrad.cov.areal.known_spectrum import (
    ArealField,
    log_of_products,
    symmetric_eigenvalues,
)
from pm_gaussgrad.cov.areal.neighbours import as_neighbours, check_connected
from pm_gaussgrad.cov.areal.scalars import as_scalar, check_scale
from pm_gaussgrad.cov.graphs.terms import sum_of_terms
from pm_gaussgrad.cov.protocol.arguments import as_constant

NAME = "gg.cov.CAR"


class CAR(ArealField):
    r"""A conditional autoregression, :math:`\Sigma^{-1} = \tau (D - \alpha W)`.

    Given its neighbours an area has the mean :math:`\alpha \sum_j w_{ij} y_j / d_i` and the
    precision :math:`\tau d_i`.

    Parameters
    ----------
    W : scipy.sparse matrix, array_like or graph, shape (n, n), in units of 1
        Constant: weights of neighbours, symmetric, 0 on the diagonal; of a map without weights 1.
        Sparse in any format, dense, a graph of libpysal (its ``sparse``), or with ``n`` pairs of
        neighbours, (e, 2).
    alpha : tensor_like, shape () or (...), in units of 1
        Spatial dependence :math:`\alpha`, between the reciprocals of the smallest and the largest
        eigenvalue of :math:`D^{-1/2} W D^{-1/2}`; with the default of D, from below -1 to 1.
    tau : tensor_like, shape () or (...), in units of [y]^-2, optional
        Precision :math:`\tau` of an area given its neighbours, in units of :math:`d_i`.
    D : array_like, shape (n), in units of 1, optional
        Constant: the diagonal of D, positive. By default the sums of the rows of W; ones give
        :math:`\tau (I - \alpha W)`.
    n : int, optional
        The number of areas, of pairs of neighbours.

    Raises
    ------
    TypeError
        If an argument is not real, or ``W`` or ``D`` is symbolic.
    ValueError
        If ``W`` is not symmetric, has weights that are negative, not finite or on its diagonal; if
        an area has no neighbours and ``D`` is not given; if ``D`` is not positive or of another
        length; if a constant tau is negative; and, where a density is built, if constants are not
        in the domain.

    Notes
    -----
    Cost: that of :class:`~pm_gaussgrad.cov.SparsePrecision`, which has the pullback by the values
    of Q; :math:`\bar\tau = \langle D - \alpha W, \bar Q\rangle` and
    :math:`\bar\alpha = -\tau \langle W, \bar Q\rangle`. Up to 1000 areas that of the products with
    Q alone: its determinant is that of the eigenvalues of :math:`D^{-1/2} W D^{-1/2}`, which are
    found once. Outside of the domain of :math:`\alpha`, and at its ends, Q is not positive
    definite, and the log density -inf.

    The parameters are those of ``pm.CAR``, which has the same density.

    References
    ----------
    Besag, J. (1974). Spatial interaction and the statistical analysis of lattice systems. Journal
    of the Royal Statistical Society B 36, 192-236, section 5.

    Gelfand, A. E. and Vounatsou, P. (2003). Proper multivariate conditional autoregressive models
    for spatial data analysis. Biostatistics 4, 11-25.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> cov = gg.cov.CAR([[0, 1], [1, 2]], alpha=0.5, tau=2.0, n=3)
    >>> cov.inverse_diagonal().eval()
    array([2., 4., 2.])
    """

    def __init__(self, W, alpha, tau=1.0, D=None, n=None):
        weights = as_neighbours(NAME, W, n)
        alpha, tau = as_scalar(NAME, "alpha", alpha), as_scalar(NAME, "tau", tau)
        check_scale(NAME, "tau", tau)
        if D is None:
            remedy = "leave them out, or pass their precisions in units of tau by D="
            check_connected(NAME, weights, remedy)
            D = np.asarray(weights.sum(axis=1)).ravel()
        diagonal = _as_diagonal(D, weights.shape[0])
        pattern, values = sum_of_terms([(tau, sp.diags_array(diagonal)), (-tau * alpha, weights)])
        self._set(values, pattern, _log_determinant(weights, diagonal, alpha, tau))


def _log_determinant(weights, diagonal, alpha, tau):
    """log|Q|; None where eigenvalues are dear."""
    unit = sp.diags_array(diagonal**-0.5)
    eigenvalues = symmetric_eigenvalues(unit @ weights @ unit)
    if eigenvalues is None:
        return None
    factors = tau[..., None] * (1 - alpha[..., None] * eigenvalues.astype(alpha.dtype))
    return np.log(diagonal).sum().astype(alpha.dtype) + log_of_products(factors)


def _as_diagonal(D, n):
    diagonal = as_constant(NAME, "D", D)
    if diagonal.shape != (n,):
        raise ValueError(
            f"{NAME}: `D` has shape {diagonal.shape}, expected ({n},): the diagonal, a number for "
            "each area."
        )
    if not (np.isfinite(diagonal).all() and (diagonal > 0).all()):
        raise ValueError(f"{NAME}: `D` has entries that are no positive numbers, expected these.")
    return diagonal
