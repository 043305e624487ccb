"""The custom Op, its pullback, and the one place where backends are registered."""

from pm_gaussgrad.ops import entry_sums, held, memory, scalars  # noqa: F401  (register their rewrites)
from pm_gaussgrad.ops.backends.loading import register_backends
from pm_gaussgrad.ops.batching import (
    count_batch_dims,
    join_dims,
    lengths,
    quad_logdet_alpha,
    rows_last,
    split_dims,
    transform_rows,
)
from pm_gaussgrad.ops.definition import is_disconnected, pullback_by_definition
from pm_gaussgrad.ops.factor_product import FactorProduct, multiply_factor
from pm_gaussgrad.ops.gamma_ratio import log_gamma_ratio
from pm_gaussgrad.ops.gaps import condition_on_observed_rows
from pm_gaussgrad.ops.information import information_by_kernel
from pm_gaussgrad.ops.inv_quad_logdet import (
    InvQuadLogdet,
    InvQuadLogdetPullback,
    dense_quad_logdet,
)
from pm_gaussgrad.ops.inverse_diagonal import InverseDiagonal, inverse_diagonal
from pm_gaussgrad.ops.matrix_product import inner_products, matrix_product
from pm_gaussgrad.ops.partition import assemble, partition
from pm_gaussgrad.ops.patterned_rows import patterned_rows
from pm_gaussgrad.ops.recurrence import linear_recurrence
from pm_gaussgrad.ops.remembered import remembered
from pm_gaussgrad.ops.select import among_zeros, entries_at
from pm_gaussgrad.ops.woodbury import cotangent_of_factor, without_factors

register_backends()

__all__ = [
    "FactorProduct",
    "InvQuadLogdet",
    "InvQuadLogdetPullback",
    "InverseDiagonal",
    "among_zeros",
    "assemble",
    "condition_on_observed_rows",
    "cotangent_of_factor",
    "count_batch_dims",
    "dense_quad_logdet",
    "entries_at",
    "information_by_kernel",
    "inner_products",
    "inverse_diagonal",
    "is_disconnected",
    "join_dims",
    "lengths",
    "linear_recurrence",
    "log_gamma_ratio",
    "matrix_product",
    "multiply_factor",
    "partition",
    "patterned_rows",
    "pullback_by_definition",
    "quad_logdet_alpha",
    "remembered",
    "rows_last",
    "split_dims",
    "transform_rows",
    "without_factors",
]
