r"""``Cholesky``: a covariance given by its lower Cholesky factor.

Definition: Sigma = L L', L = ``chol`` (n, n) lower triangular. The strict upper triangle is
not read. Storage: n^2. Value: two triangular solves a row, n^2 flops each. Gradient: one
more outer product a row; that of the log determinant touches the diagonal only.

Pullback: with w = L^-1 r, hence alpha = L'^-1 w, d quad / d L = -2 alpha w', so

    chol_bar = lower triangle of ( -2 sum_i q_bar_i alpha_i w_i' ) + 2 l_bar diag(1 / L_jj).

Sources: Murray (2016), Differentiation of the Cholesky decomposition, arXiv:1602.07527,
section 3; Stan Development Team, Stan Functions Reference, multi_normal_cholesky.
"""

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.arguments import check_square
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.constants import check_factor, check_lower
from pm_gaussgrad.cov.protocol.information import half_gram, solve_stack
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.products import matmul, rows_times
from pm_gaussgrad.cov.protocol.scales import positive_root, product
from pm_gaussgrad.cov.protocol.triangular import (
    lower_innovations,
    lower_solve,
    lower_times,
    squared_row_norms,
)
from pm_gaussgrad.kernels.lapack import solve_lower, solve_lower_transposed
from pm_gaussgrad.kernels.substitution import SHORT, solve_short_rows
from pm_gaussgrad.kernels.symmetric import (
    log_product,
    rows_dot,
    weighted_gram,
    weighted_product,
    write_rows,
)
from pm_gaussgrad.ops import inverse_diagonal


def _is_finite(factor):
    """Whether all entries of the lower triangle are finite."""
    for i in range(factor.shape[0]):
        for j in range(i + 1):
            if not np.isfinite(factor[i, j]):
                return False
    return True


def _forward(residual, chol, white):
    alpha = np.empty(residual.shape, residual.dtype)
    if residual.shape[0] > 1 and residual.shape[1] <= SHORT:
        quad = solve_short_rows(chol, residual, white, alpha)
    else:
        write_rows(residual, white)
        solve_lower(chol, white)
        quad = rows_dot(white, white)
        write_rows(white, alpha)
        solve_lower_transposed(chol, alpha)
    return quad, _logdet(chol, quad), alpha, white


def _logdet(chol, quad):
    # Looked for where a row shows it: a large residual overflows in its own row only.
    if not (quad.size and np.isfinite(quad).all()) and not _is_finite(chol):
        return np.nan
    return 2 * log_product(np.abs(np.diag(chol)))


def _pullback(chol, alpha, white, quad_bar, logdet_bar):
    n = chol.shape[0]
    if alpha.shape[0] == 1:
        chol_bar = np.empty((n, n), chol.dtype)
        for i in range(n):
            weighted = -2 * quad_bar[0] * alpha[0, i]
            for j in range(i + 1):
                chol_bar[i, j] = weighted * white[0, j]
            chol_bar[i, i + 1 :] = 0
    else:
        chol_bar = weighted_product(alpha, white, -2 * quad_bar)
        for i in range(n):
            chol_bar[i, i + 1 :] = 0
    for i in range(n):
        chol_bar[i, i] += 2 * logdet_bar / chol[i, i]
    return (chol_bar,)


def _forward_of_rows(residual, chol, alpha):
    quad = solve_short_rows(chol, residual, alpha, alpha)
    return quad, _logdet(chol, quad), alpha


def _pullback_of_rows(chol, alpha, quad_bar, logdet_bar):
    n = chol.shape[0]
    lower, chol_bar = weighted_gram(alpha, -2 * quad_bar), np.zeros((n, n), chol.dtype)
    for i in range(n):
        for j in range(i + 1):
            for k in range(j, n):
                chol_bar[i, j] += lower[max(i, k), min(i, k)] * chol[k, j]
        chol_bar[i, i] += 2 * logdet_bar / chol[i, i]
    return (chol_bar,)


