r"""``Projected``, ``Effects`` and ``Diagonal``: sparse latents with independent noise.

Definition: Sigma = A M A' + diag(v), M block diagonal: R^-1 (x) G for each term of random effects,
R a constant precision between levels, Q^-1 for fields with a sparse precision Q. Storage: the
entries of A, R, Q and of two sparse factors.
Value and gradient: one sparse Cholesky factorisation of the size of the latents, one of Q, and
their inverses on the pattern; n observations cost the squares of the entries in their rows of A.

Value, pullback and square root are derived in :mod:`pm_gaussgrad.kernels.sparse.latents`, the
Fisher information in :mod:`pm_gaussgrad.kernels.sparse.latent_information`. Singular G, no variance
at all among them, are ordinary points.

Sources: as of :mod:`pm_gaussgrad.kernels.sparse.latents`.
"""

from functools import cached_property, reduce

import pytensor.tensor as pt

from pm_gaussgrad.cov.graphs.flat_means import FlatMeans
from pm_gaussgrad.cov.graphs.latents import CONSTANTS, Latents
from pm_gaussgrad.cov.graphs.projected import Projected, identity
from pm_gaussgrad.cov.matrices.diagonal import Diagonal
from pm_gaussgrad.cov.protocol.base import Covariance
from pm_gaussgrad.cov.protocol.constants import check_positive
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.products import rows_of_diagonal
from pm_gaussgrad.cov.protocol.scales import finite_dense, product
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.sums import closed_sum, closes, common_size, falls_back
from pm_gaussgrad.kernels.sparse import centred_latents
from pm_gaussgrad.kernels.sparse import latent_members as members
from pm_gaussgrad.kernels.sparse.latent_information import information
from pm_gaussgrad.kernels.sparse.latents import forward, pullback
from pm_gaussgrad.ops import information_by_kernel, transform_rows
from pm_gaussgrad.ops.partition import partition


class SparseLatents(Leaf):
    """What ``Projected``, ``Effects`` and a ``Diagonal`` add up to.

    Parameters are those of :class:`~pm_gaussgrad.cov.graphs.latents.Latents` and, in the third
    place, the variances of the noise, (n).
    """

    how = (
        "sparse Cholesky factor of the size of the latents, and its inverse on the pattern; for "
        "each observation the square of how many latents it sees"
    )
    label = "gg.cov.Projected or gg.cov.Effects, + gg.cov.Diagonal"
    summand = "gg.cov.Effects"
    parameter_shapes = {"covariances": "c", "values": "q", "variance": "n", **CONSTANTS}
    constant_parameters = frozenset(CONSTANTS)
    named_in_errors = ("covariances", "values", "variance")  # users have not seen the others
    saved_shapes = {"latent": "m p", "factor": "f", "prior_factor": "g"}
    forward = staticmethod(forward)
    pullback = staticmethod(pullback)
    row_transforms = dict.fromkeys(
        ("color", "whiten", "inverse_diagonal", "innovations", "log_scales"), "n"
    )
    color_kernel = staticmethod(members.color)
    whiten_kernel = staticmethod(members.whiten)
    inverse_diagonal_kernel = staticmethod(members.inverse_diagonal)
    innovations_kernel = staticmethod(members.innovations)
    log_scales_kernel = staticmethod(members.log_scales)
    information_kernel = staticmethod(information)

    def __init__(self, latents, variance):
        self._latents, self._variance = latents, variance

    @cached_property
    def parameters(self):
        """The tensors; patterns are analysed when they are asked for."""
        covariances, values, *constants = self._latents.parameters
        return covariances, values, self._variance, *constants

    @classmethod
    def from_parameters(cls, *parameters, size=None):
        covariances, values, variance, *constants = map(pt.as_tensor_variable, parameters)
        latents = Latents.from_parameters(covariances, values, *constants)
        made = object.__new__(cls)
        made._latents, made._variance = latents, variance
        made.parameters = (covariances, values, variance, *constants)
        return made

    @property
    def size(self):
        return common_size(self._latents, self._noise())

    def _noise(self):
        return Diagonal.from_parameters(self._variance)

    @property
    def summands(self):
        """What it is the sum of, which others may be added to each of."""
        return self._latents, self._noise()

    def check_constants(self, n=None):
        check_positive(self.label, "variance", self._variance)
        super().check_constants(n)

    def to_dense(self):
        latents = self._latents.to_dense()
        return latents + self._variance[..., None] * pt.eye(self.size, dtype=latents.dtype)

    def diagonal(self):
        return self._latents.diagonal() + self._variance

    def _nothing(self):
        """Zeros, (..., n)."""
        return self._latents.zeros() + pt.zeros_like(self._variance)

    def inverse_diagonal(self):
        return transform_rows(self, "inverse_diagonal", self._nothing())

    def innovations(self, residual):
        white = transform_rows(self, "innovations", residual)
        log_scales = transform_rows(self, "log_scales", self._nothing())
        return white, log_scales + pt.zeros_like(white)

    def information(self, tangents):
        return information_by_kernel(self, pt.concatenate(tangents[:3], axis=1))

    def noise_size(self, n):
        return self._latents.noise_size(n) + self.size

    def draw(self, z):
        sizes = [self._latents.noise_size(self.size), self.size]
        white, noise = partition(self.label, pt.as_tensor_variable(z), sizes)
        return self._latents.draw(white) + pt.sqrt(self._variance) * noise

    def rows(self, positions):
        noise = rows_of_diagonal(positions, self._variance, self.size)
        return self._latents.rows(positions) + noise

    def times(self, rows):
        return self._latents.times(rows) + self._variance * rows

    def keep(self, observed):
        kept = self._latents.keep(observed)
        return None if kept is None else of_latents(kept, self._variance[..., observed])

    def scaled(self, factor):
        return of_latents(self._latents.scaled(factor), product(factor, self._variance))


