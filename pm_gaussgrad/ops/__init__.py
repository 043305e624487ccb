"""The custom Op, its pullback, and the one place where backends are registered."""

from pm_gaussgrad.ops import memory  # noqa: F401  (registers its rewrites)
from pm_gaussgrad.ops.backends import register_backends
from pm_gaussgrad.ops.batching import quad_logdet_alpha, transform_rows
from pm_gaussgrad.ops.inv_quad_logdet import (
    InvQuadLogdet,
    InvQuadLogdetPullback,
    dense_quad_logdet,
)

register_backends()

__all__ = [
    "InvQuadLogdet",
    "InvQuadLogdetPullback",
    "dense_quad_logdet",
    "quad_logdet_alpha",
    "transform_rows",
]
