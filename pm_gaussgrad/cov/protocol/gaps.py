r"""Missing entries of any structure, by blocks of its precision: marginals and conditionals.

Let o be the observed and m the missing entries, P = Sigma^-1, E the unit rows of m, and r the
residual with zeros at m. With A = E P (k solves), P_mm = A E' = L L' and c = P_mm^-1 A r,

    r^ = r - E'c             the conditional mean of the residual given its observed entries
    r_o' Sigma_oo^-1 r_o = r^' P r^ = min over r_m of r' P r
    log|Sigma_oo| = log|Sigma| + log|P_mm|
    Var(r_m | r_o) = P_mm^-1
    s + (r - s)^, s a draw of all entries, is a draw of r_m given r_o.

The quadratic form is that of the filled row: no difference of large numbers is taken. Because
r^ is a minimum, the pullback is that of the structure for the rows r^ and V = L^-1 E held fixed
(:mod:`pm_gaussgrad.cov.protocol.minimum`): no cotangent passes through the solves. Nothing of
n x n is formed.

Sources: Rue and Held (2005), Gaussian Markov Random Fields, theorem 2.5; Horn and Johnson (2012),
Matrix Analysis, 2nd ed., sections 0.7.3 and 0.8.5; Chiles and Delfiner (2012), Geostatistics,
2nd ed., section 7.3.1 (draws, after Matheron).
"""

import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType

from pm_gaussgrad.cov.protocol.base import length
from pm_gaussgrad.cov.protocol.minimum import MinimisedQuadLogdet
from pm_gaussgrad.cov.protocol.products import rows_times, standardised_by, unit_rows
from pm_gaussgrad.cov.protocol.scales import inverse_scale
from pm_gaussgrad.cov.protocol.triangular import lower_solve
from pm_gaussgrad.ops import (
    condition_on_observed_rows,
    join_dims,
    lengths,
    partition,
    rows_last,
    split_dims,
)

NAME = "missing entries"


class MissingEntries:
    """What the missing entries of a covariance need to be marginalised or filled in.

    Parameters
    ----------
    cov : Covariance
    missing : integer tensor, shape (k) or (..., k)
        Positions of the missing entries, common to all rows; or of each row, filled up by n.
    n
        Number of observations, of which these are missing.
    """

    def __init__(self, cov, missing, n):
        self.cov, self.missing, self.n = cov, missing, n
        self.by_row = missing.type.ndim > 1
        self.unit_rows = self._unit_rows(cov.parameters[0].dtype)
        # Rows of the precision, those of a batch or row together: (..., k, n).
        self.solved = pt.moveaxis(cov.solve(self.unit_rows), 0, -2)

    def _unit_rows(self, dtype):
        """E with the missing entries first: (k, ..., n)."""
        columns = pt.moveaxis(self.missing, -1, 0)[..., None]
        rows = pt.eq(pt.arange(self.n), columns).astype(dtype)
        if self.by_row:
            return rows
        return pt.expand_dims(rows, tuple(range(1, 1 + self.cov.batch_ndim)))

    def _condition(self, rows):
        """The Op, of rows (..., m, n)."""
        return condition_on_observed_rows(rows, self.solved, self.missing)

    def _without_rows(self):
        """log|P_mm| / 2 and L^-1 E."""
        return self._condition(pt.zeros_like(self.solved[..., 0, :])[..., None, :])[1:]

    def logdet(self):
        """log|Sigma_oo|, of each batch or row."""
        return self.cov.quad_logdet(self.unit_rows)[1] + 2 * self._without_rows()[0]

    def fill(self, residual):
        """Conditional means in place of the missing entries: (..., n) -> (..., n)."""
        return self.condition(residual)[0]

    def condition(self, residual):
        """The filled residual, log|P_mm| / 2, and L^-1 E with the missing entries first."""
        rows, restore = rows_last(residual, self.solved.type.ndim - 2)
        filled, half_logdet, orthogonal = self._condition(rows)
        return restore(filled), half_logdet, pt.moveaxis(orthogonal, -2, 0)

    def draw(self, residual, z):
        """A conditional draw in place of the missing entries: (..., n) -> (..., n).

        ``z`` is the white noise (..., noise_size) that the covariance's ``draw`` takes.
        """
        # Coefficients with a flat prior, which what is observed says all of, are drawn by it.
        whole = getattr(self.cov, "proper", self.cov).draw(z)
        drawn = whole + self.fill(residual - whole)
        return pt.switch(self.is_missing(), drawn, residual)

    def orthogonal_rows(self):
        """V = L^-1 E, with V P V' = I: shape (..., k, n)."""
        return self._without_rows()[1]

    def inverse_factor(self):
        """L^-1, shape (..., k, k)."""
        if not self.by_row:
            return self.orthogonal_rows()[..., self.missing]
        positions = pt.minimum(self.missing, self.n - 1)[..., None, :]
        return pt.take_along_axis(self.orthogonal_rows(), positions, axis=-1)

    def inverse_diagonal(self):
        """diag(Sigma_oo^-1), of each batch or row, one at the missing entries: shape (..., n)."""
        explained = self.inverse_factor() @ self.solved  # zero in rows that stand for none
        precision = self.cov.inverse_diagonal() - (explained**2).sum(axis=-2)
        return pt.switch(self.is_missing(), 1, precision)

    def leave_one_out(self, residual):
        """As that of a covariance, given the observed entries only; zeros at the missing ones."""
        alpha = pt.switch(self.is_missing(), 0, self.cov.solve(self.fill(residual)))
        return standardised_by(alpha, self.inverse_diagonal())

    def is_missing(self):
        """Which entries are missing: (..., n)."""
        return pt.gt(self.unit_rows.sum(axis=0), 0)

    def variances(self):
        """Conditional variances of the missing entries, zero elsewhere: shape (..., n)."""
        return (self.orthogonal_rows() ** 2).sum(axis=-2)


