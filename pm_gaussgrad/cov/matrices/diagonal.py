r"""``Diagonal``: independent observations.

Definition: Sigma = diag(v), v = ``variance`` of shape (n,), or v I for a scalar v. Storage:
n, or one number. Value and gradient: O(n) a row.

Pullback: variance_bar_j = l_bar / v_j - sum_i q_bar_i alpha_ij^2, summed over j for a scalar.

Sources: the scalar case of Rasmussen and Williams (2006), eq. 5.9.
"""

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.arguments import as_size
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.constants import check_positive, check_variance
from pm_gaussgrad.cov.protocol.information import half_gram
from pm_gaussgrad.cov.protocol.leaf import Leaf, ScalarLeaf
from pm_gaussgrad.cov.protocol.products import rows_of_diagonal
from pm_gaussgrad.cov.protocol.scales import inverse_scale, product, rescales, times_scale
from pm_gaussgrad.cov.protocol.sized import as_known_size
from pm_gaussgrad.cov.protocol.sums import closes, common_size
from pm_gaussgrad.kernels.symmetric import log_product, rows_dot
from pm_gaussgrad.ops.stacking import side_by_side


def _forward(residual, variance):
    rows = np.ascontiguousarray(residual)
    alpha = rows / variance
    return rows_dot(rows, alpha), log_product(variance), alpha


def _pullback(variance, alpha, quad_bar, logdet_bar):
    variance_bar = logdet_bar / np.ascontiguousarray(variance)
    for i in range(alpha.shape[0]):
        for j in range(alpha.shape[1]):
            variance_bar[j] -= quad_bar[i] * alpha[i, j] ** 2
    return (variance_bar,)


def _scalar_forward(residual, variance):
    rows = np.ascontiguousarray(residual)
    alpha = rows / variance
    return rows_dot(rows, alpha), rows.shape[1] * np.log(variance), alpha


def _scalar_pullback(variance, alpha, quad_bar, logdet_bar):
    rows = np.ascontiguousarray(alpha)
    through_quad = (quad_bar * rows_dot(rows, rows)).sum()
    return (logdet_bar * rows.shape[1] / variance - through_quad,)


class Diagonal(Leaf):
    r"""Independent observations, :math:`\Sigma = \operatorname{diag}(v)`.

    Parameters
    ----------
    variance : tensor_like, shape () or (..., n), in units of [y]^2
        Marginal variances; a scalar is one variance common to all observations. An array
        whose last dimension is known to be one, with ``size`` given, is a batch of scalars.
    size : int or scalar tensor, optional
        Number of observations n. Needed with a scalar variance where nothing else says it
        (``to_dense``, ``logdet``, draws without data or shape).

    Raises
    ------
    TypeError
        If ``variance`` is not real.
    ValueError
        If ``size`` contradicts the length of ``variance``, or a constant variance is negative.

    Notes
    -----
    Cost of value and gradient: O(n) a row. The pullback is
    :math:`\bar v_j = \bar l / v_j - \sum_i \bar q_i \alpha_{ij}^2`.

    References
    ----------
    Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian Processes for Machine Learning,
    eq. 5.9.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> gg.cov.Diagonal(0.5, size=2).to_dense().eval()
    array([[0.5, 0. ],
           [0. , 0.5]])
    """

    how = "entry by entry, n"
    summand = "gg.cov.Diagonal(vector)"
    parameter_shapes = {"variance": "n"}
    forward = staticmethod(_forward)
    pullback = staticmethod(_pullback)

    def __new__(cls, variance, size=None):
        variance = as_parameter("gg.cov.Diagonal", "variance", variance, 0)
        check_variance("gg.cov.Diagonal", "variance", variance)
        size = as_size("gg.cov.Diagonal", size)
        scalar = variance.type.ndim == 0 or (size is not None and variance.type.shape[-1] == 1)
        self = object.__new__(ScalarDiagonal if scalar else Diagonal)
        if scalar:
            core = variance if variance.type.ndim == 0 else variance[..., 0]
            self.parameters, self._size = (core,), size
        else:
            static = variance.type.shape[-1]
            if isinstance(size, int) and static is not None and static != size:
                raise ValueError(
                    f"gg.cov.Diagonal: `variance` has length {static}, expected size = {size}."
                )
            self.parameters = (variance,)
        return self

    def check_constants(self, n=None):
        check_positive(self.label, "variance", self.parameters[0])

    def to_dense(self):
        variances = self._variances()
        return variances[..., None] * pt.eye(self.size, dtype=variances.dtype)

    def _variances(self):
        return self.parameters[0]

    def color(self, z):
        return pt.sqrt(self._variances()) * z

    def whiten(self, residual):
        return residual / pt.sqrt(self._variances())

    def times(self, rows):
        return self._variances() * rows

    def diagonal(self):
        return self._variances()

    def inverse_diagonal(self):
        return 1 / self._variances()

    def innovations(self, residual):
        white = self.whiten(pt.as_tensor_variable(residual))
        return white, self._log_variances() / 2 + pt.zeros_like(white)

    def precision_entries(self):
        n = as_known_size(self)
        return inverse_scale(self._variances()), np.arange(n + 1), np.arange(n)

    def _log_variances(self):
        """With a last dimension of n or one."""
        return pt.log(self.parameters[0])

    def keep(self, observed):
        return Diagonal(self.parameters[0][..., observed])

    def rows_apart(self, observed):
        return Diagonal(self.parameters[0][..., np.nonzero(observed)[1]])

    def grouped_by(self):
        return Diagonal

    @staticmethod
    def side_by_side(blocks, sizes):
        """Several, one after the other."""
        return Diagonal.from_parameters(side_by_side([x.parameters[0] for x in blocks], sizes))

    def piece(self, start, stop):
        """The observations from start to stop."""
        return Diagonal.from_parameters(self.parameters[0][..., start:stop])

    def scaled(self, factor):
        return Diagonal(product(factor, self.parameters[0]))

    @staticmethod
    def forward_jax(residual, variance):
        import jax.numpy as jnp

        alpha = residual / variance
        return (residual * alpha).sum(axis=1), jnp.log(variance).sum(), alpha

    @staticmethod
    def pullback_jax(variance, alpha, quad_bar, logdet_bar):
        return (logdet_bar / variance - (quad_bar[:, None] * alpha**2).sum(axis=0),)

    def rows(self, positions):
        return rows_of_diagonal(positions, self.parameters[0], self.size)

    def information(self, tangents):
        return half_gram(tangents[0] / self.parameters[0])


