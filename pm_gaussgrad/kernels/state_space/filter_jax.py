"""The twin of :mod:`pm_gaussgrad.kernels.state_space.filter` in ``jax.numpy``.

Two scans over time for the variances and for the means, and one back for alpha. The pullback
differentiates the first two: the transitions are written so that their slopes are exact.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import expm

from pm_gaussgrad.kernels.state_space.filter import ROUNDING
from pm_gaussgrad.kernels.state_space.processes import (
    EXPONENTIAL,
    MATERN_3_2,
    MATERN_5_2,
    OSCILLATOR,
    POWER,
    WAVE,
    WIENER,
    blocks_of,
    n_values,
    spread_of_walk,
)

# As in the kernel, |D| u^2 below which a series takes the place of quotients.
_NEAR = 0.05
_NILPOTENT = np.array([[1, 1, 0], [0, 1, 1], [-1, -3, -2]])


def _transition(kind, size, values, step):
    """Phi of each step, (n, size, size); values are numbers or (n)."""
    if kind == EXPONENTIAL:
        return jnp.exp(-values[1] * step)[:, None, None]
    if kind == MATERN_3_2:
        u = values[1] * step
        return jnp.exp(-u)[:, None, None] * _matrix([[1 + u, u], [-u, 1 - u]])
    if kind == MATERN_5_2:
        u = (values[1] * step)[:, None, None]
        powers = np.eye(3) + _NILPOTENT * u + _NILPOTENT @ _NILPOTENT * u**2 / 2
        return jnp.exp(-u) * powers
    if kind == OSCILLATOR:
        cosine, sine = _damped(values[1] * step, values[2])
        tilt = values[2] * sine
        return _matrix([[cosine + tilt, sine], [-sine, cosine - tilt]])
    if kind == WAVE:
        decay, angle = jnp.exp(-values[2] * step), values[3] * step
        cosine, sine = decay * jnp.cos(angle), decay * jnp.sin(angle)
        return _matrix([[cosine, sine], [-sine, cosine]])
    if kind == WIENER:
        powers = [jnp.ones_like(step), step, step**2 / 2]
        zero = jnp.zeros_like(step)
        return _matrix(
            [[powers[j - i] if j >= i else zero for j in range(size)] for i in range(size)]
        )
    if kind == POWER:
        stays = step == 0  # where the slope of a power of zero is no number
        moved = values[1] ** jnp.where(stays, 1, step)
        return jnp.where(stays, 1, moved)[:, None, None]
    system = jnp.stack([x + jnp.zeros_like(step) for x in values[: size * size]], axis=-1)
    return expm(system.reshape(-1, size, size) * step[:, None, None])


def _damped(u, damping):
    """exp(-z u) C and exp(-z u) S, by waves, by the larger of two exponentials, or by a series."""
    distance = (damping - 1) * (damping + 1) + jnp.zeros_like(u)
    square = distance * u**2
    near, strong = jnp.abs(square) < _NEAR, distance > 0
    root = jnp.sqrt(jnp.where(near, 1, jnp.abs(distance)))
    decay, angle = jnp.exp(-damping * u), root * u
    # Of what is not taken exponentials may overflow.
    fast = jnp.exp(-2 * jnp.where(strong & ~near, angle, 0))
    slow = jnp.exp(-u / (damping + jnp.where(strong, root, 0)))
    small = jnp.where(near, square, 0)
    cosine, sine = jnp.ones_like(small), jnp.ones_like(small)
    for k in range(7, 0, -1):
        cosine = 1 + small * cosine / (2 * k * (2 * k - 1))
        sine = 1 + small * sine / (2 * k * (2 * k + 1))
    by_cosine = jnp.where(strong, slow * (1 + fast) / 2, decay * jnp.cos(angle))
    by_sine = jnp.where(strong, slow * (1 - fast) / 2, decay * jnp.sin(angle)) / root
    return jnp.where(near, decay * cosine, by_cosine), jnp.where(near, decay * u * sine, by_sine)


def _matrix(rows):
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def _start(kind, size, values):
    """g of a process, a list of numbers or (n)."""
    zero = jnp.zeros_like(values[0])
    if kind == POWER:
        return [values[0]]
    if kind in (MATERN_3_2, OSCILLATOR):
        return [values[0], zero]
    if kind == MATERN_5_2:
        return [values[0], zero, -values[0] / 3]
    if kind == WAVE:
        return [values[0], values[1]]
    return [zero] * size if kind in (EXPONENTIAL, WIENER) else values[size * size :]


def _driven(kind, size, values, step, begins):
    """R of each step, (n, size, size); zero of a process that is stationary."""
    if kind == EXPONENTIAL:
        share = jnp.where(begins, 1, -jnp.expm1(-2 * values[1] * step))
        return (values[0] * share)[:, None, None]
    if kind == WIENER:
        entries = [[spread_of_walk(size, i, j, step) for j in range(size)] for i in range(size)]
        return (values[0] + jnp.zeros_like(step))[:, None, None] * _matrix(entries)
    return jnp.zeros((step.shape[0], size, size), step.dtype)


def _is_process(kind, values):
    if kind == WAVE:
        return values[2] >= 0
    if kind not in (EXPONENTIAL, MATERN_3_2, MATERN_5_2, OSCILLATOR, WIENER):
        return jnp.array(True)
    usable = values[0] >= 0
    for x in values[1:]:
        usable = usable & (x > 0)
    return usable


def _model(values, times, origin, group, order, digits):
    """Phi, R and g of each observation, in order of time, h, and whether all are processes."""
    groups, now = group[order], times[order]
    begins = jnp.concatenate([jnp.ones(1, bool), groups[1:] != groups[:-1]])
    before = jnp.concatenate([jnp.zeros(1, now.dtype), now[:-1]])
    step = (now - jnp.where(begins, origin, before)).astype(values.dtype)
    own = (
        values[groups]
        if values.shape[0] > 1
        else jnp.broadcast_to(values, (now.size, values.shape[1]))
    )
    blocks = blocks_of(digits)
    states = sum(size for _, size in blocks)
    phi, driven = jnp.zeros((2, now.size, states, states), values.dtype)
    g, h, usable, first, lo = [], np.zeros(states), jnp.array(True), 0, 0
    for kind, size in blocks:
        mine = [own[:, i] for i in range(first, first + n_values(kind, size))]
        at = slice(lo, lo + size)
        between = jnp.where(begins, 0, step)  # of the first of a group the other is not asked for
        moved = jnp.where(begins[:, None, None], 0, _transition(kind, size, mine, between))
        phi = phi.at[:, at, at].set(moved)
        driven = driven.at[:, at, at].set(_driven(kind, size, mine, step, begins))
        usable = usable & jnp.all(_is_process(kind, mine))
        g += _start(kind, size, mine)
        h[lo], first, lo = 1, first + len(mine), lo + size
    return phi, driven, jnp.stack(g, axis=-1), jnp.asarray(h, values.dtype), usable


def _gains(phi, driven, g, h, noise):
    """X_t, k_t and w_t of each observation."""

    def gain(after, given):
        phi, driven, g, s = given
        before = phi @ after @ phi.T + driven
        k = g + before @ h
        total = h @ k + s
        least = ROUNDING * (h @ g)
        weight = jnp.where(total > least, 1 / jnp.where(total > least, total, 1), jnp.nan)
        after = before - jnp.outer(k, k) * weight
        return after, (after, k, weight)

    start = jnp.zeros(phi.shape[1:], phi.dtype)
    return jax.lax.scan(gain, start, (phi, driven, g, noise))[1]


def _means(rows, phi, h, k, weight):
    """z_t, (n, m), and m_t, (n, m, J)."""

    def move(mean, given):
        y, phi, k, weight = given
        ahead = mean @ phi.T
        z = y - ahead @ h
        mean = ahead + (weight * z)[:, None] * k
        return mean, (z, mean)

    start = jnp.zeros((rows.shape[1], h.size), jnp.result_type(rows, phi))
    return jax.lax.scan(move, start, (rows, phi, k, weight))[1]


def _filtered(residual, values, noise, times, origin, group, order, digits):
    phi, driven, g, h, usable = _model(values, times, origin, group, order, digits)
    own = noise[order] if noise.shape[0] > 1 else jnp.broadcast_to(noise, order.shape)
    after, k, weight = _gains(phi, driven, g, h, own.astype(phi.dtype))
    z, means = _means(residual[:, order].T, phi, h, k, weight)
    usable = usable & jnp.all(noise >= 0)
    logdet = jnp.where(usable, -jnp.log(weight).sum(), jnp.nan)
    return (weight[:, None] * z * z).sum(axis=0), logdet, phi, h, after, k, weight, z, means


def forward(residual, times, origin, values, noise, entry, group, order, digits):
    """quad, logdet, alpha, the means m_t, the transitions, and X_t, k_t and w_t."""
    index = times, origin, group, order, digits
    quad, logdet, phi, h, after, k, weight, z, means = _filtered(residual, values, noise, *index)

    def solve(of_mean, given):
        z, phi, k, weight = given
        alpha = weight * (z + of_mean @ k)
        return (of_mean - alpha[:, None] * h) @ phi, alpha

    start = jnp.zeros_like(means[0])
    _, alpha = jax.lax.scan(solve, start, (z, phi, k, weight), reverse=True)
    alpha = jnp.zeros_like(alpha.T).at[:, order].set(alpha.T)
    lower = np.tril_indices(h.size)
    track = jnp.concatenate([after[:, *lower], k, weight[:, None]], axis=1)
    saved = jnp.swapaxes(means, 0, 1), phi[:, entry[:, 0], entry[:, 1]], track
    return quad, logdet, alpha, *(x.astype(residual.dtype) for x in saved)


def pullback(residual, times, origin, values, noise, group, order, quad_bar, logdet_bar, digits):
    """Cotangents of the parameters of processes, and of the noise."""

    def value(values, noise):
        index = times, origin, group, order, digits
        quad, logdet, *_ = _filtered(residual, values, noise, *index)
        return (quad_bar * quad).sum() + logdet_bar * logdet

    return jax.grad(value, argnums=(0, 1))(values, noise)
