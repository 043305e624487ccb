r"""``Kronecker``: a product of small covariances, without or with independent noise.

Definition: Sigma = K_1 x ... x K_k, (n, n), K_i (n_i, n_i), n = n_1 ... n_k, ordered as by
``numpy.kron``: the index of the last factor varies fastest. A sum with ``Diagonal(scalar)`` gives
Sigma + s I. Storage: the factors. Value and gradient: O(sum n_i^3 + n sum n_i) a row.

Without noise: the Cholesky factors L_i; (L_1 x ... x L_k)^-1 is applied to the residual, an array
with k axes, along one axis after another. With noise: the eigenvalues mu_i and eigenvectors V_i
of the factors; those of Sigma are lam = mu_1 x ... x mu_k + s and V_1 x ... x V_k.

Pullback, for the first of two factors, X_i being alpha_i as an array (n_1, n_2):

    K_1_bar = -sum_i q_bar_i X_i K_2 X_i' + l_bar V_1 diag_a(sum_b mu_2b / lam_ab) V_1'
    s_bar   = l_bar sum 1 / lam - sum_i q_bar_i |alpha_i|^2

and without noise the second term of K_1_bar is l_bar n_2 K_1^-1. Eigenvectors are not
differentiated: no difference of eigenvalues is divided by, and they may be equal.

Sources: Van Loan (2000), The ubiquitous Kronecker product, sections 2 and 3; Saatchi (2011),
Scalable inference for structured Gaussian process models, chapter 5; Gupta and Nagar (2000),
Matrix Variate Distributions, section 2.2; Giles (2008), Collected matrix derivative results for
forward and reverse mode algorithmic differentiation, section 2.2.
"""

import functools
import math

import pytensor.tensor as pt

from pm_gaussgrad.cov.grids.kronecker_axes import (
    along_axes,
    kron,
    kron_vectors,
    on_axis,
    product_of,
    rowwise_kronecker,
)
from pm_gaussgrad.cov.matrices.diagonal import Diagonal, ScalarDiagonal
from pm_gaussgrad.cov.protocol.arguments import check_square
from pm_gaussgrad.cov.protocol.base import Covariance, as_parameter, length
from pm_gaussgrad.cov.protocol.constants import check_matrix, check_positive, check_symmetric
from pm_gaussgrad.cov.protocol.information import half_gram, whitened
from pm_gaussgrad.cov.protocol.kriging import semidefinite_root
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.products import matmul, rows_of_diagonal
from pm_gaussgrad.cov.protocol.scales import product
from pm_gaussgrad.cov.protocol.sums import closes, common_size, mends
from pm_gaussgrad.cov.protocol.terms import made_of, terms_of
from pm_gaussgrad.cov.protocol.triangular import symmetric_direction, symmetric_from_lower
from pm_gaussgrad.kernels import kronecker as kernels
from pm_gaussgrad.kernels.definite import constant_cholesky
from pm_gaussgrad.ops import inverse_diagonal