class ScalarDiagonal(ScalarLeaf, Diagonal):
    """``Diagonal`` with one variance for all observations: what ``Diagonal(scalar)`` returns."""

    label = "gg.cov.Diagonal"
    summand = "gg.cov.Diagonal(scalar)"
    parameter_shapes = {"variance": ""}
    forward = staticmethod(_scalar_forward)
    pullback = staticmethod(_scalar_pullback)

    def _variances(self):
        v = self.parameters[0][..., None]
        return pt.broadcast_to(v, (*v.shape[:-1], self.known_size()))

    def color(self, z):
        return pt.sqrt(self.parameters[0])[..., None] * z

    def whiten(self, residual):
        return residual / pt.sqrt(self.parameters[0])[..., None]

    def times(self, rows):
        return self.parameters[0][..., None] * rows

    def _log_variances(self):
        return pt.log(self.parameters[0])[..., None]

    def autocovariances(self):
        # Not by joining a zero vector: its gradient splits, which takes numba seconds.
        return pt.switch(pt.eq(pt.arange(self.known_size()), 0), self._variances(), 0)

    def keep(self, observed):
        return ScalarDiagonal.from_parameters(*self.parameters, size=observed.size)

    def rows_apart(self, observed):
        return ScalarDiagonal.from_parameters(*self.parameters, size=int(observed.sum()))

    def scaled(self, factor):
        return ScalarDiagonal.from_parameters(product(factor, self.parameters[0]), size=self.size)

    @staticmethod
    def forward_jax(residual, variance):
        import jax.numpy as jnp

        alpha = residual / variance
        return (residual * alpha).sum(axis=1), residual.shape[1] * jnp.log(variance), alpha

    @staticmethod
    def pullback_jax(variance, alpha, quad_bar, logdet_bar):
        through_quad = (quad_bar[:, None] * alpha**2).sum()
        return (logdet_bar * alpha.shape[1] / variance - through_quad,)

    def rows(self, positions):
        return rows_of_diagonal(positions, self.parameters[0], self.size)

    def information(self, tangents):
        return self._count() * half_gram(tangents[0] / self.parameters[0])


@rescales(Diagonal)
def _rescaled(cov, scale):
    return Diagonal(times_scale(times_scale(cov.parameters[0], scale), scale))


@rescales(ScalarDiagonal)
def _rescaled_scalar(cov, scale):
    return Diagonal(times_scale(times_scale(cov.parameters[0][..., None], scale), scale))


@closes(Diagonal, Diagonal)
def _sum(left, right):
    common_size(left, right)
    return Diagonal(left.parameters[0] + right.parameters[0])


@closes(Diagonal, ScalarDiagonal)
def _sum_with_scalar(left, right):
    common_size(left, right)
    return Diagonal(left.parameters[0] + right.parameters[0][..., None])


@closes(ScalarDiagonal, ScalarDiagonal)
def _sum_of_scalars(left, right):
    size = common_size(left, right)
    return ScalarDiagonal.from_parameters(left.parameters[0] + right.parameters[0], size=size)
