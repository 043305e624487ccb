"""Random covariance matrices as people write them, and near-misses of what has a structure."""

from dataclasses import dataclass, field

import numpy as np
import pytensor.tensor as pt


@dataclass
class Written:
    """A symbolic matrix, and what it is made of."""

    rng: np.random.Generator
    parameters: list = field(default_factory=list)
    point: list = field(default_factory=list)

    def number(self):
        return self.parameter(self.rng.uniform(0.3, 2.0))

    def vector(self, n):
        return self.parameter(self.rng.uniform(0.5, 2.0, n))

    def table(self, n, k):
        return self.parameter(self.rng.normal(size=(n, k)))

    def parameter(self, value):
        x = pt.tensor(f"x{len(self.parameters)}", shape=np.shape(value))
        self.parameters.append(x)
        self.point.append(np.asarray(value))
        return x

    def chance(self, p=0.5):
        return self.rng.uniform() < p

    def index(self, stop):
        return int(self.rng.integers(stop))


def random_matrix(w, n, depth=2):
    """A positive definite matrix (n, n)."""
    leaves = [constant, kernel, diagonal, factor, inverse, low_rank]
    nodes = [scaled, multiple, total, product, blocks, shared]
    kinds = nodes if depth > 0 and w.chance(0.7) else leaves
    return kinds[w.index(len(kinds))](w, n, depth - 1)


def constant(w, n, depth):
    x = w.rng.normal(size=(n, n))
    return pt.constant(x @ x.T / n + np.eye(n))


def kernel(w, n, depth):
    at = np.sort(w.rng.uniform(0, 3, n))
    lags = pt.constant(np.abs(at[:, None] - at))
    return pt.exp(-lags / w.number()) * w.number() + 0.1 * pt.eye(n)


def diagonal(w, n, depth):
    ways = [
        lambda: pt.diag(w.vector(n)),
        lambda: w.number() * pt.eye(n),
        lambda: w.number() * np.eye(n),
        lambda: w.vector(n) * pt.eye(n),
        lambda: pt.eye(n) * w.vector(n)[:, None],
        # Zero beside the diagonal at no point but this.
        lambda: pt.diag(w.vector(n)) + pt.eye(n, k=1) * 0.1 + pt.eye(n, k=-1) * 0.1,
        lambda: pt.eye(n, n + 0, 0) * w.number() + np.diag(np.arange(n)),
    ]
    return ways[w.index(len(ways))]()


def factor(w, n, depth):
    """L L' of a triangle, by entries that were set or by a mask; and of others."""
    x = w.table(n, n) + 2 * np.eye(n)
    rows, columns = np.tril_indices(n)
    ways = [
        lambda: pt.zeros((n, n))[rows, columns].set(x[rows, columns]),
        lambda: pt.zeros((n, n))[columns, rows].set(x[rows, columns]),
        lambda: pt.ones((n, n))[rows, columns].set(x[rows, columns]),
        lambda: pt.tril(x),
        lambda: pt.triu(x),
        lambda: x,
    ]
    made = ways[w.index(len(ways))]()
    return made @ made.T


def inverse(w, n, depth):
    return pt.linalg.inv(random_matrix(w, n, depth) if depth > 0 else kernel(w, n, depth))


def low_rank(w, n, depth):
    """U U' + D, and what is no square."""
    k = 1 + w.index(n)
    u = w.table(n, k)
    u = u if w.chance(0.7) else pt.zeros((n, k))[np.tril_indices(n, m=k)].set(1.5)
    other = u if w.chance(0.8) else u * w.number()
    noise = pt.diag(w.vector(n)) if w.chance() else w.number() * pt.eye(n)
    return u @ other.T + noise


def scaled(w, n, depth):
    inner, s = random_matrix(w, n, depth), w.vector(n)
    ways = [
        lambda: s[:, None] * inner * s[None, :],
        lambda: s[:, None] * inner * s,
        lambda: pt.outer(s, s) * inner,
        lambda: pt.diag(s) @ inner @ pt.diag(s),
        # Equal at all points, by another graph.
        lambda: s[:, None] * inner * (1.0 * s)[None, :],
    ]
    return ways[w.index(len(ways))]()


def multiple(w, n, depth):
    inner, s = random_matrix(w, n, depth), w.number()
    ways = [lambda: s * inner, lambda: inner / s, lambda: inner * s**2, lambda: 2.0 * inner]
    return ways[w.index(len(ways))]()


def total(w, n, depth):
    """Of matrices, and of a matrix and what is repeated over its entries."""
    left, right = random_matrix(w, n, depth), random_matrix(w, n, depth - 1)
    ways = [
        lambda: left + right,
        lambda: left + 0.05 * right,
        lambda: left + 0.05,
        lambda: left + pt.constant([[0.05]]),
        lambda: left + w.number() / 20,
    ]
    return ways[w.index(len(ways))]()


def product(w, n, depth):
    """Of Kronecker, where n has divisors, alone or with noise."""
    sizes = [k for k in range(2, n) if n % k == 0]
    if not sizes:
        return kernel(w, n, depth)
    k = sizes[w.index(len(sizes))]
    made = pt.linalg.kron(random_matrix(w, k, 0), random_matrix(w, n // k, 0))
    if w.chance():
        made = made + w.number() * pt.eye(n)
    return made + pt.diag(w.vector(n)) if w.chance(0.2) else made


def blocks(w, n, depth):
    if n < 2:
        return diagonal(w, n, depth)
    k = 1 + w.index(n - 1)
    return pt.linalg.block_diag(random_matrix(w, k, 0), random_matrix(w, n - k, 0))


def shared(w, n, depth):
    """The same expression more than once."""
    x = random_matrix(w, n, depth)
    ways = [lambda: x + x, lambda: x + x.T, lambda: x + pt.diag(pt.diag(x)), lambda: x + 0.5 * x]
    return ways[w.index(len(ways))]()
