r"""``LowRank``: k factors, and with ``Diagonal`` the covariance of factor models.

Definition: Sigma = U U' + D, U = ``factor`` of shape (n, k), D = diag(v), v = ``variance``.
Without D the matrix is singular and only a summand. Storage: n k. Value and gradient:
O(n k^2) once and O(n k) a row.

With W = D^-1/2 U, w = D^-1/2 r and M = I + W'W = L L' (k, k),

    log|Sigma| = log|D| + log|M|                          (determinant lemma)
    c = M^-1 W'w,  e = w - W c,  alpha = D^-1/2 e         (Woodbury)
    r' Sigma^-1 r = |e|^2 + |c|^2 = min over c of |w - W c|^2 + |c|^2

The last is a sum of squares, in which an error of c enters squared; Woodbury's own difference
of two large numbers is never taken. One step of refinement, c += M^-1 (W'e - c), makes up for
having formed W'W (corrected seminormal equations). c = U'alpha is the mean of the factors
given the data.

Pullback: with V = W L'^-1 and G = V L^-1 = W M^-1, hence Sigma^-1 U = D^-1/2 G,

    factor_bar   = 2 l_bar D^-1/2 G - 2 sum_i q_bar_i alpha_i c_i'
    variance_bar = l_bar (1 - |V_j|^2) / v_j - sum_i q_bar_i alpha_ij^2     (entry j)

Draws: S = D^1/2 (I + W X W') has S S' = Sigma where X + X' + X (M - I) X' = I. For X = Y^-1
that is (Y - I)(Y - I)' = M, so X = (I + L)^-1; and S^-1 = (I - W X' L^-1 W') D^-1/2, because
(Y + W'W)^-1 = (L + L L')^-1.

Sources: Woodbury (1950), Inverting modified matrices; Harville (1997), Matrix Algebra from a
Statistician's Perspective, theorems 18.1.1 and 18.2.8; Björck (1987), Stability analysis of
the method of seminormal equations for linear least squares problems.
"""

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.matrices.diagonal import Diagonal, ScalarDiagonal
from pm_gaussgrad.cov.protocol.base import Covariance, as_parameter, length
from pm_gaussgrad.cov.protocol.constants import check_finite, check_positive
from pm_gaussgrad.cov.protocol.information import count_directions, gram
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.products import matmul, rows_of_diagonal, rows_times
from pm_gaussgrad.cov.protocol.scales import product, root
from pm_gaussgrad.cov.protocol.sums import closed_sum, closes, common_size
from pm_gaussgrad.kernels.low_rank import (
    constant_vector,
    low_rank_forward,
    low_rank_pullback,
    sequential_scores,
)
from pm_gaussgrad.ops import transform_rows


def _innovations(rows, factor, variance):
    return (sequential_scores(rows, factor, variance)[0],)


def _log_scales(rows, factor, variance):
    return (sequential_scores(rows, factor, variance)[1],)


def _scalar_forward(residual, factor, variance):
    return low_rank_forward(residual, factor, constant_vector(variance, factor))


def _scalar_pullback(variance, alpha, white_factor, chol, scores, quad_bar, logdet_bar):
    variances = constant_vector(variance, white_factor)
    factor_bar, variance_bar = low_rank_pullback(
        variances, alpha, white_factor, chol, scores, quad_bar, logdet_bar
    )
    return factor_bar, variance_bar.sum()


def _scalar_innovations(rows, factor, variance):
    return _innovations(rows, factor, constant_vector(variance, factor))


def _scalar_log_scales(rows, factor, variance):
    return _log_scales(rows, factor, constant_vector(variance, factor))


def _factor(owner, factor):
    if np.ndim(factor) == 1:
        raise TypeError(
            f"{owner}: `factor` has 1 dimension, expected (..., n, k), one column a factor; for a "
            "single factor pass factor[:, None]."
        )
    return as_parameter(owner, "factor", factor, 2)


