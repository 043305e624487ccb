r"""``Precision``: a covariance given by its inverse.

Definition: Sigma = Q^-1, Q = ``matrix`` (n, n), symmetric positive definite. The lower
triangle is read. Storage: n^2. Value: one Cholesky factorisation of Q, for the log
determinant, and one symmetric product a row. Gradient: Q^-1 from the factor (xPOTRI).

Pullback: quad = r' Q r and logdet = -log|Q|, hence

    matrix_bar = sum_i q_bar_i r_i r_i' - l_bar Q^-1,  full and symmetric,

where Q is; elsewhere the cotangent of the lower triangle, as for ``Dense``.

Sources: Giles (2008), Collected matrix derivative results for forward and reverse mode
algorithmic differentiation, sections 2.2 and 2.3.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.protocol.arguments import check_square
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.constants import check_matrix, check_symmetric
from pm_gaussgrad.cov.protocol.information import half_gram, whitened
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.products import rows_times
from pm_gaussgrad.cov.protocol.scales import inverse_scale, product, rescales, times_both
from pm_gaussgrad.cov.protocol.triangular import (
    lower_solve,
    lower_transposed_solve,
    symmetric_direction,
    symmetric_from_lower,
)
from pm_gaussgrad.kernels.definite import constant_cholesky, definite_cholesky
from pm_gaussgrad.kernels.lapack import symmetric_product
from pm_gaussgrad.kernels.symmetric import (
    adjoint_from_factor,
    adjoint_of_short_rows,
    is_symmetric,
    log_product,
    rows_dot,
    write_lower,
)
from pm_gaussgrad.ops import inverse_diagonal


def _forward(residual, matrix, factor):
    symmetric = is_symmetric(matrix)
    write_lower(matrix, factor)
    alpha = np.empty(residual.shape, residual.dtype)
    symmetric_product(factor, residual, alpha)
    quad = rows_dot(residual, alpha)
    definite_cholesky(factor)
    logdet = -2 * log_product(np.diag(factor))
    return quad, logdet, alpha, factor, symmetric


def _pullback(residual, factor, symmetric, quad_bar, logdet_bar, matrix_bar):
    write_lower(factor, matrix_bar)
    return (adjoint_from_factor(matrix_bar, residual, quad_bar, -logdet_bar, symmetric),)


def _pullback_of_rows(residual, factor, symmetric, quad_bar, logdet_bar, matrix_bar):
    write_lower(factor, matrix_bar)
    return (adjoint_of_short_rows(matrix_bar, residual, quad_bar, -logdet_bar, symmetric),)


def _constant_forward(residual, matrix, logdet):
    alpha = np.empty(residual.shape, residual.dtype)
    symmetric_product(matrix, residual, alpha)
    return rows_dot(residual, alpha), -logdet, alpha


class ConstantPrecision(Leaf):
    """A constant precision matrix and its log determinant: a constant ``Precision``, folded."""

    parameter_shapes = {"matrix": "n n", "logdet": ""}
    constant_parameters = frozenset(parameter_shapes)
    forward = staticmethod(_constant_forward)

    @staticmethod
    def forward_jax(residual, matrix, logdet):
        import jax.numpy as jnp

        alpha = residual @ (jnp.tril(matrix) + jnp.tril(matrix, -1).T)
        return (residual * alpha).sum(axis=1), -logdet, alpha


class Precision(Leaf):
    r"""A covariance given by its inverse, :math:`\Sigma = Q^{-1}`.

    Parameters
    ----------
    matrix : tensor_like, shape (..., n, n), in units of [y]^-2
        Precision matrix Q, symmetric positive definite. Where it is not symmetric, the lower
        triangle is read.

    Raises
    ------
    TypeError
        If ``matrix`` has fewer than two dimensions or is not real.
    ValueError
        If ``matrix`` is not square, or a constant is not symmetric.

    Notes
    -----
    Cost of value and gradient: n^3 flops; a row adds n^2. A constant matrix is factored once,
    when the graph is compiled. The pullback is
    :math:`\bar Q = \sum_i \bar q_i\, r_i r_i^\top - \bar l\, Q^{-1}`, full and symmetric, with
    the entries of Q regarded as independent; where Q is not symmetric, the gradient of its lower
    triangle, as for ``Dense``. A Q that is singular up to rounding, as the precision of an
    intrinsic autoregression, gives a log density of -inf.

    References
    ----------
    Giles, M. B. (2008). Collected matrix derivative results for forward and reverse mode
    algorithmic differentiation, sections 2.2 and 2.3.

    Examples
    --------
    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> cov = gg.cov.Precision(np.diag([4.0, 0.25]))
    >>> cov.inverse_diagonal().eval()
    array([4.  , 0.25])
    """

    how = "Cholesky factorisation of the precision matrix, n^3"
    parameter_shapes = {"matrix": "n n"}
    saved_shapes = {"factor": "n n", "symmetric": ""}
    submatrices_up_to = 0  # its own entries are those of the inverse
    forward = staticmethod(_forward)
    pullback = staticmethod(_pullback)
    overwrites = {"factor": "matrix", "matrix_bar": "factor"}

    def __init__(self, matrix):
        matrix = as_parameter("gg.cov.Precision", "matrix", matrix, 2)
        check_square("gg.cov.Precision", "matrix", matrix)
        check_symmetric("gg.cov.Precision", "matrix", matrix)
        self.parameters = (matrix,)

    def check_constants(self, n=None):
        check_matrix(self.label, "matrix", self.parameters[0], constant_cholesky)

    def _symmetric(self):
        return symmetric_from_lower(self.parameters[0])

    def _factor(self):
        return pt.linalg.cholesky(self._symmetric(), lower=True)

    def to_dense(self):
        return pt.linalg.inv(self._symmetric())

    def color(self, z):
        # Sigma = L'^-1 L^-1 for Q = L L', so S = L'^-1.
        return lower_transposed_solve(self._factor(), z)

    def whiten(self, residual):
        factor, residual = self._factor(), pt.as_tensor_variable(residual)
        if factor.type.ndim == 2:
            return rows_times(residual, factor)
        return (factor.mT @ residual[..., None])[..., 0]

    def times(self, rows):
        factor = self._factor()
        return lower_transposed_solve(factor, lower_solve(factor, rows))

    def diagonal(self):
        return inverse_diagonal(self._factor())

    def inverse_diagonal(self):
        return pt.diagonal(self.parameters[0], axis1=-2, axis2=-1)

    def innovations(self, residual):
        # Backwards the factor of Q is that of its upper triangular counterpart U: Q = U U'.
        backwards = self._symmetric()[..., ::-1, ::-1]
        factor = pt.linalg.cholesky(backwards, lower=True)[..., ::-1, ::-1]
        residual = pt.as_tensor_variable(residual)
        white = rows_times(residual, factor)
        log_scale = -pt.log(pt.diagonal(factor, axis1=-2, axis2=-1))
        return white, log_scale + pt.zeros_like(white)

    def scaled(self, factor):
        return Precision(product(inverse_scale(factor), self.parameters[0]))

    @staticmethod
    def constant_form(matrix):
        diagonal = np.diagonal(constant_cholesky(matrix), axis1=-2, axis2=-1)
        return ConstantPrecision, (matrix, 2 * np.log(diagonal).sum(axis=-1))

    @staticmethod
    def forward_jax(residual, matrix):
        import jax.numpy as jnp

        from pm_gaussgrad.kernels.symmetric_jax import definite_cholesky, is_symmetric

        symmetric = jnp.tril(matrix) + jnp.tril(matrix, -1).T
        alpha = residual @ symmetric
        factor = definite_cholesky(matrix)
        logdet = -2 * jnp.log(jnp.diag(factor)).sum()
        return (residual * alpha).sum(axis=1), logdet, alpha, factor, is_symmetric(matrix)

    @staticmethod
    def pullback_jax(residual, factor, symmetric, quad_bar, logdet_bar):
        import jax.numpy as jnp
        from jax.scipy.linalg import cho_solve

        from pm_gaussgrad.kernels.symmetric_jax import symmetric_cotangent

        inverse = cho_solve((factor, True), jnp.eye(factor.shape[0], dtype=factor.dtype))
        bar = (residual * quad_bar[:, None]).T @ residual - logdet_bar * inverse
        return (symmetric_cotangent(bar, symmetric),)

    def information(self, tangents):
        # d log|Q^-1| turns a sign, which the square of W forgets.
        tangent = symmetric_direction(self.parameters[0], tangents[0])
        return half_gram(whitened(self._factor(), tangent))


@rescales(Precision)
def _rescaled(cov, scale):
    [matrix] = cov.parameters
    if isinstance(matrix, Constant) and not isinstance(scale, Constant):
        return None  # it stays factored
    return Precision(times_both(matrix, inverse_scale(scale)))


class PrecisionOfRows(Precision):
    """``Precision`` of many rows of few entries."""

    label = Precision.label
    of_short_rows = None
    pullback = staticmethod(_pullback_of_rows)


Precision.of_short_rows = PrecisionOfRows
