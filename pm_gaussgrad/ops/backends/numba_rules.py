"""numba's linker: the compiled kernels, as they are; importing it imports numba."""

import hashlib
import inspect

from pytensor.link.numba.cache import compile_numba_function_src
from pytensor.link.numba.dispatch.basic import (
    numba_njit,
    register_funcify_and_cache_key,
    register_funcify_default_op_cache_key,
)

from pm_gaussgrad.ops.backends import numba_memory
from pm_gaussgrad.ops.backends.numba_held import held_array
from pm_gaussgrad.ops.compiled import CompiledKernel
from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.held import Held
from pm_gaussgrad.ops.partition import Partition
from pm_gaussgrad.ops.remembered import Remembered


@register_funcify_and_cache_key(CompiledOp)
def numba_funcify_compiled(op, node=None, **kwargs):
    """A call of the compiled kernel, and its cache key."""
    kernel = op.compiled()
    if not isinstance(kernel, CompiledKernel):
        return kernel, None
    return kernel.linked([x.type for x in node.inputs]), kernel.key


@register_funcify_and_cache_key(Held)
def numba_funcify_Held(op, node=None, **kwargs):
    """The array, by the name of its content."""
    held = held_array(op.array, op.digest)
    source = "def held_constant():\n    return held()\n"
    function = compile_numba_function_src(source, "held_constant", {"held": held})
    return numba_njit(function), op.digest


@register_funcify_default_op_cache_key(Partition)
def numba_funcify_Partition(op, node, **kwargs):
    """Slices, written out for the number of blocks."""
    names = [f"size_{i}" for i in range(len(node.outputs))]
    lines = [f"def partition(x, {', '.join(names)}):", "    stop_0 = 0"]
    lines += [f"    stop_{i + 1} = stop_{i} + {name}.item()" for i, name in enumerate(names)]
    lines += [
        f"    if stop_{len(names)} != x.shape[-1]:",
        f"        raise ValueError({op.message!r})",
    ]
    blocks = ", ".join(f"x[..., stop_{i}:stop_{i + 1}].copy()" for i in range(len(names)))
    lines.append(f"    return {blocks}")
    return numba_njit(compile_numba_function_src("\n".join(lines), "partition", {}))


@register_funcify_and_cache_key(Remembered)
def numba_funcify_Remembered(op, node=None, **kwargs):
    """The outputs by a call of Python where data are new, and else from the function's memory."""
    types = [[x.type for x in variables] for variables in (node.inputs, node.outputs)]
    key = numba_memory.register(op, types[0])
    source = numba_memory.source_of(key, types[0], op.watched, types[1])
    function = compile_numba_function_src(source, "remembered", dict(numba_memory.KNOWN))
    stamp = f"{source}{inspect.getsource(numba_memory)}"
    return numba_njit(function), hashlib.sha256(stamp.encode()).hexdigest()
