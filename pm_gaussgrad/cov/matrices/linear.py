r"""``Linear``: coefficients of a regression, integrated out.

Definition: Sigma = X V X', X = ``design`` (n, p), V the prior covariance of the coefficients b of
X b. Beside any covariance it is factors U = X V^1/2 of a ``LowRank``, where storage, cost and
pullback are. With a flat prior, p(b) = 1, there is no covariance but a density beside another one:
:mod:`pm_gaussgrad.cov.matrices.flat_coefficients`.

Sources: Lindley and Smith (1972), Bayes estimates for the linear model; Rasmussen and Williams
(2006), Gaussian Processes for Machine Learning, sections 2.1 and 2.7.
"""

import numpy as np
import pandas as pd
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.matrices.dense import Dense
from pm_gaussgrad.cov.matrices.diagonal import Diagonal
from pm_gaussgrad.cov.matrices.flat_coefficients import FlatLinear, as_design
from pm_gaussgrad.cov.matrices.low_rank import LowRank
from pm_gaussgrad.cov.protocol.base import as_parameter, length
from pm_gaussgrad.cov.protocol.constants import check_semidefinite, check_variance
from pm_gaussgrad.cov.protocol.latent import Latent, register_latent
from pm_gaussgrad.cov.protocol.products import matmul
from pm_gaussgrad.cov.protocol.scales import product, root
from pm_gaussgrad.cov.protocol.triangular import symmetric_from_lower
from pm_gaussgrad.ops.form import Form
from pm_gaussgrad.ops.semidefinite import semidefinite_root

NAME = "gg.cov.Linear"


class Linear(LowRank):
    r"""Coefficients of a regression, integrated out: :math:`\Sigma = X V X^\top`, a summand.

    Parameters
    ----------
    design : tensor_like, shape (..., n, p), in units of [x]
        The regressors X, one column a coefficient. Columns of a pandas table keep their names.
    prior : tensor_like, shape (), (p) or (..., p, p), in units of [y]^2 / [x]^2, or ``"flat"``
        Covariance V of the coefficients, whose mean is zero: one variance for all, one of each, or
        a matrix. ``"flat"`` is a uniform prior, that of restricted likelihoods (REML).

    Raises
    ------
    TypeError
        If ``design`` has fewer than two dimensions, or an argument is not real.
    ValueError
        If constants are not finite, a constant prior is negative, not symmetric or not positive
        semidefinite, or for another number of coefficients; and with a flat prior, if columns of a
        constant design are linearly dependent to rounding, also where a row has observed, or there
        are more of them than observations.
    NotImplementedError
        If a log density, an inverse or a determinant is asked for before another covariance was
        added; with a flat prior, if draws or variances are.

    Notes
    -----
    ``Linear(X, V) + cov`` is the likelihood of :math:`X \beta` with :math:`\beta \sim N(0, V)` and
    errors of any structure, at the cost of :class:`~pm_gaussgrad.cov.LowRank`: 2 (p + 1) rows of
    ``cov``. Coefficients with a prior mean m have ``X @ m`` in the mean of the data. Variances of
    zero and singular matrices are ordinary points.

    With a *flat* prior the density is

    .. math::

        -\tfrac12 \bigl[(n - p) \log 2 \pi + \log |\Sigma| + \log |X^\top \Sigma^{-1} X|
        + r^\top P r\bigr], \quad
        P = \Sigma^{-1} - \Sigma^{-1} X (X^\top \Sigma^{-1} X)^{-1} X^\top \Sigma^{-1},

    the integral over :math:`\beta` of the likelihood, also the limit of a prior of variance v times
    :math:`(2 \pi v)^{p / 2}`. It is the restricted likelihood as lme4 and nlme report it; others
    add :math:`\tfrac12 \log |X^\top X|`, a constant. It is no probability of the data: there are
    no draws of them, and other models are compared with it only where X is the same.
    An observation that alone identifies a coefficient has no distribution given the others: left
    out, its density is zero.

    Coefficients are drawn after sampling by :func:`pm_gaussgrad.recover`.

    References
    ----------
    Lindley, D. V. and Smith, A. F. M. (1972). Bayes estimates for the linear model. Journal of the
    Royal Statistical Society B 34, 1-41.

    Harville, D. A. (1974). Bayesian inference for variance components using only error contrasts.
    Biometrika 61, 383-385.

    Examples
    --------
    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> X = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> cov = gg.cov.Linear(X, 2.0) + gg.cov.AR1(1.0, 0.5, size=3)
    >>> cov.to_dense().eval()
    array([[ 3.  ,  2.5 ,  2.25],
           [ 2.5 ,  5.  ,  6.5 ],
           [ 2.25,  6.5 , 11.  ]])

    The restricted likelihood of three observations about a line:

    >>> cov = gg.cov.Linear(X, "flat") + gg.cov.Diagonal(1.0)
    >>> round(float(gg.logp([0.0, 1.0, 3.0], 0.0, cov).eval()), 6)
    -1.898152
    """

    label = NAME
    # What it is flattened into is not what users pass.
    parameter_shapes = {}

    def __new__(cls, design, prior):
        if isinstance(prior, str):
            _check_flat(prior)
            return FlatLinear(design, names_of_columns(design))
        return super().__new__(cls)

    def __init__(self, design, prior):
        self.columns = names_of_columns(design)
        self.design = as_design(NAME, design)
        self.prior = _as_prior(prior, length(self.design))
        self.parameters = (_loadings(self.design, self.prior),)

    @property
    def structure(self):
        return Form(LowRank, ())

    def sized(self, n):
        return Linear(pt.specify_shape(self.design, (..., n, None)), self.prior)

    def __reduce__(self):
        return _rebuilt, (self.design, self.prior, self.columns)


