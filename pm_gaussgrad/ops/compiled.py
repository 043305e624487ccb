"""Kernels as compiled functions: the key of their cache, the wrapper, calls by name.

Structures write kernels as plain Python functions. This module turns one into a numba
function that checks sizes, passes 0-d arrays as scalars, and returns 0-d arrays where
the signature says so. numba is imported here, when the first kernel is compiled, and
not before.
"""

import functools
import hashlib
import importlib
import inspect
from types import FunctionType

import numpy as np

from pm_gaussgrad.kernels.symmetric import weighted_rows
from pm_gaussgrad.ops.reach import TWINS, fingerprint, reachable_functions
from pm_gaussgrad.ops.signature import Signature, kernel_arguments


def _register_calls(function: FunctionType) -> None:
    """Let compiled code call what a function calls."""
    for reached in reachable_functions(function, beyond_apart=False):
        if reached is not function:
            _register(reached)


@functools.cache
def _register(function: FunctionType) -> None:
    """Let compiled code call a plain Python function."""
    from numba.extending import register_jitable

    if twin := TWINS.get(function.__module__):
        importlib.import_module(twin)
    elif hasattr(function, "arguments"):
        _register_by_name(function)
    else:
        options = {"error_model": "numpy"}
        if hasattr(function, "in_place"):
            options |= {"forceinline": True, "fastmath": {"contract"}}
        register_jitable(**options)(function)


def _register_by_name(function: FunctionType) -> None:
    """Compile a function that is marked as ``apart``, and let compiled code call it by its name.

    What calls it may come from disk, where nothing but the name is left of it.
    """
    import numba
    from numba.extending import overload
    from pytensor.link.numba.cache import CACHED_SRC_FUNCTIONS

    from pm_gaussgrad.ops.linked import (
        are_as_declared,
        as_types,
        call_by_name,
        name_and_signature,
        name_of_later,
    )

    own = FunctionType(function.__code__, function.__globals__, function.__name__)
    key = CACHED_SRC_FUNCTIONS[own] = _key(function, "apart")
    options = {"error_model": "numpy", "nogil": True, "cache": True}
    # Nothing but compiled code calls it.
    compiled = numba.njit(own, no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)
    arguments, later = as_types(function.arguments), function.result is not None

    def prepared():
        _register_calls(function)
        return compiled

    if later:
        result = as_types(function.result)
        name, signature = name_of_later(prepared, key, arguments, result)
    else:
        name, signature = name_and_signature(prepared(), key, arguments)
    call_by_name(function, name, signature, later=later)

    @overload(function, jit_options={"error_model": "numpy"}, strict=False)
    def otherwise(*arrays):
        if are_as_declared(arrays, signature.args):
            return None
        _register_calls(function)
        return function  # a copy would not be written to


def wrapper_source(signature: Signature, arguments: list[str], zero_inputs: tuple[str, ...]) -> str:
    """Python source of the compiled wrapper of a kernel.

    Parameters
    ----------
    signature
        The inputs and outputs of the wrapper.
    arguments
        Those of the kernel.
    zero_inputs
        Inputs in which the kernel is linear (the cotangents of a pullback). Where all of
        them vanish the wrapper returns zeros without calling the kernel, so that a point
        rejected for its covariance, where the saved factors are NaN, has a finite gradient.
        Rows of the other inputs whose own cotangent vanishes, where a quadratic form has
        overflowed, are zero to the kernel.
    """
    dims_of = dict(signature.inputs)
    dtype = f"{signature.dtype_from}.dtype"
    lines = [f"def wrapper({', '.join(dims_of)}):"]
    for condition, message in signature.size_conditions():
        lines += [f"    if {condition}:", f"        raise ValueError({message!r})"]
    if zero_inputs:
        vanish = [f"not {n}.any()" if dims_of[n] else f"{n}[()] == 0" for n in zero_inputs]
        sizes = signature.size_expressions()
        zeros = [
            f"np.zeros(({''.join(sizes[dim] + ', ' for dim in dims)}), {dtype})"
            for _, dims in signature.outputs
        ]
        lines += [f"    if {' and '.join(vanish)}:", f"        return {_result(zeros)}"]
        [weights] = (name for name in zero_inputs if dims_of[name])
        lines += [
            f"    {name} = weighted_rows({name}, {weights})"
            for name in arguments
            if name in dims_of and name not in zero_inputs and dims_of[name][:1] == dims_of[weights]
        ]
    passed = ", ".join(_passed(signature, dims_of, name) for name in arguments)
    results = signature.kernel_results
    lines.append(
        f"    ({''.join(f'result_{i}, ' for i in range(len(results)))}) = kernel({passed})"
    )
    outputs, returned = [], []
    for i, result in enumerate(results):
        several = not isinstance(result, str)
        outputs += [f"result_{i}[{j}]" for j in range(len(result))] if several else [f"result_{i}"]
    for i, (output, (_, dims)) in enumerate(zip(outputs, signature.outputs, strict=True)):
        returned.append(output if dims else f"scalar_{i}")
        if not dims:
            lines += [
                f"    scalar_{i} = np.empty((), {dtype})",
                f"    scalar_{i}[()] = {output}",
            ]
    lines.append(f"    return {_result(returned)}")
    return "\n".join(lines) + "\n"


def _passed(signature: Signature, dims_of: dict, name: str) -> str:
    """An argument of the kernel, as an expression of the wrapper's inputs, or memory for it."""
    if members := dict(signature.together).get(name):
        arrays = (x if dims_of[x] else f"{x}[()]" for x in members)
        return f"({', '.join(arrays)},)"
    if name in dims_of:
        return name if dims_of[name] else f"{name}[()]"
    if name in dict(signature.facts):
        return str(dict(signature.facts)[name])
    if name in dict(signature.memory):
        return dict(signature.memory)[name]
    sizes = signature.size_expressions()
    shape = "".join(sizes[dim] + ", " for dim in dict(signature.outputs)[name])
    return f"np.empty(({shape}), {signature.dtype_from}.dtype)"


