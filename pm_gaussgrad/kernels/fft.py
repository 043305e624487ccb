"""Discrete Fourier transforms of complex vectors whose length is a power of two.

Sources: Stockham (1966), High-speed convolution and correlation; Van Loan (1992), Computational
Frameworks for the Fast Fourier Transform, section 1.7.
"""

import math

import numpy as np


def power_of_two(least):
    """The smallest power of two that is at least ``least``."""
    size = 1
    while size < least:
        size *= 2
    return size


def roots_of_unity(size):
    """exp(-2 pi i k / size) for k < size / 2."""
    roots = np.empty(size // 2, np.complex128)
    for k in range(size // 2):
        angle = 2 * math.pi * k / size
        roots[k] = complex(math.cos(angle), -math.sin(angle))
    return roots


def fft(x, roots):
    """Transform of ``x``, which is overwritten: the sum over p of x_p exp(-2 pi i p k / size)."""
    other = np.empty_like(x)
    blocks, length = x.size // 2, 1
    while blocks >= 1:
        for j in range(blocks):
            left = x[j * length : (j + 1) * length]
            right = x[(blocks + j) * length : (blocks + j + 1) * length]
            total = other[2 * j * length : (2 * j + 1) * length]
            twisted = other[(2 * j + 1) * length : (2 * j + 2) * length]
            root = roots[j * length]
            for k in range(length):
                a, b = left[k], right[k]
                total[k] = a + b
                twisted[k] = (a - b) * root
        x, other = other, x
        blocks //= 2
        length *= 2
    return x


def inverse_fft(x, roots):
    """The inverse of :func:`fft`; ``x`` is overwritten."""
    result = fft(x, roots)
    half = result.size // 2
    result[0] /= result.size
    for k in range(1, half + 1):
        low, high = result[k] / result.size, result[-k] / result.size
        result[k], result[-k] = high, low
    return result
