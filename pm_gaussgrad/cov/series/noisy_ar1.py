r"""``AR1 + Diagonal(scalar)``: an autoregression of order one at equal steps, and noise.

Definition: Sigma_ij = v rho^|i-j| + s [i = j]. Storage: three numbers. Value and gradient: O(n) a
row, by the filter and the reverse sweep of :mod:`pm_gaussgrad.kernels.first_order`, at the times
0, 1, ..., n - 1; like ``AR1`` it may leave open what n is.

Sources: as of :mod:`pm_gaussgrad.kernels.first_order`.
"""

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.matrices.diagonal import Diagonal, ScalarDiagonal
from pm_gaussgrad.cov.protocol.leaf import ScalarLeaf
from pm_gaussgrad.cov.protocol.products import rows_of_diagonal
from pm_gaussgrad.cov.protocol.scales import product
from pm_gaussgrad.cov.protocol.sums import closes, common_size
from pm_gaussgrad.cov.series.ar1 import AR1
from pm_gaussgrad.cov.series.irregular_ar1 import IrregularAR1, filter_information
from pm_gaussgrad.kernels import first_order as kernels
from pm_gaussgrad.ops import transform_rows


def _series(n, variance, correlation, noise):
    """The arguments of the kernels: times, parameters as arrays, order, and where it ends."""
    order = np.arange(n)
    values = np.empty((3, 1), np.asarray(variance).dtype)
    values[0, 0], values[1, 0], values[2, 0] = variance, correlation, noise
    times = order.astype(values.dtype)
    return times, values[0], values[1], values[2], order, np.full(1, n)


def _forward(residual, variance, correlation, noise):
    return kernels.forward(residual, *_series(residual.shape[1], variance, correlation, noise))


def _pullback(
    residual, variance, correlation, noise, innovation, through_mean, track, quad_bar, logdet_bar
):
    _, v, rho, s, order, ends = _series(residual.shape[1], variance, correlation, noise)
    bars = kernels.pullback(
        residual, v, rho, s, order, ends, innovation, through_mean, track, quad_bar, logdet_bar
    )
    return bars[0][0], bars[1][0], bars[2][0]


def _whiten(rows, variance, correlation, noise):
    return kernels.whiten(rows, *_series(rows.shape[1], variance, correlation, noise))


def _color(rows, variance, correlation, noise):
    return kernels.color(rows, *_series(rows.shape[1], variance, correlation, noise))


def _log_scales(rows, variance, correlation, noise):
    return kernels.log_scales(rows, *_series(rows.shape[1], variance, correlation, noise))


def _inverse_diagonal(rows, variance, correlation, noise):
    return kernels.inverse_diagonal(rows, *_series(rows.shape[1], variance, correlation, noise))


def _states(rows, variance, correlation, noise):
    return kernels.states(rows, *_series(rows.shape[1], variance, correlation, noise))


