"""Blocks of a state, and products of a transition that has as many blocks.

The state of a sum of processes is theirs side by side, and its transition Phi has a block a
process: ``ones`` of one state, ``twos``, ``threes``, and one block of the ``rest``, in this order;
together the ``layout``. A transition is its blocks one after the other, each by rows. What is
observed is the sum of the first states of all blocks.

The numbers of blocks are facts of a structure, known when its kernels are compiled, so that the
loops below are unrolled. Matrices are square and whole, but for what is said.
"""


def n_states(layout):
    """Length of the state."""
    ones, twos, threes, rest = layout
    return ones + 2 * twos + 3 * threes + rest


def forecast(phi, layout, state, result):
    """Phi x, of a vector."""
    ones, twos, threes, rest = layout
    for k in range(ones):
        _times(phi, k, k, 1, state, result)
    at, lo = ones, ones
    for k in range(twos):
        _times(phi, at + 4 * k, lo + 2 * k, 2, state, result)
    at, lo = at + 4 * twos, lo + 2 * twos
    for k in range(threes):
        _times(phi, at + 9 * k, lo + 3 * k, 3, state, result)
    if rest > 0:
        _times(phi, at + 9 * threes, lo + 3 * threes, rest, state, result)


def _times(phi, at, lo, size, state, result):
    for i in range(size):
        total = 0.0
        for j in range(size):
            total += phi[at + size * i + j] * state[lo + j]
        result[lo + i] = total


def pull_forecast(phi, layout, result_bar, state_bar):
    """Phi' x."""
    ones, twos, threes, rest = layout
    for k in range(ones):
        _transposed_times(phi, k, k, 1, result_bar, state_bar)
    at, lo = ones, ones
    for k in range(twos):
        _transposed_times(phi, at + 4 * k, lo + 2 * k, 2, result_bar, state_bar)
    at, lo = at + 4 * twos, lo + 2 * twos
    for k in range(threes):
        _transposed_times(phi, at + 9 * k, lo + 3 * k, 3, result_bar, state_bar)
    if rest > 0:
        _transposed_times(phi, at + 9 * threes, lo + 3 * threes, rest, result_bar, state_bar)


def _transposed_times(phi, at, lo, size, result_bar, state_bar):
    for j in range(size):
        total = 0.0
        for i in range(size):
            total += phi[at + size * i + j] * result_bar[lo + i]
        state_bar[lo + j] = total


def seen(layout, values):
    """Of a vector of the state: the sum of the first entries of all blocks."""
    ones, twos, threes, rest = layout
    total, lo = 0.0, ones
    for k in range(ones):
        total += values[k]
    for k in range(twos):
        total += values[lo + 2 * k]
    lo += 2 * twos
    for k in range(threes):
        total += values[lo + 3 * k]
    if rest > 0:
        total += values[lo + 3 * threes]
    return total


def add_seen(layout, number, values):
    """The adjoint of :func:`seen`: a number is added to the first entries of all blocks."""
    ones, twos, threes, rest = layout
    lo = ones
    for k in range(ones):
        values[k] += number
    for k in range(twos):
        values[lo + 2 * k] += number
    lo += 2 * twos
    for k in range(threes):
        values[lo + 3 * k] += number
    if rest > 0:
        values[lo + 3 * threes] += number


def spread(phi, layout, matrix, half, result):
    """Phi M Phi' of a symmetric matrix; ``half`` is memory for Phi M."""
    n = n_states(layout)
    for j in range(n):
        forecast(phi, layout, matrix[j], half[:, j])
    for i in range(n):
        forecast(phi, layout, half[i], result[i])


def pull_spread(phi, layout, matrix, result_bar, half, matrix_bar, phi_bar):
    """Adjoint of :func:`spread`: of M, and twice S Phi M added to that of Phi, S = ``result_bar``.

    ``half`` is memory for S Phi.
    """
    n = n_states(layout)
    for i in range(n):
        pull_forecast(phi, layout, result_bar[i], half[i])
    for j in range(n):
        pull_forecast(phi, layout, half[:, j], matrix_bar[j])
    ones, twos, threes, rest = layout
    for k in range(ones):
        _add_product(half, matrix, k, k, 1, n, phi_bar)
    at, lo = ones, ones
    for k in range(twos):
        _add_product(half, matrix, at + 4 * k, lo + 2 * k, 2, n, phi_bar)
    at, lo = at + 4 * twos, lo + 2 * twos
    for k in range(threes):
        _add_product(half, matrix, at + 9 * k, lo + 3 * k, 3, n, phi_bar)
    if rest > 0:
        _add_product(half, matrix, at + 9 * threes, lo + 3 * threes, rest, n, phi_bar)


def _add_product(left, right, at, lo, size, n, phi_bar):
    for i in range(size):
        for j in range(size):
            total = 0.0
            for k in range(n):
                total += left[lo + i, k] * right[lo + j, k]
            phi_bar[at + size * i + j] += 2 * total


def add_outer(layout, column, row, weight, phi_bar):
    """weight x y', of which the blocks are added to ``phi_bar``."""
    ones, twos, threes, rest = layout
    for k in range(ones):
        _add_outer(column, row, weight, k, k, 1, phi_bar)
    at, lo = ones, ones
    for k in range(twos):
        _add_outer(column, row, weight, at + 4 * k, lo + 2 * k, 2, phi_bar)
    at, lo = at + 4 * twos, lo + 2 * twos
    for k in range(threes):
        _add_outer(column, row, weight, at + 9 * k, lo + 3 * k, 3, phi_bar)
    if rest > 0:
        _add_outer(column, row, weight, at + 9 * threes, lo + 3 * threes, rest, phi_bar)


def _add_outer(column, row, weight, at, lo, size, phi_bar):
    for i in range(size):
        for j in range(size):
            phi_bar[at + size * i + j] += weight * column[lo + i] * row[lo + j]
