r"""``RepeatedMeasures``: independent subjects, each measured at some of T visits.

Definition: Sigma_ij = within[v_i, v_j] where s_i = s_j, else 0, with s_i the subject and v_i
the visit of observation i. A subject's own covariance is the submatrix of ``within`` (T, T)
at its visits, so missing visits are exact. Subjects with the same visits share one factor:

    subject  a b c a c           pattern  visits  subjects  their observations
    visit    0 1 0 2 2    ->     0        0 2     a, c      0 3, 2 4
                                 1        1       b         1

Storage: with P patterns, w visits in the longest, S subjects: P w^2 numbers for the factors,
2 n + S w + P w integers. Value and gradient: sum_p k_p^3 + n w flops a row of data, k_p the
number of visits in pattern p.

Pullback: with W_p the submatrix of pattern p, c_p its subjects, a_i the part of alpha at
subject i, and E_p (T, k_p) the columns of the identity at its visits,

    within_bar = sum_p E_p ( c_p l_bar W_p^-1 - sum_(i in p) q_bar a_i a_i' ) E_p',

the adjoint of taking submatrices: one adds to them.

Sources: Jennrich and Schluchter (1986), Unbalanced repeated-measures models with structured
covariance matrices, section 2; Laird and Ware (1982), Random-effects models for longitudinal
data, section 2.
"""

from functools import partial

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.groups.subjects import (
    as_subject,
    as_visit,
    as_within,
    by_stratum,
    check_patterns,
    check_same_subjects,
    check_visits,
    layout,
    of_strata,
)
from pm_gaussgrad.cov.matrices.diagonal import ScalarDiagonal
from pm_gaussgrad.cov.protocol.base import Covariance
from pm_gaussgrad.cov.protocol.elliptical import gaussian_log_density
from pm_gaussgrad.cov.protocol.information import half_gram
from pm_gaussgrad.cov.protocol.kriging import semidefinite_root
from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.cov.protocol.scales import product
from pm_gaussgrad.cov.protocol.sums import closes, common_size
from pm_gaussgrad.cov.protocol.terms import made_of
from pm_gaussgrad.cov.protocol.triangular import symmetric_direction, symmetric_from_lower
from pm_gaussgrad.kernels import repeated_measures as kernels
from pm_gaussgrad.ops import inverse_diagonal, rows_last


