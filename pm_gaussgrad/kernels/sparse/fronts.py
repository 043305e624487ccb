"""What the fronts of an analysis look like: their rows, and where everything in them goes."""

import numpy as np

from pm_gaussgrad.kernels.sparse.elimination_tree import starts


def gathered_rows(graph, rank, first, child, sibling):
    """The rows of each supernode below its own columns: (s + 1) and all of them, in any order.

    They are those of the entries of the matrix in its columns and of the rows of its children.
    """
    start, neighbours, order = graph
    n, size = order.size, first.size - 1
    row_start, seen = np.zeros(size + 1, np.int64), np.full(n, -1, np.int64)
    rows, end = np.empty(neighbours.size + n, np.int64), 0
    for s in range(size):
        if rows.size - end < n - first[s]:
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
    return row_start, rows[:end]


def _longer(rows, end, n):
    longer = np.empty(2 * end + n, np.int64)
    for position in range(end):
        longer[position] = rows[position]
    return longer


class Fronts:
    """The rows of all fronts.

    Attributes
    ----------
    first : array of int, shape (s + 1)
        The first column of each supernode.
    columns, heights : array of int, shape (s)
        How many columns the front of each has, and rows.
    row_start : array of int, shape (s + 1)
    rows : array of int
        Those below its columns, ascending, are ``rows[row_start[s]:row_start[s + 1]]``.
    """

    def __init__(self, first, row_start, rows):
        n, size = first[-1], first.size - 1
        self.first, self.row_start = first, row_start
        self.columns = np.diff(first)
        self.heights = self.columns + np.diff(row_start)
        # all lists one after the other are sorted by these numbers
        self._keys = np.sort(np.repeat(np.arange(size), np.diff(row_start)) * n + rows)
        self.rows = self._keys % max(n, 1)

    def places(self, supernode, row):
        """The place of a row in the front of a supernode that has it, for arrays of both."""
        found = np.searchsorted(self._keys, supernode * self.first[-1] + row)
        below = self.columns[supernode] + found - self.row_start[supernode]
        own = row < self.first[supernode + 1]
        return np.where(own, row - self.first[supernode], below)

    def entries(self, indptr, indices, rank):
        """The entries of the lower triangle by supernode, and where in its panel each belongs.

        Returns
        -------
        entry_start : array of int, shape (s + 1)
        entry, place : array of int, shape (entries)
        """
        one, other = rank[np.repeat(np.arange(rank.size), np.diff(indptr))], rank[indices]
        column, row = np.minimum(one, other), np.maximum(one, other)
        owner = np.repeat(np.arange(self.columns.size), self.columns)[column]
        entry = np.argsort(owner, kind="stable")
        place = (column - self.first[owner]) * self.heights[owner] + self.places(owner, row)
        return starts(np.bincount(owner, minlength=self.columns.size)), entry, place[entry]

    def in_parents(self, above):
        """The place of each row below in the front of the parent; how many are columns of that."""
        parent = np.repeat(above, np.diff(self.row_start))
        owner = np.repeat(np.arange(above.size), np.diff(self.row_start))
        shared = np.bincount(owner[self.rows < self.first[parent + 1]], minlength=above.size)
        return self.places(parent, self.rows), shared


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
