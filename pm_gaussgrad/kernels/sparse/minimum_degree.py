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
    degrees, oldest, place_of = node[_DEGREE], node[_OF_DEGREE], node[_PLACE]
    pool = np.empty(2 * neighbours.size + n, np.int64)
    for i in range(neighbours.size):
        pool[i] = neighbours[i]
    remaining = _set_up(node, start)
    end, stamp, least, place = neighbours.size, 1, 0, 0
    while remaining > 0:
        while oldest[least] < 0:
            least += 1
        pivot = oldest[least]
        _unchain(node, pivot)
        needed = end + degrees[pivot]
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
        place_of[pivot] = place
        place += 1
    return _listed(node, place)


def _set_up(node, start):
    """Every node alone, in the chain of its degree; what is left to eliminate."""
    lists, lengths, weights = node[_LIST], node[_LENGTH], node[_WEIGHT]
    degrees = node[_DEGREE]
    n = start.size - 1
    remaining, many = n, max(16, int(10 * np.sqrt(n)))
    for i in range(n):
        for field in (_OF_DEGREE, _LAST, _OF_KEY, _PLACE, _OWNER):
            node[field, i] = -1
    for i in range(n):
        degree = start[i + 1] - start[i]
        lists[i], lengths[i], degrees[i] = start[i], degree, degree
        if degree > many:
            remaining -= 1
        else:
            weights[i] = 1
            _chain(node, i)
    return remaining


def _chain(node, i):
    degrees, following, preceding = node[_DEGREE], node[_NEXT], node[_PREVIOUS]
    oldest, newest = node[_OF_DEGREE], node[_LAST]
    degree = degrees[i]
    before = newest[degree]
    following[i], preceding[i] = -1, before
    if before >= 0:
        following[before] = i
    else:
        oldest[degree] = i
    newest[degree] = i


def _unchain(node, i):
    degrees, following, preceding = node[_DEGREE], node[_NEXT], node[_PREVIOUS]
    oldest, newest = node[_OF_DEGREE], node[_LAST]
    before, after = preceding[i], following[i]
    if before >= 0:
        following[before] = after
    else:
        oldest[degrees[i]] = after
    if after >= 0:
        preceding[after] = before
    else:
        newest[degrees[i]] = before


def _gather_members(node, pool, pivot, end):
    """The pivot becomes an element, whose members are written to the pool from ``end`` on.

    It absorbs the elements next to it. Members have a negative weight, and so has the pivot.
    """
    lists, lengths, element_counts = node[_LIST], node[_LENGTH], node[_ELEMENTS]
    weights, degrees, marks = node[_WEIGHT], node[_DEGREE], node[_MARK]
    weights[pivot] *= -1
    left, elements = lists[pivot], element_counts[pivot]
    right, new, total = left + lengths[pivot], end, 0
    for position in range(left, left + elements):
        element = pool[position]
        members = lists[element]
        new = _take(node, pool, members, members + lengths[element], new)
        marks[element] = 0
    new = _take(node, pool, left + elements, right, new)
    for at in range(end, new):
        total -= weights[pool[at]]
    lists[pivot], lengths[pivot], degrees[pivot] = end, new - end, total
    return new


def _take(node, pool, left, right, new):
    """Write those of a list that are neither members yet nor gone to the end of the pool."""
    weights = node[_WEIGHT]
    for position in range(left, right):
        member = pool[position]
        if weights[member] > 0:
            _unchain(node, member)
            weights[member] *= -1
            pool[new] = member
            new += 1
    return new


def _weigh_outside(node, pool, first, end, stamp):
    """Mark each element beside a member by the stamp plus what it weighs outside of the newest."""
    lists, element_counts, weights = node[_LIST], node[_ELEMENTS], node[_WEIGHT]
    degrees, marks = node[_DEGREE], node[_MARK]
    for at in range(first, end):
        member = pool[at]
        left = lists[member]
        for position in range(left, left + element_counts[member]):
            element = pool[position]
            if marks[element] >= stamp:
                marks[element] += weights[member]
            elif marks[element] != 0:
                marks[element] = stamp + degrees[element] + weights[member]


