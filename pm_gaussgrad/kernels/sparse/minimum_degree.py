"""An order of elimination with little fill: approximate minimum degree on the quotient graph.

The node that is eliminated becomes an *element*, whose members are the nodes that its elimination
makes neighbours of each other; elements among its neighbours are absorbed. So the graph never
grows beyond the pattern that it began with, plus a list of members for each element. Nodes with
the same neighbours are merged into one that weighs as much; a node whose only neighbour is the new
element is eliminated with it. Degrees are bounded from above by the sizes of the elements beside
the newest one, each counted without the members that it shares with that. Nodes that neighbour a
large part of the graph are left for the end, so that none of this is slow because of them. Of
nodes with the least degree the one that has had it longest is next: on lattices half of the
multiplications of the opposite rule, as with multiple elimination (Liu, 1985).

Source: Amestoy, Davis and Duff (1996), An approximate minimum degree ordering algorithm, SIAM
Journal on Matrix Analysis and Applications 17, sections 2 to 5.
"""

import numpy as np

# Rows of a table with a column for each node. A node that is no element yet has a list of
# neighbours in the pool, first elements and then nodes; an element, one of its members.
_LIST, _LENGTH, _ELEMENTS = 0, 1, 2
# How many nodes of the matrix it stands for; negative while a member of the newest element, zero
# once eliminated or merged. The bound of the degree; of an element, the weight of its members.
_WEIGHT, _DEGREE = 3, 4
# Of an element: 0 once absorbed. Otherwise, a stamp plus what it weighs outside of the newest.
_MARK = 5
# Nodes of one degree are chained, oldest first; and those with one key of their lists.
_NEXT, _PREVIOUS, _OF_DEGREE, _LAST, _OF_KEY = 6, 7, 8, 9, 10
# The node into which it was merged; its place among those eliminated, -1 for none.
_OWNER, _PLACE = 11, 12
_FIELDS = 13


def minimum_degree(start, neighbours):
    """The nodes of a graph in an order of elimination.

    Parameters
    ----------
    start : array of int, shape (n + 1)
    neighbours : array of int
        Those of node i, without i, are ``neighbours[start[i]:start[i + 1]]``; of a symmetric graph.

    Returns
    -------
    order : array of int, shape (n)
    """
    n = start.size - 1
    node = np.zeros((_FIELDS, n), np.int64)
    pool = np.empty(2 * neighbours.size + n, np.int64)
    for i in range(neighbours.size):
        pool[i] = neighbours[i]
    remaining = _set_up(node, start)
    end, stamp, least, place = neighbours.size, 1, 0, 0
    while remaining > 0:
        while node[_OF_DEGREE, least] < 0:
            least += 1
        pivot = node[_OF_DEGREE, least]
        _unchain(node, pivot)
        needed = end + node[_DEGREE, pivot]
        if needed > pool.size:
            larger = np.empty(2 * needed, np.int64)
            for i in range(end):
                larger[i] = pool[i]
            pool = larger
        first, end = end, _gather_members(node, pool, pivot, end)
        stamp += n + 1
        _weigh_outside(node, pool, first, end, stamp)
        eliminated = _update_lists(node, pool, first, end, pivot, stamp)
        stamp += n + 1
        stamp = _merge_indistinguishable(node, pool, first, end, stamp)
        remaining -= eliminated
        end, lowest = _finish(node, pool, first, end, pivot, remaining)
        least = min(least, lowest)
        node[_PLACE, pivot] = place
        place += 1
    return _listed(node, place)


def _set_up(node, start):
    """Every node alone, in the chain of its degree; what is left to eliminate."""
    n = start.size - 1
    remaining, many = n, max(16, int(10 * np.sqrt(n)))
    for i in range(n):
        for field in (_OF_DEGREE, _LAST, _OF_KEY, _PLACE, _OWNER):
            node[field, i] = -1
    for i in range(n):
        degree = start[i + 1] - start[i]
        node[_LIST, i], node[_LENGTH, i], node[_DEGREE, i] = start[i], degree, degree
        if degree > many:
            remaining -= 1
        else:
            node[_WEIGHT, i] = 1
            _chain(node, i)
    return remaining


def _chain(node, i):
    degree = node[_DEGREE, i]
    before = node[_LAST, degree]
    node[_NEXT, i], node[_PREVIOUS, i] = -1, before
    if before >= 0:
        node[_NEXT, before] = i
    else:
        node[_OF_DEGREE, degree] = i
    node[_LAST, degree] = i


def _unchain(node, i):
    before, after = node[_PREVIOUS, i], node[_NEXT, i]
    if before >= 0:
        node[_NEXT, before] = after
    else:
        node[_OF_DEGREE, node[_DEGREE, i]] = after
    if after >= 0:
        node[_PREVIOUS, after] = before
    else:
        node[_LAST, node[_DEGREE, i]] = before


def _gather_members(node, pool, pivot, end):
    """The pivot becomes an element, whose members are written to the pool from ``end`` on.

    It absorbs the elements next to it. Members have a negative weight, and so has the pivot.
    """
    node[_WEIGHT, pivot] *= -1
    left, elements = node[_LIST, pivot], node[_ELEMENTS, pivot]
    right, new, total = left + node[_LENGTH, pivot], end, 0
    for position in range(left, left + elements):
        element = pool[position]
        members = node[_LIST, element]
        new = _take(node, pool, members, members + node[_LENGTH, element], new)
        node[_MARK, element] = 0
    new = _take(node, pool, left + elements, right, new)
    for at in range(end, new):
        total -= node[_WEIGHT, pool[at]]
    node[_LIST, pivot], node[_LENGTH, pivot], node[_DEGREE, pivot] = end, new - end, total
    return new


