r"""``BYM2``: an intrinsic autoregression and independent effects, by their sum and their shares.

Definition: Sigma = sigma^2 (rho S + (1 - rho) I), S = s (D - W)^+ scaled in each component of the
graph such that the geometric mean of its variances is one; an area without neighbours has the
variance sigma^2. It is that of sqrt(rho) phi + sqrt(1 - rho) theta, phi a scaled ``ICAR``, theta
white, both integrated out: a sparse latent with noise,
:mod:`pm_gaussgrad.cov.graphs.sparse_latents`, where storage, cost and pullback are.

Sources: Riebler, Sorbye, Simpson and Rue (2016), An intuitive Bayesian spatial model for disease
mapping that accounts for scaling; Freni-Sterrantino, Ventrucci and Rue (2018), A note on intrinsic
conditional autoregressive models for disconnected graphs.
"""

import numpy as np

from pm_gaussgrad.cov.areal.differences import Differences
from pm_gaussgrad.cov.areal.icar import ICAR
from pm_gaussgrad.cov.areal.neighbours import as_neighbours
from pm_gaussgrad.cov.areal.scalars import as_scalar, check_scale, check_share
from pm_gaussgrad.cov.graphs.projected import Projected, identity
from pm_gaussgrad.cov.graphs.sparse_latents import CentredLatents

NAME = "gg.cov.BYM2"


class BYM2(CentredLatents):
    r"""Structured and independent effects of areas, :math:`\sigma^2 (\rho\, S + (1 - \rho) I)`.

    S is the covariance of an intrinsic autoregression, scaled such that the geometric mean of its
    variances is one: :math:`\sigma` is the standard deviation of an area, on whatever map, and
    :math:`\rho` the share of variance that is spatial.

    Parameters
    ----------
    W : scipy.sparse matrix, array_like or graph, shape (n, n), in units of 1
        Constant: weights of neighbours, symmetric, 0 on the diagonal; of a map without weights 1.
        Sparse in any format, dense, a graph of libpysal (its ``sparse``), or with ``n`` pairs of
        neighbours, (e, 2).
    sigma : tensor_like, shape () or (...), in units of [y]
        Standard deviation :math:`\sigma` of both together.
    rho : tensor_like, shape () or (...), in units of 1
        Share :math:`\rho` of the variance that is spatial, from 0 to below 1.
    n : int, optional
        The number of areas, of pairs of neighbours.

    Raises
    ------
    TypeError
        If an argument is not real, or ``W`` is symbolic.
    ValueError
        If ``W`` is not symmetric, has weights that are negative, not finite or on its diagonal; if
        a constant sigma is negative or a constant rho not in 0 to 1; and, where a density is
        built, if a constant rho is 1 without other noise.

    Notes
    -----
    Areas of each component of the map are scaled, and sum to zero, by themselves; an area without
    neighbours has the variance :math:`\sigma^2`. Below 1 it is positive definite, so that it is a
    prior of effects like others, under counts say, with n variables in place of 2 n; at 0 areas are
    independent, an ordinary point.
    Observed with more noise, ``BYM2(...) + Diagonal(v)``, all of them are integrated out.

    Cost: a sparse Cholesky factor of the map, and the inverse on its pattern; the pullback is that
    of :class:`~pm_gaussgrad.cov.Projected`.

    References
    ----------
    Riebler, A., Sorbye, S. H., Simpson, D. and Rue, H. (2016). An intuitive Bayesian spatial model
    for disease mapping that accounts for scaling. Statistical Methods in Medical Research 25,
    1145-1165.

    Freni-Sterrantino, A., Ventrucci, M. and Rue, H. (2018). A note on intrinsic conditional
    autoregressive models for disconnected graphs. Spatial and Spatio-temporal Epidemiology 26,
    25-34.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> cov = gg.cov.BYM2([[0, 1]], sigma=2.0, rho=0.5, n=3)
    >>> cov.to_dense().eval().round(6)
    array([[ 4., -2.,  0.],
           [-2.,  4.,  0.],
           [ 0.,  0.,  4.]])
    """

    def __init__(self, W, sigma, rho, n=None):
        sigma, rho = as_scalar(NAME, "sigma", sigma), as_scalar(NAME, "rho", rho)
        check_scale(NAME, "sigma", sigma)
        check_share(NAME, "rho", rho)
        differences = Differences.of(as_neighbours(NAME, W, n)).scaled()
        field = ICAR.of_differences(differences, sigma**2 * rho)
        of_all = (sigma**2)[..., None]
        own = np.where(differences.alone, 0, 1).astype(of_all.dtype) * rho[..., None]
        super().__init__(Projected(identity(field.size), field), of_all * (1 - own))

    @property
    def structured(self):
        """The spatial effects alone, a summand: for ``gg.predict(component=cov.structured)``."""
        return self.summands[0]
