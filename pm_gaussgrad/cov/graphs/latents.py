r"""``Latents``: sums of sparse latents, without noise; what ``Projected`` and ``Effects`` are.

Definition: A M A' with M block diagonal: of random effects R^-1 (x) G for each term, of fields Q^-1
with Q sparse, or C Q^-1 C where they sum to zero, C taking the mean over its component from each
node. R is the constant precision of the levels of a term, I where these are not related. Storage:
the entries of A, R, Q, and of the factors to come. Singular where there are more observations than
coefficients, and only a summand.

Products: A (M (A'r)), by the entries of A and G, and one factor of R and Q.
"""

from dataclasses import replace

import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.graphs.flat_means import no_covariance
from pm_gaussgrad.cov.graphs.stacked_terms import Terms
from pm_gaussgrad.cov.protocol.base import Covariance
from pm_gaussgrad.cov.protocol.latent import register_latent
from pm_gaussgrad.cov.protocol.products import unit_rows
from pm_gaussgrad.cov.protocol.scales import finite_dense, inverse_scale, product
from pm_gaussgrad.cov.protocol.sums import closes, common_size, does_not_close, mends
from pm_gaussgrad.kernels.sparse.arrangement import BETWEEN_COLUMN, BETWEEN_ROW
from pm_gaussgrad.kernels.sparse.latent_members import signal, signal_variances
from pm_gaussgrad.kernels.sparse.layout import section
from pm_gaussgrad.ops import transform_rows
from pm_gaussgrad.ops.form import Form
from pm_gaussgrad.ops.sparse_solve import sparse_solve

# Constants, in the order of ``Terms.tensors``.
CONSTANTS = {
    "loadings": "a",
    "entries": "2 a",
    "between": "u",
    "precision": "2 q",
    "blocks": "3 b",
    "centred": "p",
    "index": "i",
    "extent": "n p 0",
    "fill": "f g 0",
}


class Latents(Covariance):
    """Effects and fields, seen by the observations.

    Parameters
    ----------
    covariances : tensor, shape (..., c), in units of [y]^2
        The matrices G of the effects, flattened, one after the other.
    values : tensor, shape (..., q), in units of [y]^-2
        Of the lower triangle of the precision of the fields.
    loadings, entries, between, precision, blocks, centred, index, extent, fill
        Constant: see :class:`~pm_gaussgrad.cov.graphs.stacked_terms.Terms` and
        :mod:`pm_gaussgrad.kernels.sparse.arrangement`. ``extent`` and ``fill`` have no entries, and
        say by their shapes how many observations and coefficients there are, and how long the
        factors of both precision matrices are.
    """

    how = "singular by itself; with a Diagonal by a sparse Cholesky factor"
    label = "gg.cov.Projected or gg.cov.Effects"
    summand = "gg.cov.Effects"
    parameter_shapes = {"covariances": "c", "values": "q", **CONSTANTS}
    constant_parameters = frozenset(CONSTANTS)
    saved_shapes, overwrites = {}, {}  # as of every structure with kernels
    row_transforms = {"signal": "p", "signal_variances": "n"}
    signal_kernel = staticmethod(signal)
    signal_variances_kernel = staticmethod(signal_variances)
    _terms = None
    # What it was made of, known to the constructor: a function that returns a Latent.
    latent = None

    @classmethod
    def of(cls, terms):
        """From what it consists of; the patterns are analysed when the tensors are asked for."""
        made = object.__new__(cls)
        made._terms = terms
        return made

    def __getattr__(self, name):
        if name == "parameters" and self._terms is not None:
            return self._terms.tensors
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def structure(self):
        return Form(Latents)

    @property
    def terms(self):
        """What it consists of; None where its constants are symbolic."""
        return Terms.of_tensors(self.parameters) if self._terms is None else self._terms

    def _proper(self):
        """Raise where there is no covariance."""
        if self._terms is not None and self._terms.flat.shape[1]:
            raise no_covariance(self.label)

    @property
    def size(self):
        if self._terms is not None:
            return self._terms.size
        static = self.parameters[-2].type.shape[0]
        return self.parameters[-2].shape[0] if static is None else static

    @property
    def dtype(self):
        return self.parameters[0].dtype if self._terms is None else self._terms.dtype

    def sized(self, n):
        return self

    def __reduce__(self):
        rebuild, arguments, state = super().__reduce__()
        return rebuild, arguments, {**state, "latent": self.latent}

    def to_dense(self):
        self._proper()
        covariances, values, loadings, entries, between, precision, *_ = self.parameters
        index, extent, _ = self.parameters[-3:]
        n, p = _length(extent, 0), _length(extent, 1)
        places = [_section(index, which) for which in (BETWEEN_ROW, BETWEEN_COLUMN)]
        prior = _symmetric(values, precision, p) + _symmetric(between, places, p)
        prior = self._centre(self._centre(pt.linalg.inv(prior)).mT)
        prior = self._scale(prior, covariances[..., None, :])
        design = _scattered(loadings, entries, n, p)
        return design @ prior @ design.mT

    def times(self, rows):
        self._proper()
        covariances, values, loadings, entries, between, precision, *_ = self.parameters
        index, extent, _ = self.parameters[-3:]
        n, p = _length(extent, 0), _length(extent, 1)
        rows = pt.as_tensor_variable(rows)
        scores = self._centre(_added(loadings * rows[..., entries[0]], entries[1], p))
        latent = sparse_solve(scores, values, between, precision, index)
        latent = self._centre(self._scale(latent, covariances))
        return _added(loadings * latent[..., entries[1]], entries[0], n)

    def _scale(self, latent, covariances):
        """Rows (..., p), of effects in relative form times G, level by level; of fields as is."""
        *_, precision, blocks, _, _, extent, _ = self.parameters
        p = _length(extent, 1)
        of_fields = pt.zeros(p, dtype=latent.dtype)[precision[0]].set(1)
        products = covariances[..., blocks[2]] * latent[..., blocks[1]]
        return latent * of_fields + _added(products, blocks[0], p)

    def _centre(self, latent):
        """C x of each row x, (..., p) -> (..., p)."""
        return without_means(latent, self.parameters[7])

    def rows(self, positions):
        return self.times(unit_rows(positions, self.size, self.dtype))

    def zeros(self):
        """As many as observations, (..., n)."""
        covariances, values, loadings, *_ = self.parameters
        zero = sum(x[..., :0].sum(axis=-1) for x in (covariances, values, loadings))
        return zero[..., None] + pt.zeros(self.size, dtype=self.dtype)

    def diagonal(self):
        self._proper()
        return transform_rows(self, "signal_variances", self.zeros())

    def noise_size(self, n):
        return _length(self.parameters[-2], 1)

    def draw(self, z):
        self._proper()
        return transform_rows(self, "signal", z)

    def keep(self, observed):
        terms = self.terms
        return None if terms is None else type(self).of(terms.keep(observed))

    def scaled(self, factor):
        if self._terms is None:
            covariances, values, *constants = self.parameters
            numbers = product(factor, covariances), product(inverse_scale(factor), values)
            return type(self).from_parameters(*numbers, *constants)
        covariances, values = self._terms.covariances, self._terms.values
        numbers = {
            "covariances": product(factor, covariances),
            "values": product(inverse_scale(factor), values),
        }
        return type(self).of(replace(self._terms, **numbers))

    def _singular(self, *_):
        raise NotImplementedError(
            f"{self.label}: A x alone has no density, inverse or log determinant; add independent "
            f"noise, as in {self.label.partition(' or ')[0]}(...) + gg.cov.Diagonal(variance)."
        )

    quad_logdet = logp = solve = logdet = color = whiten = inverse_diagonal = _singular


