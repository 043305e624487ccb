r"""Missing entries of any structure, by blocks of its precision: marginals and conditionals.

Let o be the observed and m the missing entries, P = Sigma^-1, E the unit rows of m, and r the
residual with zeros at m. With A = E P (k solves), P_mm = A E' = L L' and c = P_mm^-1 A r,

    r^ = r - E'c             the conditional mean of the residual given its observed entries
    r_o' Sigma_oo^-1 r_o = r^' P r^ = min over r_m of r' P r
    log|Sigma_oo| = log|Sigma| + log|P_mm|
    Var(r_m | r_o) = P_mm^-1
    s + (r - s)^, s a draw of all entries, is a draw of r_m given r_o.

The quadratic form is that of the filled row: no difference of large numbers is taken. Because
r^ is a minimum it may be held fixed in the first derivative, and with V = L^-1 E held fixed too

    d (r_o' Sigma_oo^-1 r_o) = d (r^' P r^)
    d log|Sigma_oo| = d log|Sigma| + sum_j d (v_j' P v_j),

so that the pullback is that of the structure for the rows r^ and V: no cotangent passes through
the solves. Nothing of n x n is formed.

Sources: Rue and Held (2005), Gaussian Markov Random Fields, theorem 2.5; Horn and Johnson (2012),
Matrix Analysis, 2nd ed., sections 0.7.3 and 0.8.5; Danskin (1967), The Theory of Max-Min;
Chiles and Delfiner (2012), Geostatistics, 2nd ed., section 7.3.1 (draws, after Matheron).
"""

import pytensor.tensor as pt
from pytensor.compile.builders import SymbolicOp
from pytensor.gradient import DisconnectedType, grad
from pytensor.graph.replace import _vectorize_node, clone_replace, vectorize_graph

from pm_gaussgrad.cov.base import length
from pm_gaussgrad.cov.products import rows_times
from pm_gaussgrad.cov.triangular import lower_solve, lower_transposed_solve


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
        columns = pt.moveaxis(missing, -1, 0)[..., None]
        dtype = cov.parameters[0].dtype
        self.unit_rows = self._align(pt.eq(pt.arange(n), columns).astype(dtype))
        self.solved = cov.solve(self.unit_rows)
        block = pt.moveaxis(self._at_missing(self.solved), 0, -2)
        if self.by_row:
            present = pt.lt(missing, n)
            both = present[..., :, None] & present[..., None, :]
            block = pt.switch(both, block, pt.eye(length(missing), dtype=dtype))
        self.factor = pt.linalg.cholesky(block, lower=True)

    def _align(self, rows):
        """Rows common to a batch of covariances: (k, n) -> (k, 1, ..., 1, n)."""
        batch_ndim = 0 if self.by_row else self.cov.logdet().type.ndim
        return pt.expand_dims(rows, tuple(range(1, 1 + batch_ndim)))

    def _at_missing(self, rows):
        """(..., n) -> (..., k)."""
        if not self.by_row:
            return rows[..., self.missing]
        positions = pt.minimum(self.missing, self.n - 1)
        return pt.take_along_axis(rows, positions[None], axis=-1)

    def logdet(self):
        """log|Sigma_oo|, of each batch or row."""
        halves = pt.log(pt.diagonal(self.factor, axis1=-2, axis2=-1)).sum(axis=-1)
        return self.cov.quad_logdet(self.unit_rows)[1] + 2 * halves

    def fill(self, residual):
        """Conditional means in place of the missing entries: (..., n) -> (..., n)."""
        kept = self._observed_part(residual)
        products = rows_times(kept, pt.moveaxis(self.solved, 0, -1))
        scores = lower_transposed_solve(self.factor, lower_solve(self.factor, products))
        return self._spread(-scores, kept)

    def _observed_part(self, residual):
        """Zeros in place of whatever stands at the missing entries."""
        return pt.switch(pt.gt(self.unit_rows.sum(axis=0), 0), 0, residual)

    def _spread(self, entries, onto):
        """Rows with the entries (..., k) put at the missing positions."""
        if not self.by_row:
            leading = pt.broadcast_shape(entries.sum(axis=-1), onto.sum(axis=-1))
            rows = pt.broadcast_to(onto, (*leading, onto.shape[-1]))
            return rows[..., self.missing].set(entries)
        more = entries.type.ndim - self.missing.type.ndim
        unit_rows = pt.expand_dims(self.unit_rows, tuple(range(1, 1 + more)))
        return onto + (pt.moveaxis(entries, -1, 0)[..., None] * unit_rows).sum(axis=0)

    def _inverse_factor(self):
        identity = pt.eye(length(self.missing), dtype=self.factor.dtype)
        return pt.linalg.solve_triangular(self.factor, identity, lower=True, b_ndim=2)

    def draw(self, residual, z):
        """A conditional draw in place of the missing entries: (..., n) -> (..., n).

        ``z`` is the white noise (..., noise_size) that the covariance's ``draw`` takes.
        """
        whole = self.cov.draw(z)
        drawn = whole + self.fill(residual - whole)
        return pt.switch(pt.gt(self.unit_rows.sum(axis=0), 0), drawn, residual)

    def orthogonal_rows(self):
        """V = L^-1 E, with V P V' = I: shape (k, ..., n)."""
        inverse = pt.moveaxis(self._inverse_factor(), -2, 0)
        return self._spread(inverse, pt.zeros_like(self.unit_rows))

    def variances(self):
        """Conditional variances of the missing entries, zero elsewhere: shape (..., n)."""
        variances = (self._inverse_factor() ** 2).sum(axis=-2)
        return self._spread(variances, pt.zeros_like(self.unit_rows[0]))


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


