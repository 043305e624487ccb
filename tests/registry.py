"""One row a structure: how to build it, and numbers for its parameters."""

from collections.abc import Callable
from dataclasses import dataclass, field

import guide
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import Mode

import pm_gaussgrad as gg
from pm_gaussgrad.cov.graphs.sparse_latents import CentredLatents, SparseLatents
from pm_gaussgrad.cov.graphs.sparse_marginal import SparseMarginal
from pm_gaussgrad.cov.graphs.sparse_matrix import SparseCovariance
from pm_gaussgrad.cov.groups.grouped_symmetry import GroupedSymmetry
from pm_gaussgrad.cov.protocol.constants import constant_value
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.marginal import Marginal
from pm_gaussgrad.cov.series.irregular_ar1 import IrregularAR1
from pm_gaussgrad.cov.series.regular_ar1 import RegularAR1
from pm_gaussgrad.cov.series.spaced_ar1 import SpacedAR1
from pm_gaussgrad.cov.series.state_space import StateSpace
from pm_gaussgrad.kernels.state_space.processes import EXPONENTIAL, OSCILLATOR, WAVE, digits_of
from pm_gaussgrad.ops.form import Form

# Python functions, with nothing to compile but kernels: where a backend is not the subject. Not
# fused: PyTensor's Python form of a fused 1 / x has single precision.
INTERPRETED = Mode(linker="py", optimizer="fast_run").excluding("fusion")
# Without rewrites: for twins, and where a graph is evaluated once.
AS_WRITTEN = Mode(linker="py", optimizer=None)
# The C linker calls what the Python linker calls, but compiles PyTensor's own Ops (test_op.py).
BACKENDS = {
    "numba": Mode(linker="numba", optimizer="fast_run"),
    "py": INTERPRETED,
    "jax": pytensor.compile.mode.get_mode("JAX"),
}


def interpreted(inputs, outputs, mode=INTERPRETED, **kwargs):
    """A function of a graph in which at most kernels are compiled."""
    return pytensor.function(inputs, outputs, mode=mode, **kwargs)


def is_index(x):
    """Whether an array or tensor is index data, which has neither batches nor a gradient."""
    return np.dtype(x.dtype).kind == "i"


def positive_definite(rng, n):
    factor = rng.normal(size=(n, n))
    return factor @ factor.T / max(n, 1) + np.eye(n)


def symmetric_part(matrix):
    return (matrix + np.swapaxes(matrix, -1, -2)) / 2


