r"""Fisher information of a covariance structure, in closed form at the structure's cost.

For p directions with the derivatives dS_a of Sigma, P = Sigma^-1, S any root, S S' = Sigma,

    I_ab = 1/2 tr(P dS_a P dS_b) = 1/2 < W_a, W_b >_F,    W_a = S^-1 dS_a S'^-1.

A structure whose W_a has few distinct entries gives them as vectors w_a, entries that occur c times
scaled by sqrt(c); the information is then 1/2 w w', positive semidefinite however it is rounded.
These functions have *tangents*, the derivatives of the structure's own parameters, each (p, core
shape), in place of dS_a. A structure registers its form below, or in its own file with
``covariance_information.register``; the others are served by
:func:`pm_gaussgrad.cov.protocol.strips.by_strips`.

Sources: Bangs (1971), Array Processing with Generalized Beamformers (the trace formula); Magnus and
Neudecker (2019), Matrix Differential Calculus, 3rd ed., chapter 15; Gohberg and Semencul (1972), On
the inversion of finite Toeplitz matrices and their continuous analogs.
"""

from functools import singledispatch

import pytensor.tensor as pt

from pm_gaussgrad.cov.grids.kronecker import Kronecker, NoisyKronecker
from pm_gaussgrad.cov.grids.toeplitz import Toeplitz
from pm_gaussgrad.cov.groups.block_diagonal import BlockDiagonal
from pm_gaussgrad.cov.groups.compound_symmetry import ComponentSymmetry, CompoundSymmetry
from pm_gaussgrad.cov.groups.repeated_measures import RepeatedMeasures
from pm_gaussgrad.cov.matrices.cholesky import Cholesky
from pm_gaussgrad.cov.matrices.dense import Dense
from pm_gaussgrad.cov.matrices.diagonal import Diagonal, ScalarDiagonal
from pm_gaussgrad.cov.matrices.eigenbasis import Eigenbasis
from pm_gaussgrad.cov.matrices.low_rank import LowRankPlusDiagonal
from pm_gaussgrad.cov.matrices.precision import Precision
from pm_gaussgrad.cov.protocol.base import Covariance
from pm_gaussgrad.cov.protocol.strips import by_strips, count_directions
from pm_gaussgrad.cov.protocol.triangular import symmetric_direction
from pm_gaussgrad.cov.series.ar1 import AR1


@singledispatch
def covariance_information(cov: Covariance, tangents):
    """1/2 tr(P dS_a P dS_b), shape (p, p).

    Parameters
    ----------
    cov : Covariance
        Without batch dimensions, of known size.
    tangents : list of TensorVariable
        Derivatives of ``cov.parameters`` in p directions, (p, core shape); None for index data.

    Raises
    ------
    NotImplementedError
        If the structure has neither a form here nor one of its rows.
    """
    return by_strips(cov, tangents)


def _flat(x):
    """(p, ...) -> (p, k)."""
    if x.type.ndim == 1:
        return x[:, None]
    return x if x.type.ndim == 2 else x.reshape((count_directions(x), -1))


def _gram(left, right):
    """Inner products of entries, (p, ...), (p, ...) -> (p, p)."""
    return _flat(left) @ _flat(right).T


def _half_gram(*vectors):
    """1/2 sum of w w'."""
    return sum(_gram(w, w) for w in vectors) / 2


def _whitened(factor, tangent):
    """L^-1 T L'^-1 for symmetric T, (n, n), (p, n, n) -> (p, n, n)."""
    half = _solve_stack(factor, tangent)
    return _solve_stack(factor, half.mT)


def _solve_stack(factor, stack):
    """L^-1 T for each T: one solve for the columns of all."""
    n, p = factor.shape[-1], count_directions(stack)
    columns = stack.transpose(1, 0, 2).reshape((n, -1))
    solved = pt.linalg.solve_triangular(factor, columns, lower=True, b_ndim=2)
    return solved.reshape((n, p, n)).transpose(1, 0, 2)


@covariance_information.register(Dense)
@covariance_information.register(Precision)
def _of_matrix(cov, tangents):
    # d log|Q^-1| turns a sign, which the square of W forgets.
    tangent = symmetric_direction(cov.parameters[0], tangents[0])
    return _half_gram(_whitened(cov._factor(), tangent))


@covariance_information.register
def _of_cholesky(cov: Cholesky, tangents):
    factor = pt.tril(cov.parameters[0])
    half = _solve_stack(factor, pt.tril(tangents[0]))
    return _half_gram(half + half.mT)


@covariance_information.register
def _of_diagonal(cov: Diagonal, tangents):
    return _half_gram(tangents[0] / cov.parameters[0])


@covariance_information.register
def _of_scalar_diagonal(cov: ScalarDiagonal, tangents):
    return _count(cov) * _half_gram(tangents[0] / cov.parameters[0])


