r"""``Eigenbasis``: known eigenvectors, eigenvalues that depend on parameters.

Definition: Sigma = V diag(lam) V', V = ``eigenvectors`` (n, n) constant and orthonormal, lam =
``eigenvalues`` (n,). Storage: n^2, once. Value and gradient: two products of V and the rows,
2 n^2 flops each a row; of rows that were rotated beforehand, O(n).

With the rotated residual t = V'r,

    quad = sum_j t_j^2 / lam_j        logdet = sum_j log lam_j        alpha = V (t / lam)

Pullback, t being saved: eigenvalues_bar_j = l_bar / lam_j - sum_i q_bar_i (t_ij / lam_j)^2. The
derivatives of eigenvectors, which are infinite at repeated eigenvalues, do not enter.

Sources: Lippert et al. (2011), FaST linear mixed models for genome-wide association studies,
Nature Methods 8, 833-835; Rasmussen and Williams (2006), Gaussian Processes for Machine
Learning, eq. 5.9 in the coordinates of V.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable, equal_computations
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.shape import Shape, Shape_i

from pm_gaussgrad.cov.matrices.diagonal import Diagonal, ScalarDiagonal
from pm_gaussgrad.cov.protocol.arguments import check_square
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.constants import check_finite, check_positive
from pm_gaussgrad.cov.protocol.information import half_gram
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.products import matmul, rows_times
from pm_gaussgrad.cov.protocol.scales import product
from pm_gaussgrad.cov.protocol.sums import closes, common_size
from pm_gaussgrad.kernels.lapack import matrix_product
from pm_gaussgrad.kernels.symmetric import log_product, rows_dot


def _forward(residual, eigenvectors, eigenvalues):
    rows, basis = np.ascontiguousarray(residual), np.ascontiguousarray(eigenvectors)
    rotated, alpha = np.empty(rows.shape, rows.dtype), np.empty(rows.shape, rows.dtype)
    matrix_product(rows, basis, rotated)
    scaled = rotated / eigenvalues
    matrix_product(scaled, basis.T, alpha)
    return rows_dot(rotated, scaled), log_product(eigenvalues), alpha, rotated


def _pullback(eigenvalues, rotated, quad_bar, logdet_bar):
    eigenvalues_bar = logdet_bar / np.ascontiguousarray(eigenvalues)
    for i in range(rotated.shape[0]):
        for j in range(rotated.shape[1]):
            eigenvalues_bar[j] -= quad_bar[i] * (rotated[i, j] / eigenvalues[j]) ** 2
    return (eigenvalues_bar,)


class Eigenbasis(Leaf):
    r"""Known eigenvectors: :math:`\Sigma = V \operatorname{diag}(\lambda) V^\top`, V constant.

    For every function of a fixed symmetric matrix: ``a * E + gg.cov.Diagonal(s)`` with ``E =
    Eigenbasis.from_matrix(K)`` is a variance-component model of a known relationship matrix K.

    Parameters
    ----------
    eigenvectors : array_like, shape (..., n, n), in units of 1
        Constant, with orthonormal columns.
    eigenvalues : tensor_like, shape (..., n), in units of [y]^2
        The eigenvalue of each column; may depend on parameters.

    Raises
    ------
    TypeError
        If an argument has too few dimensions or is not real.
    ValueError
        If sizes disagree, columns are not orthonormal, or eigenvalues are not finite.
    NotImplementedError
        If ``eigenvectors`` depends on a variable of the model.

    Notes
    -----
    Cost of value and gradient: O(n^2) a row, two products of V and the residual; O(n) with data
    and mean rotated beforehand (:meth:`rotate`, :meth:`rotated`). The pullback is
    :math:`\bar\lambda_j = \bar l/\lambda_j - \sum_i \bar q_i ((V^\top r_i)_j/\lambda_j)^2`.

    References
    ----------
    Lippert, C. et al. (2011). FaST linear mixed models for genome-wide association studies.
    Nature Methods 8, 833-835.

    Examples
    --------
    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> E = gg.cov.Eigenbasis.from_matrix([[1.0, 0.5], [0.5, 1.0]])
    >>> (2.0 * E + gg.cov.Diagonal(0.1)).to_dense().eval().round(6)
    array([[2.1, 1. ],
           [1. , 2.1]])
    """

    how = "rotation into the eigenvectors, n^2 a row"
    parameter_shapes = {"eigenvectors": "n n", "eigenvalues": "n"}
    constant_parameters = frozenset({"eigenvectors"})
    saved_shapes = {"rotated": "m n"}
    forward = staticmethod(_forward)
    pullback = staticmethod(_pullback)

    def __init__(self, eigenvectors, eigenvalues):
        vectors = _constant_basis(eigenvectors)
        values = as_parameter("gg.cov.Eigenbasis", "eigenvalues", eigenvalues, 1)
        n, found = vectors.type.shape[-1], values.type.shape[-1]
        if None not in (n, found) and n != found:
            raise ValueError(
                f"gg.cov.Eigenbasis: `eigenvalues` has shape {values.type.shape}, expected n = {n} "
                "in the last dimension, one for each column of `eigenvectors`."
            )
        check_finite("gg.cov.Eigenbasis", "eigenvalues", values)
        self.parameters = (vectors, values)

    def check_constants(self, n=None):
        check_positive(
            self.label,
            "eigenvalues",
            self.eigenvalues,
            "a singular matrix needs noise: add gg.cov.Diagonal(variance)",
        )

    @classmethod
    def from_matrix(cls, matrix):
        """The structure of a constant symmetric matrix, decomposed here, once, in O(n^3).

        Parameters
        ----------
        matrix : array_like, shape (..., n, n)
            Symmetric. It may be singular, as relationship matrices are, if the covariance is a
            sum with noise: eigenvalues that are zero in exact arithmetic come out as tiny numbers
            of either sign, and are left as they come.

        Returns
        -------
        Eigenbasis

        Raises
        ------
        ValueError
            If the matrix is not square, finite and symmetric.
        NotImplementedError
            If it is a tensor.
        """
        owner = "gg.cov.Eigenbasis.from_matrix"
        if isinstance(matrix, Variable):
            raise NotImplementedError(
                f"{owner}: `matrix` is a tensor, expected an array, which is decomposed now. Pass "
                "its numbers; for a matrix that depends on parameters write gg.cov.Dense(matrix)."
            )
        matrix = as_parameter(owner, "matrix", matrix, 2).data.astype("float64")
        check_square(owner, "matrix", pt.as_tensor_variable(matrix))
        if not np.isfinite(matrix).all():
            raise ValueError(
                f"{owner}: `matrix` has entries that are not finite; expected numbers."
            )
        asymmetry = np.abs(matrix - np.swapaxes(matrix, -1, -2)).max(initial=0)
        if asymmetry > 1e-8 * np.abs(matrix).max(initial=0):
            raise ValueError(
                f"{owner}: `matrix` differs from its transpose by up to {asymmetry:.3g}, expected "
                "a symmetric matrix. If the differences are noise, pass (K + K.T) / 2."
            )
        values, vectors = np.linalg.eigh((matrix + np.swapaxes(matrix, -1, -2)) / 2)
        return cls(vectors, values)

    @property
    def size(self):
        for tensor in self.parameters:
            if tensor.type.shape[-1] is not None:
                return tensor.type.shape[-1]
        return self.parameters[1].shape[-1]

    @property
    def eigenvectors(self):
        """V, shape (..., n, n)."""
        return self.parameters[0]

    @property
    def eigenvalues(self):
        """The eigenvalues, shape (..., n)."""
        return self.parameters[1]

    def rotate(self, x, axis=-1):
        r"""V'x: the coordinates in which observations are independent.

        Parameters
        ----------
        x : array_like or tensor_like, shape (..., n), or n along ``axis``
            Data, or with ``axis=0`` a design matrix (n, p).
        axis : int, default -1
            The dimension of the observations.

        Returns
        -------
        numpy.ndarray or TensorVariable
            An array for an array, a tensor for a tensor.

        Examples
        --------
        >>> import numpy as np
        >>> import pymc as pm
        >>> import pm_gaussgrad as gg
        >>> K, X, y = np.ones((3, 3)), np.eye(3)[:, :2], np.array([0.3, 0.1, -0.2])
        >>> E = gg.cov.Eigenbasis.from_matrix(K)
        >>> with pm.Model():
        ...     a, s = pm.HalfNormal("a"), pm.HalfNormal("s")
        ...     beta = pm.Normal("beta", shape=2)
        ...     cov = a * E + gg.cov.Diagonal(s)
        ...     mu = E.rotate(X, axis=0) @ beta
        ...     y_rotated = gg.MvNormal("y_rotated", mu, cov.rotated(), observed=E.rotate(y))
        """
        return self._turn("rotate", x, axis, rows_times)

    def unrotate(self, x, axis=-1):
        """V x, the inverse of :meth:`rotate`: from independent coordinates to observations."""
        return self._turn("unrotate", x, axis, lambda rows, basis: rows_times(rows, basis.mT))

    def rotated(self):
        """The covariance of :meth:`rotate`-d observations, ``Diagonal(eigenvalues)``."""
        # Not checked: eigenvalues that are zero but for rounding may be waiting for noise.
        return Diagonal.from_parameters(self.eigenvalues)

    def _turn(self, name, x, axis, product):
        basis, numbers = self.eigenvectors, not isinstance(x, Variable)
        x = as_parameter(f"gg.cov.Eigenbasis.{name}", "x", x, 1)
        found, n = x.type.shape[axis], self.size
        if isinstance(n, int) and found not in (None, n):
            raise ValueError(
                f"gg.cov.Eigenbasis.{name}: `x` has shape {x.type.shape}, expected n = {n} in "
                f"dimension {axis}; name the dimension of the observations by axis=."
            )
        if isinstance(x, Constant):
            _check_whole(name, np.isnan(x.data), axis)
        if numbers and isinstance(basis, Constant):
            rows = np.moveaxis(x.data, axis, -1)
            return np.moveaxis(product(rows, basis.data), -1, axis)
        return pt.moveaxis(product(pt.moveaxis(x, axis, -1), basis), -1, axis)

    def to_dense(self):
        vectors, values = self.parameters
        return matmul(vectors * values[..., None, :], vectors.mT)

    def _scaled_along_axes(self, scale, rows):
        """V diag(scale) V' r: the choice of eigenvectors does not matter."""
        vectors = self.eigenvectors
        return rows_times(scale * rows_times(pt.as_tensor_variable(rows), vectors), vectors.mT)

    def color(self, z):
        return self._scaled_along_axes(pt.sqrt(self.eigenvalues), z)

    def whiten(self, residual):
        return self._scaled_along_axes(1 / pt.sqrt(self.eigenvalues), residual)

    def times(self, rows):
        return self._scaled_along_axes(self.eigenvalues, rows)

    def draw(self, z):
        # White noise is white in any basis: one product less than `color`.
        return rows_times(pt.sqrt(self.eigenvalues) * z, self.eigenvectors.mT)

    def draw_semidefinite(self, z):
        vectors, values = self.parameters
        return Eigenbasis.from_parameters(vectors, pt.maximum(values, 0)).draw(z)

    def diagonal(self):
        vectors, values = self.parameters
        return (vectors**2 * values[..., None, :]).sum(axis=-1)

    def inverse_diagonal(self):
        vectors, values = self.parameters
        return (vectors**2 / values[..., None, :]).sum(axis=-1)

    def scaled(self, factor):
        vectors, values = self.parameters
        return Eigenbasis.from_parameters(vectors, product(factor, values))

    @staticmethod
    def forward_jax(residual, eigenvectors, eigenvalues):
        import jax.numpy as jnp

        rotated = residual @ eigenvectors
        scaled = rotated / eigenvalues
        quad = (rotated * scaled).sum(axis=1)
        return quad, jnp.log(eigenvalues).sum(), scaled @ eigenvectors.T, rotated

    @staticmethod
    def pullback_jax(eigenvalues, rotated, quad_bar, logdet_bar):
        through_quad = (quad_bar[:, None] * (rotated / eigenvalues) ** 2).sum(axis=0)
        return (logdet_bar / eigenvalues - through_quad,)

    def information(self, tangents):
        return half_gram(tangents[1] / self.eigenvalues)