class LowRank(Covariance):
    r"""k factors, :math:`\Sigma = U U^\top`: a summand, singular by itself.

    Parameters
    ----------
    factor : tensor_like, shape (..., n, k), in units of [y]
        Loadings U, one column a factor. Any k: none, or more than n.

    Raises
    ------
    TypeError
        If ``factor`` has fewer than two dimensions or is not real.
    ValueError
        If a constant factor has entries that are not finite.
    NotImplementedError
        If a log density, an inverse or a determinant is asked for before another covariance
        was added.

    Notes
    -----
    ``LowRank(factor) + Diagonal(variance)`` is :math:`\Sigma = U U^\top + D`, a structure whose
    value and gradient cost O(n k^2) once and O(n k) a row, in memory O(n k). Sums with more factors
    or variances close: they put the factors side by side and add the variances, which must be
    positive in the end. Beside a covariance of any other structure it costs O(n k^2), and that of
    the other for twice k + 1 rows. Random effects Z of deviation tau are ``LowRank(tau * Z)``.

    The pullback is :math:`\bar U = 2\bar l\,\Sigma^{-1} U - 2\sum_i \bar q_i\,\alpha_i c_i^\top`
    with :math:`c_i = U^\top\alpha_i`, and
    :math:`\bar v_j = \bar l\,(\Sigma^{-1})_{jj} - \sum_i \bar q_i\,\alpha_{ij}^2`.

    For k >= n, or factors that are nearly collinear in units of a tiny noise, accuracy is that
    of M = I + U' D^-1 U; there ``gg.cov.Dense`` of the matrix is cheaper or as accurate.

    References
    ----------
    Woodbury, M. A. (1950). Inverting modified matrices. Memorandum Report 42, Statistical
    Research Group, Princeton. Harville, D. A. (1997). Matrix Algebra from a Statistician's
    Perspective, theorems 18.1.1 and 18.2.8.

    Examples
    --------
    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> cov = gg.cov.LowRank(np.array([[1.0], [2.0]])) + gg.cov.Diagonal(0.5)
    >>> cov.to_dense().eval()
    array([[1.5, 2. ],
           [2. , 4.5]])
    """

    how = "singular by itself; beside another covariance by Woodbury's identity"
    parameter_shapes = {"factor": "n k"}

    def __init__(self, factor):
        self.parameters = (_factor("gg.cov.LowRank", factor),)
        check_finite("gg.cov.LowRank", "factor", self.parameters[0])

    def to_dense(self):
        [factor] = self.parameters
        return matmul(factor, factor.mT)

    def color(self, z):
        [factor] = self.parameters
        axes, scales, _ = pt.linalg.svd(factor, full_matrices=False)
        scores = scales * rows_times(pt.as_tensor_variable(z), axes)
        return rows_times(scores, axes.mT)

    def noise_size(self, n):
        return length(self.parameters[0])

    def draw(self, z):
        return rows_times(pt.as_tensor_variable(z), self.parameters[0].mT)

    def diagonal(self):
        return (self.parameters[0] ** 2).sum(axis=-1)

    def rows(self, positions):
        [factor] = self.parameters
        return matmul(factor[positions], factor.T)

    def times(self, rows):
        [factor] = self.parameters
        return rows_times(rows_times(pt.as_tensor_variable(rows), factor), factor.mT)

    def keep(self, observed):
        return LowRank(self.parameters[0][..., observed, :])

    def scaled(self, factor):
        return LowRank(product(root(factor), self.parameters[0]))

    def _singular(self, *_):
        raise NotImplementedError(
            f"{self.label}: U U' alone is singular and has no density, inverse or log "
            "determinant; add another covariance, as in gg.cov.LowRank(factor) + "
            "gg.cov.Diagonal(variance)."
        )

    quad_logdet = logp = solve = whiten = logdet = inverse_diagonal = _singular


