"""Sums of covariances: what is added, and the structure that it comes to.

``a + b + c`` keeps its summands, flat and in the order in which they were written. Its algorithm
(:mod:`pm_gaussgrad.cov.protocol.sums`) is found once, when it is asked for, at the latest where a
distribution is built. A sum flattens into the tensors of what it came to, so that random variables
and densities know that structure alone. What is a sum entry by entry (``to_dense``, ``diagonal``,
``rows``) is that of the summands, whether or not they have an algorithm together.
"""

from functools import cached_property, reduce
from operator import add

import pytensor.tensor as pt
from pytensor.scalar import upcast

from pm_gaussgrad.cov.protocol.base import Covariance, length
from pm_gaussgrad.cov.protocol.plan import Plan
from pm_gaussgrad.cov.protocol.scales import finite_dense
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.sums import (
    common_size,
    keeps_summands,
    label_of_sum,
    resolve,
    resolved_if_possible,
    summands_of,
)
from pm_gaussgrad.cov.protocol.terms import multiple


@keeps_summands
class Sum(Covariance):
    """``a + b + ...`` of structures.

    Attributes
    ----------
    summands : tuple of Covariance
    resolved : Covariance
        The structure by which it is evaluated.
    """

    def __init__(self, *summands):
        self.summands = tuple(part for cov in summands for part in summands_of(cov))
        common_size(*self.summands)

    @cached_property
    def resolved(self):
        """The structure by which the sum is evaluated.

        Raises
        ------
        TypeError
            If there is none but the dense matrix.
        """
        return resolve(self._summands())

    @property
    def label(self):
        """The name that users know the structure by."""
        return label_of_sum(self.summands)

    summand = label

    @property
    def size(self):
        return common_size(*self.summands)

    def sized(self, n):
        return Sum(*(of_size(cov, n) for cov in self.summands))

    @property
    def structure(self):
        """That of what the sum came to, as :attr:`parameters` are."""
        return self.resolved.structure

    @property
    def parameters(self):
        return self.resolved.parameters

    @property
    def submatrices_up_to(self):
        return self.resolved.submatrices_up_to

    def plan(self):
        found = self.resolved.plan()
        return Plan(self.label, found.how, found.parts)

    def check_constants(self, n=None):
        self.resolved_for(n).check_constants(n)

    def __getattr__(self, name):
        # What only some structures have, such as the rotation of an Eigenbasis.
        if name.startswith("_") or name in ("summands", "resolved"):
            raise AttributeError(name)
        return getattr(self.resolved, name)

    @property
    def dtype(self):
        return upcast(*(cov.dtype for cov in self.summands))

    def __reduce__(self):
        return Sum, self.summands

    def __repr__(self):
        return " + ".join(map(repr, self.summands))

    def _summands(self):
        """Each of the size that one of them says."""
        n = self.size
        return [cov if n is None else of_size(cov, n) for cov in self.summands]

    def to_dense(self):
        return self._added("to_dense")

    def diagonal(self):
        return self._added("diagonal")

    def rows(self, positions):
        return self._added("rows", positions)

    def times(self, rows):
        return self._added("times", rows)

    def _added(self, member, *arguments):
        return reduce(add, (getattr(cov, member)(*arguments) for cov in self._summands()))

    def scaled(self, factor):
        return Sum(*(multiple(cov, factor) for cov in self.summands))

    def keep(self, observed):
        kept = self.resolved.keep(observed)
        if kept is None:
            return None
        own = [cov.keep(observed) for cov in self.summands]
        # With its summands, where these have their structure without the others, too.
        if any(cov is None for cov in own):
            return kept
        whole = Sum(*own)
        return kept if resolved_if_possible(whole) is whole else whole

    def resolved_for(self, n):
        return (self if n is None else of_size(self, n)).resolved

    def _for(self, rows):
        """The structure, where only the rows may say how many observations there are."""
        return self.resolved_for(length(pt.as_tensor_variable(rows)))

    def quad_logdet(self, residual):
        return self._for(residual).quad_logdet(residual)

    def solve(self, b):
        return self._for(b).solve(b)

    def logdet(self):
        return self.resolved.logdet()

    def color(self, z):
        return self._for(z).color(z)

    def noise_size(self, n):
        return self.resolved.noise_size(n)

    def draw(self, z):
        return self.resolved.draw(z)

    def draw_semidefinite(self, z):
        return self.resolved.draw_semidefinite(z)

    def whiten(self, residual):
        return self._for(residual).whiten(residual)

    def inverse_diagonal(self):
        return self.resolved.inverse_diagonal()

    def leave_one_out(self, residual):
        return self._for(residual).leave_one_out(residual)

    def innovations(self, residual):
        return self._for(residual).innovations(residual)

    def rows_apart(self, observed):
        return self.resolved.rows_apart(observed)

    def conditional(self, missing):
        return self.resolved.conditional(missing)

    def groups(self):
        return self.resolved.groups()

    def time_order(self):
        return self.resolved.time_order()

    def information(self, tangents):
        return self.resolved.information(tangents)


@finite_dense.register(Sum)
def _of_summands(cov):
    return reduce(add, map(finite_dense, cov._summands()))
