"""Who was measured when: the index data of :class:`RepeatedMeasures`, from columns of a table."""

from numbers import Integral

import numpy as np
import pandas as pd
import pytensor.tensor as pt
from pytensor.graph.basic import equal_computations

from pm_gaussgrad.cov.protocol.arguments import check_square
from pm_gaussgrad.cov.protocol.base import Covariance, as_parameter
from pm_gaussgrad.cov.protocol.constants import check_matrix, check_symmetric, constant_value
from pm_gaussgrad.cov.protocol.labels import as_column, as_labels, as_numbers
from pm_gaussgrad.kernels.definite import constant_cholesky

NAME = "gg.cov.RepeatedMeasures"
# Rows of the table: half a megabyte of numbers.
_STRETCH = 65536


def as_subject(subject):
    """Numbers of the subjects, in order of first appearance."""
    return as_labels(NAME, "subject", subject)[0]


def as_visit(visit):
    """Visits as integers."""
    visit = as_column(NAME, "visit", visit)
    if visit.dtype.kind == "O" and all(isinstance(v, Integral) for v in visit):
        visit = visit.astype("int64")
    if visit.dtype.kind not in "iu":
        raise TypeError(
            f"{NAME}: `visit` has dtype {visit.dtype}, expected integers 0 to T - 1, the rows of "
            "`within`; number times or labels by np.unique(times, return_inverse=True)[1]."
        )
    return visit.astype("int64")


def as_within(within):
    """The covariance of a subject with all visits, as a square matrix."""
    if isinstance(within, Covariance):
        if not isinstance(within.size, int):
            raise ValueError(
                f"{NAME}: `within` is a {within.label} whose number of visits is not known, "
                "expected a known T; give it size=T, or parameters of known shapes."
            )
        return within.to_dense()
    within = as_parameter(NAME, "within", within, 2)
    check_square(NAME, "within", within)
    check_symmetric(NAME, "within", within)
    return within


def by_stratum(within, subject, visit, stratum):
    """One covariance of the visits of all strata, (..., a t, a t), and visits numbered alike.

    Parameters
    ----------
    within : tensor, shape (..., a, t, t)
        Of each stratum.
    subject, visit : array of int, shape (n)
    stratum : array_like, shape (n)
        A user's: the number of each observation's stratum, 0 to a - 1.
    """
    n_visits = within.type.shape[-1]
    if within.type.ndim < 3 or n_visits is None:
        raise ValueError(
            f"{NAME}: `within` has shape {within.type.shape}, expected (..., a, t, t), a matrix of "
            "known size t for each stratum."
        )
    numbers, every = as_numbers(NAME, "stratum", stratum, within.type.shape[-3])
    n_strata = every.size
    # A dimension named by ``dims=`` has no static length.
    within = pt.specify_shape(within, (*within.type.shape[:-3], n_strata, n_visits, n_visits))
    check_visits(subject, visit, n_visits)
    if numbers.size != subject.size:
        raise ValueError(
            f"{NAME}: `stratum` has {numbers.size} entries and `subject` {subject.size}, expected "
            "one of each for each observation."
        )
    several = pd.Series(numbers).groupby(subject).nunique().to_numpy() > 1
    if several.any():
        i = int(np.flatnonzero(subject == several.argmax())[0])
        raise ValueError(
            f"{NAME}: the subject of observation {i} is in several strata, expected one; number "
            "the subjects of each stratum apart."
        )
    return of_strata(within, n_strata), visit + n_visits * numbers


def of_strata(within, n_strata):
    """Of each stratum, (..., a, t, t), or of all, (t, t), to that of their visits together."""
    n_visits = within.type.shape[-1]
    own = pt.eye(n_strata, dtype=within.dtype)[:, None, :, None]
    blocks = pt.atleast_3d(within)[..., None, :] * own
    size = n_strata * n_visits
    square = blocks.reshape((*blocks.shape[:-4], size, size), ndim=blocks.type.ndim - 2)
    known = (*[None] * (square.type.ndim - 2), size, size)
    return pt.specify_shape(square, known)


def check_visits(subject, visit, n_visits):
    """Raise a ValueError unless visits are rows of ``within``, each at most once a subject."""
    if subject.size != visit.size:
        raise ValueError(
            f"{NAME}: `subject` has {subject.size} entries and `visit` {visit.size}, expected one "
            "of each for each observation."
        )
    highest = "T - 1" if n_visits is None else n_visits - 1
    if visit.min() < 0 or (n_visits is not None and visit.max() >= n_visits):
        raise ValueError(
            f"{NAME}: `visit` goes from {visit.min()} to {visit.max()}, expected 0 to "
            f"{highest}, the rows of `within`; number the visits from 0, or pass a larger "
            "`within`."
        )
    repeated = pd.DataFrame({"subject": subject, "visit": visit}).duplicated().to_numpy()
    if repeated.any():
        i = int(repeated.argmax())
        raise ValueError(
            f"{NAME}: observation {i} repeats the visit {visit[i]} of its subject, expected each "
            "visit at most once, as the covariance would be singular; give replicates visits of "
            "their own, with their covariance in `within`."
        )


def check_patterns(within, visits) -> None:
    """Raise a ValueError where constants are not positive definite at the visits of a pattern."""
    patterns = constant_value(visits)
    for row in () if patterns is None else np.unique(patterns, axis=0):
        at = row[row >= 0]
        name = "within" if len(at) == within.type.shape[-1] else f"within at visits {at.tolist()}"
        check_matrix(NAME, name, within[..., at, :][..., at], constant_cholesky)


def layout(subject, visit, order=None):
    """The index data of :class:`RepeatedMeasures`, from numbers of subjects and visits.

    A subject's observations are sorted by ``order``, by default by their visits.

    Subjects are put in the order in which they are worked on: by pattern, within stretches of
    the table that stay in the cache.
    """
    counts = np.bincount(subject)
    order = np.lexsort((visit if order is None else order, subject))
    starts = np.cumsum(counts) - counts
    place = np.empty(subject.size, "int64")
    place[order] = np.arange(subject.size) - starts[subject[order]]
    observations = np.full((counts.size, counts.max()), -1)
    observations[subject, place] = np.arange(subject.size)
    of_subjects = np.where(observations >= 0, visit[observations], -1)
    visits, pattern = np.unique(of_subjects, axis=0, return_inverse=True)
    pattern = pattern.ravel()
    first = np.unique(subject, return_index=True)[1]
    work = np.lexsort((first, pattern, first // _STRETCH))
    return visits, pattern[work], observations[work], np.argsort(work)[subject], place


def check_same_subjects(left, right):
    """Raise a TypeError unless two summands have the same index data."""
    if not equal_computations(list(left.parameters[1:]), list(right.parameters[1:])):
        raise TypeError(
            f"{NAME} + {NAME}: `subject` or `visit` differ, expected the same in both; for the "
            "dense sum, at a cost of n^3, write gg.cov.Dense(a.to_dense() + b.to_dense())."
        )
