r"""``CompoundSymmetry`` in each of several independent groups.

Definition: Sigma_ij = own_g [i = j] + common_g where i and j are of one group g, else 0: a random
intercept of each group, integrated out. Storage: two numbers or two a group, and an integer an
observation. Value and gradient: O(n) a row. With k the size of a group, its residual splits into
its mean and what is left, r = mean 1 + d, with b = own + k common,

    quad = sum_g (sum_j d_j^2 / own + k mean^2 / b),    logdet = sum_g ((k - 1) log own + log b),

and the pullback is that of ``CompoundSymmetry``, group by group.

Sources: Searle, Casella and McCulloch (1992), Variance Components, section 3.3 (unbalanced data of
one classification).
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant, equal_computations

from pm_gaussgrad.cov.matrices.diagonal import ScalarDiagonal
from pm_gaussgrad.cov.protocol.base import Covariance, length
from pm_gaussgrad.cov.protocol.information import half_gram
from pm_gaussgrad.cov.protocol.labels import as_groups, check_length, of_each, some_of_each
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.scales import product
from pm_gaussgrad.cov.protocol.sums import closes, common_size, mends
from pm_gaussgrad.kernels import symmetry_by_group as kernels
from pm_gaussgrad.ops import transform_rows
from pm_gaussgrad.ops.stacking import of_groups

NAME = "gg.cov.CompoundSymmetry"


class GroupedSymmetry(Leaf):
    r"""``CompoundSymmetry`` in independent groups; made by its ``group=``.

    Parameters
    ----------
    own, common : tensor, shape (1) or (g), in units of [y]^2
        As of ``CompoundSymmetry.from_components``; common to all groups or of each.
    group : tensor of int, shape (n)
        Constant: the number of each observation's group.
    count : tensor of int, shape (g)
        Constant: how many observations each group has.
    """

    how = "closed form in each group, n"
    label = NAME
    parameter_shapes = {"own": "a", "common": "b", "group": "n", "count": "g"}
    constant_parameters = frozenset({"group", "count"})
    saved_shapes = {"quad_within": "m g", "quad_between": "m g"}
    forward = staticmethod(kernels.forward)
    pullback = staticmethod(kernels.pullback)
    row_transforms = {"whiten": "n", "color": "n", "log_scales": "n"}
    whiten_kernel = staticmethod(kernels.whiten)
    color_kernel = staticmethod(kernels.color)
    log_scales_kernel = staticmethod(kernels.log_scales)

    @classmethod
    def of(cls, own, common, group, size=None):
        """From components, () or (..., g), and a user's labels."""
        own, common = (x if x.type.ndim else x[None] for x in (own, common))
        numbers, labels = as_groups(NAME, group, own=own, common=common)
        check_length(NAME, size, numbers)
        return cls.of_numbers(own, common, numbers, len(labels))

    @classmethod
    def of_numbers(cls, own, common, numbers, n_groups):
        """From constant numbers of groups, of which some may be empty."""
        count = np.bincount(numbers, minlength=n_groups)
        return cls.from_parameters(own, common, pt.constant(numbers), pt.constant(count))

    def _of_observations(self, values):
        """Of groups, or common: (..., a) -> (..., n) or (..., 1)."""
        return of_each(values, self.parameters[2])

    def _components(self):
        own, common = self.parameters[:2]
        return self._of_observations(own), self._of_observations(common)

    def diagonal(self):
        own, common = self._components()
        return own + common + pt.zeros_like(self.parameters[2], dtype=own.dtype)

    def to_dense(self):
        own, common = self._components()
        nothing = pt.zeros_like(self.parameters[2], dtype=own.dtype)
        identity = pt.eye(self.size, dtype=own.dtype)
        return self._shared(common, slice(None)) + (own + nothing)[..., None] * identity

    def _shared(self, common, positions):
        group = self.parameters[2]
        return pt.switch(pt.eq(group[positions, None], group), common[..., None, :], 0)

    def rows(self, positions):
        own, common = self._components()
        same = pt.eq(positions[:, None], pt.arange(self.size))
        return self._shared(common, positions) + pt.switch(same, own, 0)

    def times(self, rows):
        own, common = self._components()
        group, count = self.parameters[2:]
        rows = pt.as_tensor_variable(rows) + pt.zeros_like(own + common)
        totals = pt.zeros((*tuple(rows.shape)[:-1], length(count)), dtype=rows.dtype)
        return own * rows + common * totals[..., group].inc(rows)[..., group]

    def innovations(self, residual):
        white = self.whiten(residual)
        scales = transform_rows(self, "log_scales", pt.zeros_like(self.diagonal()))
        return white, scales + pt.zeros_like(white)

    def inverse_diagonal(self):
        own, common = self._components()
        *_, group, count = self.parameters
        k = count[group].astype(own.dtype)
        others = pt.switch(pt.eq(k, 1), 0, (1 - 1 / k) / pt.switch(pt.eq(k, 1), 1, own))
        return others + 1 / (k * (own + k * common))

    def keep(self, observed):
        own, common, group, count = self.parameters
        if not isinstance(group, Constant):
            return None
        return GroupedSymmetry.of_numbers(own, common, group.data[observed], count.type.shape[0])

    def rows_apart(self, observed):
        own, common, group, count = self.parameters
        if not isinstance(group, Constant):
            return None
        (row, entry), m, n_groups = np.nonzero(observed), len(observed), count.type.shape[0]
        own, common = (of_each(x, np.tile(np.arange(n_groups), m)) for x in (own, common))
        numbers = row * n_groups + group.data[entry]
        return GroupedSymmetry.of_numbers(own, common, numbers, m * n_groups)

    def grouped_by(self):
        return GroupedSymmetry if isinstance(self.parameters[2], Constant) else None

    def by_group(self, size):
        """As of ``CompoundSymmetry``."""
        own, common, group, count = self.parameters
        return own, common, group.data, count.type.shape[0]

    @staticmethod
    def side_by_side(blocks, sizes):
        """Several, one after the other."""
        found = [block.by_group(size) for block, size in zip(blocks, sizes, strict=True)]
        *components, numbers, counts = zip(*found, strict=True)
        own, common = (of_groups(x, counts) for x in components)
        starts = np.cumsum(counts) - counts
        numbers = np.concatenate([x + start for x, start in zip(numbers, starts, strict=True)])
        return GroupedSymmetry.of_numbers(own, common, numbers, sum(counts))

    def piece(self, start, stop):
        """Whole groups, the observations from start to stop."""
        own, common, group, _ = self.parameters
        numbers = group.data[start:stop]
        first, last = numbers.min(), numbers.max() + 1
        own, common = (some_of_each(x, first, last) for x in (own, common))
        return GroupedSymmetry.of_numbers(own, common, numbers - first, last - first)

    def groups(self):
        return "group", self.parameters[2]

    def scaled(self, factor):
        own, common, *index = self.parameters
        return GroupedSymmetry.from_parameters(
            product(factor, own), product(factor, common), *index
        )

    def information(self, tangents):
        own, common, _, count = self.parameters
        own_dot, common_dot, *_ = tangents
        k = count.astype(own.dtype)
        nothing = pt.eq(k, 0)
        between = (own_dot + k * common_dot) / pt.switch(nothing, 1, own + k * common)
        within = pt.sqrt(pt.maximum(k - 1, 0)) * (own_dot / own)
        return half_gram(pt.switch(nothing, 0, between), within)

    @staticmethod
    def forward_jax(residual, own, common, group, count):
        from pm_gaussgrad.kernels import symmetry_by_group_jax

        return symmetry_by_group_jax.forward(residual, own, common, group, count)

    @staticmethod
    def pullback_jax(own, common, count, quad_within, quad_between, quad_bar, logdet_bar):
        from pm_gaussgrad.kernels import symmetry_by_group_jax

        return symmetry_by_group_jax.pullback(
            own, common, count, quad_within, quad_between, quad_bar, logdet_bar
        )


