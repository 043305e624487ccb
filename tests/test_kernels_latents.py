"""The kernels of sparse latents, interpreted, against dense matrices and exact arithmetic."""

from dataclasses import dataclass
from itertools import product

import mpmath
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import block_diag
from sparse_patterns import definite, lower_triangle, random_pattern

from pm_gaussgrad.kernels.sparse import centred_latents, latents
from pm_gaussgrad.kernels.sparse import latent_members as members
from pm_gaussgrad.kernels.sparse.arrangement import arrange
from pm_gaussgrad.kernels.sparse.relative import relative_factors


@dataclass
class Model:
    """Numbers of effects, of k coefficients for each of some levels, and of fields."""

    levels: np.ndarray
    matrices: list
    precision: np.ndarray
    design: np.ndarray  # A, with its zeros
    entries: np.ndarray
    variance: np.ndarray
    centred: np.ndarray
    related: list  # R of each term

    @property
    def covariances(self):
        return np.concatenate([np.empty(0), *(g.ravel() for g in self.matrices)])

    @property
    def lower(self):
        return lower_entries(self.precision)

    @property
    def arguments(self):
        """Covariances, values, variance, loadings, entries, R, components and index."""
        values, where = self.lower
        between, related = lower_entries(self.between)
        effects = len(self.between)
        n, nodes = len(self.design), self.precision.shape[0]
        index, *_ = arrange(n, self.entries, related, where + effects, self.levels, nodes)
        loadings = self.design[tuple(self.entries)]
        numbers = self.covariances, values, self.variance, loadings, self.entries
        return *numbers, between, self.centred, index

    @property
    def between(self):
        """R (x) I of all terms."""
        parts = [np.kron(r, np.eye(k)) for k, r in zip(self.levels[0], self.related, strict=True)]
        return block_diag(np.empty((0, 0)), *parts)

    @property
    def means_out(self):
        """C (p, p)."""
        same = (self.centred[:, None] == self.centred) & (self.centred >= 0)
        return np.eye(len(same)) - same / np.maximum(same.sum(axis=1), 1)

    @property
    def prior(self):
        """M (p, p)."""
        effects, p = self.levels.prod(axis=0).sum(), self.design.shape[1]
        prior, first = np.zeros((p, p)), 0
        for (k, count), g, r in zip(self.levels.T, self.matrices, self.related, strict=True):
            stop = first + k * count
            prior[first:stop, first:stop] = np.kron(np.linalg.inv(r), g)
            first = stop
        prior[effects:, effects:] = np.linalg.inv(self.precision.toarray())
        return prior

    @property
    def dense(self):
        design = self.design @ self.means_out
        return design @ self.prior @ design.T + np.diag(self.variance)

    def pulled(self, bar):
        """Cotangents of covariances and values from that of Sigma, by definition."""
        design = self.design @ self.means_out
        bar, first, found = design.T @ bar @ design, 0, [np.empty(0)]
        for (k, count), r in zip(self.levels.T, self.related, strict=True):
            stop = first + k * count
            blocks = bar[first:stop, first:stop].reshape(count, k, count, k)
            found.append(np.einsum("gahb,gh->ab", blocks, np.linalg.inv(r)).ravel())
            first = stop
        inverse = np.linalg.inv(self.precision.toarray())
        of_fields = -inverse @ bar[first:, first:] @ inverse
        _, (row, column) = self.lower
        twice = np.where(row == column, 1, 2)
        return np.concatenate(found), twice * of_fields[row, column]


def lower_entries(matrix):
    """Values and places of the lower triangle, by columns."""
    values, indptr, rows = lower_triangle(sp.csc_array(matrix))
    return values, np.stack([rows, np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))])


def kernels(arguments):
    """Forward and pullback, and what they take, where fields sum to zero and where none does."""
    *numbers, centred, index = arguments
    if (centred >= 0).any():
        return centred_latents.forward, centred_latents.pullback, arguments
    return latents.forward, latents.pullback, (*numbers, index)


def forward(rows, *arguments):
    kernel, _, own = kernels(arguments)
    return kernel(rows, *own)


def pullback(*arguments):
    _, kernel, own = kernels(arguments[:8])
    return kernel(*own, *arguments[8:])


