r"""``Woodbury``: k factors beside a covariance of any structure.

Definition: Sigma = B + U U', B any structure (the *base*), U (n, k). Storage: that of B, and n k.
It has no kernels of its own for B: with one solve of B for the k columns of U and the residual r,

    H = I + U'B^-1 U = L L',    b = H^-1 U'B^-1 r,    e = r - U b,    V = L^-1 U'
    r' Sigma^-1 r = e'B^-1 e + b'b = min over b of (r - U b)'B^-1 (r - U b) + b'b
    log|Sigma| = log|B| + 2 log|L|,    alpha = B^-1 e.

No difference of large numbers is taken, and one step of refinement of b makes up for having formed
H (corrected seminormal equations). b is a minimiser and is held fixed in the first derivative
(:mod:`pm_gaussgrad.cov.protocol.minimum`): the pullback is that of B for the rows e and V, and

    factor_bar = 2 l_bar B^-1 U H^-1 - 2 sum_i q_bar_i alpha_i b_i'.

Draws: B's, and U times k white numbers more. The square root, for whitening, is that of ``LowRank``
plus the identity behind that of B, S_B: with W = S_B^-1 U, Sigma = S_B (I + W W') S_B'. Innovations
likewise, S_B being the triangular root.

Sources: Woodbury (1950), Inverting modified matrices; Harville (1997), Matrix Algebra from a
Statistician's Perspective, theorems 18.1.1 and 18.2.8; Björck (1987), Stability analysis of
the method of seminormal equations for linear least squares problems; Danskin (1967), The Theory of
Max-Min.
"""

from dataclasses import replace
from functools import reduce

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.matrices.dense import Dense
from pm_gaussgrad.cov.matrices.low_rank import LowRank, LowRankPlusScalar
from pm_gaussgrad.cov.protocol.base import as_parameter, check_size, length
from pm_gaussgrad.cov.protocol.composite import Composite, join_last
from pm_gaussgrad.cov.protocol.marginal import marginal_of
from pm_gaussgrad.cov.protocol.minimum import MinimisedQuadLogdet, sum_to
from pm_gaussgrad.cov.protocol.plan import Plan
from pm_gaussgrad.cov.protocol.products import matmul
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.sums import (
    closed_sum,
    common_size,
    falls_back,
    label_of_sum,
    resolve,
    summands_of,
)
from pm_gaussgrad.ops import cotangent_of_factor, lengths, partition, rows_last, without_factors

NAME = "gg.cov.LowRank beside another covariance"


class WoodburyQuadLogdet(MinimisedQuadLogdet):
    """``(residual (..., n), factor (..., n, k), *parameters) -> quad (...), logdet, alpha``.

    ``structure`` and ``parameters`` are those of the base; ``prior`` is the prior precision of the
    scores, 1, or 0 where they are coefficients with a flat prior.
    """

    __props__ = ("structure", "prior")

    def build_inner_graph(self, residual, factor, *parameters):
        base, rows, half_logdet, _, norms, _, restore = self._taken_out(
            residual, factor, parameters
        )
        both = pt.moveaxis(rows, -2, 0)
        quad, logdet = base.quad_logdet(both)
        k, m = lengths(factor)[-1], lengths(norms)[-1]
        quad = restore(_last(pt.moveaxis(quad, 0, -1), k, m) + norms)
        alpha = pt.moveaxis(_last(pt.moveaxis(base.solve(both), 0, -1), k, m), -1, -2)
        return [quad, logdet + 2 * half_logdet, restore(alpha)]

    def _taken_out(self, residual, factor, parameters):
        """The base, what :func:`without_factors` returns, and the way back to the user's rows."""
        base = self._cov(residual, parameters)
        batch_ndim = max(base.batch_ndim, factor.type.ndim - 2)
        residual, restore = rows_last(residual, batch_ndim)
        both = _side_by_side(factor.mT, residual)
        solved = pt.moveaxis(base.solve(pt.moveaxis(both, -2, 0)), 0, -2)
        return base, *without_factors(residual, factor, solved, self.prior), restore

    def _pull(self, inputs, alpha, quad_bar, logdet_bar):
        residual, factor, *parameters = inputs
        taken_out = self._taken_out(residual, factor, parameters)
        base, rows, _, scores, _, chol, _ = taken_out
        rows_first = pt.moveaxis(rows, -2, 0)
        of_rows = rows_last(quad_bar[..., None], chol.type.ndim - 2)[0][..., 0]
        solved = pt.moveaxis(base.solve(rows_first), 0, -2)
        factor_bar, weights = cotangent_of_factor(solved, scores, chol, of_rows, logdet_bar)
        weights = pt.moveaxis(weights, -1, 0)
        return [
            self._pull_residual(residual, alpha, quad_bar),
            sum_to(factor, factor_bar),
            *self._pull_held(residual, rows_first, weights, logdet_bar, parameters),
        ]

    def connection_pattern(self, node):
        return [[True, False, True], [True] * 3, *self._parameters_connected()]


def _side_by_side(first, second):
    """Rows of one batch: (..., k, n), (..., m, n) -> (..., k + m, n)."""
    if first.type.ndim > 2 or second.type.ndim > 2:
        return join_last([first.mT, second.mT]).mT
    return pt.concatenate([first, second], axis=-2)


def _last(x, k, m):
    """Without the first k entries: (..., k + m) -> (..., m)."""
    if isinstance(k, int):
        return x[..., k:]
    return partition(NAME, x, [k, m])[1]  # JAX takes no slices to lengths that a graph computes


