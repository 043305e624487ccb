"""The elimination tree of a pattern, and how many entries each column of its factor has.

Sources: Liu (1990), The role of elimination trees in sparse factorization, SIAM Journal on Matrix
Analysis and Applications 11; Davis (2006), Direct Methods for Sparse Linear Systems, chapter 4.
"""

import numpy as np


def adjacency(indptr, indices):
    """The graph of a symmetric pattern, of which the lower triangle is given by columns.

    Returns
    -------
    start, neighbours : array of int, shape (n + 1) and (edges, twice)
        Those of node i are ``neighbours[start[i]:start[i + 1]]``; i itself is not among them.
    """
    n = indptr.size - 1
    start = np.zeros(n + 1, np.int64)
    for j in range(n):
        for position in range(indptr[j], indptr[j + 1]):
            i = indices[position]
            if i != j:
                start[i + 1] += 1
                start[j + 1] += 1
    running_sum(start)
    neighbours, free = np.empty(start[n], np.int64), start.copy()
    for j in range(n):
        for position in range(indptr[j], indptr[j + 1]):
            i = indices[position]
            if i != j:
                neighbours[free[i]], neighbours[free[j]] = j, i
                free[i] += 1
                free[j] += 1
    return start, neighbours


def running_sum(counts):
    """Overwrite counts, the first of which is zero, by where each begins."""
    for i in range(1, counts.size):
        counts[i] += counts[i - 1]


def inverse_permutation(order):
    """The place of each node in an order."""
    rank = np.empty(order.size, np.int64)
    for place in range(order.size):
        rank[order[place]] = place
    return rank


def elimination_tree(start, neighbours, order):
    """The parent of each column of the factor, -1 of a root: its first entry below the diagonal.

    The roots of the trees so far are found by paths that become shorter each time.
    """
    n, rank = order.size, inverse_permutation(order)
    parent, above = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    for j in range(n):
        node = order[j]
        for position in range(start[node], start[node + 1]):
            i = rank[neighbours[position]]
            while i != -1 and i < j:
                step = above[i]
                above[i] = j
                if step == -1:
                    parent[i] = j
                i = step
    return parent


def linked_children(parent, sequence):
    """The children of each node as a chain, those that come last in the sequence first."""
    child, sibling = np.full(parent.size, -1, np.int64), np.full(parent.size, -1, np.int64)
    for node in sequence:
        if parent[node] >= 0:
            sibling[node], child[parent[node]] = child[parent[node]], node
    return child, sibling


def postorder(parent, child, sibling):
    """The nodes of the trees whose roots have the parent -1, each after its descendants."""
    n = parent.size
    sequence, remaining, done = np.empty(n, np.int64), child.copy(), 0
    for root in range(n):
        if parent[root] != -1:
            continue
        node = root
        while node >= 0:
            below = remaining[node]
            if below >= 0:
                remaining[node] = sibling[below]
                node = below
            else:
                sequence[done] = node
                done += 1
                node = parent[node]
    return sequence[:done]


def column_counts(start, neighbours, order, parent):
    """Entries of each column of the factor, with the diagonal.

    Row i has those of the columns on the paths from its entries in the matrix up to i; each is
    walked once, so the cost is that of listing the factor.
    """
    n, rank = order.size, inverse_permutation(order)
    counts, visited = np.ones(n, np.int64), np.full(n, -1, np.int64)
    for i in range(n):
        node = order[i]
        visited[i] = i
        for position in range(start[node], start[node + 1]):
            j = rank[neighbours[position]]
            while j < i and visited[j] != i:
                visited[j] = i
                counts[j] += 1
                j = parent[j]
    return counts
