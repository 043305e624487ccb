"""Conditioning: new entries given observations, symbolic."""

import pytensor.tensor as pt

from pm_gaussgrad.cov import Covariance, Dense
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.kriging import Kriging
from pm_gaussgrad.cov.protocol.latent import check_proper
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.sums import resolved_if_possible

NAME = "gg.condition"


def condition(value, mu, cov, mu_new, cross_cov, cov_new, *, diag=False):
    r"""Distribution of new entries given observations of a joint normal.

    .. math::

        \begin{pmatrix} y \\ y_* \end{pmatrix} \sim N\left(
        \begin{pmatrix} \mu \\ \mu_* \end{pmatrix},
        \begin{pmatrix} \Sigma & C \\ C^\top & K \end{pmatrix}\right)
        \quad\Rightarrow\quad
        y_* \mid y \sim N\bigl(\mu_* + C^\top \Sigma^{-1} (y - \mu),\;
        K - C^\top \Sigma^{-1} C\bigr)

    Parameters
    ----------
    value : tensor_like, shape (..., n), in units of [y]
        Observations; rows of them share the covariances.
    mu : tensor_like, shape (..., n) or broadcastable to it, in units of [y]
        Their mean.
    cov : tensor_like, shape (..., n, n), or gg.cov structure, in units of [y]^2
        Their covariance, with the noise of the observations.
    mu_new : tensor_like, shape (..., n_new) or broadcastable to it, in units of [y]
        Mean of the new entries.
    cross_cov : tensor_like, shape (..., n, n_new), in units of [y]^2
        Covariance of the observations, its rows, with the new entries.
    cov_new : tensor_like, shape (..., n_new, n_new), or gg.cov structure, in units of [y]^2
        Covariance of the new entries: with noise for new observations, without it for what is
        observed with noise. If ``diag``, their variances (n_new) are enough; a tensor with more
        dimensions is a matrix, unless it is known not to be square.
    diag : bool, default False
        Return variances instead of a covariance.

    Returns
    -------
    mean : TensorVariable, shape (..., n_new)
    covariance : gg.cov.Dense, or with ``diag`` a TensorVariable, shape (..., n_new)

    Raises
    ------
    TypeError
        If an argument is not real or has too few dimensions.
    ValueError
        If sizes disagree, as they do where ``cross_cov`` is transposed.

    Notes
    -----
    Cost: one solve with ``cov`` for each row of ``value`` and one row of whitening for each new
    entry, at the cost of the structure; memory n n_new, and n_new^2 unless ``diag``. What the
    observations explain is a sum of squares, so that variances are not negative but for rounding.

    References
    ----------
    Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian Processes for Machine Learning,
    eq. A.6.

    Examples
    --------
    The next value of an autoregression, from the last of three:

    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> cross = 0.5 ** np.array([[3.0], [2.0], [1.0]])
    >>> mean, variance = gg.condition(
    ...     [0.3, -0.2, 1.0], 0.0, gg.cov.AR1(1.0, 0.5), 0.0, cross, [1.0], diag=True
    ... )
    >>> mean.eval().round(6), variance.eval().round(6)
    (array([0.5]), array([0.75]))
    """
    value = as_parameter(NAME, "value", value, 1)
    mu, mu_new = (as_parameter(NAME, k, x, 0) for k, x in (("mu", mu), ("mu_new", mu_new)))
    cross_cov = as_parameter(NAME, "cross_cov", cross_cov, 2)
    cov = cov if isinstance(cov, Covariance) else Dense(as_parameter(NAME, "cov", cov, 2))
    if not isinstance(cov_new, Covariance):
        cov_new = as_parameter(NAME, "cov_new", cov_new, 1 if diag else 2)
    check_blocks(NAME, value, mu, cov, mu_new, cross_cov, cov_new)
    n = cross_cov.type.shape[-2]
    cov.check_constants(n)
    kriging = Kriging(of_size(cov, cross_cov.shape[-2] if n is None else n), cross_cov)
    mean = mu_new + kriging.mean(value - mu)
    if diag:
        return mean, variances_of(cov_new, cross_cov) - kriging.explained_variances()
    return mean, Dense(matrix_of(cov_new, cross_cov) - kriging.explained())


def matrix_of(cov_new, cross_cov):
    """The covariance of the new entries as a symmetric matrix."""
    if isinstance(cov_new, Covariance):
        return of_size(cov_new, cross_cov.shape[-1]).to_dense()
    return (cov_new + cov_new.mT) / 2


def variances_of(cov_new, cross_cov):
    """Variances of the new entries, from their covariance or as they are."""
    if isinstance(cov_new, Covariance):
        return of_size(cov_new, cross_cov.shape[-1]).diagonal()
    *_, rows, columns = (None, *cov_new.type.shape)
    if cov_new.type.ndim == 1 or (None not in (rows, columns) and rows != columns):
        return cov_new
    return pt.diagonal(cov_new, axis1=-2, axis2=-1)


def check_blocks(owner, value, mu, cov, mu_new, cross_cov, cov_new):
    """Raise a ValueError where known sizes of the blocks of a joint normal disagree."""
    check_proper(
        owner, "cov", resolved_if_possible(cov), "predict by positions: gg.predict(mu=, cov=, new=)"
    )
    n, n_new = cross_cov.type.shape[-2:]
    observed = [*_lengths("value", value), *_lengths("mu", mu), *_lengths("cov", cov)]
    new = [*_lengths("mu_new", mu_new), *_lengths("cov_new", cov_new)]
    for of, expected, found in (("rows", n, observed), ("columns", n_new, new)):
        for name, size in found:
            if expected is None or size == expected or (size == 1 and name.startswith("mu")):
                continue
            transposed = (size == n_new) if of == "rows" else (size == n)
            remedy = "transpose it" if transposed else "they must agree"
            raise ValueError(
                f"{owner}: `cross_cov` has shape {cross_cov.type.shape} and `{name}` is for {size} "
                f"entries, expected {size} {of} of `cross_cov`: its rows are the observations, its "
                f"columns the new entries; {remedy}."
            )


def _lengths(name, x):
    """The name and the size of an argument, if it is known to have one."""
    if isinstance(x, Covariance):
        return [(name, x.size)] if isinstance(x.size, int) else []
    return [(name, size) for size in x.type.shape[-1:] if size is not None]
