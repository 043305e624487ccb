"""A component and what remains of a sum without it, also where the sum is inside of a structure."""

from functools import cached_property

from pytensor.graph.basic import equal_computations

from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.sums import summands_of
from pm_gaussgrad.cov.protocol.terms import names_of, terms_of


def parted(owner, component, cov):
    """Covariances that add up to a component, and those that add up to the others.

    Parameters
    ----------
    owner : str
        The function that asks, for messages.
    component : Covariance
        A summand of ``cov``, of what ``cov`` was made of, or a sum of some.
    cov : Covariance

    Raises
    ------
    ValueError
        If the component is no part of the sum, or several of its parts are made of it.
    """
    [own], others = parted_into(owner, [component], cov, "component")
    return own, others


def parted_into(owner, components, cov, argument):
    """The same of several components, of which no two share a part: a list of each, and the others.

    ``argument`` is what errors call them.
    """
    whole, taken, own = _Term(cov), [], []
    for component in components:
        before = len(taken)
        _take(owner, component, whole, taken, argument)
        own.append([term.cov for term in taken[before:]])
    return own, whole.without(taken)


def finest_parts(cov) -> list:
    """The smallest covariances that are known to add up to one."""
    finer = terms_of(cov)
    return [part for term in finer for part in finest_parts(term)] if finer else [cov]


class _Term:
    """A part of a sum, and the finer ones that it is the sum of."""

    def __init__(self, cov):
        self.cov = cov

    @cached_property
    def finer(self):
        return [_Term(cov) for cov in terms_of(self.cov)]

    def known_as(self, wanted, taken, depth=0):
        """The parts that may be meant, each with its depth; none of which something is taken."""
        if self in taken:
            return []
        meant = not self._holds(taken) and any(
            _is_same(wanted, name) for name in names_of(self.cov)
        )
        finer = (x for term in self.finer for x in term.known_as(wanted, taken, depth + 1))
        return [(depth, self), *finer] if meant else list(finer)

    def without(self, taken):
        """The covariances that remain, as coarse as they may be."""
        if self in taken:
            return []
        if not self._holds(taken):
            return [self.cov]
        return [cov for term in self.finer for cov in term.without(taken)]

    def _holds(self, taken):
        return any(term in taken or term._holds(taken) for term in self.finer)

    def labels(self):
        """Names of the finest parts, and of what they are in."""
        if not self.finer:
            names = dict.fromkeys(x.label for x in reversed(names_of(self.cov)))
            return [" in ".join(names)]
        return [label for term in self.finer for label in term.labels()]


def _take(owner, wanted, whole, taken, argument):
    """Put the parts of the sum that add up to what is wanted to those that are taken."""
    is_sum = len(summands_of(wanted)) > 1
    found = [] if is_sum else whole.known_as(wanted, taken)
    if not found:
        finer = terms_of(wanted) if not is_sum else summands_of(wanted)
        for summand in finer:
            _take(owner, summand, whole, taken, argument)
        if not finer:
            raise ValueError(
                f"{owner}: {wanted.label} of `{argument}` is not among the summands "
                f"{whole.labels()} of the covariance, expected one of them or a sum of some, of "
                "the same parameters: keep the object that was added."
            )
        return
    depth = min(depth for depth, _ in found)
    first, *others = [term for at, term in found if at == depth]
    if not all(_is_same(first.cov, term.cov) for term in others):
        raise ValueError(
            f"{owner}: several summands of {whole.labels()} are made of {wanted.label} of "
            f"`{argument}`, expected what only one is made of; pass the summand with all that it "
            "is in, such as gg.cov.Scaled(part, scale)."
        )
    taken.append(first)


def _is_same(one, other) -> bool:
    known = {cov.size for cov in (one, other) if isinstance(cov.size, int)}
    if len(known) > 1:
        return False
    for n in known:
        one, other = of_size(one, n), of_size(other, n)
    if one.structure != other.structure:
        return False
    return equal_computations(list(one.parameters), list(other.parameters))
