r"""A root of the covariance of fields that sum to zero, from that of the same that do not.

With Sigma_0 = B P^-1 B' + D = S_0 S_0', and X_w and W_w of
:mod:`pm_gaussgrad.kernels.sparse.centring`,

    Sigma^-1 = Sigma_0^-1 + D^-1 B (X_w X_w' - W_w W_w') B'D^-1 = S_0'^-1 (I + F J F') S_0^-1,
    F = S_0'D^-1 B [X_w, W_w],    J = diag(I, -I).

Let F = Theta C with orthonormal columns of Theta, and L L' = I + C J C'. Then
S^-1 = (I + Theta (L' - I) Theta') S_0^-1. It is the inverse to which much is added where the noise
is small; what the covariance loses there would be a difference of large numbers.
"""

import numpy as np

from pm_gaussgrad.kernels.lapack import cholesky

# What is left of a column, relative to it, that is rounding.
_ROUNDING = 1e-13


def root_of_centring(white):
    """Theta' (k, n), and L (k, k), of which the lower triangle has a meaning.

    ``white`` (2 r, n) has the rows of F', and is overwritten.
    """
    count = white.shape[0]
    basis, shares, k = np.empty(white.shape), np.zeros((count, count)), 0
    for i in range(count):
        size = np.sqrt(np.dot(white[i], white[i]))
        for _ in range(2):
            for j in range(k):
                share = np.dot(basis[j], white[i])
                shares[i, j] += share
                white[i] -= share * basis[j]
        left = np.sqrt(np.dot(white[i], white[i]))
        if not left <= _ROUNDING * size:
            basis[k] = white[i] / left
            shares[i, k] = left
            k += 1
    inner = np.zeros((k, k))
    for a in range(k):
        inner[a, a] = 1
        for b in range(a + 1):
            for i in range(count):
                product = shares[i, a] * shares[i, b]
                inner[a, b] += product if 2 * i < count else -product
    if not cholesky(inner):
        inner[:] = np.nan
    return basis[:k].copy(), inner


def apply_root(rows, basis, inner, inverse):
    """Overwrite each row z by (I + Theta (L'^-1 - I) Theta') z, or by that of the inverse."""
    k = basis.shape[0]
    for r in range(rows.shape[0]):
        shares, changed = np.empty(k), np.empty(k)
        for i in range(k):
            shares[i] = np.dot(basis[i], rows[r])
        for i in range(k - 1, -1, -1):
            total = inner[i, i] * shares[i] if inverse else shares[i]
            for j in range(i + 1, k):
                total += inner[j, i] * shares[j] if inverse else -inner[j, i] * changed[j]
            changed[i] = total if inverse else total / inner[i, i]
        for i in range(k):
            rows[r] += (changed[i] - shares[i]) * basis[i]
