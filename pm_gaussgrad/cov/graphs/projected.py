r"""``Projected``: a latent structure with a sparse precision, seen through a sparse matrix.

Definition: Sigma = A M A', A = ``A`` (n, p), constant, and M = Q^-1 the covariance of ``latent``,
Q sparse. With independent noise it is a ``SparseLatents``, where costs and sources are.
"""

from functools import partial

import numpy as np
import pytensor.tensor as pt
import scipy.sparse as sp
from pytensor.graph.basic import Variable

from pm_gaussgrad.cov.graphs.latents import Latents
from pm_gaussgrad.cov.graphs.level_precision import LevelPrecision
from pm_gaussgrad.cov.graphs.pattern import as_wide
from pm_gaussgrad.cov.graphs.stacked_terms import of_fields, of_relative_field
from pm_gaussgrad.cov.protocol.arguments import as_constant
from pm_gaussgrad.cov.protocol.base import Covariance
from pm_gaussgrad.cov.protocol.latent import Latent, SparseLoadings
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.sums import summands_of

NAME = "gg.cov.Projected"


class Projected(Latents):
    r"""A latent structure seen through a sparse matrix, :math:`\Sigma = A M A^\top`: a summand.

    Parameters
    ----------
    A : sparse matrix or array_like, shape (n, p), in units of [y] / [x]
        Constant, of any format of SciPy: row i is what observation i sees of the p latents.
        Weights of a mean over an area, or of an interpolation between nodes; a one where an
        observation is that of a node.
    latent : Covariance
        Of size p, with a sparse precision matrix: ``SparsePrecision``, ``AR1`` at equal steps,
        ``Diagonal``.

    Raises
    ------
    TypeError
        If ``A`` is symbolic or no matrix of real numbers, or ``latent`` is no structure or has no
        sparse precision.
    ValueError
        If ``A`` has entries that are not finite, or ``latent`` is of another size than p.
    NotImplementedError
        If a log density, an inverse or a determinant is asked for before noise was added.

    Notes
    -----
    ``Projected(A, latent) + Diagonal(variance)`` is evaluated by a sparse Cholesky factor of
    :math:`H = Q + A^\top D^{-1} A`, (p, p), whose pattern is analysed once, when the density is
    built. It may be added to any number of others and of ``Effects``, in any order: their latents
    are stacked. A row of A with s entries costs :math:`s^2`.

    The pullback by the values of Q is :math:`\sum_i \bar q_i \hat x_i \hat x_i^\top + \bar\ell
    (H^{-1} - Q^{-1})` on its pattern, with the conditional means :math:`\hat x = H^{-1} A^\top
    D^{-1} r`.

    References
    ----------
    Rue, H. and Held, L. (2005). Gaussian Markov Random Fields, section 2.3.

    Examples
    --------
    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> walk = gg.cov.AR1(1.0, 0.5, size=3)
    >>> halves = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    >>> cov = gg.cov.Projected(halves, walk) + gg.cov.Diagonal(0.25)
    >>> cov.to_dense().eval()
    array([[1.    , 0.5625],
           [0.5625, 1.    ]])
    """

    label = NAME
    # What it is flattened into is not what users pass.
    parameter_shapes = {}

    def __init__(self, A, latent):
        if not isinstance(latent, Covariance):
            raise TypeError(
                f"{NAME}: `latent` is a {type(latent).__name__}, expected a gg.cov structure."
            )
        matrix = _as_sparse(A)
        p = matrix.shape[1]
        latent = of_size(latent, p).resolved
        if isinstance(latent.size, int) and latent.size != p:
            raise ValueError(
                f"{NAME}: `A` has shape {matrix.shape} and `latent` is of size {latent.size}, "
                "expected a column of A for each latent."
            )
        if type(latent).precision_entries is Covariance.precision_entries:
            raise TypeError(
                f"{NAME}: `latent` is a {latent.label}, which has no sparse precision matrix, "
                f"expected a structure that has one, as gg.cov.SparsePrecision; {_remedy(latent)}."
            )
        self.latent = partial(_as_latent, matrix, latent)
        sums, flat, relative = latent.sums_to_zero(), bool(latent.flat), latent.relative_precision
        if relative is None:
            values, indptr, indices = latent.precision_entries()
            values = pt.as_tensor_variable(values)
            self._terms = of_fields(matrix, values, indptr, indices, sums, flat)
        else:
            variance, *between = relative
            self._terms = of_relative_field(
                matrix, variance, LevelPrecision.of(*between), sums, flat
            )


def _as_latent(matrix, latent):
    """The latents themselves, and how observations see them."""
    if latent.flat:
        raise NotImplementedError(
            f"{NAME}: a {latent.label} whose means have a flat prior is not drawn given the data, "
            "expected one that sums to zero, with the mean beside it: "
            'gg.cov.ICAR(W, sigma) and gg.cov.Linear(ones, "flat").'
        )
    p = matrix.shape[1]
    return Latent(of_size(latent, p), SparseLoadings.of(matrix), (p,))


def identity(n: int) -> sp.csr_array:
    """What a field is seen through of which each node is observed itself."""
    return sp.eye_array(n, format="csr")


def _remedy(latent) -> str:
    """What to write instead of a latent that has no sparse precision."""
    if len(summands_of(latent)) > 1:
        return (
            "of a sum project each summand by itself, gg.cov.Projected(A, one) + "
            "gg.cov.Projected(A, other), and add noise of the observations to that"
        )
    return (
        "of a small dense matrix write gg.cov.LowRank(A @ pt.linalg.cholesky(M)), M its to_dense()"
    )


def _as_sparse(matrix):
    """A constant matrix of real, finite numbers, by rows, columns ascending."""
    if isinstance(matrix, Variable):
        raise TypeError(
            f"{NAME}: `A` is symbolic, expected a constant: a SciPy sparse matrix or an array."
        )
    matrix = matrix if sp.issparse(matrix) else as_constant(NAME, "A", matrix)
    if matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
        raise TypeError(
            f"{NAME}: `A` has shape {matrix.shape} and dtype {matrix.dtype}, expected (n, p) and "
            "real numbers."
        )
    matrix = sp.csr_array(as_wide(matrix), dtype=np.float64)
    matrix.sum_duplicates()
    broken = np.count_nonzero(~np.isfinite(matrix.data))
    if broken:
        raise ValueError(f"{NAME}: `A` has {broken} entries that are not finite, expected numbers.")
    return matrix