class ObservedQuadLogdet(SymbolicOp):
    """``(residual (..., n), missing, *parameters) -> quad (...), logdet`` of the observed part.

    What stands at the missing entries of the residual does not matter.
    """

    __props__ = ("structure",)

    def build_inner_graph(self, residual, missing, *parameters):
        n = length(residual)
        cov = self.structure.from_parameters(*parameters, size=n)
        entries = MissingEntries(cov, missing, n)
        return [cov.quad_logdet(entries.fill(residual))[0], entries.logdet()]

    def pullback(self, inputs, outputs, cotangents):
        residual, missing, *parameters = inputs
        n = length(residual)
        quad_bar, logdet_bar = (
            pt.zeros_like(out) if isinstance(bar.type, DisconnectedType) else bar
            for out, bar in zip(outputs, cotangents, strict=True)
        )
        entries = MissingEntries(self.structure.from_parameters(*parameters, size=n), missing, n)
        rows = entries.fill(residual), entries.orthogonal_rows()
        # On copies, which hold the rows fixed; they are functions of the parameters again when
        # this is differentiated once more.
        filled, orthogonal = dummies = [row.type() for row in rows]
        own = [p.type() for p in parameters]
        cov = self.structure.from_parameters(*own, size=n)
        quad, logdet = cov.quad_logdet(filled)
        with_missing = logdet + cov.quad_logdet(orthogonal)[0].sum(axis=0)
        value = (quad_bar * quad).sum() + (logdet_bar * with_missing).sum()
        constant = self.structure.constant_parameters
        names = self.structure.parameter_shapes
        wrt = [p for name, p in zip(names, own, strict=True) if name not in constant]
        bars = grad(value, wrt, disconnected_inputs="ignore")
        given = dict(zip([*own, *dummies], [*parameters, *rows], strict=True))
        written = iter(clone_replace(bars, given))
        # Zero at the missing entries, where solving says so up to rounding only.
        alpha = entries._observed_part(entries.cov.solve(rows[0]))
        weights = quad_bar[..., None]
        return [
            pt.switch(pt.eq(weights, 0), 0, 2 * weights * alpha),
            DisconnectedType()(),
            *(DisconnectedType()() if name in constant else next(written) for name in names),
        ]

    def connection_pattern(self, node):
        constant = self.structure.constant_parameters
        depends = [name not in constant for name in self.structure.parameter_shapes]
        return [[True, False], [False, False], *([d, d] for d in depends)]

    def __str__(self):
        return f"{type(self).__name__}{{{self.structure.__name__}}}"


@_vectorize_node.register(ObservedQuadLogdet)
def _vectorize_observed(op, node, *inputs):
    given = dict(zip(node.inputs, inputs, strict=True))
    return vectorize_graph(op.build_inner_graph(*node.inputs), given)


def observed_quad_logdet(cov, residual, missing):
    """Quadratic forms and log determinants of the observed entries.

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
    """
    return ObservedQuadLogdet(structure=cov.structure)(residual, missing, *cov.parameters)
