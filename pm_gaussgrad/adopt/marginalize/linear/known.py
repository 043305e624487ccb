"""Numbers and shapes of a model's expressions, as far as they are no matter of chance."""

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.sharedvar import TensorSharedVariable

from pm_gaussgrad.adopt.marginalize.linear.substitute import substitute

_PLAIN = Mode(linker="py", optimizer="fast_compile")


class Known:
    """What is known before any draw.

    Parameters
    ----------
    data : sequence of TensorSharedVariable
        The ``pm.Data`` of the model.
    read_data : bool
        Whether their present values count as known.

    Attributes
    ----------
    read : dict
        The data that were read, and the values that they had.
    """

    def __init__(self, data, read_data):
        self._data, self._read_data = {*data}, read_data
        self._values, self._shapes = {}, {}
        self.read = {}

    def value(self, variable):
        """The numbers of a variable; None where it depends on anything unknown."""
        if isinstance(variable, Constant):
            return np.asarray(variable.data)
        if variable not in self._values:
            self._values[variable] = self._evaluated(variable)
        return self._values[variable]

    def fold(self, variable):
        """A constant in place of what is known."""
        value = self.value(variable)
        return variable if value is None else pt.constant(value)

    def shape(self, variable) -> tuple[int, ...]:
        if None not in variable.type.shape:
            return variable.type.shape
        if variable not in self._shapes:
            zeros = {
                x: pt.zeros(x.type.shape, x.dtype)
                for x in ancestors([variable])
                if x.owner is None and not isinstance(x, Constant | TensorSharedVariable)
                if not isinstance(x.type, RandomType)
            }
            [shape] = substitute([variable.shape], zeros)
            self._shapes[variable] = tuple(map(int, _run(shape)))
        return self._shapes[variable]

    def note_shape(self, variable, shape) -> None:
        """Take a shape for known, unless it is None."""
        if shape is not None:
            self._shapes[variable] = shape

    def _evaluated(self, variable):
        data = set()
        for x in ancestors([variable]):
            if isinstance(x.type, RandomType):
                return None
            if x.owner is None and not isinstance(x, Constant):
                if not isinstance(x, TensorSharedVariable):
                    return None
                if x in self._data:
                    data.add(x)
        if data and not self._read_data:
            return None
        self.read |= {x: x.get_value() for x in data}
        return np.asarray(_run(variable))


def _run(variable):
    return pytensor.function([], variable, mode=_PLAIN)()