def _constant_basis(vectors):
    """The eigenvectors as a C-contiguous constant, or a tensor without upstream variables."""
    owner = "gg.cov.Eigenbasis"
    if isinstance(vectors, Constant):
        vectors = vectors.data
    if isinstance(vectors, Variable):
        tensor = as_parameter(owner, "eigenvectors", vectors, 2)
        if (upstream := _upstream(tensor)) is not None:
            raise NotImplementedError(
                f"{owner}: `eigenvectors` depends on {upstream}, expected constants: the "
                "derivative of eigenvectors is not implemented. For a covariance whose "
                "eigenvectors depend on parameters write gg.cov.Dense(matrix)."
            )
    else:
        tensor = as_parameter(owner, "eigenvectors", vectors, 2)
        if isinstance(tensor, Constant):
            tensor = pt.constant(np.ascontiguousarray(tensor.data))
    check_square(owner, "eigenvectors", tensor)
    if isinstance(tensor, Constant):
        _check_orthonormal(tensor.data)
    return tensor


def _upstream(tensor):
    """A variable on whose value a tensor depends, or None; pm.Data and inputs themselves pass."""
    waiting = [] if tensor.owner is None else [tensor]
    seen = set()
    while waiting:
        x = waiting.pop()
        if x in seen or (x.owner and isinstance(x.owner.op, Shape | Shape_i)):
            continue
        seen.add(x)
        if x.owner:
            if any(isinstance(i.type, RandomType) for i in x.owner.inputs):
                return x
            waiting += x.owner.inputs
        elif not isinstance(x, Constant | SharedVariable):
            return x
    return None