class Kronecker(Leaf):
    r"""A Kronecker product of covariances, :math:`\Sigma = K_1 \otimes \dots \otimes K_k`.

    A sum with ``gg.cov.Diagonal(s)``, s a scalar, is the same with noise,
    :math:`K_1 \otimes \dots \otimes K_k + s I`. A sum with another product of factors of the same
    sizes, :math:`K_1 \otimes \dots \otimes K_k + R_1 \otimes \dots \otimes R_k`, has noise by task
    among its cases, ``Kronecker(K1, K2) + Kronecker(Diagonal(d), Diagonal(1.0, size=n2))``.

    Parameters
    ----------
    *factors : tensor_like or gg.cov structure, shape (..., n_i, n_i), in units of a share of [y]^2
        One or more covariances, in units whose product is [y]^2. The observations are ordered
        as by ``numpy.kron``: n = n_1 n_2 ... n_k, and the index of the last factor varies
        fastest, as in ``grid.ravel()`` for an array with an axis a factor. Of a factor that is
        not symmetric the lower triangle is read. A structure is formed as its small n_i x n_i
        matrix, by its ``to_dense()``.

    Raises
    ------
    TypeError
        If there is no factor, or one is not real or has fewer than two dimensions.
    ValueError
        If a factor is not square, or a constant one is not symmetric.

    Notes
    -----
    Cost of value and gradient: :math:`O(\sum n_i^3 + n \sum n_i)`; nothing of n x n is formed.
    Without noise the factors must be positive definite, and the work is done by their Cholesky
    factors. With noise it is done by their eigenvectors, the factors may be singular, and the
    sum must be positive definite: its smallest eigenvalue more than the rounding of the largest,
    :math:`(1 + \sqrt{\max n_i})\,\varepsilon` times that. What is not has a log density of -inf. A
    factor is identified up to a scale only: fix the scale of
    all but one. Of the sum of two products each pair :math:`K_i, R_i`, both positive semidefinite,
    is diagonalised by one congruence; of a pair one or both may be singular, so long as the sum is
    positive definite. Products that differ in one factor only are one product.

    The pullback is, for the first of two factors, :math:`X` the :math:`\alpha` as an array
    (n_1, n_2), :math:`\lambda_{ab} = \mu_{1a} \mu_{2b} + s`,

    .. math::

        \bar K_1 = -\sum_i \bar q_i X_i K_2 X_i^\top
        + \bar l\, V_1 \operatorname{diag}_a\Big(\sum_b \mu_{2b} / \lambda_{ab}\Big) V_1^\top,
        \qquad
        \bar s = \bar l \sum 1 / \lambda - \sum_i \bar q_i |\alpha_i|^2,

    full and symmetric, the entries regarded as independent; for a factor that is not symmetric
    the gradient of its lower triangle, as for ``Dense``. It needs no derivative of an eigenvector
    and is right for repeated eigenvalues.

    References
    ----------
    Van Loan, C. F. (2000). The ubiquitous Kronecker product. Journal of Computational and
    Applied Mathematics 123, sections 2 and 3.

    Saatchi, Y. (2011). Scalable inference for structured Gaussian process models. PhD thesis,
    University of Cambridge, chapter 5.

    Examples
    --------
    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> rows, columns = np.array([[2.0, 1.0], [1.0, 2.0]]), np.eye(2)
    >>> cov = gg.cov.Kronecker(rows, columns) + gg.cov.Diagonal(0.5)
    >>> cov.to_dense().eval()
    array([[2.5, 0. , 1. , 0. ],
           [0. , 2.5, 0. , 1. ],
           [1. , 0. , 2.5, 0. ],
           [0. , 1. , 0. , 2.5]])
    """

    how = "eigenvectors of the factors, n_i^3 each and n (n_1 + n_2 + ...)"
    label = "gg.cov.Kronecker"
    facts = ("order",)
    parameter_shapes = {"factors": "n_i n_i"}
    saved_shapes = {"white": "m n", "lower": "n_i n_i", "symmetric": ""}
    repeated = dict.fromkeys(["factors", "lower", "symmetric"], "order")
    forward = staticmethod(kernels.forward)
    pullback = staticmethod(kernels.pullback)

    def __init__(self, *factors):
        if not factors:
            raise TypeError("gg.cov.Kronecker: found no factor, expected at least one.")
        parameters = [p for i, factor in enumerate(factors) for p in _flattened(i, factor)]
        self.parameters = tuple(parameters)
        for i, factor in enumerate(factors):
            if isinstance(factor, Covariance) and terms_of(factor):
                made_of(self, factor, functools.partial(_with_factor, factors=factors, i=i))

    @property
    def order(self):
        """The number of factors."""
        return len(self.factors)

    @property
    def factors(self):
        """The factors, as many as :attr:`order`."""
        return self.parameters

    @property
    def size(self):
        return math.prod(length(factor) for factor in self.factors)

    def check_constants(self, n=None):
        for i, factor in enumerate(self.factors):
            check_matrix(self.label, f"factors[{i}]", factor, constant_cholesky)

    def _symmetric(self):
        return [symmetric_from_lower(factor) for factor in self.factors]

    def to_dense(self):
        if self.size == 0:  # PyTensor joins dimensions by a reshape to -1, which fails
            return pt.zeros((0, 0), dtype=self.factors[0].dtype)
        return functools.reduce(kron, self._symmetric())

    def _lower(self):
        return [pt.linalg.cholesky(factor, lower=True) for factor in self._symmetric()]

    def color(self, z):
        return along_axes(self._lower(), z)

    def draw_semidefinite(self, z):
        return along_axes([semidefinite_root(x) for x in self._symmetric()], z)

    def times(self, rows):
        return along_axes(self._symmetric(), rows)

    def whiten(self, residual):
        inverses = [
            pt.linalg.solve_triangular(lower, pt.eye(length(lower), dtype=lower.dtype), lower=True)
            for lower in self._lower()
        ]
        return along_axes(inverses, residual)

    def diagonal(self):
        return kron_vectors(pt.diagonal(x, axis1=-2, axis2=-1) for x in self.factors)

    def inverse_diagonal(self):
        return kron_vectors(map(inverse_diagonal, self._lower()))

    def innovations(self, residual):
        white = self.whiten(residual)
        scales = kron_vectors(pt.diagonal(x, axis1=-2, axis2=-1) for x in self._lower())
        return white, pt.log(scales) + pt.zeros_like(white)

    def scaled(self, factor):
        first, *others = self.parameters
        return type(self).from_parameters(product(factor, first), *others)

    def rows(self, positions):
        strips = []
        for factor in reversed(self._symmetric()):
            strips.append(factor[positions % factor.shape[0]])
            positions = positions // factor.shape[0]
        return functools.reduce(rowwise_kronecker, reversed(strips))

    def information(self, tangents):
        """W is a sum over factors; its parts are orthogonal but for the traces, which add."""
        n, total, scale = self.size, 0, 0
        for factor, lower, tangent in zip(self.factors, self._lower(), tangents, strict=True):
            size = lower.shape[-1].astype(lower.dtype)
            white = whitened(lower, symmetric_direction(factor, tangent))
            mean = pt.diagonal(white, axis1=-2, axis2=-1).sum(axis=-1) / size
            traceless = white - mean[:, None, None] * pt.eye(lower.shape[-1], dtype=lower.dtype)
            total, scale = total + n / size * half_gram(traceless), scale + mean
        return total + n * half_gram(scale)

    @staticmethod
    def forward_jax(residual, factors):
        from pm_gaussgrad.kernels import kronecker_jax

        return kronecker_jax.forward(residual, factors)

    @staticmethod
    def pullback_jax(white, lower, symmetric, quad_bar, logdet_bar):
        from pm_gaussgrad.kernels import kronecker_jax

        return kronecker_jax.pullback(white, lower, symmetric, quad_bar, logdet_bar)


