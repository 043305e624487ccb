"""What the fronts of an analysis look like: their rows, and where everything in them goes."""

import numpy as np

from pm_gaussgrad.kernels.sparse.elimination_tree import inverse_permutation, running_sum
from pm_gaussgrad.kernels.sparse.supernodes import columns_of


def rows_below(start, neighbours, order, first, child, sibling):
    """The rows of each supernode below its own columns, ascending: (s + 1) and all of them.

    They are those of the entries of the matrix in its columns and of the rows of its children.
    """
    n, size = order.size, first.size - 1
    rank, seen = inverse_permutation(order), np.full(n, -1, np.int64)
    row_start, rows, end = np.zeros(size + 1, np.int64), np.empty(neighbours.size, np.int64), 0
    for s in range(size):
        room = rows.size - end
        if room < n - first[s]:
            rows = _longer(rows, end, n)
        for column in range(first[s], first[s + 1]):
            node = order[column]
            for position in range(start[node], start[node + 1]):
                i = rank[neighbours[position]]
                if i >= first[s + 1] and seen[i] != s:
                    seen[i], rows[end] = s, i
                    end += 1
        c = child[s]
        while c >= 0:
            for position in range(row_start[c], row_start[c + 1]):
                i = rows[position]
                if i >= first[s + 1] and seen[i] != s:
                    seen[i], rows[end] = s, i
                    end += 1
            c = sibling[c]
        row_start[s + 1] = end
    return row_start, _sorted_lists(row_start, rows, n)


def _longer(rows, end, n):
    longer = np.empty(2 * end + n, np.int64)
    for position in range(end):
        longer[position] = rows[position]
    return longer


def _sorted_lists(row_start, rows, n):
    """All lists sorted at once: the supernodes of each row, and from these the rows again."""
    total = row_start[row_start.size - 1]
    start, owners = np.zeros(n + 1, np.int64), np.empty(total, np.int64)
    for position in range(total):
        start[rows[position] + 1] += 1
    running_sum(start)
    free = start.copy()
    for s in range(row_start.size - 1):
        for position in range(row_start[s], row_start[s + 1]):
            owners[free[rows[position]]] = s
            free[rows[position]] += 1
    ascending, free = np.empty(total, np.int64), row_start.copy()
    for i in range(n):
        for position in range(start[i], start[i + 1]):
            s = owners[position]
            ascending[free[s]] = i
            free[s] += 1
    return ascending


def panel_starts(first, row_start):
    """Where each panel begins in a factor, (s + 1), and the largest height and size of one."""
    size = first.size - 1
    starts, tallest, largest = np.zeros(size + 1, np.int64), 0, 0
    for s in range(size):
        columns = first[s + 1] - first[s]
        height = columns + row_start[s + 1] - row_start[s]
        starts[s + 1] = starts[s] + columns * height
        tallest, largest = max(tallest, height), max(largest, columns * height)
    return starts, tallest, largest


def entry_places(indptr, indices, order, first, row_start, rows):
    """The entries of the lower triangle by supernode, and where in its panel each belongs.

    Returns
    -------
    entry_start : array of int, shape (s + 1)
    entry, place : array of int, shape (entries)
    """
    n, size, rank = order.size, first.size - 1, inverse_permutation(order)
    owner, total = columns_of(first, n), indptr[n]
    entry_start = np.zeros(size + 1, np.int64)
    for j in range(n):
        for position in range(indptr[j], indptr[j + 1]):
            entry_start[owner[min(rank[j], rank[indices[position]])] + 1] += 1
    running_sum(entry_start)
    entry, place = np.empty(total, np.int64), np.empty(total, np.int64)
    column, free = np.empty(total, np.int64), entry_start.copy()
    for j in range(n):
        for position in range(indptr[j], indptr[j + 1]):
            one, other = rank[j], rank[indices[position]]
            s = owner[min(one, other)]
            at = free[s]
            free[s] += 1
            entry[at], column[at], place[at] = position, min(one, other), max(one, other)
    local = np.empty(n, np.int64)
    for s in range(size):
        columns = first[s + 1] - first[s]
        height = columns + row_start[s + 1] - row_start[s]
        for position in range(row_start[s], row_start[s + 1]):
            local[rows[position]] = columns + position - row_start[s]
        for at in range(entry_start[s], entry_start[s + 1]):
            i = place[at]
            row = i - first[s] if i < first[s + 1] else local[i]
            place[at] = (column[at] - first[s]) * height + row
    return entry_start, entry, place


def places_in_parents(first, row_start, rows, child, sibling):
    """The place of each row below in the front of the parent; how many are columns of that."""
    size = first.size - 1
    relative, shared = np.zeros(rows.size, np.int64), np.zeros(size, np.int64)
    local = np.empty(first[size], np.int64)
    for s in range(size):
        columns = first[s + 1] - first[s]
        if child[s] >= 0:
            for position in range(row_start[s], row_start[s + 1]):
                local[rows[position]] = columns + position - row_start[s]
        c = child[s]
        while c >= 0:
            for position in range(row_start[c], row_start[c + 1]):
                i = rows[position]
                if i < first[s + 1]:
                    relative[position] = i - first[s]
                    shared[c] += 1
                else:
                    relative[position] = local[i]
            c = sibling[c]
    return relative, shared


def stack_places(above, row_start, child, sibling):
    """Where the matrix that each supernode hands to its parent lies, and how much memory all need.

    In a postorder what was handed last is taken first. Children and parents are on two stacks, by
    the parity of their depth, so that a parent does not write over what it takes; backwards, from
    parents to children, the same places serve.
    """
    size = above.size
    depth, place = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for s in range(size - 1, -1, -1):
        if above[s] >= 0:
            depth[s] = depth[above[s]] + 1
    top, peak = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for s in range(size):
        own, other = depth[s] % 2, 1 - depth[s] % 2
        c = child[s]
        while c >= 0:
            top[other] = min(top[other], place[c])
            c = sibling[c]
        place[s] = top[own]
        top[own] += (row_start[s + 1] - row_start[s]) ** 2
        peak[own] = max(peak[own], top[own])
    for s in range(size):
        if depth[s] % 2 == 1:
            place[s] += peak[0]
    return place, peak[0] + peak[1]


def product_targets(row_start, rows):
    """Of columns by themselves: where in a factor each product of two entries of one belongs.

    For rows i <= k of a column, pair by pair, i first: the entry (k, i), in column i, whose rows
    have k among them.
    """
    n = row_start.size - 1
    total = 0
    for j in range(n):
        entries = row_start[j + 1] - row_start[j]
        total += entries * (entries + 1) // 2
    target, end = np.empty(total, np.int64), 0
    for j in range(n):
        for one in range(row_start[j], row_start[j + 1]):
            column = rows[one]
            begin, position = column + row_start[column], row_start[column]
            target[end] = begin
            end += 1
            for other in range(one + 1, row_start[j + 1]):
                while rows[position] < rows[other]:
                    position += 1
                target[end] = begin + 1 + position - row_start[column]
                end += 1
    return target