class RepeatedMeasures(Leaf):
    r"""Independent subjects, each measured at some of T visits.

    .. math:: \Sigma_{ij} = \texttt{within}_{v_i v_j} \text{ if } s_i = s_j, \text{ else } 0,

    with :math:`s_i` the subject and :math:`v_i` the visit of observation i. Observations come
    in any order, one row of a long table each; subjects may have any of the visits.

    Parameters
    ----------
    within : tensor_like or gg.cov structure, shape (..., t, t), in units of [y]^2
        Covariance of a subject with all T visits. Of a matrix that is not symmetric the lower
        triangle is read. A structure of known size T is formed as its T x T matrix, by
        ``to_dense()``.
    subject : array_like, shape (n), in units of labels
        Constant: whose each observation is. Numbers, strings or other labels.
    visit : array_like of int, shape (n), in units of rows of ``within``
        Constant: at which visit, 0 to T - 1, each observation was made.
    stratum : array_like of int, shape (n), in units of strata, optional
        Constant: the stratum of each observation's subject, such as the arm of a trial. Then
        ``within`` is (..., a, t, t), or a structure of such a batch: a covariance for each of the
        strata, 0 to a - 1.

    Other Parameters
    ----------------
    visits : tensor of int, shape (p, w), in units of rows of ``within``
        In place of ``visit`` in :attr:`parameters`: the visits of each pattern, increasing, and
        filled up by -1. This and what follows are the index data that the constructor makes.
    pattern : tensor of int, shape (s), in units of patterns
        The pattern of each subject; subjects come in the order in which they are worked on.
    observations : tensor of int, shape (s, w), in units of observations
        Those of each subject by increasing visit, filled up by -1.
    place : tensor of int, shape (n), in units of visits of the subject
        Where each observation is among those of its subject, which ``subject`` numbers.

    Raises
    ------
    TypeError
        If ``within`` has fewer than two dimensions, ``visit`` is not integer, or an index is
        symbolic.
    ValueError
        If ``within`` is not square, not symmetric where it is constant, or not of known size,
        ``subject`` and ``visit`` are not two vectors of one length, labels are missing, a visit is
        not in 0 to T - 1, or a subject has two observations at one visit.

    Notes
    -----
    Cost of value and gradient: :math:`\sum_p k_p^3 + n w` flops a row of data, where pattern p
    is a set of :math:`k_p \le w` visits that at least one subject has; its subjects share one
    factor. Draws and whitening hold the factor of each subject, :math:`S w^2` numbers.

    The pullback is
    :math:`\overline{\texttt{within}} = \sum_p E_p (\bar l\,c_p W_p^{-1} - \sum_{i \in p} \bar q\,
    \alpha_i \alpha_i^\top) E_p^\top`, full and symmetric where ``within`` is, and else
    the gradient of its lower triangle, as for ``Dense``.
    :math:`W_p = E_p^\top \texttt{within}\, E_p` is shared by :math:`c_p` subjects. Pairs of
    visits that no subject has both of do not matter, and their gradient is zero.

    References
    ----------
    Jennrich, R. I. and Schluchter, M. D. (1986). Unbalanced repeated-measures models with
    structured covariance matrices. Biometrics 42, 805-820, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> within = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> cov = gg.cov.RepeatedMeasures(within, subject=["a", "b", "a"], visit=[0, 1, 1])
    >>> cov.to_dense().eval()
    array([[2., 0., 1.],
           [0., 3., 0.],
           [1., 0., 3.]])
    """

    how = "a factorisation for each pattern of T visits, T^3, and n T"
    parameter_shapes = {
        "within": "t t",
        "visits": "p w",
        "pattern": "s",
        "observations": "s w",
        "subject": "n",
        "place": "n",
    }
    constant_parameters = frozenset(parameter_shapes) - {"within"}
    saved_shapes = {"factors": "p w w", "symmetric": ""}
    forward = staticmethod(kernels.forward)
    pullback = staticmethod(kernels.pullback)

    def __init__(self, within, subject, visit, *, stratum=None):
        given, within = within, as_within(within)
        subject, visit = as_subject(subject), as_visit(visit)
        strata = None
        if stratum is not None:
            n_visits = within.type.shape[-1]
            within, visit = by_stratum(within, subject, visit, stratum)
            strata = within.type.shape[-1] // n_visits
        check_visits(subject, visit, within.type.shape[-1])
        index = tuple(map(pt.constant, layout(subject, visit)))
        self.parameters = (within, *index)
        if isinstance(given, Covariance):
            made_of(self, given, partial(_of_another, index=index, strata=strata))

    def check_constants(self, n=None):
        check_patterns(*self.parameters[:2])

    def to_dense(self):
        subject, visit = self.parameters[4], self._visit()
        same = pt.eq(subject[:, None], subject)
        # One after the other: PyTensor takes both out of an outer product of batches wrongly.
        return pt.switch(same, self._within()[..., visit, :][..., visit], 0)

    def _within(self):
        return symmetric_from_lower(self.parameters[0])

    def _visit(self):
        """The visit of each observation, (n,)."""
        _, visits, pattern, _, subject, place = self.parameters
        return visits[pattern[subject], place]

    def _factors(self):
        """Factors of the patterns, (..., p, w, w)."""
        return pt.linalg.cholesky(self._of_patterns(), lower=True)

    def _of_patterns(self):
        """Submatrices of within, (..., p, w, w), those of fewer visits bordered by identities."""
        within, visits = self._within(), self.parameters[1]
        observed = pt.ge(visits, 0)
        rows = pt.switch(observed, visits, 0)
        # By one index: PyTensor takes two out of an outer product of batches wrongly.
        entries = pt.join_dims(within, start_axis=within.type.ndim - 2, n_axes=2)
        blocks = entries[..., rows[:, :, None] * within.shape[-1] + rows[:, None, :]]
        both = observed[:, :, None] & observed[:, None, :]
        identity = pt.eye(visits.shape[1], dtype=within.dtype)
        return pt.switch(both, blocks, identity)

    def _each_subject(self, apply, rows, factors=None):
        """Apply(factor (..., w, w), columns (..., w, c)) to the subjects: (..., n) -> (..., s, w).

        Zero where a subject has fewer visits than others.
        """
        factors = self._factors() if factors is None else factors
        factors = factors[..., self.parameters[2], :, :]
        observations = self.parameters[3]
        by_subject = pt.as_tensor_variable(rows)[..., observations]
        by_subject = pt.switch(pt.ge(observations, 0), by_subject, 0)
        if by_subject.type.ndim < factors.type.ndim:
            return apply(factors, by_subject[..., None])[..., 0]
        rows, restore = rows_last(by_subject, factors.type.ndim - 2)
        return restore(apply(factors, rows.mT).mT)

    def _by_observation(self, by_subject):
        """(..., s, w) -> (..., n)."""
        subject, place = self.parameters[4:]
        return by_subject[..., subject, place]

    def color(self, z):
        return self._by_observation(self._each_subject(_products, z))

    def draw_semidefinite(self, z):
        roots = semidefinite_root(self._of_patterns())
        return self._by_observation(self._each_subject(_products, z, roots))

    def whiten(self, residual):
        return self._by_observation(self._each_subject(_solve_lower, residual))

    def times(self, rows):
        within, rows = self._within(), pt.as_tensor_variable(rows)
        count, visits = self.parameters[2].shape[0], within.shape[-1]
        place = self.parameters[4] * visits + self._visit()
        table = pt.zeros((*tuple(rows.shape)[:-1], count * visits), dtype=rows.dtype)
        table = pt.split_dims(table[..., place].set(rows), (count, visits), axis=-1) @ within
        return pt.join_dims(table, start_axis=table.type.ndim - 2, n_axes=2)[..., place]

    def subject_logp(self, residual):
        """Log density of each subject's observations, (..., n) -> (..., s); their sum is ``logp``.

        Subjects come in the order of their first observations, as in ``pandas.unique(subject)``.
        They are independent, and so the units of a comparison of models.
        """
        _, _, pattern, observations, *_ = self.parameters
        observed = pt.ge(observations, 0)
        white = self._each_subject(_solve_lower, residual)
        halves = pt.log(pt.diagonal(self._factors(), axis1=-2, axis2=-1)).sum(axis=-1)
        logp = gaussian_log_density(
            (white**2).sum(axis=-1), 2 * halves[..., pattern], observed.sum(axis=-1)
        )
        first = pt.switch(observed, observations, self.size).min(axis=-1)
        return logp[..., pt.argsort(first)]

    def diagonal(self):
        return pt.diagonal(self.parameters[0], axis1=-2, axis2=-1)[..., self._visit()]

    def inverse_diagonal(self):
        of_patterns = inverse_diagonal(self._factors())
        return self._by_observation(of_patterns[..., self.parameters[2], :])

    def innovations(self, residual):
        labels = self._labels()
        if labels is None:
            return super().innovations(residual)
        # Patterns are sequences of visits here, in the order of the table.
        index = layout(*labels, order=np.arange(labels[0].size))
        ordered = self.from_parameters(self.parameters[0], *map(pt.constant, index))
        white = ordered.whiten(residual)
        scales = pt.diagonal(ordered._factors(), axis1=-2, axis2=-1)
        log_scales = pt.log(scales)[..., ordered.parameters[2], :]
        return white, ordered._by_observation(log_scales) + pt.zeros_like(white)

    def _labels(self):
        """Subject and visit of each observation as arrays; None where they are symbolic."""
        _, *index = self.parameters
        if not all(isinstance(x, Constant) for x in index):
            return None
        visits, pattern, _, subject, place = (x.data for x in index)
        return subject, visits[pattern[subject], place]

    def keep(self, observed):
        labels = self._labels()
        if labels is None:
            return None
        return RepeatedMeasures(self.parameters[0], *(x[observed] for x in labels))

    def rows_apart(self, observed):
        labels = self._labels()
        if labels is None:
            return None
        (row, entry), (subject, visit) = np.nonzero(observed), labels
        subject = row * (1 + subject.max()) + subject[entry]
        return RepeatedMeasures(self.parameters[0], subject, visit[entry])

    def scaled(self, factor):
        within, *index = self.parameters
        return RepeatedMeasures.from_parameters(product(factor, within), *index)

    @staticmethod
    def forward_jax(residual, within, visits, pattern, observations, subject, place):
        from pm_gaussgrad.kernels import repeated_measures_jax

        return repeated_measures_jax.forward(
            residual, within, visits, pattern, observations, subject, place
        )

    @staticmethod
    def pullback_jax(
        within, visits, pattern, observations, alpha, factors, symmetric, quad_bar, logdet_bar
    ):
        from pm_gaussgrad.kernels import repeated_measures_jax

        return repeated_measures_jax.pullback(
            within, visits, pattern, observations, alpha, factors, symmetric, quad_bar, logdet_bar
        )

    def groups(self):
        return "subject", self.parameters[4]

    def rows(self, positions):
        within, subject, visit = self._within(), self.parameters[4], self._visit()
        same = pt.eq(subject[positions][:, None], subject)
        return pt.switch(same, within[visit[positions]][:, visit], 0)

    def information(self, tangents):
        within, visits, pattern, *_ = self.parameters
        tangent = symmetric_direction(within, tangents[0])
        observed = pt.ge(visits, 0)
        rows = pt.switch(observed, visits, 0)
        both = observed[:, :, None] & observed[:, None, :]
        of_patterns = pt.switch(both, tangent[:, rows[:, :, None], rows[:, None, :]], 0)
        inverse = _inverse_factors(self._factors())
        # A pattern counts once for each of its subjects.
        numbers = pt.cumsum(pt.ones_like(visits.sum(axis=1))) - 1
        subjects = pt.eq(pattern, numbers[:, None]).sum(axis=1).astype(tangent.dtype)
        whitened = _congruence(inverse, of_patterns)
        return half_gram(pt.sqrt(subjects)[:, None, None] * whitened)


