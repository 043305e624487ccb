"""Products of covariances entry by entry, ``a * b``.

They are covariances, too: of the product of independent processes of variance one. Structures
register in their own files, by families, which pairs have an algorithm (:func:`multiplies`).
"""

from collections.abc import Callable

from pm_gaussgrad.cov.protocol.sums import resolved_if_possible, summands_of

_RULES: dict[tuple[type, type], Callable] = {}


def multiplies(left: type, right: type):
    """Register the decorated function as the entrywise product of two families of structures.

    A family is a class and its subclasses. A rule raises a TypeError where two at hand have none
    after all, which says why in half a sentence.
    """

    def register(rule):
        _RULES[left, right] = rule
        return rule

    return register


def entrywise_product(left, right):
    """The structure of ``left * right``, entry by entry.

    Raises
    ------
    TypeError
        If it has no algorithm but the dense one.
    """
    label, reason = f"{_in_brackets(left)} * {_in_brackets(right)}", "it has no algorithm here"
    left, right = map(resolved_if_possible, (left, right))
    for (a, b), rule in _RULES.items():
        if isinstance(left, a) and isinstance(right, b):
            try:
                found = rule(left, right)
            except TypeError as error:
                reason = str(error)
                break
            found.label = label
            return found
    known = ", ".join(f"{a.summand} and {b.summand}" for a, b in _RULES)
    raise TypeError(
        f"{label}, entry by entry: {reason}, and nothing is made dense unasked. There is a product "
        f"of {known}. For the dense one, at a cost of n^3, write "
        "gg.cov.Dense(a.to_dense() * b.to_dense()); all products of two entries are "
        "gg.cov.Kronecker(a, b), a scale of each observation is gg.cov.Scaled(cov, scale)."
    )


def _in_brackets(cov):
    return f"({cov.label})" if len(summands_of(cov)) > 1 else cov.label
