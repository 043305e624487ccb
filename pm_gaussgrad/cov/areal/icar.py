r"""``ICAR``: the intrinsic conditional autoregression, that sums to zero or is flat.

Definition: Sigma = sigma^2 R^+, R = D - W, W symmetric with weights of neighbours and D the sums of
its rows; R^+ is the generalised inverse, of which each component of the graph sums to zero.
Storage: that of a Markov field whose precision R_k is R with one area pinned, of which the means
over components are taken out (:mod:`pm_gaussgrad.cov.areal.differences`).

Alone its density is that on the subspace of n - c dimensions, c the number of components,

    quad = sum over neighbours of w_ij (r_i - r_j)^2 / sigma^2,
    logdet = (n - c) log sigma^2 - log|R|*,    exponent of 2 pi: (n - c) / 2,

and -inf off it; in the flat form the same for all r. With noise it is a field of
:mod:`pm_gaussgrad.cov.graphs.sparse_latents`, whose means over components are taken out there.

Sources: Besag, York and Mollie (1991), Bayesian image restoration, with two applications in spatial
statistics; Rue and Held (2005), Gaussian Markov Random Fields, section 3.3; Freni-Sterrantino,
Ventrucci and Rue (2018), A note on intrinsic conditional autoregressive models for disconnected
graphs.
"""

from functools import cached_property

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.areal.differences import Differences, variances_without_means
from pm_gaussgrad.cov.areal.neighbours import as_neighbours
from pm_gaussgrad.cov.areal.scalars import as_scalar, check_scale
from pm_gaussgrad.cov.graphs.flat_means import no_covariance, no_draws
from pm_gaussgrad.cov.graphs.latents import without_means
from pm_gaussgrad.cov.graphs.pattern import LowerTriangle
from pm_gaussgrad.cov.graphs.projected import Projected, identity
from pm_gaussgrad.cov.graphs.sparse_matrix import SparseInverse
from pm_gaussgrad.cov.protocol.base import Covariance
from pm_gaussgrad.cov.protocol.constants import constant_value
from pm_gaussgrad.cov.protocol.elliptical import LOG_2PI
from pm_gaussgrad.cov.protocol.products import unit_rows
from pm_gaussgrad.cov.protocol.scales import inverse_scale, product

NAME = "gg.cov.ICAR"


