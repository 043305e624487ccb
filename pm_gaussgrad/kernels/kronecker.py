"""Products of a Kronecker product with rows, one factor at a time, and their adjoints.

A row of length n = n_1 n_2 ... n_k is an array with k axes, the last of which varies fastest, and
K_1 x ... x K_k times the row is K_i applied along axis i for every i: k matrix products with
n (n_1 + ... + n_k) multiplications instead of n^2. Each acts on the last axis, which is moved in
front of the others afterwards; after k of them the axes are in their order again (the shuffle
algorithm: Davio, 1981; Fernandes, Plateau and Stewart, 1998, section 2).

Factors come as a sequence of square C-contiguous arrays of one dtype.
"""

import numpy as np

from pm_gaussgrad.kernels.definite import definite_cholesky, rounding_level
from pm_gaussgrad.kernels.lapack import (
    eigen,
    matrix_product,
    solve_lower,
    solve_lower_transposed,
)
from pm_gaussgrad.kernels.symmetric import (
    copy_lower,
    copy_rows,
    fold_to_lower,
    is_symmetric,
    log_product,
    rows_dot,
)


def rotate(rows, size, out):
    """Move the last axis of each row, ``size`` entries long, in front: (m, n) -> out (m, n)."""
    m, n = rows.shape
    rest = n // size
    for i in range(m):
        for a in range(rest):
            for b in range(size):
                out[i, b * rest + a] = rows[i, a * size + b]


