"""One row a structure: how to build it, and numbers for its parameters."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.mode import Mode

import pm_gaussgrad as gg
from pm_gaussgrad.cov.base import Leaf

BACKENDS = {
    "numba": Mode(linker="numba", optimizer="fast_run"),
    "c": Mode(linker="cvm", optimizer="fast_run"),
    "jax": pytensor.compile.mode.get_mode("JAX"),
}


def interpreted(inputs, outputs, **kwargs):
    """A compiled graph without numba's compilation, for tests that are not about a backend."""
    return pytensor.function(inputs, outputs, mode=BACKENDS["c"], **kwargs)


def is_index(x):
    """Whether an array or tensor is index data, which has neither batches nor a gradient."""
    return np.dtype(x.dtype).kind == "i"


def positive_definite(rng, n):
    factor = rng.normal(size=(n, n))
    return factor @ factor.T / max(n, 1) + np.eye(n)


def repeated_measures(rng, n):
    """Three visits; subjects of the same and of different visits, in no order."""
    subject = 2 * np.arange(n) % 3
    visit = (subject % 2 + 2 * (np.arange(n) // 3)) % 3
    cov = gg.cov.RepeatedMeasures(positive_definite(rng, 3), subject, visit)
    return [p.data for p in cov.parameters]


@dataclass(frozen=True)
class Case:
    """A structure under test.

    ``build(n, *tensors)`` makes the structure; ``draw(rng, n)`` returns numbers for its
    parameters, well conditioned. Integers are index data, without batches and gradients.
    """

    name: str
    build: Callable
    draw: Callable

    def tensors(self, batch_ndim=0, dtype="float64"):
        values = self.draw(np.random.default_rng(0), 2)
        return [
            pt.tensor(f"{self.name}_{i}", shape=(None,) * np.ndim(v), dtype=v.dtype)
            if is_index(v)
            else pt.tensor(
                f"{self.name}_{i}", shape=(None,) * (batch_ndim + np.ndim(v)), dtype=dtype
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

    def differentiable(self, parameters):
        """Those of the structure's parameters, in order, that have a gradient."""
        structure = self.build(2, *self.tensors()).structure
        named = zip(structure.parameter_shapes, parameters, strict=True)
        return [p for name, p in named if name not in structure.constant_parameters]

    @property
    def is_leaf(self):
        """Whether the structure has kernels of its own."""
        return isinstance(self.build(2, *self.tensors()), Leaf)

    def __str__(self):
        return self.name


CASES = [
    Case(
        "Dense",
        lambda n, matrix: gg.cov.Dense(matrix),
        lambda rng, n: [positive_definite(rng, n)],
    ),
    Case(
        "Cholesky",
        lambda n, chol: gg.cov.Cholesky(chol),
        lambda rng, n: [np.linalg.cholesky(positive_definite(rng, n))],
    ),
    Case(
        "Precision",
        lambda n, matrix: gg.cov.Precision(matrix),
        lambda rng, n: [positive_definite(rng, n)],
    ),
    Case(
        "RepeatedMeasures",
        lambda n, *parameters: gg.cov.RepeatedMeasures.from_parameters(*parameters),
        repeated_measures,
    ),
    Case(
        "Diagonal",
        lambda n, variance: gg.cov.Diagonal(variance),
        lambda rng, n: [rng.uniform(0.5, 2.0, size=n)],
    ),
    Case(
        "ScalarDiagonal",
        # A batch of scalar variances is written (..., 1) with a size.
        lambda n, v: gg.cov.Diagonal(v[..., None] if v.ndim else v, size=n),
        lambda rng, n: [np.asarray(rng.uniform(0.5, 2.0))],
    ),
    Case(
        "CompoundSymmetry",
        lambda n, variance, correlation: gg.cov.CompoundSymmetry(variance, correlation, size=n),
        lambda rng, n: [
            np.asarray(rng.uniform(0.5, 2.0)),
            np.asarray(rng.uniform(-0.5 / max(n - 1, 1), 0.8)),
        ],
    ),
    Case(
        "Eigenbasis",
        lambda n, eigenvectors, eigenvalues: gg.cov.Eigenbasis(eigenvectors, eigenvalues),
        lambda rng, n: [np.linalg.eigh(positive_definite(rng, n))[1], rng.uniform(0.5, 2.0, n)],
    ),
    Case(
        "AR1",
        lambda n, variance, correlation: gg.cov.AR1(variance, correlation, size=n),
        lambda rng, n: [np.asarray(rng.uniform(0.5, 2.0)), np.asarray(rng.uniform(-0.8, 0.8))],
    ),
    Case(
        "BlockDiagonal",
        lambda n, matrix, variance: gg.cov.BlockDiagonal(matrix, gg.cov.Diagonal(variance)),
        # The second block is empty where n = 1.
        lambda rng, n: [positive_definite(rng, n - n // 2), rng.uniform(0.5, 2.0, size=n // 2)],
    ),
]
