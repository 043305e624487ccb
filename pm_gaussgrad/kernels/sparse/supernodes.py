"""Supernodes: columns of a factor that are treated as one, and the tree of them.

Columns whose patterns are nested without a gap are one supernode to begin with. A supernode is
then merged with its parent, wherever a model of the time of both says that the zeros which it
stores and multiplies cost less than another front.

Sources: Ashcraft and Grimes (1989), The influence of relaxed supernode partitions on the
multifrontal method, ACM Transactions on Mathematical Software 15; Davis (2006), Direct Methods for
Sparse Linear Systems, section 4.8.
"""

import numpy as np

from pm_gaussgrad.kernels.sparse.elimination_tree import linked_children, postorder, running_sum

# Nanoseconds of the factorisation and of the selected inverse: of a front, of an entry handed to
# the parent, of an entry of the panel, of a column (once per entry below), of a multiplication.
_FRONT, _HANDED, _STORED, _COLUMN, _PRODUCT = 40.0, 1.0, 0.5, 8.0, 0.15


def fundamental_supernodes(parent, counts):
    """The first column of each, (s + 1), in a postorder of the columns."""
    n = parent.size
    children = np.zeros(n, np.int64)
    for j in range(n):
        if parent[j] >= 0:
            children[parent[j]] += 1
    first, found = np.empty(n + 1, np.int64), 0
    for j in range(n):
        nested = j > 0 and parent[j - 1] == j and counts[j - 1] == counts[j] + 1
        if not nested or children[j] > 1:
            first[found] = j
            found += 1
    first[found] = n
    return first[: found + 1]


def columns_of(first, n):
    """The supernode of each column."""
    owner = np.empty(n, np.int64)
    for s in range(first.size - 1):
        for j in range(first[s], first[s + 1]):
            owner[j] = s
    return owner


def merged_supernodes(first, parent, counts):
    """Merge supernodes into parents: columns anew, where supernodes begin, and their parents.

    Returns
    -------
    columns : array of int, shape (n)
        The old number of each column.
    first : array of int, shape (s + 1)
    above : array of int, shape (s)
        The parent of each supernode, -1 of a root; after its children, the tallest of which is the
        first.
    """
    size, n = first.size - 1, parent.size
    owner = columns_of(first, n)
    above, below = np.full(size, -1, np.int64), np.empty(size, np.int64)
    for s in range(size):
        last = first[s + 1] - 1
        below[s] = counts[last] - 1
        if parent[last] >= 0:
            above[s] = owner[parent[last]]
    sequence = _ascending(below, n)
    into = _merges(first, above, below, sequence)
    for s in range(size):
        if into[s] != s:
            above[s] = -2  # in no tree
        elif above[s] >= 0:
            above[s] = into[above[s]]
    child, sibling = linked_children(above, sequence)
    kept = postorder(above, child, sibling)
    return _renumbered(first, above, into, kept, n)


def _ascending(values, bound):
    """Positions of values below a bound, by a counting sort."""
    start, sequence = np.zeros(bound + 2, np.int64), np.empty(values.size, np.int64)
    for value in values:
        start[value + 1] += 1
    running_sum(start)
    for i in range(values.size):
        sequence[start[values[i]]] = i
        start[values[i]] += 1
    return sequence


def _merges(first, above, below, sequence):
    """The supernode into which each is merged, in the end; itself where it is kept."""
    size = first.size - 1
    into, columns = np.arange(size), np.empty(size, np.int64)
    child, sibling = linked_children(above, sequence)
    for s in range(size):
        columns[s] = first[s + 1] - first[s]
        c = child[s]
        while c >= 0:
            together = _cost(columns[s] + columns[c], below[s])
            nested = below[c] == columns[s] + below[s]
            if nested or together <= _cost(columns[s], below[s]) + _cost(columns[c], below[c]):
                into[c] = s
                columns[s] += columns[c]
            c = sibling[c]
    for s in range(size - 1, -1, -1):
        into[s] = into[into[s]]
    return into


def _cost(columns, below):
    c, b = float(columns), float(below)
    products = c * c * c / 3 + c * c * b + c * b * b
    by_column = c * c / 2 + c * b / 4 + b + c
    return (
        _FRONT + _HANDED * b * b + _STORED * c * (c + b) + _COLUMN * by_column + _PRODUCT * products
    )


def _renumbered(first, above, into, kept, n):
    """The columns by supernode, these in postorder."""
    count = kept.size
    number = np.empty(first.size - 1, np.int64)
    for s in range(count):
        number[kept[s]] = s
    start, columns = np.zeros(count + 1, np.int64), np.empty(n, np.int64)
    for s in range(into.size):
        start[number[into[s]] + 1] += first[s + 1] - first[s]
    running_sum(start)
    free, parents = start.copy(), np.full(count, -1, np.int64)
    for s in range(into.size):
        target = number[into[s]]
        for j in range(first[s], first[s + 1]):
            columns[free[target]] = j
            free[target] += 1
    for s in range(count):
        if above[kept[s]] >= 0:
            parents[s] = number[above[kept[s]]]
    return columns, start, parents
