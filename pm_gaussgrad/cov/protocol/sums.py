"""How sums of covariances find their algorithm, and the error where there is none.

Structures register in their own files, by families, which pairs have a closed form
(:func:`closes`), and what to do with several summands that do not reduce to one by these
(:func:`falls_back`). :func:`resolve` tries the rules first, in any order of the summands, and then
the fallbacks, the cheapest first.
"""

from collections.abc import Callable
from itertools import combinations

from pm_gaussgrad.cov.protocol.sized import of_size

_RULES: dict[tuple[type, type], Callable] = {}
_FALLBACKS: list[tuple[int, "str | Callable", Callable]] = []
_KEPT: list[type] = []
_REMEDIES: dict[tuple[type, type], str] = {}


def closes(left: type, right: type):
    """Register the decorated function as the sum of two families of structures.

    A family is a class and its subclasses. Of several rules that of the nearest families is
    taken, in the order in which Python resolves methods. A rule raises a TypeError where the two
    at hand do not close after all.
    """

    def register(rule):
        _RULES[left, right] = rule
        return rule

    return register


def falls_back(order: int, partner: "str | Callable"):
    """Register the decorated function for sums that no rules close, in ascending order.

    Parameters
    ----------
    order : int
        Its place among the others.
    partner : str or callable
        For errors: the name of a structure to which anything can be added by it, or a function of
        a summand, which says what can be added to that one by it, or nothing.

    Notes
    -----
    The function takes the list of summands and returns their sum, or None where it has none.
    """

    def register(fallback):
        _FALLBACKS.append((order, partner, fallback))
        _FALLBACKS.sort(key=lambda found: found[0])
        return fallback

    return register


def keeps_summands(kind: type) -> type:
    """Register the decorated class as that of ``a + b``."""
    _KEPT.append(kind)
    return kind


def summed(*summands):
    """``a + b``, which keeps its summands until its algorithm is asked for."""
    [kind] = _KEPT
    return kind(*summands)


def summands_of(cov) -> tuple:
    """What it is the sum of, to be added to others; itself if it is none."""
    return getattr(cov, "summands", (cov,))


def resolved_if_possible(cov):
    """``cov.resolved``; a sum without an algorithm as it is: in small matrices it is formed."""
    try:
        return cov.resolved
    except TypeError:
        return cov


def has_algorithm(cov) -> bool:
    """Whether there is an algorithm for a covariance: for some sums there is none."""
    try:
        return cov.resolved is not None
    except TypeError:
        return False


def label_of_sum(parts) -> str:
    """The name of a sum, of structures or forms."""
    return " + ".join(part.label for part in parts)


def mends(left: type, right: type, remedy: str) -> None:
    """Register what to write in place of a sum of two families that does not close, a sentence."""
    _REMEDIES[left, right] = _REMEDIES[right, left] = remedy


def common_size(*summands):
    """The size of all summands: None where none knows it, ValueError where they disagree."""
    sizes = [(cov.size, cov) for cov in summands if cov.size is not None]
    known = {size: cov for size, cov in sizes if isinstance(size, int)}
    if len(known) > 1:
        left, right, *_ = known.values()
        raise ValueError(
            f"{left.label} + {right.label}: the sizes {[left.size, right.size]} disagree; both "
            "must be for the same observations."
        )
    return next(iter([*known, *(size for size, _ in sizes)]), None)


def closed_sum(left, right):
    """The structure of ``left + right`` by a rule for the two.

    Raises
    ------
    TypeError
        If there is none; the message says what each summand combines with.
    """
    in_order, swapped = _nearest(left, right), _nearest(right, left)
    if in_order or swapped:
        if swapped is None or (in_order and in_order[0] <= swapped[0]):
            return in_order[1](left, right).resolved
        return swapped[1](right, left).resolved
    raise does_not_close(left, right)


def does_not_close(left, right) -> TypeError:
    """The error of two summands, which rules raise where a sum of their families does not close."""
    remedy = _nearest(left, right, _REMEDIES)
    anything = " and ".join(partner for _, partner, _ in _FALLBACKS if isinstance(partner, str))
    sentences = [
        f"{left.summand} + {right.summand} has no algorithm here, and nothing is made dense "
        "unasked.",
        *dict.fromkeys(map(_partners, (left, right))),
        f"{anything} can be added to anything.",
        *([remedy[1]] if remedy else []),
        *(["It has one for a known length: pass `size=`."] if _lacks_size(left, right) else []),
        "For the dense sum, at a cost of n^3, write gg.cov.Dense((a + b).to_dense()).",
    ]
    return TypeError(" ".join(sentences))


def _lacks_size(left, right) -> bool:
    """Whether there would be an algorithm if the number of observations were known."""
    if common_size(left, right) is not None:
        return False
    try:
        resolve([of_size(cov, 2) for cov in (left, right)])
    except TypeError:
        return False
    return True


def _nearest(left, right, of=_RULES) -> tuple[int, Callable | str] | None:
    """How far up the families are whose rule comes first, and the rule."""
    families = [
        (i + j, of[a, b])
        for i, a in enumerate(type(left).__mro__)
        for j, b in enumerate(type(right).__mro__)
        if (a, b) in of
    ]
    return min(families, key=lambda found: found[0], default=None)


def _partners(cov) -> str:
    """What a summand does combine with, as a sentence."""
    pairs = [*_RULES, *(pair[::-1] for pair in _RULES)]
    found = {right.summand for left, right in pairs if isinstance(cov, left)}
    found = sorted(name for name in found if " + " not in name)  # sums of what is there by itself
    found += [say(cov) for _, say, _ in _FALLBACKS if callable(say) and say(cov)]
    return f"{cov.summand} combines with {', '.join(found) if found else 'nothing by itself'}."


def resolve(summands):
    """The structure of a sum, by the cheapest way there is.

    Parameters
    ----------
    summands : list of Covariance

    Raises
    ------
    TypeError
        If there is no way; the message is about two summands that do not combine.
    """
    summands = _gathered([part for cov in summands for part in summands_of(cov)])
    found = _by_any_way(summands)
    if found is not None:
        return found
    for left, right in combinations(summands, 2):
        if _by_any_way([left, right]) is None:
            closed_sum(left, right)  # raises for the first that do not combine
    # Each pair does, but not with the others.
    closed_sum(_by_any_way(summands[:2]), summands[2])
    raise TypeError(f"{label_of_sum(summands)} has no algorithm here.")


def _by_any_way(summands):
    """One structure by rules for pairs or by a fallback; None where there is none."""
    found = _closed(summands)
    for _, _, fallback in _FALLBACKS:
        found = fallback(summands) if found is None else found
    return found


def _gathered(summands) -> list:
    """Summands of one family together, where their sum is of that family: factors, noise."""
    gathered = []
    for cov in summands:
        for i, other in enumerate(gathered):
            if isinstance(cov, type(other)) or isinstance(other, type(cov)):
                both = _by_rule(other, cov)
                if type(both) in (type(cov), type(other)):
                    gathered[i] = both
                    break
        else:
            gathered.append(cov)
    return gathered


def _closed(summands):
    """One structure by rules for pairs, in any order; None where these do not lead to one."""
    if len(summands) == 1:
        return summands[0]
    for i, j in combinations(range(len(summands)), 2):
        both = _by_rule(summands[i], summands[j])
        if both is not None:
            rest = [cov for k, cov in enumerate(summands) if k not in (i, j)]
            found = _closed([both, *rest])
            if found is not None:
                return found
    return None


def _by_rule(left, right):
    try:
        return closed_sum(left, right)
    except TypeError:
        return None
