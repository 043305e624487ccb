r"""``StateSpace``: processes in time with a state of finite size, their sums, groups and noise.

Definition: Sigma_ij = sum_k cov_k(t_i, t_j) + s_i [i = j] where i and j are of one group g, else
s_i [i = j]. The covariances are those of :mod:`pm_gaussgrad.kernels.state_space.processes`, written
down again in ``covariances.py``. Storage: four integers and J (J + 5) / 2 numbers and the
transitions an observation, J states. Value and gradient: O(J^2) an observation and row, J^3 in all,
by a filter and its reverse sweep, :mod:`pm_gaussgrad.kernels.state_space.filter`.

What is missing is left out. Sums of such structures at the same times are one, with the states of
both.

Sources: as of :mod:`pm_gaussgrad.kernels.state_space.filter`.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import equal_computations

from pm_gaussgrad.cov.matrices.diagonal import Diagonal, ScalarDiagonal
from pm_gaussgrad.cov.protocol.base import check_size
from pm_gaussgrad.cov.protocol.constants import constant_value
from pm_gaussgrad.cov.protocol.information import count_directions
from pm_gaussgrad.cov.protocol.labels import check_repeats, constant_index, in_order, of_each
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.scales import product
from pm_gaussgrad.cov.protocol.sums import closes, common_size
from pm_gaussgrad.cov.series.covariances import covariance
from pm_gaussgrad.cov.series.missing_times import MissingTimes
from pm_gaussgrad.kernels.state_space import filter as kernels
from pm_gaussgrad.kernels.state_space import pair, reverse, smoother
from pm_gaussgrad.kernels.state_space.information import information
from pm_gaussgrad.kernels.state_space.processes import (
    DRIVEN,
    WIENER,
    amplitudes,
    blocks_of,
    digits_of,
    n_values,
)
from pm_gaussgrad.ops import information_by_kernel, transform_rows
from pm_gaussgrad.ops.form import Form


class StateSpace(Leaf):
    """A sum of processes in time with states, in independent groups, with noise.

    Parameters
    ----------
    times : tensor, shape (n)
        Constant.
    origin : tensor, shape ()
        Constant: when Wiener processes are zero.
    values : tensor, shape (1, r) or (g, r)
        Parameters of one process after another, common or of each group.
    noise : tensor, shape (1) or (n), in units of [y]^2
        Variance of the noise.
    blocks : tensor of int, shape (k, 2)
        Constant: kind and number of states of each process.
    entry, lower : tensor of int, shape (entries, 2) and (steered, 2)
        Constant: rows and columns of what is kept of transitions, by processes, and of the lower
        triangle of the variance that is added in a step.
    seen : tensor of int, shape (states)
        Constant: one at the first state of each process.
    group, order : tensor of int, shape (n)
        Constant: the number of each observation's group; observations by group and time.
    ends : tensor of int, shape (g)
        Constant: where each group ends in ``order``.
    """

    how = "Kalman filter and its reverse sweep, n J^2 of J states"
    summand = "processes like gg.cov.SHO"
    parameter_shapes = {
        "times": "n",
        "origin": "",
        "values": "c r",
        "noise": "s",
        "blocks": "k 2",
        "entry": "entries 2",
        "lower": "steered 2",
        "seen": "states",
        "group": "n",
        "order": "n",
        "ends": "g",
    }
    constant_parameters = frozenset(
        {"times", "origin", "blocks", "entry", "lower", "seen", "group", "order", "ends"}
    )
    # Numbers of states, of entries of a transition, of what is saved of the variances, of entries
    # of the variance that is added in a step; and blocks as digits of one number, which formulas
    # have to know: kernels have them as an array, and are the same for all.
    facts = ("states", "entries", "width", "steered", "digits")
    saved_shapes = {"means": "m n states", "phi": "n entries", "track": "n width"}
    forward = staticmethod(kernels.forward)
    pullback = staticmethod(reverse.pullback)
    row_transforms = dict.fromkeys(
        ("whiten", "color", "log_scales", "inverse_diagonal", "smoothed_variances", "products"), "n"
    )
    whiten_kernel = staticmethod(smoother.whiten)
    color_kernel = staticmethod(smoother.color)
    log_scales_kernel = staticmethod(smoother.log_scales)
    inverse_diagonal_kernel = staticmethod(smoother.inverse_diagonal)
    smoothed_variances_kernel = staticmethod(smoother.smoothed_variances)
    products_kernel = staticmethod(smoother.products)
    information_kernel = staticmethod(information)
    # Of the groups, for messages; what is rebuilt from tensors has their numbers.
    _labels = None

    @staticmethod
    def forward_jax(residual, times, origin, values, noise, entry, group, order, digits):
        from pm_gaussgrad.kernels.state_space import filter_jax

        index = entry, group, order, digits
        return filter_jax.forward(residual, times, origin, values, noise, *index)

    @staticmethod
    def pullback_jax(
        residual, times, origin, values, noise, group, order, quad_bar, logdet_bar, digits
    ):
        from pm_gaussgrad.kernels.state_space import filter_jax

        index = group, order, quad_bar, logdet_bar, digits
        return filter_jax.pullback(residual, times, origin, values, noise, *index)

    @classmethod
    def of_processes(cls, processes, times, origin, noise, group, order, ends):
        """From processes, (kind, states, parameters (..., c) each), and tensors."""
        made = object.__new__(StateSpace)
        made._set(processes, times, origin, noise, group, order, ends)
        return made

    def _set(self, processes, times, origin, noise, group, order, ends):
        blocks = np.array([(kind, size) for kind, size, _ in processes], dtype="int64")
        entry, lower, seen = _places(blocks)
        self.digits = digits_of(blocks.tolist())
        self.states, self.entries, self.steered = len(seen), len(entry), len(lower)
        self.width = kernels.width(self.states)
        values = _in_rows([x for *_, values in processes for x in values])
        tensors = map(pt.constant, (blocks, entry, lower, seen))
        self.parameters = (times, origin, values, noise, *tensors, group, order, ends)
        self._processes = processes

    @property
    def dtype(self):
        return self.parameters[2].dtype

    @property
    def structure(self):
        alone = self.states == 2 and self.entries == 4
        kind = TwoStates if alone else StateSpace
        return Form(kind, tuple((name, getattr(self, name)) for name in self.facts))

    def processes(self):
        """Kind, number of states and parameters, (..., c) each, of each process."""
        if (made := vars(self).get("_processes")) is not None:
            return made
        values, found, first = self.parameters[2], [], 0
        for kind, size in blocks_of(self.digits):
            stop = first + n_values(kind, size)
            found.append((kind, size, [values[..., i] for i in range(first, stop)]))
            first = stop
        return found

    def _walks(self):
        return any(kind == WIENER for kind, *_ in self.processes())

    def _own(self, positions=slice(None)):
        """Parameters of processes and times since the origin, of observations at positions."""
        times, origin, *_, group, _, _ = self.parameters
        index = group[positions]
        of_processes = [
            (kind, size, [of_each(x, index) for x in values])
            for kind, size, values in self.processes()
        ]
        since = (times - origin[..., None]).astype(self.dtype)
        return of_processes, since[..., positions], index

    def diagonal(self):
        of_processes, times, _ = self._own()
        noise = self.parameters[3]
        return sum(covariance(*process, times, times) for process in of_processes) + noise

    def to_dense(self):
        dense = self._process(slice(None))
        noise = self.parameters[3] + pt.zeros_like(dense[..., 0])
        return dense + noise[..., None] * pt.eye(self.size, dtype=dense.dtype)

    def _process(self, positions):
        """Covariances of the processes at some positions with those at all: (..., c, n)."""
        of_processes, some, own = self._own(positions)
        _, every, group = self._own()
        same = pt.eq(own[:, None], group)
        columns = [(kind, size, [x[..., None] for x in xs]) for kind, size, xs in of_processes]
        # Distances between groups may be of any sign from their origins.
        second = pt.switch(same, every[..., None, :], some[..., :, None])
        return pt.switch(
            same, sum(covariance(*process, some[..., :, None], second) for process in columns), 0
        )

    def rows(self, positions):
        own = pt.eq(positions[:, None], pt.arange(self.size))
        return self._process(positions) + pt.switch(own, self.parameters[3], 0)

    def autocovariances(self):
        index, noise = self._index(), self.parameters[3]
        if index is None or self._walks() or noise.type.shape[-1] != 1:
            return None
        times, group, _ = index
        steps, rounding = np.diff(times), 4 * np.spacing(np.abs(times).max())
        if group.any() or (steps <= 0).any() or (steps.size and np.ptp(steps) > rounding):
            return None
        of_processes, since, _ = self._own()
        processes = (covariance(*process, since, since[..., :1]) for process in of_processes)
        return sum(processes) + pt.switch(pt.eq(pt.arange(self.size), 0), noise, 0)

    def times(self, rows):
        return transform_rows(self, "products", rows)

    def inverse_diagonal(self):
        return transform_rows(self, "inverse_diagonal", pt.zeros_like(self.diagonal()))

    def innovations(self, residual):
        white = self.whiten(residual)
        scales = transform_rows(self, "log_scales", pt.zeros_like(self.diagonal()))
        return white, scales + pt.zeros_like(white)

    def information(self, tangents):
        values, noise = tangents[2], tangents[3]
        flat = values.reshape((count_directions(values), -1))
        return information_by_kernel(self, pt.concatenate([flat, noise], axis=1))

    def _index(self):
        """Times, groups and order as arrays; None where they are symbolic or a batch."""
        times, *_, group, order, _ = self.parameters
        return constant_index(times, group, order)

    def _at(self, times, numbers, n_groups, noise, processes=None):
        """The same processes at constant times of numbered groups."""
        index = times, numbers, *in_order(times, numbers, n_groups)
        times, *index = map(pt.constant, index)
        processes = self.processes() if processes is None else processes
        made = self.of_processes(processes, times, self.parameters[1], noise, *index)
        made._labels = self._labels
        return made

    def keep(self, observed):
        index = self._index()
        if index is None:
            return None
        times, group, _ = index
        noise, n_groups = of_each(self.parameters[3], observed), self.parameters[-1].type.shape[0]
        return self._at(times[observed], group[observed], n_groups, noise)

    def rows_apart(self, observed):
        index = self._index()
        if index is None:
            return None
        (times, group, _), (m, (row, entry)) = index, (len(observed), np.nonzero(observed))
        n_groups = self.parameters[-1].type.shape[0]
        again = np.tile(np.arange(n_groups), m)
        processes = [
            (kind, size, [of_each(x, again) for x in values])
            for kind, size, values in self.processes()
        ]
        noise, numbers = of_each(self.parameters[3], entry), row * n_groups + group[entry]
        return self._at(times[entry], numbers, m * n_groups, noise, processes)

    def conditional(self, missing):
        index = self._index()
        return None if index is None else MissingTimes(self, np.asarray(missing))

    def groups(self):
        return "group", self.parameters[-3]

    def time_order(self):
        # Over all groups: what is independent of the past may come before it.
        index = self._index()
        return None if index is None else np.argsort(index[0], kind="stable")

    def draw_semidefinite(self, z):
        # Entries near in time are equal up to rounding, and zero where a process begins.
        variances = self.diagonal()
        least = 1024 * np.finfo(self.dtype).eps * pt.switch(pt.gt(variances, 0), variances, 1)
        return self.with_noise(self.parameters[3] + least.astype(self.dtype)).draw(z)

    def scaled(self, factor):
        _, _, _, noise, *_ = self.parameters
        factor = pt.as_tensor_variable(factor)[..., None]
        processes = [
            (
                kind,
                size,
                [
                    product(factor, x) if i in amplitudes(kind, size) else x
                    for i, x in enumerate(xs)
                ],
            )
            for kind, size, xs in self.processes()
        ]
        return self.with_processes(processes, product(factor, noise))

    def with_noise(self, noise):
        """The same processes, with noise of these variances."""
        return self.with_processes(self.processes(), noise)

    def with_processes(self, processes, noise):
        """Others at the same times, in the same groups, with noise of these variances."""
        times, origin, *_ = self.parameters
        index = self.parameters[-3:]
        made = self.of_processes(processes, times, origin, noise, *index)
        made._labels = self._labels
        return made

    def check_constants(self, n=None):
        index, noise = self._index(), constant_value(self.parameters[3])
        if index is not None and noise is not None:
            check_repeats(self.label, self._labels, *index, noise + np.zeros(index[0].size))
            self._check_origin(index[0], noise)
        super().check_constants(n)

    def _check_origin(self, times, noise):
        """Raise a ValueError where all that is observed without noise is a zero."""
        if not all(kind == WIENER for kind, *_ in self.processes()):
            return
        origin = constant_value(self.parameters[1])
        if ((times == origin) & (noise == 0)).any():
            raise ValueError(
                f"{self.label}: an observation without noise at the origin, {origin:g}, expected "
                "later ones, as the process is zero there; leave it out, pass an earlier origin=, "
                "or add independent noise, + gg.cov.Diagonal(variance)."
            )


class TwoStates(StateSpace):
    """One process of two states, by kernels of its own."""

    saved_shapes = {"means": "m n 2", "track": "n 8"}
    forward = staticmethod(pair.forward)
    pullback = staticmethod(pair.pullback)


def _places(blocks):
    """Rows and columns of entries of transitions and of variances that are added, and h."""
    sizes = blocks[:, 1]
    starts = np.cumsum(sizes) - sizes
    entry = [
        (lo + i, lo + j) for lo, n in zip(starts, sizes, strict=True) for i, j in np.ndindex(n, n)
    ]
    # Of stationary processes nothing is added.
    driven = [(lo, n) for lo, (kind, n) in zip(starts, blocks, strict=True) if kind in DRIVEN]
    lower = [(lo + i, lo + j) for lo, n in driven for i, j in np.ndindex(n, n) if j <= i]
    seen = np.zeros(sizes.sum(), dtype="int64")
    seen[starts] = 1
    return (*(np.array(x, dtype="int64").reshape(-1, 2) for x in (entry, lower)), seen)


def _in_rows(parameters):
    """Of each process and parameter, (..., c): all side by side, (..., c, r)."""
    if all(x.type.shape == (1,) for x in parameters):
        return pt.stack([x[0] for x in parameters])[None]
    return pt.stack(pt.broadcast_arrays(*parameters), axis=-1)


@closes(StateSpace, StateSpace)
def _sum_of_processes(left, right):
    if not at_the_same_times(left, right):
        raise TypeError(
            f"{left.label} + {right.label}: `time`, `group` or the origins of Wiener processes "
            "differ, expected the same in both; for the dense sum, at a cost of n^3, write "
            "gg.cov.Dense((a + b).to_dense())."
        )
    processes = [*left.processes(), *right.processes()]
    walking = right if right._walks() else left
    return walking.with_processes(processes, left.parameters[3] + right.parameters[3])


def at_the_same_times(left, right):
    """Whether two structures are of the same times, in the same groups and from one origin."""
    # Where a process has no beginning, its origin says nothing.
    start = 1 if left._walks() and right._walks() else 2
    here, there = (
        x.parameters[:1] + x.parameters[start:2] + x.parameters[-3:] for x in (left, right)
    )
    return equal_computations(list(here), list(there))


@closes(StateSpace, ScalarDiagonal)
def _sum_with_scalar(process, noise):
    common_size(process, noise)
    own = process.parameters[3] + noise.parameters[0][..., None]
    return process.with_noise(own)


@closes(StateSpace, Diagonal)
def _sum_with_noise(process, noise):
    check_size(process, "variance", noise.parameters[0])
    return process.with_noise(process.parameters[3] + noise.parameters[0])
