"""The twin of :mod:`pm_gaussgrad.kernels.first_order` in ``jax.numpy``."""

import jax
import jax.numpy as jnp

from pm_gaussgrad.kernels.first_order import check_lengths


def _entries(values, index):
    """Of each observation, in order of time: its own value, or the common one."""
    return values[index] if values.shape[0] > 1 else jnp.broadcast_to(values, index.shape)


def _transitions(correlation, times, group, order):
    """phi, 1 - |phi| and d phi / d rho of each observation, in order of time; phi 0 at first."""
    groups, sorted_times = group[order], times[order]
    begins = jnp.concatenate([jnp.ones(1, bool), groups[1:] != groups[:-1]])
    step = jnp.concatenate([jnp.zeros(1, times.dtype), sorted_times[1:] - sorted_times[:-1]])
    step = jnp.where(begins, 0, step)
    rho = _entries(correlation, groups)
    size = jnp.abs(rho)
    zero = size == 0
    log = jnp.where(size < 0.5, jnp.log(jnp.where(zero, 0.25, size)), jnp.log1p(size - 1))
    gap = jnp.where(step == 1, 1 - size, -jnp.expm1(log * step))
    gap = jnp.where(zero & (step > 0), 1, gap)
    power = jnp.where(step == 1, size, jnp.exp(log * step))
    power = jnp.where(zero & (step > 0), 0, power)
    whole = step == jnp.floor(step)
    sign = jnp.where((rho < 0) & (step % 2 == 1), -1, 1)
    phi = jnp.where((rho < 0) & ~whole, jnp.nan, sign * power)
    at_zero = jnp.where(step > 1, 0.0, jnp.inf)
    rate = jnp.where(zero, at_zero, step * phi / jnp.where(zero, 1, rho))
    rate = jnp.where(step == 0, 0, jnp.where(step == 1, 1, rate))
    phi, gap = jnp.where(begins, 0, phi), jnp.where(begins, 1, gap)
    return (x.astype(correlation.dtype) for x in (phi, gap, jnp.where(begins, 0, rate)))


def forward(residual, times, variance, correlation, noise, group, order, ends):
    """quad, logdet, alpha, the innovations, and what is saved of each observation."""
    check_lengths(variance, correlation, noise, order, ends)
    phi, gap, rate = _transitions(correlation, times, group, order)
    v, s = _entries(variance, group[order]), _entries(noise, order)
    spread = v * gap * (2 - gap)

    def gain(posterior, given):
        phi, spread, s = given
        predicted = spread + phi * phi * posterior
        total = predicted + s
        return predicted * (s / total), (posterior, total, s / total)

    start = jnp.zeros((), spread.dtype)
    _, (before, total, kept) = jax.lax.scan(gain, start, (phi, spread, s))
    rows, sign = residual[:, order].T, jnp.where(phi < 0, -1, 1).astype(phi.dtype)

    def innovate(mean, given):
        y, sign, gap, kept = given
        z = (y - sign * mean) + sign * gap * mean
        return y - kept * z, z

    nothing = jnp.zeros(residual.shape[0], jnp.result_type(residual, total))
    _, z = jax.lax.scan(innovate, nothing, (rows, sign, gap, kept))
    weight = 1 / total

    def back(through_mean, given):
        z, weight, kept, phi = given
        solved = z * weight - kept * through_mean
        return -phi * solved, (solved + through_mean, through_mean)

    scanned = jax.lax.scan(back, nothing, (z, weight, kept, phi), reverse=True)
    solved, through_mean = scanned[1]
    alpha = jnp.zeros_like(residual).at[:, order].set(solved.T)
    usable = (jnp.abs(correlation) <= 1).all() & ((v >= 0) & (s >= 0) & (total > 0)).all()
    logdet = jnp.where(usable, jnp.log(total).sum(), jnp.nan)
    track = jnp.stack([phi, gap, rate, kept, weight, before])
    quad = (z**2 * weight[:, None]).sum(axis=0)
    return quad, logdet, alpha, z.T, through_mean.T, track


def pullback(
    residual,
    variance,
    correlation,
    noise,
    group,
    order,
    innovation,
    through_mean,
    track,
    quad_bar,
    logdet_bar,
):
    """Cotangents of variance, correlation and noise."""
    phi, gap, rate, kept, weight, posterior = track
    z, rows, of_mean = innovation.T, residual[:, order].T, through_mean.T
    filtered = rows - kept[:, None] * z
    before = jnp.concatenate([jnp.zeros_like(filtered[:1]), filtered[:-1]])
    solved = z * weight[:, None]
    of_innovation = solved - kept[:, None] * of_mean
    own = -(quad_bar * solved**2).sum(axis=1), -2 * (quad_bar * z * of_mean).sum(axis=1)
    v = _entries(variance, group[order])
    shrinkage = gap * (2 - gap)
    predicted = v * shrinkage + phi * phi * posterior

    def back(through_posterior, given):
        of_total, of_kept, phi, kept, weight, predicted = given
        of_kept = of_kept + through_posterior * predicted
        of_total = of_total + logdet_bar * weight - of_kept * kept * weight
        of_predicted = through_posterior * kept + of_total
        return phi * phi * of_predicted, (of_kept * weight + of_total, of_predicted)

    start = jnp.zeros((), jnp.result_type(residual, track, quad_bar, logdet_bar))
    given = *own, phi, kept, weight, predicted
    _, (of_noise, of_predicted) = jax.lax.scan(back, start, given, reverse=True)
    of_phi = -2 * (quad_bar * of_innovation * before).sum(axis=1)
    of_phi = of_phi + 2 * phi * of_predicted * (posterior - v)
    groups = group[order]
    return (
        _summed(variance, groups, of_predicted * shrinkage),
        _summed(correlation, groups, of_phi * rate),
        _summed(noise, order, of_noise),
    )


def _summed(values, index, bars):
    """The cotangent of what :func:`_entries` reads."""
    if values.shape[0] == 1:
        return bars.sum()[None]
    return jnp.zeros_like(values).at[index].add(bars)
