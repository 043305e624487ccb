"""Read-only arrays under the type of writable ones, in compiled code; importing it imports numba.

numba compiles a function again for arrays that are read-only, as constants of a graph are, and
after PyTensor has once evaluated a constant it is read-only everywhere. Kernels read their inputs
in the same way whether they could write to them or not.
"""

from numba.core import types
from numba.core.extending import intrinsic
from numba.core.imputils import impl_ret_borrowed


@intrinsic
def as_mutable(typing_context, array):
    """The same array; whoever asks for it promises to write to it only where that is allowed."""
    if not isinstance(array, types.Array):
        return None
    mutable = array.copy(readonly=False)

    def codegen(context, builder, signature, arguments):
        return impl_ret_borrowed(context, builder, mutable, arguments[0])

    return mutable(array), codegen