class NoisyKronecker(Kronecker):
    """``Kronecker`` plus a scalar ``Diagonal``: the variance of the noise is the last parameter."""

    label = "gg.cov.Kronecker"
    summand = "gg.cov.Kronecker with noise"
    parameter_shapes = Kronecker.parameter_shapes | {"noise": ""}
    saved_shapes = {"rotated": "m n", "vectors": "n_i n_i", "values": "n_i", "symmetric": ""}
    repeated = dict.fromkeys(["factors", "vectors", "values", "symmetric"], "order")
    forward = staticmethod(kernels.noisy_forward)
    pullback = staticmethod(kernels.noisy_pullback)

    @property
    def factors(self):
        return self.parameters[:-1]

    @property
    def _noise(self):
        return self.parameters[-1][..., None]

    def to_dense(self):
        signal = super().to_dense()
        return signal + self._noise[..., None] * pt.eye(self.size, dtype=signal.dtype)

    def _spectrum(self):
        """Eigenvectors of the factors, and eigenvalues of the sum, shape (..., n)."""
        values, vectors = zip(*(pt.linalg.eigh(x) for x in self._symmetric()), strict=True)
        return vectors, kron_vectors(values) + self._noise

    def _power(self, exponent, rows):
        vectors, spectrum = self._spectrum()
        rotated = along_axes([v.mT for v in vectors], rows)
        return along_axes(vectors, spectrum**exponent * rotated)

    def color(self, z):
        # The symmetric root does not depend on the choice of eigenvectors.
        return self._power(0.5, z)

    def whiten(self, residual):
        return self._power(-0.5, residual)

    def times(self, rows):
        return super().times(rows) + self._noise * rows

    def draw_semidefinite(self, z):
        return self.draw(z)

    def diagonal(self):
        return super().diagonal() + self._noise

    def inverse_diagonal(self):
        vectors, spectrum = self._spectrum()
        return along_axes([v**2 for v in vectors], 1 / spectrum)

    def check_constants(self, n=None):
        check_positive(self.label, "eigenvalues of the sum", self._spectrum()[1])

    innovations = Covariance.innovations

    def scaled(self, factor):
        first, *others, noise = self.parameters
        return type(self).from_parameters(product(factor, first), *others, product(factor, noise))

    def rows(self, positions):
        return super().rows(positions) + rows_of_diagonal(positions, self.parameters[-1], self.size)

    def information(self, tangents):
        """In the eigenbasis: entries off the diagonal differ in one factor's index only."""
        *tangents, noise_dot = tangents
        values, vectors = zip(*(pt.linalg.eigh(x) for x in self._symmetric()), strict=True)
        k, shape = len(values), [x.shape[0] for x in values]
        grid = [on_axis(x, i, k) for i, x in enumerate(values)]
        others = [product_of([g for j, g in enumerate(grid) if j != i]) for i in range(k)]
        spectrum = product_of(grid) + self.parameters[-1]
        diagonal, total = noise_dot[(..., *[None] * k)], 0
        for i, (basis, tangent) in enumerate(zip(vectors, tangents, strict=True)):
            seen = symmetric_direction(self.factors[i], tangent)
            rotated = basis.T @ (seen @ basis)
            on_diagonal = pt.diagonal(rotated, axis1=-2, axis2=-1)
            axes = (slice(None), *(slice(None) if j == i else None for j in range(k)))
            diagonal = diagonal + on_diagonal[axes] * others[i]
            ratios = pt.moveaxis(others[i] / spectrum, i, 0).reshape((shape[i], -1))
            weights = matmul(ratios, ratios.T) * (1 - pt.eye(shape[i], dtype=rotated.dtype))
            total += half_gram(pt.sqrt(weights) * rotated)
        return total + half_gram(diagonal / spectrum)

    @staticmethod
    def forward_jax(residual, factors, noise):
        from pm_gaussgrad.kernels import kronecker_jax

        return kronecker_jax.noisy_forward(residual, factors, noise)

    @staticmethod
    def pullback_jax(noise, rotated, vectors, values, symmetric, quad_bar, logdet_bar):
        from pm_gaussgrad.kernels import kronecker_jax

        return kronecker_jax.noisy_pullback(
            noise, rotated, vectors, values, symmetric, quad_bar, logdet_bar
        )


