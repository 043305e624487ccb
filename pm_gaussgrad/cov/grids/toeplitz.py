r"""``Toeplitz``: a stationary series at equal steps.

Definition: Sigma_ij = t_|i-j|, t = ``first_column`` (n,). Storage: n. Value: O(n^2) flops for
all rows together, by Schur's recursion for the reflection coefficients and Durbin's for the
predictor a and the innovation variances v_j, with log|Sigma| = sum_j log v_j; and O(n log n) a
row, by the formula of Gohberg and Semencul for Sigma^-1 and fast Fourier transforms. Gradient:
O(n log n) a row. Memory O(n) a row.

Pullback: t_bar_k is the sum along both diagonals k of l_bar Sigma^-1 - sum_i q_bar_i alpha_i
alpha_i', which for Sigma^-1 is a weighted autocorrelation of a, and for the rows one of alpha.

Sources: Schur (1917); Durbin (1960), eq. 11; Gohberg and Semencul (1972); Dietrich and Newsam
(1997); in :mod:`pm_gaussgrad.kernels.toeplitz`.
"""

from functools import reduce
from operator import add

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.matrices.diagonal import ScalarDiagonal
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.constants import check_finite, check_variance
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.scales import of_finite, product
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.sums import closes, common_size, falls_back
from pm_gaussgrad.kernels.symmetric import log_product
from pm_gaussgrad.kernels.toeplitz import (
    circulant_times,
    diagonal_sums,
    durbin,
    inverse_times,
    lower_solve,
    lower_times,
    toeplitz_times,
)
from pm_gaussgrad.ops import inner_products, transform_rows


def _nothing(rows):
    """Rows of no observations, which no recursion can start with."""
    return np.zeros((rows.shape[0], 0), rows.dtype)


def _forward(residual, first_column):
    if first_column.size == 0:
        quad = np.zeros(residual.shape[0], residual.dtype)
        return quad, 0.0, _nothing(residual), np.zeros(0, residual.dtype), 1.0
    predictor, variances = durbin(first_column)
    alpha, quad = inverse_times(predictor, variances[-1], residual)
    return quad, log_product(variances), alpha, predictor.astype(residual.dtype), variances[-1]


def _pullback(alpha, predictor, variance, quad_bar, logdet_bar):
    if predictor.size == 0:
        return (np.zeros(0, alpha.dtype),)
    return (diagonal_sums(predictor, variance, logdet_bar, alpha, -quad_bar),)


def _color(rows, first_column):
    if first_column.size == 0:
        return (_nothing(rows),)
    return (lower_times(first_column, rows),)


def _whiten(rows, first_column):
    if first_column.size == 0:
        return (_nothing(rows),)
    return (lower_solve(first_column, rows),)


def _log_scales(rows, first_column):
    if first_column.size == 0:
        return (_nothing(rows),)
    scales = np.empty(rows.shape, rows.dtype)
    scales[:] = np.log(durbin(first_column)[1]) / 2
    return (scales,)


def _times(rows, first_column):
    if first_column.size == 0:
        return (_nothing(rows),)
    return (toeplitz_times(first_column, rows),)


def _draw(rows, first_column):
    if first_column.size == 0:
        return (_nothing(rows),)
    if rows.shape[1] < 4 * first_column.size:
        raise ValueError("gg.cov.Toeplitz: a draw of n numbers takes 4 n white ones")
    return (circulant_times(first_column, rows),)