def _rebuilt(design, prior, columns):
    made = Linear(design, prior)
    made.columns = columns
    return made


def names_of_columns(design):
    """Those of a pandas table; None of others."""
    return np.asarray(design.columns) if isinstance(design, pd.DataFrame) else None


def _check_flat(prior) -> None:
    if prior != "flat":
        raise ValueError(
            f'{NAME}: `prior` is {prior!r}, expected "flat", or the covariance of the '
            "coefficients: a variance, one for each, or a matrix."
        )


def _as_prior(prior, p):
    """A user's covariance of p coefficients: (), (p) or (..., p, p)."""
    prior = as_parameter(NAME, "prior", prior, 0)
    shape = prior.type.shape
    known = [size for size in shape[-2:] if size is not None]
    if isinstance(p, int) and any(size != p for size in known):
        raise ValueError(
            f"{NAME}: `prior` has shape {shape}, expected the covariance of {p} coefficients, one "
            f"for each column of the design: a scalar, ({p},) or (..., {p}, {p})."
        )
    if prior.type.ndim < 2:
        check_variance(NAME, "prior", prior)
        return prior
    check_semidefinite(
        NAME, "prior", prior, "none of its correlations may be beyond -1 and 1, as in D @ R @ D"
    )
    if isinstance(p, int):
        prior = pt.specify_shape(prior, (*[None] * (len(shape) - 2), p, p))
    return symmetric_from_lower(prior)


def _loadings(design, prior):
    """X V^1/2, (..., n, p)."""
    if prior.type.ndim < 2:
        return product(root(prior), design)
    if isinstance(prior, Constant):
        values, axes = np.linalg.eigh(prior.data)
        of_prior = pt.constant(axes * np.sqrt(np.maximum(values, 0))[..., None, :])
    else:
        of_prior = semidefinite_root(prior)
    return matmul(design, of_prior)


@register_latent(Linear)
def _coefficients(cov):
    p, prior = length(cov.design), cov.prior
    prior = Diagonal(prior, size=p) if prior.type.ndim < 2 else Dense(prior)
    return Latent(prior, cov.design, (p,), (cov.columns,))


@register_latent(LowRank)
def _scores(cov):
    [factor] = cov.parameters
    k = length(factor)
    return Latent(Diagonal(pt.ones((), dtype=factor.dtype), size=k), factor, (k,))