def repeated_measures(rng, n):
    """Three visits; subjects of the same and of different visits, in no order."""
    subject = 2 * np.arange(n) % 3
    visit = (subject % 2 + 2 * (np.arange(n) // 3)) % 3
    cov = gg.cov.RepeatedMeasures(positive_definite(rng, 3), subject, visit)
    return [p.data for p in cov.parameters]


# Of an exponential process, a damped oscillator and a wave: kinds and numbers of states, rows and
# columns of the entries of transitions and of the variance that is added, and what is seen.
STATES = (
    np.array([(EXPONENTIAL, 1), (OSCILLATOR, 2), (WAVE, 2)]),
    np.array([(0, 0), *((i, j) for lo in (1, 3) for i in (lo, lo + 1) for j in (lo, lo + 1))]),
    np.array([(0, 0)]),
    np.array([1, 1, 0, 1, 0]),
)


def series_by_group(rng, n):
    """Two series at irregular times, each in order of time; only the second where n = 1."""
    group = np.arange(n, 0, -1) % 2
    times = rng.uniform(0.3, 2.0, n).cumsum()
    order = np.lexsort((times, group))
    noise = rng.uniform(0.2, 1.0, n)
    ends = np.bincount(group, minlength=2).cumsum()
    return [times, rng.uniform(0.5, 2.0, 2), rng.uniform(0.2, 0.7, 2), noise, group, order, ends]


def processes_by_group(rng, n):
    """Two series of an exponential process, a damped oscillator and a wave, with noise of each."""
    times, *_, noise, group, order, ends = series_by_group(rng, n)
    ranges = [
        (0.5, 1),
        (0.5, 2),
        (0.5, 1),
        (1, 3),
        (0.2, 2),
        (0.5, 1),
        (-0.1, 0.1),
        (0.2, 0.5),
        (1, 3),
    ]
    values = rng.uniform(*np.transpose(ranges), size=(2, len(ranges)))
    return [times, np.asarray(0.0), values, noise, *STATES, group, order, ends]


def state_space(*parameters):
    """Of an exponential process and two of two states."""
    facts = {"states": 5, "entries": 9, "width": 21, "steered": 1}
    facts["digits"] = digits_of(STATES[0].tolist())
    return Form(StateSpace, tuple(facts.items())).from_parameters(*parameters)


def mixed_effects(rng, n, field=False):
    """Crossed effects, of two coefficients and of one, beside fields that are seen in means.

    Levels of the second are related, and one has no observations. The fields are a series, and two
    areas that sum to zero.
    """
    design = np.stack([np.ones(n), rng.normal(size=n)], axis=1)
    cov = gg.cov.Effects(np.arange(n) % 2, positive_definite(rng, 2), design)
    count = n // 2 + 2
    path = 2.2 * np.eye(count) - np.eye(count, k=1) - np.eye(count, k=-1)
    cov += gg.cov.Effects(np.arange(n) // 2, rng.uniform(0.5, 2.0), precision=path)
    if field:
        means = np.eye(n, 3) * rng.uniform(0.5, 1.0) + np.eye(n, 3, k=1)
        cov += gg.cov.Projected(means, gg.cov.AR1(rng.uniform(0.5, 2.0), 0.5))
        pair = gg.cov.ICAR([[0, 1]], rng.uniform(0.5, 2.0), n=3)
        cov += gg.cov.Projected(means[:, ::-1], pair)
    cov += gg.cov.Diagonal(rng.uniform(0.5, 2.0, size=n))
    return [constant_value(x) for x in cov.parameters]


def symmetric_blocks(covariances):
    """The symmetric part of a matrix of effects (2, 2), flattened, and scalars."""
    swapped = covariances[..., [0, 2, 1, *range(3, covariances.shape[-1])]]
    return (covariances + swapped) / 2


def kronecker_factors(rng, n):
    """Two factors, as equal in size as n allows."""
    first = max(i for i in range(1, n + 1) if n % i == 0 and i * i <= n)
    return [positive_definite(rng, first), positive_definite(rng, n // first)]


def gaps(rng, n):
    """Positions of n observed entries among n + 2, and of the two that are missing."""
    missing = np.sort(rng.choice(n + 2, size=2, replace=False))
    return [np.setdiff1d(np.arange(n + 2), missing), missing]


def ring_and_island(n):
    """A ring of n - 1 nodes, and one without neighbours."""
    ring = np.arange(n - 1)
    pattern = np.eye(n)
    pattern[ring, np.roll(ring, 1)] = pattern[np.roll(ring, 1), ring] = 1
    return pattern


def sparse_matrix(rng, n):
    """Values on that pattern, diagonally dominant, and its index data."""
    pattern = ring_and_island(n)
    q = int(np.count_nonzero(np.tril(pattern)))
    cov = gg.cov.SparsePrecision(pt.vector(shape=(q,)), pattern)
    values, index = rng.uniform(-1, 1, q), [p.data for p in cov.parameters[1:]]
    values[index[0]] = rng.uniform(2.5, 4.0, n)
    return [values, *index]


def sparse_marginal(rng, n):
    """Two missing nodes, neighbours among n + 2, and one of them the last but one."""
    values, *index = sparse_matrix(rng, n + 2)
    cov = gg.cov.SparsePrecision.from_parameters(values, *map(pt.constant, index))
    kept = cov.keep(np.setdiff1d(np.arange(n + 2), [max(n - 1, 0), n]))
    return [values, *(p.data for p in kept.parameters[1:])]


@dataclass(frozen=True, eq=False)
class Case:
    """A structure under test.

    Attributes
    ----------
    build
        ``build(n, *tensors)`` makes the structure.
    draw
        ``draw(rng, n)`` returns numbers for its parameters, well conditioned.
        Integers are index data, without batches and gradients.
    rejected
        Numbers for its parameters but index data, for n = 2, that are no covariance.
    tangents
        For a parameter that is restricted to a subspace, by its position among those with a
        gradient: the projection on it.
    sized
        Whether the declared shapes of the parameters say what n is.
    fixed
        Parameters, by position, whose shape does not depend on n and is known.
    """

    name: str
    build: Callable
    draw: Callable
    rejected: tuple
    tangents: dict[int, Callable] = field(default_factory=dict)
    sized: bool = True
    fixed: frozenset[int] = frozenset()

    def tensors(self, batch_ndim=0, dtype="float64", n=None):
        """Symbolic parameters; with ``n``, of known shapes."""
        values = self.draw(np.random.default_rng(0), 2 if n is None else n)
        return [
            pt.tensor(
                f"{self.name}_{i}",
                shape=(None,) * (0 if is_index(v) else batch_ndim)
                + (np.shape(v) if n or i in self.fixed else (None,) * np.ndim(v)),
                dtype=v.dtype if is_index(v) else dtype,
            )
            for i, v in enumerate(values)
        ]

    def values(self, rng, n, batch=(), dtype="float64"):
        """Numbers with leading batch dimensions, each entry of the batch drawn anew."""
        draws = [self.draw(rng, n) for _ in range(int(np.prod(batch)))]
        stacked = [np.stack([draw[i] for draw in draws]) for i in range(len(draws[0]))]
        return [
            v[0] if is_index(v) else v.reshape((*batch, *v.shape[1:])).astype(dtype)
            for v in stacked
        ]

    def project(self, position, array):
        """The part of a direction or gradient that lies in the parameter's subspace."""
        return self.tangents.get(position, lambda whole: whole)(array)

    def no_covariance(self, fill=None):
        """Numbers for n = 2 of which the structure is no covariance; ``fill`` in all of them."""
        values, tensors = self.draw(np.random.default_rng(0), 2), self.tensors()
        free, rejected = self.differentiable(tensors), iter(self.rejected)
        return [
            v if x not in free else next(rejected) if fill is None else np.full_like(v, fill)
            for x, v in zip(tensors, values, strict=True)
        ]

    @property
    def is_leaf(self):
        """Whether the structure has kernels of its own."""
        return isinstance(self.build(2, *self.tensors()), Leaf)

    def differentiable(self, parameters):
        """Those of the structure's parameters, in order, that have a gradient."""
        structure = self.build(2, *self.tensors()).structure
        named = zip(structure.parameter_shapes, parameters, strict=True)
        return [p for name, p in named if name not in structure.constant_parameters]

    def __str__(self):
        return self.name


CASES = [
    Case(
        "Dense",
        lambda n, matrix: gg.cov.Dense(matrix),
        lambda rng, n: [positive_definite(rng, n)],
        rejected=(np.array([[1.0, 2.0], [2.0, 1.0]]),),
        tangents={0: symmetric_part},
    ),
    Case(
        "Cholesky",
        lambda n, chol: gg.cov.Cholesky(chol),
        lambda rng, n: [np.linalg.cholesky(positive_definite(rng, n))],
        rejected=(np.array([[1.0, 0.0], [0.5, 0.0]]),),
        tangents={0: np.tril},
    ),
    Case(
        "Precision",
        lambda n, matrix: gg.cov.Precision(matrix),
        lambda rng, n: [positive_definite(rng, n)],
        rejected=(-np.eye(2),),
        tangents={0: symmetric_part},
    ),
    Case(
        "Diagonal",
        lambda n, variance: gg.cov.Diagonal(variance),
        lambda rng, n: [rng.uniform(0.5, 2.0, size=n)],
        rejected=(np.array([1.0, -1.0]),),
    ),
    Case(
        "ScalarDiagonal",
        # A batch of scalar variances is written (..., 1) with a size.
        lambda n, v: gg.cov.Diagonal(v[..., None] if v.ndim else v, size=n),
        lambda rng, n: [np.asarray(rng.uniform(0.5, 2.0))],
        rejected=(np.asarray(-0.5),),
        sized=False,
    ),
    Case(
        "LowRankPlusDiagonal",
        lambda n, factor, variance: (gg.cov.LowRank(factor) + gg.cov.Diagonal(variance)).resolved,
        lambda rng, n: [rng.normal(size=(n, 2)), rng.uniform(0.5, 2.0, size=n)],
        rejected=(np.ones((2, 2)), np.array([1.0, -1.0])),
    ),
    Case(
        "LowRankPlusScalar",
        lambda n, factor, v: (
            (
                gg.cov.LowRank(factor) + gg.cov.Diagonal(v[..., None] if v.ndim else v, size=n)
            ).resolved
        ),
        lambda rng, n: [rng.normal(size=(n, 2)), np.asarray(rng.uniform(0.5, 2.0))],
        rejected=(np.ones((2, 2)), np.asarray(-1.0)),
    ),
    Case(
        "AR1",
        lambda n, variance, correlation: gg.cov.AR1(variance, correlation, size=n),
        lambda rng, n: [np.asarray(rng.uniform(0.5, 2.0)), np.asarray(rng.uniform(-0.7, 0.7))],
        rejected=(np.asarray(1.0), np.asarray(-1.0)),
        sized=False,
    ),
    Case(
        "SpacedAR1",
        lambda n, v, correlation, steps: SpacedAR1.from_parameters(
            *gg.cov.AR1(v, correlation).parameters, steps
        ),
        lambda rng, n: [
            np.asarray(rng.uniform(0.5, 2.0)),
            np.asarray(rng.uniform(-0.7, 0.7)),
            rng.integers(1, 4, size=n) * (np.arange(n) > 0),
        ],
        rejected=(np.asarray(1.0), np.asarray(-1.0)),
    ),
    Case(
        "IrregularAR1",
        lambda n, *parameters: IrregularAR1.from_parameters(*parameters),
        series_by_group,
        rejected=(np.full(2, -1.0), np.full(2, 0.5), np.zeros(1)),
        fixed=frozenset({1, 2}),
    ),
    Case(
        "StateSpace",
        lambda n, *parameters: state_space(*parameters),
        processes_by_group,
        rejected=(np.full((2, 9), -1.0), np.ones(1)),
        fixed=frozenset({2, 4, 5, 6, 7}),
    ),
    Case(
        "RegularAR1",
        lambda n, *parameters: RegularAR1.from_parameters(*parameters),
        # Two series, the first of them without observations where n = 1.
        lambda rng, n: [
            np.append(np.arange(n // 2), np.arange(n - n // 2)).astype("float64"),
            rng.uniform(0.5, 2.0, 2),
            rng.uniform(-0.7, 0.7, 2),
            (np.arange(n) >= n // 2).astype("int64"),
            np.arange(n),
            np.array([n // 2, n]),
        ],
        rejected=(np.full(2, -1.0), np.full(2, 1.5)),
        fixed=frozenset({1, 2}),
    ),
    Case(
        "NoisyAR1",
        lambda n, v, correlation, noise: (
            (
                gg.cov.AR1(v, correlation, size=n)
                + gg.cov.Diagonal(noise[..., None] if noise.ndim else noise, size=n)
            ).resolved
        ),
        lambda rng, n: [
            np.asarray(rng.uniform(0.5, 2.0)),
            np.asarray(rng.uniform(-0.7, 0.7)),
            np.asarray(rng.uniform(0.2, 1.0)),
        ],
        rejected=(np.asarray(1.0), np.asarray(-1.5), np.asarray(0.5)),
        sized=False,
    ),
    Case(
        "BlockDiagonal",
        lambda n, matrix, variance: gg.cov.BlockDiagonal(matrix, gg.cov.Diagonal(variance)),
        # The second block is empty where n = 1.
        lambda rng, n: [positive_definite(rng, n - n // 2), rng.uniform(0.5, 2.0, size=n // 2)],
        rejected=(np.eye(1), -np.ones(1)),
        tangents={0: symmetric_part},
    ),
    Case(
        "CompoundSymmetry",
        lambda n, variance, correlation: gg.cov.CompoundSymmetry(variance, correlation, size=n),
        lambda rng, n: [
            np.asarray(rng.uniform(0.5, 2.0)),
            np.asarray(rng.uniform(-0.5 / max(n - 1, 1), 0.7)),
        ],
        rejected=(np.asarray(1.0), np.asarray(1.5)),
        sized=False,
    ),
    Case(
        "ComponentSymmetry",
        lambda n, own, common: gg.cov.CompoundSymmetry.from_components(own, common, size=n),
        lambda rng, n: [np.asarray(rng.uniform(0.5, 2.0)), np.asarray(rng.uniform(0.1, 2.0))],
        rejected=(np.asarray(1.0), np.asarray(-1.0)),
        sized=False,
    ),
    Case(
        "GroupedSymmetry",
        lambda n, *parameters: GroupedSymmetry.from_parameters(*parameters),
        # Two groups, the second with parameters of its own and, where n = 1, without observations.
        lambda rng, n: [
            rng.uniform(0.5, 2.0, 2),
            rng.uniform(-0.5, 2.0, 2) / n,
            np.arange(n) % 2,
            np.array([n - n // 2, n // 2]),
        ],
        rejected=(np.ones(2), np.full(2, -2.0)),
        fixed=frozenset({0, 1}),
    ),
    Case(
        "Eigenbasis",
        lambda n, eigenvectors, eigenvalues: gg.cov.Eigenbasis(eigenvectors, eigenvalues),
        lambda rng, n: [np.linalg.eigh(positive_definite(rng, n))[1], rng.uniform(0.5, 2.0, n)],
        rejected=(np.array([1.0, -1.0]),),
    ),
    Case(
        "Toeplitz",
        lambda n, first_column: gg.cov.Toeplitz(first_column),
        # Autocovariances of a damped wave and of white noise.
        lambda rng, n: [
            rng.uniform(1, 2) * np.cos(rng.uniform(0, 3) * np.arange(n)) * 0.8 ** np.arange(n)
            + np.eye(1, n).ravel() * rng.uniform(0.2, 1)
        ],
        rejected=(np.array([1.0, 2.0]),),
    ),
    Case(
        "Kronecker",
        lambda n, a, b: gg.cov.Kronecker(a, b),
        kronecker_factors,
        rejected=(np.eye(1), np.array([[1.0, 2.0], [2.0, 1.0]])),
        tangents={0: symmetric_part, 1: symmetric_part},
        sized=False,
    ),
    Case(
        "NoisyKronecker",
        lambda n, a, b, noise: (
            (
                gg.cov.Kronecker(a, b)
                + gg.cov.Diagonal(noise[..., None] if noise.ndim else noise, size=n)
            ).resolved
        ),
        lambda rng, n: [*kronecker_factors(rng, n), np.asarray(rng.uniform(0.5, 2.0))],
        rejected=(np.eye(1), -np.eye(2), np.asarray(0.5)),
        tangents={0: symmetric_part, 1: symmetric_part},
        sized=False,
    ),
    Case(
        "KroneckerPair",
        lambda n, a, b, c, d: (gg.cov.Kronecker(a, b) + gg.cov.Kronecker(c, d)).resolved,
        lambda rng, n: [*kronecker_factors(rng, n), *kronecker_factors(rng, n)],
        rejected=(np.eye(1), np.array([[1.0, 2.0], [2.0, 1.0]]), np.eye(1), np.eye(2) / 2),
        tangents=dict.fromkeys(range(4), symmetric_part),
        sized=False,
    ),
    Case(
        "RepeatedMeasures",
        lambda n, *parameters: gg.cov.RepeatedMeasures.from_parameters(*parameters),
        repeated_measures,
        rejected=(-np.eye(3),),
        tangents={0: symmetric_part},
    ),
    Case(
        "SparsePrecision",
        lambda n, *parameters: gg.cov.SparsePrecision.from_parameters(*parameters),
        sparse_matrix,
        rejected=(np.array([1.0, -1.0]),),
    ),
    Case(
        "SparseCovariance",
        lambda n, *parameters: SparseCovariance.from_parameters(*parameters),
        sparse_matrix,
        rejected=(np.array([1.0, -1.0]),),
    ),
    Case(
        "SparseMarginal",
        lambda n, *parameters: SparseMarginal.from_parameters(*parameters),
        sparse_marginal,
        rejected=(np.array([2.0, 0.1, 0.0, -3.0, 0.5, 2.0, 1.0]),),
    ),
    Case(
        "Marginal",
        # As gg.cov.marginal(Cholesky, observed) builds it, with symbolic positions.
        lambda n, chol, observed, missing: Marginal.of(gg.cov.Cholesky(chol), observed, missing),
        lambda rng, n: [np.linalg.cholesky(positive_definite(rng, n + 2)), *gaps(rng, n)],
        rejected=(np.diag([1.0, 0.0, 1.0, 1.0]),),
        tangents={0: np.tril},
        fixed=frozenset({2}),
    ),
    Case(
        "Woodbury",
        lambda n, v, correlation, factor: (
            (gg.cov.LowRank(factor) + gg.cov.AR1(v, correlation, size=n)).resolved
        ),
        lambda rng, n: [
            np.asarray(rng.uniform(0.5, 2.0)),
            np.asarray(rng.uniform(-0.7, 0.7)),
            rng.normal(size=(n, 2)),
        ],
        rejected=(np.asarray(1.0), np.asarray(-1.5), np.ones((2, 2))),
    ),
    Case(
        "SparseLatents",
        lambda n, *parameters: CentredLatents.from_parameters(*parameters),
        lambda rng, n: mixed_effects(rng, n, field=True),
        rejected=(np.eye(6)[[0, 3, 4, 5]].sum(axis=0), np.full(5, -1.0), np.ones(2)),
        tangents={0: symmetric_blocks},
        fixed=frozenset({0, 1}),
    ),
    Case(
        "MixedEffects",
        lambda n, *parameters: SparseLatents.from_parameters(*parameters),
        mixed_effects,
        rejected=(np.full(5, -1.0), np.zeros(0), np.ones(2)),
        tangents={0: symmetric_blocks},
        fixed=frozenset({0, 1}),
    ),
    Case(
        "ScaledAR1",
        lambda n, v, correlation, scale: gg.cov.Scaled(gg.cov.AR1(v, correlation), scale),
        lambda rng, n: [
            np.asarray(rng.uniform(0.5, 2.0)),
            np.asarray(rng.uniform(-0.7, 0.7)),
            rng.uniform(0.5, 2.0, size=n),
        ],
        rejected=(np.asarray(1.0), np.asarray(0.5), np.array([1.0, -1.0])),
    ),
    Case(
        "RandomWalk",  # the guide's
        lambda n, times, variance: guide.RandomWalk(times, variance),
        lambda rng, n: [rng.uniform(0.5, 1.5, n).cumsum(), np.asarray(rng.uniform(0.5, 2.0))],
        rejected=(np.asarray(-1.0),),
    ),
]
LEAVES = [case for case in CASES if case.is_leaf]
# One of each kind to the code that all share: matrices and vectors, scalars of unknown size, a
# repeated parameter, a composite, index data. Compiled code that no structure has a part in, such
# as the loop over a batch, is tested with these on numba, which is slow to compile.
REPRESENTATIVES = {
    "LowRankPlusDiagonal",
    "AR1",
    "NoisyKronecker",
    "BlockDiagonal",
    "RepeatedMeasures",
}


def each(cases, values=None, name="backend", unless=lambda case, value: False):
    """Parametrise by structures, all tests of one in one worker, which compiles it once.

    With ``values`` of ``name`` by these, too, except where ``unless`` says that there is nothing
    to test; on numba the representatives only.
    """

    def param(case, *value):
        ids = "-".join([*value, case.name])
        return pytest.param(case, *value, marks=pytest.mark.xdist_group(case.name), id=ids)

    if values is None:
        return pytest.mark.parametrize("case", [param(case) for case in cases])
    pairs = [
        param(case, value)
        for value in values
        for case in cases
        if not unless(case, value) and (value != "numba" or case.name in REPRESENTATIVES)
    ]
    return pytest.mark.parametrize(("case", name), pairs)
