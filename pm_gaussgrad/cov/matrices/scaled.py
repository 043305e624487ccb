r"""``Scaled``: any structure with standard deviations of each observation's own.

Definition: Sigma = D S D, S the covariance ``cov`` of any structure, D = diag(s), s = ``scale`` of
shape (n,). Storage and cost: those of S, and n. It has no kernels: with u = D^-1 r,

    quad = u' S^-1 u,    logdet = log|S| + 2 sum log s_j,    alpha = D^-1 S^-1 u,

so that the pullback is that of S for the residual u, and

    s_bar_j = 2 (l_bar - sum_i q_bar_i r_ij alpha_ij) / s_j.

Fisher information: for directions in which S moves by dS_a and s by diag(t_a) s, P = S^-1,

    I_ab = 1/2 tr(P dS_a P dS_b) + t_a't_b + X_ab + X_ba,
    X_ab = sum_i (t_b)_i [P_i . (dS_a + S diag(t_a) / 2)_i],    . the inner product of rows i:

the first term is the structure's own, the last by strips of its rows.

Sources: Wolfinger (1996), Heterogeneous variance-covariance structures for repeated measures, J.
Agric. Biol. Environ. Stat. 1, 205-230; Pinheiro and Bates (2000), Mixed-Effects Models in S and
S-PLUS, section 5.1.3 (the decomposition into standard deviations and correlations).
"""

from functools import partial

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant, equal_computations

from pm_gaussgrad.cov.matrices.dense import Dense
from pm_gaussgrad.cov.matrices.diagonal import Diagonal
from pm_gaussgrad.cov.matrices.low_rank import LowRank, LowRankPlusDiagonal
from pm_gaussgrad.cov.protocol.base import Covariance, as_parameter, check_size, length
from pm_gaussgrad.cov.protocol.composite import Composite, Composition
from pm_gaussgrad.cov.protocol.constants import check_finite, check_positive
from pm_gaussgrad.cov.protocol.gaps import ScaledConditional
from pm_gaussgrad.cov.protocol.information import gram
from pm_gaussgrad.cov.protocol.marginal import marginal_of
from pm_gaussgrad.cov.protocol.products import rows_times
from pm_gaussgrad.cov.protocol.scales import (
    as_positive,
    finite_dense,
    inverse_scale,
    nan_unless,
    product,
    rescaled,
    rescales,
    times_both,
    times_scale,
)
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.strips import scale_by_strips
from pm_gaussgrad.cov.protocol.sums import closes, common_size, resolved_if_possible, summed
from pm_gaussgrad.cov.protocol.terms import as_written, made_of

NAME = "gg.cov.Scaled"


class ScaledForm(Composition):
    """A :class:`Composition` of the covariance, with the scale as a parameter of its own."""

    @property
    def parameter_shapes(self):
        """Those of the covariance, which has dimensions of its own, and the scale."""
        return {**super().parameter_shapes, "scale": "n"}

    @property
    def constant_parameters(self):
        """Names of the parameters without a gradient."""
        return super().constant_parameters - {"scale"}

    def from_parameters(self, *parameters, size=None):
        """Rebuild from the tensors that ``parameters`` flattened it to."""
        *own, scale = parameters
        [structure], [known] = self.structures, self.sizes
        scale = pt.as_tensor_variable(scale)
        sizes = known, length(scale), size
        n = next((x for x in sizes if isinstance(x, int)), sizes[1])
        return Scaled.of(structure.from_parameters(*own, size=n), scale)


