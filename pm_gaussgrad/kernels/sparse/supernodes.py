"""Supernodes: columns of a factor that are treated as one, and the tree of them.

Columns whose patterns are nested without a gap are one supernode to begin with. A supernode is
then merged with its parent, wherever a model of the time of both says that the zeros which it
stores and multiplies cost less than another front.

Sources: Ashcraft and Grimes (1989), The influence of relaxed supernode partitions on the
multifrontal method, ACM Transactions on Mathematical Software 15; Davis (2006), Direct Methods for
Sparse Linear Systems, section 4.8.
"""

import numpy as np

from pm_gaussgrad.kernels.sparse.elimination_tree import linked_children, postorder, starts

# Nanoseconds of the factorisation and of the selected inverse: of a front, of an entry handed to
# the parent, of an entry of the panel, of a column (once per entry below), of a multiplication.
_FRONT, _HANDED, _STORED, _COLUMN, _PRODUCT = 40.0, 1.0, 0.5, 8.0, 0.15


def fundamental_supernodes(parent, counts):
    """The first column of each, (s + 1), in a postorder of the columns."""
    n = parent.size
    children = np.bincount(parent[parent >= 0], minlength=n)
    nested = (parent[:-1] == np.arange(1, n)) & (counts[:-1] == counts[1:] + 1)
    return np.append(np.flatnonzero(~np.append(False, nested & (children[1:] == 1))[:n]), n)


def supernode_tree(first, parent, counts):
    """The parent of each supernode, -1 of a root, and how many rows it has below its columns."""
    last = first[1:] - 1
    owner = np.repeat(np.arange(last.size), np.diff(first))
    above = np.where(parent[last] >= 0, owner[parent[last]], -1)
    return above, counts[last] - 1


def merges(first, below, child, sibling):
    """The supernode into which each is merged, in the end; itself where it is kept."""
    size = first.size - 1
    into, columns = np.empty(size, np.int64), np.empty(size, np.int64)
    for s in range(size):
        into[s], columns[s] = s, first[s + 1] - first[s]
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
    entries = _STORED * c * (c + b) + _HANDED * b * b
    return _FRONT + entries + _COLUMN * by_column + _PRODUCT * products


def merged_supernodes(parent, counts, compiled):
    """Supernodes of columns in postorder: these anew, where supernodes begin, and their parents.

    Returns
    -------
    columns : array of int, shape (n)
        The old number of each column.
    first : array of int, shape (s + 1)
    above : array of int, shape (s)
        The parent of each supernode, -1 of a root; after its children, the one with most rows
        below its columns first, so that the least has to be kept on the stack.
    """
    first = fundamental_supernodes(parent, counts)
    above, below = supernode_tree(first, parent, counts)
    sequence = np.argsort(-below, kind="stable")
    into = compiled(merges)(first, below, *linked_children(above, sequence))
    kept = into == np.arange(into.size)
    above = np.where(kept, np.where(above >= 0, into[above], -1), -2)  # -2: in no tree
    kept = compiled(postorder)(above, *linked_children(above, sequence))
    number = np.full(into.size + 1, -1)  # the last of a root's parent
    number[kept] = np.arange(kept.size)
    owner = np.repeat(number[into], np.diff(first))
    sizes = np.bincount(owner, minlength=kept.size)
    return np.argsort(owner, kind="stable"), starts(sizes), number[above[kept]]
