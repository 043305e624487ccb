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
    for t in range(start, stop):
        if t > start and step[t] == step[t - 1]:
            for i in range(entries):
                phi[t, at + i] = phi[t - 1, at + i]
            continue
        scaled, squarings = _scaled(size, values, first, step[t])
        terms = np.zeros((_TERMS + 1, size, size))
        powers = np.zeros((squarings + 1, size, size))
        _exponential(scaled, terms, powers)
        for i in range(entries):
            phi[t, at + i] = powers[squarings, i // size, i % size]


@apart(*_GIVEN, "float64 2", "int64", "float64 1", result=())
def pull_systems(size, values, first, step, start, stop, phi_bar, at, values_bar):
    """Adds the cotangent of F; of equal steps that of all at once."""
    bar = np.zeros((size, size))
    for t in range(stop - 1, start - 1, -1):
        for i in range(size):
            for j in range(size):
                bar[i, j] += phi_bar[t, at + size * i + j]
        if t == start or step[t] != step[t - 1]:
            _pull_system(size, values, first, step[t], bar, values_bar)
            bar = np.zeros((size, size))


def _scaled(size, values, first, step):
    """F t / 2^s, and s."""
    largest = 0.0
    for i in range(size):
        total = 0.0
        for j in range(size):
            total += np.abs(values[first + size * i + j]) * step
        largest = max(largest, total)
    squarings, power = 0, 1.0
    while largest * power > 0.5 and squarings < _SQUARINGS:
        squarings, power = squarings + 1, power / 2
    scaled = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            scaled[i, j] = values[first + size * i + j] * step * power
    return scaled, squarings


def _exponential(scaled, terms, powers):
    """Fills the terms of the series, A^k / k!, and its sum squared 0, 1, ... times."""
    size = scaled.shape[0]
    for i in range(size):
        terms[0, i, i] = 1.0
    for k in range(1, _TERMS + 1):
        _add_product(terms[k - 1], scaled, 1 / k, terms[k])
    # From the smallest on.
    for k in range(_TERMS, -1, -1):
        for i in range(size):
            for j in range(size):
                powers[0, i, j] += terms[k, i, j]
    for k in range(1, powers.shape[0]):
        _add_product(powers[k - 1], powers[k - 1], 1.0, powers[k])


def _add_product(left, right, factor, result):
    """Adds factor A B."""
    for i in range(result.shape[0]):
        for j in range(result.shape[1]):
            total = 0.0
            for k in range(result.shape[0]):
                total += left[i, k] * right[k, j]
            result[i, j] += factor * total


def _pull_system(size, values, first, step, bar, values_bar):
    """Adds the cotangent of F of one step."""
    scaled, squarings = _scaled(size, values, first, step)
    terms = np.zeros((_TERMS + 1, size, size))
    powers = np.zeros((squarings + 1, size, size))
    _exponential(scaled, terms, powers)
    power = 1.0
    for k in range(squarings, 0, -1):
        before = np.zeros((size, size))
        # Of P^2: P' bar + bar P'.
        _add_product(np.ascontiguousarray(powers[k - 1].T), bar, 1.0, before)
        _add_product(bar, np.ascontiguousarray(powers[k - 1].T), 1.0, before)
        bar, power = before, power / 2
    scaled_bar = np.zeros((size, size))
    transposed, of_term = np.ascontiguousarray(scaled.T), bar.copy()
    for k in range(_TERMS, 0, -1):
        # of_term is the cotangent of A^k / k!, = (A^(k - 1) / (k - 1)!) A / k.
        _add_product(np.ascontiguousarray(terms[k - 1].T), of_term, 1 / k, scaled_bar)
        earlier = bar.copy()
        _add_product(of_term, transposed, 1 / k, earlier)
        of_term = earlier
    for i in range(size):
        for j in range(size):
            values_bar[first + size * i + j] += scaled_bar[i, j] * step * power
