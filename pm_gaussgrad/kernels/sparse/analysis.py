"""The analysis of a pattern, once for all values: order, supernodes, fronts, in one array.

The steps that are no array operations are compiled one by one: linked into one function they would
take numba twice as long.
"""

import numpy as np

from pm_gaussgrad.kernels.sparse.elimination_tree import (
    adjacency,
    column_counts,
    elimination_tree,
    inverse_permutation,
    linked_children,
    postorder,
    starts,
)
from pm_gaussgrad.kernels.sparse.fronts import (
    Fronts,
    gathered_rows,
    product_targets,
    stack_places,
)
from pm_gaussgrad.kernels.sparse.layout import END, HEADER, SECTIONS
from pm_gaussgrad.kernels.sparse.minimum_degree import minimum_degree
from pm_gaussgrad.kernels.sparse.supernodes import merged_supernodes

# Up to so many products of two entries of a column, for each column, supernodes do not pay.
_FEW_PRODUCTS = 8
# Up to so many products columns by themselves take little time, and less to compile.
SIMPLE = 10_000
# Patterns of so few entries are analysed before compiled code is loaded from disk.
_FEW_ENTRIES = 2000


def as_written(function):
    """The function itself, interpreted."""
    return function


def analyse(indptr, indices, compiled=as_written, order=None, without_supernodes=0):
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
    without_supernodes : int, optional
        Up to so many products of entries of the factor each column is by itself.

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
    start, neighbours = adjacency(indptr, indices)
    if order is None:
        order = compiled(minimum_degree)(start, neighbours)
    parent = compiled(elimination_tree)(start, neighbours, order, inverse_permutation(order))
    nodes = np.arange(order.size)
    order = order[compiled(postorder)(parent, *linked_children(parent, nodes))]
    rank = inverse_permutation(order)
    parent = compiled(elimination_tree)(start, neighbours, order, rank)
    counts = compiled(column_counts)(start, neighbours, order, rank, parent)
    products = (counts * (counts - 1) // 2).sum()
    supernodal = products > max(_FEW_PRODUCTS * order.size, without_supernodes)
    first, above = np.append(nodes, order.size), parent
    if supernodal:
        columns, first, above = merged_supernodes(parent, counts, compiled)
        order = order[columns]
        rank = inverse_permutation(order)
    children = linked_children(above, np.arange(above.size))
    found = compiled(gathered_rows)((start, neighbours, order), rank, first, *children)
    fronts = Fronts(first, *found)
    panels = starts(fronts.columns * fronts.heights)
    entries = fronts.entries(indptr, indices, rank)
    common = (order, first, fronts.row_start, fronts.rows, panels, *entries)
    largest = [fronts.heights.max(initial=0), np.diff(panels).max(initial=0)]
    none = np.empty(0, np.int64)
    if not supernodal:
        target = compiled(product_targets)(fronts.row_start, fronts.rows)
        return _packed((*common, none, none, none, none, none, target), [0, 0, *largest])
    stack, size = compiled(stack_places)(above, fronts.row_start, *children)
    tree = (*children, *fronts.in_parents(above), stack)
    return _packed((*common, *tree, none), [1, size, *largest])


def _packed(sections, numbers):
    """Sections in the order of their names behind a header, of these numbers and where they are."""
    supernodal, stack_size, tallest, largest = numbers
    order, panel_start = sections[0], sections[4]
    header = np.empty(HEADER, np.int64)
    header[:SECTIONS] = order.size, supernodal, panel_start[-1], stack_size, tallest, largest
    header[SECTIONS : END + 1] = HEADER + np.cumsum([0, *(x.size for x in sections)])
    return np.concatenate([header, *sections])