# Ones in the place of what is not finite need not have an inverse.
finite_dense.register(SparseLatents, SparseLatents.to_dense)


class CentredLatents(SparseLatents):
    """The same where fields sum to zero."""

    label = SparseLatents.label
    summand = SparseLatents.summand
    forward = staticmethod(centred_latents.forward)
    pullback = staticmethod(centred_latents.pullback)


def of_latents(latents, variance):
    """Latents and noise, by the kernels that they need."""
    terms = latents.terms
    kind = SparseLatents if terms is not None and not terms.components else CentredLatents
    return kind(latents, variance)


def with_noise(latents, variance):
    """The sum of latents and independent noise, with flat means where the latents have them."""
    cov, terms = of_latents(latents, variance), latents.terms
    return cov if terms is None or not terms.flat.shape[1] else FlatMeans(cov, terms.flat)


@closes(Latents, Diagonal)
def _sum_with_noise(latents, noise):
    size = common_size(latents, noise)
    return with_noise(latents, of_size(noise, size).diagonal())


@closes(SparseLatents, Diagonal)
def _sum_with_more_noise(cov, noise):
    size = common_size(cov, noise)
    own, before = cov.summands
    return with_noise(own, closed_sum(before, of_size(noise, size)).diagonal())


@closes(SparseLatents, Latents)
def _sum_with_more_latents(cov, latents):
    common_size(cov, latents)
    own, noise = cov.summands
    return with_noise(closed_sum(own, latents), noise.diagonal())


@closes(SparseLatents, SparseLatents)
def _sum_of_both(left, right):
    common_size(left, right)
    latents, noise = (closed_sum(*pair) for pair in zip(left.summands, right.summands, strict=True))
    return with_noise(latents, noise.diagonal())


def _is_field(cov) -> bool:
    """Whether a structure has a sparse precision matrix."""
    return type(cov).precision_entries is not Covariance.precision_entries


def _beside_noise(cov):
    """For errors: what can be added to a field."""
    noise = isinstance(cov, Diagonal)
    return "gg.cov.Effects beside a gg.cov.Diagonal" if _is_field(cov) and not noise else ""


@falls_back(15, partner=_beside_noise)
def _fields_and_noise(summands):
    """Fields that are observed themselves, latents, and noise."""
    noise = [cov for cov in summands if isinstance(cov, Diagonal)]
    latents = [cov for cov in summands if isinstance(cov, Latents)]
    fields = [cov for cov in summands if cov not in noise and cov not in latents]
    n = common_size(*summands)
    if not (noise and fields and isinstance(n, int) and all(map(_is_field, fields))):
        return None
    seen = [Projected(identity(n), field) for field in fields]
    return reduce(closed_sum, [*seen, *latents, *noise])
