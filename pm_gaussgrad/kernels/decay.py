"""exp(-x) and 1 - exp(-x) of many numbers at once.

A processor evaluates the functions of the mathematical library one number at a time; these are
multiplications and additions, which it does on several numbers side by side. With k the whole
number next to x / log 2, and r = x - k log 2, |r| <= log(2) / 2,

    1 - exp(-x) = (1 - 2^-k) + 2^-k (1 - exp(-r)),    exp(-x) = 2^-k (1 - (1 - exp(-r))),

the last from its series, whose terms beyond the 13th are below the rounding. No digits cancel in
either, so that neither is to be had from the other: the error of the first is at most 2 units in
the last place, that of the second a few, and what the rounding of x makes of it. (Muller, 2016,
Elementary Functions, 3rd ed., sections 5.2 and 11.1: the reduction, and log 2 in two parts.)
"""

import numpy as np

_HIGH, _LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LARGEST = 709.09  # above 1023 log 2, where the bits of 2^-k are those of zero


def decay(x):
    """exp(-x) and 1 - exp(-x) for x >= 0, infinity too: (n,) -> (n,), in double precision."""
    n = x.size
    rest, bits = np.empty(n, np.float64), np.empty(n, np.int64)
    for i in range(n):
        y = min(x[i], _LARGEST)
        k = np.floor(y * 1.4426950408889634 + 0.5)
        r = (y - k * _HIGH) - k * _LOW
        q = 1 / 479001600 - r / 6227020800
        q = 1 / 39916800 - r * q
        q = 1 / 3628800 - r * q
        q = 1 / 362880 - r * q
        q = 1 / 40320 - r * q
        q = 1 / 5040 - r * q
        q = 1 / 720 - r * q
        q = 1 / 120 - r * q
        q = 1 / 24 - r * q
        q = 1 / 6 - r * q
        q = 0.5 - r * q
        q = 1 - r * q
        rest[i] = r * q
        bits[i] = (1023 - np.int64(k)) << 52  # those of 2^-k
    left = bits.view(np.float64)
    for i in range(n):
        power, beyond = left[i], rest[i]
        left[i] = power * (1 - beyond)
        rest[i] = (1 - power) + power * beyond
    return left, rest