class Woodbury(Composite):
    """``LowRank(factor)`` and a covariance with which it has no closed sum."""

    part_name = "summand"
    same_observations = True
    # The summands that the base came of, where that is known.
    of_base: str | None = None
    prior = 1
    how = "Woodbury's identity: n k^2 for k factors, and twice k + 1 rows of the other summand"

    def __init__(self, base, factors):
        self.parts = (base, factors)
        self.sizes = (base.size, factors.size)

    @classmethod
    def label_of(cls, structures):
        """The names of the summands."""
        return label_of_sum(structures[::-1])

    @property
    def label(self):
        """The name that users know the structure by."""
        return self.label_of(self.parts)

    @property
    def summands(self):
        """What it is the sum of: with more summands the base may be another."""
        base, factors = self.parts
        return *summands_of(base), factors

    @property
    def size(self):
        return common_size(*self.parts)

    @property
    def submatrices_up_to(self):
        return self.parts[0].submatrices_up_to

    @property
    def _base(self):
        return of_size(self.parts[0], self.size)

    @property
    def _factor(self):
        return self.parts[1].parameters[0]

    def _apply(self, residual):
        residual = as_parameter(self.label, "residual", residual, 1)
        check_size(self, "residual", residual)
        factor, base = self._factor, self._base
        excess = [i for i, one in enumerate(factor.type.broadcastable[:-2]) if one]
        if excess == list(range(factor.type.ndim - 2)):
            factor = factor.squeeze(axis=excess)
        op = WoodburyQuadLogdet(structure=base.structure, prior=self.prior)
        return op(residual, factor, *base.parameters)

    def to_dense(self):
        base, factors = self._base, self.parts[1]
        return base.to_dense() + factors.to_dense()

    def quad_logdet(self, residual):
        quad, logdet, _ = self._apply(residual)
        return quad, logdet

    def solve(self, b):
        return self._apply(b)[2]

    def logdet(self):
        no_rows = pt.zeros((0, *[1] * self.batch_ndim, self.size), dtype=self._factor.dtype)
        return self._apply(no_rows)[1]

    def noise_size(self, n):
        return self._base.noise_size(n) + length(self._factor)

    def draw(self, z):
        z, k = pt.as_tensor_variable(z), length(self._factor)
        own, scores = partition(self.label, z, [self._base.noise_size(self.size), k])
        return self._base.draw(own) + self.parts[1].draw(scores)

    def _columns(self):
        """Those of U as rows, beside each of a batch of bases: (k, ..., n)."""
        columns = pt.moveaxis(self._factor, -1, 0)
        absent = max(self._base.batch_ndim - (columns.type.ndim - 2), 0)
        return pt.expand_dims(columns, tuple(range(1, 1 + absent)))

    def _white(self):
        """U U' + I in units of the base: ``LowRank`` plus a diagonal, of W = S_B^-1 U."""
        factor = pt.moveaxis(self._base.whiten(self._columns()), 0, -1)
        return LowRankPlusScalar(factor, pt.ones((), dtype=factor.dtype))

    def color(self, z):
        return self._base.color(self._white().color(z))

    def whiten(self, residual):
        return self._white().whiten(self._base.whiten(residual))

    def diagonal(self):
        return self._base.diagonal() + self.parts[1].diagonal()

    def _inverse_root(self):
        """L^-1 (..., k, k) with L L' = H, and B^-1 U as rows (..., k, n)."""
        base = self._base
        solved = pt.moveaxis(base.solve(self._columns()), 0, -2)  # (..., k, n)
        identity = pt.eye(length(self._factor), dtype=solved.dtype)
        inner = self.prior * identity + matmul(solved, self._factor)
        chol = pt.linalg.cholesky((inner + inner.mT) / 2, lower=True)
        identity = identity + pt.zeros_like(chol)
        return pt.linalg.solve_triangular(chol, identity, lower=True, b_ndim=2), solved

    def inverse_diagonal(self):
        inverse, solved = self._inverse_root()
        return self._base.inverse_diagonal() - (matmul(inverse, solved) ** 2).sum(axis=-2)

    def innovations(self, residual):
        base, order = self._base, self.time_order()
        of_factor, _ = base.innovations(self._columns())
        white, log_scales = base.innovations(residual)
        factor = pt.moveaxis(of_factor, 0, -1)
        if order is not None:
            factor, white = factor[..., order, :], white[..., order]
        among_rest = LowRankPlusScalar(factor, pt.ones((), dtype=factor.dtype))
        white, more = among_rest.innovations(white)
        if order is not None:
            back = np.argsort(order)
            white, more = white[..., back], more[..., back]
        return white, log_scales + more

    def keep(self, observed):
        if not isinstance(self.size, int):
            return None
        return Woodbury(marginal_of(self._base, observed, self.size), self.parts[1].keep(observed))

    def time_order(self):
        return self.parts[0].time_order()

    def rows(self, positions):
        return self._base.rows(positions) + self.parts[1].rows(positions)

    def times(self, rows):
        return self._base.times(rows) + self.parts[1].times(rows)

    def scaled(self, factor):
        return Woodbury(*(part.scaled(factor) for part in self.parts))

    def plan(self):
        base = self._base.plan()
        return Plan(self.label, self.how, (replace(base, label=self.of_base or base.label),))


@falls_back(20, partner="gg.cov.LowRank")
def _factors_and_others(summands):
    """Factors beside what the others come to."""
    factors = [cov for cov in summands if isinstance(cov, LowRank)]
    others = [cov for cov in summands if not isinstance(cov, LowRank)]
    if not (factors and others):
        return None
    base = resolve(others)
    if isinstance(base, Dense) and not isinstance(base.parameters[0], Constant):
        return None  # it is factored at each evaluation, so that factors can be added to it
    found = Woodbury(base, reduce(closed_sum, factors))
    found.of_base = label_of_sum(others)
    return found
