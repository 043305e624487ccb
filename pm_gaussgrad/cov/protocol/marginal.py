r"""The covariance of some of the observations, for data with gaps.

Definition: Sigma_oo, the rows and columns of the observed entries o of a covariance. Where these
have the structure of the whole (``keep``), as for a matrix or a factor model, the others are
dropped; where they have not, as for the gaps of a time series or a grid, ``Marginal`` works with
the whole covariance and the precision of its missing entries
(:mod:`pm_gaussgrad.cov.protocol.gaps`).

Draws and whitening: with S S' = Sigma and E the unit rows of the k missing entries m, the rows of
E S'^-1 span what a residual filled with its conditional means is orthogonal to after whitening.
Let Q (k, n) be an orthonormal basis of them and Q_m = X diag(s) Y'. Rotated so that Q_m is
symmetric, Q completes to an orthogonal matrix in closed form, and for x = S^-1 r^

    z_o = x_o - Q_o' X (1 + s)^-1 Y' x_m        has iid entries; its inverse is
    x_o = z_o - Q_o' X (1 + s)^-1 X' Q_o z_o,   x_m = -Y X' Q_o z_o.

Sources: as in :mod:`pm_gaussgrad.cov.protocol.gaps`; Golub and Van Loan (2013), Matrix
Computations, 4th ed., sections 2.5.4 (the polar form) and 5.2.2.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant, Variable

from pm_gaussgrad.cov.protocol.base import Covariance, as_parameter, check_size
from pm_gaussgrad.cov.protocol.composite import Composite, Composition
from pm_gaussgrad.cov.protocol.gaps import MissingEntries, observed_quad_logdet_alpha
from pm_gaussgrad.cov.protocol.products import matmul, rows_times
from pm_gaussgrad.ops import among_zeros, entries_at

NAME = "gg.cov.marginal"


def marginal(cov, observed):
    r"""The covariance of some of the observations, :math:`\Sigma_{oo}`.

    Parameters
    ----------
    cov : gg.cov structure
        Of known size n.
    observed : array_like of bool, shape (n), or of int, shape (n_observed)
        Constant: which observations to keep, as a mask or as increasing positions.

    Returns
    -------
    Covariance
        A structure of the same kind where dropping observations leaves one (``keep``), else one
        that works with the whole.

    Raises
    ------
    TypeError
        If ``cov`` is no structure, or ``observed`` is neither a mask nor positions.
    ValueError
        If the size of ``cov`` is unknown, or ``observed`` does not fit it.

    Notes
    -----
    Where the whole is needed, with k missing entries: two factorisations of the whole covariance,
    which must be positive definite, 2 k solves with it, and k^3. Memory O(k n).

    References
    ----------
    Rue, H. and Held, L. (2005). Gaussian Markov Random Fields, theorem 2.5.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> cov = gg.cov.AR1(1.0, 0.5, size=3)
    >>> gg.cov.marginal(cov, [True, False, True]).to_dense().eval()
    array([[1.  , 0.25],
           [0.25, 1.  ]])
    """
    if not isinstance(cov, Covariance):
        raise TypeError(f"{NAME}: `cov` is a {type(cov).__name__}, expected a gg.cov structure.")
    n = cov.size if isinstance(cov.size, int) else cov.resolved.size
    return marginal_of(cov, _as_positions(observed, n), n)


def marginal_of(cov, observed, n):
    """:func:`marginal` of increasing positions where something else says the size, n."""
    if observed.size == n:
        return cov
    kept = cov.keep(observed)
    if kept is not None:
        return kept
    missing = np.setdiff1d(np.arange(n), observed)
    return Marginal.of(cov.resolved, pt.constant(observed), pt.constant(missing))


def _as_positions(observed, n):
    """Increasing positions of the observed entries, as a constant array."""
    if isinstance(observed, Constant):
        observed = observed.data
    if isinstance(observed, Variable):
        raise TypeError(f"{NAME}: `observed` is symbolic, expected a constant mask or positions.")
    if not isinstance(n, int):
        raise ValueError(
            f"{NAME}: the size of `cov` is not known; give it size=, or parameters of known shape."
        )
    observed = np.asarray(observed)
    if observed.ndim != 1 or (observed.dtype.kind not in "bui" and observed.size):
        raise TypeError(
            f"{NAME}: `observed` has shape {observed.shape} and dtype {observed.dtype}, expected a "
            "vector of bool or int."
        )
    if observed.dtype.kind == "b":
        if observed.size != n:
            raise ValueError(
                f"{NAME}: `observed` has {observed.size} entries, expected a mask of {n}, the size "
                "of `cov`."
            )
        return np.flatnonzero(observed)
    observed = observed.astype("int64")
    inside = observed.size == 0 or (observed[0] >= 0 and observed[-1] < n)
    if not inside or (np.diff(observed) <= 0).any():
        raise ValueError(
            f"{NAME}: `observed` must be increasing positions from 0 to {n - 1}, without repeats."
        )
    return observed


class MarginalForm(Composition):
    """A :class:`Composition` of the whole, with the positions as parameters of its own."""

    @property
    def parameter_shapes(self):
        """Those of the whole, which has dimensions of its own, and the positions."""
        return {**super().parameter_shapes, "observed": "n", "missing": "k"}

    @property
    def constant_parameters(self):
        """Names of the parameters without a gradient."""
        return super().constant_parameters | {"observed", "missing"}

    def from_parameters(self, *parameters, size=None):
        """Rebuild from the tensors that ``parameters`` flattened it to."""
        *own, observed, missing = parameters
        [structure], [whole_size] = self.structures, self.sizes
        if whole_size is None:
            whole_size = pt.as_tensor(observed).shape[0] + pt.as_tensor(missing).shape[0]
        return Marginal.of(structure.from_parameters(*own, size=whole_size), observed, missing)


class Marginal(Composite):
    """Some of the observations of a structure that is not closed under dropping the others."""

    how = "solves with the whole for its missing entries"
    label = NAME
    part_name = "whole"

    @classmethod
    def of(cls, whole, observed, missing):
        """From the whole covariance and the positions of its entries, two integer vectors."""
        rebuilt = cls.from_parts([whole])
        rebuilt.observed, rebuilt.missing = map(pt.as_tensor_variable, (observed, missing))
        return rebuilt

    @property
    def _whole(self):
        return self.parts[0]

    @property
    def parameters(self):
        """Those of the whole, and the positions of the observed and of the missing entries."""
        return (*self._whole.parameters, self.observed, self.missing)

    @property
    def structure(self):
        """Hashable, with ``from_parameters``."""
        whole = super().structure
        return MarginalForm(whole.kind, whole.structures, whole.sizes, whole.places)

    @property
    def size(self):
        static = self.observed.type.shape[0]
        return self.observed.shape[0] if static is None else static

    def _entries(self):
        return MissingEntries(self._whole, self.missing, self.sizes[0])

    def _spread(self, name, value):
        """Rows of observed entries among zeros: (..., n_observed) -> (..., n)."""
        value = as_parameter(self.label, name, value, 1)
        check_size(self, name, value)
        return among_zeros(value, self.observed, self.sizes[0])

    def to_dense(self):
        # One dimension after the other: PyTensor takes both out of a product of batches wrongly.
        return self._whole.to_dense()[..., self.observed, :][..., self.observed]

    def quad_logdet(self, residual):
        residual = self._spread("residual", residual)
        quad, logdet, _ = observed_quad_logdet_alpha(self._whole, residual, self.missing)
        return quad, logdet

    def solve(self, b):
        rows = self._spread("b", b)
        alpha = observed_quad_logdet_alpha(self._whole, rows, self.missing)[2]
        return entries_at(alpha, self.observed)

    def logdet(self):
        return self._entries().logdet()

    def noise_size(self, n):
        return self._whole.noise_size(self.sizes[0])

    def draw(self, z):
        return self._whole.draw(z)[..., self.observed]

    def _completion(self):
        """Q_o, Q_o' X (1 + s)^-1 and X, Y of the module docstring, batches first."""
        entries = self._entries()
        basis = pt.moveaxis(self._whole.whiten(entries.unit_rows), 0, -2)
        basis = matmul(entries.inverse_factor(), basis)
        left, s, right = pt.linalg.svd(basis[..., self.missing])
        observed = basis[..., self.observed]
        return observed, matmul(observed.mT, left) / (1 + s)[..., None, :], left, right

    def whiten(self, residual):
        filled = self._entries().fill(self._spread("residual", residual))
        white = self._whole.whiten(filled)
        _, correction, _, right = self._completion()
        turned = rows_times(white[..., self.missing], right.mT)
        return white[..., self.observed] - rows_times(turned, correction.mT)

    def color(self, z):
        basis, correction, left, right = self._completion()
        z = pt.as_tensor_variable(z)
        turned = rows_times(rows_times(z, basis.mT), left)
        white = self._spread("z", z - rows_times(turned, correction.mT))
        white = white[..., self.missing].set(-rows_times(turned, right))
        return self._whole.color(white)[..., self.observed]

    def diagonal(self):
        return self._whole.diagonal()[..., self.observed]

    def inverse_diagonal(self):
        return self._entries().inverse_diagonal()[..., self.observed]

    def keep(self, observed):
        positions = self.observed.data[observed]
        missing = np.setdiff1d(np.arange(self.sizes[0]), positions)
        return Marginal.of(self._whole, pt.constant(positions), pt.constant(missing))

    def scaled(self, factor):
        return Marginal.of(self._whole.scaled(factor), self.observed, self.missing)

    def __repr__(self):
        return f"{self.label}({self._whole!r}, {self.size} of {self.sizes[0]})"

    def rows(self, positions):
        return self._whole.rows(self.observed[positions])[:, self.observed]

    def times(self, rows):
        return self._whole.times(self._spread("rows", rows))[..., self.observed]
