r"""log Gamma(a + h) - log Gamma(a) - h log a without cancellation, and its derivatives.

The difference of two log Gamma functions of 1e8 has seven digits after the point, and that of
their derivatives none that count. With Gamma(z + 1) = z Gamma(z), both are shifted by k to where
Stirling's series with the remainder s is exact to rounding, and what is large cancels on paper:

    (b + h - 1/2) log(1 + h / b) - h + h log(1 + k / a) - sum_{i < k} log(1 + h / (a + i))
        + s(b + h) - s(b),    b = a + k

Every term tends to a constant of the size of h or to zero for large a, and so does the error.
(Abramowitz and Stegun, 1964, Handbook of Mathematical Functions, equations 6.1.15 and 6.1.40.)
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.builders import SymbolicOp
from pytensor.graph.replace import _vectorize_node

# s(z) = sum_j c_j z^-(2j + 1), to 1e-16 for z > 10.
_SHIFT = 10
_COEFFICIENTS = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_OF_DERIVATIVE = tuple(-(2 * j + 1) * c for j, c in enumerate(_COEFFICIENTS))


def _series(coefficients, z):
    """``sum_j coefficients[j] z^-2j`` by Horner's scheme."""
    square, total = z**-2, 0.0
    for coefficient in reversed(coefficients):
        total = coefficient + square * total
    return total


def _shifted(a):
    """a, a + 1, ... along a new last axis."""
    return pt.expand_dims(a, -1) + np.arange(_SHIFT, dtype=a.dtype)


class LogGammaRatio(SymbolicOp):
    """``(a, h) -> log Gamma(a + h) - log Gamma(a) - h log a`` entry by entry, a > 0 and h >= 0.

    Its gradient is a formula, so that nothing of the value has to be kept for it.
    """

    __props__ = ()
    inline = True

    def build_inner_graph(self, a, h):
        b = a + _SHIFT
        shift = h * pt.log1p(_SHIFT / a)
        shift -= pt.log1p(pt.expand_dims(h, -1) / _shifted(a)).sum(axis=-1)
        remainders = [_series(_COEFFICIENTS, z) / z for z in (b + h, b)]
        value = (b + h - 0.5) * pt.log1p(h / b) - h + shift + remainders[0] - remainders[1]
        return [value.astype(a.dtype)]

    def pullback(self, inputs, outputs, cotangents):
        a, h = inputs
        [cotangent] = cotangents
        b, h_last = a + _SHIFT, pt.expand_dims(h, -1)
        log1p, terms = pt.log1p(h / b), _shifted(a)
        remainders = [_series(_OF_DERIVATIVE, z) / z**2 for z in (b + h, b)]
        by_a = (
            (log1p - h / b)
            + 0.5 * h / b / (b + h)
            + (h_last / terms / (terms + h_last)).sum(axis=-1)
            - _SHIFT * h / a / b
            + remainders[0]
            - remainders[1]
        )
        by_h = (
            (log1p - 0.5 / (b + h))
            + (pt.log1p(_SHIFT / a) - (1 / (terms + h_last)).sum(axis=-1))
            + remainders[0]
        )
        return [(cotangent * by).astype(a.dtype) for by in (by_a, by_h)]


@_vectorize_node.register(LogGammaRatio)
def _vectorize_log_gamma_ratio(op, node, *inputs):
    return op(*pt.broadcast_arrays(*inputs)).owner


def log_gamma_ratio(a, h):
    """log Gamma(a + h) - log Gamma(a) - h log a, where a and h broadcast.

    a is positive and h is not negative; the error is a few units in the last place of h.
    """
    return LogGammaRatio()(*pt.broadcast_arrays(a, h))
