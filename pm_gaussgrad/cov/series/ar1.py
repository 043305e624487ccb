r"""``AR1``: a stationary autoregression of order one.

At equal time steps; ``time=`` and ``group=`` make a
:class:`~pm_gaussgrad.cov.series.irregular_ar1.IrregularAR1`, and so does independent noise.

Definition: Sigma_ij = v rho^|i-j|, with the marginal variance v and the correlation rho of
neighbours, |rho| < 1. Storage: two numbers. Value and gradient: O(n) a row.

The innovations e_t = r_t - rho r_{t-1} are independent with variance v s, s = 1 - rho^2, and
the first observation has variance v. Hence, with the innovations backwards in time
b_t = r_{t-1} - rho r_t,

    quad = (r_1^2 + sum_t e_t^2 / s) / v,    logdet = n log v + (n - 1) log s,
    alpha_1 = b_2 / (v s),  alpha_t = (e_t - rho e_{t+1}) / (v s),  alpha_n = e_n / (v s).

Pullback: d quad / d rho = -2 sum_t e_t b_t / (v s^2), a sum without differences of large terms,

    v_bar = (n l_bar - sum_i q_bar_i quad_i) / v,
    rho_bar = sum_i q_bar_i d quad_i / d rho - 2 (n - 1) rho l_bar / s.

Near rho = 1 and rho = -1, s = (1 - |rho|)(1 + |rho|), and innovations are the changes
r_t - r_{t-1} (sums, for a negative rho) and a correction: both keep full precision.

Sources: Brockwell and Davis (1991), Time Series: Theory and Methods, 2nd ed., section 8.7
(the likelihood from innovations); Siddiqui (1958), On the inversion of the sample covariance
matrix in a stationary autoregressive process, Ann. Math. Statist. 29, 585-588 (the inverse).
"""

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.arguments import as_size
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.constants import check_positive, check_variance, check_within
from pm_gaussgrad.cov.protocol.information import gram, half_gram
from pm_gaussgrad.cov.protocol.leaf import ScalarLeaf
from pm_gaussgrad.cov.protocol.scales import as_positive, nan_unless, product
from pm_gaussgrad.cov.protocol.sized import as_known_size
from pm_gaussgrad.cov.series.both_ways import both_ways
from pm_gaussgrad.cov.series.irregular_ar1 import IrregularAR1
from pm_gaussgrad.cov.series.regular_ar1 import RegularAR1
from pm_gaussgrad.cov.series.spaced_ar1 import SpacedAR1, whole_power
from pm_gaussgrad.kernels.regular_series import (
    log_determinant,
    log_determinant_slope,
    solve_series,
)
from pm_gaussgrad.ops import join_dims, linear_recurrence


def _forward(residual, variance, correlation):
    m, n = residual.shape
    quad = np.zeros(m, residual.dtype)
    slope = np.zeros(m, residual.dtype)
    alpha = np.empty((m, n), residual.dtype)
    for i in range(m):
        quad[i], slope[i] = solve_series(residual[i], 0, n, alpha[i], variance, correlation)
    return quad, log_determinant(n, variance, correlation), alpha, quad.copy(), slope


def _pullback(variance, correlation, alpha, norm, slope, quad_bar, logdet_bar):
    m, n = alpha.shape
    variance_bar = n * logdet_bar
    correlation_bar = log_determinant_slope(n, correlation) * logdet_bar
    for i in range(m):
        variance_bar -= quad_bar[i] * norm[i]
        correlation_bar += quad_bar[i] * slope[i]
    return variance_bar / variance, correlation_bar