class LowRankPlusDiagonal(Leaf):
    """``LowRank(factor) + Diagonal(variance)``."""

    how = "Woodbury's identity, n k^2 for k factors"
    label = "gg.cov.LowRank + gg.cov.Diagonal"
    parameter_shapes = {"factor": "n k", "variance": "n"}
    saved_shapes = {"white_factor": "n k", "chol": "k k", "scores": "m k"}
    forward = staticmethod(low_rank_forward)
    pullback = staticmethod(low_rank_pullback)
    row_transforms = {"innovations": "n", "log_scales": "n"}
    innovations_kernel = staticmethod(_innovations)
    log_scales_kernel = staticmethod(_log_scales)

    def __init__(self, factor, variance):
        self.parameters = (factor, variance)

    @property
    def summands(self):
        """What it is the sum of, which others may be added to each of."""
        return LowRank.from_parameters(self.parameters[0]), _noise(self)

    def check_constants(self, n=None):
        check_positive(self.label, "variance", self.parameters[1])

    def _variances(self):
        """Those of the noise, with a last dimension of n or one."""
        return self.parameters[1]

    def to_dense(self):
        [factor, _], variances = self.parameters, self._variances()
        identity = pt.eye(factor.shape[-2], dtype=variances.dtype)
        return matmul(factor, factor.mT) + variances[..., None] * identity

    def _standardised(self):
        """D^1/2, W, and the inverses of L and I + L, where L L' = I + W'W."""
        factor, sigma = self.parameters[0], pt.sqrt(self._variances())
        white_factor = factor / sigma[..., None]
        identity = pt.eye(factor.shape[-1], dtype=white_factor.dtype)
        products = matmul(white_factor.mT, white_factor)
        chol = pt.linalg.cholesky(identity + products, lower=True)
        inverses = (
            pt.linalg.solve_triangular(lower, identity, lower=True, b_ndim=2)
            for lower in (chol, identity + chol)
        )
        return sigma, white_factor, *inverses

    def color(self, z):
        z = pt.as_tensor_variable(z)
        sigma, white_factor, _, inner = self._standardised()
        scores = rows_times(rows_times(z, white_factor), inner.mT)
        return sigma * (z + rows_times(scores, white_factor.mT))

    def whiten(self, residual):
        sigma, white_factor, inverse, inner = self._standardised()
        white = residual / sigma
        scores = rows_times(rows_times(white, white_factor), inverse.mT)
        return white - rows_times(rows_times(scores, inner), white_factor.mT)

    def diagonal(self):
        return (self.parameters[0] ** 2).sum(axis=-1) + self._variances()

    def inverse_diagonal(self):
        _, white_factor, inverse, _ = self._standardised()
        explained = (matmul(white_factor, inverse.mT) ** 2).sum(axis=-1)
        return (1 - explained) / self._variances()

    def innovations(self, residual):
        white = transform_rows(self, "innovations", residual)
        no_row = pt.zeros_like(self.diagonal())
        return white, transform_rows(self, "log_scales", no_row) + pt.zeros_like(white)

    def keep(self, observed):
        factor = self.parameters[0][..., observed, :]
        return _plus_noise(factor, _noise(self).keep(observed))

    def scaled(self, factor):
        loadings, variance = self.parameters
        return type(self)(product(root(factor), loadings), product(factor, variance))

    @staticmethod
    def forward_jax(residual, factor, variance):
        import jax.numpy as jnp
        from jax.lax.linalg import cholesky
        from jax.scipy.linalg import cho_solve

        variance = jnp.broadcast_to(variance, residual.shape[1:])
        sigma = jnp.sqrt(variance)
        white, white_factor = residual / sigma, factor / sigma[:, None]
        identity = jnp.eye(factor.shape[1], dtype=white_factor.dtype)
        chol = cholesky(identity + white_factor.T @ white_factor, symmetrize_input=False)
        scores = cho_solve((chol, True), (white @ white_factor).T).T
        rest = white - scores @ white_factor.T
        step = cho_solve((chol, True), (rest @ white_factor - scores).T).T
        scores, rest = scores + step, rest - step @ white_factor.T
        quad = (rest**2).sum(axis=1) + (scores**2).sum(axis=1)
        logdet = jnp.log(variance).sum() + 2 * jnp.log(jnp.diag(chol)).sum()
        return quad, logdet, rest / sigma, white_factor, chol, scores

    @staticmethod
    def pullback_jax(variance, alpha, white_factor, chol, scores, quad_bar, logdet_bar):
        import jax.numpy as jnp
        from jax.scipy.linalg import solve_triangular

        variances = jnp.broadcast_to(variance, alpha.shape[1:])
        weighted = alpha * quad_bar[:, None]
        white = solve_triangular(chol, white_factor.T, lower=True)
        solved = solve_triangular(chol, white, lower=True, trans=1).T
        scale = 2 * logdet_bar / variances**0.5
        factor_bar = scale[:, None] * solved - 2 * weighted.T @ scores
        through_logdet = logdet_bar * (1 - (white**2).sum(axis=0)) / variances
        variance_bar = through_logdet - (weighted * alpha).sum(axis=0)
        return factor_bar, variance_bar if variance.ndim else variance_bar.sum()

    def rows(self, positions):
        factor = self.parameters[0]
        noise = rows_of_diagonal(positions, self._variances(), self.size)
        return matmul(factor[positions], factor.T) + noise

    def times(self, rows):
        return self.summands[0].times(rows) + self._variances() * rows

    def information(self, tangents):
        """dS = dU U' + U dU' + diag(dv), and P = D^-1 - H H' with H of shape (n, k)."""
        factor, variances = self.parameters[0], self._variances()
        factor_dot, variance_dot = tangents
        if variance_dot.type.ndim == 1:
            variance_dot = variance_dot[:, None]
        p, (n, k) = count_directions(factor_dot), factor.shape
        variance_dot = pt.broadcast_to(variance_dot, (p, n))
        solved = self.solve(factor.T)  # (P U)'
        rows = factor_dot.mT.reshape((-1, n))
        solved_dot = self.solve(rows).reshape((p, k, n))  # (P dU)'
        inner = factor_dot.mT @ solved.T  # dU' P U
        # N T for each T of a stack, (k, k), (p, k, n) -> (p, k, n)
        mixed = pt.tensordot(solved_dot, matmul(solved, factor), axes=[[1], [1]]).transpose(0, 2, 1)
        loadings = gram(inner, inner.mT) + gram(factor_dot.mT, mixed)
        shared = (solved * solved_dot).sum(axis=1)  # diag(P dU U' P)
        cross = gram(shared, variance_dot)
        _, white_factor, inverse, _ = self._standardised()
        root = matmul(white_factor, inverse.mT) / pt.sqrt(variances)[..., None]  # H
        precision = 1 / variances
        squared = precision * (precision - 2 * (root**2).sum(axis=-1))
        cut = root.T @ (variance_dot[..., None] * root)
        noise = gram(variance_dot * squared, variance_dot) + gram(cut, cut)
        return loadings + cross + cross.T + noise / 2


