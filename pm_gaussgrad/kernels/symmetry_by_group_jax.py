"""The twin of :mod:`pm_gaussgrad.kernels.symmetry_by_group` in ``jax.numpy``."""

import jax.numpy as jnp

from pm_gaussgrad.kernels.symmetry_by_group import check_lengths


def _sums(rows, group, n_groups):
    """(m, n) -> (m, g)."""
    return jnp.zeros((rows.shape[0], n_groups), rows.dtype).at[:, group].add(rows)


def forward(residual, own, common, group, count):
    """quad, logdet, alpha, and the two parts of quad of each group."""
    check_lengths(own, common, count)
    n_groups, k = count.shape[0], count.astype(own.dtype)
    between = jnp.where(k > 0, own + k * common, 1)
    some, several = jnp.maximum(k, 1), k > 1
    logs = jnp.log(between) + jnp.where(several, k - 1, 0) * jnp.log(jnp.where(several, own, 1))
    means = _sums(residual, group, n_groups) / some
    centered = residual - means[:, group]
    centered = centered - (_sums(centered, group, n_groups) / some)[:, group]
    inverse = jnp.where(several, 1 / own, 0)[group]
    solved = centered * inverse
    quad_within = _sums(centered * solved, group, n_groups)
    quad_between = k * means**2 / between
    alpha = solved + (means / between)[:, group]
    quad = quad_within.sum(axis=1) + quad_between.sum(axis=1)
    return quad, logs.sum(), alpha, quad_within, quad_between


def pullback(own, common, count, quad_within, quad_between, quad_bar, logdet_bar):
    """Cotangents of the components."""
    k = count.astype(own.dtype)
    within = logdet_bar * (k - 1) - quad_bar @ quad_within
    between = jnp.where(k > 0, logdet_bar - quad_bar @ quad_between, 0)
    through_between = between / jnp.where(k > 0, own + k * common, 1)
    of_own = through_between + jnp.where(k > 1, within / own, 0)
    bars = (own, of_own), (common, k * through_between)
    return tuple(bar if x.shape[0] > 1 else bar.sum()[None] for x, bar in bars)
