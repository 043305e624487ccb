"""Symmetric positive definite Toeplitz matrices, from their first column t (n,).

With the last predictor a = (1, a_1, ..., a_{n-1}) and its innovation variance v, the inverse is
(Gohberg and Semencul, 1972)

    Sigma^-1 = (A A' - B B') / v,

A and B lower triangular Toeplitz with first columns a and b = (0, a_{n-1}, ..., a_1). All
arithmetic is in double precision. Where t is not positive definite the results are NaN, and so
where it is singular up to rounding: v / (t_0 |a|^2), which is no less than the smallest eigenvalue
of Sigma / t_0, is (1 + n / 2) eps or less. (Of sums of (n - 1) / 2 cosines, which are singular,
rounding leaves it at up to 1.5 eps for n = 3, 7 for 15 and 11 for 41, and beyond that at more than
the bound for some: more than a Cholesky factorisation does.)

Sources: Schur (1917), On power series which are bounded in the interior of the unit circle;
Durbin (1960), The fitting of time-series models, eq. 11; Bojanczyk, Brent, de Hoog and Sweet
(1995), On the stability of the Bareiss and related Toeplitz factorization algorithms;
Dietrich and Newsam (1997), Fast and exact simulation of stationary Gaussian processes through
circulant embedding of the covariance matrix.
"""

import numpy as np

from pm_gaussgrad.kernels.fft import fft, inverse_fft, power_of_two, roots_of_unity

# Eigenvalues of a circulant matrix this far below zero, relative to the largest, are rounding.
_ROUNDING = 1e-14


def schur_step(ahead, behind, variance):
    """Reflection coefficient and innovation variance of the next order; generators in place.

    ``behind``, of the order reached, is the column of the lower Cholesky factor from the diagonal
    down, times the square root of its diagonal element, the innovation variance.
    """
    reflection = -ahead[0] / variance
    for i in range(ahead.size):
        x, y = ahead[i], behind[i]
        ahead[i] = x + reflection * y
        behind[i] = y + reflection * x
    behind[0] = variance * (1 - reflection) * (1 + reflection)
    return reflection, behind[0]


def durbin(column):
    """The predictor a (n,) of the last order and the innovation variances (n,) of all orders.

    Schur's recursion finds the reflection coefficients; unlike the inner products of the
    Levinson-Durbin recursion its loops need no order of summation, and it loses less.
    """
    n = column.size
    ahead, behind = column.astype(np.float64), column.astype(np.float64)
    predictor, following = np.zeros(n), np.zeros(n)
    predictor[0] = 1
    variances = np.empty(n)
    variances[0] = behind[0]
    level = (1 + n / 2) * np.finfo(np.float64).eps * behind[0]
    for j in range(1, n):
        if not variances[j - 1] > level:
            variances[j - 1 :] = np.nan
            predictor[:] = np.nan
            break
        reflection, variances[j] = schur_step(ahead[j:], behind[: n - j], variances[j - 1])
        forward, backward = predictor[: j + 1], predictor[: j + 1][::-1]
        updated = following[: j + 1]
        for i in range(j + 1):
            updated[i] = forward[i] + reflection * backward[i]
        predictor, following = following, predictor
    squares = 0.0
    for i in range(n):
        squares += predictor[i] ** 2
    if n > 1 and not variances[-1] > level * squares:
        variances[-1] = np.nan
        predictor[:] = np.nan
    return predictor, variances


def padded(values, size):
    """A complex copy, followed by zeros."""
    copied = np.zeros(size, np.complex128)
    for p in range(values.size):
        copied[p] = values[p]
    return copied


def inverse_rows(predictor, variance, positions):
    """Rows of Sigma^-1 at increasing positions, (s, n), in 2 n^2 multiplications and additions.

    Each row follows from the one before it, one place further on:
    P_{i,j} = P_{i-1,j-1} + (a_i a_j - b_i b_j) / v.
    """
    n = predictor.size
    rows = np.empty((positions.size, n))
    row, following = np.zeros(n), np.zeros(n)
    found = 0
    for i in range(n):
        if found == positions.size:
            break
        ahead = predictor[i] / variance
        behind = predictor[n - i] / variance if i > 0 else 0.0
        following[0] = ahead * predictor[0]
        for j in range(1, n):
            following[j] = row[j - 1] + ahead * predictor[j] - behind * predictor[n - j]
        row, following = following, row
        if positions[found] == i:
            for j in range(n):
                rows[found, j] = row[j]
            found += 1
    return rows