class LowRankPlusScalar(LowRankPlusDiagonal):
    """``LowRank(factor) + Diagonal(scalar)``; the kernels make the vector of variances."""

    label = "gg.cov.LowRank + gg.cov.Diagonal"
    parameter_shapes = {"factor": "n k", "variance": ""}
    forward = staticmethod(_scalar_forward)
    pullback = staticmethod(_scalar_pullback)
    innovations_kernel = staticmethod(_scalar_innovations)
    log_scales_kernel = staticmethod(_scalar_log_scales)

    def _variances(self):
        return self.parameters[1][..., None]


def _side_by_side(left, right):
    """The columns of two factors, batch dimensions broadcast."""
    if left.type.ndim == right.type.ndim == 2:
        return pt.concatenate([left, right], axis=-1)
    shapes = [tuple(u.shape)[:-2] for u in (left, right)]
    batch = pt.broadcast_shape(*shapes, arrays_are_shapes=True)
    parts = [pt.broadcast_to(u, (*batch, *tuple(u.shape)[-2:])) for u in (left, right)]
    return pt.concatenate(parts, axis=-1)


@closes(LowRank, LowRank)
def _sum_of_factors(left, right):
    common_size(left, right)
    return LowRank(_side_by_side(left.parameters[0], right.parameters[0]))


def _plus_noise(factor, noise):
    """Low rank and a ``Diagonal``."""
    kind = LowRankPlusScalar if isinstance(noise, ScalarDiagonal) else LowRankPlusDiagonal
    return kind(factor, *noise.parameters)


def _noise(cov):
    """The ``Diagonal`` of low rank plus diagonal."""
    kind = ScalarDiagonal if isinstance(cov, LowRankPlusScalar) else Diagonal
    return kind.from_parameters(cov.parameters[1], size=cov.size)


@closes(LowRank, Diagonal)
def _sum_with_diagonal(low_rank, diagonal):
    common_size(low_rank, diagonal)
    return _plus_noise(low_rank.parameters[0], diagonal)


@closes(LowRankPlusDiagonal, Diagonal)
def _sum_with_more_noise(cov, diagonal):
    common_size(cov, diagonal)
    return _plus_noise(cov.parameters[0], closed_sum(_noise(cov), diagonal))


@closes(LowRankPlusDiagonal, LowRank)
def _sum_with_more_factors(cov, low_rank):
    common_size(cov, low_rank)
    return _plus_noise(_side_by_side(cov.parameters[0], low_rank.parameters[0]), _noise(cov))


@closes(LowRankPlusDiagonal, LowRankPlusDiagonal)
def _sum_of_both(left, right):
    common_size(left, right)
    factor = _side_by_side(left.parameters[0], right.parameters[0])
    return _plus_noise(factor, closed_sum(_noise(left), _noise(right)))
