"""The JAX twin of :mod:`pm_gaussgrad.kernels.regular_series`."""

import jax.numpy as jnp


def _shifted(x):
    """What stands one place earlier, in the last dimension."""
    return jnp.concatenate([x[..., :1], x[..., :-1]], axis=-1)


def _count(group, many, like):
    return jnp.zeros(many, like.dtype).at[group].add(1)


def forward(residual, variance, correlation, group, ends):
    """quad, logdet, alpha, and of each series quad and its slope: (m, g)."""
    if residual.shape[1] == 0:
        none = jnp.zeros((residual.shape[0], ends.shape[0]), residual.dtype)
        return none.sum(axis=1), 0 * variance.sum(), residual, none, none
    many = ends.shape[0]
    spread = jnp.zeros(many, residual.dtype)
    v, rho = (x + spread for x in (variance, correlation))
    gaps = 1 - jnp.abs(rho)
    v_t, rho_t, gap = v[group], rho[group], gaps[group]
    sign, shrinkage = jnp.where(rho_t < 0, -1, 1), gap * (1 + jnp.abs(rho_t))
    first = jnp.arange(group.size) == 0
    first = first | (group != _shifted(group))
    last = jnp.concatenate([first[1:], jnp.ones(1, bool)])
    precision = jnp.where(first, 1 / v_t, 1 / (v_t * jnp.where(first, 1, shrinkage)))
    before = _shifted(residual)
    change = residual - sign * before
    innovation = jnp.where(first, residual, change + sign * gap * before)
    backward = jnp.where(first, 0, sign * (gap * residual - change))
    scaled = innovation * precision
    following = jnp.concatenate([scaled[:, 1:], scaled[:, :1]], axis=1)
    ahead = jnp.concatenate([(backward * precision)[:, 1:], scaled[:, :1]], axis=1)
    inner = jnp.where(first, ahead, scaled - rho_t * following)
    alpha = jnp.where(last, scaled, inner)
    none = jnp.zeros((residual.shape[0], many), residual.dtype)
    norm = none.at[:, group].add(innovation * scaled)
    rates = jnp.where(first, 0, scaled * backward / jnp.where(first, 1, shrinkage))
    slope = none.at[:, group].add(-2 * rates)
    count = _count(group, many, residual)
    logs = jnp.where(gaps > 0.5, jnp.log1p(-(rho**2)), jnp.log(gaps * (1 + jnp.abs(rho))))
    logs = jnp.where(gaps > 0, logs, jnp.nan)
    logdets = count * jnp.where(v > 0, jnp.log(v), jnp.nan)
    logdets = logdets + jnp.where(count > 1, (count - 1) * logs, 0)
    return norm.sum(axis=1), logdets.sum(), alpha, norm, slope


def pullback(variance, correlation, group, ends, norm, slope, quad_bar, logdet_bar):
    """Cotangents of variance and correlation."""
    many = ends.shape[0]
    v, rho = (x + jnp.zeros(many, norm.dtype) for x in (variance, correlation))
    count = _count(group, many, norm)
    variance_bar = (count * logdet_bar - quad_bar @ norm) / v
    rate = jnp.where(count > 1, -2 * (count - 1) * rho / ((1 - rho) * (1 + rho)), 0)
    correlation_bar = quad_bar @ slope + rate * logdet_bar
    bars = (variance_bar, variance), (correlation_bar, correlation)
    return tuple(bar.sum(keepdims=True) if x.size == 1 else bar for bar, x in bars)