def support(rows):
    """Columns in which some row is not zero, increasing."""
    (m, n), count = rows.shape, 0
    columns = np.empty(n, np.int64)
    for j in range(n):
        for i in range(m):
            if rows[i, j] != 0:
                columns[count] = j
                count += 1
                break
    return columns[:count]


def sparse_rows(rows, predictor):
    """Which rows have so few entries that are not zero that rows of the inverse serve them.

    Those of missing entries, of which there are many. A row of few entries takes n multiplications
    and additions for each, and all together 2 n^2; any other row takes four transforms.
    """
    (m, n), size = rows.shape, power_of_two(2 * predictor.size)
    # Four transforms cost about as much as these multiplications and additions.
    transforms = 16 * size * np.log2(size)
    chosen, gain = np.zeros(m, np.bool_), -2.0 * n * n
    for i in range(m):
        count = 0
        for j in range(n):
            if rows[i, j] != 0:
                count += 1
        if count * n < transforms:
            chosen[i] = True
            gain += transforms - count * n
    if gain <= 0:
        chosen[:] = False
    return chosen


def inverse_times(predictor, variance, rows):
    """Sigma^-1 r and r'Sigma^-1 r for each row r of ``rows`` (m, n).

    By Fourier transforms, and by rows of the inverse for rows of few entries that are not zero.
    """
    few = sparse_rows(rows, predictor)
    if not few.any():
        return dense_inverse_times(predictor, variance, rows)
    columns = support(rows[few])
    if few.all():
        return sparse_inverse_times(predictor, variance, rows, columns)
    of_few = sparse_inverse_times(predictor, variance, rows[few], columns)
    of_others = dense_inverse_times(predictor, variance, rows[~few])
    solved, quad = np.empty(rows.shape, rows.dtype), np.empty(rows.shape[0], rows.dtype)
    position, of = np.zeros(2, np.int64), (of_others, of_few)
    for i in range(rows.shape[0]):
        kind = int(few[i])
        quad[i] = of[kind][1][position[kind]]
        for j in range(rows.shape[1]):
            solved[i, j] = of[kind][0][position[kind], j]
        position[kind] += 1
    return solved, quad


def sparse_inverse_times(predictor, variance, rows, columns):
    """:func:`inverse_times` for rows that are zero except in some columns."""
    (m, n), s = rows.shape, columns.size
    inverse = inverse_rows(predictor, variance, columns)
    solved, quad = np.empty(rows.shape, rows.dtype), np.zeros(m, rows.dtype)
    total = np.empty(n)
    for i in range(m):
        total[:] = 0
        for c in range(s):
            weight = rows[i, columns[c]]
            if weight != 0:
                for j in range(n):
                    total[j] += weight * inverse[c, j]
        for j in range(n):
            solved[i, j] = total[j]
        for c in range(s):
            quad[i] += rows[i, columns[c]] * total[columns[c]]
    return solved, quad


def dense_inverse_times(predictor, variance, rows):
    """:func:`inverse_times` for any rows.

    Four transforms a row: with w = A'r + i B'r, a complex correlation, A A'r - B B'r is the real
    part of the convolution of a + i b with w.
    """
    n = predictor.size
    size = power_of_two(2 * n)
    roots = roots_of_unity(size)
    generator = np.zeros(size, np.complex128)
    generator[0] = predictor[0]
    for p in range(1, n):
        generator[p] = complex(predictor[p], predictor[n - p])
    # The transforms of the correlation and of the convolution.
    filters = np.empty((2, size), np.complex128)
    generator = fft(generator, roots)
    for k in range(size):
        filters[0, k], filters[1, k] = generator[-k], generator[k]
    solved, quad = np.empty(rows.shape, rows.dtype), np.zeros(rows.shape[0], rows.dtype)
    for i in range(rows.shape[0]):
        row = padded(rows[i], size)
        for step in range(2):
            row = fft(row, roots)
            for k in range(size):
                row[k] *= filters[step, k]
            row = inverse_fft(row, roots)
            for p in range(n, size):
                row[p] = 0
        total = 0.0
        for p in range(n):
            solution = row[p].real / variance
            total += rows[i, p] * solution
            solved[i, p] = solution
        quad[i] = total
    return solved, quad


