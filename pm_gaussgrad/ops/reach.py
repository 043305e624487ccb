"""What a kernel reaches: the functions that it calls, and a hash of their code."""

import functools
import hashlib
import importlib
import inspect
import sys
from types import CodeType, FunctionType, ModuleType

import numpy as np

from pm_gaussgrad.kernels import lapack, lapack_panels

# Modules whose functions have a compiled form of their own, in the module of that name.
TWINS = {module.__name__: f"{module.__name__}_numba" for module in (lapack, lapack_panels)}


def _names(code: CodeType) -> set[str]:
    """Every global and attribute name in a code object and the ones nested in it."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def referenced_values(function: FunctionType) -> dict[str, object]:
    """What a function refers to outside itself: globals, module attributes, closure cells."""
    names = _names(function.__code__)
    values = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, value in list(values.items()):
        if isinstance(value, ModuleType):
            members = names & vars(value).keys()
            values |= {f"{name}.{member}": vars(value)[member] for member in members}
    if function.__closure__:
        cells = (cell.cell_contents for cell in function.__closure__)
        values |= dict(zip(function.__code__.co_freevars, cells, strict=True))
    return values


def reachable_functions(function: FunctionType, beyond_apart=True) -> list[FunctionType]:
    """The function and every Python function that it calls, directly or not, once each.

    On request not those that are called by functions that are compiled apart alone.
    """
    found: list[FunctionType] = []
    waiting = [function]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.append(current)
        if current is not function and hasattr(current, "arguments") and not beyond_apart:
            continue
        for _, value in sorted(referenced_values(current).items()):
            value = getattr(value, "py_func", value)
            if isinstance(value, FunctionType) and not _is_library(value):
                waiting.append(value)
    return found


def _is_library(function: FunctionType) -> bool:
    """Whether numba itself knows the function (NumPy's, the standard library's)."""
    root = function.__module__.partition(".")[0]
    return root in ("numpy", "numba", "scipy") or root in sys.stdlib_module_names


def _code_digest(code: CodeType, digest) -> None:
    digest.update(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _code_digest(constant, digest)
        else:
            # The order of a set differs between processes.
            ordered = sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
            digest.update(repr(ordered).encode())


def fingerprint(function: FunctionType) -> str:
    """Hash of the code of a kernel and of all that it calls, and of the constants they read.

    numba's cache on disk would otherwise return the numbers of an older kernel: its own
    stamp knows the file of the outermost function only.
    """
    digest = hashlib.sha256()
    for reached in reachable_functions(function):
        digest.update(f"{reached.__module__}.{reached.__qualname__}".encode())
        _code_digest(reached.__code__, digest)
        constants = referenced_values(reached) | {
            "defaults": reached.__defaults__,
            "keyword defaults": tuple((reached.__kwdefaults__ or {}).items()),
        }
        for name, value in sorted(constants.items()):
            digest.update(f"{name}={_constant_text(value)}".encode())
        if twin := TWINS.get(reached.__module__):
            digest.update(_source(twin))
    return digest.hexdigest()


def _constant_text(value) -> str:
    """Text that tells apart the values which numba compiles in as constants."""
    if isinstance(value, np.ndarray | np.generic):
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype}{np.shape(value)}{content}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant_text, value))})"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if callable(value) or isinstance(value, ModuleType):
        return "code"
    return repr(type(value))


@functools.cache
def _source(module: str) -> bytes:
    return inspect.getsource(importlib.import_module(module)).encode()