class Cholesky(Leaf):
    r"""A covariance given by its lower Cholesky factor, :math:`\Sigma = L L^\top`.

    Parameters
    ----------
    chol : tensor_like, shape (..., n, n), in units of [y]
        Lower triangular factor L with a non-zero diagonal. The strict upper triangle is not
        read and has a zero gradient.

    Raises
    ------
    TypeError
        If ``chol`` has fewer than two dimensions or is not real.
    ValueError
        If ``chol`` is not square, or a constant is not lower triangular.

    Notes
    -----
    Cost of value and gradient: O(n^2) a row. The pullback, with w = L^-1 r, is
    :math:`\bar L = \operatorname{tril}(-2\sum_i \bar q_i \alpha_i w_i^\top)
    + 2\bar l \operatorname{diag}(1/L_{jj})`.

    References
    ----------
    Murray, I. (2016). Differentiation of the Cholesky decomposition, arXiv:1602.07527, sec. 3.

    Examples
    --------
    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> cov = gg.cov.Cholesky(np.array([[1.0, 0.0], [0.5, 1.0]]))
    >>> round(float(cov.logdet().eval()), 6)
    0.0
    """

    how = "triangular solves, n^2"
    parameter_shapes = {"chol": "n n"}
    saved_shapes = {"white": "m n"}
    overwrites = {"white": "residual"}
    forward = staticmethod(_forward)
    pullback = staticmethod(_pullback)

    def __init__(self, chol):
        chol = as_parameter("gg.cov.Cholesky", "chol", chol, 2)
        check_square("gg.cov.Cholesky", "chol", chol)
        check_lower("gg.cov.Cholesky", "chol", chol)
        self.parameters = (chol,)

    def check_constants(self, n=None):
        check_factor(self.label, "chol", self.parameters[0])

    def _factor(self):
        return pt.tril(self.parameters[0])

    def to_dense(self):
        factor = self._factor()
        return matmul(factor, factor.mT)

    def color(self, z):
        return lower_times(self._factor(), z)

    def whiten(self, residual):
        return lower_solve(self.parameters[0], residual)

    def times(self, rows):
        factor = self._factor()
        return lower_times(factor, rows_times(pt.as_tensor_variable(rows), factor))

    def diagonal(self):
        return squared_row_norms(self._factor())

    def inverse_diagonal(self):
        return inverse_diagonal(self.parameters[0])

    def innovations(self, residual):
        return lower_innovations(self.parameters[0], residual)

    def scaled(self, factor):
        return Cholesky(product(positive_root(factor), self.parameters[0]))

    @staticmethod
    def forward_jax(residual, chol):
        import jax.numpy as jnp
        from jax.scipy.linalg import solve_triangular

        white = solve_triangular(chol, residual.T, lower=True)
        alpha = solve_triangular(chol, white, lower=True, trans=1).T
        quad = (white**2).sum(axis=0)
        logdet = 2 * jnp.log(jnp.abs(jnp.diag(chol))).sum()
        finite = jnp.isfinite(jnp.tril(chol)).all()
        return quad, jnp.where(finite, logdet, jnp.nan), alpha, white.T

    @staticmethod
    def pullback_jax(chol, alpha, white, quad_bar, logdet_bar):
        import jax.numpy as jnp

        through_quad = jnp.tril((alpha * (-2 * quad_bar)[:, None]).T @ white)
        return (through_quad + jnp.diag(2 * logdet_bar / jnp.diag(chol)),)

    def information(self, tangents):
        factor = pt.tril(self.parameters[0])
        half = solve_stack(factor, pt.tril(tangents[0]))
        return half_gram(half + half.mT)


class CholeskyOfRows(Cholesky):
    r"""``Cholesky`` of many rows of few entries, which saves nothing of the size of the data.

    With G = -2 sum_i q_bar_i alpha_i alpha_i' the cotangent is the lower triangle of G L, as
    w = L' alpha: an array (m, n) less, which is what such rows cost. Where L is nearly singular
    this loses the digits by which w is smaller than alpha, in units of L.
    """

    label = Cholesky.label
    of_short_rows = None
    saved_shapes = {}
    overwrites = {"alpha": "residual"}
    forward = staticmethod(_forward_of_rows)
    pullback = staticmethod(_pullback_of_rows)

    @staticmethod
    def forward_jax(residual, chol):
        return Cholesky.forward_jax(residual, chol)[:3]

    @staticmethod
    def pullback_jax(chol, alpha, quad_bar, logdet_bar):
        import jax.numpy as jnp

        gram = (alpha * (-2 * quad_bar)[:, None]).T @ alpha
        return (jnp.tril(gram @ jnp.tril(chol)) + jnp.diag(2 * logdet_bar / jnp.diag(chol)),)


Cholesky.of_short_rows = CholeskyOfRows
