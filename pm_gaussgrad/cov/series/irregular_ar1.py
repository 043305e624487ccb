r"""An ``AR1`` at any times, in independent groups, with noise.

Definition: Sigma_ij = v_g rho_g^|t_i - t_j| + s_i [i = j] where i and j are of one group g, else
s_i [i = j]. It is what ``AR1`` makes of ``time=`` and ``group=``, what an ``AR1`` and independent
noise add up to, and closed under missing observations. Storage: three integers and six numbers an
observation. Value and gradient: O(n) a row, by a filter and its reverse sweep, which are derived in
:mod:`pm_gaussgrad.kernels.first_order`.

Without noise a step of d has the correlation phi = rho^d; 1 - |phi| is -expm1(d log|rho|), with the
logarithm from 1 - |rho| without rounding, and innovations are changes and a correction: both keep
full precision near |rho| = 1. Of a negative correlation there are whole powers only.

Sources: Jones and Boadi-Boateng (1991), Unequally spaced longitudinal data with AR(1) serial
correlation, Biometrics 47, 161-175, section 3; Pinheiro and Bates (2000), Mixed-Effects Models in S
and S-PLUS, section 5.3.1 (the correlation structure corCAR1).
"""

import numpy as np
import pandas as pd
import pytensor.tensor as pt

from pm_gaussgrad.cov.matrices.diagonal import Diagonal, ScalarDiagonal
from pm_gaussgrad.cov.protocol.base import as_parameter, check_size
from pm_gaussgrad.cov.protocol.constants import check_variance, check_within, constant_value
from pm_gaussgrad.cov.protocol.information import gram, half_gram
from pm_gaussgrad.cov.protocol.labels import (
    as_column,
    as_groups,
    as_times,
    check_length,
    check_repeats,
    constant_index,
    in_order,
    of_each,
    some_of_each,
)
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.scales import product
from pm_gaussgrad.cov.protocol.sums import closes, common_size
from pm_gaussgrad.cov.series.both_ways import both_ways, decays, power
from pm_gaussgrad.kernels import first_order as kernels
from pm_gaussgrad.ops import linear_recurrence, transform_rows
from pm_gaussgrad.ops.stacking import of_groups

NAME = "gg.cov.AR1"


