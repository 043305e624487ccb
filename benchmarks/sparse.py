"""The sparse kernels: factor, log determinant, three solves and selected inverse, beside SuperLU's.

    python -m benchmarks.sparse                       # some minutes
    python -m benchmarks.sparse lattice tree          # some matrices; --large: 10^6 nodes
    python -m benchmarks.sparse --compile             # CPU seconds to compile, from nothing

SuperLU's side is ``scipy.sparse.linalg.splu`` for symmetric matrices (SymmetricMode, minimum
degree, no pivoting), the log determinant and three solves; it has no inverse on the pattern.
Columns: CPU milliseconds of each step and of their sum, those of SuperLU, the ratio of the sums and
the bar that it must not exceed, and seconds of the analysis of the pattern, which is made once.
"""

import argparse
import tempfile
import time
from functools import partial

from benchmarks.__main__ import prepare_process

SEED = 20261127


def lattice(size):
    """Four neighbours."""
    import scipy.sparse as sp

    near = _path(size)
    return _field(sp.kron(near, sp.eye(size)) + sp.kron(sp.eye(size), near))


def lattice_of_eight(size):
    """Eight neighbours."""
    import scipy.sparse as sp

    near = _path(size) + sp.eye(size)
    return _field(sp.kron(near, near) - sp.eye(size**2))


def mesh(size):
    """A Matérn field with smoothness 1 on a square mesh: neighbours of neighbours."""
    import numpy as np
    import scipy.sparse as sp

    near = _path(size)
    edges = sp.kron(near, sp.eye(size)) + sp.kron(sp.eye(size), near)
    areas = sp.diags_array(np.random.default_rng(SEED).uniform(0.5, 1.5, size**2))
    stiffness = sp.diags_array(np.asarray(edges.sum(axis=1)).ravel()) - edges
    operator = 0.1 * areas + stiffness
    return operator.T @ sp.diags_array(1 / areas.diagonal()) @ operator


def crossed(first, second, rows):
    """Random intercepts of two crossed groups."""
    import numpy as np
    import scipy.sparse as sp

    rng = np.random.default_rng(SEED)
    groups = rng.integers(0, first, rows), first + rng.integers(0, second, rows)
    design = sum(
        sp.csr_matrix((np.ones(rows), (np.arange(rows), group)), shape=(rows, first + second))
        for group in groups
    )
    return design.T @ design + sp.eye(first + second)


def band(n):
    """An autoregression of order 2."""
    import numpy as np
    import scipy.sparse as sp

    rng = np.random.default_rng(SEED)
    one, two = rng.uniform(-1, 1, n - 1), rng.uniform(-1, 1, n - 2)
    bands = [np.full(n, 4.5), one, one, two, two]
    return sp.diags_array(bands, offsets=[0, 1, -1, 2, -2])


def tree(n):
    """Brownian motion on a random binary tree, with its inner nodes."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    above, tips = np.zeros(n, int), [0]
    for node in range(1, n - 1, 2):
        at = rng.integers(len(tips))
        above[node : node + 2] = tips[at]
        tips[at] = node
        tips.append(node + 1)
    return _from_parents([above], 1 / rng.uniform(0.1, 1, n), 1.0)


def pedigree(n):
    """Henderson's inverse of a relationship matrix, with records: few sires, each of many."""
    import numpy as np
    import scipy.sparse as sp

    rng, founders = np.random.default_rng(SEED), n // 10
    born, window = np.arange(founders, n), min(4000, founders - 40)
    sires = (born - 1 - rng.integers(0, window, born.size)) // 20 * 20
    dams = np.maximum(born - 1 - rng.integers(0, window, born.size), 1)
    dams[dams == sires] += 1
    parents = [np.concatenate([np.zeros(founders, int), x]) for x in (sires, dams)]
    weights = np.where(np.arange(n) < founders, 1.0, 2.0)
    return _from_parents(parents, weights, 0.5, founders) + 0.5 * sp.eye(n)


def _from_parents(parents, weights, share, founders=1):
    import numpy as np
    import scipy.sparse as sp

    n, node = weights.size, np.arange(founders, weights.size)
    rest = sp.eye(n, format="csr")
    for above in parents:
        passed = np.full(node.size, share)
        rest = rest - sp.csr_matrix((passed, (node, above[founders:])), shape=(n, n))
    return rest.T @ sp.diags_array(weights) @ rest


def _path(size):
    import numpy as np
    import scipy.sparse as sp

    return sp.diags_array([np.ones(size - 1)] * 2, offsets=[-1, 1])


def _field(near):
    import numpy as np
    import scipy.sparse as sp

    return sp.diags_array(np.asarray(near.sum(axis=1)).ravel() + 0.05) - 0.98 * near


# What is measured, and the ratio that it must not exceed.
MATRICES = {
    "lattice": (partial(lattice, 300), 0.50),
    "lattice8": (partial(lattice_of_eight, 316), 0.60),
    "mesh": (partial(mesh, 150), 0.70),
    "crossed": (partial(crossed, 3000, 1000, 70_000), 0.20),
    "band": (partial(band, 100_000), 0.40),
    "tree": (partial(tree, 100_000), 0.25),
    "pedigree": (partial(pedigree, 50_000), 0.16),
}


