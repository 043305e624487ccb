r"""Conditioning on observations by their covariance with what is to be predicted.

Let Sigma (n, n) be the covariance of the observations, S S' = Sigma, C (n, n_new) their
covariance with new entries, whose own is K (n_new, n_new), and r the residual. With the whitened
columns W = S^-1 C,

    E(new | r) = C' Sigma^-1 r,    Var(new | r) = K - W' W.

What the observations explain is a sum of squares: where the new entries are observations without
noise, W' W is K, and the mean the residual, up to rounding. Where observations are missing, C and
r are filled in with their conditional means first (:mod:`pm_gaussgrad.cov.protocol.gaps`), so
that Sigma^-1 takes the place of the inverse of the observed part.

Sources: Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, eq. A.6 and
algorithm 2.1; Cressie (1993), Statistics for Spatial Data, section 3.2.
"""

import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.products import matmul, rows_times


class Kriging:
    """Conditional means and covariances of new entries.

    Parameters
    ----------
    cov : Covariance
        Of the observations, of size n.
    cross_cov : TensorVariable, shape (..., n, n_new)
    entries : MissingEntries, optional
        Of the observations that are missing.
    whiten : callable, optional
        In place of the covariance's, for what has a precision alone.
    """

    def __init__(self, cov, cross_cov, entries=None, whiten=None):
        self.cov, self.cross_cov, self.entries = cov, cross_cov, entries
        self._whiten = cov.whiten if whiten is None else whiten

    def _filled(self, rows):
        return rows if self.entries is None else self.entries.fill(rows)

    def mean(self, residual):
        """Conditional means given residuals: (..., n) -> (..., n_new)."""
        return rows_times(self.cov.solve(self._filled(residual)), self.cross_cov)

    def mean_by_root(self, residual):
        """The same as W' S^-1 r: nothing but W is needed, where variances are asked for too."""
        white = pt.moveaxis(self._white(), 0, -1)
        return rows_times(self._whiten(self._filled(residual)), white)

    def _white(self):
        """W', a row each new entry: (n_new, ..., n)."""
        columns = pt.moveaxis(self.cross_cov, -1, 0)
        by_row = self.entries is not None and self.entries.by_row
        batch_ndim = self.entries.missing.type.ndim - 1 if by_row else self.cov.batch_ndim
        lacking = max(0, batch_ndim - (columns.type.ndim - 2))
        columns = pt.expand_dims(columns, tuple(range(1, 1 + lacking)))
        return self._whiten(self._filled(columns))

    def explained_variances(self):
        """diag(W' W), shape (..., n_new)."""
        return pt.moveaxis((self._white() ** 2).sum(axis=-1), 0, -1)

    def explained(self):
        """W' W, shape (..., n_new, n_new), symmetric."""
        white = pt.moveaxis(self._white(), 0, -2)
        product = matmul(white, white.mT)
        return (product + product.mT) / 2


class GivenObserved:
    """Entries of a covariance matrix given the others, by its blocks.

    Takes the place of :class:`~pm_gaussgrad.cov.protocol.gaps.MissingEntries`. Only the block of
    the observed entries has to be positive definite: a new entry may repeat an observed one.

    Parameters
    ----------
    cov : Covariance
        Of the observed entries.
    cross_cov : TensorVariable, shape (..., n_observed, k)
    cov_missing : TensorVariable, shape (..., k, k)
    observed, missing : array of int
        Positions in the whole.
    """

    def __init__(self, cov, cross_cov, cov_missing, observed, missing):
        self.kriging = Kriging(cov, cross_cov)
        self.cov_missing = cov_missing
        self.observed, self.missing = observed, missing

    def fill(self, residual):
        """Conditional means in place of the missing entries: (..., n) -> (..., n)."""
        return with_entries(residual, self.missing, self.kriging.mean(residual[..., self.observed]))

    def draw(self, residual, z):
        """A conditional draw in place of the missing entries: (..., n) -> (..., n)."""
        mean = self.kriging.mean(residual[..., self.observed])
        covariance = self.cov_missing - self.kriging.explained()
        return with_entries(
            residual, self.missing, mean + color_semidefinite(covariance, z[..., self.missing])
        )

    def variances(self):
        """Conditional variances of the missing entries, zero elsewhere: shape (..., n)."""
        prior = pt.diagonal(self.cov_missing, axis1=-2, axis2=-1)
        variances = prior - self.kriging.explained_variances()
        n = len(self.observed) + len(self.missing)
        zeros = pt.zeros((*tuple(variances.shape)[:-1], n), dtype=variances.dtype)
        return zeros[..., self.missing].set(variances)


def with_entries(residual, positions, entries):
    """Rows with others at some positions, an array of int: (..., n), (k), (..., k) -> (..., n)."""
    leading = pt.broadcast_shape(entries.sum(axis=-1), residual.sum(axis=-1))
    rows = pt.broadcast_to(residual, (*leading, residual.shape[-1]))
    return rows[..., positions].set(entries)


def color_semidefinite(matrix, z):
    """Draws from white noise by the symmetric root: (..., k, k), (..., k) -> (..., k).

    The matrix may be singular; eigenvalues that rounding made negative are taken as zero.
    """
    vectors, root = _axes_and_scales(matrix)
    return rows_times(root * rows_times(z, vectors), vectors.mT)


def semidefinite_root(matrix):
    """The symmetric root, (..., k, k), of a matrix that may be singular."""
    vectors, root = _axes_and_scales(matrix)
    return matmul(vectors * root[..., None, :], vectors.mT)


def _axes_and_scales(matrix):
    values, vectors = pt.linalg.eigh(matrix)
    return vectors, pt.sqrt(pt.switch(pt.lt(values, 0), 0, values))
