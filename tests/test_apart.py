"""Functions that are compiled apart from what calls them, some when they are called."""

import numpy as np
import pytest

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.ops.compiled import _key, compiled_function

pytestmark = pytest.mark.compiled


@apart("float64 1", "int64", result=("float64",))
def entry(values, i):
    return values[i]


def is_positive(value):
    return value > 0


@apart("float64 1", "int64", result=("float64 1", "bool"))
def doubled(values, i):
    return 2 * values, is_positive(entry(values, i))


@apart("float64 1")
def total(values):
    return values.sum()


def caller(values, positions):
    if positions[0] < 0:
        return total(values)
    twice, positive = doubled(values, positions[0])
    return twice.sum() if positive else entry(values, positions[0])


def is_compiled(function):
    from pm_gaussgrad.ops.linked import _LATER

    [place] = [place for name, (place, _) in _LATER.items() if _key(function, "apart") in name]
    return bool(place.value)


def test_compiled_when_called():
    compiled, values = compiled_function(caller), np.array([1.0, -2.0, 4.0])
    assert compiled(values, np.array([-1])) == 3
    assert not is_compiled(doubled)
    assert compiled(values, np.array([1])) == -2
    assert compiled(values, np.array([2])) == 6
    assert is_compiled(doubled)


def test_arrays_that_are_not_as_declared_are_compiled_in():
    """Of another dtype or layout: a copy would not be written to."""
    compiled = compiled_function(caller)
    assert compiled(np.arange(3, dtype=np.float32), np.array([1])) == 6
    assert compiled(np.arange(6.0)[::2], np.array([-1])) == 6


def test_as_plain_python():
    assert caller(np.arange(3.0), [1]) == 6
