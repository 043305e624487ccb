"""The analysis of a pattern, once for all values: order, supernodes, fronts, in one array."""

import numpy as np

from pm_gaussgrad.kernels.sparse.elimination_tree import (
    adjacency,
    column_counts,
    descending,
    elimination_tree,
    inverse_permutation,
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
from pm_gaussgrad.kernels.sparse.layout import (
    END,
    FACTOR_SIZE,
    HEADER,
    LARGEST,
    NODES,
    PANEL_START,
    SECTIONS,
    STACK_SIZE,
    SUPERNODAL,
    TALLEST,
)
from pm_gaussgrad.kernels.sparse.minimum_degree import minimum_degree
from pm_gaussgrad.kernels.sparse.supernodes import fundamental_supernodes, merged_supernodes

# Up to so many products of two entries of a column, for each column, supernodes do not pay.
_FEW_PRODUCTS = 8


def analyse(indptr, indices):
    """The analysis of a symmetric pattern.

    Parameters
    ----------
    indptr : array of int, shape (n + 1)
    indices : array of int, shape (entries)
        The lower triangle by columns, rows ascending, as of ``scipy.sparse.tril(Q).tocsc()``.
        Entries of the diagonal may be missing, which are zero.

    Returns
    -------
    analysis : array of int64, one-dimensional
        See :mod:`pm_gaussgrad.kernels.sparse.layout`.

    Notes
    -----
    The cost is about that of listing the entries of the factor.
    """
    start, neighbours = adjacency(indptr, indices)
    return analyse_in_order(indptr, indices, minimum_degree(start, neighbours))


def analyse_in_order(indptr, indices, order):
    """:func:`analyse` with an order of elimination, or one that fills as much."""
    start, neighbours = adjacency(indptr, indices)
    parent = elimination_tree(start, neighbours, order)
    child, sibling = linked_children(parent, descending(order.size))
    sequence = postorder(parent, child, sibling)
    order = order[sequence]
    parent = elimination_tree(start, neighbours, order)
    counts = column_counts(start, neighbours, order, parent)
    products = 0
    for entries in counts:
        products += entries * (entries - 1) // 2
    if products <= _FEW_PRODUCTS * order.size:
        return _by_column(indptr, indices, start, neighbours, order, parent)
    return _supernodal(indptr, indices, start, neighbours, order, parent, counts)


def _by_column(indptr, indices, start, neighbours, order, parent):
    first, none = np.arange(order.size + 1), np.empty(0, np.int64)
    child, sibling = linked_children(parent, descending(order.size))
    row_start, rows = rows_below(start, neighbours, order, first, child, sibling)
    panels, tallest, largest = panel_starts(first, row_start)
    rank = inverse_permutation(order)
    entry_start, entry, place = entry_places(indptr, indices, rank, first, row_start, rows)
    of_matrix = (order, first, row_start, rows, panels, entry_start, entry, place)
    of_tree = (none, none, none, none, none, product_targets(row_start, rows))
    return _packed(of_matrix, of_tree, (0, 0, tallest, largest))


def _supernodal(indptr, indices, start, neighbours, order, parent, counts):
    first = fundamental_supernodes(parent, counts)
    columns, first, above = merged_supernodes(first, parent, counts)
    order = order[columns]
    child, sibling = linked_children(above, descending(above.size))
    row_start, rows = rows_below(start, neighbours, order, first, child, sibling)
    panels, tallest, largest = panel_starts(first, row_start)
    rank = inverse_permutation(order)
    entry_start, entry, place = entry_places(indptr, indices, rank, first, row_start, rows)
    relative, shared = places_in_parents(first, row_start, rows, child, sibling)
    stack, size = stack_places(above, row_start, child, sibling)
    of_matrix = (order, first, row_start, rows, panels, entry_start, entry, place)
    of_tree = (child, sibling, relative, shared, stack, np.empty(0, np.int64))
    return _packed(of_matrix, of_tree, (1, size, tallest, largest))


def _packed(of_matrix, of_tree, numbers):
    """Sections in the order of their names behind a header."""
    analysis = np.empty(HEADER + _total(of_matrix) + _total(of_tree), np.int64)
    order, panels = of_matrix[0], of_matrix[PANEL_START - SECTIONS]
    analysis[NODES], analysis[FACTOR_SIZE] = order.size, panels[panels.size - 1]
    analysis[SUPERNODAL], analysis[STACK_SIZE], analysis[TALLEST], analysis[LARGEST] = numbers
    which, begin = _write(analysis, of_matrix, SECTIONS, HEADER)
    which, begin = _write(analysis, of_tree, which, begin)
    analysis[END] = begin
    return analysis


def _total(sections):
    total = 0
    for content in sections:
        total += content.size
    return total


def _write(analysis, sections, which, begin):
    for content in sections:
        analysis[which] = begin
        for i in range(content.size):
            analysis[begin + i] = content[i]
        begin += content.size
        which += 1
    return which, begin
