"""Large arrays for compiled code, by the name of their content; importing it imports numba."""

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import from_dtype


def held_array(array: np.ndarray, digest: str):
    """For compiled code: a function without arguments that returns an array, which is not embedded.

    The array is C-contiguous and must live as long as the process.
    """
    name = f"pm_gaussgrad_held_{digest}"
    llvm.add_symbol(name, array.ctypes.data)
    array_type = types.Array(from_dtype(array.dtype), array.ndim, "C")

    @intrinsic
    def held(typing_context):
        def codegen(context, builder, signature, arguments):
            known, entry = builder.module.globals, context.get_data_type(array_type.dtype)
            start = known[name] if name in known else ir.GlobalVariable(builder.module, entry, name)
            shape, strides = (
                [context.get_constant(types.intp, x) for x in sizes]
                for sizes in (array.shape, array.strides)
            )
            itemsize = context.get_constant(types.intp, array.itemsize)
            made = context.make_array(array_type)(context, builder)
            populate_array(made, start, shape, strides, itemsize, meminfo=None)
            return made._getvalue()

        return array_type(), codegen

    return held
