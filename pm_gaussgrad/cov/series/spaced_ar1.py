r"""Some observations of an ``AR1``: an autoregression of order one at unequal whole time steps.

Definition: Sigma_ij = v rho^|t_i - t_j|, with times t that differ by the steps d_i = t_i - t_{i-1},
1, 2, ...; d_1 = 0 stands for the beginning. It is what an ``AR1`` becomes where observations are
missing, and closed under missing more. Storage: two numbers and n integers. Value and gradient:
O(n) a row.

With phi_t = rho^d_t and s_t = 1 - phi_t^2 the innovations e_t = r_t - phi_t r_{t-1} are independent
with variance v s_t, and with those backwards in time b_t = r_{t-1} - phi_t r_t,

    quad = (r_1^2 + sum_t e_t^2 / s_t) / v,    logdet = n log v + sum_t log s_t,
    alpha_1 = b_2 / (v s_2),  alpha_t = e_t / (v s_t) - phi_{t+1} e_{t+1} / (v s_{t+1}).

Pullback: d quad / d phi_t = -2 e_t b_t / (v s_t^2) and d log s_t / d phi_t = -2 phi_t / s_t, where
d phi_t / d rho = d_t rho^(d_t - 1).

Near |rho| = 1, 1 - |phi_t| is -expm1(d_t log|rho|), from 1 - |rho| without rounding, and
innovations are changes (sums, where phi_t is negative) and a correction: both keep full precision.

Sources: Jones (1980), Maximum likelihood fitting of ARMA models to time series with missing
observations, Technometrics 22, 389-395, section 2; Brockwell and Davis (1991), Time Series: Theory
and Methods, 2nd ed., section 8.7 (the likelihood from innovations).
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.matrices.diagonal import Diagonal
from pm_gaussgrad.cov.protocol.constants import check_positive, constant_value
from pm_gaussgrad.cov.protocol.information import gram, half_gram
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.scales import product
from pm_gaussgrad.cov.protocol.sums import closes, common_size
from pm_gaussgrad.cov.series.both_ways import both_ways
from pm_gaussgrad.cov.series.irregular_ar1 import IrregularAR1
from pm_gaussgrad.ops import linear_recurrence


def _transition(correlation, step):
    """phi = rho^d, its sign, 1 - |phi|, and d phi / d rho."""
    sign = -1.0 if correlation < 0 and step % 2 == 1 else 1.0
    gap = 1 - abs(correlation)
    if step == 1:
        return correlation, sign, gap, 1.0
    before = correlation ** (step - 1)
    return correlation * before, sign, -np.expm1(step * np.log1p(-gap)), step * before


def _log_shrinkage(phi, gap):
    """log(1 - phi^2); NaN from |phi| = 1."""
    if not gap > 0:
        return np.nan
    return np.log1p(-(phi**2)) if gap > 0.5 else np.log(gap * (2 - gap))


def _at_step(variance, correlation, step):
    """s = sign phi, s (1 - |phi|), phi, 1 / Var, slope of quad; log(1 - phi^2) and its slope."""
    phi, sign, gap, rate = _transition(correlation, step)
    shrinkage = gap * (2 - gap)
    precision, slope = 1 / (variance * shrinkage), 2 * rate / shrinkage
    log_shrinkage = _log_shrinkage(phi, gap)
    return sign, sign * gap, phi, precision, slope * precision, log_shrinkage, slope * phi


# Steps up to that length, as most are, are worked out once each.
_TABLE = 64


def _runs(variance, correlation, steps):
    """log|Sigma| / v^n and its slope; where runs of equal steps end, and for each the values."""
    known = np.zeros(_TABLE, np.bool_)
    table = np.empty((_TABLE, 7), np.float64)
    ends, values = np.empty(steps.size, np.int64), np.empty((steps.size, 5), np.float64)
    logdet, logdet_slope, count, start = 0.0, 0.0, 0, 1
    for t in range(2, steps.size + 1):
        if t < steps.size and steps[t] == steps[start]:
            continue
        step = steps[start] if steps[start] < _TABLE else 0  # no step between observations is 0
        if step == 0 or not known[step]:
            known[step] = True
            of_step = _at_step(np.float64(variance), np.float64(correlation), steps[start])
            for column in range(7):
                table[step, column] = of_step[column]
        for column in range(5):
            values[count, column] = table[step, column]
        logdet += (t - start) * table[step, 5]
        logdet_slope -= (t - start) * table[step, 6]
        ends[count], start = t, t
        count += 1
    return logdet, logdet_slope, ends[:count], values


def _forward(residual, variance, correlation, steps):
    m, n = residual.shape
    logdet, logdet_slope, ends, values = _runs(variance, correlation, steps)
    quad = np.zeros(m, residual.dtype)
    slope = np.zeros(m, residual.dtype)
    alpha = np.zeros((m, n), residual.dtype)
    for i in range(m):
        if n == 0:
            continue
        row, solved = residual[i], alpha[i]
        of_quad, of_slope, scaled, start = row[0] ** 2 / variance, 0.0, row[0] / variance, 1
        for run in range(ends.size):
            sign, signed_gap, phi, precision, rate = values[run]
            for t in range(start, ends[run]):
                change = row[t] - sign * row[t - 1]
                innovation = change + signed_gap * row[t - 1]
                backward = signed_gap * row[t] - sign * change
                before, scaled = scaled, innovation * precision
                solved[t - 1] = before - phi * scaled
                of_quad += innovation * scaled
                of_slope -= innovation * backward * rate
            start = ends[run]
        solved[n - 1] = scaled
        if n > 1:  # by the difference, of which no digits cancel
            sign, signed_gap, _, precision, _ = values[0]
            solved[0] = (signed_gap * row[1] - sign * (row[1] - sign * row[0])) * precision
        quad[i], slope[i] = of_quad, of_slope
    logdet = logdet + n * np.log(variance) if variance > 0 else np.nan
    return quad, logdet, alpha, quad.copy(), slope, logdet_slope


def _pullback(variance, alpha, norm, slope, logdet_slope, quad_bar, logdet_bar):
    n = alpha.shape[1]
    variance_bar = (n * logdet_bar - (quad_bar * norm).sum()) / variance
    return variance_bar, (quad_bar * slope).sum() + logdet_bar * logdet_slope


def whole_power(correlation, lag):
    """rho^lag for lags 0, 1, ...; from the square on it has two derivatives at zero."""
    power = pt.switch(pt.eq(lag, 1), correlation, correlation ** pt.maximum(lag, 2))
    return pt.switch(pt.eq(lag, 0), 1, power)


class SpacedAR1(Leaf):
    r"""An ``AR1`` with missing observations, :math:`\Sigma_{ij} = v \rho^{|t_i - t_j|}`.

    Parameters are those of ``AR1`` and the whole steps (n) from the observation before, of which
    the first is 0. Made by ``AR1.keep``.
    """

    how = "closed form, n"
    label = "gg.cov.AR1"
    parameter_shapes = {"variance": "", "correlation": "", "steps": "n"}
    constant_parameters = frozenset({"steps"})
    saved_shapes = {"norm": "m", "slope": "m", "logdet_slope": ""}
    forward = staticmethod(_forward)
    pullback = staticmethod(_pullback)

    @classmethod
    def at(cls, variance, correlation, times):
        """From constant increasing whole times, of which only the differences matter."""
        steps = np.diff(times, prepend=times[:1]).astype("int64")
        return cls.from_parameters(variance, correlation, pt.constant(steps))

    def check_constants(self, n=None):
        variance, correlation, _ = self.parameters
        check_positive(self.label, "variance", variance)
        if self.size != 1:
            check_positive(
                self.label, "1 - |correlation|", 1 - pt.abs(correlation), "|rho| = 1 is singular"
            )

    def _columns(self):
        """v and rho with all batch dimensions, and a last dimension of length one."""
        variance, correlation = (p[..., None] for p in self.parameters[:2])
        return variance + pt.zeros_like(correlation), correlation + pt.zeros_like(variance)

    def _transitions(self):
        """Signs of phi, 1 - |phi|, phi and 1 - phi^2, (..., n); phi is zero at the beginning."""
        _, correlation = self._columns()
        steps = self.parameters[2]
        odd = pt.eq(steps % 2, 1) & pt.lt(correlation, 0)
        sign = pt.switch(odd, -1, 1).astype(correlation.dtype)
        # Of a correlation of zero the logarithm has no derivative, and 1 - |phi| that of a power.
        zero = pt.eq(correlation, 0)
        distance = pt.switch(zero, 0.5, 1 - pt.abs(correlation))
        gap = -pt.expm1(steps * pt.log1p(-distance))
        gap = pt.switch(pt.eq(steps, 0) | zero, 1, gap).astype(correlation.dtype)
        phi = pt.switch(pt.eq(steps, 0), 0, self._powers(steps)).astype(correlation.dtype)
        return sign, gap, phi, gap * (2 - gap)

    def diagonal(self):
        variance, _ = self._columns()
        return variance + pt.zeros_like(self.parameters[2], dtype=variance.dtype)

    def _powers(self, lag):
        """rho^lag, of lags with one dimension or two."""
        _, correlation = self._columns()
        correlation = correlation if lag.type.ndim == 1 else correlation[..., None]
        return whole_power(correlation, lag)

    def _lagged(self, lag):
        """v rho^lag, of lags with two dimensions."""
        variance, _ = self._columns()
        return variance[..., None] * self._powers(lag)

    def _times(self):
        return pt.cumsum(self.parameters[2])

    def to_dense(self):
        times = self._times()
        return self._lagged(pt.abs(times[:, None] - times))

    def color(self, z):
        z = pt.as_tensor_variable(z)
        variance, _ = self._columns()
        _, _, phi, shrinkage = self._transitions()
        return linear_recurrence(phi + pt.zeros_like(z), pt.sqrt(variance * shrinkage) * z)

    def _innovations(self, residual):
        """e_t and the logarithm of its variance."""
        residual = pt.as_tensor_variable(residual)
        variance, _ = self._columns()
        sign, gap, _, shrinkage = self._transitions()
        # Where phi is zero what stands before does not matter.
        before = pt.concatenate([residual[..., :1], residual[..., :-1]], axis=-1)
        return (residual - sign * before) + sign * gap * before, variance * shrinkage

    def whiten(self, residual):
        innovation, variances = self._innovations(residual)
        return innovation / pt.sqrt(variances)

    def inverse_diagonal(self):
        variance, _ = self._columns()
        _, _, phi, shrinkage = self._transitions()
        precision = 1 / (variance * shrinkage)
        after = phi**2 * precision
        # JAX knows the lengths of slices, and not those of zeros like them.
        rolled = pt.concatenate([after[..., 1:], after[..., :1]], axis=-1)
        last = pt.eq(pt.cumsum(pt.ones_like(after), axis=-1), self.size)
        return precision + pt.switch(last, 0, rolled)

    def innovations(self, residual):
        innovation, variances = self._innovations(residual)
        white = innovation / pt.sqrt(variances)
        return white, pt.log(variances) / 2 + pt.zeros_like(white)

    def keep(self, observed):
        variance, correlation, steps = self.parameters
        if not isinstance(steps, Constant):
            return None
        return SpacedAR1.at(variance, correlation, np.cumsum(steps.data)[observed])

    def rows_apart(self, observed):
        variance, correlation, steps = self.parameters
        if not isinstance(steps, Constant):
            return None
        row, entry = np.nonzero(observed)
        times = np.cumsum(steps.data)[entry]
        return IrregularAR1.of_rows(variance, correlation, row, times, len(observed))

    def grouped_by(self):
        return IrregularAR1 if isinstance(self.parameters[2], Constant) else None

    def by_group(self, size):
        """As of ``IrregularAR1``; noise is None where there is none."""
        variance, correlation, steps = self.parameters
        times = np.cumsum(steps.data).astype("float64")
        return variance, correlation, None, times, np.zeros(size, "int64"), 1

    def scaled(self, factor):
        variance, correlation, steps = self.parameters
        return SpacedAR1.from_parameters(product(factor, variance), correlation, steps)

    def rows(self, positions):
        times = self._times()
        return self._lagged(pt.abs(times[positions][:, None] - times))

    def times(self, rows):
        (variance, _), (_, _, phi, _) = self._columns(), self._transitions()
        return variance * both_ways(phi, pt.as_tensor_variable(rows))

    def information(self, tangents):
        # As of AR1, with a correlation and an innovation variance of its own for each step.
        variance, correlation, steps = self.parameters
        variance_dot, correlation_dot, _ = tangents
        _, _, phi, shrinkage = self._transitions()
        power = pt.switch(pt.eq(steps, 1), 1, correlation ** pt.maximum(steps - 1, 1))
        rate = pt.switch(pt.eq(steps, 0), 0, steps * power).astype(variance.dtype)
        moved = correlation_dot[:, None] * rate
        scales = (variance_dot / variance)[:, None] - 2 * phi * moved / shrinkage
        regression = moved / pt.sqrt(shrinkage)
        return half_gram(scales) + gram(regression, regression)

    @staticmethod
    def forward_jax(residual, variance, correlation, steps):
        import jax.numpy as jnp

        n, step = residual.shape[1], steps[1:]
        sign = jnp.where((correlation < 0) & (step % 2 == 1), -1, 1).astype(residual.dtype)
        gap = -jnp.expm1(step * jnp.log1p(-(1 - jnp.abs(correlation))))
        gap = jnp.where(step == 1, 1 - jnp.abs(correlation), gap).astype(residual.dtype)
        power = jnp.where(correlation < 0, -1, 1) ** (step - 1) * jnp.abs(correlation) ** (step - 1)
        phi, shrinkage, rate = correlation * power, gap * (2 - gap), step * power
        precision = 1 / (variance * shrinkage)
        before, now = residual[:, :-1], residual[:, 1:]
        change = now - sign * before
        innovation, backward = change + sign * gap * before, sign * (gap * now - change)
        alpha = jnp.concatenate([residual[:, :1] / variance, innovation * precision], axis=1)
        if n > 1:
            first = jnp.zeros(n - 1, residual.dtype).at[0].set(1)
            lower = alpha[:, :-1] - phi * alpha[:, 1:]
            lower = jnp.where(first == 1, backward * precision, lower)
            alpha = jnp.concatenate([lower, alpha[:, -1:]], axis=1)
        quad = (residual[:, :1] ** 2).sum(axis=1) / variance
        quad = quad + (innovation**2 * precision).sum(axis=1)
        slope = -2 * (innovation * backward * precision / shrinkage * rate).sum(axis=1)
        logs = jnp.where(gap > 0.5, jnp.log1p(-(phi**2)), jnp.log(shrinkage))
        logs = jnp.where(gap > 0, logs, jnp.nan)
        logdet = jnp.where(variance > 0, n * jnp.log(variance) + logs.sum(), jnp.nan)
        return quad, logdet, alpha, quad, slope, (-2 * phi / shrinkage * rate).sum()

    @staticmethod
    def pullback_jax(variance, alpha, norm, slope, logdet_slope, quad_bar, logdet_bar):
        n = alpha.shape[1]
        variance_bar = (n * logdet_bar - (quad_bar * norm).sum()) / variance
        return variance_bar, (quad_bar * slope).sum() + logdet_bar * logdet_slope


@closes(SpacedAR1, Diagonal)
def _sum_with_noise(series, noise):
    common_size(series, noise)
    variance, correlation, steps = series.parameters
    times = constant_value(steps)
    if times is None:
        raise TypeError(f"{series.label} + {noise.label}: the times are symbolic.")
    return IrregularAR1.regular(variance, correlation, np.cumsum(times)) + noise