def in_units(matrix):
    """With the determinant 1, which kernels expect of R."""
    return matrix / np.exp(np.linalg.slogdet(matrix)[1] / max(len(matrix), 1))


def random_model(rng, terms=None, nodes=None):
    """Of a few terms with one level in each row of A, and a field seen in some of its nodes."""
    n = int(rng.integers(0, 12))
    terms = int(rng.integers(0, 4)) if terms is None else terms
    levels = np.stack([rng.integers(1, 4, terms), rng.integers(1, 5, terms)])
    matrices, related = [], []
    for count in levels[1]:
        if rng.integers(2):
            related.append(
                np.diag(rng.uniform(0.5, 2, count)) if rng.integers(2) else np.eye(count)
            )
        else:
            related.append(definite(random_pattern(rng, 4), rng).toarray())
    levels[1] = [len(x) for x in related]
    related = [in_units(x) for x in related]
    for k in levels[0]:
        root = rng.normal(size=(k, int(rng.integers(0, k + 1)) if rng.integers(2) else k))
        matrices.append(root @ root.T)
    pattern = random_pattern(rng, 12) if rng.integers(3) or not terms else np.zeros((0, 0))
    precision = definite(pattern, rng)
    effects = levels.prod(axis=0).sum()
    seen = np.zeros((n, effects + precision.shape[0]), bool)
    for i in range(n):
        first = 0
        for k, count in levels.T:
            g = first + k * rng.integers(count)
            seen[i, g : g + k] = rng.integers(5) > 0
            first += k * count
        seen[i, effects:] = rng.uniform(size=precision.shape[0]) < 0.3
    design = np.where(seen, rng.normal(size=seen.shape), 0)
    variance, centred = rng.uniform(0.2, 2, n), np.full(design.shape[1], -1)
    if rng.integers(2):
        # Of effects those of one coefficient.
        alone = np.append(
            np.repeat(levels[0] == 1, levels.prod(axis=0)), np.ones(precision.shape[0])
        )
        some = (rng.uniform(size=alone.size) < rng.choice([0.7, 1.0])) & (alone == 1)
        labels = rng.integers(0, 3, alone.size)
        # A component is one of a term, or of the field.
        term = np.repeat(np.arange(terms + 1), [*levels.prod(axis=0), precision.shape[0]])
        centred[some] = np.unique((3 * term + labels)[some], return_inverse=True)[1]
    entries = np.stack(np.nonzero(seen))
    return Model(levels, matrices, precision, design, entries, variance, centred, related)


@pytest.mark.parametrize("seed", range(60))
def test_random_models(seed):
    """Value, solve, pullback and members; singular covariances of effects among them."""
    rng = np.random.default_rng(seed)
    model = random_model(rng)
    arguments, sigma, n = model.arguments, model.dense, len(model.design)
    inverse, m = np.linalg.inv(sigma), int(rng.integers(0, 4))
    rows, weights, logdet_bar = rng.normal(size=(m, n)), rng.normal(size=m), rng.normal()
    quad, logdet, alpha, *saved = forward(rows, *arguments)
    assert_allclose(alpha, rows @ inverse, rtol=1e-9, atol=1e-11)
    assert_allclose(quad, ((rows @ inverse) * rows).sum(axis=1), rtol=1e-9)
    assert_allclose(logdet, np.linalg.slogdet(sigma)[1], rtol=1e-10, atol=1e-11)
    found = pullback(*arguments, alpha, *saved, weights, logdet_bar)
    bar = logdet_bar * inverse - (rows @ inverse).T @ np.diag(weights) @ (rows @ inverse)
    for got, expected in zip(found, (*model.pulled(bar), np.diag(bar)), strict=True):
        assert_allclose(got, expected, rtol=1e-8, atol=1e-9 * (1 + abs(expected).max(initial=0)))
    _members(model, arguments, sigma, inverse, rng)


