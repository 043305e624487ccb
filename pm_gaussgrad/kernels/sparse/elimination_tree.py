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
    columns = np.repeat(np.arange(n), np.diff(indptr))
    below = indices != columns
    one, other = indices[below], columns[below]
    ends, neighbours = np.concatenate([one, other]), np.concatenate([other, one])
    return starts(np.bincount(ends, minlength=n)), neighbours[np.argsort(ends, kind="stable")]


def starts(counts):
    """Where lists of these lengths begin, one after the other, and where the last ends."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def inverse_permutation(order):
    """The place of each node in an order."""
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    return rank


def linked_children(parent, sequence):
    """The children of each node as a chain, in the order of the sequence; -1 is none."""
    child, sibling = np.full(parent.size, -1), np.full(parent.size, -1)
    nodes = sequence[parent[sequence] >= 0]
    nodes = nodes[np.argsort(parent[nodes], kind="stable")]
    together = parent[nodes[1:]] == parent[nodes[:-1]]
    sibling[nodes[:-1][together]] = nodes[1:][together]
    leading = np.concatenate([[True], ~together])[: nodes.size]
    child[parent[nodes[leading]]] = nodes[leading]
    return child, sibling


def elimination_tree(start, neighbours, order, rank):
    """The parent of each column of the factor, -1 of a root: its first entry below the diagonal.

    The roots of the trees so far are found by paths that become shorter each time.
    """
    n = order.size
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


def column_counts(start, neighbours, order, rank, parent):
    """Entries of each column of the factor, with the diagonal.

    Row i has those of the columns on the paths from its entries in the matrix up to i; each is
    walked once, so the cost is that of listing the factor.
    """
    n = order.size
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