def left_out_quad_logdet(cov, residual, positions, n):
    """Quadratic forms and log determinants of groups of entries given all others.

    With P_gg = L L' they are |L^-1 alpha_g|^2 and -2 log|L|.

    Parameters
    ----------
    cov : Covariance
    residual : TensorVariable, shape (..., n)
    positions : integer tensor, shape (g, w)
        Of the w entries of each of g groups.
    n
        Number of observations.

    Returns
    -------
    quad, logdet : TensorVariable, shape (..., g)

    Notes
    -----
    g w solves, memory g w n.
    """
    g, width = positions.shape
    alpha = cov.solve(residual)
    batch_ndim = cov.batch_ndim
    unit_rows = pt.eq(pt.arange(n), positions.ravel()[:, None]).astype(alpha.dtype)
    solved = cov.solve(pt.expand_dims(unit_rows, tuple(range(1, 1 + batch_ndim))))
    solved = pt.split_dims(solved, (g, width), axis=0)
    index = pt.expand_dims(positions, (1, *range(2, 2 + batch_ndim)))
    block = pt.moveaxis(pt.take_along_axis(solved, index, axis=-1), 1, -2)
    factor = pt.linalg.cholesky(block, lower=True)
    own = pt.moveaxis(alpha[..., positions], -2, 0)
    rows = own.type.ndim - 2 - batch_ndim
    halves = pt.log(pt.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
    factor, halves = (pt.expand_dims(x, tuple(range(1, 1 + rows))) for x in (factor, halves))
    quad = (lower_solve(factor, own) ** 2).sum(axis=-1)
    return pt.moveaxis(quad, 0, -1), pt.moveaxis(-2 * halves, 0, -1)


def conditional(cov, missing, n):
    """The distribution of the missing entries given the others: the structure's own or the generic.

    Parameters
    ----------
    cov : Covariance
    missing : array of int, shape (k), or (..., k) where rows miss different entries
        Positions of the missing entries; those of rows are filled up by n.
    n
        Number of observations, of which these are missing.

    Returns
    -------
    MissingEntries, or what :meth:`Covariance.conditional` returns instead
    """
    own = cov.conditional(missing) if missing.ndim == 1 else None
    return MissingEntries(cov, pt.constant(missing), n) if own is None else own


class ObservedQuadLogdet(MinimisedQuadLogdet):
    """``(residual (..., n), missing, *parameters) -> quad (...), logdet, alpha (..., n)``.

    Of the observed part; alpha is zero at the missing entries, up to rounding, and what stands
    there in the residual does not matter. The filled rows and those of V are what is held fixed.
    """

    def build_inner_graph(self, residual, missing, *parameters):
        cov, filled, half_logdet, orthogonal = self._condition(residual, missing, parameters)
        rows = _as_rows(filled, cov), _as_rows(orthogonal, cov)
        both = pt.concatenate(rows)
        quad, logdet = cov.quad_logdet(both)
        row_shape = lengths(filled)[: filled.type.ndim - 1 - cov.batch_ndim]
        counts = [lengths(x)[0] for x in rows]
        quad, alpha = (_of_filled(x, row_shape, counts) for x in (quad, cov.solve(both)))
        return [quad, logdet + 2 * half_logdet, alpha]

    def _condition(self, residual, missing, parameters):
        """The covariance, and what :meth:`MissingEntries.condition` returns."""
        cov = self._cov(residual, parameters)
        return cov, *MissingEntries(cov, missing, length(residual)).condition(residual)

    def _pull(self, inputs, alpha, quad_bar, logdet_bar):
        residual, missing, *parameters = inputs
        cov, filled, _, orthogonal = self._condition(residual, missing, parameters)
        rows = pt.concatenate([_as_rows(filled, cov), _as_rows(orthogonal, cov)])
        of_orthogonal = pt.broadcast_to(logdet_bar, orthogonal.shape[:-1])
        weights = pt.concatenate(
            [_as_rows(x[..., None], cov)[..., 0] for x in (quad_bar, of_orthogonal)]
        )
        return [
            self._pull_residual(residual, alpha, quad_bar),
            DisconnectedType()(),
            *self._pull_held(residual, rows, weights, logdet_bar, parameters),
        ]

    def connection_pattern(self, node):
        return [[True, False, True], [False] * 3, *self._parameters_connected()]


def _as_rows(x, cov):
    """All rows of each batch in one dimension: (rows..., batch..., n) -> (m, batch..., n)."""
    row_ndim = x.type.ndim - 1 - cov.batch_ndim
    if row_ndim == 0:
        return x[None]
    return x if row_ndim == 1 else join_dims(x, 0, row_ndim)


def _of_filled(x, row_shape, counts):
    """Of (m + k, ...) those of the m filled rows, in the shape that these had before."""
    if not row_shape:
        return x[0]
    if all(isinstance(count, int) for count in counts):
        x = x[: counts[0]]
    else:  # JAX takes no slices to lengths that a graph computes
        x = pt.moveaxis(partition(NAME, pt.moveaxis(x, 0, -1), counts)[0], -1, 0)
    return x if len(row_shape) == 1 else split_dims(x, row_shape, 0)


def observed_quad_logdet_alpha(cov, residual, missing):
    """Quadratic forms, log determinants and solutions of the observed entries.

    Parameters
    ----------
    cov : Covariance
    residual : TensorVariable, shape (..., n)
        What stands at the missing entries does not matter.
    missing : integer tensor, shape (k), or (..., k) where rows miss different entries
        Positions of the missing entries; those of rows are filled up by n.

    Returns
    -------
    quad : TensorVariable, shape (...)
    logdet : TensorVariable
        Of the shape of the covariance's batch dimensions, or of those of ``missing``.
    alpha : TensorVariable, shape (..., n)
        Zero at the missing entries, up to rounding.
    """
    return ObservedQuadLogdet(structure=cov.structure)(residual, missing, *cov.parameters)


def whiten_by_row(cov, residual, missing):
    """Whitened observed entries of rows that miss different ones, zero at the missing ones.

    For each row the ``whiten`` of :class:`~pm_gaussgrad.cov.protocol.marginal.Marginal`, that is

        z_o = x_o - Q_o' X (1 + s)^-1 Y' x_m.

    Parameters
    ----------
    cov : Covariance
    residual : tensor, shape (..., n)
    missing : integer tensor, shape (..., k)
        Positions of the missing entries of each row, filled up by n.
    """
    n, k = length(residual), length(missing)
    entries = MissingEntries(cov, missing, n)
    white = cov.whiten(entries.fill(residual))
    basis = pt.moveaxis(cov.whiten(pt.moveaxis(entries.orthogonal_rows(), -2, 0)), 0, -2)
    real, positions = pt.lt(missing, n), pt.minimum(missing, n - 1)
    block = pt.take_along_axis(basis, positions[..., None, :], axis=-1)
    # Fillers are columns of the identity, orthogonal to all others.
    identity = pt.eye(k, dtype=basis.dtype)
    left, s, right = pt.linalg.svd(pt.switch(real[..., None, :], block, identity))
    at_missing = pt.switch(real, pt.take_along_axis(white, positions, axis=-1), 0)
    turned = rows_times(at_missing, right.mT) / (1 + s)
    corrected = white - rows_times(rows_times(turned, left.mT), basis)
    return pt.switch(entries.is_missing(), 0, corrected)


class ScaledConditional:
    """Entries given the others, of the structure that is scaled: its own way."""

    def __init__(self, own, scale, missing):
        self.own, self.scale, self.missing = own, scale, missing

    def _put(self, residual, entries):
        """The observed entries as they are, not up to the rounding of a scale."""
        among = unit_rows(pt.constant(self.missing), entries.shape[-1], entries.dtype).sum(axis=0)
        return pt.switch(pt.gt(among, 0), entries * self.scale, residual)

    def fill(self, residual):
        """Conditional means in place of the missing entries: (..., n) -> (..., n)."""
        return self._put(residual, self.own.fill(residual * inverse_scale(self.scale)))

    def draw(self, residual, z):
        """A conditional draw in place of the missing entries: (..., n) -> (..., n)."""
        return self._put(residual, self.own.draw(residual * inverse_scale(self.scale), z))

    def variances(self):
        """Conditional variances of the missing entries, zero elsewhere: shape (..., n)."""
        return self.scale**2 * self.own.variances()