def _members(model, arguments, sigma, inverse, rng):
    covariances, values, _, loadings, entries, between, centred, index = arguments
    (n, p), nothing = model.design.shape, np.zeros((1, len(model.design)))
    extent = np.empty((n, p, 0))
    common = covariances, values, loadings, entries, between, centred, extent, index
    near = {"rtol": 1e-8, "atol": 1e-10}
    [root], [again] = members.color(np.eye(n), *arguments), rng.normal(size=(1, 2, n))
    assert_allclose(root.T @ root, sigma, **near)
    assert_allclose(
        members.whiten(members.color(again, *arguments)[0], *arguments)[0], again, **near
    )
    [drawn] = members.signal(np.eye(p), *common)
    assert_allclose(drawn.T @ drawn, sigma - np.diag(model.variance), **near)
    variances = members.signal_variances(nothing, *common)[0] + model.variance
    assert_allclose(variances[0], np.diag(sigma), **near)
    assert_allclose(members.inverse_diagonal(nothing, *arguments)[0][0], np.diag(inverse), **near)
    factor = np.linalg.cholesky(sigma)
    [white], [scales] = (
        members.innovations(again, *arguments),
        members.log_scales(nothing, *arguments),
    )
    assert_allclose(white, np.linalg.solve(factor, again.T).T, **near)
    assert_allclose(scales[0], np.log(np.diag(factor)), **near)


# Singular covariances of effects

SINGULAR = {
    "none": np.zeros((2, 2)),
    "no slopes": np.diag([2.0, 0.0]),
    "no intercepts": np.diag([0.0, 3.0]),
    "in step": np.outer([1.0, -2.0], [1.0, -2.0]),
    "in step, unlike units": np.outer([1e-6, 3.0], [1e-6, 3.0]),
    "nearly in step": np.array([[1.0, 1.0], [1.0, 1.0 + 1e-12]]),
}


def slopes(covariance, intercept, noise, related=None):
    """Two crossed terms, the first of two coefficients, and eight observations."""
    rng = np.random.default_rng(4)
    first, second, n = np.array([0, 0, 1, 1, 2, 2, 0, 1]), np.array([0, 1, 0, 1, 0, 1, 1, 0]), 8
    design, rows = np.zeros((n, 8)), np.arange(n)
    design[rows, 2 * first], design[rows, 2 * first + 1] = 1, rng.normal(size=n)
    design[rows, 6 + second] = 1
    none = definite(np.zeros((0, 0)), rng)
    matrices = [covariance, np.array([[intercept]])]
    entries, levels = np.stack(np.nonzero(design)), np.array([[2, 1], [3, 2]])
    none_centred = np.full(8, -1)
    related = [np.eye(3) if related is None else in_units(related), np.eye(2)]
    return Model(levels, matrices, none, design, entries, np.full(n, noise), none_centred, related)


def in_50_digits(model, row):
    """quad, logdet and the cotangents of covariances and variance for quad + logdet."""
    with mpmath.workdps(50):
        design = mpmath.matrix(model.design.tolist())
        sigma = mpmath.diag(model.variance.tolist())
        effects = mpmath.zeros(8)
        kinship = mpmath.matrix(model.related[0].tolist()) ** -1
        slots = list(product(range(3), range(3), range(2), range(2)))
        for g, h, a, b in slots:
            covariance = kinship[g, h] * mpmath.mpf(model.matrices[0][a, b])
            effects[2 * g + a, 2 * h + b] = covariance
        effects[6, 6] = effects[7, 7] = mpmath.mpf(model.matrices[1][0, 0])
        sigma += design * effects * design.T
        inverse = sigma**-1
        alpha = inverse * mpmath.matrix(row.tolist())
        bar = inverse - alpha * alpha.T
        through = design.T * bar * design
        found = [mpmath.mpf(0)] * 4
        for g, h, a, b in slots:
            found[2 * a + b] += kinship[g, h] * through[2 * g + a, 2 * h + b]
        found.append(through[6, 6] + through[7, 7])
        quad = (mpmath.matrix(row.tolist()).T * alpha)[0]
        diagonal = [bar[i, i] for i in range(len(row))]
        numbers = quad, mpmath.log(mpmath.det(sigma)), found, diagonal
        return [np.array(x, dtype=float) for x in numbers]


RELATED = np.array([[2.0, -0.5, 0.0], [-0.5, 1.0, 0.3], [0.0, 0.3, 0.7]])


