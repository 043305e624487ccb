r"""The sum of two Kronecker products: noise by task, several traits of related individuals.

Definition: Sigma = K_1 x ... x K_k + R_1 x ... x R_k, (n, n), both products of factors of the
same sizes (n_i, n_i). Storage: the factors. Value and gradient: O(sum n_i^3 + n sum n_i) a row.

Each pair K_i, R_i is diagonalised by a congruence, T_i' K_i T_i = diag(mu_i) and
T_i' R_i T_i = diag(nu_i); see :mod:`pm_gaussgrad.kernels.kronecker_pair`. With
T = T_1 x ... x T_k and lam = mu_1 x ... x mu_k + nu_1 x ... x nu_k,

    Sigma^-1 = T diag(1 / lam) T',    log|Sigma| = sum log lam - 2 sum_i n / n_i log|T_i|.

Pullback, for the first of two factors, A_i being lam^-1 T' r_i as an array (n_1, n_2),

    K_1_bar = T_1 (l_bar diag_a(sum_b mu_2b / lam_ab) - sum_i q_bar_i A_i diag(mu_2) A_i') T_1'

and R_1_bar the same with nu_2. Eigenvectors are not differentiated.

Draws and whitening: with G_i the inverse of the symmetric root of K_i / k + R_i / r in units of its
own diagonal, and V_i diag(a_i) V_i' = G_i K_i G_i' / k, T_i = G_i' V_i, and
S = (G_1^-1 x ...) V diag(lam)^1/2 V'. It does not depend on the choice of eigenvectors or on the
order of the entries along an axis.

Sources: Golub and Van Loan (2013), Matrix Computations, 4th ed., section 8.7; Rakitsch, Lippert,
Borgwardt and Stegle (2013), It is all in the noise: efficient multi-task Gaussian process inference
with structured residuals, section 2; Kessy, Lewin and Strimmer (2018), Optimal whitening and
decorrelation (the root in units of the diagonal).
"""

import functools
import math
import operator

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import equal_computations

from pm_gaussgrad.cov.grids.kronecker import Kronecker, NoisyKronecker
from pm_gaussgrad.cov.grids.kronecker_axes import along_axes, kron_vectors, on_axis, product_of
from pm_gaussgrad.cov.matrices.diagonal import Diagonal, ScalarDiagonal
from pm_gaussgrad.cov.protocol.base import length
from pm_gaussgrad.cov.protocol.constants import check_matrix, constant_value
from pm_gaussgrad.cov.protocol.information import gram, half_gram
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.products import matmul
from pm_gaussgrad.cov.protocol.sums import closes, common_size, does_not_close, mends
from pm_gaussgrad.cov.protocol.triangular import symmetric_direction, symmetric_from_lower
from pm_gaussgrad.kernels import kronecker_pair as kernels
from pm_gaussgrad.kernels.definite import constant_cholesky