def _take(node, pool, left, right, new):
    """Write those of a list that are neither members yet nor gone to the end of the pool."""
    for position in range(left, right):
        member = pool[position]
        if node[_WEIGHT, member] > 0:
            _unchain(node, member)
            node[_WEIGHT, member] *= -1
            pool[new] = member
            new += 1
    return new


def _weigh_outside(node, pool, first, end, stamp):
    """Mark each element beside a member by the stamp plus what it weighs outside of the newest."""
    for at in range(first, end):
        member = pool[at]
        left = node[_LIST, member]
        for position in range(left, left + node[_ELEMENTS, member]):
            element = pool[position]
            if node[_MARK, element] >= stamp:
                node[_MARK, element] += node[_WEIGHT, member]
            elif node[_MARK, element] != 0:
                node[_MARK, element] = stamp + node[_DEGREE, element] + node[_WEIGHT, member]


def _update_lists(node, pool, first, end, pivot, stamp):
    """Rewrite the list of each member, with the newest element; what is eliminated.

    Members without any other neighbour are, with the pivot. The others are chained by the sum of
    their lists, with which they begin to be compared.
    """
    n = node.shape[1]
    for at in range(first, end):
        member = pool[at]
        left, elements = node[_LIST, member], node[_ELEMENTS, member]
        right, keep, degree, key = left + node[_LENGTH, member], left, 0, pivot
        for position in range(left, left + elements):
            element = pool[position]
            outside = node[_MARK, element] - stamp
            if outside > 0:
                degree += outside
                key += element
                pool[keep] = element
                keep += 1
            else:  # none of its members are outside
                node[_MARK, element] = 0
        kept, slot = keep - left, keep
        for position in range(left + elements, right):
            other = pool[position]
            if node[_WEIGHT, other] > 0:
                degree += node[_WEIGHT, other]
                key += other
                pool[keep] = other
                keep += 1
        if degree == 0:
            node[_WEIGHT, pivot] += node[_WEIGHT, member]
            node[_DEGREE, pivot] += node[_WEIGHT, member]
            node[_WEIGHT, member], node[_OWNER, member] = 0, pivot
            continue
        pool[keep] = pool[slot]  # there is room: the pivot, or what it absorbed, is gone
        pool[slot] = pivot
        node[_ELEMENTS, member], node[_LENGTH, member] = kept + 1, keep + 1 - left
        node[_DEGREE, member] = min(node[_DEGREE, member], degree)
        key %= n
        node[_NEXT, member], node[_PREVIOUS, member] = node[_OF_KEY, key], key
        node[_OF_KEY, key] = member
    return -node[_WEIGHT, pivot]


def _merge_indistinguishable(node, pool, first, end, stamp):
    """Merge members whose lists are the same; the last stamp that was used."""
    for at in range(first, end):
        member = pool[at]
        if node[_WEIGHT, member] == 0:
            continue
        key = node[_PREVIOUS, member]
        one = node[_OF_KEY, key]
        node[_OF_KEY, key] = -1
        while one >= 0 and node[_NEXT, one] >= 0:
            stamp += 1
            left, length = node[_LIST, one], node[_LENGTH, one]
            for position in range(left, left + length):
                node[_MARK, pool[position]] = stamp
            before, other = one, node[_NEXT, one]
            while other >= 0:
                same = node[_LENGTH, other] == length
                same &= node[_ELEMENTS, other] == node[_ELEMENTS, one]
                position = node[_LIST, other]
                while same and position < node[_LIST, other] + length:
                    same = node[_MARK, pool[position]] == stamp
                    position += 1
                after = node[_NEXT, other]
                if same:
                    node[_WEIGHT, one] += node[_WEIGHT, other]
                    node[_WEIGHT, other], node[_OWNER, other] = 0, one
                    node[_NEXT, before] = after
                else:
                    before = other
                other = after
            one = node[_NEXT, one]
    return stamp


def _finish(node, pool, first, end, pivot, remaining):
    """Chain the members by their degrees; the end of their list, and the least of these."""
    keep, lowest, size = first, node.shape[1], node[_DEGREE, pivot]
    for at in range(first, end):
        member = pool[at]
        weight = -node[_WEIGHT, member]
        if weight > 0:
            node[_WEIGHT, member] = weight
            degree = min(node[_DEGREE, member] + size - weight, remaining - weight)
            node[_DEGREE, member] = degree
            _chain(node, member)
            lowest = min(lowest, degree)
            pool[keep] = member
            keep += 1
    node[_LENGTH, pivot] = keep - first
    node[_MARK, pivot] = 1 if keep > first else 0
    node[_WEIGHT, pivot] = 0
    return keep, lowest


def _listed(node, places):
    """All nodes by the place of the one into which they were merged; last, those left out."""
    n = node.shape[1]
    where, start = np.empty(n, np.int64), np.zeros(places + 2, np.int64)
    order = np.empty(n, np.int64)
    for i in range(n):
        owner = i
        while node[_PLACE, owner] < 0 and node[_OWNER, owner] >= 0:
            owner = node[_OWNER, owner]
        where[i] = node[_PLACE, owner] if node[_PLACE, owner] >= 0 else places
        start[where[i] + 1] += 1
        step = i
        while step != owner:  # the way is shorter for those that come later
            after = node[_OWNER, step]
            node[_OWNER, step] = owner
            step = after
    for place in range(places + 1):
        start[place + 1] += start[place]
    for i in range(n):
        order[start[where[i]]] = i
        start[where[i]] += 1
    return order