class Toeplitz(Leaf):
    r"""A stationary series at equal steps, :math:`\Sigma_{ij} = t_{|i-j|}`.

    Parameters
    ----------
    first_column : tensor_like, shape (..., n), in units of [y]^2
        Autocovariances at lags 0, 1, ..., n - 1.

    Raises
    ------
    TypeError
        If ``first_column`` has no dimension or is not real.
    ValueError
        In a sum, if the sizes disagree; or if a constant is no column of autocovariances.

    Notes
    -----
    Cost of value and gradient: 1.5 n^2 multiplications and additions for all rows together, and
    O(n log n) a row; memory O(n). The n x n matrix is never formed, and the recursions run in
    double precision whatever the dtype. A column that is not positive definite gives a log
    density of -inf. The pullback is

    .. math:: \bar t_k = \sum_{|i-j|=k} \Bigl(\bar l\,\Sigma^{-1}
              - \sum_r \bar q_r\,\alpha_r \alpha_r^\top\Bigr)_{ij},

    of which the sum over :math:`\Sigma^{-1}` is, for k > 0,
    :math:`\tfrac{2}{v} \sum_p (n - k - 2p)\,a_p a_{p+k}`, with the predictor a and the innovation
    variance v of the last order; half of that for k = 0.

    Draws of random variables are by circulant embedding, O(n log n), where the embedding is
    non-negative, and by :meth:`color`, O(n^2), where it is not; both are exact.

    References
    ----------
    Durbin, J. (1960). The fitting of time-series models. Revue de l'Institut International de
    Statistique 28, 233-244, eq. 11.

    Gohberg, I. and Semencul, A. (1972). On the inversion of finite Toeplitz matrices and their
    continuous analogs. Matematicheskie Issledovaniya 7(2), 201-223.

    Dietrich, C. R. and Newsam, G. N. (1997). Fast and exact simulation of stationary Gaussian
    processes through circulant embedding of the covariance matrix. SIAM Journal on Scientific
    Computing 18, 1088-1107, section 2.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> gg.cov.Toeplitz([1.0, 0.5, 0.2]).to_dense().eval()
    array([[1. , 0.5, 0.2],
           [0.5, 1. , 0.5],
           [0.2, 0.5, 1. ]])
    """

    how = "Levinson-Durbin recursion, n^2 in memory n"
    parameter_shapes = {"first_column": "n"}
    saved_shapes = {"predictor": "n", "variance": ""}
    forward = staticmethod(_forward)
    pullback = staticmethod(_pullback)
    row_transforms = {"color": "n", "whiten": "n", "log_scales": "n", "times": "n", "draw": "k"}
    color_kernel = staticmethod(_color)
    whiten_kernel = staticmethod(_whiten)
    log_scales_kernel = staticmethod(_log_scales)
    times_kernel = staticmethod(_times)
    draw_kernel = staticmethod(_draw)

    def __init__(self, first_column):
        column = as_parameter("gg.cov.Toeplitz", "first_column", first_column, 1)
        _check_column(column)
        self.parameters = (column,)

    def to_dense(self):
        [column] = self.parameters
        index = pt.arange(self.size)
        return column[..., pt.abs(index[:, None] - index)]

    def innovations(self, residual):
        white = self.whiten(residual)
        scales = transform_rows(self, "log_scales", pt.zeros_like(self.parameters[0]))
        return white, scales + pt.zeros_like(white)

    def noise_size(self, n):
        return 4 * n  # the circulant matrix has the order of a power of two below that

    def draw(self, z):
        return transform_rows(self, "draw", z)

    def times(self, rows):
        return transform_rows(self, "times", rows)

    def autocovariances(self):
        return self.parameters[0]

    def diagonal(self):
        [column] = self.parameters
        return column if self.size == 0 else pt.broadcast_to(column[..., 0, None], column.shape)

    def inverse_diagonal(self):
        if self.size == 0:
            return self.parameters[0]
        # Gohberg and Semencul: element i is the sum of (a_p^2 - b_p^2) / v over p <= i.
        first = self.solve(self._unit())
        predictor = first / first[..., 0, None]
        reversed_ = predictor[..., 1:][..., ::-1]
        lagged = pt.concatenate([pt.zeros_like(first[..., 0])[..., None], reversed_], axis=-1)
        return first[..., 0, None] * pt.cumsum(predictor**2 - lagged**2, axis=-1)

    def _unit(self):
        [column] = self.parameters
        return column if self.size == 0 else pt.zeros_like(column)[..., 0].set(1)

    def scaled(self, factor):
        return Toeplitz(product(factor, self.parameters[0]))

    @staticmethod
    def forward_jax(residual, first_column):
        import jax.numpy as jnp

        from pm_gaussgrad.kernels import toeplitz_jax

        predictor, variances = toeplitz_jax.durbin(first_column)
        alpha = toeplitz_jax.inverse_times(predictor, variances[-1], residual)
        quad = (residual * alpha).sum(axis=1)
        return quad, jnp.log(variances).sum(), alpha, predictor, variances[-1]

    @staticmethod
    def pullback_jax(alpha, predictor, variance, quad_bar, logdet_bar):
        from pm_gaussgrad.kernels import toeplitz_jax

        return (toeplitz_jax.diagonal_sums(predictor, variance, logdet_bar, alpha, -quad_bar),)

    @staticmethod
    def color_kernel_jax(rows, first_column):
        from pm_gaussgrad.kernels import toeplitz_jax

        return (toeplitz_jax.lower_times(first_column, rows),)

    @staticmethod
    def whiten_kernel_jax(rows, first_column):
        from pm_gaussgrad.kernels import toeplitz_jax

        return (toeplitz_jax.lower_solve(first_column, rows),)

    @staticmethod
    def times_kernel_jax(rows, first_column):
        from pm_gaussgrad.kernels import toeplitz_jax

        return (toeplitz_jax.toeplitz_times(first_column, rows),)

    @staticmethod
    def draw_kernel_jax(rows, first_column):
        from pm_gaussgrad.kernels import toeplitz_jax

        return (toeplitz_jax.circulant_times(first_column, rows),)

    def rows(self, positions):
        [column] = self.parameters
        return column[pt.abs(positions[:, None] - pt.arange(self.size))]

    def information(self, tangents):
        """-1/2 times the Hessian of log|Sigma|, Sigma being linear in its first column.

        With x the first column of P and y_i = i x_i, i = 0, 1, ..., the formula of Gohberg and
        Semencul (1972) says that d log|Sigma| = tr(P T) = (n x'T x - 2 y'T x) / x_0 for a Toeplitz
        T = dS, and another derivative needs dx = -P dS x only.
        """
        [column], [tangent] = self.parameters, tangents
        index = pt.cumsum(pt.ones_like(column)) - 1
        n = column.shape[0].astype(column.dtype)
        first = self.solve(self._unit())
        head, weighted = first[0], index * first
        of_first, of_weighted = _toeplitz_times(tangent, first), _toeplitz_times(tangent, weighted)
        moved = -self.solve(of_first)
        slope = (of_first @ (n * first - 2 * weighted)) / head
        twice = 2 * n * moved - 2 * index * moved
        inner = inner_products(twice, of_first) - 2 * inner_products(moved, of_weighted)
        hessian = inner / head - moved[:, 0][:, None] * (slope / head)
        return -(hessian + hessian.T) / 4


