r"""A root of the covariance of fields that sum to zero, from that of the same that do not.

With Sigma_0 = B P^-1 B' + D = S_0 S_0', u = B V, c = B P^-1 V and s = V'P^-1 V,

    Sigma = Sigma_0 - u c' - c u' + u s u' = S_0 (I + F J F') S_0',    F = S_0^-1 [u, c],

J = [[s, -I], [-I, 0]]. Let F = Theta C with orthonormal columns of Theta, and L L' = I + C J C'.
Then S = S_0 (I + Theta (L - I) Theta').
"""

import numpy as np

from pm_gaussgrad.kernels.lapack import cholesky

# What is left of a column, relative to it, that is rounding.
_ROUNDING = 1e-13


def root_of_centring(white, held):
    """Theta' (k, n), and L (k, k), of which the lower triangle has a meaning.

    ``white`` (2 r, n) has the rows of F', and is overwritten; ``held`` is s (r, r).
    """
    count = white.shape[0]
    half, basis = count // 2, np.empty(white.shape)
    shares, k = np.zeros((count, count)), 0
    for i in range(count):
        size = np.sqrt(np.dot(white[i], white[i]))
        for _ in range(2):
            for j in range(k):
                share = np.dot(basis[j], white[i])
                shares[i, j] += share
                white[i] -= share * basis[j]
        left = np.sqrt(np.dot(white[i], white[i]))
        if left > _ROUNDING * size:
            basis[k] = white[i] / left
            shares[i, k] = left
            k += 1
    inner = np.zeros((k, k))
    for a in range(k):
        inner[a, a] = 1
        for b in range(a + 1):
            for i in range(half):
                for j in range(half):
                    inner[a, b] += shares[i, a] * held[i, j] * shares[j, b]
                inner[a, b] -= shares[i, a] * shares[half + i, b]
                inner[a, b] -= shares[half + i, a] * shares[i, b]
    if not cholesky(inner):
        inner[:] = np.nan
    return basis[:k].copy(), inner


def apply_root(rows, basis, inner, inverse):
    """Overwrite each row z by (I + Theta (L - I) Theta') z, or by that of the inverse."""
    k = basis.shape[0]
    for r in range(rows.shape[0]):
        shares, changed = np.empty(k), np.empty(k)
        for i in range(k):
            shares[i] = np.dot(basis[i], rows[r])
        for i in range(k):
            total = shares[i] if inverse else 0.0
            for j in range(i):
                total += -inner[i, j] * changed[j] if inverse else inner[i, j] * shares[j]
            changed[i] = total / inner[i, i] if inverse else total + inner[i, i] * shares[i]
        for i in range(k):
            rows[r] += (changed[i] - shares[i]) * basis[i]