def diagonal_sums(predictor, variance, scale, rows, weights):
    """Sums along both diagonals k of ``scale * Sigma^-1 + sum_i weights_i rows_i rows_i'``, (n,).

    The sum along diagonal k of Sigma^-1 is that of (n - k - 2p) a_p a_{p+k} / v over p, half the
    cross-correlations of a and (n - 2p) a_p at lags k and -k.
    """
    n = predictor.size
    size = power_of_two(2 * n)
    roots = roots_of_unity(size)
    spectrum = np.zeros(size, np.complex128)
    pair = np.zeros(size, np.complex128)
    for p in range(n):
        pair[p] = predictor[p] * complex(1, n - 2 * p)
    pair = fft(pair, roots)
    for k in range(size):
        spectrum[k] = scale * (pair[k] * pair[-k]).imag / (2 * variance)
    for i in range(rows.shape[0]):
        row = fft(padded(rows[i], size), roots)
        for k in range(size):
            spectrum[k] += weights[i] * (row[k].real ** 2 + row[k].imag ** 2)
    # The spectrum is real and even: either direction of the transform gives the sums.
    spectrum = fft(spectrum, roots)
    sums = np.empty(n, rows.dtype)
    sums[0] = spectrum[0].real / size
    for k in range(1, n):
        sums[k] = 2 * spectrum[k].real / size
    return sums


def lower_times(column, rows):
    """L z for the first n elements z of each of ``rows``, L the lower Cholesky factor of Sigma."""
    m, n = rows.shape[0], column.size
    ahead, behind = column.astype(np.float64), column.astype(np.float64)
    product = np.zeros((m, n), rows.dtype)
    variance = behind[0]
    for j in range(n):
        if j > 0:
            _, variance = schur_step(ahead[j:], behind[: n - j], variance)
        for i in range(m):
            weight = rows[i, j] / np.sqrt(variance)
            target = product[i, j:]
            for p in range(n - j):
                target[p] += weight * behind[p]
    return product


def lower_solve(column, rows):
    """L^-1 r for each row r of ``rows`` (m, n), L the lower Cholesky factor of Sigma."""
    m, n = rows.shape
    ahead, behind = column.astype(np.float64), column.astype(np.float64)
    solved = rows.copy()
    variance = behind[0]
    for j in range(n):
        if j > 0:
            _, variance = schur_step(ahead[j:], behind[: n - j], variance)
        for i in range(m):
            solved[i, j] /= np.sqrt(variance)
            weight = solved[i, j] / np.sqrt(variance)
            target = solved[i, j + 1 :]
            for p in range(n - j - 1):
                target[p] -= weight * behind[p + 1]
    return solved


def circulant_eigenvalues(column, size):
    """Eigenvalues of a circulant matrix of order ``size`` >= 2n - 1 with corner Sigma."""
    n = column.size
    extended = np.full(size, complex(column[n - 1], 0))
    for k in range(n):
        extended[k] = column[k]
    for k in range(1, n):
        extended[-k] = column[k]
    return fft(extended, roots_of_unity(size)).real.copy()


def circulant_times(column, rows):
    """S z for each row z of ``rows`` (m, 4n), S S' = Sigma: draws.

    S is the top of the square root of a circulant matrix, in which Sigma is embedded, by
    Hartley transforms, where that matrix is non-negative; elsewhere S = [L, 0].
    """
    m, n = rows.shape[0], column.size
    size = power_of_two(2 * n)
    eigenvalues = circulant_eigenvalues(column, size)
    least, largest = 0.0, 0.0
    for value in eigenvalues:
        least, largest = min(least, value), max(largest, value)
    if not least >= -_ROUNDING * largest:
        return lower_times(column, rows)
    roots = roots_of_unity(size)
    product = np.empty((m, n), rows.dtype)
    for i in range(m):
        row = np.empty(size, np.complex128)
        for k in range(size):
            row[k] = rows[i, k] * np.sqrt(max(eigenvalues[k], 0) / size)
        row = fft(row, roots)
        for p in range(n):
            product[i, p] = row[p].real - row[p].imag
    return product


def toeplitz_times(column, rows):
    """Sigma r for each row r of ``rows`` (m, n): the corner of a circulant product."""
    m, n = rows.shape
    size = power_of_two(2 * n)
    eigenvalues, roots = circulant_eigenvalues(column, size), roots_of_unity(size)
    product = np.empty((m, n), rows.dtype)
    for i in range(m):
        row = fft(padded(rows[i], size), roots)
        for k in range(size):
            row[k] *= eigenvalues[k]
        row = inverse_fft(row, roots)
        for p in range(n):
            product[i, p] = row[p].real
    return product
