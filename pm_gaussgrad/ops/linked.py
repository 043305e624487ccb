"""Calls of compiled kernels by the name of their machine code; importing it imports numba.

numba links into a function all that it calls, and optimises it and emits it again: a kernel once in
its wrapper, in what PyTensor puts around each Op, in the graph, in what PyTensor puts around that.
Half of the time to compile a model went there. A kernel that is called by name is compiled once;
so that its name means the same in every process, it has one type, that of arrays which are
C-contiguous and may be written to.
"""

import llvmlite.binding as llvm
import numpy as np
from numba.core import cgutils, types
from numba.core.extending import intrinsic, overload
from numba.core.imputils import impl_ret_borrowed, impl_ret_new_ref


@intrinsic
def as_mutable(typing_context, array):
    """The same array; whoever asks for it promises to write to it only where that is allowed.

    numba would compile once more for arrays that are read-only, as constants of a graph are.
    """
    layout = array.layout if array.ndim else "C"
    mutable = array.copy(readonly=False, layout=layout)

    def codegen(context, builder, signature, arguments):
        return impl_ret_borrowed(context, builder, mutable, arguments[0])

    return mutable(array), codegen


def as_argument(array):
    """The array, C-contiguous: itself where it is."""
    return np.require(array, requirements=["C", "W"])


@overload(as_argument)
def _as_argument(array):
    if array.layout == "C" or array.ndim == 0:
        return lambda array: as_mutable(array)
    return lambda array: np.ascontiguousarray(as_mutable(array))


def name_and_signature(function, key: str, dtypes_and_ranks: tuple):
    """Compile for these arrays, or load from disk, and tell LLVM the address by name."""
    arguments = tuple(types.Array(dtype, rank, "C") for dtype, rank in dtypes_and_ranks)
    function.compile(arguments)
    compiled = function.overloads[arguments]
    name = "_".join(["pm_gaussgrad", key, *(f"{x.dtype}{x.ndim}" for x in arguments)])
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    llvm.add_symbol(name, address)
    return name, compiled.signature


def caller(function, key: str):
    """For compiled code: the function of a tuple of arguments, which is not linked."""

    @intrinsic
    def call(typing_context, arguments):
        arrays = [(array.dtype, array.ndim) for array in arguments]
        name, signature = name_and_signature(function, key, tuple(arrays))

        def codegen(context, builder, _, packed):
            values = cgutils.unpack_tuple(builder, packed[0], len(arrays))
            convention, result_type = context.call_conv, signature.return_type
            declared = convention.get_function_type(result_type, signature.args)
            address = cgutils.get_or_insert_function(builder.module, declared, name)
            status, result = convention.call_function(
                builder, address, result_type, signature.args, values
            )
            with cgutils.if_unlikely(builder, status.is_error):
                convention.return_status_propagate(builder, status)
            return impl_ret_new_ref(context, builder, result_type, result)

        return signature.return_type(arguments), codegen

    return call
