r"""exp(F t) of a small matrix, and its adjoint.

By scaling and squaring of a Taylor series: exp(F t) = exp(F t / 2^s)^(2^s), with s such that the
sum of the absolute entries of a row of F t / 2^s is at most 1/2, of which 13 terms are exact to
rounding. The adjoint is that of the same steps in reverse, so that F may have equal eigenvalues.

Sources: Moler and Van Loan (2003), Nineteen dubious ways to compute the exponential of a matrix,
twenty-five years later, method 3.
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart

_GIVEN = "int64", "float64 1", "int64", "float64 1", "int64", "int64"

_TERMS, _SQUARINGS = 13, 64


@apart(*_GIVEN, "float64 2", "int64", result=())
def systems(size, values, first, step, start, stop, phi, at):
    """Writes exp(F t) of steps from ``start`` to ``stop``, by rows from ``at``.

    F is in ``values`` by rows from ``first``. Where steps are equal it is copied.
    """
    entries = size * size
    scaled, terms, powers = _memory(size)
    for t in range(start, stop):
        if t > start and step[t] == step[t - 1]:
            for i in range(entries):
                phi[t, at + i] = phi[t - 1, at + i]
            continue
        squarings = _scale(size, values, first, step[t], scaled)
        _exponential(scaled, squarings, terms, powers)
        for i in range(entries):
            phi[t, at + i] = powers[squarings, i // size, i % size]


def _memory(size):
    """For F t / 2^s, the terms of its series, and the sum squared as often as may be."""
    terms = np.zeros((_TERMS + 1, size, size))
    for i in range(size):
        terms[0, i, i] = 1.0
    return np.zeros((size, size)), terms, np.zeros((_SQUARINGS + 1, size, size))


@apart(*_GIVEN, "float64 2", "int64", "float64 1", result=())
def pull_systems(size, values, first, step, start, stop, phi_bar, at, values_bar):
    """Adds the cotangent of F; of equal steps that of all at once."""
    bar, spare, scaled_bar = np.zeros((3, size, size))
    scaled, terms, powers = _memory(size)
    for t in range(stop - 1, start - 1, -1):
        for i in range(size):
            for j in range(size):
                bar[i, j] += phi_bar[t, at + size * i + j]
        if t == start or step[t] != step[t - 1]:
            squarings = _scale(size, values, first, step[t], scaled)
            _exponential(scaled, squarings, terms, powers)
            _pull_exponential(scaled, squarings, terms, powers, bar, spare, scaled_bar)
            factor = step[t] * 0.5**squarings
            for i in range(size):
                for j in range(size):
                    values_bar[first + size * i + j] += scaled_bar[i, j] * factor
                    bar[i, j] = 0.0


def _scale(size, values, first, step, scaled):
    """Writes F t / 2^s; returns s."""
    largest = 0.0
    for i in range(size):
        total = 0.0
        for j in range(size):
            total += np.abs(values[first + size * i + j]) * step
        largest = max(largest, total)
    squarings, power = 0, 1.0
    while largest * power > 0.5 and squarings < _SQUARINGS:
        squarings, power = squarings + 1, power / 2
    for i in range(size):
        for j in range(size):
            scaled[i, j] = values[first + size * i + j] * step * power
    return squarings


def _exponential(scaled, squarings, terms, powers):
    """Fills the terms of the series, A^k / k!, and its sum squared 0, 1, ... times."""
    size = scaled.shape[0]
    for k in range(1, _TERMS + 1):
        for i in range(size):
            for j in range(size):
                total = 0.0
                for m in range(size):
                    total += terms[k - 1, i, m] * scaled[m, j]
                terms[k, i, j] = total / k
    for i in range(size):
        for j in range(size):
            # From the smallest on.
            total = 0.0
            for k in range(_TERMS, -1, -1):
                total += terms[k, i, j]
            powers[0, i, j] = total
    for k in range(1, squarings + 1):
        for i in range(size):
            for j in range(size):
                total = 0.0
                for m in range(size):
                    total += powers[k - 1, i, m] * powers[k - 1, m, j]
                powers[k, i, j] = total


def _pull_exponential(scaled, squarings, terms, powers, bar, spare, scaled_bar):
    """Writes the cotangent of A; that of its exponential, and what is spare, are overwritten."""
    size = scaled.shape[0]
    for k in range(squarings, 0, -1):
        # Of P^2: P' bar + bar P'.
        for i in range(size):
            for j in range(size):
                total = 0.0
                for m in range(size):
                    total += powers[k - 1, m, i] * bar[m, j] + bar[i, m] * powers[k - 1, j, m]
                spare[i, j] = total
        _copy(spare, bar)
    # The cotangent of A^k / k!, = (A^(k - 1) / (k - 1)!) A / k, with what comes through later ones.
    of_term = powers[squarings]
    _copy(bar, of_term)
    for i in range(size):
        for j in range(size):
            scaled_bar[i, j] = 0.0
    for k in range(_TERMS, 0, -1):
        for i in range(size):
            for j in range(size):
                through, earlier = 0.0, 0.0
                for m in range(size):
                    through += terms[k - 1, m, i] * of_term[m, j]
                    earlier += of_term[i, m] * scaled[j, m]
                scaled_bar[i, j] += through / k
                spare[i, j] = bar[i, j] + earlier / k
        _copy(spare, of_term)


def _copy(source, target):
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]
