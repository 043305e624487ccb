r"""Products of two stationary processes in time, entry by entry.

Definition: Sigma_ij = cov_1(t_i, t_j) cov_2(t_i, t_j). The state of a product is the Kronecker
product of both states, so that its transition is exp((F_1 (x) I + I (x) F_2) tau), and that of
sums is the sum of all products. Exponentials times waves, and waves times waves, remain waves,

    2 cos(a) cos(b) = cos(a - b) + cos(a + b), and so on;

an exponential shifts F by its rate; all others are linear systems, ``LINEAR`` of
:mod:`pm_gaussgrad.kernels.state_space.processes`, of J_1 J_2 states.

Sources: Solin and Sarkka (2014), Explicit link between periodic covariance functions and state
space models, AISTATS, section 3.3 (the product of states).
"""

import functools
import operator

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.constants import constant_value
from pm_gaussgrad.cov.protocol.entrywise import multiplies
from pm_gaussgrad.cov.protocol.scales import as_positive, nan_unless, product
from pm_gaussgrad.cov.series.state_space import StateSpace, at_the_same_times
from pm_gaussgrad.kernels.state_space.processes import (
    EXPONENTIAL,
    LINEAR,
    MATERN_3_2,
    MATERN_5_2,
    OSCILLATOR,
    POWER,
    WAVE,
    WIENER,
)

# States of a product of two.
_LARGEST = 16
_NILPOTENT = [[0, 1, 0], [0, 0, 1], [-1, -3, -3]]


@multiplies(StateSpace, StateSpace)
def _product_of_processes(left, right):
    if not at_the_same_times(left, right):
        raise TypeError("`time` or `group` differ")
    for cov in (left, right):
        noise = constant_value(cov.parameters[3])
        if noise is None or noise.any():
            raise TypeError("one has noise, which is to be added to the product")
        if any(kind == WIENER for kind, *_ in cov.processes()):
            raise TypeError("a Wiener process is not stationary")
        if any(kind == POWER for kind, *_ in cov.processes()):
            raise TypeError("of an AR1 there is none; of correlation rho it is a Matern12")
    made = [
        process
        for one in left.processes()
        for other in right.processes()
        for process in _of_two(one, other)
    ]
    if max(size for _, size, _ in made) > _LARGEST:
        raise TypeError(f"that of two processes has more than {_LARGEST} states")
    return left.with_processes(made, left.parameters[3])


def _of_two(one, other):
    """The processes that a product of two is the sum of: kind, states and parameters of each."""
    if one[0] > other[0]:
        return _of_two(other, one)
    (kind, size, values), (other_kind, other_size, other_values) = one, other
    usable = functools.reduce(operator.and_, [*_conditions(*one), *_conditions(*other)])
    if kind == EXPONENTIAL and other_kind in (EXPONENTIAL, WAVE):
        *seen, rate = other_values[: 2 if other_kind == EXPONENTIAL else 3]
        amplitudes = [nan_unless(usable, product(values[0], x)) for x in seen]
        rest = other_values[len(seen) + 1 :]
        return [(other_kind, other_size, [*amplitudes, values[1] + rate, *rest])]
    if kind == other_kind == WAVE:
        return _waves(values, other_values, usable)
    system = _kronecker_sum(_generator(*one), _generator(*other))
    start = [_times(x, y) for x in _start(kind, values) for y in _start(other_kind, other_values)]
    zero = pt.zeros_like(nan_unless(usable, values[0]))
    entries = [zero if _is_nothing(x) else x for row in system for x in row]
    start = [zero if _is_nothing(x) else nan_unless(usable, x) for x in start]
    return [(LINEAR, size * other_size, [*entries, *start])]


def _waves(left, right, usable):
    """Two waves, of the sum and of the difference of both frequencies."""
    (a, b, rate, frequency), (c, d, other_rate, other_frequency) = left, right
    ac, bd, ad, bc = product(a, c), product(b, d), product(a, d), product(b, c)
    fast = [(ac - bd) / 2, (ad + bc) / 2, rate + other_rate, frequency + other_frequency]
    slow = [(ac + bd) / 2, (bc - ad) / 2, rate + other_rate, frequency - other_frequency]
    return [
        (WAVE, 2, [*(nan_unless(usable, x) for x in values[:2]), *values[2:]])
        for values in (fast, slow)
    ]


def _conditions(kind, size, values):
    """Where parameters are those of a process, which cannot be seen in a product."""
    if kind == LINEAR:
        return [pt.isfinite(pt.ceil(x)) for x in values]
    if kind == WAVE:
        even, odd, rate, frequency = (pt.isfinite(pt.ceil(x)) for x in values)
        return [even, odd, rate & pt.ge(pt.floor(values[2]), 0), frequency]
    # The gradient of a comparison is that of a rounded number, zeros of its own precision.
    return [pt.ge(pt.floor(values[0]), 0), *(as_positive(x)[0] for x in values[1:])]


def _generator(kind, size, values):
    """F of a process, by rows of numbers and tensors."""
    if kind == EXPONENTIAL:
        return [[-values[1]]]
    if kind == WAVE:
        _, _, rate, frequency = values
        return [[-rate, frequency], [-frequency, -rate]]
    if kind == LINEAR:
        return [values[size * i : size * (i + 1)] for i in range(size)]
    if kind == OSCILLATOR:
        frequency, damping = values[1:]
        return [[0, frequency], [-frequency, -2 * product(frequency, damping)]]
    constant = {MATERN_3_2: [[0, 1], [-1, -2]], MATERN_5_2: _NILPOTENT}[kind]
    return [[_times(x, values[1]) for x in row] for row in constant]


def _start(kind, values):
    """g of a process."""
    if kind == EXPONENTIAL:
        return values[:1]
    if kind == WAVE:
        return values[:2]
    if kind == LINEAR:
        size = round((len(values) + 0.25) ** 0.5 - 0.5)  # F and g are size (size + 1)
        return values[size * size :]
    if kind == MATERN_5_2:
        return [values[0], 0, -values[0] / 3]
    return [values[0], 0]


def _kronecker_sum(left, right):
    """F_1 (x) I + I (x) F_2."""
    pairs = [(i, j) for i in range(len(left)) for j in range(len(right))]
    return [
        [_plus(left[i][k] if j == m else 0, right[j][m] if i == k else 0) for k, m in pairs]
        for i, j in pairs
    ]


def _is_nothing(x):
    return isinstance(x, int) and x == 0


def _plus(x, y):
    if _is_nothing(x):
        return y
    return x if _is_nothing(y) else x + y


def _times(x, y):
    if _is_nothing(x) or _is_nothing(y):
        return 0
    return product(x, y) if not isinstance(x, int) else np.sign(x).item() * (abs(x) * y)