@pytest.mark.parametrize("related", [None, RELATED], ids=["strangers", "related"])
@pytest.mark.parametrize("intercept", [0.0, 0.7])
@pytest.mark.parametrize("name", SINGULAR)
def test_singular_covariances_of_effects(name, intercept, related):
    """Ordinary points: value and gradient to the last digits, whatever the factor looks like."""
    model = slopes(SINGULAR[name], intercept, 0.5, related)
    row = np.random.default_rng(1).normal(size=8)
    quad, logdet, alpha, *saved = forward(row[None], *model.arguments)
    found = pullback(*model.arguments, alpha, *saved, np.ones(1), 1.0)
    expected = in_50_digits(model, row)
    assert_allclose([quad[0], logdet], expected[:2], rtol=1e-11)
    assert_allclose(found[2], expected[3], rtol=1e-12, atol=1e-12)
    # Each entry in units of the deviations of its coefficients, where there are any.
    root = np.sqrt(np.diag(SINGULAR[name]))
    unit = np.append(np.outer(*[np.where(root > 0, root, 1)] * 2).ravel(), 1.0)
    scale = abs(expected[2] * unit).max()
    assert_allclose(found[0] * unit, expected[2] * unit, rtol=1e-12, atol=1e-13 * scale)
    assert_array_equal(found[0][1], found[0][2])


def test_noise_far_below_the_signal():
    """Observations that are nearly exact: digits are lost as of the condition number of H.

    Intercepts of both terms have one direction in common, in which H is 1 where it is 1e10 else.
    """
    model = slopes(np.array([[1.0, 0.4], [0.4, 2.0]]), 0.7, 1e-10)
    row = model.design @ np.random.default_rng(1).normal(size=8)
    row += 1e-5 * np.random.default_rng(2).normal(size=8)
    quad, logdet, alpha, *saved = forward(row[None], *model.arguments)
    found = pullback(*model.arguments, alpha, *saved, np.ones(1), 1.0)
    expected = in_50_digits(model, row)
    assert_allclose(quad[0], expected[0], rtol=1e-9)
    assert_allclose(logdet, expected[1], atol=1e10 * np.finfo(float).eps)
    assert_allclose(found[0], expected[2], rtol=5e11 * np.finfo(float).eps)


@pytest.mark.parametrize(
    "matrix",
    [
        np.array([[1.0, 0.0], [0.0, -1e-9]]),
        np.array([[1.0, 2.0], [2.0, 1.0]]),
        np.array([[0.0, 1e-3], [1e-3, 1.0]]),
        np.array([[0.0, 1.0], [1.0, 0.0]]),
        np.array([[1.0, np.nan], [np.nan, 1.0]]),
        np.array([[np.inf, 0.0], [0.0, 1.0]]),
    ],
)
def test_no_covariances_of_effects(matrix):
    model = slopes(matrix, 0.7, 0.5)
    quad, logdet, *_ = forward(np.ones((1, 8)), *model.arguments)
    assert np.isnan(quad).all()
    assert np.isnan(logdet)


@pytest.mark.parametrize("noise", [0.0, -1.0, np.nan, np.inf])
def test_no_variances(noise):
    model = slopes(np.eye(2), 0.7, 0.5)
    model.variance[3] = noise
    with np.errstate(divide="ignore", invalid="ignore"):
        assert not np.isfinite(forward(np.ones((1, 8)), *model.arguments)[1])


def test_factors_are_of_the_matrix_to_the_last_digits(rng):
    """Of any rank, in any units."""
    for _ in range(200):
        k = int(rng.integers(1, 5))
        root = rng.normal(size=(k, int(rng.integers(0, k + 1))))
        root = root * np.exp(5 * rng.normal(size=(k, 1)))
        matrix = root @ root.T
        none, own = np.empty((2, 0), int), np.stack([np.arange(k)] * 2)
        index = arrange(0, none, own, none, np.array([[k], [1]]), 0)[0]
        factor, pivots = relative_factors(matrix.ravel(), index)
        again = np.empty((k, k))
        again[np.ix_(pivots, pivots)] = factor.reshape(k, k) @ factor.reshape(k, k).T
        scale = np.sqrt(np.outer(matrix.diagonal(), matrix.diagonal()))
        assert (abs(again - matrix) <= 1e-13 * scale + 1e-299).all()