def _update_lists(node, pool, first, end, pivot, stamp):
    """Rewrite the list of each member, with the newest element; what is eliminated.

    Members without any other neighbour are, with the pivot. The others are chained by the sum of
    their lists, with which they begin to be compared.
    """
    lists, lengths, element_counts = node[_LIST], node[_LENGTH], node[_ELEMENTS]
    weights, degrees, marks = node[_WEIGHT], node[_DEGREE], node[_MARK]
    following, preceding, with_key = node[_NEXT], node[_PREVIOUS], node[_OF_KEY]
    owners = node[_OWNER]
    n = node.shape[1]
    for at in range(first, end):
        member = pool[at]
        left, elements = lists[member], element_counts[member]
        right, keep, degree, key = left + lengths[member], left, 0, pivot
        for position in range(left, left + elements):
            element = pool[position]
            outside = marks[element] - stamp
            if outside > 0:
                degree += outside
                key += element
                pool[keep] = element
                keep += 1
            else:  # none of its members are outside
                marks[element] = 0
        kept, slot = keep - left, keep
        for position in range(left + elements, right):
            other = pool[position]
            if weights[other] > 0:
                degree += weights[other]
                key += other
                pool[keep] = other
                keep += 1
        if degree == 0:
            weights[pivot] += weights[member]
            degrees[pivot] += weights[member]
            weights[member], owners[member] = 0, pivot
            continue
        pool[keep] = pool[slot]  # there is room: the pivot, or what it absorbed, is gone
        pool[slot] = pivot
        element_counts[member], lengths[member] = kept + 1, keep + 1 - left
        degrees[member] = min(degrees[member], degree)
        key %= n
        following[member], preceding[member] = with_key[key], key
        with_key[key] = member
    return -weights[pivot]


def _merge_indistinguishable(node, pool, first, end, stamp):
    """Merge members whose lists are the same; the last stamp that was used."""
    lists, lengths, element_counts = node[_LIST], node[_LENGTH], node[_ELEMENTS]
    weights, marks, following = node[_WEIGHT], node[_MARK], node[_NEXT]
    preceding, with_key, owners = node[_PREVIOUS], node[_OF_KEY], node[_OWNER]
    for at in range(first, end):
        member = pool[at]
        if weights[member] == 0:
            continue
        key = preceding[member]
        one = with_key[key]
        with_key[key] = -1
        while one >= 0 and following[one] >= 0:
            stamp += 1
            left, length = lists[one], lengths[one]
            for position in range(left, left + length):
                marks[pool[position]] = stamp
            before, other = one, following[one]
            while other >= 0:
                same = lengths[other] == length
                same &= element_counts[other] == element_counts[one]
                position = lists[other]
                while same and position < lists[other] + length:
                    same = marks[pool[position]] == stamp
                    position += 1
                after = following[other]
                if same:
                    weights[one] += weights[other]
                    weights[other], owners[other] = 0, one
                    following[before] = after
                else:
                    before = other
                other = after
            one = following[one]
    return stamp


def _finish(node, pool, first, end, pivot, remaining):
    """Chain the members by their degrees; the end of their list, and the least of these."""
    lengths, weights, degrees = node[_LENGTH], node[_WEIGHT], node[_DEGREE]
    marks = node[_MARK]
    keep, lowest, size = first, node.shape[1], degrees[pivot]
    for at in range(first, end):
        member = pool[at]
        weight = -weights[member]
        if weight > 0:
            weights[member] = weight
            degree = min(degrees[member] + size - weight, remaining - weight)
            degrees[member] = degree
            _chain(node, member)
            lowest = min(lowest, degree)
            pool[keep] = member
            keep += 1
    lengths[pivot] = keep - first
    marks[pivot] = 1 if keep > first else 0
    weights[pivot] = 0
    return keep, lowest


def _listed(node, places):
    """All nodes by the place of the one into which they were merged; last, those left out."""
    owners, place_of = node[_OWNER], node[_PLACE]
    n = node.shape[1]
    where, start = np.empty(n, np.int64), np.zeros(places + 2, np.int64)
    order = np.empty(n, np.int64)
    for i in range(n):
        owner = i
        while place_of[owner] < 0 and owners[owner] >= 0:
            owner = owners[owner]
        where[i] = place_of[owner] if place_of[owner] >= 0 else places
        start[where[i] + 1] += 1
        step = i
        while step != owner:  # the way is shorter for those that come later
            after = owners[step]
            owners[step] = owner
            step = after
    for place in range(places + 1):
        start[place + 1] += start[place]
    for i in range(n):
        order[start[where[i]]] = i
        start[where[i]] += 1
    return order