def _count(cov):
    return pt.as_tensor(cov.known_size()).astype(cov.parameters[0].dtype)


@covariance_information.register
def _of_eigenbasis(cov: Eigenbasis, tangents):
    return _half_gram(tangents[1] / cov.eigenvalues)


@covariance_information.register
def _of_ar1(cov: AR1, tangents):
    # The first observation has variance v; others, given the one before, the mean rho x and the
    # variance v (1 - rho^2), and x has variance v.
    (variance, correlation), (variance_dot, correlation_dot) = cov.parameters, tangents
    transitions = _count(cov) - 1
    shrinkage = (1 - correlation) * (1 + correlation)
    first = variance_dot / variance
    others = first - 2 * correlation * correlation_dot / shrinkage
    regression = correlation_dot / pt.sqrt(shrinkage)
    rest = _half_gram(others) + _gram(regression, regression)
    return _half_gram(first) + pt.switch(pt.eq(transitions, 0), 0, transitions * rest)


@covariance_information.register
def _of_compound_symmetry(cov: CompoundSymmetry, tangents):
    (variance, correlation), (variance_dot, correlation_dot) = cov.parameters, tangents
    others = _count(cov) - 1
    scale = variance_dot / variance
    between = scale + others * correlation_dot / (1 + others * correlation)
    return _of_two_eigenvalues(others, scale - correlation_dot / (1 - correlation), between, scale)


@covariance_information.register
def _of_components(cov: ComponentSymmetry, tangents):
    (own, common), (own_dot, common_dot) = cov.parameters, tangents
    n = _count(cov)
    between = (own_dot + n * common_dot) / (own + n * common)
    return _of_two_eigenvalues(n - 1, own_dot / own, between, between)


def _of_two_eigenvalues(others, within, between, single):
    """From derivatives of the logarithms of the eigenvalues; ``single`` with n = 1."""
    many = others * _half_gram(within) + _half_gram(between)
    return pt.switch(pt.eq(others, 0), _half_gram(single), many)


@covariance_information.register
def _of_blocks(cov: BlockDiagonal, tangents):
    total, start = 0, 0
    for block in cov.parts:
        stop = start + len(block.parameters)
        total = total + covariance_information(block, tangents[start:stop])
        start = stop
    return total


@covariance_information.register
def _of_repeated_measures(cov: RepeatedMeasures, tangents):
    within, visits, pattern, *_ = cov.parameters
    tangent = symmetric_direction(within, tangents[0])
    present = pt.ge(visits, 0)
    rows = pt.switch(present, visits, 0)
    both = present[:, :, None] & present[:, None, :]
    of_patterns = pt.switch(both, tangent[:, rows[:, :, None], rows[:, None, :]], 0)
    inverse = _inverse_factors(cov._factors())
    # A pattern counts once for each of its subjects.
    numbers = pt.cumsum(pt.ones_like(visits.sum(axis=1))) - 1
    subjects = pt.eq(pattern, numbers[:, None]).sum(axis=1).astype(tangent.dtype)
    whitened = _congruence(inverse, of_patterns)
    return _half_gram(pt.sqrt(subjects)[:, None, None] * whitened)


def _inverse_factors(factors):
    identity = pt.eye(factors.shape[-1], dtype=factors.dtype)
    return pt.linalg.solve_triangular(factors, identity, lower=True, b_ndim=2)


def _congruence(inverse, stack):
    """A T A' for each matrix: (..., w, w), (p, ..., w, w)."""
    # Elementwise: numba takes long to compile products of stacks of matrices.
    half = (inverse[..., :, :, None] * stack[..., None, :, :]).sum(axis=-2)
    return (half[..., :, None, :] * inverse[..., None, :, :]).sum(axis=-1)


@covariance_information.register
def _of_kronecker(cov: Kronecker, tangents):
    """W is a sum over factors; its parts are orthogonal but for the traces, which add."""
    n, total, scale = cov.size, 0, 0
    for factor, lower, tangent in zip(cov._factors, cov._lower(), tangents, strict=True):
        size = lower.shape[-1].astype(lower.dtype)
        whitened = _whitened(lower, symmetric_direction(factor, tangent))
        mean = pt.diagonal(whitened, axis1=-2, axis2=-1).sum(axis=-1) / size
        traceless = whitened - mean[:, None, None] * pt.eye(lower.shape[-1], dtype=lower.dtype)
        total, scale = total + n / size * _half_gram(traceless), scale + mean
    return total + n * _half_gram(scale)


