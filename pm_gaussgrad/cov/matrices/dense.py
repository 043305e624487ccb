r"""``Dense``: an arbitrary covariance matrix.

Definition: Sigma = ``matrix``, (n, n), symmetric positive definite. The lower triangle is
read. Storage: n^2. Value: one Cholesky factorisation (xPOTRF, n^3/3 flops) and two
triangular solves a row. Gradient: the inverse from the factor (xPOTRI, 2 n^3/3 flops),
formed only when a gradient is asked for, and one pass over the matrix.

Pullback: matrix_bar = l_bar Sigma^-1 - sum_i q_bar_i alpha_i alpha_i', full and symmetric where
the matrix is; elsewhere the cotangent of the lower triangle, twice this below the diagonal and
zero above. Which of both, the forward kernel finds out before the matrix may be overwritten.

Sources: Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, eq. 5.9;
Giles (2008), Collected matrix derivative results for forward and reverse mode algorithmic
differentiation, sections 2.2 and 2.3.
"""

from functools import reduce
from operator import add

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.matrices.cholesky import Cholesky
from pm_gaussgrad.cov.protocol.arguments import check_square
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.constants import check_matrix, check_symmetric
from pm_gaussgrad.cov.protocol.information import half_gram, whitened
from pm_gaussgrad.cov.protocol.kriging import GivenObserved, color_semidefinite
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.products import standardised_by
from pm_gaussgrad.cov.protocol.scales import finite_dense, product, rescales, times_both
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.sums import closes, common_size, falls_back
from pm_gaussgrad.cov.protocol.triangular import (
    lower_innovations,
    lower_solve,
    lower_times,
    lower_transposed_solve,
    symmetric_direction,
    symmetric_from_lower,
)
from pm_gaussgrad.kernels.definite import constant_cholesky, definite_cholesky
from pm_gaussgrad.kernels.lapack import solve_lower, solve_lower_transposed
from pm_gaussgrad.kernels.substitution import solve_short_rows
from pm_gaussgrad.kernels.symmetric import (
    adjoint_from_factor,
    adjoint_of_short_rows,
    copy_rows,
    is_symmetric,
    log_product,
    rows_dot,
    write_lower,
)
from pm_gaussgrad.ops import inverse_diagonal


def _forward(residual, matrix, factor):
    symmetric = is_symmetric(matrix)
    write_lower(matrix, factor)
    definite_cholesky(factor)
    alpha = copy_rows(residual)
    solve_lower(factor, alpha)
    quad = rows_dot(alpha, alpha)
    solve_lower_transposed(factor, alpha)
    logdet = 2 * log_product(np.diag(factor))
    return quad, logdet, alpha, factor, symmetric


def _pullback(alpha, factor, symmetric, quad_bar, logdet_bar, matrix_bar):
    write_lower(factor, matrix_bar)
    return (adjoint_from_factor(matrix_bar, alpha, -quad_bar, logdet_bar, symmetric),)


def _forward_of_rows(residual, matrix, alpha, factor):
    symmetric = is_symmetric(matrix)
    write_lower(matrix, factor)
    definite_cholesky(factor)
    quad = solve_short_rows(factor, residual, alpha, alpha)
    return quad, 2 * log_product(np.diag(factor)), alpha, factor, symmetric


def _pullback_of_rows(alpha, factor, symmetric, quad_bar, logdet_bar, matrix_bar):
    write_lower(factor, matrix_bar)
    return (adjoint_of_short_rows(matrix_bar, alpha, -quad_bar, logdet_bar, symmetric),)