class KroneckerPair(Leaf):
    """``Kronecker + Kronecker``: the factors of the first, then those of the second."""

    how = "eigenvectors of each pair of factors, n_i^3 each and n (n_1 + n_2 + ...)"
    label = "gg.cov.Kronecker + gg.cov.Kronecker"
    facts = ("order",)
    parameter_shapes = {"factors": "n_i n_i", "others": "n_i n_i"}
    saved_shapes = {
        "rotated": "m n",
        "vectors": "n_i n_i",
        "values": "n_i",
        "other_values": "n_i",
        "symmetric": "",
        "other_symmetric": "",
    }
    repeated = dict.fromkeys(
        [*parameter_shapes, *(name for name in saved_shapes if name != "rotated")], "order"
    )
    forward = staticmethod(kernels.forward)
    pullback = staticmethod(kernels.pullback)

    @property
    def order(self):
        """The number of factors of each product."""
        return len(self.parameters) // 2

    @property
    def terms(self):
        """The two products."""
        k = self.order
        return [Kronecker.from_parameters(*p) for p in (self.parameters[:k], self.parameters[k:])]

    @property
    def _pairs(self):
        return list(zip(*(term.factors for term in self.terms), strict=True))

    @property
    def size(self):
        sizes = [[length(factor) for factor in pair] for pair in self._pairs]
        return math.prod(k if isinstance(k, int) else r for k, r in sizes)

    def check_constants(self, n=None):
        for i, pair in enumerate(self._pairs):
            _, _, base = _balanced(*pair)
            check_matrix(self.label, f"the sum of both factors[{i}]", base, constant_cholesky)
        super().check_constants(n)

    def to_dense(self):
        first, second = (term.to_dense() for term in self.terms)
        return first + second

    def diagonal(self):
        first, second = (term.diagonal() for term in self.terms)
        return first + second

    def rows(self, positions):
        first, second = (term.rows(positions) for term in self.terms)
        return first + second

    def times(self, rows):
        first, second = (term.times(rows) for term in self.terms)
        return first + second

    def _diagonalised(self):
        """G_i^-1, G_i and V_i of all pairs, and mu_i and nu_i."""
        return zip(*(_diagonalised(*pair) for pair in self._pairs), strict=True)

    def color(self, z):
        roots, _, vectors, *values = self._diagonalised()
        return along_axes(roots, _times_power(vectors, values, 0.5, z))

    def whiten(self, residual):
        _, inverses, vectors, *values = self._diagonalised()
        return _times_power(vectors, values, -0.5, along_axes(inverses, residual))

    def inverse_diagonal(self):
        _, inverses, vectors, *values = self._diagonalised()
        columns = [matmul(g.mT, v) for g, v in zip(inverses, vectors, strict=True)]
        return along_axes([x**2 for x in columns], 1 / _spectrum(values))

    def scaled(self, factor):
        first, second = (term.scaled(factor).parameters for term in self.terms)
        return type(self).from_parameters(*first, *second)

    def information(self, tangents):
        """In the basis T entries off the diagonal differ in one factor's index only."""
        k = self.order
        _, inverses, vectors, *both = self._diagonalised()
        grids = [[on_axis(x, i, k) for i, x in enumerate(values)] for values in both]
        spectrum = sum(map(product_of, grids))
        on_diagonal, total = 0, 0
        for i, (inverse, basis) in enumerate(zip(inverses, vectors, strict=True)):
            columns, moved, ratios = matmul(inverse.T, basis), [], []
            axes = tuple(slice(None) if j == i else None for j in range(k))
            for term, grid in enumerate(grids):
                place = i + term * k
                seen = symmetric_direction(self.parameters[place], tangents[place])
                moved.append(columns.T @ (seen @ columns))
                others = product_of([g for j, g in enumerate(grid) if j != i])
                variances = pt.diagonal(moved[-1], axis1=-2, axis2=-1)
                on_diagonal += variances[(slice(None), *axes)] * others
                along = pt.moveaxis(others / spectrum, i, 0)
                ratios.append(along.reshape((basis.shape[0], -1)))
            total += _off_diagonal(moved, ratios)
        return total + half_gram(on_diagonal / spectrum)

    @staticmethod
    def forward_jax(residual, factors, others):
        from pm_gaussgrad.kernels import kronecker_pair_jax

        return kronecker_pair_jax.forward(residual, factors, others)

    @staticmethod
    def pullback_jax(
        rotated, vectors, values, other_values, symmetric, other_symmetric, quad_bar, logdet_bar
    ):
        from pm_gaussgrad.kernels import kronecker_pair_jax

        saved = rotated, vectors, values, other_values, symmetric, other_symmetric
        return kronecker_pair_jax.pullback(*saved, quad_bar, logdet_bar)


def _mean_variance(matrix):
    """The geometric mean of the positive diagonal entries, (..., n, n) -> (..., 1, 1)."""
    diagonal = pt.diagonal(matrix, axis1=-2, axis2=-1)
    positive = diagonal > 0
    logs = pt.switch(positive, pt.log(pt.switch(positive, diagonal, 1)), 0)
    count = pt.maximum(positive.sum(axis=-1), 1).astype(matrix.dtype)
    return pt.exp(logs.sum(axis=-1) / count)[..., None, None]


def _balanced(matrix, other):
    """K / k with k, R / r with r, and the base K / k + R / r."""
    pair = []
    for x in (matrix, other):
        scale = _mean_variance(x)
        pair.append((symmetric_from_lower(x) / scale, scale[..., 0]))
    return *pair, pair[0][0] + pair[1][0]