def _result(expressions: list[str]) -> str:
    """PyTensor's convention: one output is returned bare, several as a tuple."""
    return expressions[0] if len(expressions) == 1 else f"({', '.join(expressions)})"


class CompiledKernel:
    """A kernel as machine code, for arrays that are C-contiguous and may be written to.

    It releases the GIL and keeps NaN and signed zeros exact: nothing is reordered. Its numbers are
    the same from Python (``perform``, JAX callbacks) and from other compiled code (numba's linker).

    Attributes
    ----------
    function
        numba's, of arrays.
    key : str
        Under which it is kept on disk.
    """

    def __init__(self, function, key: str, title: str):
        from pm_gaussgrad.ops.linked import as_argument

        self.function, self.key, self.as_argument, self._title = function, key, as_argument, title
        self._linked = {}

    def __call__(self, *arrays):
        try:
            return self.function(*map(self.as_argument, arrays))
        except Exception as error:
            self._explain(error)
            raise

    def linked(self, inputs: list):
        """For compiled code with inputs of these types of PyTensor: a function that calls it."""
        from pm_gaussgrad.ops.linked import as_types, call_by_name, name_and_signature

        arrays = as_types(tuple((x.dtype, x.ndim) for x in inputs))
        if arrays in self._linked:
            return self._linked[arrays]
        # Code that comes from disk is not compiled again, but needs the name.
        try:
            name, signature = name_and_signature(self.function, self.key, arrays)
        except Exception as error:
            self._explain(error)
            raise

        def linked(*arrays):
            return self.function(*arrays)

        call_by_name(linked, name, signature, of_any_layout=True)
        self._linked[arrays] = linked
        return linked

    def _explain(self, error) -> None:
        """Whose kernel it is that numba cannot compile, which knows no more than the wrapper."""
        from numba.core.errors import NumbaError

        if isinstance(error, NumbaError):
            plain = "NUMBA_DISABLE_JIT=1 runs it as plain Python, which says more"
            error.add_context(f"{self._title}; {plain}")


def compiled_kernel(kernel: FunctionType, signature: Signature, zero_inputs: tuple[str, ...] = ()):
    """The function of a kernel that Ops call.

    Where ``numba.config.DISABLE_JIT`` is set, as by ``NUMBA_DISABLE_JIT=1``, it is plain Python,
    for a debugger; else a :class:`CompiledKernel`.
    """
    from numba import config

    make = _interpreted if config.DISABLE_JIT else _compiled
    return make(kernel, signature, zero_inputs)


@functools.cache
def _compiled(kernel, signature, zero_inputs):
    for function in [*reachable_functions(kernel, beyond_apart=False), weighted_rows]:
        _register(function)
    source = wrapper_source(signature, kernel_arguments(kernel), zero_inputs)
    function, key = _kept_on_disk(kernel, source)
    title = f"{signature.owner}: the kernel `{kernel.__name__}`"
    return CompiledKernel(function, key, title)


def compiled_function(function: FunctionType):
    """A function of arrays that is no kernel of an Op, as machine code that is kept on disk.

    Where ``numba.config.DISABLE_JIT`` is set, itself.
    """
    from numba import config

    return function if config.DISABLE_JIT else _compiled_function(function)[0]


@functools.cache
def _compiled_function(function):
    """numba's function of arrays, and the key under which it is kept."""
    _register_calls(function)
    names = ", ".join(inspect.signature(function).parameters)
    return _kept_on_disk(function, f"def wrapper({names}):\n    return kernel({names})\n")


def _kept_on_disk(kernel, source: str):
    """numba's function of a wrapper in which a kernel is inlined, and the key of both on disk."""
    import numba

    key = _key(kernel, source)
    inner = numba.njit(error_model="numpy", inline="always")(kernel)
    wrapper = _function(source, "wrapper", {"kernel": inner}, cache_key=key)
    options = {"error_model": "numpy", "nogil": True, "cache": True}
    return numba.njit(wrapper, no_cfunc_wrapper=True, **options), key


def _key(function, source: str) -> str:
    """Of a function, and of the source of what is compiled around it."""
    from numba import __version__

    stamp = f"{source}{fingerprint(function)}{_recipe()}{__version__}"
    return hashlib.sha256(stamp.encode()).hexdigest()


def _recipe() -> str:
    """Hash of how kernels are compiled and called."""
    from pm_gaussgrad.ops.linked import call_by_name

    how = fingerprint(_compiled.__wrapped__) + inspect.getsource(inspect.getmodule(call_by_name))
    return hashlib.sha256(how.encode()).hexdigest()


@functools.cache
def _interpreted(kernel, signature, zero_inputs):
    source = wrapper_source(signature, kernel_arguments(kernel), zero_inputs)

    def checked(*arguments):
        results = kernel(*arguments)
        signature.check_results(kernel, results)
        return results

    wrapper = _function(source, "wrapper", {"kernel": checked})

    def quiet(*arrays):
        with np.errstate(all="ignore"):  # as compiled code is
            results = wrapper(*arrays)
        signature.check_sizes(kernel, arrays, results)
        return results

    return quiet


def _function(source: str, name: str, known: dict, cache_key: str | None = None) -> FunctionType:
    from pytensor.link.numba.cache import compile_numba_function_src

    names = {"np": np, "weighted_rows": weighted_rows, "__name__": __name__, **known}
    return compile_numba_function_src(source, name, global_env=names, cache_key=cache_key)