class IrregularAR1(Leaf):
    r"""An ``AR1`` at any times, in independent groups, with noise; made by ``AR1`` and by sums.

    Parameters
    ----------
    times : tensor, shape (n)
        Constant.
    variance : tensor, shape (1) or (g), in units of [y]^2
        Of the process, common or of each group.
    correlation : tensor, shape (1) or (g), in units of 1
        At a distance of 1 in time.
    noise : tensor, shape (1) or (n), in units of [y]^2
        Variance of the noise.
    group, order : tensor of int, shape (n)
        Constant: the number of each observation's group; observations by group and time.
    ends : tensor of int, shape (g)
        Constant: where each group ends in ``order``.
    """

    how = "Kalman filter and its reverse sweep, n"
    label = NAME
    parameter_shapes = {
        "times": "n",
        "variance": "a",
        "correlation": "b",
        "noise": "c",
        "group": "n",
        "order": "n",
        "ends": "g",
    }
    constant_parameters = frozenset({"times", "group", "order", "ends"})
    saved_shapes = {"innovation": "m n", "through_mean": "m n", "track": "6 n"}
    forward = staticmethod(kernels.forward)
    pullback = staticmethod(kernels.pullback)
    row_transforms = dict.fromkeys(
        ("whiten", "color", "log_scales", "inverse_diagonal", "states"), "n"
    )
    whiten_kernel = staticmethod(kernels.whiten)
    color_kernel = staticmethod(kernels.color)
    log_scales_kernel = staticmethod(kernels.log_scales)
    inverse_diagonal_kernel = staticmethod(kernels.inverse_diagonal)
    states_kernel = staticmethod(kernels.states)
    # Of the groups, for messages; what is rebuilt from tensors has their numbers.
    _labels = None

    @classmethod
    def at(cls, variance, correlation, time, group, size=None):
        """From what a user passes to ``AR1``: see there."""
        variance = as_parameter(NAME, "variance", variance, 0)
        correlation = as_parameter(NAME, "correlation", correlation, 0)
        check_variance(NAME, "variance", variance)
        check_within(NAME, "correlation", correlation, -1, 1)
        grouped = group is not None
        parameters = [
            x if grouped and x.type.ndim else x[..., None] for x in (variance, correlation)
        ]
        if grouped:
            named = dict(zip(("variance", "correlation"), parameters, strict=True))
            numbers, labels = as_groups(NAME, group, **named)
        else:
            numbers, labels = np.zeros(as_column(NAME, "time", time).shape, "int64"), [0]
        check_length(NAME, size, numbers)
        # Without times observations follow one another in the order of the table.
        times = _places(numbers) if time is None else as_times(NAME, time, numbers, labels)
        made = cls._of(*parameters, times, numbers, len(labels))
        made._labels = labels
        if (made._steps() % 1).any():
            remedy = "; a negative number has powers at whole distances in time only"
            check_within(NAME, "correlation", correlation, 0, 1, remedy)
        return made

    @classmethod
    def _of(cls, variance, correlation, times, numbers, n_groups, noise=None):
        """From constant times and numbers of groups, of which some may be empty."""
        if noise is None:
            noise = pt.zeros(1, dtype=variance.dtype)
        index = numbers, *in_order(times, numbers, n_groups)
        times, *index = map(pt.constant, (times, *index))
        return cls.from_parameters(times, variance, correlation, noise, *index)

    @classmethod
    def of_rows(cls, variance, correlation, row, times, n_rows, noise=None):
        """Independent rows of one series of scalars, at constant times of each row."""
        series = variance[..., None], correlation[..., None]
        return cls._of(*series, times.astype("float64"), row, n_rows, noise)

    @classmethod
    def regular(cls, variance, correlation, times, noise=None):
        """A single series at constant times, of scalars, and noise (..., 1) or (..., n)."""
        row = np.zeros(len(times), "int64")
        return cls.of_rows(variance, correlation, row, times, 1, noise)

    def check_constants(self, n=None):
        index, noise = self._index(), constant_value(self.parameters[3])
        if index is not None and noise is not None:
            check_repeats(NAME, self._labels, *index, noise + np.zeros(index[0].size))
        super().check_constants(n)

    def _index(self):
        """Times, groups and order as arrays; None where they are symbolic or a batch."""
        times, *_, group, order, _ = self.parameters
        return constant_index(times, group, order)

    def _steps(self):
        """Constant distances in time between neighbours of a group, in order; 0 between groups."""
        times, group, order = self._index()
        return np.where(np.diff(group[order]) == 0, np.diff(times[order]), 0)

    def _of_observations(self, values):
        """Parameters of groups, or common ones, (..., a) -> (..., n) or (..., 1)."""
        return of_each(values, self.parameters[4])

    def _series(self):
        """v and rho with a last dimension of n or one, and noise likewise."""
        _, variance, correlation, noise, *_ = self.parameters
        own = self._of_observations
        return own(variance), own(correlation), noise

    def diagonal(self):
        variance, _, noise = self._series()
        return variance + noise + pt.zeros_like(self.parameters[0])

    def to_dense(self):
        variance, correlation, noise = self._series()
        process = self._process(variance, correlation, slice(None))
        return process + (noise + pt.zeros_like(self.diagonal()))[..., None] * pt.eye(
            self.size, dtype=process.dtype
        )

    def _process(self, variance, correlation, positions):
        """Covariances of the process at some positions with those at all: (..., c, n)."""
        times, *_, group, _, _ = self.parameters
        lag = pt.abs(times[..., positions, None] - times[..., None, :])
        same = pt.eq(group[positions, None], group)
        # Distances between groups are no whole numbers of steps.
        lag = pt.switch(same, lag, 0)
        return pt.switch(same, variance[..., None, :] * power(correlation[..., None, :], lag), 0)

    def rows(self, positions):
        variance, correlation, noise = self._series()
        process = self._process(variance, correlation, positions)
        own = pt.eq(positions[:, None], pt.arange(self.size))
        return process + pt.switch(own, noise, 0)

    def times(self, rows):
        variance, correlation, noise = self._series()
        times, *_, group, order, _ = self.parameters
        decay, rows = decays(times, correlation, group, order), pt.as_tensor_variable(rows)
        process = both_ways(decay, rows[..., order])[..., pt.argsort(order)]
        return variance * process + noise * rows

    def inverse_diagonal(self):
        return transform_rows(self, "inverse_diagonal", pt.zeros_like(self.diagonal()))

    def innovations(self, residual):
        white = self.whiten(residual)
        scales = transform_rows(self, "log_scales", pt.zeros_like(self.diagonal()))
        return white, scales + pt.zeros_like(white)

    def keep(self, observed):
        index = self._index()
        if index is None:
            return None
        (times, group, _), (_, variance, correlation, noise, *_) = index, self.parameters
        noise = of_each(noise, observed)
        n_groups = self.parameters[-1].type.shape[0]
        kept = self._of(variance, correlation, times[observed], group[observed], n_groups, noise)
        kept._labels = self._labels
        return kept

    def rows_apart(self, observed):
        index = self._index()
        if index is None:
            return None
        (times, group, _), (m, (row, entry)) = index, (len(observed), np.nonzero(observed))
        n_groups = self.parameters[-1].type.shape[0]
        _, *of_groups, noise = self.parameters[:4]
        of_groups = [of_each(x, np.tile(np.arange(n_groups), m)) for x in of_groups]
        noise = of_each(noise, entry)
        numbers = row * n_groups + group[entry]
        return self._of(*of_groups, times[entry], numbers, m * n_groups, noise)

    def grouped_by(self):
        return None if self._index() is None else IrregularAR1

    def by_group(self, size):
        """Variance, correlation, noise, times, numbers of groups, and how many there are."""
        times, group, _ = self._index()
        return *self.parameters[1:4], times, group, self.parameters[-1].type.shape[0]

    @staticmethod
    def side_by_side(blocks, sizes):
        """Several, one after the other."""
        found = [block.by_group(size) for block, size in zip(blocks, sizes, strict=True)]
        variance, correlation, noise, times, numbers, counts = zip(*found, strict=True)
        variance, correlation = (of_groups(x, counts) for x in (variance, correlation))
        starts = np.cumsum(counts) - counts
        numbers = np.concatenate([x + start for x, start in zip(numbers, starts, strict=True)])
        series = variance, correlation, np.concatenate(times), numbers, sum(counts)
        if all(x is None for x in noise):
            return IrregularAR1._of(*series)
        none = pt.zeros((), dtype=variance.dtype)
        noise = of_groups([none if x is None else x for x in noise], sizes)
        return IrregularAR1._of(*series, noise)

    def piece(self, start, stop):
        """Whole groups, the observations from start to stop."""
        _, variance, correlation, noise, *_ = self.parameters
        times, group, _ = self._index()
        numbers = group[start:stop]
        first, last = numbers.min(), numbers.max() + 1
        series = (some_of_each(x, first, last) for x in (variance, correlation))
        index = times[start:stop], numbers - first, last - first
        return self._of(*series, *index, some_of_each(noise, start, stop))

    def groups(self):
        return "group", self.parameters[4]

    def time_order(self):
        # Over all groups: what is independent of the past may come before it.
        index = self._index()
        return None if index is None else np.argsort(index[0], kind="stable")

    def scaled(self, factor):
        _, variance, correlation, noise, *_ = self.parameters
        return self._with(product(factor, variance), correlation, product(factor, noise))

    def _with(self, variance, correlation, noise):
        times, *_, group, order, ends = self.parameters
        made = IrregularAR1.from_parameters(times, variance, correlation, noise, group, order, ends)
        made._labels = self._labels
        return made

    def information(self, tangents):
        _, variance, _, _, group, order, _ = self.parameters
        _, variance_dot, correlation_dot, noise_dot, *_ = tangents
        of_groups = (of_each(x, group[order]) for x in (variance, variance_dot, correlation_dot))
        return filter_information(self, *of_groups, of_each(noise_dot, order))

    @staticmethod
    def forward_jax(residual, times, variance, correlation, noise, group, order, ends):
        from pm_gaussgrad.kernels import first_order_jax

        return first_order_jax.forward(
            residual, times, variance, correlation, noise, group, order, ends
        )

    @staticmethod
    def pullback_jax(
        residual,
        variance,
        correlation,
        noise,
        group,
        order,
        innovation,
        through_mean,
        track,
        quad_bar,
        logdet_bar,
    ):
        from pm_gaussgrad.kernels import first_order_jax

        return first_order_jax.pullback(
            residual,
            variance,
            correlation,
            noise,
            group,
            order,
            innovation,
            through_mean,
            track,
            quad_bar,
            logdet_bar,
        )


