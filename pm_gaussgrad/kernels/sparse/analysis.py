"""The analysis of a pattern, once for all values: order, supernodes, fronts, in one array.

The steps are compiled one by one: linked into one function they would take numba twice as long.
"""

import numpy as np

from pm_gaussgrad.kernels.sparse.elimination_tree import (
    adjacency,
    column_counts,
    elimination_tree,
    linked_children,
    postorder,
)
from pm_gaussgrad.kernels.sparse.fronts import (
    entry_places,
    panel_starts,
    places_in_parents,
    product_targets,
    rows_below,
    stack_places,
)
from pm_gaussgrad.kernels.sparse.layout import END, HEADER, SECTIONS
from pm_gaussgrad.kernels.sparse.minimum_degree import minimum_degree
from pm_gaussgrad.kernels.sparse.supernodes import fundamental_supernodes, merged_supernodes

# Up to so many products of two entries of a column, for each column, supernodes do not pay.
_FEW_PRODUCTS = 8
# Patterns of so few entries are analysed before compiled code is loaded from disk.
_FEW_ENTRIES = 2000


def as_written(function):
    """The function itself, interpreted."""
    return function


def analyse(indptr, indices, compiled=as_written, order=None):
    """The analysis of a symmetric pattern.

    Parameters
    ----------
    indptr : array of int, shape (n + 1)
    indices : array of int, shape (entries)
        The lower triangle by columns, rows ascending, as of ``scipy.sparse.tril(Q, format="csc")``.
        Entries of the diagonal may be missing, which are zero.
    compiled : callable
        The compiled form of a function, which is not asked for where the pattern is small.
    order : array of int, shape (n), optional
        In which to eliminate, or one that fills as much; by default that of minimum degree.

    Returns
    -------
    analysis : array of int64, one-dimensional
        See :mod:`pm_gaussgrad.kernels.sparse.layout`.

    Notes
    -----
    The cost is about that of listing the entries of the factor.
    """
    indptr, indices = (np.ascontiguousarray(x, np.int64) for x in (indptr, indices))
    if indices.size <= _FEW_ENTRIES:
        compiled = as_written
    start, neighbours = compiled(adjacency)(indptr, indices)
    if order is None:
        order = compiled(minimum_degree)(start, neighbours)
    parent = compiled(elimination_tree)(start, neighbours, order)
    child, sibling = compiled(linked_children)(parent, _descending(parent))
    order = order[compiled(postorder)(parent, child, sibling)]
    parent = compiled(elimination_tree)(start, neighbours, order)
    counts = compiled(column_counts)(start, neighbours, order, parent)
    graph = (start, neighbours, order)
    if (counts * (counts - 1) // 2).sum() <= _FEW_PRODUCTS * order.size:
        return _by_column(indptr, indices, graph, parent, compiled)
    return _by_supernode(indptr, indices, graph, parent, counts, compiled)


def _by_column(indptr, indices, graph, parent, compiled):
    first = np.arange(parent.size + 1)
    common, numbers = _fronts(indptr, indices, graph, first, parent, compiled)
    target = compiled(product_targets)(common[2], common[3])
    none = np.empty(0, np.int64)
    return _packed((*common, none, none, none, none, none, target), [0, 0, *numbers])


def _by_supernode(indptr, indices, graph, parent, counts, compiled):
    start, neighbours, order = graph
    first = compiled(fundamental_supernodes)(parent, counts)
    columns, first, above = compiled(merged_supernodes)(first, parent, counts)
    graph = (start, neighbours, order[columns])
    common, numbers = _fronts(indptr, indices, graph, first, above, compiled)
    tree = compiled(linked_children)(above, _descending(above))
    relative, shared = compiled(places_in_parents)(first, common[2], common[3], *tree)
    stack, size = compiled(stack_places)(above, common[2], *tree)
    none = np.empty(0, np.int64)
    return _packed((*common, *tree, relative, shared, stack, none), [1, size, *numbers])


def _fronts(indptr, indices, graph, first, above, compiled):
    """The sections that there are with supernodes and without, and the largest sizes."""
    start, neighbours, order = graph
    tree = compiled(linked_children)(above, _descending(above))
    row_start, rows = compiled(rows_below)(start, neighbours, order, first, *tree)
    panel_start, tallest, largest = compiled(panel_starts)(first, row_start)
    entries = compiled(entry_places)(indptr, indices, order, first, row_start, rows)
    return (order, first, row_start, rows, panel_start, *entries), (tallest, largest)


def _descending(nodes):
    return np.arange(nodes.size)[::-1].copy()


def _packed(sections, numbers):
    """Sections in the order of their names behind a header, of these numbers and where they are."""
    supernodal, stack_size, tallest, largest = numbers
    order, panel_start = sections[0], sections[4]
    header = np.empty(HEADER, np.int64)
    header[:SECTIONS] = order.size, supernodal, panel_start[-1], stack_size, tallest, largest
    header[SECTIONS : END + 1] = HEADER + np.cumsum([0, *(x.size for x in sections)])
    return np.concatenate([header, *sections])