def _diagonalised(matrix, other):
    """G^-1, G, V, mu and nu of a pair of factors."""
    (scaled, scale), (_, other_scale), base = _balanced(matrix, other)
    units = pt.sqrt(pt.diagonal(base, axis1=-2, axis2=-1))[..., None]
    squares, axes = pt.linalg.eigh(base / (units * units.mT))
    lengths = pt.sqrt(squares)[..., None, :]
    inverse = matmul(axes / lengths, axes.mT) / units.mT
    balanced = matmul(matmul(inverse, scaled), inverse.mT)
    shares, vectors = pt.linalg.eigh(balanced)
    root = units * matmul(axes * lengths, axes.mT)
    return root, inverse, vectors, scale * shares, other_scale * (1 - shares)


def _spectrum(values):
    """Eigenvalues of the sum, (..., n), of mu_i and nu_i."""
    first, second = map(kron_vectors, values)
    return first + second


def _times_power(vectors, values, exponent, rows):
    """V diag(lam)^exponent V' r for each row."""
    rotated = along_axes([v.mT for v in vectors], rows)
    return along_axes(vectors, _spectrum(values) ** exponent * rotated)


def _off_diagonal(moved, ratios):
    """1/2 of the inner products of what is off the diagonal along one axis, (p, p).

    Entry (a, a') at the other indices b is (K_aa' w_b + R_aa' v_b) / (lam_ab lam_a'b)^1/2.
    """
    (first, second), (w, v) = moved, ratios
    outside = 1 - pt.eye(first.shape[-1], dtype=first.dtype)
    mixed = gram(first * (matmul(w, v.T) * outside), second)
    own = gram(first * (matmul(w, w.T) * outside), first) + gram(
        second * (matmul(v, v.T) * outside), second
    )
    return (own + mixed + mixed.T) / 2


@closes(Kronecker, Kronecker)
def _sum(left, right):
    common_size(left, right)
    noise = [x.parameters[-1] for x in (left, right) if isinstance(x, NoisyKronecker)]
    _check_pairs(left, right, left.factors, right.factors)
    merged = _merged(left.factors, right.factors)
    if merged is None and noise:
        raise does_not_close(left, right)
    if merged is None:
        return KroneckerPair.from_parameters(*left.factors, *right.factors)
    if noise:
        return NoisyKronecker.from_parameters(*merged, functools.reduce(operator.add, noise))
    return Kronecker.from_parameters(*merged)


@closes(KroneckerPair, Kronecker)
def _sum_of_three(pair, product):
    """Where the third differs from one of the two in one factor."""
    common_size(pair, product)
    first, second = (term.factors for term in pair.terms)
    _check_pairs(pair, product, first, product.factors)
    if not isinstance(product, NoisyKronecker):
        for one, other in ((first, second), (second, first)):
            if merged := _merged(one, product.factors):
                return KroneckerPair.from_parameters(*merged, *other)
    raise does_not_close(pair, product)


@closes(KroneckerPair, ScalarDiagonal)
def _with_noise(pair, diagonal):
    """D x I + s I = (D + s I) x I, where the identities are constants."""
    common_size(pair, diagonal)
    terms, [noise] = [term.factors for term in pair.terms], diagonal.parameters
    for term in (1, 0):
        free = [i for i, factor in enumerate(terms[term]) if not _is_identity(factor)]
        if len(free) > 1:
            continue
        factors, place = list(terms[term]), free[0] if free else 0
        identity = pt.eye(length(factors[place]), dtype=noise.dtype)
        factors[place] = factors[place] + noise[..., None, None] * identity
        terms[term] = factors
        return KroneckerPair.from_parameters(*terms[0], *terms[1])
    raise does_not_close(pair, diagonal)


def _is_identity(factor) -> bool:
    value = constant_value(factor)
    return value is not None and value.ndim == 2 and bool((value == np.eye(len(value))).all())


mends(KroneckerPair, Diagonal, "Write D x I + s I as (D + s I) x I.")


def _check_pairs(left, right, factors, others):
    """The error of the two summands where their factors are not in pairs of equal sizes."""
    sizes = [[x.type.shape[-1] for x in term] for term in (factors, others)]
    if len(factors) != len(others) or any(
        None not in pair and pair[0] != pair[1] for pair in zip(*sizes, strict=True)
    ):
        raise does_not_close(left, right)


def _merged(factors, others):
    """The factors of the sum of two products that differ in one factor; None where in more."""
    pairs = list(zip(factors, others, strict=True))
    different = [i for i, (x, y) in enumerate(pairs) if not equal_computations([x], [y])]
    if len(different) > 1:
        return None
    place = different[0] if different else 0
    return tuple(x + y if i == place else x for i, (x, y) in enumerate(pairs))