def _of_another(within, index, strata):
    """The same subjects and visits with another structure of a subject."""
    matrix = as_within(within)
    matrix = matrix if strata is None else of_strata(matrix, strata)
    made = RepeatedMeasures.from_parameters(matrix, *index)
    return made_of(made, within, partial(_of_another, index=index, strata=strata))


def _products(factors, columns):
    # Elementwise: numba takes 15 s to compile a product of stacks of matrices.
    return (factors[..., None] * columns[..., None, :, :]).sum(axis=-2)


def _solve_lower(factors, columns):
    return pt.linalg.solve_triangular(factors, columns, lower=True, b_ndim=2)


@closes(RepeatedMeasures, RepeatedMeasures)
def _sum(left, right):
    check_same_subjects(left, right)
    within, *index = left.parameters
    return RepeatedMeasures.from_parameters(within + right.parameters[0], *index)


@closes(RepeatedMeasures, ScalarDiagonal)
def _sum_with_noise(measures, noise):
    common_size(measures, noise)
    within, *index = measures.parameters
    added = noise.parameters[0][..., None, None] * pt.eye(within.shape[-1], dtype=within.dtype)
    return RepeatedMeasures.from_parameters(within + added, *index)


def _inverse_factors(factors):
    identity = pt.eye(factors.shape[-1], dtype=factors.dtype)
    return pt.linalg.solve_triangular(factors, identity, lower=True, b_ndim=2)


def _congruence(inverse, stack):
    """A T A' for each matrix: (..., w, w), (p, ..., w, w)."""
    # Elementwise: numba takes long to compile products of stacks of matrices.
    half = (inverse[..., :, :, None] * stack[..., None, :, :]).sum(axis=-2)
    return (half[..., :, None, :] * inverse[..., None, :, :]).sum(axis=-1)