class NoisyAR1(ScalarLeaf):
    """``AR1 + Diagonal(scalar)``, of any number of observations.

    Parameters are the variance and the correlation of the process, and the variance of the noise.
    """

    how = "Kalman filter and its reverse sweep, n"
    label = "gg.cov.AR1 + gg.cov.Diagonal"
    summand = "gg.cov.AR1"
    parameter_shapes = {"variance": "", "correlation": "", "noise": ""}
    saved_shapes = {"innovation": "m n", "through_mean": "m n", "track": "6 n"}
    forward = staticmethod(_forward)
    pullback = staticmethod(_pullback)
    row_transforms = IrregularAR1.row_transforms
    whiten_kernel = staticmethod(_whiten)
    color_kernel = staticmethod(_color)
    log_scales_kernel = staticmethod(_log_scales)
    inverse_diagonal_kernel = staticmethod(_inverse_diagonal)
    states_kernel = staticmethod(_states)

    def _parts(self):
        variance, correlation, noise = self.parameters
        n = self.known_size()
        return AR1.from_parameters(variance, correlation, size=n), noise[..., None]

    def diagonal(self):
        series, noise = self._parts()
        return series.diagonal() + noise

    def to_dense(self):
        series, noise = self._parts()
        process = series.to_dense()
        return process + noise[..., None] * pt.eye(self.size, dtype=process.dtype)

    def rows(self, positions):
        series, noise = self._parts()
        return series.rows(positions) + rows_of_diagonal(positions, noise, self.size)

    def times(self, rows):
        series, noise = self._parts()
        return series.times(rows) + noise * rows

    def inverse_diagonal(self):
        return transform_rows(self, "inverse_diagonal", pt.zeros_like(self.diagonal()))

    def innovations(self, residual):
        white = self.whiten(residual)
        return white, transform_rows(self, "log_scales", pt.zeros_like(white))

    def keep(self, observed):
        return self._at(observed)

    def rows_apart(self, observed):
        variance, correlation, noise = self.parameters
        where = np.nonzero(observed)
        return IrregularAR1.of_rows(variance, correlation, *where, len(observed), noise[..., None])

    def grouped_by(self):
        return IrregularAR1

    def by_group(self, size):
        """As of ``IrregularAR1``."""
        return *self.parameters, np.arange(size, dtype="float64"), np.zeros(size, "int64"), 1

    def _at(self, times):
        variance, correlation, noise = self.parameters
        return IrregularAR1.regular(variance, correlation, times, noise[..., None])

    @property
    def summands(self):
        """What it is the sum of, which others may be added to each of."""
        variance, correlation, noise = self.parameters
        series = AR1.from_parameters(variance, correlation, size=self.size)
        return series, ScalarDiagonal.from_parameters(noise, size=self.size)

    def scaled(self, factor):
        variance, correlation, noise = self.parameters
        return NoisyAR1.from_parameters(
            product(factor, variance), correlation, product(factor, noise), size=self.size
        )

    def information(self, tangents):
        directions = (tangent[:, None] for tangent in tangents)
        return filter_information(self, self.parameters[0], *directions)

    @staticmethod
    def forward_jax(residual, variance, correlation, noise):
        import jax.numpy as jnp

        from pm_gaussgrad.kernels import first_order_jax

        values = (jnp.asarray(x)[None] for x in (variance, correlation, noise))
        order = np.arange(residual.shape[1])
        times = order.astype(residual.dtype)
        return first_order_jax.forward(
            residual, times, *values, np.zeros_like(order), order, np.array([order.size])
        )

    @staticmethod
    def pullback_jax(
        residual,
        variance,
        correlation,
        noise,
        innovation,
        through_mean,
        track,
        quad_bar,
        logdet_bar,
    ):
        import jax.numpy as jnp

        from pm_gaussgrad.kernels import first_order_jax

        values = (jnp.asarray(x)[None] for x in (variance, correlation, noise))
        saved = innovation, through_mean, track, quad_bar, logdet_bar
        order = np.arange(residual.shape[1])
        bars = first_order_jax.pullback(residual, *values, np.zeros_like(order), order, *saved)
        return tuple(bar[0] for bar in bars)


@closes(AR1, ScalarDiagonal)
def _sum(series, noise):
    size = common_size(series, noise)
    return NoisyAR1.from_parameters(*series.parameters, *noise.parameters, size=size)


@closes(AR1, Diagonal)
def _sum_with_vector(series, noise):
    return _one_by_one(series, noise, *series.parameters) + noise


@closes(NoisyAR1, ScalarDiagonal)
def _sum_of_noise(series, noise):
    variance, correlation, own = series.parameters
    size = common_size(series, noise)
    return NoisyAR1.from_parameters(variance, correlation, own + noise.parameters[0], size=size)


@closes(NoisyAR1, Diagonal)
def _sum_of_noise_and_vector(series, noise):
    variance, correlation, own = series.parameters
    return _one_by_one(series, noise, variance, correlation, own[..., None]) + noise


def _one_by_one(series, noise, variance, correlation, own=None):
    """The series at 0, 1, ..., as many as the variances of the noise, known or not."""
    size, [variances] = common_size(series, noise), noise.parameters
    if isinstance(size, int):
        return IrregularAR1.regular(variance, correlation, np.arange(size), own)
    # JAX has no `arange` of a symbolic length.
    ones = pt.ones_like(variances[(0,) * (variances.type.ndim - 1)], dtype="int64")
    group, order, ends = ones - 1, pt.cumsum(ones) - 1, ones.sum(keepdims=True)
    own = pt.zeros(1, dtype=variance.dtype) if own is None else own
    values = order.astype("float64"), variance[..., None], correlation[..., None], own
    return IrregularAR1.from_parameters(*values, group, order, ends)
