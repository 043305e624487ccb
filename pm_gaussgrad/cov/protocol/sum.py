"""Sums of covariances: what is added, and the structure that it comes to.

``a + b + c`` keeps its summands, which predictions of one of them need, flat and in the order in
which they were written. Its algorithm (:mod:`pm_gaussgrad.cov.protocol.sums`) is found when it is
asked for, at the latest where a distribution is built; all that has one is then that structure's.
What is a sum entry by entry (``to_dense``, ``diagonal``, ``rows``) is that of the summands.
"""

from functools import cached_property, reduce
from operator import add

from pm_gaussgrad.cov.protocol.base import length
from pm_gaussgrad.cov.protocol.composite import Composite
from pm_gaussgrad.cov.protocol.plan import Plan
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.sums import common_size, keeps_summands, label_of_sum, resolve
from pm_gaussgrad.ops.tangents import forward_by_definition


@keeps_summands
class Sum(Composite):
    """``a + b + ...`` of structures.

    Attributes
    ----------
    resolved : Covariance
        The structure by which it is evaluated.
    """

    part_name = "summand"
    same_observations = True

    def __init__(self, *summands):
        self.parts = tuple(
            part for cov in summands for part in (cov.parts if isinstance(cov, Sum) else (cov,))
        )
        common_size(*self.parts)
        self.sizes = tuple(part.size for part in self.parts)

    @classmethod
    def label_of(cls, structures):
        """The names of the summands."""
        return label_of_sum(structures)

    @property
    def label(self):
        """The name that users know the structure by."""
        return self.label_of(self.parts)

    summand = label

    @property
    def size(self):
        return common_size(*self.parts)

    @cached_property
    def resolved(self):
        """The structure by which the sum is evaluated.

        Raises
        ------
        TypeError
            If there is none but the dense matrix.
        """
        n = self.size
        return resolve([part if n is None else of_size(part, n) for part in self.parts])

    @property
    def submatrices_up_to(self):
        return self.resolved.submatrices_up_to

    def plan(self):
        found = self.resolved.plan()
        return Plan(self.label, found.how, found.parts)

    def check_constants(self, n=None):
        size = self.size
        sized = self if n is None or isinstance(size, int) else of_size(self, n)
        if sized.size is not None:
            sized.resolved.check_constants(n)

    def _of_rows(self, rows):
        """The structure, where only the rows may say how many observations there are."""
        return (of_size(self, length(rows)) if self.size is None else self).resolved

    def to_dense(self):
        return self._added("to_dense")

    def diagonal(self):
        return self._added("diagonal")

    def rows(self, positions):
        return self._added("rows", positions)

    def _added(self, member, *arguments):
        n = self.size
        parts = (part if n is None else of_size(part, n) for part in self.parts)
        return reduce(add, (getattr(part, member)(*arguments) for part in parts))

    def scaled(self, factor):
        return Sum(*(part.scaled(factor) for part in self.parts))

    def quad_logdet(self, residual):
        return self._of_rows(residual).quad_logdet(residual)

    def solve(self, b):
        return self._of_rows(b).solve(b)

    def logdet(self):
        return self.resolved.logdet()

    def color(self, z):
        return self._of_rows(z).color(z)

    def noise_size(self, n):
        return of_size(self, n).resolved.noise_size(n)

    def draw(self, z):
        return self.resolved.draw(z)

    def whiten(self, residual):
        return self._of_rows(residual).whiten(residual)

    def inverse_diagonal(self):
        return self.resolved.inverse_diagonal()

    def leave_one_out(self, residual):
        return self._of_rows(residual).leave_one_out(residual)

    def innovations(self, residual):
        return self._of_rows(residual).innovations(residual)

    def keep(self, observed):
        kept = self.resolved.keep(observed)
        if kept is None:
            return None
        own = [part.keep(observed) for part in self.parts]
        # With its summands, where these have their structure without the others, too.
        return kept if None in own else Sum(*own)

    def rows_apart(self, observed):
        return self.resolved.rows_apart(observed)

    def conditional(self, missing):
        return self.resolved.conditional(missing)

    def groups(self):
        return self.resolved.groups()

    def time_order(self):
        return self.resolved.time_order()

    def information(self, tangents):
        structure, n = self.resolved.structure, self.size

        def free(*parameters):
            found = self.structure.from_parameters(*parameters, size=n).resolved
            named = zip(structure.parameter_shapes, found.parameters, strict=True)
            return [p for name, p in named if name not in structure.constant_parameters]

        moved = iter(forward_by_definition(free, self.parameters, tangents))
        return self.resolved.information(
            [
                None if name in structure.constant_parameters else next(moved)
                for name in structure.parameter_shapes
            ]
        )