def _with_factor(factor, factors, i):
    """The product with another factor in the i-th place."""
    product = Kronecker(*factors[:i], factor, *factors[i + 1 :])
    return made_of(product, factor, functools.partial(_with_factor, factors=factors, i=i))


def _flattened(i, factor):
    """The tensors of one argument: of a product, its factors."""
    if isinstance(factor, Kronecker) and not isinstance(factor, NoisyKronecker):
        return factor.parameters
    if isinstance(factor, Covariance):
        factor = factor.to_dense()
    factor = as_parameter("gg.cov.Kronecker", f"factors[{i}]", factor, 0)
    if factor.type.ndim < 2:
        raise TypeError(
            f"gg.cov.Kronecker: `factors[{i}]` has {factor.type.ndim} dimension(s), expected a "
            "matrix, (..., n_i, n_i); for variances on its diagonal pass gg.cov.Diagonal(v)."
        )
    check_square("gg.cov.Kronecker", f"factors[{i}]", factor)
    check_symmetric("gg.cov.Kronecker", f"factors[{i}]", factor)
    return (factor,)


@closes(Kronecker, ScalarDiagonal)
def _with_noise(product, diagonal):
    common_size(product, diagonal)
    noise = diagonal.parameters[0]
    if isinstance(product, NoisyKronecker):
        *factors, before = product.parameters
        return NoisyKronecker.from_parameters(*factors, before + noise)
    return NoisyKronecker.from_parameters(*product.parameters, noise)


mends(
    Kronecker,
    Diagonal,
    "Noise by task is gg.cov.Kronecker(gg.cov.Diagonal(d), gg.cov.Diagonal(1.0, size=n2)).",
)