def _kernels():
    """The kernels, as Ops call them."""
    from pm_gaussgrad.kernels.sparse.factorise import factorise, log_determinant
    from pm_gaussgrad.kernels.sparse.selected_inverse import selected_inverse
    from pm_gaussgrad.kernels.sparse.solve import solve
    from pm_gaussgrad.ops.compiled import compiled_function

    return map(compiled_function, (factorise, log_determinant, solve, selected_inverse))


def _pattern(matrix):
    import numpy as np
    import scipy.sparse as sp

    lower = sp.tril(matrix, format="csc")
    lower.sort_indices()
    return lower.data, lower.indptr.astype(np.int64), lower.indices.astype(np.int64)


def _analysed(indptr, indices):
    """The analysis, and the seconds that it takes."""
    from pm_gaussgrad.kernels.sparse.analysis import analyse
    from pm_gaussgrad.ops.compiled import compiled_function

    analyse(indptr, indices, compiled_function)
    start = time.perf_counter()
    analysis = analyse(indptr, indices, compiled_function)
    return analysis, time.perf_counter() - start


def measure(name, build, bar, repetitions):
    """Print a line; the two sides take turns."""
    import numpy as np
    import scipy.sparse as sp
    from scipy.sparse.linalg import splu

    factorise, log_determinant, solve, selected_inverse = _kernels()
    matrix = sp.csc_matrix(build())
    values, indptr, indices = _pattern(matrix)
    analysis, seconds = _analysed(indptr, indices)
    rows = np.random.default_rng(SEED).normal(size=(3, matrix.shape[0]))
    columns, times = np.asfortranarray(rows.T), {}

    def timed(step, call, *arguments):
        start = time.thread_time()
        result = call(*arguments)
        times.setdefault(step, []).append(1e3 * (time.thread_time() - start))
        return result

    for _ in range(repetitions):
        factor = timed("factor", factorise, values, analysis)
        logdet = timed("logdet", log_determinant, factor, analysis)
        solved = timed("solves", solve, factor, analysis, rows)
        timed("inverse", selected_inverse, factor, analysis)
        options = {"SymmetricMode": True}
        lu = timed("splu", splu, matrix, "MMD_AT_PLUS_A", 0.0, None, None, options)
        peer = timed("its solves", lambda lu=lu: (np.log(lu.U.diagonal()).sum(), lu.solve(columns)))
    np.testing.assert_allclose(logdet, peer[0], rtol=1e-10)
    np.testing.assert_allclose(solved, peer[1].T, rtol=1e-6, atol=1e-8 * np.abs(peer[1]).max())
    medians = {step: np.median(taken) for step, taken in times.items()}
    ours = sum(medians[step] for step in ("factor", "logdet", "solves", "inverse"))
    ratio = ours / (medians["splu"] + medians["its solves"])
    cells = "".join(f"{medians[step]:>11.2f}" for step in medians)
    missed = " missed" if bar is not None and ratio > bar else ""
    print(f"{name:10}{cells}{ours:>10.2f}{ratio:>8.3f} ({bar}{missed}){seconds:>9.3f}", flush=True)


def compile_seconds():
    """Print CPU seconds until each kernel has been called; the cache on disk is empty."""
    import numpy as np
    import scipy.sparse as sp

    from pm_gaussgrad.kernels.sparse.analysis import analyse
    from pm_gaussgrad.kernels.sparse.products import multiply
    from pm_gaussgrad.ops.compiled import compiled_function

    values, indptr, indices = _pattern(sp.csc_matrix(lattice(40)))
    rows, taken = np.ones((3, 1600)), {}

    def timed(name, call, *arguments):
        start = time.process_time()
        result = call(*arguments)
        taken[name] = time.process_time() - start
        return result

    def numeric():
        factorise, log_determinant, solve, selected_inverse = _kernels()
        factor = factorise(values, analysis)
        log_determinant(factor, analysis)
        solve(factor, analysis, rows)
        selected_inverse(factor, analysis)

    timed("warm-up", lambda: compiled_function(multiply)(values, indptr, indices, rows))
    analysis = timed("analysis", analyse, indptr, indices, compiled_function)
    timed("kernels", numeric)
    print("CPU seconds: " + ", ".join(f"{name} {spent:.1f}" for name, spent in taken.items()))


def main():
    """Print a line a matrix."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sparse")
    parser.add_argument("matrices", nargs="*", choices=[*MATRICES, []], metavar="MATRIX")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="a lattice of 10^6 nodes")
    parser.add_argument("--compile", action="store_true", help="compile from nothing, and stop")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gaussgrad_sparse_") as cache:
        prepare_process(cache)
        if options.compile:
            compile_seconds()
            return
        head = ("factor", "logdet", "solves", "inverse", "splu", "its solves")
        steps = "".join(f"{step:>11}" for step in head)
        print(f"{'matrix':10}{steps}{'ours':>10}   ratio (bar)  analysis")
        for name, (build, bar) in MATRICES.items():
            if not options.matrices or name in options.matrices:
                measure(name, build, bar, options.repetitions)
        if options.large:
            measure("10^6 nodes", partial(lattice, 1000), None, 2)


if __name__ == "__main__":
    main()
