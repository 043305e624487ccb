"""Sums of covariances that have a closed form, and the error for those that do not.

Each structure registers its own sums, in its own file, with :func:`closes`.
"""

from collections.abc import Callable

_RULES: dict[tuple[type, type], Callable] = {}
_REMEDIES: dict[tuple[type, type], str] = {}


def closes(left: type, right: type):
    """Register the decorated function as the sum of two families of structures.

    A family is a class and its subclasses. Of several rules that of the nearest families is
    taken, in the order in which Python resolves methods.
    """

    def register(rule):
        _RULES[left, right] = rule
        return rule

    return register


def mends(left: type, right: type, remedy: str) -> None:
    """Register what to write in place of a sum of two families that does not close, a sentence."""
    _REMEDIES[left, right] = _REMEDIES[right, left] = remedy


def common_size(left, right):
    """The size of both summands: None where neither knows it, ValueError where they disagree."""
    sizes = [cov.size for cov in (left, right) if cov.size is not None]
    known = {size for size in sizes if isinstance(size, int)}
    if len(known) > 1:
        raise ValueError(
            f"{left.label} + {right.label}: the sizes {sorted(known)} disagree; both must be for "
            "the same observations."
        )
    return next(iter([*known, *sizes]), None)


def closed_sum(left, right):
    """The structure of ``left + right``.

    Raises
    ------
    TypeError
        If the sum has no closed form; the message says what each summand combines with.
    """
    in_order, swapped = _nearest(left, right), _nearest(right, left)
    if in_order or swapped:
        if swapped is None or (in_order and in_order[0] <= swapped[0]):
            return in_order[1](left, right)
        return swapped[1](right, left)
    raise does_not_close(left, right)


def does_not_close(left, right) -> TypeError:
    """The error of two summands, which rules raise where a sum of their families does not close."""
    remedy = _nearest(left, right, _REMEDIES)
    return TypeError(
        f"{left.summand} + {right.summand} has no closed form here, and nothing is made dense "
        f"unasked. {_partners(left)} {_partners(right)}{f' {remedy[1]}' if remedy else ''} For the "
        "dense sum, at a cost of n^3, write gg.cov.Dense(a.to_dense() + b.to_dense())."
    )


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
    found = sorted({right.summand for left, right in pairs if isinstance(cov, left)})
    return f"{cov.summand} combines with {', '.join(found) if found else 'nothing here'}."
