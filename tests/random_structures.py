"""Random covariances: nested structures of random sizes, each beside its dense matrix in NumPy.

A :class:`Structure` is built twice from the same numbers: as a ``gg.cov`` object from tensors, and
as a matrix by a formula of its own that takes complex numbers, so that its derivative is exact (the
complex step: Squire and Trapp, 1998).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from registry import positive_definite
from scipy.linalg import block_diag
from scipy.sparse.csgraph import connected_components

import pm_gaussgrad as gg


@dataclass
class Structure:
    """A covariance of n observations.

    Attributes
    ----------
    build
        ``build(*tensors)`` makes the ``gg.cov`` object.
    matrix
        ``matrix(*arrays)`` is its dense matrix (n, n).
    draw
        ``draw()`` draws numbers for the parameters anew, of the same shapes.
    directions
        For each parameter, the projection on the matrices that it may be.
    """

    n: int
    name: str
    build: Callable
    matrix: Callable
    draw: Callable
    directions: tuple


def free(x):
    return x


def symmetric(x):
    return (x + x.T) / 2


def _scalar(rng, low=0.5, high=2.0):
    return np.asarray(rng.uniform(low, high))


def dense(rng, n):
    return Structure(
        n, "Dense", gg.cov.Dense, free, lambda: [positive_definite(rng, n)], (symmetric,)
    )


def cholesky(rng, n):
    return Structure(
        n,
        "Cholesky",
        gg.cov.Cholesky,
        lambda factor: factor @ factor.T,
        lambda: [np.linalg.cholesky(positive_definite(rng, n))],
        (np.tril,),
    )


def precision(rng, n):
    return Structure(
        n,
        "Precision",
        gg.cov.Precision,
        np.linalg.inv,
        lambda: [positive_definite(rng, n)],
        (symmetric,),
    )


def diagonal(rng, n):
    return Structure(
        n, "Diagonal", gg.cov.Diagonal, np.diag, lambda: [rng.uniform(0.5, 2, n)], (free,)
    )


def scalar_diagonal(rng, n):
    def build(v):
        return gg.cov.Diagonal(v[..., None] if v.type.ndim else v, size=n)

    return Structure(
        n, "Diagonal(scalar)", build, lambda v: v * np.eye(n), lambda: [_scalar(rng)], (free,)
    )


def low_rank(rng, n):
    k, noise = rng.integers(4), rng.choice([diagonal, scalar_diagonal])(rng, n)
    return Structure(
        n,
        f"LowRank[{k}] + {noise.name}",
        lambda factor, v: gg.cov.LowRank(factor) + noise.build(v),
        lambda factor, v: factor @ factor.T + noise.matrix(v),
        lambda: [rng.normal(size=(n, k)), *noise.draw()],
        (free, free),
    )


def ar1(rng, n):
    lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return Structure(
        n,
        "AR1",
        lambda v, rho: gg.cov.AR1(v, rho, size=n),
        lambda v, rho: v * rho**lags,
        lambda: [_scalar(rng), _scalar(rng, -0.8, 0.8)],
        (free, free),
    )


def noisy_ar1(rng, n):
    process, noise = ar1(rng, n), rng.choice([diagonal, scalar_diagonal])(rng, n)
    return Structure(
        n,
        f"AR1 + {noise.name}",
        lambda v, rho, s: process.build(v, rho) + noise.build(s),
        lambda v, rho, s: process.matrix(v, rho) + noise.matrix(s),
        lambda: [*process.draw(), *noise.draw()],
        (free, free, free),
    )


def ar1_by_group(rng, n):
    """Irregular times in groups, and with luck parameters of each; a table in no order."""
    group, time = rng.integers(0, 3, n), rng.uniform(0, 5, n)
    group = np.unique(group, return_inverse=True)[1]
    # One step ahead is meant in time, here that of the table.
    time = np.sort(time)
    same = np.equal.outer(group, group)
    lags = np.where(same, np.abs(np.subtract.outer(time, time)), 0)
    own = group.max() + 1 if rng.uniform() < 0.5 else None

    def build(v, rho):
        if own is None:  # scalars, and batches of them
            v, rho = (x[..., None] if x.type.ndim else x for x in (v, rho))
        return gg.cov.AR1(v, rho, time=time, group=group)

    def matrix(v, rho):
        v, rho = (x if own is None else x[..., group, None] for x in (v, rho))
        return np.where(same, v * rho**lags, 0)

    return Structure(
        n,
        f"AR1 by group[{own}]",
        build,
        matrix,
        lambda: [_several(rng, own), _several(rng, own, 0.1, 0.8)],
        (free, free),
    )


def symmetry_by_group(rng, n):
    group = np.unique(rng.integers(0, 3, n), return_inverse=True)[1]
    same = np.equal.outer(group, group)

    def build(own, common):
        own, common = (x[..., None] if x.type.ndim else x for x in (own, common))
        return gg.cov.CompoundSymmetry.from_components(own, common, group=group)

    return Structure(
        n,
        "from_components by group",
        build,
        lambda own, common: own * np.eye(n) + common * same,
        lambda: [_scalar(rng), _scalar(rng)],
        (free, free),
    )


def _several(rng, size, low=0.5, high=2.0):
    return _scalar(rng, low, high) if size is None else rng.uniform(low, high, size)


def compound_symmetry(rng, n):
    return Structure(
        n,
        "CompoundSymmetry",
        lambda v, rho: gg.cov.CompoundSymmetry(v, rho, size=n),
        lambda v, rho: v * ((1 - rho) * np.eye(n) + rho * np.ones((n, n))),
        lambda: [_scalar(rng), _scalar(rng, -0.5 / max(n - 1, 1), 0.8)],
        (free, free),
    )


def components(rng, n):
    return Structure(
        n,
        "from_components",
        lambda own, common: gg.cov.CompoundSymmetry.from_components(own, common, size=n),
        lambda own, common: own * np.eye(n) + common * np.ones((n, n)),
        lambda: [_scalar(rng), _scalar(rng)],
        (free, free),
    )


def random_intercept(rng, n):
    return Structure(
        n,
        "CompoundSymmetry + Diagonal",
        lambda t, s: (
            gg.cov.CompoundSymmetry(t, 1.0)
            + gg.cov.Diagonal(s[..., None] if s.type.ndim else s, size=n)
        ),
        lambda t, s: t * np.ones((n, n)) + s * np.eye(n),
        lambda: [_scalar(rng), _scalar(rng)],
        (free, free),
    )


def toeplitz(rng, n):
    lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))

    def draw():
        wave = np.cos(rng.uniform(0, 3) * np.arange(n)) * 0.8 ** np.arange(n)
        return [rng.uniform(1, 2) * wave + np.eye(1, n).ravel() * rng.uniform(0.2, 1)]

    return Structure(n, "Toeplitz", gg.cov.Toeplitz, lambda column: column[lags], draw, (free,))


def eigenbasis(rng, n):
    vectors = np.linalg.eigh(positive_definite(rng, n))[1]
    return Structure(
        n,
        "Eigenbasis",
        lambda values: gg.cov.Eigenbasis(vectors, values),
        lambda values: (vectors * values) @ vectors.T,
        lambda: [rng.uniform(0.5, 2, n)],
        (free,),
    )


def repeated_measures(rng, n):
    visits = int(rng.integers(1, 4))
    rows = rng.permutation(n * visits)[:n]
    subject, visit = rows // visits, rows % visits
    same = np.equal.outer(subject, subject)
    return Structure(
        n,
        f"RepeatedMeasures[{visits}]",
        lambda within: gg.cov.RepeatedMeasures(within, subject, visit),
        lambda within: np.where(same, within[np.ix_(visit, visit)], 0),
        lambda: [positive_definite(rng, visits)],
        (symmetric,),
    )


def kronecker(rng, n):
    """Of two factors, matrices or structures, with noise or without."""
    first = int(rng.choice([i for i in range(1, n + 1) if n % i == 0]))
    parts = [rng.choice([dense, dense, cholesky, ar1])(rng, size) for size in (first, n // first)]
    count, noisy = len(parts[0].directions), rng.uniform() < 0.5

    def split(arrays):
        return arrays[:count], arrays[count : len(arrays) - noisy], arrays[len(arrays) - noisy :]

    def factor(part, tensors):
        # A matrix as it is, a structure formed.
        return tensors[0] if part.name == "Dense" else part.build(*tensors)

    def build(*tensors):
        left, right, noise = split(tensors)
        product = gg.cov.Kronecker(factor(parts[0], left), factor(parts[1], right))
        return product + scalar_diagonal(rng, n).build(*noise) if noisy else product

    def matrix(*arrays):
        left, right, noise = split(arrays)
        product = np.kron(parts[0].matrix(*left), parts[1].matrix(*right))
        return product + noise[0] * np.eye(n) if noisy else product

    return Structure(
        n,
        f"Kronecker({', '.join(part.name for part in parts)}{', noise' * noisy})",
        build,
        matrix,
        lambda: [*parts[0].draw(), *parts[1].draw(), *[_scalar(rng)] * noisy],
        (*parts[0].directions, *parts[1].directions, *[free] * noisy),
    )


def kronecker_pair(rng, n):
    """Of products of two factors, the second with noise by task or with any matrices."""
    first = int(rng.choice([i for i in range(1, n + 1) if n % i == 0]))
    kinds = [rng.choice([dense, ar1]), dense, rng.choice([dense, diagonal]), scalar_diagonal]
    parts = [kind(rng, size) for kind, size in zip(kinds, (first, n // first) * 2, strict=True)]
    ends = np.cumsum([len(part.directions) for part in parts])

    def factors(build, arrays):
        split = [arrays[end - len(p.directions) : end] for end, p in zip(ends, parts, strict=True)]
        return [build(part)(*own) for part, own in zip(parts, split, strict=True)]

    def build(*tensors):
        a, b, c, d = factors(lambda part: part.build, tensors)
        return gg.cov.Kronecker(a, b) + gg.cov.Kronecker(c, d)

    def matrix(*arrays):
        a, b, c, d = factors(lambda part: part.matrix, arrays)
        return np.kron(a, b) + np.kron(c, d)

    return Structure(
        n,
        f"Kronecker({parts[0].name}, ...) + Kronecker({parts[2].name}, ...)",
        build,
        matrix,
        lambda: [array for part in parts for array in part.draw()],
        reduce(tuple.__add__, (part.directions for part in parts)),
    )


def sparse_precision(rng, n):
    """On a random pattern, as its values or as a sum of terms."""
    pattern = np.tril(rng.uniform(size=(n, n)) < 0.4, -1)
    pattern = pattern + pattern.T + np.eye(n)
    rows, columns = np.nonzero(np.tril(pattern).T)[::-1]
    on_diagonal = rows == columns
    if rng.uniform() < 0.5:

        def draw():
            values = rng.uniform(-1, 1, rows.size)
            return [np.where(on_diagonal, rng.uniform(n, n + 2, rows.size), values)]

        def matrix(values):
            entries = np.zeros((n, n), values.dtype)
            entries[rows, columns] = values
            return np.linalg.inv(entries + np.tril(entries, -1).T)

        return Structure(
            n,
            "SparsePrecision",
            lambda values: gg.cov.SparsePrecision(values, pattern),
            matrix,
            draw,
            (free,),
        )
    weights = pattern * symmetric(rng.uniform(0, 1, (n, n)))
    return Structure(
        n,
        "SparsePrecision.from_terms",
        lambda a, b: gg.cov.SparsePrecision.from_terms([(a, np.eye(n)), (b, weights)]),
        lambda a, b: np.linalg.inv(a * np.eye(n) + b * weights),
        lambda: [_scalar(rng, n, n + 2.0), _scalar(rng, -0.5, 0.5)],
        (free, free),
    )


def mixed_effects(rng, n):
    """Slopes of groups, of a covariance that may be singular, intercepts of kin, and noise."""
    k, noise = int(rng.integers(1, 3)), rng.choice([diagonal, scalar_diagonal])(rng, n)
    first, second = rng.integers(0, 3, (2, n))
    design, rank = rng.normal(size=(n, k)), int(rng.integers(0, k + 1))
    root = rng.normal(size=(4, 4)) * rng.integers(0, 2)
    kinship = root @ root.T + np.diag(rng.uniform(0.5, 2.0, 4))

    def draw():
        root = rng.normal(size=(k, rank))
        return [root @ root.T, _scalar(rng), *noise.draw()]

    def matrix(covariance, v, s):
        slopes = (first[:, None] == first) * (design @ covariance @ design.T)
        return slopes + v * kinship[np.ix_(second, second)] + noise.matrix(s)

    return Structure(
        n,
        f"Effects[{k}] + Effects + {noise.name}",
        lambda covariance, v, s: (
            gg.cov.Effects(first, covariance, design)
            + gg.cov.Effects(second, v[..., None, None], relationship=kinship)
            + noise.build(s)
        ),
        matrix,
        draw,
        (symmetric, free, free),
    )


def areal(rng, n):
    """An intrinsic autoregression with noise, or in shares, on a graph that may be in pieces."""
    weights = np.triu(rng.uniform(0.3, 2.0, (n, n)) * (rng.uniform(size=(n, n)) < 1.5 / n), 1)
    weights += weights.T
    inverse = np.linalg.pinv(np.diag(weights.sum(axis=1)) - weights)
    if rng.uniform() < 0.5:
        noise = rng.choice([diagonal, scalar_diagonal])(rng, n)
        return Structure(
            n,
            f"ICAR + {noise.name}",
            lambda sigma, s: gg.cov.ICAR(weights, sigma) + noise.build(s),
            lambda sigma, s: sigma**2 * inverse + noise.matrix(s),
            lambda: [_scalar(rng), *noise.draw()],
            (free, free),
        )
    _, component = connected_components(weights)
    size = np.bincount(component)[component]
    for part in np.unique(component[size > 1]):
        nodes = np.ix_(component == part, component == part)
        inverse[nodes] /= np.exp(np.log(np.diag(inverse[nodes])).mean())
    return Structure(
        n,
        "BYM2",
        lambda sigma, rho: gg.cov.BYM2(weights, sigma, rho),
        lambda sigma, rho: (
            sigma**2 * (rho * inverse + np.diag(np.where(size > 1, 1 - rho, 1.0 + 0 * rho)))
        ),
        lambda: [_scalar(rng), _scalar(rng, 0.2, 0.8)],
        (free, free),
    )


LEAVES = (
    *(dense, cholesky, precision, diagonal, scalar_diagonal, low_rank, ar1, compound_symmetry),
    *(components, random_intercept, toeplitz, eigenbasis, repeated_measures, kronecker),
    *(noisy_ar1, ar1_by_group, symmetry_by_group, kronecker_pair, sparse_precision),
    *(mixed_effects, areal),
)


def block_diagonal(rng, depth):
    """One to three blocks, which may be block diagonal themselves."""
    blocks = [random_structure(rng, depth - 1) for _ in range(rng.integers(1, 4))]
    counts = [len(block.directions) for block in blocks]

    def split(arrays):
        ends = np.cumsum(counts)
        return [arrays[end - count : end] for end, count in zip(ends, counts, strict=True)]

    def build(*tensors):
        parts = zip(blocks, split(tensors), strict=True)
        return gg.cov.BlockDiagonal(*(block.build(*own) for block, own in parts))

    def matrix(*arrays):
        parts = zip(blocks, split(arrays), strict=True)
        return block_diag(*(block.matrix(*own) for block, own in parts))

    return Structure(
        sum(block.n for block in blocks),
        f"BlockDiagonal({', '.join(block.name for block in blocks)})",
        build,
        matrix,
        lambda: [array for block in blocks for array in block.draw()],
        reduce(tuple.__add__, (block.directions for block in blocks)),
    )


def scaled(rng, depth):
    """Any structure with scales of its observations, some of which leave it of its kind."""
    own = random_structure(rng, depth - 1)
    return Structure(
        own.n,
        f"Scaled({own.name})",
        lambda *tensors: gg.cov.Scaled(own.build(*tensors[:-1]), tensors[-1]),
        lambda *arrays: arrays[-1][:, None] * own.matrix(*arrays[:-1]) * arrays[-1],
        lambda: [*own.draw(), rng.uniform(0.5, 2, own.n)],
        (*own.directions, free),
    )


def beside_factors(rng, depth):
    """Any structure and factors, none or up to as many as there are observations."""
    own = random_structure(rng, depth - 1)
    k = int(rng.integers(0, min(own.n, 3) + 1))
    return Structure(
        own.n,
        f"({own.name} + LowRank)",
        lambda *tensors: own.build(*tensors[:-1]) + gg.cov.LowRank(tensors[-1]),
        lambda *arrays: own.matrix(*arrays[:-1]) + arrays[-1] @ arrays[-1].T,
        lambda: [*own.draw(), rng.normal(size=(own.n, k))],
        (*own.directions, free),
    )


COMPOSITES = (block_diagonal, scaled, beside_factors)


def random_structure(rng, depth=4):
    """A leaf, or a composite of structures to this depth."""
    if depth and rng.uniform() < 0.5:
        return _choose(COMPOSITES, rng)(rng, depth)
    return _choose(LEAVES, rng)(rng, int(rng.choice([1, 2, 3, 4, 6])))


def _choose(kinds, rng):
    """One of them, the same as long as those that are added at the end are not chosen."""
    ranks = np.random.default_rng(rng.integers(2**63)).uniform(size=len(kinds))
    return kinds[ranks.argmax()]


def random_gaps(rng, shape):
    """Which entries of data are missing, and what kind of gaps it is."""
    kind = rng.choice(
        ["none", "common", "by row", "whole rows", "everything"], p=[0.5, *[0.125] * 4]
    )
    missing = np.zeros(shape, bool)
    if kind == "common":
        missing[..., rng.uniform(size=shape[-1]) < 0.4] = True
    elif kind in ("by row", "whole rows"):
        missing[:] = rng.uniform(size=shape) < 0.3
    elif kind == "everything":
        missing[:] = True
    if kind == "whole rows":
        missing[rng.uniform(size=shape[:-1]) < 0.5] = True
    return missing, str(kind)