def fibres(rows, size):
    """The rows cut into pieces of ``size``, the last axis: (m, n) -> (m n / size, size)."""
    return rows.reshape((rows.size // size, size))


def factor_product(rows, matrix):
    """A matrix (t, s) along the last axis of each row, then moved in front: (m, n) -> n t / s."""
    (m, n), (t, s) = rows.shape, matrix.shape
    if s * t == 0:
        return (np.zeros((m, 0), rows.dtype),)
    work = np.empty((m, n // s * t), rows.dtype)
    matrix_product(fibres(copy_rows(rows), s), copy_rows(matrix).T, fibres(work, t))
    product = np.empty(work.shape, rows.dtype)
    rotate(work, t, product)
    return (product,)


def empty_matrix(matrix):
    """An uninitialised C-contiguous array of the shape and dtype of a matrix."""
    return np.empty(matrix.shape, matrix.dtype)


def empty_vector(matrix):
    """An uninitialised vector as long as a matrix has rows."""
    return np.empty(matrix.shape[0], matrix.dtype)


def check_product(factors, n):
    """Raise unless n is the product of the factors' sizes."""
    product = 1
    for factor in factors:
        product *= factor.shape[0]
    if product != n:
        raise ValueError(
            "gg.cov.Kronecker: the sizes of `residual` (m, n) and of the factors disagree in n; n "
            "must be the product of the factors' sizes"
        )


def cholesky_forward(residual, factors):
    """quad, logdet, alpha and the whitened rows; overwrites ``factors`` by their Cholesky factors.

    With L = L_1 x ... x L_k the whitened rows are L^-1 r, and alpha = L'^-1 L^-1 r.
    """
    n = residual.shape[1]
    check_product(factors, n)
    white, work = copy_rows(residual), np.empty(residual.shape, residual.dtype)
    logdet = 0.0
    if n == 0:
        return rows_dot(white, white), logdet, white.copy(), white
    for j in range(len(factors) - 1, -1, -1):
        size = factors[j].shape[0]
        definite_cholesky(factors[j])
        logdet += 2 * (n // size) * log_product(np.diag(factors[j]))
        solve_lower(factors[j], fibres(white, size))
        rotate(white, size, work)
        white, work = work, white
    alpha = white.copy()
    for j in range(len(factors) - 1, -1, -1):
        size = factors[j].shape[0]
        solve_lower_transposed(factors[j], fibres(alpha, size))
        rotate(alpha, size, work)
        alpha, work = work, alpha
    return rows_dot(white, white), logdet, alpha, white


def cholesky_pullback(white, factors, quad_bar, logdet_bar, bars):
    """Write the cotangents of the factors to ``bars``.

    With W_i(j) the i-th whitened row unfolded along axis j, (n_j, n / n_j),
    bar_j = L_j'^-1 (logdet_bar n / n_j I - sum_i quad_bar_i W_i(j) W_i(j)') L_j^-1.
    """
    n = white.shape[1]
    if n == 0:
        return set_to_zero(bars)
    current, work = copy_rows(white), np.empty(white.shape, white.dtype)
    for j in range(len(factors) - 1, -1, -1):
        bar, size = bars[j], factors[j].shape[0]
        for i in range(current.shape[0]):
            for a in range(n):
                work[i, a] = -quad_bar[i] * current[i, a]
        matrix_product(fibres(current, size).T, fibres(work, size), bar)
        for a in range(size):
            bar[a, a] += logdet_bar * (n // size)
        # The matrix is symmetric: its rows solved, transposed and solved again.
        solve_lower_transposed(factors[j], bar)
        transpose(bar)
        solve_lower_transposed(factors[j], bar)
        rotate(current, size, work)
        current, work = work, current


def set_to_zero(bars):
    """Zero cotangents: of no observations."""
    for bar in bars:
        bar[:] = 0


def fold_asymmetric(bars, symmetric):
    """Cotangents of the lower triangles, where ``symmetric`` is zero."""
    for j in range(len(bars)):
        if symmetric[j] == 0:
            fold_to_lower(bars[j])


def transpose(a):
    """Transpose a square array in place."""
    for i in range(a.shape[0]):
        for j in range(i):
            a[i, j], a[j, i] = a[j, i], a[i, j]


def outer_products(values, first, count):
    """Products of an entry each of ``count`` vectors, cyclically from ``values[first]`` on.

    ``(0, k)`` is the diagonal of the Kronecker product of diagonal matrices; ``(j + 1, k - 1)``
    leaves out factor j, with the axes in the order in which :func:`rotate` brings axis j last.
    """
    products = np.ones(1, values[0].dtype)
    for step in range(count):
        vector = values[(first + step) % len(values)]
        longer = np.empty(products.size * vector.size, vector.dtype)
        for a in range(products.size):
            for b in range(vector.size):
                longer[a * vector.size + b] = products[a] * vector[b]
        products = longer
    return products


def noisy_spectrum(values, noise):
    """Eigenvalues of K_1 x ... x K_k + noise I, in the order of the axes.

    NaN where one is not positive, or no more than the rounding of the largest: the eigenvalues of
    a factor are right to some eps of its largest, and so are their products and sums.
    """
    spectrum = outer_products(values, 0, len(values))
    size, largest = 0, 0.0
    for factor_values in values:
        size = max(size, factor_values.size)
    for a in range(spectrum.size):
        largest = max(largest, abs(spectrum[a]))
        spectrum[a] += noise
        largest = max(largest, spectrum[a])
    level = rounding_level(size, np.finfo(spectrum.dtype).eps)
    for a in range(spectrum.size):
        if not spectrum[a] > level * largest:
            spectrum[a] = np.nan
    return spectrum


def spectral_forward(residual, factors, values, noise):
    """quad, logdet, alpha and its rotated rows, for K_1 x ... x K_k + noise I.

    Overwrites each factor by its eigenvectors, one a row, and ``values`` by the eigenvalues. The
    rotated rows are alpha in the basis of the eigenvectors.
    """
    n = residual.shape[1]
    check_product(factors, n)
    if n == 0:
        rows = copy_rows(residual)
        return rows_dot(rows, rows), 0.0, rows, rows.copy()
    for j in range(len(factors)):
        if not eigen(factors[j], values[j]):
            values[j][:] = np.nan
    return in_basis(residual, factors, noisy_spectrum(values, noise))


def in_basis(residual, vectors, spectrum):
    """quad, log determinant of the spectrum, alpha and its rotated rows.

    With T = T_1 x ... x T_k, whose columns ``vectors`` hold in rows, Sigma^-1 = T diag(1 / s) T'.
    """
    rows, work = copy_rows(residual), np.empty(residual.shape, residual.dtype)
    for j in range(len(vectors) - 1, -1, -1):
        size = vectors[j].shape[0]
        matrix_product(fibres(rows, size), vectors[j].T, fibres(work, size))
        rotate(work, size, rows)
    rotated = rows / spectrum
    quad = rows_dot(rows, rotated)
    alpha = rotated.copy()
    for j in range(len(vectors) - 1, -1, -1):
        size = vectors[j].shape[0]
        matrix_product(fibres(alpha, size), vectors[j], fibres(work, size))
        rotate(work, size, alpha)
    return quad, log_product(spectrum), alpha, rotated


def spectral_pullback(rotated, vectors, values, noise, quad_bar, logdet_bar, bars):
    """Write the cotangents of the factors to ``bars`` and return that of the noise."""
    if rotated.shape[1] == 0:
        set_to_zero(bars)
        return 0.0
    inverse = inverse_row(noisy_spectrum(values, noise))
    term_pullback(rotated, inverse, vectors, (values,), quad_bar, logdet_bar, (bars,))
    return logdet_bar * inverse.sum() - (quad_bar * rows_dot(rotated, rotated)).sum()


def inverse_row(spectrum):
    """Reciprocals as a row, (n,) -> (1, n)."""
    inverse = np.empty((1, spectrum.size), spectrum.dtype)
    for a in range(spectrum.size):
        inverse[0, a] = 1 / spectrum[a]
    return inverse


def term_pullback(rotated, inverse, vectors, terms, quad_bar, logdet_bar, term_bars):
    """Write the cotangents of the factors of each term of Sigma, a product, to ``term_bars``.

    T_j' K_j T_j = diag(mu_j) for the columns T_j in the rows of ``vectors``, and ``terms`` has mu;
    ``inverse`` (1, n) has the 1 / s of Sigma^-1 = T diag(1 / s) T'. With A_i(j) the i-th rotated
    row unfolded along axis j, and w the products of the eigenvalues of the other factors,
    bar_j = T_j S_j T_j' where
    S_j = logdet_bar diag_a(sum_b w_b / s_ab) - sum_i quad_bar_i A_i(j) w A_i(j)'.
    """
    k = len(vectors)
    rows, work, inverse = copy_rows(rotated), np.empty(rotated.shape, rotated.dtype), inverse.copy()
    turned = np.empty(inverse.shape, inverse.dtype)
    for j in range(k - 1, -1, -1):
        size = vectors[j].shape[0]
        core, product = empty_matrix(vectors[j]), empty_matrix(vectors[j])
        for t in range(len(terms)):
            others, traces = outer_products(terms[t], j + 1, k - 1), np.zeros(size, rows.dtype)
            for b in range(others.size):
                for i in range(rows.shape[0]):
                    for a in range(b * size, (b + 1) * size):
                        work[i, a] = -quad_bar[i] * others[b] * rows[i, a]
                for a in range(size):
                    traces[a] += others[b] * inverse[0, b * size + a]
            matrix_product(fibres(rows, size).T, fibres(work, size), core)
            for a in range(size):
                core[a, a] += logdet_bar * traces[a]
            matrix_product(core, vectors[j], product)
            matrix_product(vectors[j].T, product, term_bars[t][j])
        rotate(rows, size, work)
        rotate(inverse, size, turned)
        rows, work = work, rows
        inverse, turned = turned, inverse


def forward(residual, factors):
    """What :func:`cholesky_forward` returns, the Cholesky factors, whether each is symmetric."""
    lower = [copy_lower(factor) for factor in factors]
    symmetric = [is_symmetric(factor) for factor in factors]
    quad, logdet, alpha, white = cholesky_forward(residual, lower)
    return quad, logdet, alpha, white, lower, symmetric


def pullback(white, lower, symmetric, quad_bar, logdet_bar):
    """Cotangents of the factors."""
    bars = [empty_matrix(factor) for factor in lower]
    cholesky_pullback(white, lower, quad_bar, logdet_bar, bars)
    fold_asymmetric(bars, symmetric)
    return (bars,)


def noisy_forward(residual, factors, noise):
    """What :func:`spectral_forward` returns, eigenvectors, eigenvalues, whether symmetric."""
    vectors = [copy_lower(factor) for factor in factors]
    values = [empty_vector(factor) for factor in factors]
    symmetric = [is_symmetric(factor) for factor in factors]
    quad, logdet, alpha, rotated = spectral_forward(residual, vectors, values, noise)
    return quad, logdet, alpha, rotated, vectors, values, symmetric


def noisy_pullback(noise, rotated, vectors, values, symmetric, quad_bar, logdet_bar):
    """Cotangents of the factors and of the noise."""
    bars = [empty_matrix(x) for x in vectors]
    noise_bar = spectral_pullback(rotated, vectors, values, noise, quad_bar, logdet_bar, bars)
    fold_asymmetric(bars, symmetric)
    return bars, noise_bar
