"""What a covariance is the sum of, also where the sum was put into something linear in it.

f(A + B) = f(A) + f(B), where f scales, multiplies or repeats a covariance for each subject: what
was put into f is kept beside what came of it, and f. Nothing is evaluated by these terms; they are
for predictions of one of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.sums import summands_of


@dataclass(frozen=True)
class Inside:
    """What a covariance f(A) was made of.

    Attributes
    ----------
    cov : Covariance
        A, as it was given.
    around : callable
        f, of A or of a summand of it. It has to survive pickling.
    """

    cov: Any
    around: Callable


def made_of(whole, cov, around):
    """A covariance that was just made, which keeps what it was made of."""
    whole.inside = Inside(cov, around)
    return whole


def as_written(whole, cov, **arguments):
    """What a covariance was made of, by these arguments, as it was given; else ``cov``."""
    inside = whole.inside
    found = {} if inside is None else getattr(inside.around, "keywords", {})
    if not found or any(found.get(name) is not value for name, value in arguments.items()):
        return cov
    return inside.cov if cov.size is None else of_size(inside.cov, cov.size)


def multiple(cov, factor):
    """``factor * cov``, a scalar tensor and a covariance."""
    return made_of(cov.scaled(factor), cov, partial(multiple, factor=factor))


def terms_of(cov) -> list:
    """The next smaller covariances that add up to one; none where it is no sum.

    Those of blocks one after the other are each of them by itself.
    """
    if isinstance(cov.inside, tuple):
        return [block.around(block.cov) for block in cov.inside]
    # What was put into f, before what f made of its sum.
    found = [] if cov.inside is None else terms_of(cov.inside.cov)
    if found:
        return [cov.inside.around(term) for term in found]
    summands = summands_of(cov)
    if len(summands) < 2:
        return []
    n = cov.size
    return [x if n is None else of_size(x, n) for x in summands]


def names_of(cov) -> list:
    """The covariances that users may know a summand by: itself, and what it was made of."""
    own = [] if len(summands_of(cov)) > 1 else [cov]
    return [*own, *names_of(cov.inside.cov)] if isinstance(cov.inside, Inside) else own
