"""Shared data (``pm.Data``) in the graph of a log density, and arrays and tensors alike.

Not every shared variable holds data. PyMC puts the present values of *parameters* there when one
step of several moves some of them, and so do optimisers; those are new at each step. Data are what
a model calls so, and what a density is evaluated at: these are marked, in the model's context.
"""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import graph_inputs
from pytensor.tensor.sharedvar import TensorSharedVariable

_MARK = "pm_gaussgrad_data"


def mark_data(*variables) -> None:
    """Note of the shared variables in these graphs that they hold data."""
    for x in graph_inputs(variables):
        if isinstance(x, TensorSharedVariable):
            setattr(x.tag, _MARK, True)


def mark_data_of_model() -> None:
    """The same of what is ``pm.Data`` of the model in whose context this is, if any."""
    model = pm.Model.get_context(error_if_none=False)
    mark_data(*(model.data_vars if model is not None else ()))


def is_data(variable) -> bool:
    """Whether it depends on constants and on shared data, and on at least one of these."""
    inputs = list(graph_inputs([variable]))
    shared = [x for x in inputs if not isinstance(x, Constant)]
    return bool(shared) and all(getattr(x.tag, _MARK, False) for x in shared)


def is_known(variable) -> bool:
    """Whether it is constant or data."""
    return isinstance(variable, Constant) or is_data(variable)


def data_in(*graphs) -> list:
    """The shared data that graphs depend on, once each."""
    found = graph_inputs([x for x in graphs if isinstance(x, Variable)])
    return list(dict.fromkeys(x for x in found if not isinstance(x, Constant)))


def static_length(x, axis) -> int | None:
    """A length of an array or tensor; None where it is not known, which is not one."""
    return x.shape[axis] if isinstance(x, np.ndarray) else x.type.shape[axis]


def length(x, axis):
    """The same, an expression where it is not known."""
    static = static_length(x, axis)
    return x.shape[axis] if static is None else static


def may_differ_by_row(x) -> bool:
    """Whether the rows of an array differ, or those of a tensor might."""
    if isinstance(x, np.ndarray):
        return bool((x != x[:1]).any())
    return x.type.shape[0] != 1


def may_be_nonzero(x) -> bool:
    """Whether an array has an entry that is not zero, or a tensor might."""
    return bool(x.any()) if isinstance(x, np.ndarray) else True


def broadcast(x, shape):
    """To a shape (m, k), of an array or tensor; what has a length is known to have that one."""
    repeated = [static_length(x, axis) == 1 for axis in (0, 1)]
    if isinstance(x, np.ndarray) and not any(isinstance(size, Variable) for size in shape):
        return np.broadcast_to(x, shape)
    if not any(repeated):
        return x
    return pt.broadcast_to(x, [shape[i] if repeated[i] else x.shape[i] for i in (0, 1)])


def side_by_side(pieces):
    """Matrices as one."""
    if all(isinstance(x, np.ndarray) for x in pieces):
        return np.hstack(pieces)
    return pt.concatenate(pieces, axis=1)
