"""Calls of compiled kernels by the name of their machine code; importing it imports numba.

numba links into a function all that it calls, and optimises it and emits it again: a kernel once in
its wrapper, in what PyTensor puts around each Op, in the graph, in what PyTensor puts around that.
Half of the time to compile a model went there. A kernel that is called by name is compiled once;
so that its name means the same in every process, it has one type, that of arrays which are
C-contiguous and may be written to.
"""

import ctypes

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types, typing
from numba.core.compiler_lock import global_compiler_lock
from numba.core.extending import intrinsic, lower_builtin, overload
from numba.core.imputils import impl_ret_borrowed, impl_ret_new_ref
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.np.numpy_support import from_dtype

# Functions that are compiled when they are called: where their address is to be, and what does it.
_LATER: dict[str, tuple] = {}


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
    name = _name(key, arguments)
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    llvm.add_symbol(name, address)
    return name, compiled.signature


def _name(key, arguments):
    kinds = (f"{x.dtype}{x.ndim}" if isinstance(x, types.Array) else f"{x}" for x in arguments)
    return "_".join(["pm_gaussgrad", key, *kinds])


def name_of_later(prepared, key: str, arguments: tuple, result: tuple):
    """The name and the declared signature of a function that is compiled when it is called.

    Under the name is where its address is to be, and under another what compiles it, which may be
    called from any thread: ``ctypes`` takes the GIL. Both live as long as the process.
    """
    returned = types.none if not result else result[0] if len(result) == 1 else types.Tuple(result)
    signature = typing.signature(returned, *arguments)
    name = _name(key, arguments)
    with global_compiler_lock:  # one thread at a time, and the first one's for all
        if name not in _LATER:
            _LATER[name] = _place_and_compiler(prepared, key, signature)
            address = ctypes.cast(_LATER[name][1], ctypes.c_void_p).value
            llvm.add_symbol(name, ctypes.addressof(_LATER[name][0]))
            llvm.add_symbol(f"{name}_compile", address)
    return name, signature


def _place_and_compiler(prepared, key, signature):
    """Where an address is to be, and what compiles a function and writes it there."""
    place, now, arguments = ctypes.c_void_p(), f"{key}_now", signature.args

    @ctypes.CFUNCTYPE(ctypes.c_void_p)
    def compile_now():
        with global_compiler_lock:
            if not place.value:
                function = prepared()
                _, found = name_and_signature(function, now, arguments)
                if found.return_type != signature.return_type:
                    raise TypeError(f"{function.__name__} returns {found.return_type}.")
                place.value = llvm.address_of_symbol(_name(now, arguments))
            return place.value

    return place, compile_now


def _call(context, builder, name, signature, arrays, values, later=False):
    """The call of a function by its name; arrays may be laid out otherwise than it has them."""
    passed, copies = [], []
    for array, wanted, value in zip(arrays, signature.args, values, strict=True):
        if isinstance(array, types.Array) and array.ndim and array.layout != "C":
            made = typing.signature(wanted, array)
            value = context.compile_internal(builder, _contiguous, made, (value,))
            copies.append((wanted, value))
        passed.append(value)
    convention, result_type = context.call_conv, signature.return_type
    declared = convention.get_function_type(result_type, signature.args)
    if later:
        address = builder.bitcast(_address(context, builder, name), declared.as_pointer())
    else:
        address = cgutils.get_or_insert_function(builder.module, declared, name)
    status, result = convention.call_function(builder, address, result_type, signature.args, passed)
    for wanted, value in copies:
        context.nrt.decref(builder, wanted, value)
    with cgutils.if_unlikely(builder, status.is_error):
        convention.return_status_propagate(builder, status)
    return impl_ret_new_ref(context, builder, result_type, result)


def _address(context, builder, name):
    """Where a function is that may have to be compiled first."""
    known, pointer = builder.module.globals, context.get_value_type(types.voidptr)
    place = known[name] if name in known else ir.GlobalVariable(builder.module, pointer, name)
    address = cgutils.alloca_once_value(builder, builder.load(place))
    with builder.if_then(cgutils.is_null(builder, builder.load(address)), likely=False):
        compile_now = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(pointer, []), f"{name}_compile"
        )
        builder.store(builder.call(compile_now, []), address)
        with cgutils.if_unlikely(builder, cgutils.is_null(builder, builder.load(address))):
            message = ("a function could not be compiled: the error is printed above",)
            context.call_conv.return_user_exc(builder, RuntimeError, message)
    return builder.load(address)


def _contiguous(array):
    return as_argument(array)


def call_by_name(function, name: str, signature, of_any_layout=False, later=False) -> None:
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
        return _call(context, builder, name, signature, found.args, values, later)


def are_as_declared(arguments, declared) -> bool:
    """Whether arrays are of the declared dtypes, ranks and layouts; they may be read-only."""
    return len(arguments) == len(declared) and all(map(_is_as_declared, arguments, declared))


def _is_as_declared(x, declared):
    if isinstance(x, types.Array) and isinstance(declared, types.Array):
        return (x.dtype, x.ndim, x.layout) == (declared.dtype, declared.ndim, declared.layout)
    return types.unliteral(x) == declared