# Ones in the place of what is not finite need not have an inverse.
finite_dense.register(Latents, Latents.to_dense)


@register_latent(Latents)
def _latent(cov):
    return None if cov.latent is None else cov.latent()


def without_means(latent, component):
    """Rows (..., p) less their means over entries of one component, (p); -1 is none."""
    if isinstance(component, Constant) and not (component.data >= 0).any():
        return latent
    # Those of no component are in one by itself, of which nothing is taken.
    p = component.shape[0]
    place = pt.switch(component >= 0, component, p)
    sizes = _added(pt.ones(p, dtype=latent.dtype), place, p + 1)
    means = (_added(latent, place, p + 1) / pt.maximum(sizes, 1))[..., place]
    return latent - pt.switch(component >= 0, means, 0)


def _length(x, axis):
    """An int where it is known."""
    static = x.type.shape[axis]
    return x.shape[axis] if static is None else static


def _added(values, positions, size):
    """Sums of values (..., k) at positions of the last axis, (..., size)."""
    nothing = pt.zeros((*tuple(values.shape)[:-1], size), dtype=values.dtype)
    return nothing[..., positions].inc(values)


def _section(index, which):
    """A section of the index; a constant where that is one."""
    if isinstance(index, Constant):
        return pt.constant(section(index.data, which))
    return index[index[which] : index[which + 1]]


def _symmetric(values, positions, size):
    """Symmetric matrices (..., size, size) with values (..., k) at positions of one triangle."""
    other = pt.switch(pt.eq(positions[0], positions[1]), 0, values)
    lower = _scattered(values, positions, size, size)
    return lower + _scattered(other, positions[::-1], size, size)


def _scattered(values, positions, rows, columns):
    """Matrices (..., rows, columns) with values (..., k) at positions (2, k) and zeros."""
    nothing = pt.zeros((*tuple(values.shape)[:-1], rows, columns), dtype=values.dtype)
    return nothing[..., positions[0], positions[1]].set(values)


mends(
    Latents,
    Covariance,
    "Effects of a variance v beside anything are gg.cov.LowRank(pt.sqrt(v) * Z), Z[i, g] = 1 where "
    "observation i is of group g.",
)


@closes(Latents, Latents)
def _sum(left, right):
    common_size(left, right)
    both = left.terms, right.terms
    if None in both:
        raise does_not_close(left, right)
    return Latents.of(both[0].beside(both[1]))
