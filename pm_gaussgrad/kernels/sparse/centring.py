r"""Fields that sum to zero: x = C z, where C takes from nodes the means over their components.

z has the precision Q, x the covariance C Q^-1 C, C = I - V V', a column of V with equal entries on
each component. In :mod:`pm_gaussgrad.kernels.sparse.latents` B C takes the place of B, so that

    H = P + C M C,    M = B'D^-1 B,

which is not sparse (P, there, has Q for the fields). With the sparse H_0 = P + M, K = P V,
X = H_0^-1 V, N = H_0^-1 K, and matrices with as many rows as components,

    a = V'X = L_a L_a',    b = V'N,    t = (B V)'D^-1 B N + b'a^-1 b = L_t L_t',

it is, by Sylvester's and Woodbury's identities for H - H_0 = -V V'M - M V V' + V (V'M V) V',

    log|H| = log|H_0| + log|a| + log|t|,
    H^-1 = H_0^-1 - X_w X_w' + Y_w Y_w',    C H^-1 C = H_0^-1 - X_w X_w' + W_w W_w',

    X_w = X L_a'^-1,    W_w = (X a^-1 b - N) L_t'^-1,    Y_w = W_w + V L_t'^-1.

The first takes out what the data say of the mean of z, the second gives back what Q does. No
difference of large numbers is taken, however small the noise, and it does not matter how Q holds
the mean, which has no part in x.

Sources: Rue and Held (2005), Gaussian Markov Random Fields, section 2.3.3 (conditioning by
kriging); Harville (1997), Matrix Algebra from a Statistician's Perspective, theorems 18.1.1 and
18.2.8.
"""

import numpy as np

from pm_gaussgrad.kernels.lapack import cholesky

# The roots that are returned together, (3, r, p).
OUT, IN, MEAN_IN = range(3)


def unit_vectors(centred):
    """V' (r, p): of each component equal entries, of length one.

    ``centred`` (p) has the numbers of the components, 0, 1, ..., and -1 of what is in none.
    """
    count = 0
    for i in range(centred.size):
        count = max(count, centred[i] + 1)
    unit, sizes = np.zeros((count, centred.size)), np.zeros(count)
    for i in range(centred.size):
        if centred[i] >= 0:
            sizes[centred[i]] += 1
    for i in range(centred.size):
        if centred[i] >= 0:
            unit[centred[i], i] = 1 / np.sqrt(sizes[centred[i]])
    return unit


def centre(rows, centred):
    """Overwrite each row x of ``rows`` (m, p) by C x."""
    totals, sizes = np.empty(centred.size), np.empty(centred.size)
    for r in range(rows.shape[0]):
        row = rows[r]
        for i in range(centred.size):
            totals[i], sizes[i] = 0.0, 0.0
        for i in range(centred.size):
            if centred[i] >= 0:
                totals[centred[i]] += row[i]
                sizes[centred[i]] += 1
        for i in range(centred.size):
            if centred[i] >= 0:
                row[i] -= totals[centred[i]] / sizes[centred[i]]


def centred_roots(both, solved, seen, variance):
    """log|a| + log|t|, and X_w', W_w' and Y_w' as (3, r, p), of which ``OUT`` is taken out.

    Parameters
    ----------
    both : array, shape (2 r, p)
        V' and N'.
    solved : array, shape (2 r, p)
        X', and what is not read.
    seen : array, shape (2 r, n)
        (B V)' and (B N)'.
    variance : array, shape (n)

    Returns
    -------
    float, array
        NaN where a matrix has no root.
    """
    count, n = len(both) // 2, variance.size
    unit, held, out = both[:count], both[count:], solved[:count]
    weighted = np.empty((count, n))
    for i in range(count):
        for j in range(n):
            weighted[i, j] = seen[i, j] / variance[j]
    a, mixed = _products(unit, out), _products(unit, held)
    t, roots = _products(weighted, seen[count:]), np.empty((3, count, unit.shape[1]))
    _copy(out, 1.0, roots[OUT])
    done = cholesky(a)
    _solve_lower(a, roots[OUT])
    _solve_lower(a, mixed)
    _copy(held, -1.0, roots[IN])
    _copy(unit, 1.0, roots[MEAN_IN])
    for k in range(count):
        for i in range(count):
            _add(roots[IN, i], mixed[k, i], roots[OUT, k])
            for j in range(i + 1):
                t[i, j] += mixed[k, i] * mixed[k, j]
                t[j, i] += mixed[k, i] * mixed[k, j] if i != j else 0.0
    for i in range(count):
        for j in range(i):
            t[i, j] = (t[i, j] + t[j, i]) / 2
    done = cholesky(t) and done
    _solve_lower(t, roots[IN])
    _solve_lower(t, roots[MEAN_IN])
    logarithm = 0.0 if done else np.nan
    for i in range(count):
        _add(roots[MEAN_IN, i], 1.0 if done else np.nan, roots[IN, i])
        logarithm += 2 * np.log(a[i, i]) + 2 * np.log(t[i, i])
    return logarithm, roots


def _copy(rows, factor, copied):
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            copied[i, j] = factor * rows[i, j]


def _add(row, factor, other):
    """Add a multiple of another row."""
    if factor != 0:
        for j in range(row.size):
            row[j] += factor * other[j]


def _solve_lower(root, rows):
    """Overwrite rows (r, k) by L^-1 times them."""
    for i in range(rows.shape[0]):
        for k in range(i):
            _add(rows[i], -root[i, k], rows[k])
        for j in range(rows.shape[1]):
            rows[i, j] /= root[i, i]


def _products(left, right):
    """left @ right', (r, k), (s, k) -> (r, s)."""
    products = np.empty((left.shape[0], right.shape[0]))
    for i in range(left.shape[0]):
        for j in range(right.shape[0]):
            total = 0.0
            for k in range(left.shape[1]):
                total += left[i, k] * right[j, k]
            products[i, j] = total
    return products


def add_roots(rows, changed, roots, given_back):
    """Add (-X_w X_w' + Y_w Y_w') r to each row of ``changed``, of the rows r (m, p).

    With ``given_back`` the number ``IN`` it is W_w that is added, with ``MEAN_IN`` Y_w.
    """
    for r in range(rows.shape[0]):
        for k in range(roots.shape[1]):
            out, back = 0.0, 0.0
            for i in range(rows.shape[1]):
                out += roots[OUT, k, i] * rows[r, i]
                back += roots[given_back, k, i] * rows[r, i]
            for i in range(rows.shape[1]):
                changed[r, i] += back * roots[given_back, k, i] - out * roots[OUT, k, i]


def add_to_rows(half, seen, roots, entries):
    """Add B (-X_w X_w' + W_w W_w') at the entries of B, of B X_w and B W_w, (2 r, n)."""
    count = roots.shape[1]
    for e in range(half.size):
        row, column = entries[0, e], entries[1, e]
        for k in range(count):
            half[e] += seen[count + k, row] * roots[IN, k, column]
            half[e] -= seen[k, row] * roots[OUT, k, column]


def at_entry(roots, i, j):
    """Entry i, j of -X_w X_w' + Y_w Y_w'."""
    total = 0.0
    for k in range(roots.shape[1]):
        total += roots[MEAN_IN, k, i] * roots[MEAN_IN, k, j] - roots[OUT, k, i] * roots[OUT, k, j]
    return total