class Dense(Leaf):
    r"""An arbitrary covariance matrix, :math:`\Sigma` = ``matrix``.

    Parameters
    ----------
    matrix : tensor_like, shape (..., n, n), in units of [y]^2
        Symmetric positive definite. Where it is not symmetric, the lower triangle is read.

    Raises
    ------
    TypeError
        If ``matrix`` has fewer than two dimensions or is not real.
    ValueError
        If ``matrix`` is not square, or a constant is not symmetric.

    Notes
    -----
    Cost of value and gradient: n^3 flops, three n x n matrices. A constant matrix is factored
    once, when the graph is compiled, and an evaluation costs O(n^2).

    The pullback is
    :math:`\bar\Sigma = \bar l\,\Sigma^{-1} - \sum_i \bar q_i\,\alpha_i \alpha_i^\top`, full and
    symmetric, the entries regarded as independent. Where ``matrix`` is not symmetric, it stands
    for the symmetric matrix of its lower triangle, and the gradient is that of the lower
    triangle: twice the above below the diagonal, zero above it. Both give parameters of a
    symmetric matrix the same gradient. Symmetric is what is so up to rounding, with
    :math:`|\Sigma_{ij} - \Sigma_{ji}| \le 4 n \varepsilon \sqrt{\Sigma_{ii} \Sigma_{jj}}`.

    A matrix that is not positive definite, or singular up to rounding, gives a log density of
    -inf: one whose smallest eigenvalue, scaled to unit diagonal, is below about
    :math:`(1 + \sqrt n)\,\varepsilon`.

    References
    ----------
    Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian Processes for Machine Learning,
    eq. 5.9.

    Examples
    --------
    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> cov = gg.cov.Dense(np.array([[2.0, 0.5], [0.5, 1.0]]))
    >>> round(float(cov.logp(np.array([1.0, -1.0])).eval()), 6)
    -3.260542
    """

    how = "Cholesky factorisation, n^3"
    parameter_shapes = {"matrix": "n n"}
    saved_shapes = {"factor": "n n", "symmetric": ""}
    forward = staticmethod(_forward)
    pullback = staticmethod(_pullback)
    overwrites = {"factor": "matrix", "matrix_bar": "factor"}

    def __init__(self, matrix):
        matrix = as_parameter("gg.cov.Dense", "matrix", matrix, 2)
        check_square("gg.cov.Dense", "matrix", matrix)
        check_symmetric("gg.cov.Dense", "matrix", matrix)
        self.parameters = (matrix,)

    def check_constants(self, n=None):
        check_matrix(self.label, "matrix", self.parameters[0], constant_cholesky)

    def to_dense(self):
        return symmetric_from_lower(self.parameters[0])

    def _factor(self):
        return pt.linalg.cholesky(self.to_dense(), lower=True)

    def color(self, z):
        return lower_times(self._factor(), z)

    def draw_semidefinite(self, z):
        return color_semidefinite(self.to_dense(), z)

    def whiten(self, residual):
        return lower_solve(self._factor(), residual)

    def diagonal(self):
        return pt.diagonal(self.parameters[0], axis1=-2, axis2=-1)

    def inverse_diagonal(self):
        return inverse_diagonal(self._factor())

    def leave_one_out(self, residual):
        factor = self._factor()  # one for both
        alpha = lower_transposed_solve(factor, lower_solve(factor, residual))
        return standardised_by(alpha, inverse_diagonal(factor))

    def innovations(self, residual):
        return lower_innovations(self._factor(), residual)

    def keep(self, observed):
        return Dense(_block(self.parameters[0], observed, observed))

    def conditional(self, missing):
        matrix = self.to_dense()
        n = matrix.type.shape[-1]
        if n is None:
            return None
        observed = np.setdiff1d(np.arange(n), missing)
        return GivenObserved(
            self.keep(observed),
            _block(matrix, observed, missing),
            _block(matrix, missing, missing),
            observed,
            missing,
        )

    def scaled(self, factor):
        return Dense(product(factor, self.parameters[0]))

    @staticmethod
    def constant_form(matrix):
        return Cholesky, (constant_cholesky(matrix),)

    @staticmethod
    def forward_jax(residual, matrix):
        import jax.numpy as jnp
        from jax.scipy.linalg import solve_triangular

        from pm_gaussgrad.kernels.symmetric_jax import definite_cholesky, is_symmetric

        factor = definite_cholesky(matrix)
        white = solve_triangular(factor, residual.T, lower=True)
        alpha = solve_triangular(factor, white, lower=True, trans=1).T
        logdet = 2 * jnp.log(jnp.diag(factor)).sum()
        return (white**2).sum(axis=0), logdet, alpha, factor, is_symmetric(matrix)

    @staticmethod
    def pullback_jax(alpha, factor, symmetric, quad_bar, logdet_bar):
        import jax.numpy as jnp
        from jax.scipy.linalg import cho_solve

        from pm_gaussgrad.kernels.symmetric_jax import symmetric_cotangent

        inverse = cho_solve((factor, True), jnp.eye(factor.shape[0], dtype=factor.dtype))
        bar = logdet_bar * inverse - (alpha * quad_bar[:, None]).T @ alpha
        return (symmetric_cotangent(bar, symmetric),)

    def information(self, tangents):
        tangent = symmetric_direction(self.parameters[0], tangents[0])
        return half_gram(whitened(self._factor(), tangent))


def _block(matrix, rows, columns):
    """Rows and columns of matrices: (..., n, n) -> (..., r, c).

    One after the other: PyTensor takes both at once out of an outer product of batches wrongly.
    """
    return matrix[..., rows, :][..., columns]


@rescales(Dense)
def _rescaled(cov, scale):
    [matrix] = cov.parameters
    if isinstance(matrix, Constant) and not isinstance(scale, Constant):
        return None  # it stays factored
    return Dense(times_both(matrix, scale))


class DenseOfRows(Dense):
    """``Dense`` of many rows of few entries: in strips, with nothing of their size but alpha."""

    label = Dense.label
    of_short_rows = None
    overwrites = {**Dense.overwrites, "alpha": "residual"}
    forward = staticmethod(_forward_of_rows)
    pullback = staticmethod(_pullback_of_rows)


Dense.of_short_rows = DenseOfRows


# Its entries are the parameter's.
finite_dense.register(Dense, Dense.to_dense)


@closes(Dense, Dense)
def _sum(left, right):
    return Dense(left.parameters[0] + right.parameters[0])


@falls_back(30, partner="gg.cov.Dense")
def _with_others(summands):
    """n^3 is paid already, so that all of them are made dense."""
    if not any(isinstance(cov, Dense) for cov in summands):
        return None
    n = common_size(*summands)
    return Dense(reduce(add, (finite_dense(of_size(cov, n)) for cov in summands)))
