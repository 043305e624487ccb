r"""``Leroux``: a conditional autoregression between independence and an intrinsic one.

Definition: Sigma = Q^-1, Q = tau (rho (D - W) + (1 - rho) I), W symmetric with weights of
neighbours and D the sums of its rows. Storage, cost and pullback are those of a Markov field,
:mod:`pm_gaussgrad.cov.graphs.sparse_matrix`.

Source: Leroux, Lei and Breslow (2000), Estimation of disease rates in small areas, section 3.
"""

import numpy as np
import scipy.sparse as sp

from pm_gaussgrad.cov.areal.known_spectrum import (
    ArealField,
    log_of_products,
    symmetric_eigenvalues,
)
from pm_gaussgrad.cov.areal.neighbours import as_neighbours
from pm_gaussgrad.cov.areal.scalars import as_scalar, check_scale, check_share
from pm_gaussgrad.cov.graphs.terms import sum_of_terms

NAME = "gg.cov.Leroux"


class Leroux(ArealField):
    r"""A conditional autoregression, :math:`\Sigma^{-1} = \tau (\rho (D - W) + (1 - \rho) I)`.

    Given its neighbours an area has the mean
    :math:`\rho \sum_j w_{ij} y_j / (\rho d_i + 1 - \rho)` and the precision
    :math:`\tau (\rho d_i + 1 - \rho)`.

    Parameters
    ----------
    W : scipy.sparse matrix, array_like or graph, shape (n, n), in units of 1
        Constant: weights of neighbours, symmetric, 0 on the diagonal; of a map without weights 1.
        Sparse in any format, dense, a graph of libpysal (its ``sparse``), or with ``n`` pairs of
        neighbours, (e, 2).
    rho : tensor_like, shape () or (...), in units of 1
        Spatial dependence :math:`\rho`: independence at 0, an intrinsic autoregression at 1, where
        there is no density.
    tau : tensor_like, shape () or (...), in units of [y]^-2, optional
        Precision :math:`\tau`.
    n : int, optional
        The number of areas, of pairs of neighbours.

    Raises
    ------
    TypeError
        If an argument is not real, or ``W`` is symbolic.
    ValueError
        If ``W`` is not symmetric, has weights that are negative, not finite or on its diagonal; if
        a constant rho is not in 0 to 1 or a constant tau negative; and, where a density is built,
        if a constant rho is 1.

    Notes
    -----
    Cost: that of :class:`~pm_gaussgrad.cov.SparsePrecision`, which has the pullback by the values
    of Q; :math:`\bar\tau = \langle Q, \bar Q\rangle / \tau` and
    :math:`\bar\rho = \tau \langle D - W - I, \bar Q\rangle`. An area without neighbours has the
    variance :math:`1 / (\tau (1 - \rho))`.

    References
    ----------
    Leroux, B. G., Lei, X. and Breslow, N. (2000). Estimation of disease rates in small areas: a new
    mixed model for spatial dependence. In Halloran and Berry (eds.), Statistical Models in
    Epidemiology, the Environment and Clinical Trials, 179-191.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> cov = gg.cov.Leroux([[0, 1], [1, 2]], rho=0.5, tau=2.0, n=3)
    >>> cov.inverse_diagonal().eval()
    array([2., 3., 2.])
    """

    def __init__(self, W, rho, tau=1.0, n=None):
        weights = as_neighbours(NAME, W, n)
        rho, tau = as_scalar(NAME, "rho", rho), as_scalar(NAME, "tau", tau)
        check_share(NAME, "rho", rho)
        check_scale(NAME, "tau", tau)
        differences = sp.diags_array(np.asarray(weights.sum(axis=1)).ravel()) - weights
        identity = sp.eye_array(weights.shape[0])
        pattern, values = sum_of_terms([(tau * rho, differences), (tau * (1 - rho), identity)])
        self._set(values, pattern, _log_determinant(differences, rho, tau))


def _log_determinant(differences, rho, tau):
    """log|Q|; None where eigenvalues are dear."""
    eigenvalues = symmetric_eigenvalues(differences)
    if eigenvalues is None:
        return None
    share = rho[..., None]
    factors = tau[..., None] * (1 - share + share * eigenvalues.astype(rho.dtype))
    return log_of_products(factors)
