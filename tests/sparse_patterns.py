"""Sparse symmetric matrices of the kinds that models have, and random ones, for small n."""

import numpy as np
import scipy.sparse as sp


def definite(pattern, rng):
    """Random values on a symmetric pattern, diagonally dominant."""
    n = pattern.shape[0]
    lower = sp.tril(pattern, -1, format="coo")
    values = rng.uniform(-1, 1, lower.nnz)
    half = sp.coo_matrix((values, (lower.row, lower.col)), shape=(n, n))
    off = sp.csc_matrix(half + half.T)
    diagonal = np.asarray(abs(off).sum(axis=1)).ravel() + rng.uniform(0.1, 2, n)
    return sp.csc_matrix(off + sp.diags_array(diagonal, shape=(n, n)))


def chain(n):
    return sp.diags_array([np.ones(max(n - 1, 0))] * 2, offsets=[-1, 1], shape=(n, n))


def lattice(rows, columns, corners=False):
    along, across = chain(rows), chain(columns)
    if corners:
        return sp.kron(along + sp.eye(rows), across + sp.eye(columns))
    return sp.kron(along, sp.eye(columns)) + sp.kron(sp.eye(rows), across)


def twice(pattern):
    """Neighbours of neighbours, as of the precision of a Matérn field on a mesh."""
    near = pattern + sp.eye(pattern.shape[0])
    return near @ near


def band(n, width):
    return sum((sp.eye(n, k=k) + sp.eye(n, k=-k) for k in range(1, width + 1)), sp.eye(n))


def tree(n, rng):
    above = [rng.integers(0, max(i, 1)) for i in range(1, n)]
    edges = sp.coo_matrix((np.ones(n - 1), (np.arange(1, n), above)), shape=(n, n))
    return edges + edges.T


def crossed(first, second, rows, rng):
    """Two crossed groups of random intercepts."""
    design = np.zeros((rows, first + second))
    design[np.arange(rows), rng.integers(0, first, rows)] = 1
    design[np.arange(rows), first + rng.integers(0, second, rows)] = 1
    return sp.csc_matrix(design.T @ design + np.eye(first + second))


def pedigree(n, founders, rng):
    """Animals with two earlier parents, the sires of which are few."""
    design = np.eye(n)
    for i in range(founders, n):
        design[i, [rng.integers(0, 1 + i // 5), rng.integers(0, i)]] = -0.5
    return sp.csc_matrix(design.T @ design)


def star(n, centres):
    """A few nodes that are neighbours of all."""
    dense = np.eye(n)
    dense[:centres] = dense[:, :centres] = 1
    return sp.csc_matrix(dense)


def disconnected(*parts):
    return sp.block_diag(parts)


def scattered(n, density, rng):
    """Any entries, with empty rows where there are few."""
    lower = sp.random(n, n, density, random_state=rng, format="csc")
    return lower + lower.T


def shuffled(pattern, rng):
    at = rng.permutation(pattern.shape[0])
    return sp.csc_matrix(pattern)[at][:, at]


def patterns(rng):
    """One of each kind, by name."""
    return {
        "none": sp.csc_matrix((0, 0)),
        "one": sp.csc_matrix(np.eye(1)),
        "diagonal": sp.eye(9),
        "chain": chain(30),
        "band": band(40, 3),
        "tree": tree(50, rng),
        "lattice": lattice(7, 9),
        "eight neighbours": lattice(8, 7, corners=True),
        "mesh": twice(lattice(8, 8)),
        "crossed": crossed(30, 12, 70, rng),
        "pedigree": pedigree(70, 20, rng),
        "star": star(30, 2),
        "full": sp.csc_matrix(np.ones((40, 40))),
        "disconnected": disconnected(lattice(5, 5), sp.eye(3), chain(6), np.ones((7, 7))),
        "empty rows": scattered(60, 0.01, rng),
        "scattered": scattered(45, 0.06, rng),
    }


def random_pattern(rng, largest):
    """A random one of a random kind, with its nodes in a random order or as made."""
    n = int(rng.integers(2, largest))
    side = max(2, int(np.sqrt(n)))
    kinds = [
        lambda: scattered(n, min(1, rng.uniform(0, 4) / n), rng),
        lambda: scattered(n, rng.uniform(0, 0.3), rng),
        lambda: lattice(side, side, corners=bool(rng.integers(2))),
        lambda: twice(lattice(side, side)),
        lambda: band(n, int(rng.integers(1, min(6, n)))),
        lambda: tree(n, rng),
        lambda: crossed(2 * n // 3 + 1, n // 3 + 1, 2 * n, rng),
        lambda: pedigree(n, 1 + n // 4, rng),
        lambda: star(n, int(rng.integers(1, 4))),
        lambda: disconnected(*(scattered(side, rng.uniform(0, 0.5), rng) for _ in range(4))),
    ]
    pattern = sp.csc_matrix(kinds[rng.integers(len(kinds))]())
    return shuffled(pattern, rng) if rng.integers(2) else pattern


def lower_triangle(matrix):
    """Values, where columns begin, and rows, ascending; zeros are entries."""
    lower = sp.tril(matrix, format="csc")
    lower.sort_indices()
    return lower.data.astype(float), lower.indptr.astype(np.int64), lower.indices.astype(np.int64)


def superlu_fill(matrix):
    """Entries of the factor in SuperLU's order of minimum degree."""
    options = {"SymmetricMode": True}
    lu = sp.linalg.splu(matrix, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
    return lu.L.nnz