class ICAR(Covariance):
    r"""An intrinsic conditional autoregression, :math:`\Sigma = \sigma^2 (D - W)^+`.

    Given its neighbours an area has the mean :math:`\sum_j w_{ij} y_j / d_i` and the variance
    :math:`\sigma^2 / d_i`.

    Parameters
    ----------
    W : scipy.sparse matrix, array_like or graph, shape (n, n), in units of 1
        Constant: weights of neighbours, symmetric, 0 on the diagonal; of a map without weights 1.
        Sparse in any format, dense, a graph of libpysal (its ``sparse``), or with ``n`` pairs of
        neighbours, (e, 2).
    sigma : tensor_like, shape () or (...), in units of [y], optional
        Standard deviation :math:`\sigma`: of an area given its neighbours, times
        :math:`\sqrt{d_i}`.
    scale : bool, default False
        Whether weights are scaled in each component such that :math:`\sigma` is the geometric mean
        of the marginal standard deviations, on whatever map.
    flat : bool, default False
        Whether, in place of sums of zero, the mean of each component has a flat prior.
    n : int, optional
        The number of areas, of pairs of neighbours.

    Other Parameters
    ----------------
    variance : tensor, shape () or (...), in units of [y]^2
        In place of ``sigma`` in :attr:`parameters`: its square. What follows is made of ``W``.
    differences : tensor, shape (q), in units of 1
        The lower triangle of D - W by columns, with one area of each component pinned.
    column_starts : tensor of int, shape (n), in units of entries
        Where its columns begin.
    row_indices : tensor of int, shape (q), in units of areas
        The row of each entry.
    analysis : tensor of int, shape (a), in units of 1
        The order of elimination, and where things are in the factor.
    height : tensor of int, shape (h), in units of 1
        As long as columns of the factor are high on average.
    component : tensor of int, shape (n), in units of labels
        The component of the graph that an area is in.
    dimensions : tensor, shape (), in units of 1
        How many there are, n - c.
    log_determinant : tensor, shape (), in units of 1
        Of the eigenvalues of D - W that are not zero.

    Raises
    ------
    TypeError
        If an argument is not real, or ``W`` is symbolic.
    ValueError
        If ``W`` is not symmetric, has weights that are negative, not finite or on its diagonal, or
        a constant sigma is negative.
    NotImplementedError
        If a member is asked for that a singular covariance, or a flat prior, does not have.

    Notes
    -----
    The areas of each component of the graph *sum to zero*, so that one without neighbours is 0.
    Alone it has a density for y - mu that sum to zero, and is -inf for others; a latent variable on
    a map of one component takes ``transform=ZeroSumTransform([-1])`` of ``pm.distributions``. With
    a ``Diagonal``, also seen through ``Projected``, it is integrated out, and any y has a density.

    In the *flat* form the density is the same for all y, whatever their mean, and no probability:
    there are no draws and no covariance, and the posterior has to be proper by other things. Both
    have the exponent :math:`(n - c) / 2` of :math:`2 \pi`, c the number of components.

    Cost alone: the pairs of neighbours, value and gradient,
    :math:`\bar\sigma = (2 \bar\ell (n - c) - 2 \sum_i \bar q_i q_i) / \sigma`; of draws and with
    noise a sparse factor as of :class:`~pm_gaussgrad.cov.Projected`.

    References
    ----------
    Besag, J., York, J. and Mollie, A. (1991). Bayesian image restoration, with two applications in
    spatial statistics. Annals of the Institute of Statistical Mathematics 43, 1-59.

    Rue, H. and Held, L. (2005). Gaussian Markov Random Fields, section 3.3.

    Freni-Sterrantino, A., Ventrucci, M. and Rue, H. (2018). A note on intrinsic conditional
    autoregressive models for disconnected graphs. Spatial and Spatio-temporal Epidemiology 26,
    25-34.

    Sorbye, S. H. and Rue, H. (2014). Scaling intrinsic Gaussian Markov random field priors in
    spatial modelling. Spatial Statistics 8, 39-51.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> cov = gg.cov.ICAR([[0, 1], [1, 2]], sigma=3.0, n=3)
    >>> cov.to_dense().eval().round(6)
    array([[ 5., -1., -4.],
           [-1.,  2., -1.],
           [-4., -1.,  5.]])
    """

    how = "alone by the differences of neighbours; with a Diagonal by a sparse Cholesky factor"
    parameter_shapes = {
        "variance": "",
        "differences": "q",
        "column_starts": "n",
        "row_indices": "q",
        "analysis": "a",
        "height": "h",
        "component": "n",
        "dimensions": "",
        "log_determinant": "",
    }
    constant_parameters = frozenset(parameter_shapes) - {"variance"}
    facts = ("flat",)
    _differences = None

    def __init__(self, W, sigma=1.0, scale=False, flat=False, n=None):
        differences = Differences.of(as_neighbours(NAME, W, n))
        sigma = as_scalar(NAME, "sigma", sigma)
        check_scale(NAME, "sigma", sigma)
        self._differences = differences.scaled() if scale else differences
        self._variance, self.flat = sigma**2, int(bool(flat))

    @classmethod
    def of_differences(cls, differences, variance, flat=0):
        """Of what is known of a map."""
        made = object.__new__(cls)
        made._differences, made._variance, made.flat = differences, variance, flat
        return made

    @cached_property
    def parameters(self):
        """The tensors; what they need of R is found when they are asked for."""
        of, kind = self._differences, self._variance.dtype
        free = of.component.size - of.sizes.size
        numbers = of.pinned.values, np.asarray(free), np.asarray(of.log_determinant)
        values, free, log_determinant = (pt.constant(x.astype(kind)) for x in numbers)
        component = pt.constant(of.component)
        return self._variance, values, *of.index, component, free, log_determinant

    @property
    def size(self):
        return super().size if self._differences is None else self._differences.component.size

    @property
    def dtype(self):
        return self.parameters[0].dtype if self._differences is None else self._variance.dtype

    @property
    def _field(self):
        """With one area of each component pinned, as a covariance."""
        variance, values, *index, _, _, _ = self.parameters
        return SparseInverse.from_parameters(values * inverse_scale(variance)[..., None], *index)

    @property
    def _component(self):
        return self.parameters[6]

    def _edges(self):
        """Weights, and both ends, of all pairs of nodes; those of a node with itself are zero."""
        _, values, column_starts, row_indices, *_ = self.parameters
        entries = pt.arange(row_indices.shape[0])
        columns = pt.searchsorted(column_starts, entries, side="right") - 1
        return pt.switch(pt.eq(columns, row_indices), 0, -values), row_indices, columns

    def quad_logdet(self, residual):
        residual, variance = pt.as_tensor_variable(residual), self.parameters[0]
        weights, first, second = self._edges()
        steps = residual[..., first] - residual[..., second]
        quad = (weights.astype(steps.dtype) * steps**2).sum(axis=-1) / variance
        if not self.flat:
            means = residual - without_means(residual, self._component)
            slack = float(np.sqrt(np.finfo(quad.dtype).eps)) * abs(residual).max(axis=-1)
            quad = pt.switch(abs(means).max(axis=-1) <= slack, quad, np.inf)
        return quad, self.logdet()

    def logdet(self):
        """Of the eigenvalues that are not zero, less c log 2 pi for the dimensions that are not."""
        variance, *_, free, log_determinant = self.parameters
        n = pt.as_tensor(self.size).astype(variance.dtype)
        return free * pt.log(variance) - log_determinant - (n - free) * LOG_2PI

    def solve(self, b):
        """R b / sigma^2: the generalised inverse."""
        b, variance = pt.as_tensor_variable(b), self.parameters[0]
        weights, first, second = self._edges()
        steps = weights.astype(b.dtype) * (b[..., first] - b[..., second])
        sums = pt.zeros_like(b)[..., first].inc(steps)[..., second].inc(-steps)
        return sums / variance[..., None]

    def inverse_diagonal(self):
        if not self.flat:
            raise self._singular("the precision of an area given all others")
        weights, first, second = self._edges()
        degrees = pt.zeros(self.size, dtype=weights.dtype)[first].inc(weights)[second].inc(weights)
        return degrees / self.parameters[0][..., None]

    def _proper(self):
        if self.flat:
            raise no_covariance(NAME)

    def _singular(self, what):
        return NotImplementedError(
            f"{NAME}: areas that sum to zero have no {what}; add independent noise, as in "
            f"{NAME}(W, sigma) + gg.cov.Diagonal(variance), or write {NAME}(..., flat=True)."
        )

    def to_dense(self):
        self._proper()
        dense = self._field.to_dense()
        return without_means(without_means(dense, self._component).mT, self._component)

    def color(self, z):
        self._proper()
        return without_means(self._field.color(z), self._component)

    def draw(self, z):
        return no_draws(NAME, pt.as_tensor_variable(z)) if self.flat else self.color(z)

    def whiten(self, residual):
        raise self._singular("inverse root")

    def times(self, rows):
        self._proper()
        inside = without_means(pt.as_tensor_variable(rows), self._component)
        return without_means(self._field.times(inside), self._component)

    def rows(self, positions):
        return self.times(unit_rows(positions, self.size, self.dtype))

    def diagonal(self):
        self._proper()
        return variances_without_means(self._field, self._component)

    def information(self, tangents):
        """Of the variance: (n - c) / 2 variance^2."""
        variance, *_, free, _ = self.parameters
        of_variance = tangents[0] / variance
        return free / 2 * of_variance[:, None] * of_variance

    def keep(self, observed):
        return Projected(identity(self.size)[observed], self)

    def scaled(self, factor):
        if self._differences is not None:
            return self.of_differences(
                self._differences, product(factor, self._variance), self.flat
            )
        return self.structure.from_parameters(
            product(factor, self.parameters[0]), *self.parameters[1:]
        )

    def precision_entries(self):
        """That of which the means are taken out: see :meth:`sums_to_zero`."""
        if self._differences is not None:
            pinned, variance = self._differences.pinned, self._variance
            indptr, indices, values = pinned.indptr, pinned.indices, pinned.values
        else:
            variance, values, starts, indices, *_ = self.parameters
            if not all(isinstance(x, Constant) for x in (values, starts, indices)):
                raise NotImplementedError(f"{NAME}: sums need a constant W, and it is symbolic.")
            indptr = np.append(starts.data, indices.data.size)
            indices, values = indices.data, values.data
        return values.astype(variance.dtype) * inverse_scale(variance)[..., None], indptr, indices

    @property
    def relative_precision(self):
        """The variance, the lower triangle of the pinned matrix, and its log determinant."""
        if self._differences is not None:
            of = self._differences
            return self._variance, of.pinned, of.log_determinant_of_pinned
        variance, values, *index, _, _, _ = self.parameters
        field = SparseInverse.from_parameters(values, *index)
        if not field.has_constant_pattern() or not isinstance(values, Constant):
            return None
        pinned = LowerTriangle(*field.pattern("relative_precision()"), values.data)
        return variance, pinned, -float(constant_value(field.logdet()))

    def sums_to_zero(self):
        return self._component.data if self._differences is None else self._differences.component
