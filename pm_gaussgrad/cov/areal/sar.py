r"""``SAR``: the simultaneous autoregression.

Definition: Sigma = Q^-1, Q = B'B / sigma^2 with B = I - rho W: the covariance of y where
B y = mean + e, with white e of standard deviation sigma; W need not be symmetric. Storage, cost and
pullback are those of a Markov field, :mod:`pm_gaussgrad.cov.graphs.sparse_matrix`.

B^-1 x is Q^-1 B'x / sigma^2, so that one sparse factor serves both.

Sources: Whittle (1954), On stationary processes in the plane; Anselin (1988), Spatial Econometrics,
chapters 3 and 6.
"""

import pytensor.tensor as pt
import scipy.sparse as sp

from pm_gaussgrad.cov.areal.known_spectrum import (
    ArealField,
    eigenvalues_of_weights,
    log_of_products,
)
from pm_gaussgrad.cov.areal.neighbours import as_neighbours
from pm_gaussgrad.cov.areal.scalars import as_scalar, check_scale
from pm_gaussgrad.cov.graphs.sparse_matrix import SparseCovariance
from pm_gaussgrad.cov.graphs.terms import sum_of_terms
from pm_gaussgrad.cov.protocol.base import as_parameter, check_size

NAME = "gg.cov.SAR"


class SAR(ArealField):
    r"""A simultaneous autoregression, :math:`\Sigma^{-1} = (I-\rho W)^\top (I-\rho W) / \sigma^2`.

    Of errors, :math:`y = X \beta + u`, :math:`u = \rho W u + e`, with the mean :math:`X \beta`; of
    a lag, :math:`y = \rho W y + X \beta + e`, with the mean ``cov.lag_mean(X @ beta)``.

    Parameters
    ----------
    W : scipy.sparse matrix, array_like or graph, shape (n, n), in units of 1
        Constant: weights of neighbours, 0 on the diagonal; often with rows that sum to 1, and then
        not symmetric. Sparse in any format, dense, a graph of libpysal (its ``sparse``), or with
        ``n`` pairs of neighbours, (e, 2).
    rho : tensor_like, shape () or (...), in units of 1
        Spatial dependence :math:`\rho`, between the reciprocals of the smallest and the largest
        real eigenvalue of W; with rows that sum to 1 from below -1 to 1.
    sigma : tensor_like, shape () or (...), in units of [y], optional
        Standard deviation :math:`\sigma` of e.
    n : int, optional
        The number of areas, of pairs of neighbours.

    Raises
    ------
    TypeError
        If an argument is not real, or ``W`` is symbolic.
    ValueError
        If ``W`` has weights that are negative, not finite or on its diagonal; if a constant sigma
        is negative; and, where a density is built, if I - rho W is singular.

    Notes
    -----
    Cost: that of :class:`~pm_gaussgrad.cov.SparsePrecision` with the pattern of :math:`W^\top W`:
    neighbours of neighbours. :math:`\bar\rho = \langle 2 \rho W^\top W - W - W^\top, \bar Q\rangle
    / \sigma^2` and :math:`\bar\sigma = -2 \langle Q, \bar Q\rangle / \sigma`.

    Beyond the interval of :math:`\rho` Q is positive definite again, and there is a density, with
    another meaning: the prior of :math:`\rho` is to keep to the interval.

    References
    ----------
    Whittle, P. (1954). On stationary processes in the plane. Biometrika 41, 434-449.

    Anselin, L. (1988). Spatial Econometrics: Methods and Models. Kluwer, chapters 3 and 6.

    Examples
    --------
    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> W = np.array([[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]])
    >>> cov = gg.cov.SAR(W, rho=0.5, sigma=1.0)
    >>> cov.lag_mean(np.ones(3)).eval()
    array([2., 2., 2.])
    """

    _lag = None

    def __init__(self, W, rho, sigma=1.0, n=None):
        weights = as_neighbours(NAME, W, n, symmetric=False)
        rho, sigma = as_scalar(NAME, "rho", rho), as_scalar(NAME, "sigma", sigma)
        check_scale(NAME, "sigma", sigma)
        precision = sigma**-2.0
        products = [
            (precision, sp.eye_array(weights.shape[0])),
            (-precision * rho, weights + weights.T),
            (precision * rho**2, weights.T @ weights),
        ]
        pattern, values = sum_of_terms(products)
        self._set(values, pattern, _log_determinant(weights, rho, sigma))
        self._lag = weights, rho, precision

    def lag_mean(self, mu):
        r"""The mean of a lag model, :math:`(I - \rho W)^{-1} \mu`, (..., n) -> (..., n).

        Parameters
        ----------
        mu : tensor_like, shape (..., n), in units of [y]
            What the areas would have without each other, :math:`X \beta`.

        Returns
        -------
        TensorVariable, shape (..., n)
            Differentiable, at the cost of one sparse factor.

        Raises
        ------
        NotImplementedError
            If this is a multiple of what was constructed.
        """
        if self._lag is None:
            raise NotImplementedError(
                f"{NAME}: lag_mean() is a member of what the constructor made, expected that, and "
                "not a multiple of it or one that was rebuilt from tensors."
            )
        mu = as_parameter(NAME, "mu", mu, 1)
        check_size(self, "mu", mu)
        weights, rho, precision = self._lag
        entries = weights.tocoo()
        products = entries.data.astype(mu.dtype) * mu[..., entries.row]
        neighbours = pt.zeros_like(mu)[..., entries.col].inc(products)
        moved = precision[..., None] * (mu - rho[..., None] * neighbours)
        return SparseCovariance.from_parameters(*self.parameters[:-1]).solve(moved)


def _log_determinant(weights, rho, sigma):
    """log|Q|; None where eigenvalues are dear, or none that are real are known to exist."""
    eigenvalues = eigenvalues_of_weights(weights)
    if eigenvalues is None:
        return None
    factors = abs((1 - rho[..., None] * eigenvalues.astype(rho.dtype)) / sigma[..., None])
    return 2 * log_of_products(factors)
