"""Sums of covariances that have a closed form, and the error for those that do not.

Each structure registers its own sums, in its own file, with :func:`closes`.
"""

from collections.abc import Callable

_RULES: dict[tuple[type, type], Callable] = {}


def closes(left: type, right: type):
    """Register the decorated function as the sum of two kinds of structure."""

    def register(rule):
        _RULES[left, right] = rule
        return rule

    return register


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
        If the sum has no closed form; the message lists the sums that have one.
    """
    if rule := _RULES.get((type(left), type(right))):
        return rule(left, right)
    if rule := _RULES.get((type(right), type(left))):
        return rule(right, left)
    names = sorted({f"{a.summand} + {b.summand}" for a, b in _RULES})
    raise TypeError(
        f"{left.summand} + {right.summand} has no closed form here, and nothing is made dense "
        f"unasked. Sums with a closed form: {', '.join(names)}. For the dense sum, at a cost of "
        "n^3, write gg.cov.Dense(a.to_dense() + b.to_dense())."
    )