@covariance_information.register
def _of_noisy_kronecker(cov: NoisyKronecker, tangents):
    """In the eigenbasis: entries off the diagonal differ in one factor's index only."""
    *tangents, noise_dot = tangents
    values, vectors = zip(*(pt.linalg.eigh(x) for x in cov._symmetric()), strict=True)
    shape = [x.shape[0] for x in values]
    grid = [_on_axis(x, i, len(values)) for i, x in enumerate(values)]
    others = [_product([g for j, g in enumerate(grid) if j != i]) for i in range(len(grid))]
    spectrum = _product(grid) + cov.parameters[-1]
    diagonal, total = noise_dot[(..., *[None] * len(grid))], 0
    for i, (basis, tangent) in enumerate(zip(vectors, tangents, strict=True)):
        seen = symmetric_direction(cov._factors[i], tangent)
        rotated = basis.T @ (seen @ basis)
        on_diagonal = pt.diagonal(rotated, axis1=-2, axis2=-1)
        placed = on_diagonal[
            (slice(None), *(slice(None) if j == i else None for j in range(len(grid))))
        ]
        diagonal = diagonal + placed * others[i]
        ratios = pt.moveaxis(others[i] / spectrum, i, 0).reshape((shape[i], -1))
        weights = ratios @ ratios.T * (1 - pt.eye(shape[i], dtype=rotated.dtype))
        total += _half_gram(pt.sqrt(weights) * rotated)
    return total + _half_gram(diagonal / spectrum)


def _on_axis(vector, axis, ndim):
    return vector[tuple(slice(None) if j == axis else None for j in range(ndim))]


def _product(arrays):
    """Of arrays that broadcast; 1 of none."""
    result = pt.as_tensor(1.0)
    for x in arrays:
        result = result * x
    return result


@covariance_information.register
def _of_low_rank(cov: LowRankPlusDiagonal, tangents):
    r"""dS = dU U' + U dU' + diag(dv), and P = D^-1 - H H' with H of shape (n, k)."""
    factor, variances = cov.parameters[0], cov._variances()
    factor_dot, variance_dot = tangents
    if variance_dot.type.ndim == 1:
        variance_dot = variance_dot[:, None]
    p, (n, k) = count_directions(factor_dot), factor.shape
    variance_dot = pt.broadcast_to(variance_dot, (p, n))
    solved = cov.solve(factor.T)  # (P U)'
    rows = factor_dot.mT.reshape((-1, n))
    solved_dot = cov.solve(rows).reshape((p, k, n))  # (P dU)'
    inner = factor_dot.mT @ solved.T  # dU' P U
    loadings = _gram(inner, inner.mT) + _gram(factor_dot.mT, _mix(solved @ factor, solved_dot))
    shared = (solved * solved_dot).sum(axis=1)  # diag(P dU U' P)
    mixed = _gram(shared, variance_dot)
    _, white_factor, inverse, _ = cov._standardised()
    root = white_factor @ inverse.mT / pt.sqrt(variances)[..., None]  # H
    precision = 1 / variances
    squared = precision * (precision - 2 * (root**2).sum(axis=-1))
    cut = root.T @ (variance_dot[..., None] * root)
    noise = _gram(variance_dot * squared, variance_dot) + _gram(cut, cut)
    return loadings + mixed + mixed.T + noise / 2


def _mix(matrix, stack):
    """N T for each T of a stack, (k, k), (p, k, n) -> (p, k, n)."""
    return pt.tensordot(stack, matrix, axes=[[1], [1]]).transpose(0, 2, 1)


@covariance_information.register
def _of_toeplitz(cov: Toeplitz, tangents):
    r"""-1/2 times the Hessian of log|Sigma|, Sigma being linear in its first column.

    With x the first column of P and y_i = i x_i, i = 0, 1, ..., the formula of Gohberg and
    Semencul says that d log|Sigma| = tr(P T) = (n x'T x - 2 y'T x) / x_0 for a Toeplitz T = dS,
    and another derivative needs dx = -P dS x only.
    """
    [column], [tangent] = cov.parameters, tangents
    index = pt.cumsum(pt.ones_like(column)) - 1
    n = column.shape[0].astype(column.dtype)
    first = cov.solve(cov._unit())
    head, weighted = first[0], index * first
    of_first, of_weighted = _toeplitz_times(tangent, first), _toeplitz_times(tangent, weighted)
    moved = -cov.solve(of_first)
    slope = (of_first @ (n * first - 2 * weighted)) / head
    inner = (2 * n * moved - 2 * index * moved) @ of_first.T - 2 * moved @ of_weighted.T
    hessian = inner / head - moved[:, 0][:, None] * (slope / head)
    return -(hessian + hessian.T) / 4


def _toeplitz_times(columns, vector):
    """T x for the symmetric Toeplitz matrix of each column, (p, n), (n,) -> (p, n)."""
    both = pt.concatenate([columns[:, 1:][:, ::-1], columns], axis=1)
    return pt.signal.convolve1d(both, vector, mode="valid")