@closes(GroupedSymmetry, GroupedSymmetry)
def _sum(left, right):
    common_size(left, right)
    if not equal_computations(list(left.parameters[2:]), list(right.parameters[2:])):
        raise TypeError(
            f"{NAME} + {NAME}: `group` differs, expected the same in both; for the dense sum, at a "
            "cost of n^3, write gg.cov.Dense(a.to_dense() + b.to_dense())."
        )
    added = (a + b for a, b in zip(left.parameters[:2], right.parameters[:2], strict=True))
    return GroupedSymmetry.from_parameters(*added, *left.parameters[2:])


@closes(GroupedSymmetry, ScalarDiagonal)
def _sum_with_noise(groups, noise):
    common_size(groups, noise)
    own, *others = groups.parameters
    return GroupedSymmetry.from_parameters(own + noise.parameters[0][..., None], *others)


# Of one group, beside a variance of each observation's own.
BESIDE_NOISE = (
    "With common = v * rho >= 0 it is gg.cov.LowRank(pt.sqrt(common) * np.ones((n, 1))) + "
    "gg.cov.Diagonal(v - common + variance); with scales of each "
    "gg.cov.Scaled(gg.cov.CompoundSymmetry(1.0, rho), sigma)."
)

mends(
    GroupedSymmetry,
    Covariance,
    "A random intercept beside anything is gg.cov.LowRank(sd * Z), Z[i, g] = 1 where observation i "
    "is of group g.",
)