def _check_column(column):
    """Raise a ValueError where constants exceed the variance, their first entry."""
    if not isinstance(column, Constant) or not column.data.shape[-1]:
        return
    owner, name = "gg.cov.Toeplitz", "first_column"
    check_variance(owner, f"{name}[..., 0]", pt.constant(column.data[..., 0]))
    check_finite(owner, name, column)
    variance, lagged = column.data[..., :1], np.abs(column.data)
    beyond = lagged > variance * (1 + 1e-6)
    if beyond.any():
        raise ValueError(
            f"{owner}: `{name}` has an autocovariance of size {lagged[beyond][0]:g}, expected at "
            "most the variance, the entry at lag 0."
        )


@closes(Toeplitz, Toeplitz)
def _sum(left, right):
    common_size(left, right)
    return Toeplitz(left.parameters[0] + right.parameters[0])


@closes(Toeplitz, ScalarDiagonal)
def _sum_with_scalar(left, right):
    common_size(left, right)
    [column], [variance] = left.parameters, right.parameters
    return Toeplitz(column + variance[..., None] * left._unit())


def _of_the_lag(cov) -> str:
    """What can be added to a function of the lag of known length, in words."""
    found = of_size(cov, 2).autocovariances()
    return "" if found is None else f"functions of the lag like {Toeplitz.label}"


@falls_back(10, partner=_of_the_lag)
def _sum_of_stationary(summands):
    """Functions of the lag: n^2, where nothing faster is known."""
    if common_size(*summands) is None:
        return None
    if any(cov.autocovariances() is None for cov in summands):
        return None
    return Toeplitz(reduce(add, (of_finite(cov, _of_lags, 1) for cov in summands)))


def _of_lags(cov):
    return cov.autocovariances()


def _toeplitz_times(columns, vector):
    """T x for the symmetric Toeplitz matrix of each column, (p, n), (n,) -> (p, n)."""
    both = pt.concatenate([columns[:, 1:][:, ::-1], columns], axis=1)
    return pt.signal.convolve1d(both, vector, mode="valid")