class Scaled(Composite):
    r"""Any structure with scales of its observations, :math:`D S D`, :math:`D = \mathrm{diag}(s)`.

    Of a correlation the scales are standard deviations: heterogeneous variances with the
    correlation of ``AR1`` (ARH(1) in SAS), of ``CompoundSymmetry`` (CSH), of ``Toeplitz`` (TOEPH),
    or of any other structure.

    Parameters
    ----------
    cov : gg.cov structure, or tensor_like, shape (..., n, n), in units of [y]^2 / [scale]^2
        The covariance S that is scaled, such as a correlation; a matrix is a :class:`Dense`.
    scale : tensor_like, shape (..., n), in units of a share of [y]
        Positive factors s, one for each observation: standard deviations where S is a
        correlation. Leading dimensions are a batch of covariances.

    Raises
    ------
    TypeError
        If ``cov`` is neither a structure nor a matrix, or ``scale`` is a scalar or not real.
    ValueError
        If ``scale`` is not of the size of ``cov``, or a constant scale is not positive.

    Notes
    -----
    Cost of value and gradient: those of ``cov``, and O(n) a row. What is ``Diagonal``,
    ``LowRank``, ``Dense`` or ``Precision`` stays so: ``Scaled(Diagonal(v), s)`` is
    ``Diagonal(v * s**2)``. A constant matrix is kept apart from scales that are not: it is factored
    once, and an evaluation costs O(n^2). The variance of ``cov`` and the scale are identified
    together only: fix one, as in ``Scaled(AR1(1.0, rho), sigma)``.

    The pullback is that of S for the residual :math:`D^{-1} r`, and
    :math:`\bar s_j = \frac2{s_j} (\bar l - \sum_i \bar q_i r_{ij} \alpha_{ij})`. Where a scale is
    not positive the log density is -inf, whatever the sign of :math:`D S D`.

    :math:`D S D + V = D (S + D^{-1} V D^{-1}) D`: a sum with ``LowRank`` is a ``Scaled``, one with
    ``Diagonal`` where ``cov`` takes a ``Diagonal`` of a vector, and one of two with the very same
    scale where those that are scaled have a sum.

    References
    ----------
    Wolfinger, R. D. (1996). Heterogeneous variance-covariance structures for repeated measures.
    Journal of Agricultural, Biological, and Environmental Statistics 1, 205-230.

    Pinheiro, J. C. and Bates, D. M. (2000). Mixed-Effects Models in S and S-PLUS, section 5.1.3.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> gg.cov.Scaled(gg.cov.AR1(1.0, 0.5), [1.0, 2.0, 3.0]).to_dense().eval()
    array([[1.  , 1.  , 0.75],
           [1.  , 4.  , 3.  ],
           [0.75, 3.  , 9.  ]])

    Repeated measures with a standard deviation for each visit:

    >>> within = gg.cov.Scaled(gg.cov.CompoundSymmetry(1.0, 0.5), [1.0, 2.0])
    >>> cov = gg.cov.RepeatedMeasures(within, subject=["a", "b", "a"], visit=[0, 1, 1])
    >>> cov.to_dense().eval()
    array([[1., 0., 1.],
           [0., 4., 0.],
           [1., 0., 4.]])
    """

    how = "that of what is scaled, of residuals in units of the scale"
    part_name = "cov"

    def __new__(cls, cov, scale):
        if not isinstance(cov, Covariance):
            cov = Dense(as_parameter(NAME, "cov", cov, 2))
        scale = _as_scale(cov, scale)
        unscaled = resolved_if_possible(of_size(cov, length(scale)))
        scaled = rescaled(unscaled, scale) or cls.of(unscaled, scale)
        return made_of(scaled, cov, partial(Scaled, scale=scale))

    @classmethod
    def of(cls, cov, scale):
        """From the covariance and the scale as they are, a composite whatever the structure."""
        scale = pt.as_tensor_variable(scale)
        scaled = cls.from_parts([of_size(cov, length(scale))])
        scaled.scale = scale
        return scaled

    @property
    def cov(self):
        """The covariance that is scaled."""
        return self.parts[0]

    @property
    def parameters(self):
        """Those of the covariance, and the scale."""
        return (*self.cov.parameters, self.scale)

    @property
    def structure(self):
        """Hashable, with ``from_parameters``."""
        whole = super().structure
        return ScaledForm(whole.kind, whole.structures, whole.sizes, whole.places)

    @property
    def size(self):
        return self.sizes[0] if isinstance(self.sizes[0], int) else length(self.scale)

    @property
    def submatrices_up_to(self):
        """That of the covariance."""
        return self.cov.submatrices_up_to

    def check_constants(self, n=None):
        super().check_constants(n)
        check_positive(self.label, "scale", self.scale)

    def __repr__(self):
        return f"{self.label}({self.cov!r}, scale: {self.scale.type.shape})"

    def _scale(self):
        """The scale without leading dimensions that are known to be one."""
        count = (*self.scale.type.broadcastable[:-1], False).index(False)
        return self.scale.squeeze(axis=tuple(range(count))) if count else self.scale

    def _log_scales(self):
        """2 sum log s, NaN where a scale is not positive, and the scale with ones there."""
        positive, safe = as_positive(self._scale())
        logs, twos = nan_unless(positive, pt.log(safe)), 2 * pt.ones_like(safe)
        # A product: PyTensor's JAX form of a sum does not come back from double precision.
        total = logs @ twos if logs.type.ndim == 1 else rows_times(logs, twos[..., None])[..., 0]
        return total, safe

    def _rows(self, name, value):
        value = as_parameter(self.label, name, value, 1)
        check_size(self, name, value)
        return value

    def to_dense(self):
        # Of a sum the matrices as they were added: less to compile than lags that are gathered.
        given = as_written(self, self.cov, scale=self.scale)
        return times_both(given.to_dense(), self._scale())

    def quad_logdet(self, residual):
        scale, rows = self._scale(), self._rows("residual", residual)
        # Dimensions of length one on the scale itself: PyTensor would move them there from its
        # branches in some copies of the graph, which then are not seen to be the same.
        alone = rows.type.ndim == 1 and self.batch_ndim == 0
        rows = rows[None] if alone else rows
        lacking = max(rows.type.ndim - scale.type.ndim, 0)
        scale = pt.expand_dims(scale, tuple(range(lacking)))
        quad, logdet = self.cov.quad_logdet(rows / as_positive(scale)[1])
        return quad.squeeze(axis=0) if alone else quad, logdet + self._log_scales()[0]

    def logdet(self):
        return self.cov.logdet() + self._log_scales()[0]

    def solve(self, b):
        # Finite where a scale is not positive: gradients with gaps; the log determinant says it.
        safe = as_positive(self._scale())[1]
        return self.cov.solve(self._rows("b", b) / safe) / safe

    def color(self, z):
        return times_scale(self.cov.color(self._rows("z", z)), self._scale())

    def noise_size(self, n):
        return self.cov.noise_size(n)

    def draw(self, z):
        return times_scale(self.cov.draw(z), self._scale())

    def draw_semidefinite(self, z):
        return times_scale(self.cov.draw_semidefinite(z), self._scale())

    def _divided(self, residual):
        return self._rows("residual", residual) * inverse_scale(self._scale())

    def whiten(self, residual):
        return self.cov.whiten(self._divided(residual))

    def leave_one_out(self, residual):
        return self._shifted(*self.cov.leave_one_out(self._divided(residual)))

    def innovations(self, residual):
        return self._shifted(*self.cov.innovations(self._divided(residual)))

    def _shifted(self, deviations, log_scales):
        return deviations, log_scales + pt.log(self._scale())

    def diagonal(self):
        return times_scale(times_scale(self.cov.diagonal(), self._scale()), self._scale())

    def inverse_diagonal(self):
        inverse = inverse_scale(self._scale())
        return self.cov.inverse_diagonal() * inverse * inverse

    def keep(self, observed):
        if not isinstance(self.size, int):
            return None
        return Scaled(marginal_of(self.cov, observed, self.size), self.scale[..., observed])

    def rows_apart(self, observed):
        apart = self.cov.rows_apart(observed)
        if apart is None:
            return None
        return Scaled(apart, self.scale[..., np.nonzero(observed)[1]])

    def conditional(self, missing):
        own = self.cov.conditional(missing)
        return None if own is None else ScaledConditional(own, self._scale(), missing)

    def groups(self):
        return self.cov.groups()

    def time_order(self):
        return self.cov.time_order()

    def scaled(self, factor):
        return Scaled.of(self.cov.scaled(factor), self.scale)

    def rows(self, positions):
        return self.scale[positions][:, None] * self.cov.rows(positions) * self.scale

    def times(self, rows):
        rows = times_scale(self._rows("rows", rows), self._scale())
        return times_scale(self.cov.times(rows), self._scale())

    def information(self, tangents):
        *own, scale_dot = tangents
        own = self.structure.of_parts(own)
        shares = scale_dot / self.scale
        total = gram(shares, shares)
        if any(x is not None for x in own):
            total = total + self.cov.information(own)
        mixed = scale_by_strips(self.cov, own, shares)
        return total + mixed + mixed.T


