"""Blocks of a state: where the entries of transitions, and of what drives them, are.

The state of a sum of processes is theirs side by side, and its transition Phi has a block a
process: ``ones`` of one state, ``twos``, ``threes``, and one block of the ``rest``, in this order.
Transitions are kept as these blocks, each by rows, and are written into a square matrix for a step:
the number of states is known when a filter is compiled, and its loops over a matrix are unrolled.
"""

import numpy as np


def block_size(ones, twos, threes, rest, k):
    """States of the k-th process."""
    if k < ones:
        return 1
    return 2 if k < ones + twos else 3 if k < ones + twos + threes else rest


def places(ones, twos, threes, rest, entries):
    """Rows and columns of the entries of a transition, two arrays (entries)."""
    row, column = np.empty(entries, np.int64), np.empty(entries, np.int64)
    lo, at, k = 0, 0, 0
    while at < entries:
        size = block_size(ones, twos, threes, rest, k)
        for i in range(size):
            for j in range(size):
                row[at], column[at] = lo + i, lo + j
                at += 1
        lo, k = lo + size, k + 1
    return row, column


def lower_places(ones, twos, threes, rest, count):
    """The same for the lower triangles of blocks, as many entries as there are."""
    row, column = np.empty(count, np.int64), np.empty(count, np.int64)
    lo, at, k = 0, 0, 0
    while at < count:
        size = block_size(ones, twos, threes, rest, k)
        for i in range(size):
            for j in range(i + 1):
                row[at], column[at] = lo + i, lo + j
                at += 1
        lo, k = lo + size, k + 1
    return row, column


def observed(ones, twos, threes, rest, states):
    """The vector by which a state is seen: one at the first state of each process, else zero."""
    h = np.zeros(states)
    lo, k = 0, 0
    while lo < states:
        h[lo] = 1.0
        lo, k = lo + block_size(ones, twos, threes, rest, k), k + 1
    return h
