"""Calls of compiled kernels by the name of their machine code; importing it imports numba.

numba links into a function all that it calls, and optimises it and emits it again: a kernel once in
its wrapper, in what PyTensor puts around each Op, in the graph, in what PyTensor puts around that.
Half of the time to compile a model went there. A kernel that is called by name is compiled once;
so that its name means the same in every process, it has one type, that of arrays which are
C-contiguous and may be written to.
"""

import llvmlite.binding as llvm
import numpy as np
from numba.core import cgutils, types, typing
from numba.core.extending import intrinsic, lower_builtin, overload
from numba.core.imputils import impl_ret_borrowed, impl_ret_new_ref
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.np.numpy_support import from_dtype


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


def as_types(arguments: tuple) -> tuple:
    """numba's types of arguments: dtype and rank of an array, None as the rank of a number."""
    return tuple(
        from_dtype(np.dtype(dtype))
        if rank is None
        else types.Array(from_dtype(np.dtype(dtype)), rank, "C")
        for dtype, rank in arguments
    )


def name_and_signature(function, key: str, arguments: tuple):
    """Compile for these types, or load from disk, and tell LLVM the address by name."""
    function.compile(arguments)
    compiled = function.overloads[arguments]
    kinds = (f"{x.dtype}{x.ndim}" if isinstance(x, types.Array) else f"{x}" for x in arguments)
    name = "_".join(["pm_gaussgrad", key, *kinds])
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    llvm.add_symbol(name, address)
    return name, compiled.signature


def _call(context, builder, name, signature, arrays, values):
    """The call of a function by its name; the types of the arrays need not be those it is of."""
    passed, copies = [], []
    for array, wanted, value in zip(arrays, signature.args, values, strict=True):
        if isinstance(array, types.Array) and array.ndim and array.layout != "C":
            made = typing.signature(wanted, array)
            value = context.compile_internal(builder, _contiguous, made, (value,))
            copies.append((wanted, value))
        passed.append(value)
    convention, result_type = context.call_conv, signature.return_type
    declared = convention.get_function_type(result_type, signature.args)
    address = cgutils.get_or_insert_function(builder.module, declared, name)
    status, result = convention.call_function(
        builder, address, result_type, signature.args, passed
    )
    for wanted, value in copies:
        context.nrt.decref(builder, wanted, value)
    with cgutils.if_unlikely(builder, status.is_error):
        convention.return_status_propagate(builder, status)
    return impl_ret_new_ref(context, builder, result_type, result)


def _contiguous(array):
    return as_argument(array)


def call_by_name(function, name: str, signature, of_any_layout=False) -> None:
    """Let compiled code call a plain function of arrays by a name.

    There is nothing to compile in what calls it but the call. Arrays that are laid out otherwise
    than the signature has them are copied, where ``of_any_layout``, and else no arguments of it.
    """

    class ByName(AbstractTemplate):
        key = function

        def generic(self, arguments, keywords):
            if of_any_layout or are_as_declared(arguments, signature.args):
                numbers = map(types.unliteral, arguments)
                return typing.signature(signature.return_type, *numbers)
            return None

    infer_global(function, types.Function(ByName))
    kinds = [types.Array if isinstance(x, types.Array) else x for x in signature.args]

    @lower_builtin(function, *kinds)
    def call(context, builder, found, values):
        return _call(context, builder, name, signature, found.args, values)


def are_as_declared(arguments, declared) -> bool:
    """Whether arrays are of the declared dtypes, ranks and layouts; they may be read-only."""
    return len(arguments) == len(declared) and all(map(_is_as_declared, arguments, declared))


def _is_as_declared(x, declared):
    if isinstance(x, types.Array) and isinstance(declared, types.Array):
        return (x.dtype, x.ndim, x.layout) == (declared.dtype, declared.ndim, declared.layout)
    return types.unliteral(x) == declared