class AR1(ScalarLeaf):
    r"""A stationary autoregression, :math:`\Sigma_{ij} = v \rho^{|t_i-t_j|}`.

    By default a single series at the times :math:`t_i = i`; with ``time`` at any times (the
    continuous-time AR(1), corCAR1), with ``group`` an independent series in each group.

    Parameters
    ----------
    variance : tensor_like, shape () or (...), in units of [y]^2
        Marginal variance v, common to all observations; with ``group`` also (..., g), one of each.
        With the standard deviation :math:`\sigma` of the innovations,
        :math:`v = \sigma^2 / (1 - \rho^2)`.
    correlation : tensor_like, shape () or (...), in units of 1
        Correlation :math:`\rho` at a distance of 1 in time, between -1 and 1; with ``group`` also
        (..., g). Negative values alternate, and are for times that are whole numbers apart.
    size : int or scalar tensor, optional
        Number of observations n. Needed where nothing else says it (``to_dense``, ``logdet``,
        draws without data or shape, a block of another structure, a sum with noise).
    time : array_like, shape (n), in units of the distance that ``correlation`` is for, optional
        Constant: when each observation was made, in any order. By default those of a group follow
        one another in the order of the table, at equal steps of 1.
    group : array_like, shape (n), in units of labels, optional
        Constant: whose series each observation belongs to. Where groups have parameters of their
        own, the number of the group, 0 to g - 1.

    Raises
    ------
    TypeError
        If an argument is not real, or an index is symbolic.
    ValueError
        If a constant variance is negative or a constant correlation is not in -1 to 1; if a time or
        a label is missing, or there are not as many as observations; and, where a density is built,
        if a group has two observations at one time and no noise.

    Notes
    -----
    Cost of value and gradient: O(n) a row. The pullback, with the innovations
    :math:`e_t = r_t - \rho r_{t-1}` and :math:`b_t = r_{t-1} - \rho r_t`, is
    :math:`\bar v = (n \bar l - \sum_i \bar q_i q_i) / v` and
    :math:`\bar\rho = -\frac{2}{v (1-\rho^2)^2} \sum_i \bar q_i \sum_t e_{it} b_{it}
    - \frac{2 (n-1) \rho}{1 - \rho^2} \bar l`.

    The log density is -inf where v is not positive or :math:`|\rho| \ge 1`. A single
    observation does not depend on :math:`\rho`.

    Groups, any times and independent noise, ``AR1(...) + Diagonal(...)``, are evaluated by one
    filter over all groups at O(n) a row; the time of compilation does not depend on their number.
    One step ahead is meant in time there, whatever the order of the table.

    References
    ----------
    Brockwell, P. J. and Davis, R. A. (1991). Time Series: Theory and Methods, 2nd ed., sec. 8.7.

    Siddiqui, M. M. (1958). On the inversion of the sample covariance matrix in a stationary
    autoregressive process. Ann. Math. Statist. 29, 585-588.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> gg.cov.AR1(2.0, 0.5, size=3).to_dense().eval()
    array([[2. , 1. , 0.5],
           [1. , 2. , 1. ],
           [0.5, 1. , 2. ]])

    Two subjects, the first of them seen after 1 and after 3 weeks:

    >>> gg.cov.AR1(2.0, 0.5, time=[1, 1, 3], group=["a", "b", "a"]).to_dense().eval()
    array([[2. , 0. , 0.5],
           [0. , 2. , 0. ],
           [0.5, 0. , 2. ]])
    """

    how = "closed form, n"
    parameter_shapes = {"variance": "", "correlation": ""}
    saved_shapes = {"norm": "m", "slope": "m"}
    forward = staticmethod(_forward)
    pullback = staticmethod(_pullback)

    def __new__(cls, variance, correlation, size=None, *, time=None, group=None):
        owner = "gg.cov.AR1"
        if time is not None or group is not None:
            return IrregularAR1.at(variance, correlation, time, group, as_size(owner, size))
        self = object.__new__(cls)
        variance = as_parameter(owner, "variance", variance, 0)
        correlation = as_parameter(owner, "correlation", correlation, 0)
        check_variance(owner, "variance", variance)
        self.parameters, self._size = (variance, correlation), as_size(owner, size)
        if self._size != 1:  # of a single observation the correlation does not matter
            check_within(owner, "correlation", correlation, -1, 1)
        return self

    def check_constants(self, n=None):
        variance, correlation = self.parameters
        check_positive(self.label, "variance", variance)
        if self.size != 1 and n != 1:
            check_positive(
                self.label, "1 - |correlation|", 1 - pt.abs(correlation), "|rho| = 1 is singular"
            )

    def _columns(self):
        """v (with all batch dimensions), rho, 1 - rho^2; a last dimension of length one."""
        variance, correlation = (p[..., None] for p in self.parameters)
        variance += pt.zeros_like(correlation)
        return variance, correlation, (1 - correlation) * (1 + correlation)

    def diagonal(self):
        variance, _, _ = self._columns()
        return variance * pt.ones((self.known_size(),), dtype=variance.dtype)

    def _times(self):
        """1, ..., n: JAX knows no ``arange`` of a symbolic length."""
        return pt.cumsum(pt.ones_like(self.diagonal()), axis=-1)

    def autocovariances(self):
        variance, correlation, _ = self._columns()
        return variance * whole_power(correlation, self._times() - 1)

    def to_dense(self):
        variance, correlation, _ = self._columns()
        time = self._times()
        lag = pt.abs(time[..., :, None] - time[..., None, :])
        return variance[..., None] * whole_power(correlation[..., None], lag)

    def color(self, z):
        z = pt.as_tensor_variable(z)
        variance, correlation, shrinkage = self._columns()
        first = pt.sqrt(variance) * z[..., :1]
        others = pt.sqrt(variance * shrinkage) * z[..., 1:]
        increment = pt.concatenate([first, others], axis=-1)
        coefficient = correlation + pt.zeros_like(variance) + pt.zeros_like(z)
        return linear_recurrence(coefficient, increment)

    def whiten(self, residual):
        residual = pt.as_tensor_variable(residual)
        variance, correlation, shrinkage = self._columns()
        before, now = residual[..., :-1], residual[..., 1:]
        sign = pt.switch(pt.lt(correlation, 0), -1, 1).astype(residual.dtype)
        innovation = (now - sign * before) + sign * (1 - pt.abs(correlation)) * before
        first = residual[..., :1] / pt.sqrt(variance)
        return pt.concatenate([first, innovation / pt.sqrt(variance * shrinkage)], axis=-1)

    def times(self, rows):
        variance, correlation, _ = self._columns()
        return variance * both_ways(correlation, pt.as_tensor_variable(rows))

    def inverse_diagonal(self):
        variance, correlation, shrinkage = self._columns()
        time = self._times()
        (positive, first), (usable, innovation) = map(as_positive, (variance, variance * shrinkage))
        before = pt.switch(pt.eq(time, 1), 1 / first, 1 / innovation)
        after = pt.switch(pt.eq(time, self.size), 0, correlation**2 / innovation)
        return nan_unless(positive & usable, before + after)

    def precision_entries(self):
        n = as_known_size(self)
        variance, correlation, shrinkage = self._columns()
        diagonal = self.inverse_diagonal()
        usable, innovation = as_positive(variance * shrinkage)
        below = nan_unless(usable, -correlation / innovation + pt.zeros_like(diagonal))
        values = join_dims(pt.stack([diagonal, below], axis=-1), diagonal.type.ndim - 1, 2)
        indptr = np.minimum(2 * np.arange(n + 1), max(2 * n - 1, 0))
        return values[..., : indptr[-1]], indptr, (np.arange(indptr[-1]) + 1) // 2

    def innovations(self, residual):
        white = self.whiten(residual)
        variance, _, shrinkage = self._columns()
        first = pt.eq(pt.cumsum(pt.ones_like(white), axis=-1), 1)
        later = pt.log(variance * shrinkage)
        return white, pt.switch(first, pt.log(variance), later) / 2

    def keep(self, observed):
        return SpacedAR1.at(*self.parameters, observed)

    def rows_apart(self, observed):
        return IrregularAR1.of_rows(*self.parameters, *np.nonzero(observed), len(observed))

    def grouped_by(self):
        return RegularAR1

    def by_group(self, size):
        """As of ``IrregularAR1``; noise is None where there is none."""
        return *self.parameters, None, np.arange(size, dtype="float64"), np.zeros(size, "int64"), 1

    def scaled(self, factor):
        variance, correlation = self.parameters
        return AR1.from_parameters(product(factor, variance), correlation, size=self.size)

    @staticmethod
    def forward_jax(residual, variance, correlation):
        import jax.numpy as jnp

        n = residual.shape[1]
        sign, gap = jnp.where(correlation < 0, -1, 1), 1 - jnp.abs(correlation)
        shrinkage = gap * (1 + jnp.abs(correlation))
        before, now = residual[:, :-1], residual[:, 1:]
        change = now - sign * before
        innovation, backward = change + sign * gap * before, sign * (gap * now - change)
        first = residual[:, :1]
        if n == 1:
            alpha = first / variance
        else:
            inner = innovation[:, :-1] - correlation * innovation[:, 1:]
            ends = backward[:, :1], inner, innovation[:, -1:]
            alpha = jnp.concatenate(ends, axis=1) / (variance * shrinkage)
        quad = first[:, 0] ** 2 / variance
        slope, logdet = jnp.zeros_like(quad), n * jnp.log(variance)
        if n > 1:
            quad = quad + (innovation**2).sum(axis=1) / (variance * shrinkage)
            slope = -2 * (innovation * backward).sum(axis=1) / (variance * shrinkage**2)
            near_zero, near_one = jnp.log1p(-(correlation**2)), jnp.log(shrinkage)
            log_shrinkage = jnp.where(gap > 0.5, near_zero, near_one)
            logdet += (n - 1) * jnp.where(gap > 0, log_shrinkage, jnp.nan)
        return quad, jnp.where(variance > 0, logdet, jnp.nan), alpha, quad, slope

    @staticmethod
    def pullback_jax(variance, correlation, alpha, norm, slope, quad_bar, logdet_bar):
        n = alpha.shape[1]
        variance_bar = (n * logdet_bar - (quad_bar * norm).sum()) / variance
        correlation_bar = (quad_bar * slope).sum()
        if n > 1:
            shrinkage = (1 - correlation) * (1 + correlation)
            correlation_bar -= 2 * (n - 1) * correlation * logdet_bar / shrinkage
        return variance_bar, correlation_bar

    def rows(self, positions):
        variance, correlation = self.parameters
        lag = pt.abs(positions[:, None] - pt.arange(self.size))
        return variance * whole_power(correlation, lag)

    def information(self, tangents):
        # The first observation has variance v; others, given the one before, the mean rho x and
        # the variance v (1 - rho^2), and x has variance v.
        (variance, correlation), (variance_dot, correlation_dot) = self.parameters, tangents
        transitions = self._count() - 1
        shrinkage = (1 - correlation) * (1 + correlation)
        first = variance_dot / variance
        others = first - 2 * correlation * correlation_dot / shrinkage
        regression = correlation_dot / pt.sqrt(shrinkage)
        rest = half_gram(others) + gram(regression, regression)
        return half_gram(first) + pt.switch(pt.eq(transitions, 0), 0, transitions * rest)
