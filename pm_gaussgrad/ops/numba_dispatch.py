"""numba's linker: the compiled kernels, as they are; importing it imports numba."""

from pytensor.link.numba.dispatch.basic import register_funcify_and_cache_key

from pm_gaussgrad.ops.inv_quad_logdet import (
    InvQuadLogdet,
    InvQuadLogdetPullback,
    RowTransform,
)


@register_funcify_and_cache_key(InvQuadLogdet)
@register_funcify_and_cache_key(InvQuadLogdetPullback)
@register_funcify_and_cache_key(RowTransform)
def numba_funcify_structure_op(op, node=None, **kwargs):
    """The compiled kernel and its cache key."""
    return op.compiled()
