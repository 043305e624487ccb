"""What a structure with kernels declares, checked when its class is made.

A wrong declaration would otherwise be found by each backend in its own way, or by none.
"""

import re

from pm_gaussgrad.ops.signature import kernel_arguments

_RESERVED = {"residual", "rows", "alpha", "quad_bar", "logdet_bar"}
_NAME = re.compile(r"[A-Za-z]\w*|\d+")


def check_declaration(kind) -> None:
    """Raise a TypeError where shapes, facts and kernels of a structure's class do not agree."""
    parameters, saved = kind.parameter_shapes, kind.saved_shapes
    declared = [*parameters, *saved, *kind.facts]
    for name in declared:
        if declared.count(name) > 1:
            _fail(kind, f"`{name}` is declared twice, expected different names")
        if not name.isidentifier():
            _fail(kind, f"`{name}` is no identifier, expected a name of an argument of kernels")
        if name in _RESERVED:
            _fail(kind, f"`{name}` is a name that kernels have already; choose another")
    for name, dims in {**parameters, **saved}.items():
        if wrong := [dim for dim in dims.split() if not _NAME.fullmatch(dim)]:
            _fail(kind, f"`{name}` has the dimension {wrong[0]!r}, expected names and integers")
    bound = {"m", "n", *kind.facts, *(dim for x in parameters.values() for dim in x.split())}
    for name, dims in saved.items():
        if free := [dim for dim in dims.split() if dim not in bound and not dim.isdecimal()]:
            _fail(kind, f"no parameter has the dimension {free[0]} of the saved `{name}`")
    _check_names(kind, "repeated", kind.repeated, {*parameters, *saved})
    _check_names(kind, "repeated", kind.repeated.values(), set(kind.facts))
    _check_names(kind, "constant_parameters", kind.constant_parameters, set(parameters))
    _check_kernels(kind, {*parameters, *kind.facts}, set(saved))


def _check_names(kind, where, names, known) -> None:
    if unknown := sorted(set(names) - known):
        _fail(kind, f"{where} has {unknown[0]!r}, expected one of {sorted(known)}")


def _check_kernels(kind, given, saved) -> None:
    """Each kernel takes what there is when it is called."""
    forward = {"residual", *given}
    pullback = {*forward, "alpha", *saved, "quad_bar", "logdet_bar"}
    outputs = {
        "forward": {"alpha", *saved},
        "pullback": {f"{name}_bar" for name in kind.parameter_shapes},
    }
    known = {"forward": forward, "pullback": pullback}
    takes = {f"{name}_jax": inputs for name, inputs in known.items()}
    takes |= {name: known[name] | outputs[name] & kind.overwrites.keys() for name in known}
    takes |= {f"{name}_kernel": {"rows", *given} for name in kind.row_transforms}
    takes |= {f"{name}_kernel_jax": {"rows", *given} for name in kind.row_transforms}
    has_gradient = set(kind.parameter_shapes) - kind.constant_parameters
    needed = {"pullback"} if has_gradient else set()
    needed |= {f"{name}_kernel" for name in kind.row_transforms}
    for name, inputs in takes.items():
        kernel = getattr(kind, name, None)
        if kernel is None and name in needed:
            _fail(kind, f"there is no static function `{name}`")
        if kernel is not None:
            _check_names(kind, f"`{name}`", kernel_arguments(kernel), inputs)
    _check_names(kind, "overwrites", kind.overwrites, set().union(*outputs.values()))
    for output, memory in kind.overwrites.items():
        name = "forward" if output in outputs["forward"] else "pullback"
        _check_names(kind, "overwrites", [memory], known[name])
        if output not in kernel_arguments(getattr(kind, name)):
            _fail(kind, f"overwrites has {output!r}, which `{name}` does not take to write it to")


def _fail(kind, message) -> None:
    raise TypeError(f"class {kind.__name__}: {message}.")