def filter_information(cov, variance, variance_dot, correlation_dot, noise_dot):
    """Information of what an observation tells beyond those before it, O(n p^2).

    With the letters of :mod:`pm_gaussgrad.kernels.first_order`, c_a = E m d_a m and V = v - P the
    variance of m, derivatives obey

        dP_t = J^2 phi^2 dP_(t-1) + J^2 ((1 - phi^2) dv + 2 phi (P - v) dphi) + (1 - J)^2 ds,
        c_t  = J phi^2 c_(t-1) + J phi V dphi - (1 - J) d dJ,

    P, V and c on the right those at t - 1, and the information is the sum over t of
    1/2 w^2 dd dd' + (w + N J^2) (phi (dphi c' + c dphi') + V dphi dphi') + N d dJ dJ'.
    Parameters and directions, (..., n) or (..., 1), are by group and time.
    """
    nothing = pt.zeros_like(cov.diagonal())
    phi, rate, kept, weight, before, later = (
        transform_rows(cov, "states", pt.stack([nothing] * 6))[i] for i in range(6)
    )
    v_dot, s_dot = variance_dot + nothing, noise_dot + nothing
    phi_dot, explained = correlation_dot * rate, variance - before
    own = (1 - phi**2) * v_dot - 2 * phi * explained * phi_dot
    shrunk = kept**2 * phi**2 + pt.zeros_like(own)
    moved = linear_recurrence(shrunk, kept**2 * own + (1 - kept) ** 2 * s_dot)
    total_dot = own + phi**2 * _before(moved) + s_dot
    kept_dot = (s_dot - kept * total_dot) * weight
    common = linear_recurrence(
        kept * phi**2 + pt.zeros_like(own),
        kept * phi * explained * phi_dot - (1 - kept) / weight * kept_dot,
    )
    pull = weight + later * kept**2
    crossed = gram(pull * phi * phi_dot, _before(common))
    root = pt.sqrt(later / weight) * kept_dot
    through_phi = crossed + crossed.T + gram(pull * explained * phi_dot, phi_dot)
    return half_gram(weight * total_dot) + through_phi + gram(root, root)


def _before(x):
    """Of each observation what belongs to the one before; of the first zero."""
    return pt.concatenate([pt.zeros_like(x[:, :1]), x[:, :-1]], axis=1)


def _places(numbers):
    """Where each observation is among those of its group: 0, 1, ..."""
    return pd.Series(numbers).groupby(numbers).cumcount().to_numpy("float64")


@closes(IrregularAR1, ScalarDiagonal)
def _sum_with_scalar(series, noise):
    common_size(series, noise)
    _, variance, correlation, own, *_ = series.parameters
    return series._with(variance, correlation, own + noise.parameters[0][..., None])


@closes(IrregularAR1, Diagonal)
def _sum_with_noise(series, noise):
    check_size(series, "variance", noise.parameters[0])
    _, variance, correlation, own, *_ = series.parameters
    return series._with(variance, correlation, own + noise.parameters[0])
