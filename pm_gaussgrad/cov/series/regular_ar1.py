r"""``AR1`` at equal steps in independent groups, one after the other: its closed form for each.

Definition: Sigma_ij = v_g rho_g^|i - j| where i and j are of one group g, else 0. It is what many
``AR1`` of different lengths are in a ``BlockDiagonal``. Storage: four integers an observation, two
numbers or two a group. Value and gradient: O(n) a row, by the formulas of
:mod:`pm_gaussgrad.cov.series.ar1`; what else there is of it is that of ``IrregularAR1``, whose
filter takes several times as long.

Sources: as of :mod:`pm_gaussgrad.cov.series.ar1`.
"""

import pytensor.tensor as pt

from pm_gaussgrad.cov.matrices.diagonal import Diagonal
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.scales import product
from pm_gaussgrad.cov.protocol.sums import closes
from pm_gaussgrad.cov.series.irregular_ar1 import IrregularAR1
from pm_gaussgrad.kernels import regular_series as kernels


class RegularAR1(Leaf):
    """``AR1`` in independent groups that follow one another; made by ``BlockDiagonal``.

    Parameters are those of ``IrregularAR1`` without the noise, with the order of the table.
    """

    how = "closed form in each group, n"
    label = "gg.cov.AR1"
    parameter_shapes = {
        "times": "n",
        "variance": "a",
        "correlation": "b",
        "group": "n",
        "order": "n",
        "ends": "g",
    }
    constant_parameters = frozenset({"times", "group", "order", "ends"})
    saved_shapes = {"norm": "m g", "slope": "m g"}
    forward = staticmethod(kernels.forward)
    pullback = staticmethod(kernels.pullback)

    @staticmethod
    def side_by_side(blocks, sizes):
        """Several, one after the other."""
        return RegularAR1._without_noise(IrregularAR1.side_by_side(blocks, sizes))

    @staticmethod
    def _without_noise(series):
        times, variance, correlation, _, *index = series.parameters
        return RegularAR1.from_parameters(times, variance, correlation, *index)

    def _irregular(self):
        times, variance, correlation, *index = self.parameters
        noise = pt.zeros(1, dtype=variance.dtype)
        return IrregularAR1.from_parameters(times, variance, correlation, noise, *index)

    def grouped_by(self):
        return None if self._irregular().grouped_by() is None else RegularAR1

    def by_group(self, size):
        """As of ``IrregularAR1``; noise is None where there is none."""
        variance, correlation, _, *index = self._irregular().by_group(size)
        return variance, correlation, None, *index

    def piece(self, start, stop):
        """Whole groups, the observations from start to stop."""
        return self._without_noise(self._irregular().piece(start, stop))

    def to_dense(self):
        return self._irregular().to_dense()

    def color(self, z):
        return self._irregular().color(z)

    def whiten(self, residual):
        return self._irregular().whiten(residual)

    def diagonal(self):
        return self._irregular().diagonal()

    def inverse_diagonal(self):
        return self._irregular().inverse_diagonal()

    def innovations(self, residual):
        return self._irregular().innovations(residual)

    def keep(self, observed):
        return self._irregular().keep(observed)

    def rows_apart(self, observed):
        return self._irregular().rows_apart(observed)

    def groups(self):
        return self._irregular().groups()

    def time_order(self):
        return self._irregular().time_order()

    def rows(self, positions):
        return self._irregular().rows(positions)

    def times(self, rows):
        return self._irregular().times(rows)

    def information(self, tangents):
        times, variance, correlation, *index = tangents
        of_noise = pt.zeros_like(variance[:, :1])
        return self._irregular().information([times, variance, correlation, of_noise, *index])

    def scaled(self, factor):
        times, variance, *others = self.parameters
        return RegularAR1.from_parameters(times, product(factor, variance), *others)

    @staticmethod
    def forward_jax(residual, variance, correlation, group, ends):
        from pm_gaussgrad.kernels import regular_series_jax

        return regular_series_jax.forward(residual, variance, correlation, group, ends)

    @staticmethod
    def pullback_jax(variance, correlation, group, ends, norm, slope, quad_bar, logdet_bar):
        from pm_gaussgrad.kernels import regular_series_jax

        return regular_series_jax.pullback(
            variance, correlation, group, ends, norm, slope, quad_bar, logdet_bar
        )


@closes(RegularAR1, Diagonal)
def _sum_with_noise(series, noise):
    return series._irregular() + noise