def _check_orthonormal(vectors):
    """V'V z = z for a random z: O(n^2), where V'V itself would be O(n^3)."""
    n = vectors.shape[-1]
    z = np.random.default_rng(0).normal(size=(n, 1)).astype(vectors.dtype)
    back = np.swapaxes(vectors, -1, -2) @ (vectors @ z)
    error = np.abs(back - z).max(initial=0)
    if not error <= 100 * np.sqrt(np.finfo(vectors.dtype).eps):
        raise ValueError(
            "gg.cov.Eigenbasis: the columns of `eigenvectors` are not orthonormal, expected those "
            "of numpy.linalg.eigh; for the eigenbasis of a symmetric matrix write "
            "gg.cov.Eigenbasis.from_matrix(matrix)."
        )


def _check_whole(name, missing, axis):
    """Raise where some but not all of a row is NaN: all of the row would become NaN."""
    if (missing.any(axis=axis) & ~missing.all(axis=axis)).any():
        raise ValueError(
            f"gg.cov.Eigenbasis.{name}: `x` has missing values, NaN, expected none, as each entry "
            "of the result depends on all of a row; leave them as NaN in `observed` of the "
            "covariance that is not rotated, or take them out of the matrix first."
        )


@closes(Eigenbasis, ScalarDiagonal)
def _sum_with_noise(left, right):
    common_size(left, right)
    vectors, values = left.parameters
    return Eigenbasis.from_parameters(vectors, values + right.parameters[0][..., None])


@closes(Eigenbasis, Eigenbasis)
def _sum(left, right):
    common_size(left, right)
    (vectors, values), (other_vectors, other_values) = left.parameters, right.parameters
    if vectors is not other_vectors and not equal_computations([vectors], [other_vectors]):
        raise TypeError(
            "gg.cov.Eigenbasis + gg.cov.Eigenbasis: the eigenvectors differ, expected the same in "
            "both; sums of matrices that do not commute have eigenvectors of their own. For the "
            "dense sum, at a cost of n^3, write gg.cov.Dense(a.to_dense() + b.to_dense())."
        )
    return Eigenbasis.from_parameters(vectors, values + other_values)
