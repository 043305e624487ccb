"""The structure of a covariance matrix, proved from the graph that makes it.

Nothing is evaluated at points: a matrix whose structure is not in the graph is ``Dense``. The rules
are in modules of their own, which :mod:`pm_gaussgrad.adopt.accelerate.rules` lists.
"""

from collections.abc import Callable

from pm_gaussgrad.cov import Covariance, Dense

_RULES: list[Callable] = []


def proves(rule):
    """Add a rule: matrix (..., n, n) -> structure, or None where it does not apply."""
    _RULES.append(rule)
    return rule


def structure_of(matrix) -> Covariance:
    """Of a covariance matrix (..., n, n); ``Dense`` where nothing is known of it."""
    found = known_structure(matrix)
    return Dense(matrix) if found is None else found


def known_structure(matrix) -> Covariance | None:
    """A structure with more to it than a matrix; None where there is none."""
    found = (rule(matrix) for rule in _RULES)
    return next((cov for cov in found if cov is not None), None)