def _as_scale(cov, scale):
    """A user's scale as a tensor that fits a covariance."""
    scale = as_parameter(NAME, "scale", scale, 0)
    if scale.type.ndim == 0:
        raise TypeError(
            f"{NAME}: `scale` is a scalar, expected (..., n), one for each observation; of one "
            "common scale write sigma**2 * cov."
        )
    found = scale.type.shape[-1]
    if isinstance(cov.size, int) and found not in (None, cov.size):
        raise ValueError(
            f"{NAME}: `scale` has shape {scale.type.shape}, expected (..., {cov.size}), one for "
            f"each of the observations of {cov.label}; of groups or visits write sigma[group]."
        )
    if isinstance(scale, Constant):
        check_finite(NAME, "scale", scale)
        check_positive(NAME, "scale", scale, "a scale is a standard deviation, not its logarithm")
    return scale


@rescales(Scaled)
def _scaled_twice(cov, scale):
    return Scaled(cov.cov, times_scale(cov.scale, scale))


@rescales(LowRank)
def _scaled_factor(cov, scale):
    return LowRank(times_scale(cov.parameters[0], scale[..., None]))


@rescales(LowRankPlusDiagonal)
def _scaled_low_rank(cov, scale):
    factor, variance = cov.parameters
    vector = variance if cov.parameter_shapes["variance"] else variance[..., None]
    noise = times_scale(times_scale(vector, scale), scale)
    # NaN in one of both is enough, and does not spread in products of the other.
    return LowRankPlusDiagonal(product(as_positive(scale)[1][..., None], factor), noise)


def _sum_of(left, right, unscaled):
    """D (S + V) D, the error of that sum in the words of the two."""
    try:
        total = summed(left.cov, unscaled).resolved
    except TypeError as error:
        raise TypeError(f"{left.summand} + {right.summand}: {error}") from error
    return Scaled(total, left.scale)


@finite_dense.register(Scaled)
def _finite_matrix(cov):
    given = as_written(cov, cov.cov, scale=cov.scale)
    return times_both(finite_dense(given), cov._scale())


@closes(Scaled, Diagonal)
@closes(Scaled, LowRank)
@closes(Scaled, LowRankPlusDiagonal)
def _plus_of_its_kind(left, right):
    common_size(left, right)
    return _sum_of(left, right, rescaled(right, inverse_scale(left.scale)))


@closes(Scaled, Scaled)
def _same_scale(left, right):
    common_size(left, right)
    if not equal_computations([left.scale], [right.scale]):
        raise TypeError(
            f"{NAME} + {NAME}: the scales differ, expected the very same tensor in both; for the "
            "dense sum, at a cost of n^3, write gg.cov.Dense(a.to_dense() + b.to_dense())."
        )
    return _sum_of(left, right, right.cov)
