"""Entries of rows at given positions."""

import numpy as np


def select(rows, source):
    """``rows[:, source]``, zero where the source is negative: (m, k), (n) -> (m, n)."""
    selected = np.zeros((rows.shape[0], source.size), rows.dtype)
    for j in range(source.size):
        if source[j] >= 0:
            for i in range(rows.shape[0]):
                selected[i, j] = rows[i, source[j]]
    return (selected,)
