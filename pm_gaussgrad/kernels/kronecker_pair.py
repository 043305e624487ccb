"""The sum of two Kronecker products, diagonalised one pair of factors at a time.

Each pair (K, R), symmetric, is diagonalised by a congruence: with scales k and r, the base
B = K / k + R / r = C C', and C^-1 (K / k) C'^-1 = V diag(a) V', the columns of T = C'^-1 V have

    T' K T = diag(k a) = diag(mu),    T' R T = diag(r (1 - a)) = diag(nu),    T' B T = I,

where a is between 0 and 1. B is positive definite wherever the sum is, so that K or R may be
singular: neither has a part to play that the other has not. Rounding of C changes a by
t' dB t, |t' dB t| <= eps sum_j B_jj t_j^2, whatever the units of the observations are.

Sources: Golub and Van Loan (2013), Matrix Computations, 4th ed., section 8.7 (the generalised
eigenproblem); Stewart and Sun (1990), Matrix Perturbation Theory, section VI.3 (pencils by a base
that combines both matrices).
"""

import numpy as np

from pm_gaussgrad.kernels.definite import definite_cholesky, rounding_level
from pm_gaussgrad.kernels.kronecker import (
    check_product,
    empty_matrix,
    empty_vector,
    fold_asymmetric,
    in_basis,
    inverse_row,
    outer_products,
    set_to_zero,
    term_pullback,
    transpose,
)
from pm_gaussgrad.kernels.lapack import eigen, solve_lower, solve_lower_transposed
from pm_gaussgrad.kernels.symmetric import (
    copy_lower,
    copy_rows,
    is_symmetric,
    log_product,
    rows_dot,
)

# Of the factor of the base and of the eigenvalues.
ROUNDINGS = 2


def diagonal_scale(matrix):
    """A power of two near the geometric mean of the positive diagonal entries; 1 if there are none.

    Divisions by it are exact.
    """
    total, count = 0.0, 0
    for j in range(matrix.shape[0]):
        if matrix[j, j] > 0:
            total += np.log2(matrix[j, j])
            count += 1
    return np.exp2(np.rint(total / max(count, 1)))


def diagonalise(matrix, other, values, other_values, upper, other_upper):
    """Overwrite a matrix by the columns of T in its rows; return log|T|.

    ``values`` and ``other_values`` become mu and nu, ``upper`` and ``other_upper`` the most that
    these are up to rounding. NaN where the base is not positive definite. The lower triangles of
    both matrices are read, and that of the first is written.
    """
    n = matrix.shape[0]
    scale, other_scale = diagonal_scale(matrix), diagonal_scale(other)
    base, diagonal = empty_matrix(matrix), empty_vector(matrix)
    for i in range(n):
        for j in range(i + 1):
            matrix[i, j] /= scale
            matrix[j, i] = matrix[i, j]
            base[i, j] = matrix[i, j] + other[i, j] / other_scale
        diagonal[i] = base[i, i]
    definite_cholesky(base)
    # The matrix is symmetric: its rows solved, transposed and solved again.
    solve_lower(base, matrix)
    transpose(matrix)
    solve_lower(base, matrix)
    if not eigen(matrix, values):
        values[:] = np.nan
    solve_lower_transposed(base, matrix)
    level = ROUNDINGS * rounding_level(n, np.finfo(matrix.dtype).eps)
    for i in range(n):
        rounding = 0.0
        for j in range(n):
            rounding += level * diagonal[j] * matrix[i, j] ** 2
        other_values[i] = other_scale * (1 - values[i])
        other_upper[i] = other_values[i] + other_scale * rounding
        values[i] *= scale
        upper[i] = values[i] + scale * rounding
    return -log_product(np.diag(base))


def pair_spectrum(values, other_values):
    """Eigenvalues mu_1 x ... x mu_k + nu_1 x ... x nu_k, in the order of the axes."""
    spectrum = outer_products(values, 0, len(values))
    other_spectrum = outer_products(other_values, 0, len(values))
    for a in range(spectrum.size):
        spectrum[a] += other_spectrum[a]
    return spectrum


def forward(residual, factors, others):
    """quad, logdet, alpha, its rotated rows, T, mu and nu of each pair, whether each is symmetric.

    With T = T_1 x ... x T_k and the spectrum s, Sigma^-1 = T diag(1 / s) T'. Where an s is not more
    than half of what it may be up to rounding, the log determinant is NaN.
    """
    n = residual.shape[1]
    check_product(factors, n)
    vectors = [copy_lower(x) for x in factors]
    values, other_values = [empty_vector(x) for x in factors], [empty_vector(x) for x in factors]
    upper, other_upper = [empty_vector(x) for x in factors], [empty_vector(x) for x in factors]
    flags, other_flags = [is_symmetric(x) for x in factors], [is_symmetric(x) for x in others]
    if n == 0:
        rows, alpha = copy_rows(residual), copy_rows(residual)
        quad = rows_dot(rows, rows)
        return quad, 0.0, alpha, rows, vectors, values, other_values, flags, other_flags
    log_scale = 0.0
    for j in range(len(factors)):
        log_scale += (n // others[j].shape[0]) * diagonalise(
            vectors[j], others[j], values[j], other_values[j], upper[j], other_upper[j]
        )
    spectrum = pair_spectrum(values, other_values)
    bounds = pair_spectrum(upper, other_upper)
    for a in range(n):
        if not 2 * spectrum[a] > bounds[a]:
            spectrum[a] = np.nan
    quad, logdet, alpha, rotated = in_basis(residual, vectors, spectrum)
    logdet -= 2 * log_scale
    return quad, logdet, alpha, rotated, vectors, values, other_values, flags, other_flags


def pullback(
    rotated, vectors, values, other_values, symmetric, other_symmetric, quad_bar, logdet_bar
):
    """Cotangents of the factors of the first product, and of those of the second."""
    bars, other_bars = [empty_matrix(x) for x in vectors], [empty_matrix(x) for x in vectors]
    if rotated.shape[1] == 0:
        set_to_zero(bars)
        set_to_zero(other_bars)
        return bars, other_bars
    inverse = inverse_row(pair_spectrum(values, other_values))
    terms, both = (values, other_values), (bars, other_bars)
    term_pullback(rotated, inverse, vectors, terms, quad_bar, logdet_bar, both)
    fold_asymmetric(bars, symmetric)
    fold_asymmetric(other_bars, other_symmetric)
    return bars, other_bars
