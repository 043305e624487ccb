"""Random effects in relative form: the factors of small covariances, which may be singular.

G (k, k) of a term is P L L'P', by pivots of the matrix in units of its diagonal, largest first. A
pivot that is zero but for rounding is ``TINY`` instead of zero.

Sources: Higham (1990), Analysis of the Cholesky decomposition of a semi-definite matrix, in Cox and
Hammarling (eds.), Reliable Numerical Computation; Bates et al. (2015), Journal of Statistical
Software 67, section 2.
"""

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.sparse.arrangement import TERM_SIZE, TERM_START
from pm_gaussgrad.kernels.sparse.layout import section

# Its square vanishes beside everything; a column of B that it scales keeps its relative precision.
TINY = 1e-150
_ROUNDING = 8 * float(np.finfo(np.float64).eps)


@apart("float64 1", "int64 1")
def relative_factors(covariances, index):
    """The factors L of all terms, one after the other, and the pivots of each.

    NaN where a matrix is not positive semidefinite, or not finite.
    """
    size = section(index, TERM_SIZE)
    factors, pivots = np.zeros(covariances.size), np.empty(size.sum(), np.int64)
    offset, first = 0, 0
    for term in range(size.size):
        k = size[term]
        matrix = covariances[offset : offset + k * k].copy()
        factor, order = factors[offset : offset + k * k], pivots[first : first + k]
        if not _factor(matrix, factor, order, k):
            factors[:] = np.nan
        offset += k * k
        first += k
    return factors, pivots


@apart("float64 1", "float64 1", "int64 1", "int64", result=("bool",))
def _factor(matrix, factor, order, k):
    """Write the factor and the pivots of a matrix, which is overwritten; False where it has none.

    Its lower triangle is read.
    """
    scale = np.empty(k)
    for i in range(k):
        order[i] = i
    for i in range(k):
        scale[i] = matrix[i * k + i]
        if not (scale[i] >= 0 and scale[i] < np.inf):
            return False
    for j in range(k):
        best, largest = j, -np.inf
        for i in range(j, k):
            own = order[i]
            share = matrix[own * k + own] / scale[own] if scale[own] > 0 else 0.0
            if share > largest:
                best, largest = i, share
        order[j], order[best] = order[best], order[j]
        for i in range(j):  # the rows of the factor are those of the pivots
            factor[j * k + i], factor[best * k + i] = factor[best * k + i], factor[j * k + i]
        if not largest > k * _ROUNDING:
            return _is_rounding(matrix, scale, order, j, k, factor)
        own = order[j]
        pivot = max(np.sqrt(matrix[own * k + own]), TINY)
        factor[j * k + j] = pivot
        for i in range(j + 1, k):
            factor[i * k + j] = _lower(matrix, order[i], own, k) / pivot
        for i in range(j + 1, k):
            for c in range(j + 1, i + 1):
                a, b = max(order[i], order[c]), min(order[i], order[c])
                matrix[a * k + b] -= factor[i * k + j] * factor[c * k + j]
    return True


def _lower(matrix, a, b, k):
    return matrix[max(a, b) * k + min(a, b)]


@apart("float64 1", "float64 1", "int64 1", "int64", "int64", "float64 1", result=("bool",))
def _is_rounding(matrix, scale, order, j, k, factor):
    """Whether what is left of a matrix is zero but for rounding; then with tiny pivots."""
    for i in range(j, k):
        for c in range(j, i + 1):
            bound = k * _ROUNDING * np.sqrt(scale[order[i]]) * np.sqrt(scale[order[c]])
            if not abs(_lower(matrix, order[i], order[c], k)) <= bound:
                return False
        factor[i * k + i] = TINY
    return True


def relative_loadings(loadings, factors, pivots, entries, index):
    """The values of B = A Lambda, entry by entry as those of A."""
    relative = loadings.copy()
    if factors.size > 0:
        _scale(loadings, factors, pivots, entries, index, relative)
    return relative


@apart("float64 1", "float64 1", "int64 1", "int64 2", "int64 1", "float64 1", result=())
def _scale(loadings, factors, pivots, entries, index, relative):
    size, start, columns = section(index, TERM_SIZE), section(index, TERM_START), entries[1]
    term, offset, first, e = 0, 0, 0, 0
    while e < loadings.size:
        if columns[e] >= start[-1]:
            e += 1
            continue
        if columns[e] < start[term]:
            term, offset, first = 0, 0, 0
        while columns[e] >= start[term + 1]:
            offset += size[term] * size[term]
            first += size[term]
            term += 1
        k = size[term]
        if k == 1:
            relative[e] = loadings[e] * factors[offset]
            e += 1
            continue
        for b in range(k):
            total = 0.0
            for a in range(b, k):
                total += loadings[e + pivots[first + a]] * factors[offset + a * k + b]
            relative[e + b] = total
        e += k


@apart("float64 1", "int64 1", "float64 2", "int64 1", result=())
def without_factor_transposed(factors, pivots, latent, index):
    """Overwrite the effects u in each row of ``latent`` by Lambda'^-1 u."""
    size, start = section(index, TERM_SIZE), section(index, TERM_START)
    for i in range(latent.shape[0]):
        offset, first = 0, 0
        for term in range(size.size):
            k = size[term]
            found = np.empty(k)
            for g in range(start[term], start[term + 1], k):
                for b in range(k - 1, -1, -1):
                    total = latent[i, g + b]
                    for a in range(b + 1, k):
                        total -= factors[offset + a * k + b] * found[a]
                    found[b] = total / factors[offset + b * k + b]
                for b in range(k):
                    latent[i, g + pivots[first + b]] = found[b]
            offset += k * k
            first += k


@apart("float64 1", "int64 1", "float64 1", "int64 1", result=())
def without_factor(factors, pivots, products, index):
    """Overwrite X Lambda of each term by the symmetric X."""
    size = section(index, TERM_SIZE)
    offset, first = 0, 0
    for term in range(size.size):
        k = size[term]
        found = np.zeros((k, k))
        for a in range(k):
            for b in range(k - 1, -1, -1):
                total = products[offset + a * k + b]
                for c in range(b + 1, k):
                    total -= found[a, pivots[first + c]] * factors[offset + c * k + b]
                found[a, pivots[first + b]] = total / factors[offset + b * k + b]
        for a in range(k):
            for b in range(k):
                products[offset + a * k + b] = (found[a, b] + found[b, a]) / 2
        offset += k * k
        first += k
