"""numba's linker: the compiled kernels, as they are; importing it imports numba."""

from pytensor.link.numba.dispatch.basic import register_funcify_and_cache_key

from pm_gaussgrad.ops.factor_product import FactorProduct
from pm_gaussgrad.ops.inv_quad_logdet import InvQuadLogdet, InvQuadLogdetPullback


@register_funcify_and_cache_key(FactorProduct)
@register_funcify_and_cache_key(InvQuadLogdet)
@register_funcify_and_cache_key(InvQuadLogdetPullback)
def numba_funcify_structure_op(op, node=None, **kwargs):
    """The compiled kernel and its cache key."""
    return op.compiled()
